//! The division of a large partition into slices.

use super::Planner;
use crate::client::Error;
use crate::nodes::settings::wanted_for_source;
use crate::plan::{self, Found};
use crate::sql::{KeyElement, PartitionFilter, Selection, Slice, key_elements, quote};

/// The number of sampled keys that determine the slices.
const SAMPLED_KEYS: u64 = 20_000;
/// The most columns of the sorting key to use.
const MAX_KEY_COLUMNS: usize = 3;

impl Planner<'_> {
    /// Divides a partition on one source shard by ranges of its sorting key, which the primary index can skip; otherwise by a hash.
    pub(super) async fn slices(&self, partition: &Found, shard: usize, count: u64) -> Result<Vec<Slice>, Error> {
        let Some(node) = self.survey.sources[shard].first() else { return Ok(Vec::new()) };
        let source = &self.survey.source;
        let mut columns = Vec::new();
        for name in key_elements(&source.sorting_key) {
            // Only plain columns that the copy reads unchanged.
            let Some(column) = source.column(name.trim_matches('`')) else { break };
            let element = KeyElement { expression: quote::ident(&column.name), type_name: column.type_name.clone() };
            let cast = self.survey.reading.columns.is_some();
            if cast || !element.is_cuttable() || columns.len() == MAX_KEY_COLUMNS {
                break;
            }
            columns.push(element);
        }
        let rows = Selection {
            partitions: Some(PartitionFilter {
                elements: self.survey.key.clone(),
                values: vec![partition.value.clone()],
            }),
            ..Selection::all(self.survey.relation())
        };
        if !columns.is_empty() {
            let settings = self.pool.settings(node, &wanted_for_source(self.task)).await?;
            let every = (partition.shards[shard].rows / SAMPLED_KEYS).max(1);
            let sample = self.pool.client.sample_keys(node, &rows, &columns, every, &settings).await?;
            if let Some(slices) = plan::ranges(&columns, &sample, count)
                && (slices.len() as u64 == count || self.job.number_of_splits <= 1)
            {
                return Ok(slices);
            }
        }
        let stored = self.survey.source.columns.iter().filter(|column| self.survey.columns.contains(&column.name));
        let hash = vec![crate::sql::row_hash(stored)];
        Ok((0..count).map(|number| Slice::Hash { expressions: hash.clone(), count, number }).collect())
    }
}
