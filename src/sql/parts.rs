//! Parts as files: the statements that move them between servers, and the check whether parts of one table fit
//! another.

use std::collections::{BTreeMap, BTreeSet};

use super::definition::{Column, DefaultKind, TableDefinition};
use super::engine::{Clause, Engine};
use super::key::key_elements;
use super::lex;
use super::quote::{literal, table};
use crate::model::{PartitionId, TableName};

/// Selects the nodes in the root of the server's own ZooKeeper, each with its creation in ZooKeeper's own count and
/// by the clock. Two ensembles never agree in these.
pub(crate) const ZOOKEEPER_MARKS: &str = "SELECT concat(toString(name), ' ', toString(czxid), ' ', toString(toUInt32(ctime))) \
     FROM system.zookeeper WHERE path = '/' AND czxid > 0";

/// Fetches partitions of a Replicated table of another server, found by its path in ZooKeeper, into `detached` of
/// this one.
pub(crate) fn fetch_partitions(into: &TableName, path: &str, ids: &[PartitionId]) -> String {
    alter(into, ids, |id| format!("FETCH PARTITION ID {id} FROM {}", literal(path)))
}

/// Attaches the fetched partitions to the table.
pub(crate) fn attach_fetched(name: &TableName, ids: &[PartitionId]) -> String {
    alter(name, ids, |id| format!("ATTACH PARTITION ID {id}"))
}

fn alter(name: &TableName, ids: &[PartitionId], command: impl Fn(String) -> String) -> String {
    let commands: Vec<String> = ids.iter().map(|id| command(literal(&id.0))).collect();
    format!("ALTER TABLE {} {}", table(name), commands.join(", "))
}

/// Counts active parts that lack one of some columns with its type. Such a part was written before the column was
/// added or changed; a query's result for it depends on the table's definition.
pub(crate) fn parts_lacking(name: &TableName, columns: &[Column]) -> String {
    let pair = |column: &Column| format!("({}, {})", literal(&column.name), literal(&column.type_name));
    let pairs: Vec<String> = columns.iter().map(pair).collect();
    format!(
        "SELECT toUInt64(count()) FROM (SELECT name FROM system.parts_columns WHERE active AND database = {} AND table = {} \
         GROUP BY name HAVING countIf((toString(column), toString(type)) IN ({})) != {})",
        literal(&name.database),
        literal(&name.table),
        pairs.join(", "),
        columns.len()
    )
}

impl Engine {
    /// Returns the engine of a table that parts pass through: like a staging table's, and a replica in ZooKeeper, so
    /// that others can fetch them.
    pub(crate) fn passage(&self, path: &str, replica: &str) -> Engine {
        let staging = self.staging();
        let own = staging.arguments.unwrap_or_default();
        let arguments = [literal(path), literal(replica)].into_iter().chain(own).collect();
        Engine { name: "ReplicatedMergeTree".into(), arguments: Some(arguments), ..staging }
    }
}

impl TableDefinition {
    /// Returns the stored columns.
    pub(crate) fn stored(&self) -> Vec<Column> {
        let is_stored = |column: &&Column| {
            matches!(column.default_kind, DefaultKind::None | DefaultKind::Default | DefaultKind::Materialized)
        };
        self.columns.iter().filter(is_stored).cloned().collect()
    }

    /// Returns why parts of this table cannot be used unchanged in another table; `None` if they can.
    ///
    /// Servers check little of it. 18.16 accepts parts of another `index_granularity` and then reads them wrongly
    /// (docs/clickhouse-behaviour.md, T2), and FETCH compares neither columns nor keys.
    pub(crate) fn against_parts_in(&self, other: &TableDefinition) -> Option<String> {
        if !self.engine.is_merge_tree() {
            return Some(format!("{} has no parts (engine {})", self.name, self.engine.name));
        }
        let columns = |table: &Self| -> BTreeMap<String, String> {
            table.stored().into_iter().map(|column| (column.name, column.type_name)).collect()
        };
        let (ours, theirs) = (columns(self), columns(other));
        for (name, ours) in &ours {
            match theirs.get(name) {
                None => return Some(format!("{} has no column {name}", other.name)),
                Some(theirs) if theirs != ours => {
                    return Some(format!("column {name} is {ours} in {} and {theirs} in {}", self.name, other.name));
                }
                Some(_) => {}
            }
        }
        if let Some(name) = theirs.keys().find(|name| !ours.contains_key(*name)) {
            return Some(format!("{} has no column {name}", self.name));
        }
        for clause in [Clause::PartitionBy, Clause::OrderBy, Clause::PrimaryKey, Clause::SampleBy] {
            let (a, b) = (self.engine.clause(clause).map(elements), other.engine.clause(clause).map(elements));
            if a != b {
                return Some(format!("{} differs: {} and {}", clause.words(), self.engine, other.engine));
            }
        }
        // In the old syntax, keys and granularity are among the arguments.
        let old_arguments = |table: &Self| table.engine.is_old_syntax().then(|| table.engine.staging().arguments);
        if old_arguments(self) != old_arguments(other) {
            return Some(format!("the engines' arguments differ: {} and {}", self.engine, other.engine));
        }
        for (setting, usual) in [("index_granularity", "8192"), ("index_granularity_bytes", "the usual")] {
            let value = |table: &Self| table.engine.setting(setting).unwrap_or_else(|| usual.to_owned());
            let (a, b) = (value(self), value(other));
            if a != b {
                return Some(format!("{setting} is {a} in {} and {b} in {}", self.name, other.name));
            }
        }
        let indices = |table: &Self| -> BTreeSet<Vec<String>> {
            let is_index = |text: &&String| {
                let tokens = lex::tokens(text).unwrap_or_default();
                tokens.first().is_some_and(|t| t.is_word(text, "INDEX") || t.is_word(text, "PROJECTION"))
            };
            table.declarations.iter().filter(is_index).map(|text| words(text)).collect()
        };
        if indices(self) != indices(other) {
            return Some(format!("{} and {} have other indices or projections", self.name, other.name));
        }
        // Parts contain the time when their rows expire.
        let expiring = [self, other].into_iter().find(|table| table.has_ttl());
        expiring.map(|table| format!("{} has a TTL, which its parts carry with them", table.name))
    }
}

/// Returns whether two keys are the same, however they are written.
pub(crate) fn same_key(a: Option<&str>, b: Option<&str>) -> bool {
    a.map(elements) == b.map(elements)
}

/// Returns the elements of a key, however it was written.
fn elements(text: &str) -> Vec<Vec<String>> {
    let found: Vec<Vec<String>> = key_elements(text).iter().map(|element| words(element)).collect();
    // No element and `tuple()` are different for a server.
    if found.is_empty() { vec![words(text)] } else { found }
}

/// Returns a text without blanks, and without quotes around names.
fn words(text: &str) -> Vec<String> {
    let Ok(found) = lex::tokens(text) else { return vec![text.to_owned()] };
    found.iter().map(|token| token.text(text).trim_matches('`').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: &str = "MergeTree PARTITION BY toYYYYMM(d) ORDER BY (id, d) SETTINGS index_granularity = 8192";

    fn definition(columns: &[(&str, &str, DefaultKind)], engine: &str) -> TableDefinition {
        let column = |(name, type_name, default_kind): &(&str, &str, DefaultKind)| Column {
            name: (*name).into(),
            type_name: (*type_name).into(),
            default_kind: *default_kind,
            default_expression: String::new(),
            comment: String::new(),
        };
        let columns: Vec<Column> = columns.iter().map(column).collect();
        let create = "CREATE TABLE d.t (d Date, id UInt64) ENGINE = x";
        TableDefinition::read(TableName::new("d", "t"), engine, create, columns, "id, d").unwrap()
    }

    const USUAL: &[(&str, &str, DefaultKind)] =
        &[("d", "Date", DefaultKind::None), ("id", "UInt64", DefaultKind::None)];

    #[test]
    fn parts_fit_a_table_with_the_same_columns_keys_and_granularity() {
        use DefaultKind::{Alias, Default, Materialized, None};
        let ours = definition(USUAL, ENGINE);
        let against = |columns: &[_], engine: &str| ours.against_parts_in(&definition(columns, engine));
        for (columns, engine) in [
            (USUAL, ENGINE),
            (USUAL, "ReplacingMergeTree(id) PARTITION BY toYYYYMM( `d` ) ORDER BY (id,d)"),
            (USUAL, "ReplicatedMergeTree('/p', 'r') PARTITION BY (toYYYYMM(d)) ORDER BY (id, d)"),
            (&[("id", "UInt64", Materialized), ("d", "Date", Default), ("a", "UInt8", Alias)], ENGINE),
        ] {
            assert_eq!(against(columns, engine), Option::None, "{engine}");
        }
        for (columns, engine, why) in [
            (&USUAL[..1], ENGINE, "has no column id"),
            (&[USUAL[0], USUAL[1], ("x", "UInt8", None)][..], ENGINE, "has no column x"),
            (&[USUAL[0], ("id", "UInt32", None)], ENGINE, "column id is UInt64 in d.t and UInt32"),
            (USUAL, "MergeTree PARTITION BY toMonday(d) ORDER BY (id, d)", "PARTITION BY differs"),
            (USUAL, "MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)", "ORDER BY differs"),
            (USUAL, "MergeTree PARTITION BY toYYYYMM(d) PRIMARY KEY id ORDER BY (id, d)", "PRIMARY KEY differs"),
            (USUAL, "MergeTree ORDER BY (id, d)", "PARTITION BY differs"),
            (
                USUAL,
                "MergeTree PARTITION BY toYYYYMM(d) ORDER BY (id, d) SETTINGS index_granularity = 1024",
                "index_granularity is 8192 in d.t and 1024",
            ),
            (USUAL, "MergeTree PARTITION BY toYYYYMM(d) ORDER BY (id, d) TTL d + toIntervalDay(1)", "has a TTL"),
            (USUAL, "MergeTree(d, (id, d), 8192)", "PARTITION BY differs"),
            (
                USUAL,
                "MergeTree PARTITION BY toYYYYMM(d) ORDER BY (id, d) SETTINGS index_granularity_bytes = 0",
                "index_granularity_bytes is the usual in d.t and 0",
            ),
        ] {
            let found = against(columns, engine).unwrap_or_default();
            assert!(found.contains(why), "{engine}: {found}");
        }
        let [old, older] =
            ["MergeTree(d, (id), 8192)", "MergeTree(d, (id), 4096)"].map(|engine| definition(USUAL, engine));
        assert_eq!(old.against_parts_in(&old), Option::None);
        assert!(old.against_parts_in(&older).unwrap().contains("arguments differ"));
        let unkeyed = ["MergeTree ORDER BY id", "MergeTree PARTITION BY tuple() ORDER BY id"];
        let [without, empty] = unkeyed.map(|engine| definition(USUAL, engine));
        assert!(without.against_parts_in(&empty).is_some());
        assert!(definition(USUAL, "Log").against_parts_in(&ours).unwrap().contains("has no parts"));
    }

    #[test]
    fn the_passage_table_of_a_clone_is_replicated_and_does_not_merge() {
        let engine = |text: &str| Engine::parse(text).unwrap().passage("/p", "r").to_string();
        assert_eq!(engine("ReplacingMergeTree(v, d, (id), 8192)"), "ReplicatedMergeTree('/p', 'r', v, d, (id), 8192)");
        let passage = engine(ENGINE);
        assert!(
            passage.starts_with("ReplicatedMergeTree('/p', 'r') PARTITION BY toYYYYMM(d) ORDER BY (id, d) SETTINGS")
        );
        assert!(passage.contains("max_bytes_to_merge_at_max_space_in_pool = 1"), "{passage}");
    }

    #[test]
    fn one_alter_fetches_many_partitions() {
        let ids = [PartitionId("201801".into()), PartitionId("all".into())];
        let name = TableName::new("d", "t");
        assert_eq!(
            fetch_partitions(&name, "/p", &ids),
            "ALTER TABLE `d`.`t` FETCH PARTITION ID '201801' FROM '/p', FETCH PARTITION ID 'all' FROM '/p'"
        );
        assert_eq!(
            attach_fetched(&name, &ids),
            "ALTER TABLE `d`.`t` ATTACH PARTITION ID '201801', ATTACH PARTITION ID 'all'"
        );
    }
}
