//! The statements. Each function returns one, and describes its result.

use std::slice;

use super::definition::Column;
use super::key::KeyElement;
use super::quote::{ident, idents, literal, table};
use super::select::Selection;
use crate::model::{PartitionId, TableName};

/// Selects `time zone of the session, nothing`.
pub(crate) const SESSION_ZONE: &str = "SELECT timezone(), ''";
/// Selects `zone of the server, nothing` (23.6 and later).
pub(crate) const SERVER_ZONE: &str = "SELECT serverTimezone(), ''";
/// Selects `name, statement` of user-defined functions; the statement of an external program is empty (21.10 and
/// later).
pub(crate) const USER_FUNCTIONS: &str = "SELECT toString(name), if(toString(origin) = 'SQLUserDefined', toString(create_query), '') FROM system.functions \
     WHERE toString(origin) != 'System'";
/// Selects `name` of the settings that a table of the MergeTree family can have.
pub(crate) const MERGE_TREE_SETTINGS: &str = "SELECT toString(name) FROM system.merge_tree_settings";
/// Selects `macro, substitution`.
pub(crate) const MACROS: &str = "SELECT toString(macro), toString(substitution) FROM system.macros";

/// The columns of `system.settings` that a release has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettingColumns {
    /// Name and value (18.16).
    Values,
    /// Also the restrictions for the account: `readonly`, `min`, `max`.
    Limits,
    /// Also `disallowed_values`.
    All,
}

/// Selects `version, [name], [value], [is it changed], [readonly], [min], [max], [disallowed values, a line each]` of
/// the settings that the server knows, for our account. It is one row, so a limit on results cannot cut it.
pub(crate) fn settings(columns: SettingColumns) -> String {
    let limit = |name: &str| format!("groupArray(ifNull(toString({name}), ''))");
    let [readonly, least, largest] = match columns {
        SettingColumns::Values => ["groupArray(toUInt8(0))", "groupArray('')", "groupArray('')"].map(str::to_owned),
        SettingColumns::Limits | SettingColumns::All => {
            ["groupArray(toUInt8(readonly))".to_owned(), limit("min"), limit("max")]
        }
    };
    let disallowed = match columns {
        SettingColumns::All => "groupArray(arrayStringConcat(arrayMap(x -> toString(x), disallowed_values), '\\n'))",
        SettingColumns::Values | SettingColumns::Limits => "groupArray('')",
    };
    format!(
        "SELECT version(), groupArray(toString(name)), groupArray(toString(value)), groupArray(toUInt8(changed)), {readonly}, {least}, {largest}, {disallowed} \
         FROM system.settings"
    )
}

/// Fails if the account may not read the database: `system.tables` would only hide it.
pub fn table_exists(name: &TableName) -> String {
    format!("EXISTS TABLE {}", table(name))
}

/// Selects the names of the tables of a database that start with a prefix.
pub fn tables_with_prefix(database: &str, prefix: &str) -> String {
    format!(
        "SELECT toString(name) FROM system.tables WHERE database = {} AND startsWith(name, {}) ORDER BY name",
        literal(database),
        literal(prefix)
    )
}

/// Selects the names of the nodes under a path of the server's own ZooKeeper; error 999 if the path does not exist.
pub(crate) fn zookeeper_children(path: &str) -> String {
    format!("SELECT toString(name) FROM system.zookeeper WHERE path = {}", literal(path))
}

/// Selects the column names of a system table, which differ between versions. None if the account may not read it.
pub(crate) fn system_columns(table: &str) -> String {
    format!("SELECT toString(name) FROM system.columns WHERE database = 'system' AND table = {}", literal(table))
}

/// Counts displaced parts of these partitions that are still on the disk (docs/clickhouse-behaviour.md, T3).
pub(crate) fn displaced_parts(name: &TableName, ids: &[PartitionId]) -> String {
    format!(
        "SELECT toUInt64(count()) FROM system.parts WHERE NOT active AND database = {} AND table = {} AND partition_id IN ({})",
        literal(&name.database),
        literal(&name.table),
        id_list(ids)
    )
}

/// Selects `[values], [shown], [id parts], rows` for each value of a key in a selection. The id is empty if it is a
/// hash.
pub(crate) fn tally(selection: &Selection, elements: &[KeyElement]) -> String {
    let values = text_array(elements.iter().map(KeyElement::value).collect());
    let shown = text_array(elements.iter().map(KeyElement::shown_of_group).collect());
    let ids = text_array(elements.iter().map(KeyElement::id).collect::<Option<Vec<_>>>().unwrap_or_default());
    let key: Vec<String> = elements.iter().map(KeyElement::group).collect();
    let group = if key.is_empty() { String::new() } else { format!(" GROUP BY {}", key.join(", ")) };
    // An unpartitioned table without rows gives one row of zero, all others none.
    selection.select(&format!("{values}, {shown}, {ids}, toUInt64(count())")) + &group
}

/// Selects `[values], rows, checksum` for each value of a key in a selection. The checksum is the sum of a hash, an
/// expression over the rows. Without a key it selects one line for all rows.
pub(crate) fn digest(selection: &Selection, elements: &[KeyElement], hash: &str) -> String {
    let values = text_array(elements.iter().map(KeyElement::value).collect());
    let key: Vec<String> = elements.iter().map(KeyElement::group).collect();
    let group = if key.is_empty() { String::new() } else { format!(" GROUP BY {}", key.join(", ")) };
    selection.select(&format!("{values}, toUInt64(count()), sum({hash})")) + &group
}

/// Selects `partition_id, rows` of a MergeTree table, by query.
pub(crate) fn rows_by_partition(name: &TableName, only: Option<&[PartitionId]>) -> String {
    let condition = only.map(|ids| format!(" WHERE {}", in_partitions(ids))).unwrap_or_default();
    format!("SELECT toString(_partition_id), toUInt64(count()) FROM {}{condition} GROUP BY _partition_id", table(name))
}

/// Selects `partition_id, [values], rows` of a MergeTree table, by query: the key's values in each partition.
pub(crate) fn values_by_partition(name: &TableName, elements: &[KeyElement]) -> String {
    let values = text_array(elements.iter().map(KeyElement::value).collect());
    let key: Vec<String> =
        std::iter::once("_partition_id".to_owned()).chain(elements.iter().map(KeyElement::group)).collect();
    format!(
        "SELECT toString(_partition_id), {values}, toUInt64(count()) FROM {} GROUP BY {}",
        table(name),
        key.join(", ")
    )
}

/// Selects the same from a table that is partitioned by this key. It takes two fifths of the time on 18.16, which is
/// slow to group by several columns.
pub(crate) fn value_by_partition(name: &TableName, elements: &[KeyElement]) -> String {
    let values = text_array(elements.iter().map(KeyElement::value_of_any).collect());
    format!("SELECT toString(_partition_id), {values}, toUInt64(count()) FROM {} GROUP BY _partition_id", table(name))
}

fn text_array(texts: Vec<String>) -> String {
    if texts.is_empty() { "emptyArrayString()".to_owned() } else { format!("[{}]", texts.join(", ")) }
}

/// Selects `rows, checksum` of one partition of a MergeTree table, or of the whole table.
pub(crate) fn checksum(name: &TableName, id: Option<&PartitionId>, columns: &[Column]) -> String {
    let stored = columns.iter().filter(|c| c.default_kind.is_inserted());
    let condition = id.map(|id| format!(" WHERE {}", in_partitions(slice::from_ref(id)))).unwrap_or_default();
    format!("SELECT toUInt64(count()), sum({}) FROM {}{condition}", super::checksum::row_hash(stored), table(name))
}

/// The largest number of rows in a sample.
pub(crate) const MOST_SAMPLED: usize = 1000;

/// Counts the different rows of a partition that are among the rows with the smallest hashes in the same partition of
/// another table.
pub(crate) fn sampled_rows(name: &TableName, sample: &TableName, id: &PartitionId, columns: &[Column]) -> String {
    let hashes = |table_name: &TableName| {
        let stored = columns.iter().filter(|c| c.default_kind.is_inserted());
        let hash = super::checksum::row_hash(stored);
        format!("(SELECT {hash} AS row_hash FROM {} WHERE {})", table(table_name), in_partitions(slice::from_ref(id)))
    };
    format!(
        "SELECT toUInt64(uniqExact(row_hash)) FROM {} WHERE row_hash IN (SELECT row_hash FROM {} ORDER BY row_hash LIMIT {MOST_SAMPLED})",
        hashes(name),
        hashes(sample)
    )
}

/// Selects `[values]` of the first key columns of about one row in `every`, in the order of the key.
pub(crate) fn sample_keys(selection: &Selection, columns: &[KeyElement], every: u64) -> String {
    let values: Vec<String> = columns.iter().map(KeyElement::value).collect();
    let keys: Vec<&str> = columns.iter().map(|c| c.expression.as_str()).collect();
    let mut sampled = selection.clone();
    let random = super::Expression::parse(&format!("rand() % {every} = 0"));
    // The sample is an ordinary condition; if it cannot be one, every row is read.
    if let (Ok(random), None) = (random, &sampled.relation.condition) {
        sampled.relation.condition = Some(random);
    } else if let Some(condition) = &sampled.relation.condition {
        let both = super::Expression::parse(&format!("({condition}) AND rand() % {every} = 0"));
        sampled.relation.condition = both.ok().or(sampled.relation.condition);
    }
    format!("{} ORDER BY {}", sampled.select(&format!("[{}]", values.join(", "))), keys.join(", "))
}

/// Selects no rows; the header contains the types of the expressions over a relation, or the server returns an error.
pub(crate) fn types(selection: &Selection, expressions: &[String]) -> String {
    format!("{} LIMIT 0", selection.select(&expressions.join(", ")))
}

/// Selects the expressions over the first rows of a relation.
pub(crate) fn first_rows(selection: &Selection, expressions: &[String], rows: u64) -> String {
    format!("{} LIMIT {rows}", selection.select(&expressions.join(", ")))
}

/// Selects no rows, for expressions without columns: the server refuses an expression that needs one.
pub(crate) fn types_without_table(expressions: &[String]) -> String {
    format!("SELECT {} LIMIT 0", expressions.join(", "))
}

/// How a server reports a statement's work in `system.processes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventColumns {
    /// As two arrays, `ProfileEvents.Names` and `ProfileEvents.Values`.
    Arrays,
    /// As a map, `ProfileEvents`.
    Map,
    /// Not at all.
    None,
}

/// Selects `query_id, elapsed, read_rows, written_rows, moved` of running statements whose id starts with a prefix.
/// The last one is the sum of the counters of bytes, rows, parts and files; counters of time grow while nothing
/// moves.
pub(crate) fn running(prefix: &str, events: EventColumns) -> String {
    let arrays = match events {
        EventColumns::Arrays => Some(("ProfileEvents.Names", "ProfileEvents.Values")),
        EventColumns::Map => Some(("mapKeys(ProfileEvents)", "mapValues(ProfileEvents)")),
        EventColumns::None => None,
    };
    let moved = arrays.map_or_else(
        || "toUInt64(0)".to_owned(),
        |(names, values)| {
            format!(
                "toUInt64(arraySum(arrayMap((name, value) -> if(match(name, 'Bytes|Rows|Parts|File') AND NOT match(name, 'Log'), value, \
                 toUInt64(0)), {names}, {values})))"
            )
        },
    );
    format!(
        "SELECT toString(query_id), toFloat64(elapsed), toUInt64(read_rows), toUInt64(written_rows), {moved} FROM system.processes \
         WHERE startsWith(query_id, {})",
        literal(prefix)
    )
}

/// Kills running statements whose id starts with a prefix, and those that such a statement of another server started.
/// It does not wait for their end.
pub(crate) fn kill(prefix: &str) -> String {
    format!("KILL QUERY WHERE {} ASYNC", begun_by(prefix))
}

/// Counts the running statements whose id starts with a prefix, or which such a statement of another server started.
pub(crate) fn at_work(prefix: &str) -> String {
    format!("SELECT count() FROM system.processes WHERE {}", begun_by(prefix))
}

fn begun_by(prefix: &str) -> String {
    let prefix = literal(prefix);
    format!("(startsWith(query_id, {prefix}) OR startsWith(initial_query_id, {prefix}))")
}

/// Creates a database if it does not exist.
pub fn create_database(database: &str) -> String {
    format!("CREATE DATABASE IF NOT EXISTS {}", ident(database))
}

/// Drops a table of any size, if the version allows to say so.
pub fn drop_table(name: &TableName) -> String {
    format!("DROP TABLE IF EXISTS {}", table(name))
}

/// Renames tables in one statement.
pub(crate) fn rename(pairs: &[(TableName, TableName)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(from, to)| format!("{} TO {}", table(from), table(to))).collect();
    format!("RENAME TABLE {}", pairs.join(", "))
}

/// Adds partitions of one table to another by hard links, all in one statement.
pub(crate) fn attach_partitions(into: &TableName, from: &TableName, ids: &[PartitionId]) -> String {
    alter_partitions("ATTACH", into, from, ids)
}

/// Replaces partitions of one table by those of another by hard links, all in one statement.
pub(crate) fn replace_partitions(into: &TableName, from: &TableName, ids: &[PartitionId]) -> String {
    alter_partitions("REPLACE", into, from, ids)
}

fn alter_partitions(verb: &str, into: &TableName, from: &TableName, ids: &[PartitionId]) -> String {
    let from = table(from);
    let commands: Vec<String> =
        ids.iter().map(|id| format!("{verb} PARTITION ID {} FROM {from}", literal(&id.0))).collect();
    format!("ALTER TABLE {} {}", table(into), commands.join(", "))
}

/// Removes the rows of partitions, all in one statement.
pub(crate) fn drop_partitions(name: &TableName, ids: &[PartitionId]) -> String {
    let commands: Vec<String> = ids.iter().map(|id| format!("DROP PARTITION ID {}", literal(&id.0))).collect();
    format!("ALTER TABLE {} {}", table(name), commands.join(", "))
}

/// Stops merges of a table until the server restarts.
pub(crate) fn stop_merges(name: &TableName) -> String {
    format!("SYSTEM STOP MERGES {}", table(name))
}

/// Waits until a replica has executed its queue.
pub(crate) fn sync_replica(name: &TableName) -> String {
    format!("SYSTEM SYNC REPLICA {}", table(name))
}

/// Copies partitions within a server by reading and writing rows.
pub(crate) fn insert_partition(into: &TableName, from: &TableName, columns: &[String], id: &PartitionId) -> String {
    let names = idents(columns.iter().map(String::as_str));
    format!(
        "INSERT INTO {} ({names}) SELECT {names} FROM {} WHERE {}",
        table(into),
        table(from),
        in_partitions(slice::from_ref(id))
    )
}

/// Returns a condition for the rows of some partitions of a MergeTree table. With `_partition_id` alone, servers
/// before 21.5 read the whole table (docs/clickhouse-behaviour.md, §4), but they skip parts by their names.
fn in_partitions(ids: &[PartitionId]) -> String {
    let (first, end) = part_names(ids);
    let (first, end) = (literal(first), literal(&end));
    format!("_part >= {first} AND _part < {end} AND _partition_id IN ({})", id_list(ids))
}

/// Returns the byte range of the names of some partitions' parts; the end is exclusive. A name begins with the
/// partition's id. An underscore follows; in a table of the old syntax the rest of a date follows:
/// `20180201_20180228_1_1_0` belongs to 201802.
fn part_names(ids: &[PartitionId]) -> (&str, String) {
    let first = ids.iter().map(|id| id.0.as_str()).min().unwrap_or_default();
    // The character after the underscore.
    let end = ids.iter().map(|id| format!("{}`", id.0)).max().unwrap_or_default();
    (first, end)
}

fn id_list(ids: &[PartitionId]) -> String {
    ids.iter().map(|id| literal(&id.0)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_partitions_are_found_by_a_range_of_names() {
        let ids = ["201802", "2018", "-5-f00d", "all"].map(|id| PartitionId(id.into()));
        let names = ["201802_1_1_0", "20180201_20180228_1_1_0", "2018_7_9_1_12", "-5-f00d_1_1_0", "all_1_1_0"];
        let is_between = |name: &&str, ids| matches!(part_names(ids), (first, end) if first <= *name && **name < *end);
        assert!(names.iter().all(|name| is_between(name, &ids)));
        let found: Vec<&str> = names.into_iter().filter(|name| is_between(name, &ids[..1])).collect();
        assert_eq!(found, ["201802_1_1_0", "20180201_20180228_1_1_0"]);
    }

    #[test]
    fn one_alter_replaces_many_partitions() {
        let ids = [PartitionId("201801".into()), PartitionId("all".into())];
        assert_eq!(
            replace_partitions(&TableName::new("d", "t"), &TableName::new("d", "s"), &ids),
            "ALTER TABLE `d`.`t` REPLACE PARTITION ID '201801' FROM `d`.`s`, REPLACE PARTITION ID 'all' FROM `d`.`s`"
        );
    }
}
