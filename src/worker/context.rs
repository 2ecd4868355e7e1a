//! The context that all jobs of a worker share: nodes, plans, task, options and limits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::errors::{AttemptError, FinalError, Mismatch};
use super::limits::bandwidth::Bandwidth;
use super::limits::concurrency::{Concurrency, Jobs};
use super::limits::transfer_trial::TransferTrials;
use super::retry_policy::RetryPolicy;
use super::statement_settings;
use crate::client::{Error, Settings};
use crate::model::{Node, Shard};
use crate::nodes::column_routes::ColumnRoutes;
use crate::nodes::pool::NodePool;
use crate::plan::TablePlan;
use crate::protocol::{PieceRef, TaskId};
use crate::runtime::random::Randomness;
use crate::sql::{Selection, TableDefinition};
use crate::task::Task;

/// The options of a worker.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The pauses between attempts, and their number.
    pub retry: RetryPolicy,
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
pub(crate) struct WorkerContext {
    /// The nodes.
    pub(crate) pool: NodePool,
    /// The task's identity.
    pub(crate) id: TaskId,
    /// The plans, by index of the table job.
    pub(crate) plans: Arc<Vec<TablePlan>>,
    /// The options of this worker.
    pub(crate) worker_options: WorkerOptions,
    /// This worker's name.
    pub(crate) worker: String,
    /// Measurements that tell which split method is faster.
    pub(super) trials: TransferTrials,
    /// The limits in bytes per second.
    pub(super) bandwidth: Bandwidth,
    /// The number of jobs at once.
    pub(super) concurrency: Concurrency,
    /// The source of randomness for pauses and injected faults.
    pub(super) randomness: Randomness,
    task: Mutex<Arc<Task>>,
    /// The target tables, by table job and address of the node.
    targets: Mutex<HashMap<(usize, String), Arc<TableDefinition>>>,
    /// The routes that the columns allow, by table job and address of the source node.
    column_routes: Mutex<HashMap<(usize, String), Arc<ColumnRoutes>>>,
}

impl WorkerContext {
    /// Creates the context of a worker that has read its task and its plans.
    pub(crate) fn new(
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

    /// Returns the current task. Its settings may change while it runs.
    pub(crate) fn task(&self) -> Arc<Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the task by a changed one.
    pub(crate) fn set_task(&self, task: Arc<Task>) {
        self.bandwidth.follow(&task);
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = task;
    }

    /// Returns a shard of a table job's source cluster.
    pub(crate) fn source_shard(&self, table: usize, shard: usize) -> Shard {
        let task = self.task();
        task.source(&task.tables[table]).shards[shard].clone()
    }

    /// Returns the target nodes with these addresses, by target shard.
    ///
    /// # Errors
    /// When the task no longer names one of these nodes.
    pub(crate) fn target_nodes(
        &self,
        table: usize,
        addresses: &[Vec<String>],
    ) -> Result<Vec<Vec<Arc<Node>>>, AttemptError> {
        let task = self.task();
        let cluster = task.target(&task.tables[table]);
        let find = |shard: usize, address: &String| {
            NodePool::find(cluster, shard, address)
                .ok_or_else(|| FinalError::NodeNotInTask { node: address.clone() }.into())
        };
        addresses
            .iter()
            .enumerate()
            .map(|(shard, addresses)| addresses.iter().map(|address| find(shard, address)).collect())
            .collect()
    }

    /// Returns the definition of the target table on a node. Asks the node the first time.
    pub(crate) async fn target(&self, table: usize, node: &Node) -> Result<Arc<TableDefinition>, AttemptError> {
        let key = (table, node.address());
        if let Some(known) = self.targets.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let name = &self.plans[table].target;
        let found = self.pool.client.table(node, name).await?;
        let gone = || Mismatch::TableGone { node: node.address(), table: name.clone() };
        let found = Arc::new(found.ok_or_else(gone)?);
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found.clone());
        Ok(found)
    }

    /// Forgets the facts about a node that failed. The node may come back with another version, or with another table.
    pub(crate) fn forget(&self, address: &str) {
        self.pool.forget(address);
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, node), _| node != address);
    }

    /// Returns the settings for our statements on a target node. Asks the node the first time.
    pub(crate) async fn target_settings(&self, node: &Node) -> Result<Settings, Error> {
        let facts = self.pool.facts(node).await?;
        Ok(statement_settings::for_target(&self.task(), &facts))
    }

    /// Returns the settings for a statement that only reads the source. Asks the node the first time.
    pub(crate) async fn source_settings(&self, node: &Node) -> Result<Settings, Error> {
        let facts = self.pool.facts(node).await?;
        Ok(statement_settings::for_source(&self.task(), &facts))
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

    /// Returns every node on which an attempt at a piece may have left a statement, for any transfer: the replicas of the
    /// piece's source shards, and the target nodes of its batch.
    pub(crate) fn statement_nodes(&self, piece: PieceRef, targets: &[Vec<String>]) -> Vec<Arc<Node>> {
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
}
