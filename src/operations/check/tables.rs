//! The facts about one table job, beyond its survey: its plan, the obstacles to its statements, and the disk space that it needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;

use super::spread::{SAMPLE_SECONDS, SAMPLED_ROWS, Spread};
use crate::client::{Disk, Error, Inspector, Mutation};
use crate::ledger::Ledger;
use crate::model::{Node, TableName};
use crate::nodes::pool::NodePool;
use crate::nodes::settings::wanted_for_source;
use crate::plan::{Remark, TablePlan};
use crate::planning::errors::Problem;
use crate::planning::planner;
use crate::planning::survey::Survey;
use crate::sql::{Expression, PartitionFilter, Privilege, Relation, Selection, Syntax};
use crate::task::{IfTargetNotEmpty, Task};

/// The rights that a copy needs on the target's database.
const RIGHTS: [Privilege; 5] =
    [Privilege::Select, Privilege::Insert, Privilege::CreateTable, Privilege::DropTable, Privilege::AlterDelete];

/// The facts about a table job that a run would accept.
pub(crate) struct TableFacts {
    /// The job's name.
    pub(crate) name: String,
    /// The target table.
    pub(crate) target: TableName,
    /// The policy for target partitions that hold rows.
    pub(crate) policy: IfTargetNotEmpty,
    /// The remarks of the survey.
    pub(crate) remarks: Vec<Remark>,
    /// The plan.
    pub(crate) plan: PlanFacts,
    /// The target nodes that answer.
    pub(crate) targets: Vec<TargetFacts>,
    /// The source nodes that answer.
    pub(crate) sources: Vec<SourceFacts>,
    /// The estimated bytes that the copy needs on the disks of each target shard.
    pub(crate) needed: Result<Vec<u64>, Error>,
    /// The rows that a TTL of the target would remove.
    pub(crate) expiry: Expiry,
    /// The distribution of rows over the target's shards. `None` where there is one shard, or where it is not known.
    pub(crate) spread: Option<Spread>,
    /// The elements of the definition that target versions do not know, by version.
    pub(crate) left_out: BTreeMap<String, Vec<String>>,
}

/// The plan of a table job.
pub(crate) enum PlanFacts {
    /// A run would make this plan.
    Fresh(TablePlan),
    /// A run has stored this plan already.
    Stored(TablePlan),
    /// A run would refuse the job for this reason.
    Refused(Problem),
    /// The stored plan could not be read, with the error of the coordinator.
    Unread(String),
}

impl PlanFacts {
    /// Returns the plan, if there is one.
    pub(crate) fn plan(&self) -> Option<&TablePlan> {
        match self {
            Self::Fresh(plan) | Self::Stored(plan) => Some(plan),
            Self::Refused(_) | Self::Unread(_) => None,
        }
    }
}

/// A TTL of the target.
pub(crate) enum Expiry {
    /// The target has no TTL.
    None,
    /// The number of rows to copy that the TTL would remove.
    Rows(u64),
    /// The target has a TTL, and the number of rows that it would remove is not known.
    Unknown,
}

/// The facts about a target node.
pub(crate) struct TargetFacts {
    /// The node.
    pub(crate) node: Arc<Node>,
    /// The index of its shard.
    pub(crate) shard: usize,
    /// The unfinished mutations of the target table.
    pub(crate) mutations: Result<Vec<Mutation>, Error>,
    /// The views over the target table.
    pub(crate) views: Result<Vec<TableName>, Error>,
    /// The rights of the account on the target's database.
    pub(crate) rights: Result<Vec<GivenRight>, Error>,
    /// The disks of the target table. `None` where the version does not report them.
    pub(crate) disks: Result<Option<PolicyDisks>, Error>,
}

/// A right, and whether an account has it.
pub(crate) struct GivenRight {
    /// The right.
    pub(crate) privilege: Privilege,
    /// Whether the account has it. `None` where the server cannot tell.
    pub(crate) given: Option<bool>,
}

/// The disks of a storage policy.
pub(crate) struct PolicyDisks {
    /// The name of the policy.
    pub(crate) policy: String,
    /// The disks.
    pub(crate) disks: Vec<Disk>,
}

/// The facts about a source node.
pub(crate) struct SourceFacts {
    /// The node.
    pub(crate) node: Arc<Node>,
    /// The unfinished mutations of the source table.
    pub(crate) mutations: Result<Vec<Mutation>, Error>,
}

/// The check of one table job.
pub(super) struct TableCheck<'a> {
    pub(crate) pool: &'a NodePool,
    pub(crate) inspector: &'a dyn Inspector,
    pub(crate) task: &'a Task,
    pub(crate) survey: &'a Survey,
}

impl TableCheck<'_> {
    /// Collects the facts. `planned` is the ledger with the stored plan, if there is one.
    pub(super) async fn collect(&self, planned: Option<&Ledger>) -> TableFacts {
        let (survey, job) = (self.survey, &self.task.tables[self.survey.job]);
        let plan = match planned {
            Some(ledger) => match ledger.plan(survey.job).await {
                Ok(plan) => PlanFacts::Stored(plan),
                Err(error) => PlanFacts::Unread(error.to_string()),
            },
            None => match planner::plan(self.pool, self.task, survey, job.if_target_not_empty, None).await {
                Ok(plan) => PlanFacts::Fresh(plan),
                Err(fault) => PlanFacts::Refused(fault),
            },
        };
        let sides = survey.targets.iter().enumerate();
        let nodes = sides.flat_map(|(shard, nodes)| nodes.iter().map(move |node| (shard, node)));
        let targets = join_all(nodes.map(|(shard, node)| self.target(shard, node))).await;
        let sources = join_all(survey.sources.iter().flatten().map(|node| async {
            let mutations = self.inspector.mutations(node, &survey.source.name).await;
            SourceFacts { node: node.clone(), mutations }
        }))
        .await;
        TableFacts {
            name: job.name.clone(),
            target: job.target.clone(),
            policy: job.if_target_not_empty,
            remarks: survey.remarks.clone(),
            needed: self.needed(plan.plan()).await,
            expiry: self.expiry(plan.plan()).await,
            spread: self.spread(plan.plan()).await,
            left_out: self.left_out(),
            plan,
            targets,
            sources,
        }
    }

    async fn target(&self, shard: usize, node: &Arc<Node>) -> TargetFacts {
        let (survey, name) = (self.survey, &self.survey.target.name);
        let exists = !survey.to_create.iter().any(|missing| missing.address() == node.address());
        let (mutations, views) = if exists {
            tokio::join!(self.inspector.mutations(node, name), self.inspector.views_over(node, name))
        } else {
            (Ok(Vec::new()), Ok(Vec::new()))
        };
        let (rights, disks) = tokio::join!(self.rights(node), self.disks(node));
        TargetFacts { node: node.clone(), shard, mutations, views, rights, disks }
    }

    async fn rights(&self, node: &Node) -> Result<Vec<GivenRight>, Error> {
        let database = &self.survey.target.name.database;
        let mut rights = RIGHTS.to_vec();
        if self.pool.client.database_engine(node, database).await?.is_none() {
            rights.push(Privilege::CreateDatabase);
        }
        let answers = self.inspector.may(node, database, &rights).await?;
        let given = rights.into_iter().zip(answers);
        Ok(given.map(|(privilege, given)| GivenRight { privilege, given }).collect())
    }

    async fn disks(&self, node: &Node) -> Result<Option<PolicyDisks>, Error> {
        let engine = &self.survey.target.engine;
        // A disk that a table names directly belongs to no policy.
        if engine.setting("disk").is_some() {
            return Ok(None);
        }
        let policy = engine.setting("storage_policy").unwrap_or_else(|| "default".to_owned());
        let disks = self.inspector.disks(node, &policy).await?;
        Ok(disks.filter(|disks| !disks.is_empty()).map(|disks| PolicyDisks { policy, disks }))
    }

    /// Estimates the bytes that each target shard needs: the size of the copied rows on the source's disks, divided by the weights of the
    /// shards.
    async fn needed(&self, plan: Option<&TablePlan>) -> Result<Vec<u64>, Error> {
        let Some(plan) = plan else { return Ok(Vec::new()) };
        let (mut stored, mut plain) = (0u128, 0u128);
        for node in self.survey.sources.iter().filter_map(|shard| shard.first()) {
            let name = &self.survey.source.name;
            stored += u128::from(self.inspector.stored_bytes(node, name).await?);
            let parts = self.pool.client.parts(node, name).await?;
            plain += parts.iter().map(|part| u128::from(part.bytes)).sum::<u128>();
        }
        let wanted: u128 = plan.partitions.iter().map(|partition| u128::from(partition.bytes)).sum();
        let all = (wanted * stored).checked_div(plain).unwrap_or_default();
        Ok((0..self.survey.targets.len()).map(|shard| share(plan, shard, all)).collect())
    }

    /// Samples the first rows of each source shard. Returns `None` where one of them gives no sample, since a run does not need it.
    async fn spread(&self, plan: Option<&TablePlan>) -> Option<Spread> {
        let sharding = plan?.sharding.clone().filter(|sharding| sharding.slots.len() > 1)?;
        let rows = Selection::all(self.survey.relation());
        let mut slots = Vec::new();
        for node in self.survey.sources.iter().filter_map(|shard| shard.first()) {
            let mut wanted = wanted_for_source(self.task);
            // With a condition that few rows meet, the server would read the whole table.
            wanted.insert("max_execution_time".to_owned(), SAMPLE_SECONDS.to_string());
            let settings = self.pool.settings(node, &wanted).await.ok()?;
            let key = sharding.slot_key();
            slots.extend(self.inspector.sampled_slots(node, &rows, &key, SAMPLED_ROWS, &settings).await.ok()?);
        }
        Some(Spread::of(sharding, &slots))
    }

    async fn expiry(&self, plan: Option<&TablePlan>) -> Expiry {
        let (survey, target) = (self.survey, &self.survey.target);
        if !target.has_ttl() {
            return Expiry::None;
        }
        let conditions = target.engine.expired().filter(|conditions| !conditions.is_empty());
        let (Some(conditions), Some(plan)) = (conditions, plan) else { return Expiry::Unknown };
        let any: Vec<String> = conditions.iter().map(|condition| format!("({condition})")).collect();
        let any = any.join(" OR ");
        // If the target has other columns than the source, the source cannot evaluate its TTL.
        if survey.reading.columns.is_some() {
            return Expiry::Unknown;
        }
        let both = match &survey.reading.condition {
            Some(condition) => format!("({condition}) AND ({any})"),
            None => any,
        };
        let Ok(condition) = Expression::parse(&both) else { return Expiry::Unknown };
        let relation = Relation { condition: Some(condition), ..survey.relation() };
        let values = plan.partitions.iter().map(|partition| partition.value.clone()).collect();
        let partitions = survey.enabled.as_ref().map(|_| PartitionFilter { elements: survey.key.clone(), values });
        let rows = Selection { partitions, ..Selection::all(relation) };
        let mut expired = 0;
        for node in survey.sources.iter().filter_map(|shard| shard.first()) {
            let Ok(settings) = self.pool.settings(node, &wanted_for_source(self.task)).await else {
                return Expiry::Unknown;
            };
            match self.pool.client.tally(node, &rows, &[], &settings).await {
                Ok(tallies) => expired += tallies.iter().map(|tally| tally.rows).sum::<u64>(),
                Err(error) => {
                    tracing::info!("{error}; how many rows the target's TTL would remove is not known");
                    return Expiry::Unknown;
                }
            }
        }
        Expiry::Rows(expired)
    }

    /// Returns the elements of the definition that the target's versions do not know.
    fn left_out(&self) -> BTreeMap<String, Vec<String>> {
        let facts = self.survey.to_create.iter().filter_map(|node| self.pool.known_facts(node));
        let left_out = facts.map(|facts| {
            let (_, left_out) = self.survey.target.within(Syntax::of(facts.release()));
            (facts.version.clone(), left_out)
        });
        left_out.filter(|(_, left_out)| !left_out.is_empty()).collect()
    }
}

/// Returns the share of a target shard in this number of bytes.
fn share(plan: &TablePlan, shard: usize, bytes: u128) -> u64 {
    let share = match &plan.sharding {
        Some(sharding) => {
            let slots = &sharding.slots[shard];
            bytes * u128::from(slots.end - slots.start) / u128::from(sharding.total.max(1))
        }
        None => bytes,
    };
    u64::try_from(share).unwrap_or(u64::MAX)
}
