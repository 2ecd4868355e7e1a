//! Types and values of expressions.

use serde::Deserialize;

use super::super::{Error, Kind, Settings};
use super::{HttpServerClient, SHORT};
use crate::model::Node;
use crate::sql::{self, Selection};

/// The header of an answer in JSON.
#[derive(Deserialize)]
struct Header {
    meta: Vec<HeaderColumn>,
}

/// A column of an answer in JSON.
#[derive(Deserialize)]
struct HeaderColumn {
    #[serde(rename = "type")]
    type_name: String,
}

impl HttpServerClient {
    /// Returns the types of expressions over some rows, or without any table.
    pub(super) async fn types_of(
        &self,
        node: &Node,
        over: Option<&Selection>,
        expressions: &[String],
    ) -> Result<Vec<String>, Error> {
        let (doing, statement) = match over {
            Some(rows) => (
                format!("cannot evaluate {} over {}", expressions.join(", "), rows.relation.table),
                sql::types(rows, expressions),
            ),
            None => (format!("cannot evaluate {}", expressions.join(", ")), sql::types_without_table(expressions)),
        };
        let text = self.text(node, &doing, &statement, "JSON", SHORT, &Settings::new()).await?;
        let header: Header = serde_json::from_slice(&text).map_err(|error| Error {
            node: node.to_string(),
            doing,
            kind: Kind::Answer(error.to_string()),
        })?;
        Ok(header.meta.into_iter().map(|column| column.type_name).collect())
    }

    /// Evaluates expressions over the first rows.
    pub(super) async fn evaluate_first(
        &self,
        node: &Node,
        over: &Selection,
        expressions: &[String],
        rows: u64,
        settings: &Settings,
    ) -> Result<(), Error> {
        let doing = format!("cannot convert rows of {}", over.relation.table);
        let statement = sql::first_rows(over, expressions, rows);
        self.text(node, &doing, &statement, "Null", SHORT, settings).await.map(drop)
    }
}
