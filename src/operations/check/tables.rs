//! One table job, beyond its survey: its plan, what stands in the way of single statements, and how much room it needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;

use crate::client::{Disk, Error, Inspector, Mutation};
use crate::model::{Node, TableName};
use crate::plan::{Sharding, TablePlan};
use crate::sql::{Expression, PartitionFilter, Privilege, Relation, Selection, Syntax};
use crate::task::{IfTargetNotEmpty, Task};

use super::spread::{SAMPLED, SECONDS, Spread};
use crate::ledger::Ledger;
use crate::nodes::pool::NodePool;
use crate::nodes::settings::wanted_for_source;
use crate::planning::errors::Fault;
use crate::planning::planner;
use crate::planning::survey::Survey;

/// The rights that a copy needs on the target's database.
const RIGHTS: [Privilege; 5] =
    [Privilege::Select, Privilege::Insert, Privilege::CreateTable, Privilege::DropTable, Privilege::AlterDelete];

/// A table job that a run would take.
pub struct TableFacts {
    /// The job's name.
    pub name: String,
    /// The target table.
    pub target: TableName,
    /// What to do with partitions that hold rows.
    pub policy: IfTargetNotEmpty,
    /// What the survey says.
    pub remarks: Vec<String>,
    /// What would be copied.
    pub plan: PlanFacts,
    /// The target's nodes that answer.
    pub targets: Vec<TargetFacts>,
    /// The source's.
    pub sources: Vec<SourceFacts>,
    /// About how many bytes the copy takes on the disks of each target shard.
    pub needed: Result<Vec<u64>, Error>,
    /// Rows that a TTL of the target would remove.
    pub expiry: Expiry,
    /// How rows would spread over the target's shards; `None` where there is one shard, or where it cannot be told.
    pub spread: Option<(Sharding, Spread)>,
    /// What of the definition is left out where the table is made, by version.
    pub left_out: BTreeMap<String, Vec<String>>,
}

/// What would be copied.
pub enum PlanFacts {
    /// This.
    Fresh(TablePlan),
    /// A run has planned it already.
    Stored(TablePlan),
    /// Nothing: the reason.
    Refused(Fault),
    /// Not known: what the coordinator says.
    Unread(String),
}

impl PlanFacts {
    /// The plan, where there is one.
    pub fn plan(&self) -> Option<&TablePlan> {
        match self {
            Self::Fresh(plan) | Self::Stored(plan) => Some(plan),
            Self::Refused(_) | Self::Unread(_) => None,
        }
    }
}

/// A TTL of the target.
pub enum Expiry {
    /// There is none.
    None,
    /// So many of the rows to copy are beyond it.
    Rows(u64),
    /// There is one; how many rows are beyond it is not known.
    Unknown,
}

/// A node of the target.
pub struct TargetFacts {
    /// Which.
    pub node: Arc<Node>,
    /// Index of its shard.
    pub shard: usize,
    /// Mutations of the target table that are not done.
    pub mutations: Result<Vec<Mutation>, Error>,
    /// Views over the target table.
    pub views: Result<Vec<TableName>, Error>,
    /// What the account may do on the target's database.
    pub rights: Result<Vec<(Privilege, Option<bool>)>, Error>,
    /// The disks that the target table is on, and the name of their storage policy; `None` where the version does not tell.
    pub disks: Result<Option<(String, Vec<Disk>)>, Error>,
}

/// A node of the source.
pub struct SourceFacts {
    /// Which.
    pub node: Arc<Node>,
    /// Mutations of the source table that are not done.
    pub mutations: Result<Vec<Mutation>, Error>,
}

/// Looks at one table job.
pub(super) struct Looker<'a> {
    pub pool: &'a NodePool,
    pub inspector: &'a dyn Inspector,
    pub task: &'a Task,
    pub survey: &'a Survey,
}

impl Looker<'_> {
    /// `planned`: where the plan is stored already.
    pub(super) async fn look(&self, planned: Option<&Ledger>) -> TableFacts {
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

    async fn rights(&self, node: &Node) -> Result<Vec<(Privilege, Option<bool>)>, Error> {
        let database = &self.survey.target.name.database;
        let mut rights = RIGHTS.to_vec();
        if self.pool.client.database_engine(node, database).await?.is_none() {
            rights.push(Privilege::CreateDatabase);
        }
        let answers = self.inspector.may(node, database, &rights).await?;
        Ok(rights.into_iter().zip(answers).collect())
    }

    async fn disks(&self, node: &Node) -> Result<Option<(String, Vec<Disk>)>, Error> {
        let engine = &self.survey.target.engine;
        // A disk that a table names by itself is of no policy.
        if engine.setting("disk").is_some() {
            return Ok(None);
        }
        let policy = engine.setting("storage_policy").unwrap_or_else(|| "default".to_owned());
        let disks = self.inspector.disks(node, &policy).await?;
        Ok(disks.filter(|disks| !disks.is_empty()).map(|disks| (policy, disks)))
    }

    /// What the source's rows take on its disks, as far as they are to be copied, dealt to the target's shards by their weights.
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

    /// Looks at the first rows of each source shard. Where one does not tell, nothing is said: a run does not need to know.
    async fn spread(&self, plan: Option<&TablePlan>) -> Option<(Sharding, Spread)> {
        let sharding = plan?.sharding.clone().filter(|sharding| sharding.slots.len() > 1)?;
        let rows = Selection::all(self.survey.relation());
        let mut slots = Vec::new();
        for node in self.survey.sources.iter().filter_map(|shard| shard.first()) {
            let mut wanted = wanted_for_source(self.task);
            // A condition that few rows meet would have the server read the whole table.
            wanted.insert("max_execution_time".to_owned(), SECONDS.to_string());
            let settings = self.pool.settings(node, &wanted).await.ok()?;
            let key = sharding.slot_key();
            slots.extend(self.inspector.sampled_slots(node, &rows, &key, SAMPLED, &settings).await.ok()?);
        }
        let spread = Spread::of(&sharding, &slots);
        Some((sharding, spread))
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
        // Where the target has other columns than the source, its TTL means nothing there.
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

    /// What the target's versions cannot say of the table that is to be made.
    fn left_out(&self) -> BTreeMap<String, Vec<String>> {
        let facts = self.survey.to_create.iter().filter_map(|node| self.pool.known_facts(node));
        let left_out = facts.map(|facts| {
            let (_, left_out) = self.survey.target.within(Syntax::of(facts.release()));
            (facts.version.clone(), left_out)
        });
        left_out.filter(|(_, left_out)| !left_out.is_empty()).collect()
    }
}

/// What a target shard gets of so many bytes.
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
