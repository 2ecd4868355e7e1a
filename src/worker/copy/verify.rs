//! Verification of a copied piece: compares the staged rows with the selected rows. Always compares counts; compares contents where the
//! task asks for that (`<verify>`).
//!
//! # Guarantees
//! - Rows that are recorded as copied were counted on the nodes that hold them, whatever the task says (I3).
//! - With `count` and `checksum` the source is read again after the transfer, with the same filter and the same values. With `none`
//!   the source is read again only where the number of staged rows is not the planned one, or where the plan has only an estimate
//!   (a slice).
//! - With `checksum` the sums are recorded with the piece, and compared again when its batch is published. They are compared on the
//!   target where nothing else may add or remove rows, otherwise on the gathered tables, right before these are put in place.

use std::sync::Arc;

use futures::future::try_join_all;

use super::super::errors::{AttemptError, FinalError, Mismatch};
use super::super::table_rules::lacks_columns;
use super::{Attempt, Source};
use crate::client::{Digest, Settings};
use crate::model::{AttemptNo, Node};
use crate::nodes::checksums::{Compared, Hashes, Measure};
use crate::protocol::Copied;
use crate::sql::{self, Relation, Selection};
use crate::task::Verify;

/// The rows and checksums that the source has after the transfer, for each partition of the batch.
struct Selected {
    rows: Vec<u64>,
    sums: Vec<u64>,
    /// The rows of each source, over all partitions.
    by_source: Vec<u64>,
}

impl Selected {
    /// Adds up the numbers of several sources.
    fn of_all(sources: Vec<Self>) -> Self {
        let add = |sums: &mut Vec<u64>, numbers: Vec<u64>| {
            sums.resize(sums.len().max(numbers.len()), 0);
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum = sum.wrapping_add(number));
        };
        let mut all = Self { rows: Vec::new(), sums: Vec::new(), by_source: Vec::new() };
        for source in sources {
            add(&mut all.rows, source.rows);
            add(&mut all.sums, source.sums);
            all.by_source.extend(source.by_source);
        }
        all
    }
}

impl Attempt<'_> {
    /// Checks that the rows selected at the source equal the rows staged on all target shards, and that replicas that are written one
    /// by one hold the same rows (I3).
    ///
    /// # Errors
    /// [`AttemptError::Mismatch`] where they differ. The piece is copied again then.
    pub(super) async fn verify(&self, sources: &[Source], nodes: &[Vec<Arc<Node>>]) -> Result<Copied, AttemptError> {
        let plan = self.plan();
        let piece = &plan.pieces[self.piece.index];
        let verify = self.context.task().tables[self.piece.table].verify;
        let hashes = self.hashes(nodes, verify).await?;
        let shards = self.measure_staged(nodes, hashes.as_ref()).await?;
        let arrived = shards.iter().fold(Measure { rows: 0, sum: 0 }, |all, shard| all.and(*shard));
        let staged = shards.iter().map(|shard| shard.rows).collect();
        if verify == Verify::None
            && piece.slice.is_none()
            && arrived.rows == piece.rows()
            && let Some(selected) = self.selected_as_staged(nodes).await?
        {
            return Ok(Copied { selected, staged, ..Copied::default() });
        }
        let selected =
            try_join_all(sources.iter().map(|source| self.select_again(&source.node, hashes.as_ref()))).await?;
        let selected = Selected::of_all(selected);
        let total: u64 = selected.rows.iter().sum();
        let nodes_of_sources = || sources.iter().map(|source| source.node.address()).collect();
        if total != arrived.rows {
            let sources = nodes_of_sources();
            return Err(Mismatch::OtherRows { sources, selected: total, staged: arrived.rows }.into());
        }
        if let Some(hashes) = &hashes {
            let sum = selected.sums.iter().fold(0u64, |all, sum| all.wrapping_add(*sum));
            if sum != arrived.sum {
                return Err(Mismatch::OtherChecksum {
                    sources: nodes_of_sources(),
                    rows: total,
                    selected: sum,
                    staged: arrived.sum,
                    column: self.differing_column(sources, nodes, hashes).await,
                }
                .into());
            }
        }
        for (source, found) in sources.iter().zip(&selected.by_source) {
            self.compare_with_plan(source, *found)?;
        }
        Ok(Copied { selected: selected.rows, staged, checksums: selected.sums, ..Copied::default() })
    }

    /// Compares the rows of a source with the planned number. A replica with fewer rows may not have fetched all of them yet, so the
    /// first attempt fails and another replica is tried.
    fn compare_with_plan(&self, source: &Source, found: u64) -> Result<(), AttemptError> {
        let Source { node, share } = source;
        let sliced = self.plan().pieces[self.piece.index].slice.is_some();
        if sliced || found == share.rows {
            return Ok(());
        }
        let replicas = self.context.source_shard(self.piece.table, share.shard).replicas.len();
        if self.number == AttemptNo(1) && found < share.rows && replicas > 1 {
            self.context.pool.suspect(node);
            return Err(Mismatch::FewerThanPlanned { node: node.address(), found, planned: share.rows }.into());
        }
        tracing::warn!(
            "{node}: {} had {} rows in piece {} when the task was planned, and {found} now",
            self.plan().source,
            share.rows,
            self.piece.index
        );
        Ok(())
    }

    /// Returns the columns to hash, where the task asks for checksums.
    async fn hashes(&self, nodes: &[Vec<Arc<Node>>], verify: Verify) -> Result<Option<Hashes>, AttemptError> {
        let Some(node) = nodes.iter().flatten().next().filter(|_| verify == Verify::Checksum) else { return Ok(None) };
        let target = self.context.target(self.piece.table, node).await?;
        Hashes::of(self.plan(), &target).map(Some).ok_or_else(|| lacks_columns(self.plan(), node))
    }

    /// Counts and hashes the staged rows of each target shard.
    async fn measure_staged(
        &self,
        nodes: &[Vec<Arc<Node>>],
        hashes: Option<&Hashes>,
    ) -> Result<Vec<Measure>, AttemptError> {
        let mut shards = vec![Measure { rows: 0, sum: 0 }; nodes.len()];
        for shard in self.plan().target_shards() {
            for (replica, node) in nodes[shard].iter().enumerate() {
                let found = self.measure_staged_on(node, hashes.map(Hashes::at_target).as_deref()).await?;
                let first = shards[shard];
                if replica > 0 && found != first {
                    return Err(Mismatch::UnequalReplicas {
                        first: nodes[shard][0].address(),
                        first_rows: first.rows,
                        second: node.address(),
                        second_rows: found.rows,
                    }
                    .into());
                }
                shards[shard] = found;
            }
        }
        Ok(shards)
    }

    async fn measure_staged_on(&self, node: &Node, hash: Option<&str>) -> Result<Measure, AttemptError> {
        let (client, staging) = (&self.context.pool.client, self.staging());
        let all = Selection::all(Relation::plain(staging));
        let Some(hash) = hash else {
            // Without a key the answer is one number, and 18.16 reads no values for it.
            let counts = client.tally(node, &all, &[], &Settings::new()).await?;
            return Ok(Measure { rows: counts.iter().map(|count| count.rows).sum(), sum: 0 });
        };
        Ok(Measure::of(&client.digest(node, &all, &[], hash, &Settings::new()).await?))
    }

    /// Returns the number of staged rows of each partition. Returns `None` where a staged partition is not in the plan by its value.
    async fn selected_as_staged(&self, nodes: &[Vec<Arc<Node>>]) -> Result<Option<Vec<u64>>, AttemptError> {
        let plan = self.plan();
        let batch = plan.pieces[self.piece.index].batch;
        let mut selected = vec![0; plan.batches[batch].partitions.len()];
        for node in nodes.iter().filter_map(|replicas| replicas.first()) {
            let staged = self.context.pool.client.value_by_partition(node, &self.staging(), &plan.key).await?;
            for (_, value, rows) in staged {
                match plan.position_in(batch, &value) {
                    Some(at) => selected[at] += rows,
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(selected))
    }

    /// Counts the rows of the piece at the source, and hashes them where `hashes` is given.
    async fn select_again(&self, source: &Arc<Node>, hashes: Option<&Hashes>) -> Result<Selected, AttemptError> {
        let plan = self.plan();
        let batch = plan.pieces[self.piece.index].batch;
        let partitions = plan.batches[batch].partitions.len();
        let (client, rows) = (&self.context.pool.client, plan.rows_of(self.piece.index));
        let settings = self.context.source_settings(source).await?;
        let found: Vec<Digest> = match hashes {
            Some(hashes) => client.digest(source, &rows, &plan.key, &hashes.at_source(), &settings).await?,
            None => {
                let tallies = client.tally(source, &rows, &plan.key, &settings).await?;
                tallies.into_iter().map(|tally| Digest { value: tally.value, rows: tally.rows, sum: 0 }).collect()
            }
        };
        let sums = if hashes.is_some() { vec![0u64; partitions] } else { Vec::new() };
        let mut selected = Selected { rows: vec![0; partitions], sums, by_source: Vec::new() };
        for digest in found {
            let Some(at) = plan.position_in(batch, &digest.value) else {
                let (node, partition) = (source.address(), digest.value);
                return Err(FinalError::ForeignPartition { node, partition }.into());
            };
            selected.rows[at] = digest.rows;
            if let Some(sum) = selected.sums.get_mut(at) {
                *sum = digest.sum;
            }
        }
        selected.by_source.push(selected.rows.iter().sum());
        Ok(selected)
    }

    /// Returns the first column whose checksum differs, for the message of a mismatch. Returns `None` where no column can be
    /// found.
    async fn differing_column(&self, sources: &[Source], nodes: &[Vec<Arc<Node>>], all: &Hashes) -> Option<String> {
        let plan = self.plan();
        let client = &self.context.pool.client;
        let rows = plan.rows_of(self.piece.index);
        for Compared { name, type_name, value } in &all.columns {
            let staged_hash = sql::values_hash([(name.as_str(), type_name.as_str())]);
            let source_hash = sql::values_hash([(value.as_str(), type_name.as_str())]);
            let mut selected = Measure { rows: 0, sum: 0 };
            for Source { node, .. } in sources {
                let settings = self.context.source_settings(node).await.ok()?;
                let found = client.digest(node, &rows, &[], &source_hash, &settings).await.ok()?;
                selected = selected.and(Measure::of(&found));
            }
            let mut staged = Measure { rows: 0, sum: 0 };
            for node in nodes.iter().filter_map(|replicas| replicas.first()) {
                let found = self.measure_staged_on(node, Some(&staged_hash)).await.ok()?;
                staged = staged.and(found);
            }
            if selected != staged {
                return Some(name.clone());
            }
        }
        None
    }
}
