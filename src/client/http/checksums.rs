//! Checksums of tables, of partitions and of selected rows.

use clickhouse::Row;
use serde::Deserialize;

use super::super::{Digest, Error, Settings};
use super::text::{Text, values_of};
use super::{COUNTING, HttpServerClient};
use crate::model::{Node, PartitionId, PartitionValue, TableName};
use crate::sql::{self, Column, KeyElement, Selection};

#[derive(Row, Deserialize)]
struct ChecksumRow {
    rows: u64,
    sum: u64,
}

#[derive(Row, Deserialize)]
struct DigestRow {
    values: Vec<Text>,
    rows: u64,
    sum: u64,
}

impl HttpServerClient {
    /// Returns the number of rows and the checksum of a table, or of one partition of it.
    pub(super) async fn checksum_of_table(
        &self,
        node: &Node,
        name: &TableName,
        id: Option<&PartitionId>,
        columns: &[Column],
    ) -> Result<(u64, u64), Error> {
        let doing = format!("cannot compute the checksum of {name}");
        let rows: Vec<ChecksumRow> = self.rows(node, &doing, &sql::checksum(name, id, columns), COUNTING).await?;
        Ok(rows.into_iter().fold((0, 0), |(rows, sum), row| (rows + row.rows, sum.wrapping_add(row.sum))))
    }

    /// Returns how many different rows of a sample a partition holds.
    pub(super) async fn count_of_sample(
        &self,
        node: &Node,
        name: &TableName,
        sample: &TableName,
        id: &PartitionId,
        columns: &[Column],
    ) -> Result<u64, Error> {
        let doing = format!("cannot look for rows of {sample} in {name}");
        let rows: Vec<u64> = self.rows(node, &doing, &sql::sampled_rows(name, sample, id, columns), COUNTING).await?;
        Ok(rows.into_iter().sum())
    }

    /// Returns the number of rows and the checksum for each value of a key.
    pub(super) async fn digest_by_key(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        hash: &str,
        settings: &Settings,
    ) -> Result<Vec<Digest>, Error> {
        let doing = format!("cannot compute the checksum of rows of {}", rows.relation.table);
        let statement = sql::digest(rows, key, hash);
        let found: Vec<DigestRow> = self.rows_with(node, &doing, &statement, COUNTING, settings).await?;
        let digest = |row: DigestRow| {
            let value = PartitionValue(values_of(key, row.values));
            Digest { value, rows: row.rows, sum: row.sum }
        };
        Ok(found.into_iter().map(digest).filter(|digest| digest.rows > 0).collect())
    }
}
