//! Putting what was gathered in place, and counting the target.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::Instant;

use crate::client::{Placing, Settings};
use crate::model::{PartitionId, PartitionValue};
use crate::protocol::{PartitionFacts, Policy, Published, Step, decide, is_complete};

use super::super::context::AttemptError;
use super::placed::{self, NodeRows};
use super::{Before, CATCH_UP_LIMIT, DISPLACED_LIMIT, Gathered, PER_ALTER, Publication};
use crate::runtime::clock::now;
use crate::runtime::fault_point::fault_point;

/// What was decided for each partition of a target node, and from which facts.
type Steps = BTreeMap<PartitionId, (Step, PartitionFacts)>;

/// What was done on one target node.
struct Done {
    /// Rows that the target's partitions hold, counted.
    counts: BTreeMap<PartitionId, u64>,
    /// What was put there, and what stayed.
    placed: NodeRows,
    /// What a person should know.
    remarks: Vec<String>,
}

impl Publication<'_> {
    /// For `append`: what the partitions held before the first row was added, on every node that is to get rows. `known` is
    /// what was recorded; a batch that has moved is to be added on nodes that are not in it.
    pub async fn look_before(&self, gathered: &[Gathered], known: &Before) -> Result<Before, AttemptError> {
        let ids = partitions(gathered);
        let ids = ids.as_slice();
        let looks = gathered.iter().filter(|part| !known.contains_key(&part.node.address())).map(|part| async {
            if let Some(rows) = self.of_another_replica(part, known) {
                self.catch_up(part).await?;
                return Ok((part.node.address(), rows));
            }
            let mut rows: BTreeMap<PartitionId, u64> = ids.iter().map(|id| (id.clone(), 0)).collect();
            rows.extend(self.context.pool.client.rows_by_partition(&part.node, &part.target.name, Some(ids)).await?);
            Ok::<_, AttemptError>((part.node.address(), rows))
        });
        let mut before = known.clone();
        before.extend(try_join_all(looks).await?);
        Ok(before)
    }

    /// Replicas of a Replicated table hold the same: what one held before, all did.
    fn of_another_replica(&self, part: &Gathered, known: &Before) -> Option<BTreeMap<PartitionId, u64>> {
        if !part.target.engine.is_replicated() {
            return None;
        }
        let task = self.context.task();
        let shard = &task.target(&task.tables[self.batch.table]).shards[part.shard];
        shard.replicas.iter().find_map(|node| known.get(&node.address()).cloned())
    }

    /// Rows that were added on a replica that is lost may be on their way here: until they are, their number tells nothing.
    async fn catch_up(&self, part: &Gathered) -> Result<(), AttemptError> {
        let caught_up = self.context.pool.client.sync_replica(&part.node, &part.target.name);
        match tokio::time::timeout(CATCH_UP_LIMIT, caught_up).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(AttemptError::Mismatch(format!(
                "{}: {} has not fetched everything from its other replicas within {} s: it cannot be told whether rows were \
                 added there",
                part.node,
                part.target.name,
                CATCH_UP_LIMIT.as_secs()
            ))),
        }
    }

    /// Puts what was gathered in place, and counts the target. `earlier` is the part of `before` that an earlier attempt has recorded.
    pub async fn place(
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
        let fault = self.context.strikes(self.context.worker_options.move_fault_probability);
        let wished = || AttemptError::Mismatch("a fault was wished for by --move-fault-probability".into());
        // A wished fault comes before the rows are in place or after, as a real one would.
        if fault && self.context.strikes(0.5) {
            return Err(wished());
        }
        // Wrong contents are best found before they are in place; where merges, a TTL or rows of others would hide them in the
        // target, that is the only time.
        let on_target = self.compares_target(gathered);
        let (mut checksums, mut verifying) = (None, Duration::ZERO);
        if !on_target {
            checksums = self.check_contents(gathered, false).await?;
            verifying += started.elapsed();
        }
        let placing = gathered.iter().map(|part| self.place_on(part, &everywhere, &renewed, (before, earlier)));
        // To the end on each node: only then is it known on which of them nothing was begun.
        let counted = all_done(join_all(placing).await)?;
        fault_point("placed").await;
        if fault {
            return Err(wished());
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

    /// The partitions of the batch that an earlier pass has filled, by their ids on the target: those too of which nothing is
    /// staged, since the source has no row of them any more.
    async fn renewed(&self, gathered: &[Gathered]) -> Result<BTreeSet<PartitionId>, AttemptError> {
        let plan = &self.context.plans[self.batch.table];
        let renewed = plan.partitions_of(self.batch.batch).iter().filter(|partition| partition.renews);
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
            let looks = gathered.iter().map(|part| {
                let (client, table) = (&self.context.pool.client, &part.target.name);
                client.values_by_partition(&part.node, table, &plan.key)
            });
            let found = try_join_all(looks).await?.into_iter().flatten();
            ids.extend(found.filter(|(_, value, _)| unknown.contains(value)).map(|(id, ..)| id));
        }
        Ok(ids)
    }

    async fn place_on(
        &self,
        part: &Gathered,
        ids: &[PartitionId],
        renewed: &BTreeSet<PartitionId>,
        before: (&Before, &Before),
    ) -> Result<Done, AttemptError> {
        let client = &self.context.pool.client;
        let settings = self.context.target_settings(&part.node).await?;
        let steps = self.steps_on(part, ids, renewed, before).await?;
        self.carry_out(part, &steps, &settings).await?;
        let counts = client.rows_by_partition(&part.node, &part.target.name, Some(ids)).await?;
        let remarks = judge_counts(part, &steps, &counts)?;
        let placed = steps.iter().filter_map(|(id, (step, facts))| Some((id.clone(), placed::rows(step, *facts)?)));
        Ok(Done { placed: placed.collect(), counts, remarks })
    }

    /// Looks at the target's partitions on a node, and decides what to do with each.
    async fn steps_on(
        &self,
        part: &Gathered,
        ids: &[PartitionId],
        renewed: &BTreeSet<PartitionId>,
        (before, earlier): (&Before, &Before),
    ) -> Result<Steps, AttemptError> {
        let (context, table) = (self.context, &part.target.name);
        let present = context.pool.client.rows_by_partition(&part.node, table, Some(ids)).await?;
        let recorded = earlier.contains_key(&part.node.address()) || self.of_another_replica(part, earlier).is_some();
        let mut steps = Steps::new();
        for id in ids {
            // What an earlier pass has copied is ours, and gives way; --safe-mode lets nothing be dropped all the same.
            let ours = renewed.contains(id) && !context.worker_options.safe_mode;
            let policy = if ours { Policy::Replace } else { context.policy(self.batch.table) };
            let adds = policy == Policy::Append;
            let mut facts = PartitionFacts {
                staged: part.staged.get(id).copied().unwrap_or(0),
                present: present.get(id).copied().unwrap_or(0),
                same: None,
                before: before.get(&part.node.address()).filter(|_| adds).and_then(|rows| rows.get(id).copied()),
                retried: if adds { recorded } else { self.number > 1 },
                merges_rows: context.merges_rows(self.batch.table, &part.target),
                expires: part.target.has_ttl(),
            };
            let mut step = decide(policy, facts);
            if step == Step::Compare {
                facts.same = Some(if adds { self.is_among(part, id).await? } else { self.is_same(part, id).await? });
                step = decide(policy, facts);
            }
            match &step {
                Step::Refuse(why) => {
                    return Err(AttemptError::Final(format!("{}: partition {id} of {table}: {why}", part.node)));
                }
                Step::LookAgain => {
                    let why = format!("{}: partition {id} of {table}: somebody else adds rows to it", part.node);
                    return Err(AttemptError::Overtaken { nodes: vec![part.node.address()], why });
                }
                _ => {}
            }
            steps.insert(id.clone(), (step, facts));
        }
        Ok(steps)
    }

    /// Does what was decided, and waits until nothing of it can be undone by a restart of the server.
    async fn carry_out(&self, part: &Gathered, steps: &Steps, settings: &Settings) -> Result<(), AttemptError> {
        let (client, table) = (&self.context.pool.client, &part.target.name);
        let of = |wanted: Step| -> Vec<PartitionId> {
            steps.iter().filter(|(_, (step, _))| *step == wanted).map(|(id, _)| id.clone()).collect()
        };
        for some in of(Step::Replace).chunks(PER_ALTER) {
            self.still_ours().await?;
            client.place(&part.node, Placing::Replace, table, &part.from, some, settings).await?;
        }
        for some in of(Step::Drop).chunks(PER_ALTER) {
            self.still_ours().await?;
            client.drop_partitions(&part.node, table, some, settings).await?;
        }
        self.append(part, &of(Step::Append), steps, settings).await?;
        let displaced = steps
            .iter()
            .filter(|(_, (step, facts))| matches!(step, Step::Replace | Step::Drop) && facts.present > 0)
            .map(|(id, _)| id.clone());
        self.await_displaced(part, &displaced.collect::<Vec<_>>()).await
    }

    /// Adds partitions to what is there. A Replicated table takes a part with a content that it has seen for a repetition,
    /// and refuses two equal parts (docs/clickhouse-behaviour.md, T5): their rows are inserted instead.
    async fn append(
        &self,
        part: &Gathered,
        ids: &[PartitionId],
        steps: &Steps,
        settings: &Settings,
    ) -> Result<(), AttemptError> {
        let client = &self.context.pool.client;
        let table = &part.target.name;
        for some in ids.chunks(PER_ALTER) {
            self.still_ours().await?;
            let attached = client.place(&part.node, Placing::Attach, table, &part.from, some, settings).await;
            if !part.target.engine.is_replicated() {
                attached?;
                continue;
            }
            if let Err(error) = attached
                && error.code() != Some(999)
            {
                return Err(error.into());
            }
            let now = client.rows_by_partition(&part.node, table, Some(some)).await?;
            for id in some {
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

    /// Looks at the record once more before rows of the target change. A newer attempt makes the tables of this one
    /// unreachable by renaming them; but not on a node that was lost and is back, where nobody could.
    pub(super) async fn still_ours(&self) -> Result<(), AttemptError> {
        let now = self.ledger.batch(self.batch).await?;
        if now.is_done() || (now.publication, now.generation) != (self.number, self.record.generation) {
            return Err(AttemptError::Final("another worker has taken over".into()));
        }
        Ok(())
    }

    async fn is_same(&self, part: &Gathered, id: &PartitionId) -> Result<bool, AttemptError> {
        let client = &self.context.pool.client;
        let columns = &part.target.columns;
        let (ours, theirs) = tokio::try_join!(
            client.checksum(&part.node, &part.from, Some(id), columns),
            client.checksum(&part.node, &part.target.name, Some(id), columns)
        )?;
        Ok(ours == theirs)
    }

    /// Whether a sample of the staged rows is in the target's partition, which may hold rows of others too.
    async fn is_among(&self, part: &Gathered, id: &PartitionId) -> Result<bool, AttemptError> {
        let client = &self.context.pool.client;
        let columns = &part.target.columns;
        let (ours, found) = tokio::try_join!(
            client.sampled_rows(&part.node, &part.from, &part.from, id, columns),
            client.sampled_rows(&part.node, &part.target.name, &part.from, id, columns)
        )?;
        Ok(found == ours)
    }

    /// On plain MergeTree, parts that were displaced come back if the server restarts before they are gone (docs/clickhouse-behaviour.md,
    /// T3): the batch is not finished before that.
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
            if started.elapsed() > DISPLACED_LIMIT {
                return Err(AttemptError::Mismatch(format!(
                    "{}: {left} replaced parts of {} are still there after {} s; they would come back if the server restarted",
                    part.node,
                    part.target.name,
                    DISPLACED_LIMIT.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Compares what a target node holds now with what was decided.
///
/// # Errors
/// [`AttemptError::Mismatch`] where a partition holds other rows than it must.
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
            return Err(AttemptError::Mismatch(format!(
                "{node}: partition {id} of {table} holds {counted} rows after {staged} were put in place"
            )));
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

/// Returns what was done on all nodes, or the first error. Nodes that must be looked at again come before other errors, all of them in
/// one error.
fn all_done(results: Vec<Result<Done, AttemptError>>) -> Result<Vec<Done>, AttemptError> {
    let overtaken = |result: &Result<Done, AttemptError>| match result {
        Err(AttemptError::Overtaken { nodes, why }) => Some((nodes.clone(), why.clone())),
        _ => None,
    };
    let (nodes, whys): (Vec<_>, Vec<_>) = results.iter().filter_map(overtaken).unzip();
    match whys.into_iter().next() {
        Some(why) => Err(AttemptError::Overtaken { nodes: nodes.concat(), why }),
        None => results.into_iter().collect(),
    }
}

/// The partitions of which any node has rows to be put in place.
fn partitions(gathered: &[Gathered]) -> Vec<PartitionId> {
    let all: BTreeSet<&PartitionId> = gathered.iter().flat_map(|part| part.staged.keys()).collect();
    all.into_iter().cloned().collect()
}
