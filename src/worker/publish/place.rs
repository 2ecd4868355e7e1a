//! The second half of a publication: puts the gathered rows in place, and counts the target.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::Instant;

use super::super::errors::{AttemptError, FinalError, Mismatch};
use super::super::table_rules::{merges_rows, policy};
use super::placed::{self, NodeRows};
use super::{Before, CATCH_UP_TIMEOUT, DISPLACED_TIMEOUT, Gathered, PARTITIONS_PER_ALTER, Publication};
use crate::client::codes::KEEPER_EXCEPTION;
use crate::client::{Placing, Settings};
use crate::model::{PartitionId, PartitionValue, PublicationNo};
use crate::protocol::{PartitionFacts, Policy, Published, Step, decide, is_complete};
use crate::runtime::clock::now;
use crate::runtime::fault_point::fault_point;

/// How often to check whether displaced parts are gone.
const DISPLACED_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The decided step for each partition of a target node, with the facts of the decision.
type Steps = BTreeMap<PartitionId, (Step, PartitionFacts)>;

/// The result on one target node.
struct NodeResult {
    /// The rows of the target's partitions, counted.
    counts: BTreeMap<PartitionId, u64>,
    /// The rows that were added, and those that stayed.
    placed: NodeRows,
    /// The remarks for the report.
    remarks: Vec<String>,
}

impl Publication<'_> {
    /// Counts, for `append`, the rows that partitions held before the first row was added, on every node that will get rows. `known`
    /// has the recorded numbers; after a batch has moved, some of its nodes are missing there.
    pub(crate) async fn rows_before(&self, gathered: &[Gathered], known: &Before) -> Result<Before, AttemptError> {
        let ids = partitions(gathered);
        let ids = ids.as_slice();
        let counts = gathered.iter().filter(|part| !known.contains_key(&part.node.address())).map(|part| async {
            if let Some(rows) = self.rows_of_another_replica(part, known) {
                self.catch_up(part).await?;
                return Ok((part.node.address(), rows));
            }
            let mut rows: BTreeMap<PartitionId, u64> = ids.iter().map(|id| (id.clone(), 0)).collect();
            rows.extend(self.context.pool.client.rows_by_partition(&part.node, &part.target.name, Some(ids)).await?);
            Ok::<_, AttemptError>((part.node.address(), rows))
        });
        let mut before = known.clone();
        before.extend(try_join_all(counts).await?);
        Ok(before)
    }

    /// Returns the recorded rows of another replica of a Replicated table. All replicas held the same rows.
    fn rows_of_another_replica(&self, part: &Gathered, known: &Before) -> Option<BTreeMap<PartitionId, u64>> {
        if !part.target.engine.is_replicated() {
            return None;
        }
        let task = self.context.task();
        let shard = &task.target(&task.tables[self.batch.table]).shards[part.shard];
        shard.replicas.iter().find_map(|node| known.get(&node.address()).cloned())
    }

    /// Waits until a replica has fetched all rows from the others. A lost replica may have got rows of this batch, and before they have
    /// arrived here the number of rows tells nothing.
    async fn catch_up(&self, part: &Gathered) -> Result<(), AttemptError> {
        let caught_up = self.context.pool.client.sync_replica(&part.node, &part.target.name);
        match tokio::time::timeout(CATCH_UP_TIMEOUT, caught_up).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Mismatch::NotCaughtUp {
                node: part.node.address(),
                table: part.target.name.clone(),
                within: CATCH_UP_TIMEOUT,
            }
            .into()),
        }
    }

    /// Puts the gathered rows in place, and counts the target. `earlier` is the part of `before` that an earlier attempt has recorded.
    pub(crate) async fn place(
        &self,
        gathered: &[Gathered],
        before: &Before,
        earlier: &Before,
    ) -> Result<Published, AttemptError> {
        let (started, began) = (Instant::now(), now());
        let renewed = self.renewed(gathered).await?;
        let everywhere: BTreeSet<PartitionId> =
            partitions(gathered).into_iter().chain(renewed.iter().cloned()).collect();
        let everywhere: Vec<PartitionId> = everywhere.into_iter().collect();
        let fault = self.context.randomness.strikes(self.context.worker_options.move_fault_probability);
        let injected = || AttemptError::from(Mismatch::WantedFault { flag: "--move-fault-probability" });
        // An injected fault comes before or after the rows are in place, as a real one would.
        if fault && self.context.randomness.strikes(0.5) {
            return Err(injected());
        }
        // Where merges, a TTL or rows of others would hide wrong contents in the target, they can only be found before the rows are in
        // place.
        let on_target = self.compares_target(gathered);
        let (mut checksums, mut verifying) = (None, Duration::ZERO);
        if !on_target {
            checksums = self.check_contents(gathered, false).await?;
            verifying += started.elapsed();
        }
        let placing = gathered.iter().map(|part| self.place_on(part, &everywhere, &renewed, before, earlier));
        // Wait for all nodes, even after an error: only then is it known which nodes have not begun.
        let counted = all_done(join_all(placing).await)?;
        fault_point("placed").await;
        if fault {
            return Err(injected());
        }
        let placed = Instant::now();
        let mut remarks = BTreeSet::new();
        for (part, done) in gathered.iter().zip(&counted) {
            remarks.extend(done.remarks.iter().cloned());
            remarks.extend(self.check_replicas(part, &done.counts).await?);
        }
        if on_target {
            checksums = self.check_contents(gathered, true).await?;
        }
        verifying += placed.elapsed();
        fault_point("publication-verified").await;
        let placed =
            placed::of_nodes(gathered.iter().zip(&counted).map(|(part, done)| (part.node.address(), &done.placed)));
        let counts: Vec<&BTreeMap<PartitionId, u64>> = counted.iter().map(|done| &done.counts).collect();
        let partitions = self.results(gathered, &counts, before, checksums);
        Ok(Published {
            partitions,
            millis: started.elapsed().as_millis() as u64,
            began,
            verifying: verifying.as_millis() as u64,
            gathering: 0,
            remarks: remarks.into_iter().collect(),
            placed: Some(placed),
        })
    }

    /// Returns the ids on the target of the partitions that an earlier pass has filled. These include partitions without staged rows,
    /// which the source no longer has.
    async fn renewed(&self, gathered: &[Gathered]) -> Result<BTreeSet<PartitionId>, AttemptError> {
        let plan = &self.context.plans[self.batch.table];
        let renewed = plan.partitions_of(self.batch.index).iter().filter(|partition| partition.renews);
        let staged: HashMap<&PartitionValue, &PartitionId> =
            gathered.iter().flat_map(|part| &part.values).map(|(id, value)| (value, id)).collect();
        let mut ids = BTreeSet::new();
        let mut unknown = BTreeSet::new();
        for partition in renewed {
            match staged.get(&partition.value).copied().or(partition.id.as_ref()) {
                Some(id) => drop(ids.insert(id.clone())),
                None => drop(unknown.insert(&partition.value)),
            }
        }
        if !unknown.is_empty() {
            let values = gathered.iter().map(|part| {
                let (client, table) = (&self.context.pool.client, &part.target.name);
                client.values_by_partition(&part.node, table, &plan.key)
            });
            let found = try_join_all(values).await?.into_iter().flatten();
            ids.extend(found.filter(|(_, value, _)| unknown.contains(value)).map(|(id, ..)| id));
        }
        Ok(ids)
    }

    /// Puts the gathered rows of a node in place, and counts its partitions.
    async fn place_on(
        &self,
        part: &Gathered,
        ids: &[PartitionId],
        renewed: &BTreeSet<PartitionId>,
        before: &Before,
        earlier: &Before,
    ) -> Result<NodeResult, AttemptError> {
        let client = &self.context.pool.client;
        let settings = self.context.target_settings(&part.node).await?;
        let steps = self.steps_on(part, ids, renewed, before, earlier).await?;
        self.carry_out(part, &steps, &settings).await?;
        let counts = client.rows_by_partition(&part.node, &part.target.name, Some(ids)).await?;
        let remarks = judge_counts(part, &steps, &counts)?;
        let placed = steps.iter().filter_map(|(id, (step, facts))| Some((id.clone(), placed::rows(step, *facts)?)));
        Ok(NodeResult { placed: placed.collect(), counts, remarks })
    }

    /// Reads the target's partitions on a node, and decides what to do with each.
    async fn steps_on(
        &self,
        part: &Gathered,
        ids: &[PartitionId],
        renewed: &BTreeSet<PartitionId>,
        before: &Before,
        earlier: &Before,
    ) -> Result<Steps, AttemptError> {
        let (context, table) = (self.context, &part.target.name);
        let (task, safe_mode) = (context.task(), context.worker_options.safe_mode);
        let job = &task.tables[self.batch.table];
        let present = context.pool.client.rows_by_partition(&part.node, table, Some(ids)).await?;
        let recorded =
            earlier.contains_key(&part.node.address()) || self.rows_of_another_replica(part, earlier).is_some();
        let mut steps = Steps::new();
        for id in ids {
            // Rows that an earlier pass has copied are replaced. With --safe-mode nothing is dropped.
            let ours = renewed.contains(id) && !safe_mode;
            let policy = if ours { Policy::Replace } else { policy(job, safe_mode) };
            let adds = policy == Policy::Append;
            let mut facts = PartitionFacts {
                staged: part.staged.get(id).copied().unwrap_or(0),
                present: present.get(id).copied().unwrap_or(0),
                same: None,
                before: before.get(&part.node.address()).filter(|_| adds).and_then(|rows| rows.get(id).copied()),
                retried: if adds { recorded } else { self.number > PublicationNo(1) },
                merges_rows: merges_rows(job, &part.target),
                expires: part.target.has_ttl(),
            };
            let mut step = decide(policy, facts);
            if step == Step::Compare {
                facts.same = Some(if adds { self.is_among(part, id).await? } else { self.is_same(part, id).await? });
                step = decide(policy, facts);
            }
            match &step {
                Step::Refuse(refusal) => {
                    let (node, partition, refusal) = (part.node.address(), id.clone(), *refusal);
                    return Err(FinalError::Refused { node, partition, table: table.clone(), refusal }.into());
                }
                Step::CountAgain => {
                    let (nodes, partition) = (vec![part.node.address()], id.clone());
                    return Err(AttemptError::Overtaken { nodes, partition, table: table.clone() });
                }
                _ => {}
            }
            steps.insert(id.clone(), (step, facts));
        }
        Ok(steps)
    }

    /// Performs the decided steps, and waits until a restart of the server can undo none of them.
    async fn carry_out(&self, part: &Gathered, steps: &Steps, settings: &Settings) -> Result<(), AttemptError> {
        let (client, table) = (&self.context.pool.client, &part.target.name);
        let ids_with = |wanted: Step| -> Vec<PartitionId> {
            steps.iter().filter(|(_, (step, _))| *step == wanted).map(|(id, _)| id.clone()).collect()
        };
        for chunk in ids_with(Step::Replace).chunks(PARTITIONS_PER_ALTER) {
            self.still_ours().await?;
            client.place(&part.node, Placing::Replace, table, &part.from, chunk, settings).await?;
        }
        for chunk in ids_with(Step::Drop).chunks(PARTITIONS_PER_ALTER) {
            self.still_ours().await?;
            client.drop_partitions(&part.node, table, chunk, settings).await?;
        }
        self.append(part, &ids_with(Step::Append), steps, settings).await?;
        let displaced = steps
            .iter()
            .filter(|(_, (step, facts))| matches!(step, Step::Replace | Step::Drop) && facts.present > 0)
            .map(|(id, _)| id.clone());
        self.await_displaced(part, &displaced.collect::<Vec<_>>()).await
    }

    /// Adds partitions to the target without removing rows. A Replicated table takes a part whose content it has seen for a
    /// duplicate, and refuses two equal parts (docs/clickhouse-behaviour.md, T5). The rows of such parts are inserted instead.
    async fn append(
        &self,
        part: &Gathered,
        ids: &[PartitionId],
        steps: &Steps,
        settings: &Settings,
    ) -> Result<(), AttemptError> {
        let client = &self.context.pool.client;
        let table = &part.target.name;
        for chunk in ids.chunks(PARTITIONS_PER_ALTER) {
            self.still_ours().await?;
            let attached = client.place(&part.node, Placing::Attach, table, &part.from, chunk, settings).await;
            if !part.target.engine.is_replicated() {
                attached?;
                continue;
            }
            if let Err(error) = attached
                && error.code() != Some(KEEPER_EXCEPTION)
            {
                return Err(error.into());
            }
            let now = client.rows_by_partition(&part.node, table, Some(chunk)).await?;
            for id in chunk {
                let unchanged =
                    steps.get(id).is_some_and(|(_, facts)| now.get(id).copied().unwrap_or(0) == facts.present);
                if unchanged {
                    let inserted = part.target.columns.iter().filter(|column| column.default_kind.is_inserted());
                    let columns: Vec<String> = inserted.map(|column| column.name.clone()).collect();
                    client.insert_partition(&part.node, table, &part.from, &columns, id, settings).await?;
                }
            }
        }
        Ok(())
    }

    /// Checks the record again before rows of the target change. A newer attempt renames the tables of this one, so that this one
    /// cannot use them; but the newer attempt could not rename tables on a node that was lost and is back.
    pub(super) async fn still_ours(&self) -> Result<(), AttemptError> {
        let now = self.ledger.batch(self.batch).await?;
        if now.is_done() || (now.publication, now.generation) != (self.number, self.record.generation) {
            return Err(FinalError::TakenOver.into());
        }
        Ok(())
    }

    /// Returns whether the staged partition and the target's partition have the same checksum.
    async fn is_same(&self, part: &Gathered, id: &PartitionId) -> Result<bool, AttemptError> {
        let client = &self.context.pool.client;
        let columns = &part.target.columns;
        let (ours, theirs) = tokio::try_join!(
            client.checksum(&part.node, &part.from, Some(id), columns),
            client.checksum(&part.node, &part.target.name, Some(id), columns)
        )?;
        Ok(ours == theirs)
    }

    /// Returns whether the target's partition contains a sample of the staged rows. It may contain rows of others too.
    async fn is_among(&self, part: &Gathered, id: &PartitionId) -> Result<bool, AttemptError> {
        let client = &self.context.pool.client;
        let columns = &part.target.columns;
        let (ours, found) = tokio::try_join!(
            client.sampled_rows(&part.node, &part.from, &part.from, id, columns),
            client.sampled_rows(&part.node, &part.target.name, &part.from, id, columns)
        )?;
        Ok(found == ours)
    }

    /// Waits until displaced parts are gone. On plain MergeTree they come back if the server restarts before that
    /// (docs/clickhouse-behaviour.md, T3), so the batch is not finished earlier.
    async fn await_displaced(&self, part: &Gathered, ids: &[PartitionId]) -> Result<(), AttemptError> {
        if ids.is_empty() || part.target.engine.is_replicated() {
            return Ok(());
        }
        let started = Instant::now();
        tracing::info!(
            node = part.node.address(),
            "{}: waiting until the replaced parts of {} are gone",
            part.node,
            part.target.name
        );
        loop {
            let left = self.context.pool.client.displaced_parts(&part.node, &part.target.name, ids).await?;
            if left == 0 {
                return Ok(());
            }
            if started.elapsed() > DISPLACED_TIMEOUT {
                let (node, table) = (part.node.address(), part.target.name.clone());
                return Err(Mismatch::ReplacedPartsLeft { node, table, left, after: DISPLACED_TIMEOUT }.into());
            }
            tokio::time::sleep(DISPLACED_CHECK_INTERVAL).await;
        }
    }
}

/// Compares the counted rows of a target node with the decided steps. Returns remarks for the report.
///
/// # Errors
/// [`AttemptError::Mismatch`] where a partition holds another number of rows than it must.
fn judge_counts(
    part: &Gathered,
    steps: &Steps,
    counts: &BTreeMap<PartitionId, u64>,
) -> Result<Vec<String>, AttemptError> {
    let (node, table) = (&part.node, &part.target.name);
    let mut remarks = Vec::new();
    for (id, (step, facts)) in steps {
        let (counted, staged) = (counts.get(id).copied().unwrap_or(0), facts.staged);
        if !is_complete(step, *facts, counted) {
            let (node, partition, table) = (node.address(), id.clone(), table.clone());
            return Err(Mismatch::WrongCount { node, partition, table, counted, staged }.into());
        }
        if *step == Step::Leave {
            remarks.push(format!("partition {id} of {table} was left as it is: it holds {counted} rows on {node}"));
        }
        if facts.expires && counted < staged {
            remarks.push(format!(
                "the TTL of {table} removed {} of {staged} rows of partition {id}: they are no loss of the copy",
                staged - counted
            ));
        }
    }
    Ok(remarks)
}

/// Returns the results of all nodes, or the first error. [`AttemptError::Overtaken`] comes before other errors, and names all
/// overtaken nodes.
fn all_done(results: Vec<Result<NodeResult, AttemptError>>) -> Result<Vec<NodeResult>, AttemptError> {
    let overtaken = |result: &Result<NodeResult, AttemptError>| match result {
        Err(AttemptError::Overtaken { nodes, partition, table }) => {
            Some((nodes.clone(), (partition.clone(), table.clone())))
        }
        _ => None,
    };
    let (nodes, partitions): (Vec<_>, Vec<_>) = results.iter().filter_map(overtaken).unzip();
    match partitions.into_iter().next() {
        Some((partition, table)) => Err(AttemptError::Overtaken { nodes: nodes.concat(), partition, table }),
        None => results.into_iter().collect(),
    }
}

/// Returns the partitions that have gathered rows on any node.
fn partitions(gathered: &[Gathered]) -> Vec<PartitionId> {
    let all: BTreeSet<&PartitionId> = gathered.iter().flat_map(|part| part.staged.keys()).collect();
    all.into_iter().cloned().collect()
}
