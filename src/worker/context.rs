//! The context that all jobs of a worker share: nodes, plans, task, options and limits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;

use super::limits::bandwidth::Bandwidth;
use super::limits::concurrency::{Concurrency, Jobs};
use super::limits::transfer_trial::TransferTrials;
use crate::client::{Error, Remedy, Settings};
use crate::ledger::LedgerError;
use crate::model::{Node, Shard, TableName, Way, lay_over};
use crate::nodes::column_routes::ColumnRoutes;
use crate::nodes::pool::NodePool;
use crate::nodes::settings::{
    RELAY_DEFAULTS, TRANSFER_DEFAULTS, defaults, narrower, wanted_for_source, wanted_for_target,
};
use crate::plan::TablePlan;
use crate::protocol::{Failure, PieceRef, Policy, TaskId};
use crate::runtime::random::Randomness;
use crate::sql::{Selection, TableDefinition};
use crate::task::{IfTargetNotEmpty, Task, Verify};

/// The first release that chooses the number of reading threads of a transfer itself. On older releases one thread reads.
///
/// On 18.16 several reading threads take turns, so that the rows of a block are in no order and the target must sort them. With one
/// reading thread the same copy took a fifth less time there. The target's INSERT has one thread anyway. Newer servers may read from
/// storage that answers late, and the effect was not measured on them.
const SERVER_CHOOSES_THREADS: (u32, u32) = (20, 1);

/// The first release whose `remote()` takes a sharding key (docs/clickhouse-behaviour.md, §1).
const REMOTE_TAKES_SHARDING_KEY: (u32, u32) = (21, 2);

/// The longest pause before a retry.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The options of a worker.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The number of attempts after which a piece has failed.
    pub tries: u32,
    /// The number of attempts after which a publication has failed.
    pub publication_tries: u32,
    /// How often failed jobs start again after all other jobs are done.
    pub rounds: u32,
    /// The pause before the second attempt. It doubles before each further attempt, up to a minute.
    pub retry_delay: Duration,
    /// How long a transfer may move no rows before it counts as stalled.
    pub stall_timeout: Duration,
    /// The probability that a copied piece is thrown away, to test a deployment.
    pub copy_fault_probability: f64,
    /// The probability that a publication fails, to test a deployment.
    pub move_fault_probability: f64,
    /// The number of jobs at once.
    pub jobs: Jobs,
    /// Whether rows that the target held before must stay, whatever the task says.
    pub safe_mode: bool,
}

/// The context that all jobs of a worker share.
pub struct WorkerContext {
    /// The nodes.
    pub pool: NodePool,
    /// The task's identity.
    pub id: TaskId,
    /// The plans, by index of the table job.
    pub plans: Arc<Vec<TablePlan>>,
    /// The options of this worker.
    pub worker_options: WorkerOptions,
    /// This worker's name.
    pub worker: String,
    /// Measurements that tell which split method is faster.
    pub(super) trials: TransferTrials,
    /// The limits in bytes per second.
    pub(super) bandwidth: Bandwidth,
    /// The number of jobs at once.
    pub(super) concurrency: Concurrency,
    randomness: Randomness,
    task: Mutex<Arc<Task>>,
    /// The target tables, by table job and address of the node.
    targets: Mutex<HashMap<(usize, String), Arc<TableDefinition>>>,
    /// The routes that the columns allow, by table job and address of the source node.
    column_routes: Mutex<HashMap<(usize, String), Arc<ColumnRoutes>>>,
}

/// The error of a failed attempt. The worker reacts to each cause as follows:
///
/// | cause | reaction |
/// | --- | --- |
/// | a temporary failure of a server ([`Remedy::Retry`]) | another attempt, after a pause of up to a minute that differs for each worker |
/// | an overloaded server ([`Error::is_overload`]) | the same; for some hours the attempt does not count as a failure |
/// | a server runs out of memory ([`Remedy::Smaller`]) | another attempt that moves fewer rows at once |
/// | damaged data of one replica ([`Remedy::Elsewhere`]), or a source replica that does not answer | another attempt, on another replica |
/// | a target node, or its staged rows, are lost | the worker chooses other nodes and copies the batch again |
/// | another writer adds rows to a target node at the same time | another attempt, which counts the rows of the node again |
/// | the coordinator | the worker drops its current work, opens a new session and reads all records again |
/// | any other answer of a server ([`Remedy::GiveUp`]) | no further attempt: the partition has failed, all other work continues |
/// | an unreadable record | the run ends |
#[derive(Debug, Clone, thiserror::Error)]
pub enum AttemptError {
    /// A server answered with an error, or did not answer.
    #[error(transparent)]
    Server(#[from] Error),
    /// The coordinator failed.
    #[error(transparent)]
    Coordinator(#[from] LedgerError),
    /// The answers of the servers contradict each other.
    #[error("{0}")]
    Mismatch(String),
    /// Some or all of the recorded staged rows are missing on their node.
    #[error("{0}")]
    StagingGone(String),
    /// Another writer added rows to target nodes after their numbers of rows were recorded. The nodes hold no rows of this attempt yet,
    /// so the worker records the numbers again.
    #[error("{why}")]
    Overtaken {
        /// The addresses of the nodes.
        nodes: Vec<String>,
        /// What happened on the first of them.
        why: String,
    },
    /// An error that no further attempt can remove.
    #[error("{0}")]
    Final(String),
}

impl AttemptError {
    /// Returns whether another attempt can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Server(error) => error.remedy() != Remedy::GiveUp,
            Self::Coordinator(_) | Self::Mismatch(_) | Self::Overtaken { .. } => true,
            Self::StagingGone(_) | Self::Final(_) => false,
        }
    }

    /// Returns whether a server is overloaded.
    pub fn is_overload(&self) -> bool {
        matches!(self, Self::Server(error) if error.is_overload())
    }

    /// Returns the server that reported the error, if a server did.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.node),
            _ => None,
        }
    }

    /// Returns the form in which the error is recorded.
    pub fn failure(&self) -> Failure {
        let too_large = matches!(self, Self::Server(error) if error.remedy() == Remedy::Smaller);
        Failure { error: self.to_string(), transient: self.is_transient(), too_large, overload: self.is_overload() }
    }
}

impl WorkerContext {
    /// Creates the context of a worker that has read its task and its plans.
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

    /// Returns whether pieces of a table job may be cloned, or may have been cloned before the task was changed. Cloned pieces leave
    /// tables on source nodes.
    pub fn may_clone(&self, table: usize) -> bool {
        self.plans[table].clones || self.task().tables[table].transfer == Some(Way::Clone)
    }

    /// Returns the current task. Its settings may change while it runs.
    pub fn task(&self) -> Arc<Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the task by a changed one.
    pub fn set_task(&self, task: Arc<Task>) {
        self.bandwidth.follow(&task);
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = task;
    }

    /// Returns a shard of a table job's source cluster.
    pub fn source_shard(&self, table: usize, shard: usize) -> Shard {
        let task = self.task();
        task.source(&task.tables[table]).shards[shard].clone()
    }

    /// Returns the target nodes with these addresses, by target shard.
    ///
    /// # Errors
    /// When the task no longer names one of these nodes.
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

    /// Returns the addresses of the target nodes that answer now, by shard. Returns `None` when no node of a shard answers, or when no
    /// other node may take over: on plain tables with `internal_replication`, the rows of one shard must stay on one replica.
    pub async fn live_targets(&self, table: usize) -> Option<Vec<Vec<String>>> {
        let task = self.task();
        let plan = &self.plans[table];
        let mut live = Vec::new();
        for (index, shard) in task.target(&task.tables[table]).shards.iter().enumerate() {
            if plan.replicated[index] && !plan.engine_replicates && shard.replicas.len() > 1 {
                return None;
            }
            let answers = join_all(shard.replicas.iter().map(|node| self.pool.client.answers(node))).await;
            let answering = shard.replicas.iter().zip(answers).filter(|(_, answer)| answer.is_ok());
            let addresses: Vec<String> = answering.map(|(node, _)| node.address()).collect();
            if addresses.is_empty() {
                return None;
            }
            live.push(addresses);
        }
        Some(live)
    }

    /// Returns the definition of the target table on a node. Asks the node the first time.
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

    /// Forgets the facts about a node that failed. The node may come back with another version, or with another table.
    pub fn forget(&self, address: &str) {
        self.pool.forget(address);
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, node), _| node != address);
    }

    /// Returns the error for a target table that lacks planned columns.
    pub fn lacks(&self, table: usize, node: &Node) -> AttemptError {
        let plan = &self.plans[table];
        AttemptError::Final(format!("{node}: {} lacks one of the columns {}", plan.target, plan.columns.join(", ")))
    }

    /// Returns the policy of the task for rows that the target held before the task.
    pub fn policy(&self, table: usize) -> Policy {
        match self.task().tables[table].if_target_not_empty.in_mode(self.worker_options.safe_mode) {
            IfTargetNotEmpty::Fail => Policy::Fail,
            IfTargetNotEmpty::Replace => Policy::Replace,
            IfTargetNotEmpty::Append => Policy::Append,
            IfTargetNotEmpty::Skip => Policy::Skip,
        }
    }

    /// Returns whether merges may remove rows of a target table by design. The task says so, or else the engine of the table.
    pub fn merges_rows(&self, table: usize, target: &TableDefinition) -> bool {
        self.task().tables[table].merges_rows.unwrap_or_else(|| target.engine.merges_rows())
    }

    /// Returns how the task wants copied rows to be verified.
    pub fn verify(&self, table: usize) -> Verify {
        self.task().tables[table].verify
    }

    /// Returns the settings for our statements on a target node: the settings of the task, and those that lift limits of the server.
    pub async fn target_settings(&self, node: &Node) -> Result<Settings, Error> {
        self.pool.settings(node, &wanted_for_target(&self.task())).await
    }

    /// Returns the settings for the statements of a transfer on the source node, and for those on the target node. One
    /// statement that reads and writes has the settings of both sections; where they differ, those for writing. `all` is whether the
    /// source sends every row that it reads. `narrow` is how often such statements ran out of memory.
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
        // A source that filters out most rows should read with all threads.
        if all && self.pool.facts(from).await?.release() < SERVER_CHOOSES_THREADS {
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

    /// Returns the routes that the columns of a table job allow, with the types that a source node sends. Asks the node the first time.
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

    /// Returns whether the worker must deal rows that it relays from a source, even to a single target.
    pub(super) async fn needs_dealing(&self, table: usize, from: &Node) -> Result<bool, Error> {
        let release = self.pool.facts(from).await?.release();
        Ok(self.column_routes(table, from).await?.needs_dealing(release).is_some())
    }

    /// Returns whether the version of a source node, the columns and the sharding key let one statement push rows to all target
    /// shards. The source evaluates the key over the columns of the staging tables.
    pub async fn pushes_dealt(&self, table: usize, from: &Node) -> Result<bool, Error> {
        let plan = &self.plans[table];
        let key_is_transferred =
            plan.sharding.as_ref().is_some_and(|sharding| sharding.slot_key().key.uses_only(&plan.columns));
        Ok(key_is_transferred
            && self.pool.facts(from).await?.release() >= REMOTE_TAKES_SHARDING_KEY
            && self.column_routes(table, from).await?.can_be_pushed_by_key())
    }

    /// Returns every node on which an attempt at a piece may have left a statement, for any transfer: the replicas of the
    /// piece's source shards, and the target nodes of its batch.
    pub fn statement_nodes(&self, piece: PieceRef, targets: &[Vec<String>]) -> Vec<Arc<Node>> {
        let sources = self.plans[piece.table].pieces[piece.index].sources.iter();
        let replicas = sources.flat_map(|share| self.source_shard(piece.table, share.shard).replicas);
        let mut nodes: Vec<Arc<Node>> = replicas.map(Arc::new).collect();
        for node in self.target_nodes(piece.table, targets).unwrap_or_default().into_iter().flatten() {
            if nodes.iter().all(|known| known.url() != node.url()) {
                nodes.push(node);
            }
        }
        nodes
    }

    /// Returns the settings for a statement that only reads the source.
    pub async fn source_settings(&self, node: &Node) -> Result<Settings, Error> {
        self.pool.settings(node, &wanted_for_source(&self.task())).await
    }

    /// Returns the table with this name in the database of the target table.
    pub fn beside_target(&self, table: usize, name: String) -> TableName {
        self.plans[table].target.beside(name)
    }

    /// Returns the pause before the next attempt. It doubles each time, up to `MAX_PAUSE`, and is random so that workers do not
    /// retry together.
    pub fn pause(&self, failures: u32) -> Duration {
        let doubled = self.worker_options.retry_delay * 2u32.saturating_pow(failures.saturating_sub(1).min(10));
        self.randomness.jitter(doubled.min(MAX_PAUSE))
    }

    /// Decides at random whether a fault happens, for `--copy-fault-probability` and `--move-fault-probability`.
    pub fn strikes(&self, probability: f64) -> bool {
        self.randomness.strikes(probability)
    }
}
