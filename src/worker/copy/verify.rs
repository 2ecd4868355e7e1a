//! Whether what arrived is what was to be copied.

use std::sync::Arc;

use crate::model::Node;
use crate::protocol::Copied;

use super::super::site::AttemptError;
use super::Attempt;

impl Attempt<'_> {
    /// Rows selected at the source must equal rows staged, over all target shards; and replicas that are written to one
    /// by one must have the same (I3).
    pub(super) async fn verify(&self, source: &Arc<Node>, nodes: &[Vec<Arc<Node>>]) -> Result<Copied, AttemptError> {
        let plan = self.plan();
        let piece = &plan.pieces[self.piece.piece];
        let warehouse = &self.site.fleet.warehouse;
        let settings = self.site.source_settings(source).await?;
        let rows = plan.rows_of(self.piece.piece);
        let tallies = warehouse.tally(source, &rows, &plan.key, &settings).await?;
        let mut selected = vec![0; plan.batches[piece.batch].partitions.len()];
        for tally in &tallies {
            let Some(at) = plan.position_in(piece.batch, &tally.value) else {
                return Err(AttemptError::Final(format!(
                    "{source}: the source gives rows of partition {:?}, which was not asked for",
                    tally.shown
                )));
            };
            selected[at] = tally.rows;
        }
        let total: u64 = selected.iter().sum();
        let staging = self.staging();
        let mut staged = vec![0; nodes.len()];
        for shard in plan.target_shards() {
            for (replica, node) in nodes[shard].iter().enumerate() {
                let rows: u64 = warehouse.rows_by_partition(node, &staging, None).await?.values().sum();
                if replica > 0 && rows != staged[shard] {
                    return Err(AttemptError::Mismatch(format!(
                        "{} got {} rows and {node} {rows}, but both are to hold the same",
                        nodes[shard][0], staged[shard]
                    )));
                }
                staged[shard] = rows;
            }
        }
        let arrived: u64 = staged.iter().sum();
        if total != arrived {
            return Err(AttemptError::Mismatch(format!(
                "{source} has {total} rows to copy now, and {arrived} arrived: did the source change meanwhile?"
            )));
        }
        let replicas = self.site.source_shard(self.piece.table, piece.shard).replicas.len();
        if self.number == 1 && piece.slice.is_none() && total < piece.rows && replicas > 1 {
            self.site.fleet.suspect(source);
            return Err(AttemptError::Mismatch(format!(
                "{source} has {total} rows, but {} were seen when the task was planned: trying another replica",
                piece.rows
            )));
        }
        if piece.slice.is_none() && total != piece.rows {
            tracing::warn!(
                "{source}: {} had {} rows in piece {} when the task was planned, and {total} now",
                plan.source,
                piece.rows,
                self.piece.piece
            );
        }
        Ok(Copied { selected, staged, millis: 0 })
    }
}
