//! A table of another server, as a table function.

use std::ops::Range;

use super::quote::{ident, literal};
use super::select::SlotKey;
use crate::model::{Node, TableName};

/// Returns `remote(…)` (or `remoteSecure(…)`) of a table on exactly one node: an address of several nodes would be
/// written to on each, whatever the cluster says (docs/clickhouse-behaviour.md, T6).
///
/// With a named collection the statement contains neither address nor account. Database and table are always named,
/// because servers before 26.7 may lose those of the collection (docs/clickhouse-behaviour.md, §11). The caller must
/// not add a column list: 18.16 takes it for a second list of arguments (code 42).
pub fn remote(node: &Node, name: &TableName) -> String {
    let function = if node.secure { "remoteSecure" } else { "remote" };
    let (database, table) = (literal(&name.database), literal(&name.table));
    match &node.named_collection {
        Some(collection) => format!("{function}({}, database = {database}, table = {table})", ident(collection)),
        None => format!(
            "{function}({}, {database}, {table}, {}, {})",
            literal(&node.address()),
            literal(&node.user),
            literal(node.password.expose())
        ),
    }
}

/// Returns `remote()` of a table on a node of each target shard, with the sharding key that deals the rows to them:
/// each node gets the rows of its own slots. Servers support that from 21.2 on. Every address counts as a shard of
/// weight 1, so a node with more slots appears more often (docs/clickhouse-behaviour.md, §1).
///
/// Returns `None` if one call cannot name all of them: other accounts, a named collection, slots without a node, an
/// address that would be read as a pattern, or too many of them.
pub(crate) fn remote_dealt(to: &[(&Node, Range<u64>)], name: &TableName, key: &SlotKey) -> Option<String> {
    let (first, _) = to.first()?;
    let same_account =
        |node: &Node| node.user == first.user && node.password == first.password && node.secure == first.secure;
    let plain = |node: &Node| node.named_collection.is_none() && !node.address().contains([',', '|', '{', '}']);
    let mut in_order: Vec<&(&Node, Range<u64>)> = to.iter().collect();
    in_order.sort_by_key(|(_, slots)| slots.start);
    let mut next = 0;
    let mut addresses = Vec::new();
    for (node, slots) in in_order {
        if slots.start != next || slots.is_empty() || !plain(node) || !same_account(node) {
            return None;
        }
        next = slots.end;
        if next > MOST_ADDRESSES {
            return None;
        }
        addresses.extend(slots.clone().map(|_| node.address()));
    }
    (next == key.total).then(|| {
        format!(
            "{}({}, {}, {}, {}, {}, ({}))",
            if first.secure { "remoteSecure" } else { "remote" },
            literal(&addresses.join(",")),
            literal(&name.database),
            literal(&name.table),
            literal(&first.user),
            literal(first.password.expose()),
            key.key
        )
    })
}

/// The default of `table_function_remote_max_addresses`.
const MOST_ADDRESSES: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;
    use crate::sql::{Expression, SlotWidth};

    #[test]
    fn one_remote_call_repeats_each_shard_for_each_of_its_slots() {
        let (a, b) = (Node::new("a"), Node::new("b"));
        let table = TableName::new("d", "t");
        let key = |total| SlotKey { key: Expression::parse("id + 1").unwrap(), width: SlotWidth(32), total };
        let call = remote_dealt(&[(&b, 1..3), (&a, 0..1)], &table, &key(3)).unwrap();
        assert_eq!(call, "remote('a:9000,b:9000,b:9000', 'd', 't', 'default', '', (id + 1))");
        let other = Node { user: "other".into(), ..b.clone() };
        let collection = Node { named_collection: Some("c".into()), ..b.clone() };
        let pattern = Node::new("b{1,2}");
        for (to, total) in [
            (vec![(&a, 0..1), (&b, 2..3)], 3),
            (vec![(&a, 0..1), (&b, 1..2)], 3),
            (vec![(&a, 0..1), (&other, 1..2)], 2),
            (vec![(&a, 0..1), (&collection, 1..2)], 2),
            (vec![(&a, 0..1), (&pattern, 1..2)], 2),
            (vec![(&a, 0..1), (&b, 1..2000)], 2000),
            (vec![], 0),
        ] {
            assert_eq!(remote_dealt(&to, &table, &key(total)), None, "{to:?}");
        }
    }

    #[test]
    fn user_and_password_are_in_the_statement_only_without_a_named_collection() {
        let mut node =
            Node { port: 9440, user: "u".into(), password: Secret::new("p'w"), secure: true, ..Node::new("10.0.0.1") };
        let table = TableName::new("d", "it's");
        assert_eq!(remote(&node, &table), r"remoteSecure('10.0.0.1:9440', 'd', 'it\'s', 'u', 'p\'w')");
        node.named_collection = Some("target `1`".into());
        assert_eq!(remote(&node, &table), r"remoteSecure(`target \`1\``, database = 'd', table = 'it\'s')");
    }
}
