//! The check that the source's tables on all shards and replicas are alike, since the copy reads them as one table.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::errors::Problem;
use super::{Holders, Surveyor};
use crate::model::Node;
use crate::plan::Sharding;
use crate::sql::{Clause, KeyElement, Relation, Selection, SlotWidth, TableDefinition, same_key};

/// Returns a difference between two tables because of which they cannot be read as one table. The text begins with the clause.
///
/// `makes_target` is whether the target table is created with the source's engine. Then keys and TTL must be the same everywhere too;
/// otherwise only differences that affect the rows matter.
pub(super) fn table_difference(first: &TableDefinition, other: &TableDefinition, makes_target: bool) -> Option<String> {
    let (a, b) = (&first.engine, &other.engine);
    let named = |what: &str, a: Option<&str>, b: Option<&str>| {
        format!("{what}: {} and {}", a.unwrap_or("none"), b.unwrap_or("none"))
    };
    let kinds_differ = a.is_merge_tree() != b.is_merge_tree() || (!a.is_merge_tree() && a.name != b.name);
    if kinds_differ || (makes_target && a.without_replication() != b.without_replication()) {
        return Some(named("ENGINE", Some(&a.to_string()), Some(&b.to_string())));
    }
    let (key, other_key) = (a.partition_key(), b.partition_key());
    if !same_key(key.as_deref(), other_key.as_deref()) {
        return Some(named("PARTITION BY", key.as_deref(), other_key.as_deref()));
    }
    if !makes_target {
        return None;
    }
    let keys = [Clause::OrderBy, Clause::PrimaryKey, Clause::SampleBy, Clause::Ttl];
    let differing = keys.into_iter().find(|clause| !same_key(a.clause(*clause), b.clause(*clause)));
    let clause = differing.map(|clause| named(&clause.words(), a.clause(clause), b.clause(clause)));
    clause
        .or_else(|| (first.has_ttl() != other.has_ttl()).then(|| "TTL: one of them has columns that expire".to_owned()))
}

impl Surveyor<'_> {
    /// Checks that servers of other versions than the first node accept the task's expressions, and give the keys the same types.
    pub(super) async fn check_versions(
        &self,
        sources: &Holders,
        relation: &Relation,
        key: &[KeyElement],
        sharding: Option<&Sharding>,
    ) -> Result<(), Vec<Problem>> {
        let mut seen = BTreeSet::new();
        let mut faults = Vec::new();
        let mut first: Option<&Arc<Node>> = None;
        for node in sources.iter().flatten() {
            let version = self.pool.known_facts(node).map(|facts| facts.version.clone());
            if !seen.insert(version) {
                continue;
            }
            // The first node has answered already.
            let Some(first) = first else {
                first = Some(node);
                continue;
            };
            faults.extend(self.check_version(first, node, relation, key, sharding).await.err().unwrap_or_default());
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    async fn check_version(
        &self,
        first: &Node,
        node: &Node,
        relation: &Relation,
        key: &[KeyElement],
        sharding: Option<&Sharding>,
    ) -> Result<(), Vec<Problem>> {
        let rows = Selection::all(relation.clone());
        let bare = |type_name: &str| type_name.replace(' ', "");
        if !key.is_empty() {
            let expressions: Vec<String> = key.iter().map(|element| element.expression.clone()).collect();
            let types = self.types(node, Some(&rows), &expressions, "engine: PARTITION BY").await?;
            let differing =
                key.iter().zip(&types).find(|(element, type_name)| bare(&element.type_name) != bare(type_name));
            if let Some((element, type_name)) = differing {
                return Err(vec![self.servers(&format!(
                    "PARTITION BY {} is {} on {first} and {type_name} on {node}, which have other versions",
                    element.expression, element.type_name
                ))]);
            }
        }
        let Some(sharding) = sharding else { return Ok(()) };
        let types = self.types(node, Some(&rows), &[format!("({})", sharding.key)], "sharding_key").await?;
        // A constant has its own width, which the first node returned.
        let width = types.first().and_then(|type_name| SlotWidth::of(type_name, sharding.width.0 < 32));
        if width == Some(sharding.width) {
            return Ok(());
        }
        Err(vec![self.task(
            "sharding_key",
            &format!(
                "it is a number of {} bits on {first}, and {} on {node}, which have other versions",
                sharding.width.0,
                types.first().map_or("nothing", String::as_str)
            ),
        )])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TableName;

    fn table(engine: &str) -> TableDefinition {
        TableDefinition::read(TableName::new("d", "t"), engine, "", Vec::new(), "").unwrap()
    }

    #[test]
    fn differences_between_the_tables_of_source_shards_are_found() {
        let plain = table("MergeTree PARTITION BY id % 10 ORDER BY id SETTINGS index_granularity = 8192");
        for (engine, found, found_for_new_target) in [
            ("MergeTree PARTITION BY id % 10 ORDER BY id", None, None),
            ("ReplicatedMergeTree('/p', 'r') PARTITION BY (`id` % 10) ORDER BY (id)", None, None),
            ("MergeTree PARTITION BY id % 10 ORDER BY (id, d)", None, Some("ORDER BY: id and (id, d)")),
            ("ReplacingMergeTree(v) PARTITION BY id % 10 ORDER BY id", None, Some("ENGINE: ")),
            ("MergeTree PARTITION BY id % 10 ORDER BY id TTL d", None, Some("TTL: none and d")),
            (
                "MergeTree PARTITION BY id % 5 ORDER BY id",
                Some("PARTITION BY: id % 10 and id % 5"),
                Some("PARTITION BY"),
            ),
            ("MergeTree ORDER BY id", Some("PARTITION BY: id % 10 and none"), Some("PARTITION BY")),
            ("Log", Some("ENGINE: "), Some("ENGINE: ")),
        ] {
            for (makes_target, expected) in [(false, found), (true, found_for_new_target)] {
                let difference = table_difference(&plain, &table(engine), makes_target);
                assert_eq!(difference.is_some(), expected.is_some(), "{engine}: {difference:?}");
                assert!(difference.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{engine}");
            }
        }
        let old = |arguments: &str| table(&format!("MergeTree({arguments})"));
        let difference = table_difference(&old("d, id, 8192"), &old("e, id, 8192"), false);
        assert_eq!(difference.as_deref(), Some("PARTITION BY: toYYYYMM(d) and toYYYYMM(e)"));
    }
}
