//! Questions to the servers' system tables about many tables of one database at once. The first column of each answer
//! names the table of the row.

use super::quote::literal;
use super::reads::Behind;

/// Returns `database = … AND name IN (…)`; `column` holds the tables' names.
pub(super) fn among(database: &str, column: &str, tables: &[String]) -> String {
    format!("database = {} AND {column} IN ({})", literal(database), literals(tables))
}

/// Returns string literals separated by commas.
pub(super) fn literals(texts: &[String]) -> String {
    texts.iter().map(|text| literal(text)).collect::<Vec<_>>().join(", ")
}

/// Selects `name, engine` of databases; no row for one that does not exist.
pub(crate) fn database_engines(databases: &[String]) -> String {
    format!("SELECT toString(name), toString(engine) FROM system.databases WHERE name IN ({})", literals(databases))
}

/// Selects `table, engine, engine_full, create_table_query, sorting_key`; no row for a table that does not exist.
pub(crate) fn describe_tables(database: &str, tables: &[String]) -> String {
    format!(
        "SELECT toString(name), toString(engine), toString(engine_full), toString(create_table_query), toString(sorting_key) \
         FROM system.tables WHERE {}",
        among(database, "name", tables)
    )
}

/// Selects `table, name, type, default_kind, default_expression, comment`, in the order of the table's columns (18.16
/// has no `position`, but keeps the order).
pub fn describe_columns(database: &str, tables: &[String]) -> String {
    format!(
        "SELECT toString(table), toString(name), toString(type), toString(default_kind), toString(default_expression), \
         toString(comment) FROM system.columns WHERE {}",
        among(database, "table", tables)
    )
}

/// Selects `table, zookeeper_path, replica_name, is_readonly` of replicated tables, and the number of entries in
/// their queues without merges.
pub(crate) fn replica_states(database: &str, tables: &[String]) -> String {
    format!(
        "SELECT toString(table), toString(zookeeper_path), toString(replica_name), toUInt8(is_readonly), \
         toUInt64(greatest(toInt64(queue_size) - toInt64(merges_in_queue), 0)) FROM system.replicas WHERE {}",
        among(database, "table", tables)
    )
}

/// Selects `table, partition_id, partition, rows, uncompressed bytes, whether rows were deleted` of the active parts.
/// These are the numbers of the parts and may differ from a count by query: a part with lightweight deletes reports
/// its rows before the deletes.
///
/// `deletes`: whether the server knows of such parts (`has_lightweight_delete`, 22.9 and later).
pub(crate) fn parts(database: &str, tables: &[String], deletes: bool) -> String {
    parts_in("system.parts", database, tables, deletes)
}

/// Selects the same columns for one table on one replica of each shard of a cluster that the server knows.
pub(crate) fn parts_behind(behind: &Behind, deletes: bool) -> String {
    let Behind { cluster, table } = behind;
    let parts = format!("cluster({}, 'system', 'parts')", literal(cluster));
    parts_in(&parts, &table.database, std::slice::from_ref(&table.table), deletes)
}

fn parts_in(relation: &str, database: &str, tables: &[String], deletes: bool) -> String {
    let deleted = if deletes { "toUInt8(max(has_lightweight_delete))" } else { "toUInt8(0)" };
    format!(
        "SELECT toString(table), toString(partition_id), toString(any(partition)), toUInt64(sum(rows)), \
         toUInt64(sum(data_uncompressed_bytes)), {deleted} FROM {relation} WHERE active AND {} GROUP BY table, partition_id",
        among(database, "table", tables)
    )
}

/// Selects `table, partition id, name, rows, hash` of the active parts of tables; the hash is empty if the server has
/// none (`hashes`).
pub(crate) fn part_lists(database: &str, tables: &[String], hashes: bool) -> String {
    let hash = if hashes { "toString(hash_of_uncompressed_files)" } else { "''" };
    format!(
        "SELECT toString(table), toString(partition_id), toString(name), toUInt64(rows), {hash} FROM system.parts WHERE active \
         AND {}",
        among(database, "table", tables)
    )
}

/// Selects `table, mark`; the mark changes when a table is recreated or its definition changes. `uuids`: whether the
/// server gives tables UUIDs.
pub(crate) fn table_marks(database: &str, tables: &[String], uuids: bool) -> String {
    let uuid = if uuids { "toString(uuid)" } else { "''" };
    format!(
        "SELECT toString(name), concat({uuid}, '@', toString(toUInt32(metadata_modification_time))) FROM system.tables WHERE {}",
        among(database, "name", tables)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_conditions_are_quoted() {
        let tables = ["a".to_owned(), "it's".to_owned()];
        assert_eq!(among("d", "table", &tables), r"database = 'd' AND table IN ('a', 'it\'s')");
        assert!(database_engines(&tables[1..]).ends_with(r"WHERE name IN ('it\'s')"));
    }
}
