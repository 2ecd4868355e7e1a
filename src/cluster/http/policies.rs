//! Policies that hide rows or values from our account.

use clickhouse::Row;
use serde::Deserialize;

use crate::model::{Node, TableName};
use crate::sql::{self, PolicyKind};

use super::super::Error;
use super::{HttpWarehouse, SHORT};

impl HttpWarehouse {
    /// Asks for the policies of a kind that may hide something of a table; none where the server does not tell.
    pub(super) async fn hiding_policies(
        &self,
        node: &Node,
        name: &TableName,
        kind: PolicyKind,
    ) -> Result<Vec<String>, Error> {
        let doing = format!("cannot look for policies of {name}");
        match self.rows(node, &doing, &sql::policies(kind, name), SHORT).await {
            Ok(rows) => Ok(hiding(rows)),
            // No such table, column or function in this release, or no right to look.
            Err(error) if matches!(error.code(), Some(46 | 47 | 60 | 344)) || error.is_denied() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

#[derive(Row, Deserialize)]
struct PolicyRow {
    name: String,
    restricts: u8,
    shows_all: u8,
}

/// The policies that may hide something: rows are shown that one of the permissive policies shows and all restrictive ones do.
fn hiding(rows: Vec<PolicyRow>) -> Vec<String> {
    let all_permitted = rows.iter().any(|row| row.restricts == 0 && row.shows_all != 0);
    let hides = |row: &PolicyRow| row.shows_all == 0 && (row.restricts != 0 || !all_permitted);
    rows.into_iter().filter(hides).map(|row| row.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_shows_all_rows_hides_none() {
        let row = |name: &str, restricts: bool, shows_all: bool| PolicyRow {
            name: name.into(),
            restricts: u8::from(restricts),
            shows_all: u8::from(shows_all),
        };
        assert_eq!(hiding(vec![row("a", false, false)]), ["a"]);
        assert_eq!(hiding(vec![row("a", false, false), row("all", false, true)]), Vec::<String>::new());
        assert_eq!(hiding(vec![row("a", true, false), row("all", false, true)]), ["a"]);
        assert_eq!(hiding(vec![]), Vec::<String>::new());
    }
}
