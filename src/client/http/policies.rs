//! Policies that hide rows or values from our account.

use clickhouse::Row;
use serde::Deserialize;

use super::super::Error;
use super::super::codes::{SUPPORT_IS_DISABLED, UNKNOWN_FUNCTION, UNKNOWN_IDENTIFIER, UNKNOWN_TABLE};
use super::joined_questions::Found;
use super::{HttpServerClient, SHORT};
use crate::model::{Node, TableName};
use crate::sql::{self, PolicyKind};

impl HttpServerClient {
    /// Returns the policies of a kind that may hide parts of a table; none if the server does not list them.
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
        let ask = move |client, node, database, names| policies_of(client, node, database, names, kind);
        Ok(self.of_table(&self.catalog.policies, node, question, name, &doing, ask).await?.unwrap_or_default())
    }
}

async fn policies_of(
    client: HttpServerClient,
    node: Node,
    database: String,
    names: Vec<String>,
    kind: PolicyKind,
) -> Result<Found<Vec<String>>, Error> {
    let rows: Vec<PolicyRow> = match client.rows(&node, "", &sql::policies(kind, &database, &names), SHORT).await {
        // The release has no such table, column or function, or the account has no right to read it.
        Err(error)
            if matches!(
                error.code(),
                Some(UNKNOWN_FUNCTION | UNKNOWN_IDENTIFIER | UNKNOWN_TABLE | SUPPORT_IS_DISABLED)
            ) || error.is_denied() =>
        {
            return Ok(Found::new());
        }
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

/// Returns the policies that may hide rows. A row is visible if one of the permissive policies and all restrictive
/// ones show it.
fn hiding(rows: &[&PolicyRow]) -> Vec<String> {
    let all_permitted = rows.iter().any(|row| row.restricts == 0 && row.shows_all != 0);
    let hides = |row: &PolicyRow| row.shows_all == 0 && (row.restricts != 0 || !all_permitted);
    rows.iter().filter(|row| hides(row)).map(|row| row.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_policy_that_shows_all_rows_hides_none() {
        let row = |name: &str, restricts: bool, shows_all: bool| PolicyRow {
            table: String::new(),
            name: name.into(),
            restricts: u8::from(restricts),
            shows_all: u8::from(shows_all),
        };
        let names = |rows: &[PolicyRow]| hiding(&rows.iter().collect::<Vec<_>>());
        assert_eq!(names(&[row("a", false, false)]), ["a"]);
        assert_eq!(names(&[row("a", false, false), row("all", false, true)]), Vec::<String>::new());
        assert_eq!(names(&[row("a", true, false), row("all", false, true)]), ["a"]);
        assert_eq!(names(&[]), Vec::<String>::new());
    }
}
