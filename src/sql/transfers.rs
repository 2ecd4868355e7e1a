//! The statements that move rows from one server to another.
//!
//! An address in `remote()` names exactly one node: `a|b` in an INSERT would write to both, whatever the cluster says
//! (docs/clickhouse-behaviour.md, T6).

use super::quote::{ident, idents, table};
use super::remote::remote;
use super::select::{Selection, SlotKey};
use crate::model::{Node, TableName};

/// Returns the push of a piece to one target node: the rows travel from server to server.
///
/// There is no list of columns after the function, because 18.16 takes it for a second list of arguments (code 42).
/// So `values` are for all columns of the table, in its order.
pub(crate) fn push(to: &Node, into: &TableName, values: &[String], selection: &Selection) -> String {
    format!("INSERT INTO FUNCTION {} {}", remote(to, into), selection.select(&values.join(", ")))
}

/// Returns the push of a piece to a node of each target shard at once: `into` comes from
/// [`remote_dealt`](super::remote_dealt). Each row is read once.
pub(crate) fn push_dealt(into: &str, values: &[String], selection: &Selection) -> String {
    format!("INSERT INTO FUNCTION {into} {}", selection.select(&values.join(", ")))
}

/// Returns the pull of a piece by its target node. The source evaluates the conditions and the values (measured on
/// 18.16), as far as [`Selection::filters_at_the_table`].
pub(crate) fn pull(
    from: &Node,
    into: &TableName,
    columns: &[String],
    values: &[String],
    selection: &Selection,
) -> String {
    format!(
        "INSERT INTO {} ({}) {}",
        table(into),
        idents(columns.iter().map(String::as_str)),
        selection.select_from(&remote(from, &selection.relation.table), &values.join(", "))
    )
}

/// Returns the SELECT of a relay. Rows in Native format find their columns by name, so the values get the names of
/// the target's columns, in a query around the one that computes them: inside it an alias would hide the source's
/// column of that name.
///
/// If the relay deals the rows, the first column is the slot of each row, as UInt32.
pub(crate) fn relay_from(
    columns: &[String],
    values: &[String],
    selection: &Selection,
    slot: Option<&SlotKey>,
) -> String {
    let named = |(number, value): (usize, &String)| format!("{value} AS `relayed {number}`");
    let renamed = |(number, name): (usize, &String)| format!("`relayed {number}` AS {}", ident(name));
    let slot = || slot.map(|key| format!("toUInt32({}) AS `relayed slot`", key.slot()));
    let inner: Vec<String> = slot().into_iter().chain(values.iter().enumerate().map(named)).collect();
    let first = slot().map(|_| "`relayed slot`".to_owned());
    let outer: Vec<String> = first.into_iter().chain(columns.iter().enumerate().map(renamed)).collect();
    format!("SELECT {} FROM ({})", outer.join(", "), selection.select(&inner.join(", ")))
}

/// Returns the INSERT of a relay. It is in the address of the request, whose length old servers limit (16 KiB), so it
/// lists no columns: the columns of the rows are those of the table.
pub(crate) fn relay_into(into: &TableName) -> String {
    format!("INSERT INTO {} FORMAT Native", table(into))
}

/// Selects one row from another server, with the account of a push or a pull.
pub(crate) fn reach(to: &Node) -> String {
    format!("SELECT dummy FROM {}", remote(to, &TableName::new("system", "one")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;
    use crate::sql::{Expression, KeyElement, PartitionFilter, Relation, SlotWidth};

    fn node() -> Node {
        Node { user: "u".into(), password: Secret::new("p'w"), ..Node::new("10.0.0.1") }
    }

    fn values() -> [String; 2] {
        ["`a`".into(), "toMonday(d)".into()]
    }

    fn all() -> Selection {
        Selection::all(Relation::plain(TableName::new("d", "t")))
    }

    #[test]
    fn a_push_inserts_into_the_remote_table_of_one_node() {
        assert_eq!(
            push(&node(), &TableName::new("d", "s"), &values(), &all()),
            r"INSERT INTO FUNCTION remote('10.0.0.1:9000', 'd', 's', 'u', 'p\'w') SELECT `a`, toMonday(d) FROM `d`.`t`"
        );
    }

    #[test]
    fn a_pull_selects_from_the_remote_table_of_the_source() {
        let node = Node { secure: true, ..node() };
        let columns = ["a".to_owned(), "m".to_owned()];
        assert_eq!(
            pull(&node, &TableName::new("d", "s"), &columns, &values(), &all()),
            r"INSERT INTO `d`.`s` (`a`, `m`) SELECT `a`, toMonday(d) FROM remoteSecure('10.0.0.1:9000', 'd', 't', 'u', 'p\'w')"
        );
    }

    #[test]
    fn conditions_do_not_see_the_names_of_relayed_values() {
        let columns = ["d".to_owned(), "a".to_owned()];
        let mut rows = all();
        rows.relation.condition = Some(Expression::parse("a > 1").unwrap());
        assert_eq!(
            relay_from(&columns, &values(), &rows, None),
            "SELECT `relayed 0` AS `d`, `relayed 1` AS `a` FROM (SELECT `a` AS `relayed 0`, toMonday(d) AS `relayed 1` \
             FROM `d`.`t` WHERE (a > 1))"
        );
        let slot = SlotKey { key: Expression::parse("a + 1").unwrap(), width: SlotWidth(64), total: 3 };
        assert_eq!(
            relay_from(&columns[..1], &values()[..1], &rows, Some(&slot)),
            "SELECT `relayed slot`, `relayed 0` AS `d` FROM (SELECT toUInt32(toUInt64(a + 1) % 3) AS `relayed slot`, \
             `a` AS `relayed 0` FROM `d`.`t` WHERE (a > 1))"
        );
    }

    /// Conditions on unchanged columns of the relation are next to the table, others around the subquery.
    #[test]
    fn a_condition_on_unchanged_columns_is_applied_to_the_table() {
        let column = |name: &str, expression: &str| (name.to_owned(), expression.to_owned());
        let mut rows = all();
        rows.relation.columns = Some(vec![column("d", "`d`"), column("a", "CAST(`a` AS String)")]);
        rows.relation.raw = vec!["d".into(), "a".into()];
        let element = |expression: &str| KeyElement { expression: expression.into(), type_name: "UInt32".into() };
        let filter = |expression: &str| PartitionFilter {
            elements: vec![element(expression)],
            values: vec![crate::model::PartitionValue(vec!["1".into()])],
        };
        rows.partitions = Some(filter("toYYYYMM(d)"));
        assert!(rows.filters_at_the_table());
        let inner = "FROM (SELECT `d`, CAST(`a` AS String) AS `a` FROM (SELECT `d`, `a` FROM `d`.`t`";
        let inner = inner.replace("SELECT `d`, CAST", "SELECT `d` AS `d`, CAST");
        assert_eq!(rows.select("1"), format!("SELECT 1 {inner} WHERE (toYYYYMM(d)) = 1))"));
        for replaced in ["a", "`a`", "f(a, 1)", r"`\x61`", "\"a\""] {
            rows.partitions = Some(filter(replaced));
            assert!(!rows.filters_at_the_table(), "{replaced}");
            assert_eq!(rows.select("1"), format!("SELECT 1 {inner})) WHERE ({replaced}) = 1"));
        }
        // A column of the relation alone is not the table's.
        rows.relation.raw.retain(|name| name != "d");
        rows.partitions = Some(filter("d"));
        assert!(!rows.filters_at_the_table());
    }
}
