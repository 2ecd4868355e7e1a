//! Policies that hide rows or values from our account.

use clickhouse::Row;
use serde::Deserialize;

use crate::model::{Node, TableName};
use crate::sql::{self, PolicyKind};

use super::super::Error;
use super::joined_questions::Found;
use super::{HttpServerClient, SHORT};

impl HttpServerClient {
    /// Asks for the policies of a kind that may hide something of a table; none where the server does not tell.
    pub(super) async fn hiding_policies(
        &self,
        node: &Node,
        name: &TableName,
        kind: PolicyKind,
    ) -> Result<Vec<String>, Error> {
        let doing = format!("cannot look for policies of {name}");
        let question = match kind {
            PolicyKind::Row => "row policies",
            PolicyKind::Masking => "masking policies",
        };
        let ask = move |door, node, database, names| policies_of(door, node, database, names, kind);
        Ok(self.of_table(&self.catalog.policies, (node, question), name, &doing, ask).await?.unwrap_or_default())
    }
}

async fn policies_of(
    door: HttpServerClient,
    node: Node,
    database: String,
    names: Vec<String>,
    kind: PolicyKind,
) -> Result<Found<Vec<String>>, Error> {
    let rows: Vec<PolicyRow> = match door.rows(&node, "", &sql::policies(kind, &database, &names), SHORT).await {
        // No such table, column or function in this release, or no right to look.
        Err(error) if matches!(error.code(), Some(46 | 47 | 60 | 344)) || error.is_denied() => return Ok(Found::new()),
        rows => rows?,
    };
    let of_table = |name: String| {
        let its: Vec<&PolicyRow> = rows.iter().filter(|row| row.table.is_empty() || row.table == name).collect();
        (name, hiding(&its))
    };
    Ok(names.into_iter().map(of_table).collect())
}

#[derive(Row, Deserialize)]
struct PolicyRow {
    table: String,
    name: String,
    restricts: u8,
    shows_all: u8,
}

/// The policies that may hide something: rows are shown that one of the permissive policies shows and all restrictive ones do.
fn hiding(rows: &[&PolicyRow]) -> Vec<String> {
    let all_permitted = rows.iter().any(|row| row.restricts == 0 && row.shows_all != 0);
    let hides = |row: &PolicyRow| row.shows_all == 0 && (row.restricts != 0 || !all_permitted);
    rows.iter().filter(|row| hides(row)).map(|row| row.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_shows_all_rows_hides_none() {
        let row = |name: &str, restricts: bool, shows_all: bool| PolicyRow {
            table: String::new(),
            name: name.into(),
            restricts: u8::from(restricts),
            shows_all: u8::from(shows_all),
        };
        let told = |rows: &[PolicyRow]| hiding(&rows.iter().collect::<Vec<_>>());
        assert_eq!(told(&[row("a", false, false)]), ["a"]);
        assert_eq!(told(&[row("a", false, false), row("all", false, true)]), Vec::<String>::new());
        assert_eq!(told(&[row("a", true, false), row("all", false, true)]), ["a"]);
        assert_eq!(told(&[]), Vec::<String>::new());
    }
}
