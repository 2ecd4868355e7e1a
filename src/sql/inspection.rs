//! Questions to a server before a copy. Columns of system tables differ between versions: the caller has checked
//! which exist ([`system_columns`](super::system_columns)).

use super::catalog::{among, literals};
use super::quote::{ident, literal, table};
use super::select::{Selection, SlotKey};
use crate::model::TableName;

/// The server's clock: seconds since 1970.
pub(crate) const CLOCK: &str = "SELECT toInt64(toUInt32(now()))";
/// `access` lines, each a GRANT or a REVOKE (20.1 and later; before, an error of syntax).
pub(crate) const SHOW_GRANTS: &str = "SHOW GRANTS";

/// Selects `name, free bytes, total bytes` of the disks of a storage policy (19.15 and later).
pub(crate) fn disks(policy: &str) -> String {
    format!(
        "SELECT toString(name), toUInt64(free_space), toUInt64(total_space) FROM system.disks WHERE name IN \
         (SELECT arrayJoin(disks) FROM system.storage_policies WHERE policy_name = {}) ORDER BY name",
        literal(policy)
    )
}

/// Selects `slot, rows` of the first `most` rows of a selection that the server reads.
pub(crate) fn sampled_slots(rows: &Selection, key: &SlotKey, most: u64) -> String {
    let slots = rows.select(&format!("toUInt64({}) AS slot", key.slot()));
    format!("SELECT slot, toUInt64(count()) FROM ({slots} LIMIT {most}) GROUP BY slot ORDER BY slot")
}

/// Selects `table, compressed bytes` of the active parts of tables.
pub(crate) fn stored_bytes(database: &str, tables: &[String]) -> String {
    format!(
        "SELECT toString(table), toUInt64(sum(data_compressed_bytes)) FROM system.parts WHERE active AND {} GROUP BY table",
        among(database, "table", tables)
    )
}

/// Selects `table, id, command, why it failed last` of the unfinished mutations of tables.
///
/// `reasons`: whether the server reports failures (`latest_fail_reason`); `kills`: whether a mutation can be killed
/// (`is_killed`).
pub(crate) fn mutations(database: &str, tables: &[String], reasons: bool, kills: bool) -> String {
    let reason = if reasons { "toString(latest_fail_reason)" } else { "''" };
    let living = if kills { " AND NOT is_killed" } else { "" };
    format!(
        "SELECT toString(table), toString(mutation_id), toString(command), {reason} FROM system.mutations WHERE NOT is_done{living} \
         AND {} ORDER BY mutation_id",
        among(database, "table", tables)
    )
}

/// Selects `table, database, name` of the views that receive what is inserted into tables, according to the tables
/// themselves.
pub(crate) fn views_known_to(database: &str, tables: &[String]) -> String {
    format!(
        "SELECT toString(name), toString(d), toString(t) FROM system.tables ARRAY JOIN dependencies_database AS d, \
         dependencies_table AS t WHERE {} ORDER BY d, t",
        among(database, "name", tables)
    )
}

/// Selects `statement, database, name` of all views, for servers that do not report which tables they read.
pub(crate) const VIEWS: &str = "SELECT toString(create_table_query), toString(database), toString(name) FROM system.tables \
     WHERE engine = 'MaterializedView' ORDER BY database, name";

/// Returns whether the statement of a view names a table.
pub(crate) fn names_table(statement: &str, name: &TableName) -> bool {
    statement.contains(&format!("{}.{}", name.database, name.table)) || statement.contains(&table(name))
}

/// Selects `database, name` of the tables of an engine.
pub(crate) fn tables_of_engine(engine: &str) -> String {
    format!(
        "SELECT toString(database), toString(name) FROM system.tables WHERE engine = {} ORDER BY database, name",
        literal(engine)
    )
}

/// Selects `cluster, shard, weight, replica, host, address, port, is it the server itself, internal_replication` of
/// the clusters that the server knows. The last column is 2 if the server does not report it (`replication`: whether
/// it does).
pub(crate) fn clusters(replication: bool) -> String {
    let replication = if replication { "toUInt8(internal_replication)" } else { "toUInt8(2)" };
    format!(
        "SELECT toString(cluster), toUInt64(shard_num), toUInt64(shard_weight), toUInt64(replica_num), toString(host_name), \
         toString(host_address), toUInt64(port), toUInt8(is_local), {replication} FROM system.clusters \
         ORDER BY cluster, shard_num, replica_num"
    )
}

/// Selects `table, name, does it restrict what others permit, does it show all rows` of the row policies, or the
/// masking policies, of tables that apply to our account. An empty `database` or `table` stands for all.
pub(crate) fn policies(kind: PolicyKind, database: &str, tables: &[String]) -> String {
    let (system, restricts, shows_all) = match kind {
        PolicyKind::Row => ("row_policies", "is_restrictive", "ifNull(select_filter, '1') IN ('1', 'true')"),
        PolicyKind::Masking => ("masking_policies", "1", "0"),
    };
    let us = "arrayConcat([currentUser()], enabledRoles())";
    format!(
        "SELECT toString(table), toString(short_name), toUInt8({restricts}), toUInt8({shows_all}) FROM system.{system} WHERE database IN ('', {}) \
         AND table IN ('', {}) AND (apply_to_all OR hasAny(apply_to_list, {us})) AND NOT hasAny(apply_to_except, {us}) ORDER BY short_name",
        literal(database),
        literals(tables)
    )
}

/// The effect of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// It hides rows.
    Row,
    /// It hides values.
    Masking,
}

/// Selects 1 or 0: whether our account has a right (24.11 and later; a syntax error before).
pub(crate) fn check_grant(privilege: super::Privilege, database: &str) -> String {
    format!("CHECK GRANT {} ON {}.*", privilege.words(), ident(database))
}
