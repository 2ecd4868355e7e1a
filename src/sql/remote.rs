//! A table of another server, as a table function.

use crate::model::{Node, TableName};

use super::quote::{ident, literal};

/// `remote(…)` (or `remoteSecure(…)`) of a table on exactly one node: an address of several would be written to on each,
/// whatever the cluster says (facts file, T6).
///
/// With a named collection neither address nor account stand in the statement; database and table are named always,
/// because servers before 26.7 may lose those of the collection (facts file, §11). A column list behind it is for the
/// caller to leave out: 18.16 takes that for a second list of arguments (code 42).
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    #[test]
    fn an_account_stands_in_the_statement_only_without_a_named_collection() {
        let mut node =
            Node { port: 9440, user: "u".into(), password: Secret::new("p'w"), secure: true, ..Node::new("10.0.0.1") };
        let table = TableName::new("d", "it's");
        assert_eq!(remote(&node, &table), r"remoteSecure('10.0.0.1:9440', 'd', 'it\'s', 'u', 'p\'w')");
        node.named_collection = Some("target `1`".into());
        assert_eq!(remote(&node, &table), r"remoteSecure(`target \`1\``, database = 'd', table = 'it\'s')");
    }
}
