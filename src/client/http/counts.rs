//! Numbers of rows, by partition and by the values of a key.

use std::collections::BTreeMap;

use clickhouse::Row;
use serde::Deserialize;

use super::super::{Error, Settings, Tally};
use super::text::{Text, texts, values_of};
use super::{COUNTING, HttpServerClient};
use crate::model::{Node, PartitionId, PartitionValue, TableName};
use crate::sql::{self, KeyElement, Selection};

#[derive(Row, Deserialize)]
struct CountRow {
    id: String,
    rows: u64,
}

#[derive(Row, Deserialize)]
struct TallyRow {
    values: Vec<Text>,
    shown: Vec<Text>,
    ids: Vec<String>,
    rows: u64,
}

#[derive(Row, Deserialize)]
struct ValuesRow {
    id: String,
    values: Vec<Text>,
    rows: u64,
}

#[derive(Row, Deserialize)]
struct KeyRow {
    values: Vec<Text>,
}

impl HttpServerClient {
    /// Returns the number of rows for each value of a key.
    pub(super) async fn count_by_key(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        settings: &Settings,
    ) -> Result<Vec<Tally>, Error> {
        let doing = format!("cannot count the rows of {}", rows.relation.table);
        let found: Vec<TallyRow> = self.rows_with(node, &doing, &sql::tally(rows, key), COUNTING, settings).await?;
        let tally = |row: TallyRow| {
            // A table without a partition key has one partition. Every version calls it so.
            let id = if key.is_empty() {
                Some(PartitionId("all".into()))
            } else {
                (!row.ids.is_empty()).then(|| PartitionId(row.ids.join("-")))
            };
            let value = PartitionValue(values_of(key, row.values));
            Tally { value, shown: texts(row.shown), id, rows: row.rows }
        };
        Ok(found.into_iter().map(tally).filter(|tally| tally.rows > 0).collect())
    }

    /// Returns the number of rows of each partition, or of some of them.
    pub(super) async fn count_in_partitions(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
        settings: &Settings,
    ) -> Result<BTreeMap<PartitionId, u64>, Error> {
        if only.is_some_and(<[PartitionId]>::is_empty) {
            return Ok(BTreeMap::new());
        }
        let doing = format!("cannot count the rows of {name}");
        let statement = sql::rows_by_partition(name, only);
        let rows: Vec<CountRow> = self.rows_with(node, &doing, &statement, COUNTING, settings).await?;
        Ok(rows.into_iter().map(|row| (PartitionId(row.id), row.rows)).collect())
    }

    /// Returns the answer of a statement that selects partitions, the values of a key in them, and their rows.
    pub(super) async fn values(
        &self,
        node: &Node,
        name: &TableName,
        statement: &str,
        key: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error> {
        let doing = format!("cannot count the rows of {name}");
        let rows: Vec<ValuesRow> = self.rows(node, &doing, statement, COUNTING).await?;
        let valued = |row: ValuesRow| (PartitionId(row.id), PartitionValue(values_of(key, row.values)), row.rows);
        Ok(rows.into_iter().map(valued).collect())
    }

    /// Returns the keys of about one row in `every`, sorted.
    pub(super) async fn keys_of_sample(
        &self,
        node: &Node,
        rows: &Selection,
        columns: &[KeyElement],
        every: u64,
        settings: &Settings,
    ) -> Result<Vec<Vec<String>>, Error> {
        let doing = format!("cannot sample the keys of {}", rows.relation.table);
        let statement = sql::sample_keys(rows, columns, every);
        let found: Vec<KeyRow> = self.rows_with(node, &doing, &statement, COUNTING, settings).await?;
        Ok(found.into_iter().map(|row| values_of(columns, row.values)).collect())
    }
}
