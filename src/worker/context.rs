//! What every job of a worker works with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;

use crate::client::{Error, Remedy, Settings};
use crate::model::{Node, Shard, TableName, Way, lay_over};
use crate::plan::TablePlan;
use crate::protocol::{Failure, PieceRef, Policy, TaskId};
use crate::sql::{Selection, TableDefinition};
use crate::task::{IfTargetNotEmpty, Task, Verify};

use super::limits::bandwidth::Bandwidth;
use super::limits::concurrency::{Concurrency, Jobs};
use super::limits::transfer_trial::TransferTrials;
use crate::ledger::LedgerError;
use crate::nodes::column_routes::ColumnRoutes;
use crate::nodes::pool::NodePool;
use crate::nodes::settings::{
    RELAY_DEFAULTS, TRANSFER_DEFAULTS, defaults, narrower, wanted_for_source, wanted_for_target,
};
use crate::runtime::random::Randomness;

/// Several threads that read a table on 18.16 take turns, and what they send as one block is in no order: the target sorts it. Read
/// by one thread, the same copy took a fifth less of its time there; the target's INSERT is one thread anyway. From this version on it is
/// left to the server: such servers may read from storage that answers late, and it was not measured on them.
const THREADS_LEFT_ALONE: (u32, u32) = (20, 1);

/// `remote()` takes a sharding key since 21.2 (docs/clickhouse-behaviour.md, §1).
const REMOTE_DEALS: (u32, u32) = (21, 2);

/// How a worker was told to behave.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Tries of a piece, and of a publication, before it has failed.
    pub tries: u32,
    /// Tries of a publication.
    pub publication_tries: u32,
    /// Fresh starts of what failed, after everything else is done.
    pub rounds: u32,
    /// The pause before a second try; longer before each further one, up to a minute.
    pub retry_delay: Duration,
    /// How long a transfer may move nothing.
    pub stall_timeout: Duration,
    /// How likely a copied piece is thrown away, for tests of a set-up.
    pub copy_fault_probability: f64,
    /// How likely a publication fails on its way, for tests of a set-up.
    pub move_fault_probability: f64,
    /// Jobs at once.
    pub jobs: Jobs,
    /// Whether rows that the target held before must stay whatever the task says.
    pub safe_mode: bool,
}

/// What every job of a worker works with.
pub struct WorkerContext {
    /// The nodes.
    pub pool: NodePool,
    /// The task's identity.
    pub id: TaskId,
    /// The plans, by index of the table job.
    pub plans: Arc<Vec<TablePlan>>,
    /// How to behave.
    pub worker_options: WorkerOptions,
    /// This worker's name.
    pub worker: String,
    /// Which way was the faster one.
    pub(super) trials: TransferTrials,
    /// How much may be moved in a second.
    pub(super) bandwidth: Bandwidth,
    /// How many jobs to have in hand.
    pub(super) concurrency: Concurrency,
    randomness: Randomness,
    task: Mutex<Arc<Task>>,
    targets: Mutex<HashMap<(usize, String), Arc<TableDefinition>>>,
    /// What the columns allow, by table job and source node.
    column_routes: Mutex<HashMap<(usize, String), Arc<ColumnRoutes>>>,
}

/// An attempt that failed. What becomes of it:
///
/// | what failed | what is done |
/// | --- | --- |
/// | a server, for a while ([`Remedy::Retry`]) | another attempt, after a pause that grows to a minute, never equal for two workers |
/// | a server that asks for time ([`Error::is_overload`]) | the same, and it is not counted to the tries for some hours |
/// | a server's memory ([`Remedy::Smaller`]) | another attempt that moves less at once |
/// | one replica's data ([`Remedy::Elsewhere`]), or a replica of the source that does not answer | another attempt, on another replica |
/// | a target node for good, or its staged rows | other nodes are chosen, and the batch is copied again |
/// | somebody else who adds rows to a target node at the same time | another attempt, which looks again at what the node holds |
/// | the coordinator | everything in hand is dropped; a new session, and everything is read again |
/// | anything else that a server says ([`Remedy::GiveUp`]) | no further try: the partition has failed, everything else goes on |
/// | a record that cannot be read | the run ends |
#[derive(Debug, Clone, thiserror::Error)]
pub enum AttemptError {
    /// A server said no.
    #[error(transparent)]
    Server(#[from] Error),
    /// The coordinator could not be asked.
    #[error(transparent)]
    Coordinator(#[from] LedgerError),
    /// The servers' answers do not fit together.
    #[error("{0}")]
    Mismatch(String),
    /// The staged rows that were recorded are not on their node any more, or not all of them.
    #[error("{0}")]
    StagingGone(String),
    /// Somebody else added rows to target nodes after it was recorded what they held. Nothing of ours is there, so that is recorded anew.
    #[error("{why}")]
    Overtaken {
        /// The addresses of the nodes.
        nodes: Vec<String>,
        /// What happened on the first of them.
        why: String,
    },
    /// Something that no further try will change.
    #[error("{0}")]
    Final(String),
}

impl AttemptError {
    /// Whether another try could help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Server(error) => error.remedy() != Remedy::GiveUp,
            Self::Coordinator(_) | Self::Mismatch(_) | Self::Overtaken { .. } => true,
            Self::StagingGone(_) | Self::Final(_) => false,
        }
    }

    /// Whether a server asks for time.
    pub fn is_overload(&self) -> bool {
        matches!(self, Self::Server(error) if error.is_overload())
    }

    /// The server that it is about, if it is about one.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.node),
            _ => None,
        }
    }

    /// As it is recorded.
    pub fn failure(&self) -> Failure {
        let too_large = matches!(self, Self::Server(error) if error.remedy() == Remedy::Smaller);
        Failure { error: self.to_string(), transient: self.is_transient(), too_large, overload: self.is_overload() }
    }
}

impl WorkerContext {
    /// Of a worker that has its task and its plans.
    pub fn new(
        pool: NodePool,
        task: Arc<Task>,
        id: TaskId,
        plans: Vec<TablePlan>,
        worker_options: WorkerOptions,
        worker: String,
        randomness: Randomness,
    ) -> Self {
        let (bandwidth, concurrency) = (Bandwidth::new(&task), Concurrency::new(worker_options.jobs));
        let (plans, task) = (Arc::new(plans), Mutex::new(task));
        Self {
            pool,
            id,
            plans,
            worker_options,
            worker,
            trials: TransferTrials::default(),
            bandwidth,
            concurrency,
            randomness,
            task,
            targets: Mutex::default(),
            column_routes: Mutex::default(),
        }
    }

    /// Whether pieces of a table job may be cloned, or may have been before the task was changed: they leave tables on source nodes.
    pub fn may_clone(&self, table: usize) -> bool {
        self.plans[table].clones || self.task().tables[table].transfer == Some(Way::Clone)
    }

    /// The task as it is now: settings may change while it runs.
    pub fn task(&self) -> Arc<Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a changed task over.
    pub fn set_task(&self, task: Arc<Task>) {
        self.bandwidth.follow(&task);
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = task;
    }

    /// A shard of a table job's source cluster.
    pub fn source_shard(&self, table: usize, shard: usize) -> Shard {
        let task = self.task();
        task.source(&task.tables[table]).shards[shard].clone()
    }

    /// The target nodes with these addresses, by target shard.
    ///
    /// # Errors
    /// When the task names such a node no more.
    pub fn target_nodes(&self, table: usize, addresses: &[Vec<String>]) -> Result<Vec<Vec<Arc<Node>>>, AttemptError> {
        let task = self.task();
        let cluster = task.target(&task.tables[table]);
        let find = |shard: usize, address: &String| {
            NodePool::find(cluster, shard, address)
                .ok_or_else(|| AttemptError::Final(format!("the task names target node {address} no more")))
        };
        addresses
            .iter()
            .enumerate()
            .map(|(shard, addresses)| addresses.iter().map(|address| find(shard, address)).collect())
            .collect()
    }

    /// The addresses of the target nodes that answer now, by shard. `None` when a shard has none, or when no other node could
    /// take over: on plain tables with `internal_replication`, rows of one shard must not be spread over replicas.
    pub async fn live_targets(&self, table: usize) -> Option<Vec<Vec<String>>> {
        let task = self.task();
        let plan = &self.plans[table];
        let mut live = Vec::new();
        for (shard, of) in task.target(&task.tables[table]).shards.iter().enumerate() {
            if plan.replicated[shard] && !plan.engine_replicates && of.replicas.len() > 1 {
                return None;
            }
            let answers = join_all(of.replicas.iter().map(|node| self.pool.client.answers(node))).await;
            let answering = of.replicas.iter().zip(answers).filter(|(_, answer)| answer.is_ok());
            let addresses: Vec<String> = answering.map(|(node, _)| node.address()).collect();
            if addresses.is_empty() {
                return None;
            }
            live.push(addresses);
        }
        Some(live)
    }

    /// The target table as a node has it.
    pub async fn target(&self, table: usize, node: &Node) -> Result<Arc<TableDefinition>, AttemptError> {
        let key = (table, node.address());
        if let Some(known) = self.targets.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let name = &self.plans[table].target;
        let found = self.pool.client.table(node, name).await?;
        let found = Arc::new(found.ok_or_else(|| AttemptError::Mismatch(format!("{node}: table {name} is gone")))?);
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found.clone());
        Ok(found)
    }

    /// Forgets what is known of a node that failed: it may come back as another version, or with another table.
    pub fn forget(&self, address: &str) {
        self.pool.forget(address);
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, of), _| of != address);
    }

    /// The target table of a node is not the one that was planned for.
    pub fn lacks(&self, table: usize, node: &Node) -> AttemptError {
        let plan = &self.plans[table];
        AttemptError::Final(format!("{node}: {} lacks one of the columns {}", plan.target, plan.columns.join(", ")))
    }

    /// What the task says about rows that were there before.
    pub fn policy(&self, table: usize) -> Policy {
        match self.task().tables[table].if_target_not_empty.in_mode(self.worker_options.safe_mode) {
            IfTargetNotEmpty::Fail => Policy::Fail,
            IfTargetNotEmpty::Replace => Policy::Replace,
            IfTargetNotEmpty::Append => Policy::Append,
            IfTargetNotEmpty::Skip => Policy::Skip,
        }
    }

    /// Returns whether merges may remove rows of a target table by design: as the task says, or as the name of its engine tells.
    pub fn merges_rows(&self, table: usize, target: &TableDefinition) -> bool {
        self.task().tables[table].merges_rows.unwrap_or_else(|| target.engine.merges_rows())
    }

    /// How what arrived is to be checked.
    pub fn verify(&self, table: usize) -> Verify {
        self.task().tables[table].verify
    }

    /// Settings for our statements on a target node: the task's, and what lets them pass whatever the server's limits.
    pub async fn target_settings(&self, node: &Node) -> Result<Settings, Error> {
        self.pool.settings(node, &wanted_for_target(&self.task())).await
    }

    /// Settings for the statements of a transfer that run on the source node, and for those on the target node. One
    /// statement that reads and writes has the settings of both sections; where they differ, those for writing. `all` says that
    /// whatever is read is sent, `narrow` how often such statements ran out of memory.
    pub async fn transfer_settings(
        &self,
        way: Way,
        from: &Node,
        to: &Node,
        all: bool,
        narrow: u32,
    ) -> Result<(Settings, Settings), Error> {
        let task = self.task();
        let mut wanted = defaults(TRANSFER_DEFAULTS);
        if way == Way::Relay {
            wanted.extend(defaults(RELAY_DEFAULTS));
            let (mut reading, mut writing) = (wanted.clone(), wanted);
            lay_over(&mut reading, wanted_for_source(&task));
            lay_over(&mut writing, task.settings.for_push());
            narrower(&mut reading, narrow);
            narrower(&mut writing, narrow);
            return Ok((self.pool.settings(from, &reading).await?, self.pool.settings(to, &writing).await?));
        }
        // Who drops most of what it reads is to read faster than it sends.
        if all && self.pool.facts(from).await?.release() < THREADS_LEFT_ALONE {
            wanted.insert("max_threads".to_owned(), "1".to_owned());
        }
        lay_over(&mut wanted, wanted_for_source(&task));
        lay_over(&mut wanted, task.settings.for_push());
        narrower(&mut wanted, narrow);
        Ok(match way {
            Way::Pull => (Settings::new(), self.pool.settings_for_both(to, from, &wanted).await?),
            _ => (self.pool.settings_for_both(from, to, &wanted).await?, Settings::new()),
        })
    }

    /// Returns what the columns of a table job allow, as a source node sends them. Asks the node the first time.
    pub(super) async fn column_routes(&self, table: usize, from: &Node) -> Result<Arc<ColumnRoutes>, Error> {
        let plan = &self.plans[table];
        let key = (table, from.address());
        if let Some(known) = self.column_routes.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let column_routes = if ColumnRoutes::matters(self.pool.facts(from).await?.release(), plan.sharding.is_some()) {
            let rows = Selection::all(plan.reading.relation(&plan.source));
            let types = self.pool.client.types(from, Some(&rows), &plan.reading.values).await?;
            ColumnRoutes::of(plan.columns.iter().map(String::as_str).zip(types.iter().map(String::as_str)))
        } else {
            ColumnRoutes::default()
        };
        let column_routes = Arc::new(column_routes.leaving(&plan.reading.left));
        self.column_routes.lock().unwrap_or_else(PoisonError::into_inner).insert(key, column_routes.clone());
        Ok(column_routes)
    }

    /// Whether what is relayed from a source must be dealt, to a single target too.
    pub(super) async fn needs_dealing(&self, table: usize, from: &Node) -> Result<bool, Error> {
        let release = self.pool.facts(from).await?.release();
        Ok(self.column_routes(table, from).await?.needs_dealing(release).is_some())
    }

    /// Whether a source node can push rows to all target shards by one statement, as far as its version, the columns and the
    /// sharding key tell: the key is evaluated over the columns of the staging tables.
    pub async fn pushes_dealt(&self, table: usize, from: &Node) -> Result<bool, Error> {
        let plan = &self.plans[table];
        let of_columns = plan.sharding.as_ref().is_some_and(|of| of.slot_key().key.uses_only(&plan.columns));
        Ok(of_columns
            && self.pool.facts(from).await?.release() >= REMOTE_DEALS
            && self.column_routes(table, from).await?.can_be_pushed_by_key())
    }

    /// Every node on which an attempt at a piece may have left a statement, whatever way its rows took: the replicas of the
    /// piece's source shards, and the target nodes of its batch.
    pub fn statement_nodes(&self, piece: PieceRef, targets: &[Vec<String>]) -> Vec<Arc<Node>> {
        let sources = self.plans[piece.table].pieces[piece.piece].sources.iter();
        let replicas = sources.flat_map(|share| self.source_shard(piece.table, share.shard).replicas);
        let mut nodes: Vec<Arc<Node>> = replicas.map(Arc::new).collect();
        for node in self.target_nodes(piece.table, targets).unwrap_or_default().into_iter().flatten() {
            if nodes.iter().all(|known| known.url() != node.url()) {
                nodes.push(node);
            }
        }
        nodes
    }

    /// Settings for a statement that only reads the source.
    pub async fn source_settings(&self, node: &Node) -> Result<Settings, Error> {
        self.pool.settings(node, &wanted_for_source(&self.task())).await
    }

    /// A staging table's name as a table.
    pub fn beside_target(&self, table: usize, name: String) -> TableName {
        self.plans[table].target.beside(name)
    }

    /// The pause before the next try: doubled each time up to a minute, and never the same for two workers.
    pub fn pause(&self, failures: u32) -> Duration {
        let doubled = self.worker_options.retry_delay * 2u32.saturating_pow(failures.saturating_sub(1).min(10));
        self.randomness.jitter(doubled.min(Duration::from_secs(60)))
    }

    /// Throws a die for `--copy-fault-probability` and its like.
    pub fn strikes(&self, probability: f64) -> bool {
        self.randomness.strikes(probability)
    }
}
