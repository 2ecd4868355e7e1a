//! The ZooKeeper path and the replica's name among an engine's arguments.

use super::engine::Engine;
use super::lex;
use super::quote::literal;
use crate::model::TableName;

/// ClickHouse's default (`default_replica_path`, `default_replica_name`), with the identity that we give the table.
const DEFAULT_PATH: &str = "/clickhouse/tables/{uuid}/{shard}";
const DEFAULT_REPLICA: &str = "{replica}";

impl Engine {
    /// Returns the engine's name and arguments without replication: `ReplacingMergeTree` and `["version"]`.
    pub(crate) fn without_replication(&self) -> (&str, &[String]) {
        let name = ["Replicated", "Shared"].iter().find_map(|prefix| self.name.strip_prefix(prefix));
        (name.unwrap_or(&self.name), self.own_arguments())
    }

    /// Returns the engine for a new table, with path and replica written out; engines other than Replicated stay
    /// unchanged.
    ///
    /// `{database}`, `{table}` and `{uuid}` are replaced here: not every version knows the first two, and the last
    /// identifies one table on one server only, unless the statement runs `ON CLUSTER`, while all replicas must use
    /// one path. Macros of the servers (`{shard}`, `{replica}`, …) stay. Without arguments the path is ClickHouse's
    /// default.
    ///
    /// `uuid` is the new table's identity. `taken_over`: the engine is that of the source's table. An identity in its
    /// path (`{uuid}`, replaced by its server) is the source's own and is replaced by the new one: otherwise the
    /// target's replicas would join the source's table.
    pub(crate) fn for_new_table(&self, name: &TableName, uuid: &str, taken_over: bool) -> Engine {
        if !self.is_replicated() {
            return self.clone();
        }
        let filled = |text: &str| {
            let text = lex::unquote(text);
            let text = if taken_over { with_identity(&text, uuid) } else { text };
            let text = text.replace("{uuid}", uuid);
            literal(&text.replace("{database}", &name.database).replace("{table}", &name.table))
        };
        let mut arguments = self.arguments.clone().unwrap_or_default();
        if self.replica_arguments().is_some() {
            arguments[0] = filled(&arguments[0]);
            arguments[1] = filled(&arguments[1]);
        } else if !arguments.iter().any(|argument| argument.starts_with('\'')) {
            arguments.splice(0..0, [filled(DEFAULT_PATH), filled(DEFAULT_REPLICA)]);
        }
        Engine { arguments: Some(arguments), ..self.clone() }
    }

    /// Returns the engine for a table in a database with this engine. A database of engine Replicated chooses the
    /// path itself and refuses another one; all others take the engine unchanged.
    pub(crate) fn in_database(&self, engine: Option<&str>) -> Engine {
        if engine != Some("Replicated") || self.replica_arguments().is_none() {
            return self.clone();
        }
        let rest: Vec<String> = self.arguments.iter().flatten().skip(2).cloned().collect();
        Engine { arguments: (!rest.is_empty()).then_some(rest), ..self.clone() }
    }

    /// Returns whether only a server can tell the ZooKeeper path of its replicas.
    pub(crate) fn has_open_identity(&self) -> bool {
        self.replica_arguments().is_some_and(|(path, replica)| path.contains("{uuid}") || replica.contains("{uuid}"))
    }
}

/// Returns a text with every UUID in it replaced.
fn with_identity(text: &str, uuid: &str) -> String {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let is_uuid = |piece: &str| {
        let groups: Vec<&str> = piece.split('-').collect();
        groups.len() == GROUPS.len()
            && groups
                .iter()
                .zip(GROUPS)
                .all(|(group, length)| group.len() == length && group.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let pieces: Vec<&str> = text.split('/').map(|piece| if is_uuid(piece) { uuid } else { piece }).collect();
    pieces.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::TableDefinition;

    const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";
    const SOURCE_UUID: &str = "0f1e2d3c-1111-2222-3333-444455556666";

    fn new_engine(engine: &str, taken_over: bool) -> String {
        Engine::parse(engine).unwrap().for_new_table(&TableName::new("d", "it's"), UUID, taken_over).to_string()
    }

    #[test]
    fn macros_of_the_table_are_replaced_and_macros_of_the_server_stay() {
        for (engine, expected) in [
            ("MergeTree ORDER BY a", "MergeTree ORDER BY a".to_owned()),
            (
                "ReplicatedMergeTree('/t/{shard}/{database}.{table}', '{replica}') ORDER BY a",
                r"ReplicatedMergeTree('/t/{shard}/d.it\'s', '{replica}') ORDER BY a".to_owned(),
            ),
            (
                "ReplicatedReplacingMergeTree('/t/{uuid}/{layer}-{shard}', 'r_{replica}', v) ORDER BY a",
                format!("ReplicatedReplacingMergeTree('/t/{UUID}/{{layer}}-{{shard}}', 'r_{{replica}}', v) ORDER BY a"),
            ),
            (
                "ReplicatedMergeTree ORDER BY a",
                format!("ReplicatedMergeTree('/clickhouse/tables/{UUID}/{{shard}}', '{{replica}}') ORDER BY a"),
            ),
            (
                "ReplicatedReplacingMergeTree(v) ORDER BY a",
                format!(
                    "ReplicatedReplacingMergeTree('/clickhouse/tables/{UUID}/{{shard}}', '{{replica}}', v) ORDER BY a"
                ),
            ),
            (
                "ReplicatedMergeTree('/t/{shard}', '{replica}', d, (a), 8192)",
                "ReplicatedMergeTree('/t/{shard}', '{replica}', d, (a), 8192)".to_owned(),
            ),
            // The server reports the error.
            ("ReplicatedMergeTree('/t') ORDER BY a", "ReplicatedMergeTree('/t') ORDER BY a".to_owned()),
        ] {
            assert_eq!(new_engine(engine, false), expected);
        }
    }

    #[test]
    fn the_uuid_of_the_source_table_is_never_used_for_the_target() {
        let engine =
            format!("ReplicatedMergeTree('/clickhouse/tables/{SOURCE_UUID}/{{shard}}', '{{replica}}') ORDER BY a");
        let ours = format!("ReplicatedMergeTree('/clickhouse/tables/{UUID}/{{shard}}', '{{replica}}') ORDER BY a");
        assert_eq!(new_engine(&engine, true), ours);
        // The task's engine is used as written.
        assert_eq!(new_engine(&engine, false), engine);
    }

    #[test]
    fn a_replication_path_is_left_out_only_in_a_replicated_database() {
        let table = TableName::new("d", "t");
        let create = |engine: &str, database| {
            let text = "CREATE TABLE d.t (`a` UInt8, `x` UInt8) ENGINE = Log";
            let definition = TableDefinition::read(table.clone(), engine, text, Vec::new(), "").unwrap();
            // The same steps as a worker that creates a table.
            let engine = definition.engine.for_new_table(&table, UUID, true).in_database(database);
            definition.create(&table, &engine)
        };
        let start = "CREATE TABLE IF NOT EXISTS `d`.`t` (`a` UInt8, `x` UInt8) ENGINE =";
        let path = format!("/clickhouse/tables/{UUID}/{{shard}}");
        for (engine, in_replicated, elsewhere) in [
            ("ReplicatedMergeTree ORDER BY a", "ReplicatedMergeTree ORDER BY a", format!("('{path}', '{{replica}}')")),
            (
                "ReplicatedMergeTree('/p', 'r') ORDER BY a SETTINGS index_granularity = 1024",
                "ReplicatedMergeTree ORDER BY a SETTINGS index_granularity = 1024",
                "('/p', 'r')".to_owned(),
            ),
            (
                "ReplicatedSummingMergeTree('/p/{uuid}', 'r', x) ORDER BY a",
                "ReplicatedSummingMergeTree(x) ORDER BY a",
                format!("('/p/{UUID}', 'r', x)"),
            ),
            ("ReplacingMergeTree(x) ORDER BY a", "ReplacingMergeTree(x) ORDER BY a", "(x)".to_owned()),
        ] {
            assert_eq!(create(engine, Some("Replicated")), format!("{start} {in_replicated}"));
            for database in [Some("Atomic"), Some("Ordinary"), None] {
                assert!(create(engine, database).contains(&elsewhere), "{engine} in {database:?}");
            }
        }
    }
}
