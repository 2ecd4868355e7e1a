//! Statements that distinguish one server from another.

use super::quote::literal;
use super::remote::remote;
use crate::model::{Node, TableName};

/// How many rows a mark reads, a tenth of a second for each; more if the statement can be killed between two rows.
const ROWS: u32 = 25;
const ENDABLE_ROWS: u32 = 300;

/// Returns a statement that does nothing for some seconds. Its text contains a mark, because proxies may replace its
/// `query_id`. `endable`: whether it is sent with `max_block_size = 1`, so that it can be killed between two rows.
pub(crate) fn hold_mark(mark: &str, endable: bool) -> String {
    let rows = if endable { ENDABLE_ROWS } else { ROWS };
    format!("SELECT sleepEachRow(0.1), {} FROM system.numbers LIMIT {rows} FORMAT Null", literal(mark))
}

/// Returns a statement that lists the marks that begin with a prefix and run on the server that answers.
pub(crate) fn marks(prefix: &str) -> String {
    marks_from("system.processes", prefix)
}

/// Returns the same for the server that another one reaches by the native protocol.
pub(crate) fn marks_behind(to: &Node, prefix: &str) -> String {
    marks_from(&remote(to, &TableName::new("system", "processes")), prefix)
}

/// The text of the statement itself is no mark: no digit follows the prefix in it.
fn marks_from(table: &str, prefix: &str) -> String {
    let pattern = literal(&format!("({prefix}[0-9]+)"));
    format!(
        "SELECT DISTINCT extract(concat(toString(query_id), ' ', toString(query)), {pattern}) AS mark FROM {table} WHERE mark != ''"
    )
}

/// `name` of those functions that a server has and old ones lack.
pub(crate) const IDENTITY_FUNCTIONS: &str =
    "SELECT toString(name) FROM system.functions WHERE name IN ('serverUUID', 'tcpPort')";

/// Returns a statement for `host name, second of its start, identity or nothing, native port or 0`.
pub(crate) fn fingerprint(has_uuid: bool, has_port: bool) -> String {
    let uuid = if has_uuid { "toString(serverUUID())" } else { "''" };
    let port = if has_port { "toUInt64(tcpPort())" } else { "toUInt64(0)" };
    format!("SELECT toString(hostName()), toInt64(toUInt32(now())) - toInt64(uptime()), {uuid}, {port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_that_searches_marks_does_not_find_itself() {
        let statement = marks("copier_identity_ab_");
        assert!(statement.contains("copier_identity_ab_[0-9]+"), "{statement}");
        assert!(hold_mark("copier_identity_ab_7", true).contains("'copier_identity_ab_7'"));
        let behind = marks_behind(&Node::new("h"), "p_");
        assert!(behind.contains("FROM remote('h:9000', 'system', 'processes', 'default', '')"), "{behind}");
    }
}
