//! The check that each node of a task is one server, and that different nodes are different servers. With two names of one server, the
//! copy would read or write a table twice, and both sides would still look equal.
//!
//! Each node gets a statement that does nothing for some seconds and carries a mark. Then each node is asked, over new connections,
//! which marks run there. A server shows the marks of all its names. A node that does not always show its own mark is several
//! servers. Nodes are also asked over the native port, where rows would travel by it. Creates nothing, and ends its statements.

mod judge;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use judge::{Behind, Seen, judge};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::errors::Problem;
use crate::model::{Node, Way};
use crate::nodes::column_routes::ColumnRoutes;
use crate::nodes::pool::NodePool;
use crate::nodes::routes::way_of;
use crate::runtime::random::Randomness;
use crate::task::{TableJob, Task};

/// The most questions at once.
const MAX_QUESTIONS: usize = 32;
/// How often a node is asked after all marks were seen. Behind a load balancer, different servers may answer.
const QUESTIONS_PER_NODE: usize = 5;
/// How long to wait for a mark.
const MARK_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of answers without the mark after which the server counts as another one.
const MIN_ANSWERS: u32 = 10;
/// The first and the longest pause between two questions for a mark. The pause doubles.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(400)];

/// Asks all nodes that the task uses. Returns their faults, and remarks on pairs of nodes that could not be decided.
pub(super) async fn identify(pool: &NodePool, task: &Task) -> (Vec<Problem>, Vec<String>) {
    let nodes = live_nodes(pool, task).await;
    if nodes.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let native = native_questions(pool, task, &nodes).await;
    let asked = Asked::new(pool, nodes);
    let held: Vec<_> = (0..asked.nodes.len()).map(|at| asked.hold(at)).collect();
    let seen = {
        let looks = asked.observe(&native);
        tokio::pin!(looks);
        tokio::select! {
            // Send the marks first. They run until all questions are answered.
            biased;
            _ = join_all(held) => Vec::new(),
            seen = &mut looks => seen,
        }
    };
    asked.end_marks().await;
    let seen = asked.with_fingerprints(seen).await;
    judge(task, &seen)
}

/// Returns the nodes of the used clusters that answer, each address, port and account once.
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

/// Returns whether two entries of the task have the same address and account.
pub(super) fn is_same_name(one: &Node, other: &Node) -> bool {
    one.address() == other.address() && one.url() == other.url() && one.user == other.user
}

/// Returns the pairs of nodes where the first must ask the second over its native port: each node itself, and the nodes between which
/// rows would travel.
async fn native_questions(pool: &NodePool, task: &Task, nodes: &[Arc<Node>]) -> BTreeSet<(usize, usize)> {
    let mut ways = Vec::new();
    let index = |node: &Node| nodes.iter().position(|known| is_same_name(known, node));
    for job in &task.tables {
        let indexes =
            |cluster: &crate::model::Cluster| cluster.nodes().filter_map(|(_, node)| index(node)).collect::<Vec<_>>();
        let (sources, targets) = (indexes(task.source(job)), indexes(task.target(job)));
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
    // Cloned parts travel by another port.
    let route = way_of(pool, job, &nodes[from], &nodes[to], true, &ColumnRoutes::default()).await;
    match route.map(|route| route.way) {
        Ok(Way::Push) => Some((from, to)),
        Ok(Way::Pull) => Some((to, from)),
        _ => None,
    }
}

/// The questions to the nodes of one task.
struct Asked<'a> {
    pool: &'a NodePool,
    nodes: Vec<Arc<Node>>,
    /// The prefix of the marks.
    prefix: String,
    /// Whether a node's mark has ended.
    ended: Vec<Arc<AtomicBool>>,
    limit: Semaphore,
}

impl<'a> Asked<'a> {
    fn new(pool: &'a NodePool, nodes: Vec<Arc<Node>>) -> Self {
        let prefix = format!("copier_identity_{}_", Randomness::fair().unique(12));
        let ended = nodes.iter().map(|_| Arc::default()).collect();
        Self { pool, nodes, prefix, ended, limit: Semaphore::new(MAX_QUESTIONS) }
    }

    /// Runs the mark of a node, and records when it has ended. Never returns.
    fn hold(&self, at: usize) -> impl Future<Output = ()> + use<'a> {
        let (pool, node) = (self.pool, self.nodes[at].clone());
        let (mark, ended) = (format!("{}{at}", self.prefix), self.ended[at].clone());
        async move {
            // With small blocks the statement can be killed. An account that may change no settings runs a shorter statement.
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

    /// Asks all nodes: first until each shows its mark, then for all marks.
    async fn observe(&self, native: &BTreeSet<(usize, usize)>) -> Vec<Seen> {
        let shown = join_all((0..self.nodes.len()).map(|at| self.wait_for_own(at))).await;
        let mut seen = join_all(shown.into_iter().enumerate().map(|(at, shown)| async move {
            let looks = if shown == Shown::Yes { QUESTIONS_PER_NODE } else { 0 };
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
        let started = Instant::now();
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
            if started.elapsed() >= MARK_TIMEOUT {
                return if looks >= MIN_ANSWERS { Shown::Never } else { Shown::Unknown };
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// Returns the nodes whose marks run on the server that answers, or `None` where none answers.
    async fn marks(&self, at: usize) -> Option<BTreeSet<usize>> {
        // The semaphore is never closed.
        let _turn = self.limit.acquire().await.ok()?;
        let found = self.pool.client.marks(&self.nodes[at], &self.prefix).await;
        Some(self.numbers(found.ok()?))
    }

    fn numbers(&self, marks: BTreeSet<String>) -> BTreeSet<usize> {
        marks.iter().filter_map(|mark| mark.strip_prefix(&self.prefix)?.parse().ok()).collect()
    }

    /// Asks a node over its native port, from another node or from itself. Returns `None` where that gives no certain answer.
    async fn look_behind(&self, from: usize, to: usize) -> Option<Behind> {
        let observed = &self.nodes[to];
        // A named collection has its own account, which may see fewer statements.
        if observed.named_collection.is_some() {
            return None;
        }
        let release = self.pool.known_facts(observed).map(|facts| facts.release())?;
        let old = release < GRANTS;
        // An old server would log the password in this statement. Rows that pass through the worker do not need it.
        if from == to && release < MASKING && !observed.password.expose().is_empty() {
            return None;
        }
        let here = &self.nodes[from];
        let turn = self.limit.acquire().await.ok()?;
        let found = self.pool.client.marks_behind(here, observed, &self.prefix).await;
        drop(turn);
        let own = self.numbers(found.ok()?).contains(&to);
        // A server that takes an address for its own answers with the account of the asking node.
        (own || old || here.user == observed.user).then(|| Behind { node: to, from: here.clone(), own })
    }

    async fn end_marks(&self) {
        join_all(self.nodes.iter().enumerate().map(|(at, node)| async move {
            let _turn = self.limit.acquire().await.ok();
            // A statement that cannot be killed ends after some seconds.
            if let Err(error) = self.pool.client.end_mark(node, &format!("{}{at}", self.prefix)).await {
                tracing::debug!(%node, "{error}");
            }
        }))
        .await;
    }

    /// Reads the facts of nodes that marks could not decide.
    async fn with_fingerprints(&self, mut seen: Vec<Seen>) -> Vec<Seen> {
        let blind = judge::not_told_apart(&seen);
        let answers = join_all(blind.iter().map(|&at| self.pool.client.fingerprint(&self.nodes[at]))).await;
        for (at, answer) in blind.into_iter().zip(answers) {
            seen[at].fingerprint = answer.ok();
        }
        seen
    }
}

/// The first release that masks passwords in logged statements.
const MASKING: (u32, u32) = (22, 12);

/// The first release with grants. On it and later ones, an account may see only its own statements.
const GRANTS: (u32, u32) = (20, 4);

/// Whether a node has shown its own mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Yes,
    /// It was asked often while the mark ran, and did not show it.
    Never,
    Unknown,
}
