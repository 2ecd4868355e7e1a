//! The contents of a publication: compares the checksums of the gathered or published rows with those that were recorded when the
//! pieces were copied (`<verify>` `checksum`).

use std::collections::{BTreeMap, BTreeSet};

use super::super::errors::{AttemptError, Mismatch, StagingGone};
use super::super::table_rules::{lacks_columns, may_lose_rows, policy};
use super::{CopiedPiece, Gathered, Publication};
use crate::client::{Digest, Settings};
use crate::model::{Node, PartitionValue, TableName};
use crate::nodes::checksums::Hashes;
use crate::protocol::Policy;
use crate::sql::{KeyElement, PartitionFilter, Relation, Selection};
use crate::task::Verify;

/// A difference between the recorded checksums and those that were found.
struct Difference {
    /// The partition that differs. Absent where only the sums over all partitions were compared.
    partition: Option<String>,
}

impl Publication<'_> {
    /// Returns whether the contents of the batch are compared on the target. They are only where the target partitions may hold no
    /// other rows, and nothing may remove rows. Elsewhere they are compared on the gathered tables.
    pub(super) fn compares_target(&self, gathered: &[Gathered]) -> bool {
        let task = self.context.task();
        let job = &task.tables[self.batch.table];
        let own = matches!(policy(job, self.context.worker_options.safe_mode), Policy::Fail | Policy::Replace);
        own && !gathered.iter().any(|part| may_lose_rows(job, &part.target))
    }

    /// Compares the contents of each partition with the checksums recorded when its pieces were copied. Returns these checksums in
    /// the plan's order, or `None` where the task asks for none.
    ///
    /// # Errors
    /// [`AttemptError::StagingGone`] where gathered rows are not the recorded ones, [`AttemptError::Mismatch`] where rows of
    /// the target are not.
    pub(super) async fn check_contents(
        &self,
        gathered: &[Gathered],
        on_target: bool,
    ) -> Result<Option<Vec<u64>>, AttemptError> {
        if self.context.task().tables[self.batch.table].verify != Verify::Checksum {
            return Ok(None);
        }
        let plan = &self.context.plans[self.batch.table];
        let mut recorded = vec![0u64; plan.batches[self.batch.index].partitions.len()];
        for CopiedPiece { copied, .. } in &self.pieces {
            for (sum, of_piece) in recorded.iter_mut().zip(&copied.checksums) {
                *sum = sum.wrapping_add(*of_piece);
            }
        }
        let values: BTreeSet<&PartitionValue> = gathered.iter().flat_map(|part| part.values.values()).collect();
        if values.is_empty() {
            return Ok(Some(recorded));
        }
        let filter = PartitionFilter { elements: plan.key.clone(), values: values.into_iter().cloned().collect() };
        let mut found: BTreeMap<PartitionValue, u64> = BTreeMap::new();
        let mut shards: BTreeMap<usize, (&Gathered, Vec<Digest>)> = BTreeMap::new();
        for part in gathered {
            let hashes = Hashes::of(plan, &part.target).ok_or_else(|| lacks_columns(plan, &part.node))?;
            let table = if on_target { &part.target.name } else { &part.from };
            let digests = self.digest_on(&part.node, table, &filter, &plan.key, &hashes).await?;
            if let Some((first, of_first)) = shards.get(&part.shard) {
                if *of_first != digests {
                    let (first, second) = (first.node.address(), part.node.address());
                    return Err(Mismatch::UnequalContents { first, second, table: table.clone() }.into());
                }
                continue;
            }
            for digest in &digests {
                let sum = found.entry(digest.value.clone()).or_default();
                *sum = sum.wrapping_add(digest.sum);
            }
            shards.insert(part.shard, (part, digests));
        }
        match self.first_difference(&recorded, &found) {
            None => Ok(Some(recorded)),
            Some(Difference { partition }) if on_target => {
                Err(Mismatch::OtherContents { partition, table: plan.target.clone() }.into())
            }
            Some(Difference { partition }) => Err(StagingGone::Contents { partition }.into()),
        }
    }

    async fn digest_on(
        &self,
        node: &Node,
        table: &TableName,
        filter: &PartitionFilter,
        key: &[KeyElement],
        hashes: &Hashes,
    ) -> Result<Vec<Digest>, AttemptError> {
        let rows = Selection { partitions: Some(filter.clone()), ..Selection::all(Relation::plain(table.clone())) };
        let client = &self.context.pool.client;
        let mut digests = client.digest(node, &rows, key, &hashes.at_target(), &Settings::new()).await?;
        digests.sort_by(|a, b| a.value.cmp(&b.value));
        Ok(digests)
    }

    /// Returns the first partition whose checksum is not the recorded one. Where versions write the values of partitions
    /// differently, compares only the sums over all partitions.
    fn first_difference(&self, recorded: &[u64], found: &BTreeMap<PartitionValue, u64>) -> Option<Difference> {
        let plan = &self.context.plans[self.batch.table];
        let mut sums = vec![0u64; recorded.len()];
        for (value, sum) in found {
            match plan.position_in(self.batch.index, value) {
                Some(at) => sums[at] = *sum,
                None => {
                    let all = |sums: &mut dyn Iterator<Item = u64>| sums.fold(0u64, u64::wrapping_add);
                    let same = all(&mut recorded.iter().copied()) == all(&mut found.values().copied());
                    return (!same).then_some(Difference { partition: None });
                }
            }
        }
        let named = plan.partitions_of(self.batch.index).iter().zip(recorded.iter().zip(&sums));
        let (partition, _) = named.into_iter().find(|(_, (a, b))| a != b)?;
        Some(Difference { partition: Some(partition.name.clone()) })
    }
}
