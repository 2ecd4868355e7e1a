//! A plan as it is shown and kept: what a run would do, in a form that a person reads before it is done, and that a run can be held to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{PartitionPlan, TablePlan};

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// [`Document::SCHEMA`].
    pub schema: u32,
    /// What of the task it depends on, by element.
    pub inputs: BTreeMap<String, String>,
    /// By table job.
    pub tables: Vec<Planned>,
}

/// What would be done for a table job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// What is copied, and in which pieces.
    pub plan: TablePlan,
    /// What is made on target nodes first.
    pub create: Vec<Creation>,
    /// How rows would travel between nodes now; a run finds that out anew.
    pub travel: Vec<Travel>,
}

/// Something that is made on target nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Creation {
    /// The statement.
    pub statement: String,
    /// Where.
    pub nodes: BTreeSet<String>,
    /// What of the definition those nodes do not know, and what is left out therefore.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// How rows travel from a node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Travel {
    /// A source node.
    pub from: String,
    /// A target node.
    pub to: String,
    /// `push`, `pull`, `relay` or `clone`; `?` where a node did not say.
    pub way: String,
    /// Why it is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

impl Document {
    /// The form that this program writes and reads.
    pub const SCHEMA: u32 = 1;

    /// What has changed since in what matters, a line each: what is copied from where to where and how it is read, the
    /// partitions, and what is to be made. Not how many rows there are: they are counted when they are copied.
    pub fn changes(&self, now: &Document) -> Vec<String> {
        let mut changes = Vec::new();
        if self.tables.len() != now.tables.len() {
            changes.push(format!("{} tables were planned, and there are {}", self.tables.len(), now.tables.len()));
        }
        for (then, now) in self.tables.iter().zip(&now.tables) {
            then.changes(now, &mut changes);
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
        let (then_plan, now_plan) = (&self.plan, &now.plan);
        differs(
            &format!("{} was to be copied to {}", then_plan.source, then_plan.target),
            (&then_plan.source, &then_plan.target) != (&now_plan.source, &now_plan.target),
        );
        let columns =
            || format!("columns were {}, and are {}", then_plan.columns.join(", "), now_plan.columns.join(", "));
        differs(&columns(), then_plan.columns != now_plan.columns);
        differs("the source's columns are read in another way", then_plan.reading != now_plan.reading);
        differs("the target's partition key is another one", then_plan.key != now_plan.key);
        differs("rows find their target shards in another way", then_plan.sharding != now_plan.sharding);
        differs(
            "the target's shards have other replicas",
            (&then_plan.replicated, then_plan.engine_replicates) != (&now_plan.replicated, now_plan.engine_replicates),
        );
        let names = |plan: &TablePlan| -> BTreeSet<String> {
            plan.partitions.iter().map(|partition| partition.name.clone()).collect()
        };
        let (then, there) = (names(then_plan), names(now_plan));
        let list = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let (new, gone) = (list(there.difference(&then).collect()), list(then.difference(&there).collect()));
        differs(&format!("new partitions: {new}"), !new.is_empty());
        differs(&format!("partitions that are not there any more: {gone}"), !gone.is_empty());
        let known = |plan: &TablePlan| -> BTreeSet<_> {
            let of = |partition: &PartitionPlan| (partition.value.clone(), partition.id.clone(), partition.renews);
            plan.partitions.iter().map(of).collect()
        };
        differs(
            "partitions have other ids, or other ones were copied before",
            known(then_plan) != known(now_plan) && new.is_empty() && gone.is_empty(),
        );
        differs("parts were to be cloned, and are not, or the other way round", then_plan.clones != now_plan.clones);
        differs("other partitions are left alone", then_plan.unchanged != now_plan.unchanged);
        differs("the table job has another name", then_plan.name != now_plan.name);
        let shards = |plan: &TablePlan| -> BTreeSet<usize> {
            plan.pieces.iter().flat_map(|piece| piece.sources.iter().map(|share| share.shard)).collect()
        };
        differs(
            "other source shards hold rows",
            shards(then_plan) != shards(now_plan) && new.is_empty() && gone.is_empty(),
        );
        let made = |of: &Planned| of.create.iter().map(|made| (made.statement.clone(), made.nodes.clone())).collect();
        let (then, there): (BTreeSet<(String, BTreeSet<String>)>, BTreeSet<_>) = (made(self), made(now));
        differs("other statements are needed to make the target", then != there);
    }
}
