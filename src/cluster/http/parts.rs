//! What `system.parts` says of a table.

use std::collections::BTreeSet;

use clickhouse::Row;
use serde::Deserialize;

use crate::model::{Node, PartitionId, TableName};
use crate::sql;

use super::super::{Error, PartList, PartName, PartSizes};
use super::text::Text;
use super::{HttpWarehouse, SHORT};

#[derive(Row, Deserialize)]
struct PartsRow {
    id: String,
    name: Text,
    rows: u64,
    bytes: u64,
    deleted: u8,
}

#[derive(Row, Deserialize)]
struct PartRow {
    id: String,
    name: String,
    rows: u64,
    hash: String,
}

impl HttpWarehouse {
    /// Reads what the active parts of a table hold, by partition.
    pub(super) async fn partition_sizes(&self, node: &Node, name: &TableName) -> Result<Vec<PartSizes>, Error> {
        let doing = format!("cannot read the parts of {name}");
        let columns = self.columns_of(node, "parts").await?;
        let deletes = columns.iter().any(|column| column == "has_lightweight_delete");
        Ok(sizes(self.rows(node, &doing, &sql::parts(name, deletes), SHORT).await?))
    }

    /// Reads the active parts of a table, one by one.
    pub(super) async fn active_parts(&self, node: &Node, name: &TableName) -> Result<PartList, Error> {
        let doing = format!("cannot read the parts of {name}");
        let columns = self.columns_of(node, "parts").await?;
        let hashes = columns.iter().any(|column| column == "hash_of_uncompressed_files");
        let columns = self.columns_of(node, "tables").await?;
        let uuids = columns.iter().any(|column| column == "uuid");
        let table: Vec<String> = self.rows(node, &doing, &sql::table_mark(name, uuids), SHORT).await?;
        let parts: Vec<PartRow> = self.rows(node, &doing, &sql::part_list(name, hashes), SHORT).await?;
        let part = |row: PartRow| PartName { id: PartitionId(row.id), name: row.name, rows: row.rows, hash: row.hash };
        Ok(PartList { table: table.concat(), parts: parts.into_iter().map(part).collect() })
    }
}

/// Returns the partitions. Patch parts are none: they mark the one that they change.
fn sizes(rows: Vec<PartsRow>) -> Vec<PartSizes> {
    let ids = rows.iter().map(|row| PartitionId(row.id.clone()));
    let patched: BTreeSet<PartitionId> = ids.filter_map(|id| id.patched()).collect();
    let sizes = |row: PartsRow| {
        let id = PartitionId(row.id);
        let patched = patched.contains(&id);
        let exact = row.deleted == 0 && !patched;
        PartSizes { id, name: row.name.0, rows: row.rows, bytes: row.bytes, exact, patched }
    };
    rows.into_iter().map(sizes).filter(|part| part.id.patched().is_none()).collect()
}
