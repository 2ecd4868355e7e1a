//! Whether the nodes of a task are as many servers as it names: two names of one server would have a table read twice or written
//! twice, and "equal" on both sides.
//!
//! Each node gets a statement that does nothing for some seconds and carries a mark. Then each node is asked, over connections
//! that nobody used before, which marks run there: a server shows the marks of all its names. A node that does not show its own
//! mark each time is several servers. The same question is asked over the native port where rows would travel by it.
//! Creates nothing, and ends its statements.

mod judge;

use crate::nodes::routes::way_of;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::model::{Node, Way};
use crate::task::{TableJob, Task};

use super::super::errors::Fault;
use crate::nodes::column_routes::ColumnRoutes;
use crate::nodes::pool::NodePool;
use crate::runtime::random::Randomness;
use judge::{Behind, Seen, judge};

/// Questions that are on their way at a time.
const AT_ONCE: usize = 32;
/// How often a node is asked after all marks are seen. Behind a balancer each may be answered by another server.
const LOOKS: usize = 5;
/// How long a mark may take until it is seen; a server that is asked so often and does not show it is not the one that has it.
const PATIENCE: Duration = Duration::from_secs(10);
const FEWEST_LOOKS: u32 = 10;
/// The pause between two looks for a mark; it doubles.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(400)];

/// Asks all nodes that the task uses. Returns what is wrong with them, and remarks on what could not be told.
pub(super) async fn identify(pool: &NodePool, task: &Task) -> (Vec<Fault>, Vec<String>) {
    let nodes = live_nodes(pool, task).await;
    if nodes.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let native = native_questions(pool, task, &nodes).await;
    let asked = Asked::new(pool, nodes);
    let held: Vec<_> = (0..asked.nodes.len()).map(|at| asked.hold(at)).collect();
    let seen = {
        let looks = asked.look(&native);
        tokio::pin!(looks);
        tokio::select! {
            // The marks are sent first. None lets go of it.
            biased;
            _ = join_all(held) => Vec::new(),
            seen = &mut looks => seen,
        }
    };
    asked.end_marks().await;
    let seen = asked.with_fingerprints(seen).await;
    judge(task, &seen)
}

/// The nodes of the clusters that are used and answer, each address, port and account once.
async fn live_nodes(pool: &NodePool, task: &Task) -> Vec<Arc<Node>> {
    let mut nodes: Vec<Arc<Node>> = Vec::new();
    for job in &task.tables {
        for cluster in [task.source(job), task.target(job)] {
            for (_, node) in cluster.nodes() {
                if !nodes.iter().any(|known| is_same_name(known, node)) {
                    nodes.push(Arc::new(node.clone()));
                }
            }
        }
    }
    let answers = join_all(nodes.iter().map(|node| pool.facts(node))).await;
    nodes.into_iter().zip(answers).filter(|(_, answer)| answer.is_ok()).map(|(node, _)| node).collect()
}

/// Whether two entries of the task are asked in the same way.
pub(super) fn is_same_name(one: &Node, other: &Node) -> bool {
    one.address() == other.address() && one.url() == other.url() && one.user == other.user
}

/// Pairs of nodes of which the first is to look at the second over its native port: each at itself, and at others as rows would
/// travel.
async fn native_questions(pool: &NodePool, task: &Task, nodes: &[Arc<Node>]) -> BTreeSet<(usize, usize)> {
    let mut ways = Vec::new();
    let index = |node: &Node| nodes.iter().position(|known| is_same_name(known, node));
    for job in &task.tables {
        let of =
            |cluster: &crate::model::Cluster| cluster.nodes().filter_map(|(_, node)| index(node)).collect::<Vec<_>>();
        let (sources, targets) = (of(task.source(job)), of(task.target(job)));
        let (Some(&first), Some(&into)) = (sources.first(), targets.first()) else { continue };
        let pairs = targets.iter().map(|&to| (first, to)).chain(sources.iter().map(|&from| (from, into)));
        ways.extend(pairs.map(|(from, to)| question(pool, job, nodes, from, to)));
    }
    let own = (0..nodes.len()).map(|at| (at, at));
    join_all(ways).await.into_iter().flatten().chain(own).collect()
}

async fn question(
    pool: &NodePool,
    job: &TableJob,
    nodes: &[Arc<Node>],
    from: usize,
    to: usize,
) -> Option<(usize, usize)> {
    // Parts travel by another port.
    let between = (nodes[from].as_ref(), nodes[to].as_ref());
    match way_of(pool, job, between, true, &ColumnRoutes::default()).await.map(|choice| choice.way) {
        Ok(Way::Push) => Some((from, to)),
        Ok(Way::Pull) => Some((to, from)),
        _ => None,
    }
}

/// The questions to the nodes of one task.
struct Asked<'a> {
    pool: &'a NodePool,
    nodes: Vec<Arc<Node>>,
    /// What the marks begin with.
    prefix: String,
    /// Whether a node's mark has ended.
    ended: Vec<Arc<AtomicBool>>,
    limit: Semaphore,
}

impl<'a> Asked<'a> {
    fn new(pool: &'a NodePool, nodes: Vec<Arc<Node>>) -> Self {
        let prefix = format!("copier_identity_{}_", Randomness::fair().unique(12));
        let ended = nodes.iter().map(|_| Arc::default()).collect();
        Self { pool, nodes, prefix, ended, limit: Semaphore::new(AT_ONCE) }
    }

    /// Runs the mark of a node, and says when it has ended. Never returns.
    fn hold(&self, at: usize) -> impl Future<Output = ()> + use<'a> {
        let (pool, node) = (self.pool, self.nodes[at].clone());
        let (mark, ended) = (format!("{}{at}", self.prefix), self.ended[at].clone());
        async move {
            // Small blocks let the statement be ended. An account that may set nothing runs a shorter one.
            let small = [("max_block_size".to_owned(), "1".to_owned())];
            let settings = pool.settings(&node, small.iter().map(|(name, value)| (name, value))).await;
            if let Err(error) = pool.client.hold_mark(&node, &mark, &settings.unwrap_or_default()).await {
                tracing::debug!(%node, "{error}");
            }
            ended.store(true, Ordering::Relaxed);
            std::future::pending().await
        }
    }

    fn has_ended(&self, at: usize) -> bool {
        self.ended[at].load(Ordering::Relaxed)
    }

    /// Looks at all nodes: first until each shows its mark, then for all marks.
    async fn look(&self, native: &BTreeSet<(usize, usize)>) -> Vec<Seen> {
        let shown = join_all((0..self.nodes.len()).map(|at| self.wait_for_own(at))).await;
        let mut seen = join_all(shown.into_iter().enumerate().map(|(at, shown)| async move {
            let looks = if shown == Shown::Yes { LOOKS } else { 0 };
            let looks = join_all((0..looks).map(|_| self.marks(at))).await;
            let looks: Vec<BTreeSet<usize>> = looks.into_iter().flatten().collect();
            Seen::new(at, self.nodes[at].clone(), looks, shown)
        }))
        .await;
        let behind = join_all(native.iter().map(|&(from, to)| self.look_behind(from, to))).await;
        for found in behind.into_iter().flatten() {
            seen[found.node].behind.push(found);
        }
        for (at, seen) in seen.iter_mut().enumerate() {
            seen.held = seen.shown == Shown::Yes && !self.has_ended(at);
            seen.sees_all = self.pool.known_facts(&self.nodes[at]).is_some_and(|facts| facts.release() < GRANTS);
        }
        seen
    }

    /// Waits until a node shows its own mark.
    async fn wait_for_own(&self, at: usize) -> Shown {
        let begun = Instant::now();
        let (mut looks, mut pause) = (0, PAUSES[0]);
        loop {
            match self.marks(at).await {
                Some(marks) if marks.contains(&at) => return Shown::Yes,
                Some(_) => looks += 1,
                None => {}
            }
            if self.has_ended(at) {
                return Shown::Unknown;
            }
            if begun.elapsed() >= PATIENCE {
                return if looks >= FEWEST_LOOKS { Shown::Never } else { Shown::Unknown };
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// The nodes whose marks run on the server that answers; `None` where none answers.
    async fn marks(&self, at: usize) -> Option<BTreeSet<usize>> {
        // Never closed.
        let _turn = self.limit.acquire().await.ok()?;
        let found = self.pool.client.marks(&self.nodes[at], &self.prefix).await;
        Some(self.numbers(found.ok()?))
    }

    fn numbers(&self, marks: BTreeSet<String>) -> BTreeSet<usize> {
        marks.iter().filter_map(|mark| mark.strip_prefix(&self.prefix)?.parse().ok()).collect()
    }

    /// Looks at a node over its native port, from another one or from itself; `None` where that gives no certain answer.
    async fn look_behind(&self, from: usize, to: usize) -> Option<Behind> {
        let there = &self.nodes[to];
        // A collection has an account of its own, which may see less.
        if there.named_collection.is_some() {
            return None;
        }
        let release = self.pool.known_facts(there).map(|facts| facts.release())?;
        let old = release < GRANTS;
        // Rows that pass through the worker need no password in a statement, which an old server would log.
        if from == to && release < MASKING && !there.password.expose().is_empty() {
            return None;
        }
        let here = &self.nodes[from];
        let turn = self.limit.acquire().await.ok()?;
        let found = self.pool.client.marks_behind(here, there, &self.prefix).await;
        drop(turn);
        let own = self.numbers(found.ok()?).contains(&to);
        // A server that takes an address for its own answers with the account that asks.
        (own || old || here.user == there.user).then(|| Behind { node: to, from: here.clone(), own })
    }

    async fn end_marks(&self) {
        join_all(self.nodes.iter().enumerate().map(|(at, node)| async move {
            let _turn = self.limit.acquire().await.ok();
            // One that cannot be ended ends by itself.
            if let Err(error) = self.pool.client.end_mark(node, &format!("{}{at}", self.prefix)).await {
                tracing::debug!(%node, "{error}");
            }
        }))
        .await;
    }

    /// Asks those nodes what they say of themselves that could not be told from others by marks.
    async fn with_fingerprints(&self, mut seen: Vec<Seen>) -> Vec<Seen> {
        let blind = judge::not_told_apart(&seen);
        let answers = join_all(blind.iter().map(|&at| self.pool.client.fingerprint(&self.nodes[at]))).await;
        for (at, answer) in blind.into_iter().zip(answers) {
            seen[at].fingerprint = answer.ok();
        }
        seen
    }
}

/// The first version that logs statements without the passwords in them.
const MASKING: (u32, u32) = (22, 12);

/// The first version with grants: accounts of later ones may see their own statements only.
const GRANTS: (u32, u32) = (20, 4);

/// Whether a node has shown its mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Yes,
    /// Asked often, it has not, while the mark ran.
    Never,
    Unknown,
}
