//! Running statements.

use clickhouse::Row;
use serde::Deserialize;

use super::super::{Error, Running};
use super::{HttpServerClient, QUICK};
use crate::model::Node;
use crate::sql::{self, EventColumns};

#[derive(Row, Deserialize)]
struct RunningRow {
    query_id: String,
    elapsed: f64,
    read_rows: u64,
    written_rows: u64,
    moved: u64,
}

impl HttpServerClient {
    /// Returns the running statements whose ids begin with a prefix.
    pub(super) async fn statements_running(&self, node: &Node, prefix: &str) -> Result<Vec<Running>, Error> {
        let doing = "cannot list running statements";
        let columns = self.columns_within(node, "processes", QUICK).await?;
        let has = |column: &str| columns.iter().any(|name| name == column);
        let events = match () {
            () if has("ProfileEvents.Values") => EventColumns::Arrays,
            () if has("ProfileEvents") => EventColumns::Map,
            () => EventColumns::None,
        };
        let rows: Vec<RunningRow> = self.rows(node, doing, &sql::running(prefix, events), QUICK).await?;
        let running = |row: RunningRow| Running {
            query_id: row.query_id,
            elapsed: row.elapsed,
            read_rows: row.read_rows,
            written_rows: row.written_rows,
            moved: row.moved,
        };
        Ok(rows.into_iter().map(running).collect())
    }
}
