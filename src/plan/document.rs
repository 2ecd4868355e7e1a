//! A plan in the form that is shown and saved. A person can read it before a run, and a run can be required to follow
//! it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{PartitionPlan, TablePlan};

/// The plan of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// [`Document::SCHEMA`].
    pub schema: u32,
    /// The inputs from the task that the plan depends on, by element.
    pub inputs: BTreeMap<String, String>,
    /// The plans by table job.
    pub tables: Vec<Planned>,
}

/// The plan of a table job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The rows to copy and the pieces.
    pub plan: TablePlan,
    /// The objects that are created on target nodes first.
    pub create: Vec<Creation>,
    /// The transfer between each pair of nodes at present; a run determines it again.
    pub travel: Vec<Travel>,
}

/// An object that is created on target nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Creation {
    /// The statement.
    pub statement: String,
    /// The nodes where it is created.
    pub nodes: BTreeSet<String>,
    /// Parts of the definition that these nodes do not support and that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// The transfer from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Travel {
    /// The source node.
    pub from: String,
    /// The target node.
    pub to: String,
    /// `push`, `pull`, `relay` or `clone`; `?` if a node did not answer.
    pub way: String,
    /// Why it is not the usual transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

impl Document {
    /// The format version that this program writes and reads.
    pub const SCHEMA: u32 = 1;

    /// Returns the relevant changes since this plan, a line each: source and target, how rows are read, the
    /// partitions, and the objects to create. Numbers of rows do not count: rows are counted when they are copied.
    pub(crate) fn changes(&self, now: &Document) -> Vec<String> {
        let mut changes = Vec::new();
        if self.tables.len() != now.tables.len() {
            changes.push(format!("{} tables were planned, and there are {}", self.tables.len(), now.tables.len()));
        }
        for (planned, now) in self.tables.iter().zip(&now.tables) {
            planned.changes(now, &mut changes);
        }
        changes
    }
}

impl Planned {
    fn changes(&self, now: &Planned, changes: &mut Vec<String>) {
        let name = &self.plan.name;
        let mut differs = |what: &str, differs: bool| {
            if differs {
                changes.push(format!("table {name}: {what}"));
            }
        };
        let (old_plan, now_plan) = (&self.plan, &now.plan);
        differs(
            &format!("{} was to be copied to {}", old_plan.source, old_plan.target),
            (&old_plan.source, &old_plan.target) != (&now_plan.source, &now_plan.target),
        );
        let columns =
            || format!("columns were {}, and are {}", old_plan.columns.join(", "), now_plan.columns.join(", "));
        differs(&columns(), old_plan.columns != now_plan.columns);
        differs("the source's columns are read in another way", old_plan.reading != now_plan.reading);
        differs("the target's partition key is another one", old_plan.key != now_plan.key);
        differs("rows find their target shards in another way", old_plan.sharding != now_plan.sharding);
        differs(
            "the target's shards have other replicas",
            (&old_plan.replicated, old_plan.engine_replicates) != (&now_plan.replicated, now_plan.engine_replicates),
        );
        let names = |plan: &TablePlan| -> BTreeSet<String> {
            plan.partitions.iter().map(|partition| partition.name.clone()).collect()
        };
        let (old, new) = (names(old_plan), names(now_plan));
        let list = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let (added, gone) = (list(new.difference(&old).collect()), list(old.difference(&new).collect()));
        differs(&format!("new partitions: {added}"), !added.is_empty());
        differs(&format!("partitions that are not there any more: {gone}"), !gone.is_empty());
        let known = |plan: &TablePlan| -> BTreeSet<_> {
            let identity =
                |partition: &PartitionPlan| (partition.value.clone(), partition.id.clone(), partition.renews);
            plan.partitions.iter().map(identity).collect()
        };
        differs(
            "partitions have other ids, or other ones were copied before",
            known(old_plan) != known(now_plan) && added.is_empty() && gone.is_empty(),
        );
        differs("parts were to be cloned, and are not, or the other way round", old_plan.clones != now_plan.clones);
        differs("other partitions are left alone", old_plan.unchanged != now_plan.unchanged);
        differs("the table job has another name", old_plan.name != now_plan.name);
        let shards = |plan: &TablePlan| -> BTreeSet<usize> {
            plan.pieces.iter().flat_map(|piece| piece.sources.iter().map(|share| share.shard)).collect()
        };
        differs(
            "other source shards hold rows",
            shards(old_plan) != shards(now_plan) && added.is_empty() && gone.is_empty(),
        );
        let made = |planned: &Planned| {
            planned.create.iter().map(|made| (made.statement.clone(), made.nodes.clone())).collect()
        };
        let (old, new): (BTreeSet<(String, BTreeSet<String>)>, BTreeSet<_>) = (made(self), made(now));
        differs("other statements are needed to make the target", old != new);
    }
}
