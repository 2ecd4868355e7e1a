//! One attempt at publishing a batch: take the staging tables, gather, look, put in place, count (design §3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};

use crate::cluster::Placing;
use crate::model::{Node, PartitionId, PartitionValue, TableName};
use crate::protocol::{
    BatchRecord, BatchRef, BatchTable, Copied, PartitionFacts, PartitionResult, PieceRef, Policy, Published, Step,
    decide, is_complete,
};
use crate::sql::TableDefinition;

use super::fault_point::fault_point;
use super::site::{AttemptError, Site};

/// So many partitions go into one ALTER (100 took 0.2 s on 18.16).
const PER_ALTER: usize = 100;
/// How long to wait until displaced parts are gone; 18.16 takes about ten seconds.
const DISPLACED_LIMIT: Duration = Duration::from_secs(900);

/// Rows that partitions held before the first row of ours was added, by the address of the node.
pub type Before = BTreeMap<String, BTreeMap<PartitionId, u64>>;

/// An attempt at publishing a batch.
pub struct Publication<'a> {
    /// What it works with.
    pub site: &'a Site,
    /// The batch.
    pub batch: BatchRef,
    /// Its number.
    pub number: u32,
    /// The batch's record.
    pub record: BatchRecord,
    /// Its pieces, each with the attempt that was recorded.
    pub pieces: Vec<(PieceRef, u32, Copied)>,
}

/// What waits on one target node.
pub struct Gathered {
    shard: usize,
    node: Arc<Node>,
    target: Arc<TableDefinition>,
    /// The table that holds all of the batch's rows for this node.
    from: TableName,
    /// Every table of the batch there, to be dropped at the end.
    tables: Vec<TableName>,
    /// Rows by partition, counted.
    staged: BTreeMap<PartitionId, u64>,
    /// What value each partition has.
    values: BTreeMap<PartitionId, PartitionValue>,
}

impl Publication<'_> {
    /// Takes the staged rows for this attempt and gathers them, on each target node, in one table; counts them there.
    ///
    /// Cancellation: tables stay; the next attempt takes them over.
    pub async fn gather(&self) -> Result<Vec<Gathered>, AttemptError> {
        let nodes = self.site.target_nodes(self.batch.table, &self.record.nodes)?;
        let places: Vec<(usize, &Arc<Node>)> =
            nodes.iter().enumerate().flat_map(|(shard, nodes)| nodes.iter().map(move |node| (shard, node))).collect();
        let taken = try_join_all(places.iter().map(|(_, node)| self.take(node))).await?;
        fault_point("staging-renamed").await;
        let gathered =
            try_join_all(places.iter().zip(taken).map(|((shard, node), tables)| self.gather_on(*shard, node, tables)))
                .await?;
        self.check_partitions(&gathered)?;
        fault_point("gathered").await;
        Ok(gathered)
    }

    /// Renames the recorded staging tables to names of this attempt, so that an earlier publisher that thaws finds
    /// neither them nor its own assembly.
    async fn take(&self, node: &Node) -> Result<Vec<TableName>, AttemptError> {
        let warehouse = &self.site.fleet.warehouse;
        let target = &self.site.plans[self.batch.table].target;
        let prefix = self.site.id.batch_tables(self.batch);
        let settings = self.site.target_settings(node).await?;
        let mut newest: BTreeMap<usize, (Option<u32>, String)> = BTreeMap::new();
        for name in warehouse.tables_with_prefix(node, &target.database, &prefix).await? {
            let recorded = |piece: usize, attempt: u32| {
                self.pieces.iter().any(|(of, number, _)| of.piece == piece && *number == attempt)
            };
            match name.strip_prefix(&prefix).and_then(BatchTable::parse) {
                Some(BatchTable::Staging { piece, attempt, publication }) if recorded(piece, attempt) => {
                    let entry = newest.entry(piece).or_insert((publication, name.clone()));
                    if publication > entry.0 {
                        *entry = (publication, name);
                    }
                }
                Some(_) => warehouse.drop_table(node, &target.beside(name), &settings).await?,
                None => {}
            }
        }
        let mut renames = Vec::new();
        let mut own = Vec::new();
        for (piece, attempt, _) in &self.pieces {
            let Some((_, name)) = newest.remove(&piece.piece) else {
                return Err(AttemptError::Final(format!(
                    "{node}: the staged rows of piece {} are gone (table {})",
                    piece.piece,
                    target.beside(self.site.id.staging(self.batch, *piece, *attempt))
                )));
            };
            let wanted = target.beside(self.site.id.taken(self.batch, *piece, *attempt, self.number));
            if name != wanted.table {
                renames.push((target.beside(name), wanted.clone()));
            }
            own.push(wanted);
        }
        warehouse.rename(node, &renames).await?;
        Ok(own)
    }

    async fn gather_on(
        &self,
        shard: usize,
        node: &Arc<Node>,
        mut tables: Vec<TableName>,
    ) -> Result<Gathered, AttemptError> {
        let site = self.site;
        let warehouse = &site.fleet.warehouse;
        let plan = &site.plans[self.batch.table];
        let target = site.target(self.batch.table, node).await?;
        let from = match tables.as_slice() {
            [one] => one.clone(),
            many => {
                let assembly = plan.target.beside(site.id.assembly(self.batch, self.number));
                let settings = site.target_settings(node).await?;
                let statement = target
                    .create_staging(&assembly, &plan.columns)
                    .ok_or_else(|| site.lacks(self.batch.table, node))?;
                warehouse.create_table(node, &assembly, &statement, &settings).await?;
                if target.engine.is_old_syntax() {
                    warehouse.stop_merges(node, &assembly).await?;
                }
                for table in many {
                    let ids: Vec<PartitionId> =
                        warehouse.rows_by_partition(node, table, None).await?.into_keys().collect();
                    for some in ids.chunks(PER_ALTER) {
                        warehouse.place(node, Placing::Attach, &assembly, table, some, &settings).await?;
                    }
                }
                tables.push(assembly.clone());
                assembly
            }
        };
        let mut staged: BTreeMap<PartitionId, u64> = BTreeMap::new();
        let mut values = BTreeMap::new();
        for (id, value, rows) in warehouse.values_by_partition(node, &from, &plan.key).await? {
            *staged.entry(id.clone()).or_default() += rows;
            values.insert(id, value);
        }
        let expected: u64 = self.pieces.iter().map(|(_, _, copied)| copied.staged[shard]).sum();
        let found: u64 = staged.values().sum();
        if expected != found {
            return Err(AttemptError::Final(format!(
                "{node}: {expected} rows were staged for this batch, and {found} are there"
            )));
        }
        Ok(Gathered { shard, node: node.clone(), target, from, tables, staged, values })
    }

    /// Rows selected must equal rows staged for each partition, not only for all of them together.
    fn check_partitions(&self, gathered: &[Gathered]) -> Result<(), AttemptError> {
        let plan = &self.site.plans[self.batch.table];
        let selected = self.selected();
        let mut staged = vec![0; selected.len()];
        let mut seen = BTreeSet::new();
        for part in gathered.iter().filter(|part| seen.insert(part.shard)) {
            for (id, rows) in &part.staged {
                let Some(at) = part.values.get(id).and_then(|value| plan.position_in(self.batch.batch, value)) else {
                    // Texts of values may differ between versions; the sums were compared.
                    tracing::warn!(
                        "{}: partition {id} of {} has no counterpart at the source by name",
                        part.node,
                        plan.target
                    );
                    return Ok(());
                };
                staged[at] += rows;
            }
        }
        for ((partition, selected), staged) in plan.partitions_of(self.batch.batch).iter().zip(selected).zip(staged) {
            if selected != staged {
                return Err(AttemptError::Final(format!(
                    "partition {}: {selected} rows were selected at the source, and {staged} were staged",
                    partition.name
                )));
            }
        }
        Ok(())
    }

    fn selected(&self) -> Vec<u64> {
        let mut selected = vec![0; self.site.plans[self.batch.table].batches[self.batch.batch].partitions.len()];
        for (_, _, copied) in &self.pieces {
            for (sum, rows) in selected.iter_mut().zip(&copied.selected) {
                *sum += rows;
            }
        }
        selected
    }

    /// For `append`: what the partitions hold before the first row is added.
    pub async fn look_before(&self, gathered: &[Gathered]) -> Result<Before, AttemptError> {
        let looks = gathered.iter().map(|part| async {
            let ids: Vec<PartitionId> = part.staged.keys().cloned().collect();
            let mut rows: BTreeMap<PartitionId, u64> = ids.iter().map(|id| (id.clone(), 0)).collect();
            rows.extend(self.site.fleet.warehouse.rows_by_partition(&part.node, &part.target.name, Some(&ids)).await?);
            Ok::<_, AttemptError>((part.node.address(), rows))
        });
        Ok(try_join_all(looks).await?.into_iter().collect())
    }

    /// Puts what was gathered in place, and counts the target.
    pub async fn place(&self, gathered: &[Gathered], before: &Before) -> Result<Published, AttemptError> {
        let started = Instant::now();
        let mut everywhere: BTreeSet<PartitionId> = BTreeSet::new();
        for part in gathered {
            everywhere.extend(part.staged.keys().cloned());
        }
        let fault = self.site.strikes(self.site.conduct.move_fault_probability);
        let wished = || AttemptError::Mismatch("a fault was wished for by --move-fault-probability".into());
        // A wished fault comes before the rows are in place or after, as a real one would.
        if fault && self.site.strikes(0.5) {
            return Err(wished());
        }
        let counted = try_join_all(gathered.iter().map(|part| self.place_on(part, &everywhere, before))).await?;
        fault_point("placed").await;
        if fault {
            return Err(wished());
        }
        let mut remarks = BTreeSet::new();
        for (part, (counts, more)) in gathered.iter().zip(&counted) {
            remarks.extend(more.iter().cloned());
            remarks.extend(self.check_replicas(part, counts).await?);
        }
        fault_point("publication-verified").await;
        let partitions = self.results(gathered, &counted, before);
        Ok(Published {
            partitions,
            millis: started.elapsed().as_millis() as u64,
            remarks: remarks.into_iter().collect(),
        })
    }

    async fn place_on(
        &self,
        part: &Gathered,
        everywhere: &BTreeSet<PartitionId>,
        before: &Before,
    ) -> Result<(BTreeMap<PartitionId, u64>, Vec<String>), AttemptError> {
        let site = self.site;
        let warehouse = &site.fleet.warehouse;
        let table = &part.target.name;
        let policy = site.policy(self.batch.table);
        let settings = site.target_settings(&part.node).await?;
        let ids: Vec<PartitionId> = everywhere.iter().cloned().collect();
        let present = warehouse.rows_by_partition(&part.node, table, Some(&ids)).await?;
        let mut steps: BTreeMap<PartitionId, (Step, PartitionFacts)> = BTreeMap::new();
        for id in &ids {
            let mut facts = PartitionFacts {
                staged: part.staged.get(id).copied().unwrap_or(0),
                present: present.get(id).copied().unwrap_or(0),
                same: None,
                before: (policy == Policy::Append)
                    .then(|| before.get(&part.node.address()).and_then(|rows| rows.get(id)).copied().unwrap_or(0)),
                retried: self.number > 1,
                merges_rows: part.target.engine.merges_rows(),
                expires: part.target.has_ttl(),
            };
            let mut step = decide(policy, facts);
            if step == Step::Compare {
                facts.same = Some(self.is_same(part, id).await?);
                step = decide(policy, facts);
            }
            if let Step::Refuse(why) = &step {
                return Err(AttemptError::Final(format!("{}: partition {id} of {table}: {why}", part.node)));
            }
            steps.insert(id.clone(), (step, facts));
        }
        let of = |wanted: Step| -> Vec<PartitionId> {
            steps.iter().filter(|(_, (step, _))| *step == wanted).map(|(id, _)| id.clone()).collect()
        };
        for some in of(Step::Replace).chunks(PER_ALTER) {
            warehouse.place(&part.node, Placing::Replace, table, &part.from, some, &settings).await?;
        }
        for some in of(Step::Drop).chunks(PER_ALTER) {
            warehouse.drop_partitions(&part.node, table, some, &settings).await?;
        }
        self.append(part, &of(Step::Append), &steps, &settings).await?;
        let displaced: Vec<PartitionId> = steps
            .iter()
            .filter(|(_, (step, facts))| matches!(step, Step::Replace | Step::Drop) && facts.present > 0)
            .map(|(id, _)| id.clone())
            .collect();
        self.await_displaced(part, &displaced).await?;
        let counts = warehouse.rows_by_partition(&part.node, table, Some(&ids)).await?;
        let mut remarks = Vec::new();
        for (id, (step, facts)) in &steps {
            let counted = counts.get(id).copied().unwrap_or(0);
            if !is_complete(step, *facts, counted) {
                return Err(AttemptError::Mismatch(format!(
                    "{}: partition {id} of {table} holds {counted} rows after {} were put in place",
                    part.node, facts.staged
                )));
            }
            if *step == Step::Leave {
                remarks.push(format!(
                    "partition {id} of {table} was left as it is: it holds {counted} rows on {}",
                    part.node
                ));
            }
            if facts.expires && counted < facts.staged {
                remarks.push(format!(
                    "the TTL of {table} removed {} of {} rows of partition {id}: they are no loss of the copy",
                    facts.staged - counted,
                    facts.staged
                ));
            }
        }
        Ok((counts, remarks))
    }

    /// Adds partitions to what is there. A Replicated table takes a part with a content that it has seen for a repetition,
    /// and refuses two equal parts (facts file, T5): their rows are inserted instead.
    async fn append(
        &self,
        part: &Gathered,
        ids: &[PartitionId],
        steps: &BTreeMap<PartitionId, (Step, PartitionFacts)>,
        settings: &crate::cluster::Settings,
    ) -> Result<(), AttemptError> {
        let warehouse = &self.site.fleet.warehouse;
        let table = &part.target.name;
        for some in ids.chunks(PER_ALTER) {
            let attached = warehouse.place(&part.node, Placing::Attach, table, &part.from, some, settings).await;
            if !part.target.engine.is_replicated() {
                attached?;
                continue;
            }
            if let Err(error) = attached
                && error.code() != Some(999)
            {
                return Err(error.into());
            }
            let now = warehouse.rows_by_partition(&part.node, table, Some(some)).await?;
            for id in some {
                let unchanged =
                    steps.get(id).is_some_and(|(_, facts)| now.get(id).copied().unwrap_or(0) == facts.present);
                if unchanged {
                    let inserted = part.target.columns.iter().filter(|column| column.default_kind.is_inserted());
                    let columns: Vec<String> = inserted.map(|column| column.name.clone()).collect();
                    warehouse.insert_partition(&part.node, table, &part.from, &columns, id, settings).await?;
                }
            }
        }
        Ok(())
    }

    async fn is_same(&self, part: &Gathered, id: &PartitionId) -> Result<bool, AttemptError> {
        let warehouse = &self.site.fleet.warehouse;
        let columns = &part.target.columns;
        let (ours, theirs) = tokio::try_join!(
            warehouse.checksum(&part.node, &part.from, Some(id), columns),
            warehouse.checksum(&part.node, &part.target.name, Some(id), columns)
        )?;
        Ok(ours == theirs)
    }

    /// On plain MergeTree, parts that were displaced come back if the server restarts before they are gone (facts file,
    /// T3): the batch is not finished before that.
    async fn await_displaced(&self, part: &Gathered, ids: &[PartitionId]) -> Result<(), AttemptError> {
        if ids.is_empty() || part.target.engine.is_replicated() {
            return Ok(());
        }
        let started = Instant::now();
        tracing::info!("{}: waiting until the replaced parts of {} are gone", part.node, part.target.name);
        loop {
            let left = self.site.fleet.warehouse.displaced_parts(&part.node, &part.target.name, ids).await?;
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

    /// Waits until the other live replicas have what this one has.
    async fn check_replicas(
        &self,
        part: &Gathered,
        counts: &BTreeMap<PartitionId, u64>,
    ) -> Result<Vec<String>, AttemptError> {
        if !part.target.engine.is_replicated() {
            return Ok(Vec::new());
        }
        let task = self.site.task();
        let shard = &task.target(&task.tables[self.batch.table]).shards[part.shard];
        let own = part.node.address();
        let ids: Vec<PartitionId> = counts.keys().cloned().collect();
        let others = shard.replicas.iter().filter(|node| node.address() != own);
        let checks = join_all(others.map(|node| self.check_replica(node, part, &ids, counts))).await;
        let mut remarks = Vec::new();
        for check in checks {
            remarks.extend(check?);
        }
        Ok(remarks)
    }

    async fn check_replica(
        &self,
        node: &Node,
        part: &Gathered,
        ids: &[PartitionId],
        counts: &BTreeMap<PartitionId, u64>,
    ) -> Result<Option<String>, AttemptError> {
        let warehouse = &self.site.fleet.warehouse;
        let table = &part.target.name;
        if let Err(error) = warehouse.server(node).await {
            return Ok(Some(format!(
                "replica {node} of {table} did not answer ({}): it fetches its rows when it is back",
                error.kind
            )));
        }
        warehouse.sync_replica(node, table).await?;
        let theirs = warehouse.rows_by_partition(node, table, Some(ids)).await?;
        let shrinks = part.target.engine.merges_rows() || part.target.has_ttl();
        match counts.iter().find(|(id, rows)| theirs.get(id).copied().unwrap_or(0) != **rows) {
            Some((id, rows)) if !shrinks => Err(AttemptError::Mismatch(format!(
                "replica {node} holds {} rows of partition {id} of {table}, and {} holds {rows}",
                theirs.get(id).copied().unwrap_or(0),
                part.node
            ))),
            _ => Ok(None),
        }
    }

    fn results(
        &self,
        gathered: &[Gathered],
        counted: &[(BTreeMap<PartitionId, u64>, Vec<String>)],
        before: &Before,
    ) -> Vec<PartitionResult> {
        let plan = &self.site.plans[self.batch.table];
        let mut results: Vec<PartitionResult> =
            self.selected().into_iter().map(|selected| PartitionResult { selected, target: 0 }).collect();
        let mut seen = BTreeSet::new();
        for (part, (counts, _)) in gathered.iter().zip(counted).filter(|(part, _)| seen.insert(part.shard)) {
            for (id, value) in &part.values {
                if let Some(at) = plan.position_in(self.batch.batch, value) {
                    let others = before.get(&part.node.address()).and_then(|rows| rows.get(id)).copied().unwrap_or(0);
                    results[at].target += counts.get(id).copied().unwrap_or(0).saturating_sub(others);
                }
            }
        }
        results
    }

    /// Drops what the batch leaves on the targets, after it was recorded as done. What cannot be dropped now is dropped
    /// when the task ends.
    pub async fn clear(&self, gathered: &[Gathered]) {
        let drops = gathered.iter().map(|part| async {
            let settings = self.site.target_settings(&part.node).await.unwrap_or_default();
            for table in &part.tables {
                if let Err(error) = self.site.fleet.warehouse.drop_table(&part.node, table, &settings).await {
                    tracing::warn!("{error}; it stays until the task ends");
                }
            }
        });
        join_all(drops).await;
    }
}
