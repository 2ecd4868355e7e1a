//! What every job of a worker works with.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;

use crate::cluster::{Error, Remedy, Settings};
use crate::model::{Node, Shard, TableName, lay_over};
use crate::plan::TablePlan;
use crate::protocol::{Failure, Policy, TaskId};
use crate::sql::TableDefinition;
use crate::task::{IfTargetNotEmpty, Task, Verify};

use super::dice::Dice;
use super::fleet::Fleet;
use super::ledger::LedgerError;

/// How a worker was told to behave.
#[derive(Debug, Clone)]
pub struct Conduct {
    /// Tries of a piece, and of a publication, before it has failed.
    pub tries: u32,
    /// Tries of a publication.
    pub publication_tries: u32,
    /// Fresh starts of what failed, after everything else is done.
    pub rounds: u32,
    /// The pause before a second try; longer before each further one, up to a minute.
    pub retry_delay: Duration,
    /// How likely a copied piece is thrown away, for tests of a set-up.
    pub copy_fault_probability: f64,
    /// How likely a publication fails on its way, for tests of a set-up.
    pub move_fault_probability: f64,
    /// Jobs at once.
    pub jobs: usize,
    /// Whether rows that the target held before must stay whatever the task says.
    pub safe_mode: bool,
}

/// What every job of a worker works with.
pub struct Site {
    /// The nodes.
    pub fleet: Fleet,
    /// The task's identity.
    pub id: TaskId,
    /// The plans, by index of the table job.
    pub plans: Arc<Vec<TablePlan>>,
    /// How to behave.
    pub conduct: Conduct,
    /// This worker's name.
    pub worker: String,
    dice: Dice,
    task: Mutex<Arc<Task>>,
    targets: Mutex<HashMap<(usize, String), Arc<TableDefinition>>>,
}

/// An attempt that failed.
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
    /// Something that no further try will change.
    #[error("{0}")]
    Final(String),
}

impl AttemptError {
    /// Whether another try could help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Server(error) => error.remedy() != Remedy::GiveUp,
            Self::Coordinator(_) | Self::Mismatch(_) => true,
            Self::StagingGone(_) | Self::Final(_) => false,
        }
    }

    /// As it is recorded.
    pub fn failure(&self) -> Failure {
        Failure { error: self.to_string(), transient: self.is_transient() }
    }
}

impl Site {
    /// Of a worker that has its task and its plans.
    pub fn new(
        fleet: Fleet,
        task: Arc<Task>,
        id: TaskId,
        plans: Vec<TablePlan>,
        conduct: Conduct,
        worker: String,
        dice: Dice,
    ) -> Self {
        let (plans, task) = (Arc::new(plans), Mutex::new(task));
        Self { fleet, id, plans, conduct, worker, dice, task, targets: Mutex::default() }
    }

    /// The task as it is now: settings may change while it runs.
    pub fn task(&self) -> Arc<Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a changed task over.
    pub fn set_task(&self, task: Arc<Task>) {
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
            Fleet::find(cluster, shard, address)
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
            let answers = join_all(of.replicas.iter().map(|node| self.fleet.warehouse.server(node))).await;
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
        let found = self.fleet.warehouse.table(node, name).await?;
        let found = Arc::new(found.ok_or_else(|| AttemptError::Mismatch(format!("{node}: table {name} is gone")))?);
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found.clone());
        Ok(found)
    }

    /// The target table of a node is not the one that was planned for.
    pub fn lacks(&self, table: usize, node: &Node) -> AttemptError {
        let plan = &self.plans[table];
        AttemptError::Final(format!("{node}: {} lacks one of the columns {}", plan.target, plan.columns.join(", ")))
    }

    /// What the task says about rows that were there before.
    pub fn policy(&self, table: usize) -> Policy {
        match effective(self.task().tables[table].if_target_not_empty, self.conduct.safe_mode) {
            IfTargetNotEmpty::Fail => Policy::Fail,
            IfTargetNotEmpty::Replace => Policy::Replace,
            IfTargetNotEmpty::Append => Policy::Append,
            IfTargetNotEmpty::Skip => Policy::Skip,
        }
    }

    /// How what arrived is to be checked.
    pub fn verify(&self, table: usize) -> Verify {
        self.task().tables[table].verify
    }

    /// Settings for our statements on a target node: the task's, and what lets them pass whatever the server's limits.
    pub async fn target_settings(&self, node: &Node) -> Result<Settings, Error> {
        self.fleet.settings(node, &target_wishes(&self.task())).await
    }

    /// Settings for a push from one node to another.
    pub async fn push_settings(&self, from: &Node, to: &Node) -> Result<Settings, Error> {
        let mut wanted = defaults(PUSH_DEFAULTS);
        let task = self.task();
        lay_over(&mut wanted, task.settings.for_pull());
        lay_over(&mut wanted, task.settings.for_push());
        self.fleet.settings_for_both(from, to, &wanted).await
    }

    /// Settings for a statement that only reads the source.
    pub async fn source_settings(&self, node: &Node) -> Result<Settings, Error> {
        self.fleet.settings(node, &self.task().settings.for_pull()).await
    }

    /// A staging table's name as a table.
    pub fn beside_target(&self, table: usize, name: String) -> TableName {
        self.plans[table].target.beside(name)
    }

    /// The pause before the next try: doubled each time up to a minute, and never the same for two workers.
    pub fn pause(&self, failures: u32) -> Duration {
        let doubled = self.conduct.retry_delay * 2u32.saturating_pow(failures.saturating_sub(1).min(10));
        self.dice.jitter(doubled.min(Duration::from_secs(60)))
    }

    /// Throws a die for `--copy-fault-probability` and its like.
    pub fn strikes(&self, probability: f64) -> bool {
        self.dice.strikes(probability)
    }
}

/// `--safe-mode` lets nothing be dropped that was there before.
pub fn effective(policy: IfTargetNotEmpty, safe_mode: bool) -> IfTargetNotEmpty {
    if safe_mode && policy == IfTargetNotEmpty::Replace { IfTargetNotEmpty::Fail } else { policy }
}

/// The original's connections failed on links slower than 50 ms; blocks may hold any number of partitions; what goes into
/// staging is not merged on its way (facts file, §2).
const PUSH_DEFAULTS: &[(&str, &str)] = &[
    ("connect_timeout_with_failover_ms", "5000"),
    ("connect_timeout_with_failover_secure_ms", "5000"),
    ("max_partitions_per_insert_block", "0"),
    ("throw_on_max_partitions_per_insert_block", "0"),
    ("optimize_on_insert", "0"),
    ("parallel_distributed_insert_select", "0"),
    ("max_execution_time", "0"),
];

/// Equal rows are rows: nothing of ours may be taken for a repetition (facts file, T1). Large partitions may be moved and
/// dropped. REPLACE waits for this replica; the others are looked at by ourselves.
const TARGET_DEFAULTS: &[(&str, &str)] = &[
    ("insert_deduplicate", "0"),
    ("deduplicate_insert", "disable"),
    ("deduplicate_insert_select", "disable"),
    ("alter_sync", "1"),
    ("max_partition_size_to_drop", "0"),
    ("max_table_size_to_drop", "0"),
    ("max_partitions_per_insert_block", "0"),
    ("optimize_on_insert", "0"),
];

/// A table that is there must be made again as it is, whatever a server only warns of, or once took for an experiment. Each
/// is sent to the servers that know it.
const DEFINITION_DEFAULTS: &[(&str, &str)] = &[
    // else Nested columns that are stored as one come back as several
    ("flatten_nested", "0"),
    ("allow_deprecated_syntax_for_merge_tree", "1"),
    // types, by the versions in which they were experiments
    ("allow_experimental_decimal_type", "1"),
    ("allow_experimental_low_cardinality_type", "1"),
    ("allow_experimental_bigint_types", "1"),
    ("allow_experimental_map_type", "1"),
    ("allow_experimental_geo_types", "1"),
    ("allow_experimental_object_type", "1"),
    ("allow_experimental_json_type", "1"),
    ("allow_experimental_variant_type", "1"),
    ("allow_experimental_dynamic_type", "1"),
    ("allow_experimental_bfloat16_type", "1"),
    ("allow_experimental_qbit_type", "1"),
    ("enable_time_time64_type", "1"),
    ("enable_nullable_tuple_type", "1"),
    ("allow_suspicious_low_cardinality_types", "1"),
    ("allow_suspicious_fixed_string_types", "1"),
    ("allow_suspicious_variant_types", "1"),
    // indices, projections, statistics
    ("allow_experimental_data_skipping_indices", "1"),
    ("allow_experimental_projection_optimization", "1"),
    ("allow_experimental_inverted_index", "1"),
    ("allow_experimental_annoy_index", "1"),
    ("allow_experimental_usearch_index", "1"),
    ("allow_experimental_vector_similarity_index", "1"),
    ("enable_full_text_index", "1"),
    ("allow_statistics", "1"),
    ("allow_suspicious_indices", "1"),
    ("allow_minmax_index_for_json", "1"),
    ("allow_create_index_without_type", "1"),
    // codecs, keys, TTL
    ("allow_suspicious_codecs", "1"),
    ("allow_experimental_codecs", "1"),
    ("enable_deflate_qpl_codec", "1"),
    ("enable_zstd_qat_codec", "1"),
    ("enable_alp_codec", "1"),
    ("enable_quantized_codec", "1"),
    ("enable_sz3_codec", "1"),
    ("enable_zxc_codec", "1"),
    ("allow_suspicious_primary_key", "1"),
    ("allow_suspicious_ttl_expressions", "1"),
];

/// Settings for statements on a target node, before it is asked which of them it knows: ours, and the task's over them.
pub fn target_wishes(task: &Task) -> BTreeMap<String, String> {
    let mut wanted = defaults(TARGET_DEFAULTS);
    wanted.extend(defaults(DEFINITION_DEFAULTS));
    lay_over(&mut wanted, task.settings.for_push());
    wanted
}

fn defaults(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
