//! The conclusions from the marks: which nodes are one server. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Shown, is_same_name};
use crate::client::Fingerprint;
use crate::model::{Cluster, Node};
use crate::planning::errors::Problem;
use crate::task::{IfTargetNotEmpty, TableJob, Task};

/// The most seconds by which two readings of the start time of one server may differ.
const START_TOLERANCE: i64 = 2;

/// The observations of a node.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The number of the node.
    pub(crate) at: usize,
    /// The node.
    pub(crate) node: Arc<Node>,
    /// The marks in each answer of the node.
    pub(crate) looks: Vec<BTreeSet<usize>>,
    /// Whether it showed its own mark before these answers.
    pub(crate) shown: Shown,
    /// Whether its mark ran during all of these answers.
    pub(crate) held: bool,
    /// Whether every account there sees the statements of others.
    pub(crate) sees_all: bool,
    /// The observations over its native port.
    pub(crate) behind: Vec<Behind>,
    /// The facts that the node reports about itself, where marks do not decide.
    pub(crate) fingerprint: Option<Fingerprint>,
}

/// An observation over a native port.
#[derive(Debug, Clone)]
pub(super) struct Behind {
    /// The observed node.
    pub(crate) node: usize,
    /// The node that connected to it.
    pub(crate) from: Arc<Node>,
    /// Whether the server there has the node's mark.
    pub(crate) own: bool,
}

impl Seen {
    pub(crate) fn new(at: usize, node: Arc<Node>, looks: Vec<BTreeSet<usize>>, shown: Shown) -> Self {
        let (held, sees_all, behind, fingerprint) = (false, false, Vec::new(), None);
        Self { at, node, looks, shown, held, sees_all, behind, fingerprint }
    }

    fn shows(&self, other: &Self) -> bool {
        self.looks.iter().any(|look| look.contains(&other.at))
    }

    /// Returns whether it would show the mark of the other node if both were the same server.
    fn would_show(&self, other: &Self) -> bool {
        other.held && !self.looks.is_empty() && (self.sees_all || self.node.user == other.node.user)
    }

    fn is_several(&self) -> bool {
        self.shown == Shown::Never || (self.held && self.looks.iter().any(|look| !look.contains(&self.at)))
    }
}

/// The verdict whether two nodes are one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdentityVerdict {
    Same,
    Different,
    Unknown,
}

/// Returns the verdict of the marks.
fn by_marks(a: &Seen, b: &Seen) -> IdentityVerdict {
    if a.shows(b) || b.shows(a) {
        IdentityVerdict::Same
    } else if a.would_show(b) || b.would_show(a) {
        IdentityVerdict::Different
    } else {
        IdentityVerdict::Unknown
    }
}

/// Returns the verdict of the marks, or else of the facts that servers report about themselves. Cloned disks have the same server
/// identity, and some builds have none, so the identity alone decides nothing.
fn verdict(a: &Seen, b: &Seen) -> IdentityVerdict {
    let marks_verdict = by_marks(a, b);
    if marks_verdict != IdentityVerdict::Unknown {
        return marks_verdict;
    }
    let (Some(a), Some(b)) = (&a.fingerprint, &b.fingerprint) else { return IdentityVerdict::Unknown };
    let other_port = matches!((a.port, b.port), (Some(a), Some(b)) if a != b);
    if a.host != b.host || other_port || (a.started - b.started).abs() > START_TOLERANCE {
        return IdentityVerdict::Different;
    }
    match (&a.uuid, &b.uuid) {
        (Some(a), Some(b)) if a == b => IdentityVerdict::Same,
        (Some(_), Some(_)) => IdentityVerdict::Different,
        _ => IdentityVerdict::Unknown,
    }
}

/// Returns the pairs of nodes that marks do not decide.
pub(super) fn not_told_apart(seen: &[Seen]) -> BTreeSet<usize> {
    let mut blind = BTreeSet::new();
    for (at, a) in seen.iter().enumerate() {
        for b in seen[..at].iter().filter(|b| by_marks(a, b) == IdentityVerdict::Unknown) {
            blind.extend([a.at, b.at]);
        }
    }
    blind
}

/// Returns the faults of the nodes of a task, and remarks on pairs of nodes that could not be decided.
pub(super) fn judge(task: &Task, seen: &[Seen]) -> (Vec<Problem>, Vec<String>) {
    let mut faults: Vec<Problem> = seen.iter().filter_map(of_node).collect();
    let mut remarks = Vec::new();
    let mut groups: Vec<usize> = (0..seen.len()).collect();
    for (at, a) in seen.iter().enumerate() {
        for b in &seen[..at] {
            match verdict(a, b) {
                IdentityVerdict::Same => {
                    let (old, new) = (groups[a.at], groups[b.at]);
                    groups.iter_mut().filter(|group| **group == old).for_each(|group| *group = new);
                }
                IdentityVerdict::Different => {}
                IdentityVerdict::Unknown => remarks.push(format!(
                    "whether {} and {} are one server could not be told: user {} and user {} do not see each other's \
                     statements there. Make sure that they are two, or grant SHOW PROCESSLIST to both",
                    b.node, a.node, b.node.user, a.node.user
                )),
            }
        }
    }
    let servers = Servers { seen, groups };
    for job in &task.tables {
        faults.extend(servers.of_job(task, job).into_iter().map(|line| Problem::task(line).in_table(&job.name)));
    }
    faults.extend(servers.shared_targets(task));
    (faults, remarks)
}

/// Returns the faults of one node.
fn of_node(seen: &Seen) -> Option<Problem> {
    let Seen { node, .. } = seen;
    if seen.is_several() {
        let url = node.url();
        let cause = format!("several servers answer in turn at {url}: name each server by an address of its own");
        return Some(unclear_server(node, cause));
    }
    let other = seen.behind.iter().find(|behind| seen.held && !behind.own)?;
    let looker = if is_same_name(&other.from, node) { String::new() } else { format!(", seen from {},", other.from) };
    let cause = format!(
        "this native address{looker} is another server than the one at {}: write the <http_port> that belongs to <port>, and a \
         <host> that is the same server from everywhere",
        node.url()
    );
    Some(unclear_server(node, cause))
}

/// Returns the problem of an address that does not name one server.
fn unclear_server(node: &Node, cause: String) -> Problem {
    Problem::task(cause).at_element("remote_servers").on_node(node)
}

/// The assignment of nodes to servers.
struct Servers<'a> {
    seen: &'a [Seen],
    /// The number of the server of each node.
    groups: Vec<usize>,
}

impl Servers<'_> {
    fn server(&self, node: &Node) -> Option<usize> {
        let seen = self.seen.iter().find(|seen| is_same_name(&seen.node, node))?;
        Some(self.groups[seen.at])
    }

    /// Returns the problems of the servers of a table job, as sentences.
    fn of_job(&self, task: &Task, job: &TableJob) -> Vec<String> {
        let (source, target) = (task.source(job), task.target(job));
        let mut lines = Vec::new();
        lines.extend(self.twice(source, false).map(|(one, other)| {
            format!("{}: {} would be read twice. {}", are_one(source, one, other), job.source, advice(one.1, other.1))
        }));
        lines.extend(self.twice(target, true).map(|(one, other)| {
            format!(
                "{}: {} would be written twice. {}",
                are_one(target, one, other),
                job.target,
                advice(one.1, other.1)
            )
        }));
        if job.source == job.target
            && let Some((from, to)) = self.of_both(source, target)
        {
            lines.push(format!(
                "{from} of cluster {} and {to} of cluster {} are one server: {} would be copied onto itself. {}",
                source.name,
                target.name,
                job.source,
                advice(from, to)
            ));
        }
        lines
    }

    /// Returns two nodes of different shards that are one server. With `replicas`, also two nodes of one shard.
    fn twice<'c>(&self, cluster: &'c Cluster, replicas: bool) -> Option<(ShardNode<'c>, ShardNode<'c>)> {
        let mut first: BTreeMap<usize, ShardNode<'c>> = BTreeMap::new();
        for (shard, node) in cluster.nodes() {
            let Some(server) = self.server(node) else { continue };
            match first.get(&server) {
                Some(one) if one.0 != shard || replicas => return Some((*one, (shard, node))),
                Some(_) => {}
                None => {
                    first.insert(server, (shard, node));
                }
            }
        }
        None
    }

    /// Returns a source node and a target node that are one server.
    fn of_both<'c>(&self, source: &'c Cluster, target: &'c Cluster) -> Option<(&'c Node, &'c Node)> {
        let sources: BTreeMap<usize, &Node> =
            source.nodes().filter_map(|(_, node)| Some((self.server(node)?, node))).collect();
        target.nodes().find_map(|(_, node)| Some((*sources.get(&self.server(node)?)?, node)))
    }

    /// Returns a fault for each job that would remove the rows of an earlier job for the same table.
    fn shared_targets(&self, task: &Task) -> Vec<Problem> {
        let mut faults = Vec::new();
        let replaces = |job: &TableJob| job.if_target_not_empty == IfTargetNotEmpty::Replace;
        for (at, job) in task.tables.iter().enumerate() {
            let others = task.tables[..at].iter().filter(|other| {
                other.target == job.target
                    && other.target_cluster != job.target_cluster
                    && (replaces(job) || replaces(other))
            });
            for other in others {
                let Some((one, two)) = self.of_both(task.target(other), task.target(job)) else { continue };
                let problem = Problem::task(format!(
                    "tables/{} and tables/{} fill the same table {}, since {one} and {two} are one server: with \
                     if_target_not_empty replace, one would remove the rows of the other",
                    other.name, job.name, job.target
                ));
                faults.push(problem.affecting([other.name.as_str(), &job.name]));
            }
        }
        faults
    }
}

/// A node with the index of its shard.
type ShardNode<'a> = (usize, &'a Node);

fn are_one(cluster: &Cluster, one: ShardNode<'_>, other: ShardNode<'_>) -> String {
    let place = if one.0 == other.0 {
        format!("two replicas of shard {}", one.0 + 1)
    } else {
        format!("shards {} and {}", one.0 + 1, other.0 + 1)
    };
    format!("{place} of cluster {} are one server, {} and {}", cluster.name, one.1, other.1)
}

/// The advice for two nodes that are one server.
fn advice(one: &Node, other: &Node) -> String {
    if one.url() == other.url() {
        format!("Both are asked at {}: write the <http_port> of each", one.url())
    } else {
        format!("They are asked at {} and {}: name each server once", one.url(), other.url())
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
