//! Limits the number of statements of this process on a server.
//!
//! Every statement takes a permit of each server that runs it, and as many permits of the process as it has
//! connections. The permits of a server are per host and HTTP port, for all accounts together. They come in four
//! shares, because statements of one kind must proceed while all permits of another kind are taken:
//!
//! | share | statements |
//! | --- | --- |
//! | control | reads of running statements, KILL |
//! | question | reads of system tables, types of expressions, CREATE, DROP, RENAME |
//! | count | counts and checksums, which read a table |
//! | transfer | statements that move rows or parts: push, pull, relay, ALTER of partitions. No time limit |
//!
//! # No deadlock
//! - A request takes all its permits before it is sent: first those of the servers, in the order of their addresses,
//!   then those of the process. Within a share no two requests can wait for each other.
//! - While a control, a question or a count holds permits, it waits only for its server. So its permits come back.
//! - A transfer asks questions while it holds permits of the share of transfers. No holder of another share waits for
//!   a transfer.
//! - A request takes at most all permits of a share, so it can always begin.
//!
//! The statement that marks a server (see [`Probe`](super::super::Probe)) takes no permit: each account runs one,
//! once for a task.
//!
//! # Cancellation
//! If its future is dropped, a request that waits for permits leaves the queue. If the future of a sent statement is
//! dropped, its permits come back; the statement itself may continue.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::STALL_TIMEOUT;
use crate::model::Node;

/// The smallest limit of statements on a server: one of each share.
pub(crate) const FEWEST_STATEMENTS: u16 = 4;
/// The largest limit of statements on a server that a user may set.
pub(crate) const MOST_STATEMENTS: u16 = 1000;
/// The default limit. Five workers together stay below the 100 statements that a server accepts by default
/// (`max_concurrent_queries`).
pub(crate) const USUAL_STATEMENTS: u16 = 20;

/// Descriptors reserved for logs, the coordinator, the page and other files of a process.
const OTHER_DESCRIPTORS: u64 = 64;
/// Descriptors reserved for readers of metrics, if the process has many; otherwise one in [`SERVED_PART`].
const MOST_SERVED: u64 = 64;
/// One in this many descriptors of the process may be a connection that it serves.
const SERVED_PART: u64 = 4;
/// The largest number of connections of a process, however many descriptors it has.
const MOST_CONNECTIONS: u64 = 4096;
/// Idle connections kept to each server, for a second.
const IDLE: usize = 8;
/// Idle connections kept by a process with few descriptors.
const FEW_IDLE: usize = 2;
/// A process with at most this many descriptors keeps few idle connections.
const FEW_DESCRIPTORS: u64 = 1024;

/// Returns how many connections a process may serve, given how many it wants to. The number is smaller if the process
/// may open few descriptors (`ulimit -n`), so that enough are left for its own work.
pub(crate) fn served_connections(wanted: usize) -> usize {
    usize::try_from(descriptors() / SERVED_PART).unwrap_or(usize::MAX).clamp(1, wanted)
}

/// Returns how many descriptors this process may have open.
fn descriptors() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(FEW_DESCRIPTORS, |(soft, _)| soft)
}

/// Limits of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Concurrent statements on each server.
    pub(crate) statements: usize,
    /// Concurrent connections to all servers, without idle ones.
    pub(crate) connections: usize,
    /// Idle connections to each server.
    pub(crate) idle: usize,
    /// How long a statement may move nothing.
    pub(crate) stall: Duration,
}

impl Limits {
    /// Returns limits with this number of statements on each server. The connections are half of the descriptors that
    /// the process may have (`ulimit -n`) and that are not reserved; the other half is for idle connections.
    pub(crate) fn of(statements: u16) -> Self {
        let descriptors = descriptors();
        let others = OTHER_DESCRIPTORS + MOST_SERVED.min(descriptors / SERVED_PART);
        let connections = (descriptors.saturating_sub(others) / 2).clamp(8, MOST_CONNECTIONS);
        Self {
            statements: usize::from(statements.clamp(FEWEST_STATEMENTS, MOST_STATEMENTS)),
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
            idle: if descriptors <= FEW_DESCRIPTORS { FEW_IDLE } else { IDLE },
            stall: STALL_TIMEOUT,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(USUAL_STATEMENTS)
    }
}

/// The kinds of statements that do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    Control,
    Question,
    Count,
    Transfer,
}

/// The permits of one server, or of the process.
struct Shares {
    sizes: [usize; 4],
    semaphores: [Arc<Semaphore>; 4],
}

impl Shares {
    fn of(all: usize) -> Self {
        let (control, count, question) = ((all / 10).max(1), (all / 5).max(1), (all * 3 / 10).max(1));
        let sizes = [control, question, count, all.saturating_sub(control + count + question).max(1)];
        Self { sizes, semaphores: sizes.map(|size| Arc::new(Semaphore::new(size))) }
    }

    async fn take(&self, share: Share, number: usize) -> Option<OwnedSemaphorePermit> {
        let at = share as usize;
        let number = u32::try_from(number.min(self.sizes[at])).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        self.semaphores[at].clone().acquire_many_owned(number).await.ok()
    }
}

/// The permits of a process. Clones share them.
#[derive(Clone)]
pub(super) struct Permits(Arc<All>);

struct All {
    statements: usize,
    connections: Shares,
    servers: Mutex<HashMap<String, Arc<Shares>>>,
}

/// Permits that a request holds. Dropping them gives them back.
pub(super) struct Permit(#[allow(dead_code, reason = "held, not read")] Vec<OwnedSemaphorePermit>);

impl Permits {
    pub(super) fn new(limits: Limits) -> Self {
        let connections = Shares::of(limits.connections);
        Self(Arc::new(All { statements: limits.statements, connections, servers: Mutex::default() }))
    }

    /// Waits for the permits of a statement on one server.
    pub(super) async fn one(&self, share: Share, node: &Node) -> Permit {
        self.several(share, [node], 1).await
    }

    /// Waits for the permits of a request with one statement for each entry of the list of servers, over this many
    /// connections of the process.
    pub(super) async fn several<'a>(
        &self,
        share: Share,
        nodes: impl IntoIterator<Item = &'a Node>,
        connections: usize,
    ) -> Permit {
        // In the order of addresses.
        let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
        for node in nodes {
            *wanted.entry(format!("{}:{}", node.host, node.http_port)).or_default() += 1;
        }
        let mut held = Vec::new();
        for (address, number) in wanted {
            held.extend(self.server(address).take(share, number).await);
        }
        held.extend(self.0.connections.take(share, connections).await);
        Permit(held)
    }

    fn server(&self, address: String) -> Arc<Shares> {
        let mut servers = self.0.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.entry(address).or_insert_with(|| Arc::new(Shares::of(self.0.statements))).clone()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn permits(statements: usize, connections: usize) -> Permits {
        Permits::new(Limits { statements, connections, idle: 1, stall: STALL_TIMEOUT })
    }

    fn node(host: &str) -> Node {
        Node::new(host)
    }

    #[test]
    fn the_shares_add_up_to_all_statements_of_a_server_and_none_is_empty() {
        for (all, sizes) in [(20, [2, 6, 4, 8]), (100, [10, 30, 20, 40]), (4, [1, 1, 1, 1]), (9, [1, 2, 1, 5])] {
            assert_eq!(Shares::of(all).sizes, sizes, "{all}");
        }
    }

    #[test]
    fn a_process_with_few_descriptors_has_few_connections() {
        let limits = Limits::of(1);
        assert_eq!(limits.statements, usize::from(FEWEST_STATEMENTS));
        assert!(limits.connections >= 8 && limits.connections <= 4096);
    }

    #[tokio::test]
    async fn a_statement_waits_when_its_share_of_the_server_is_full() {
        let (permits, node) = (permits(20, 1000), node("a"));
        let mut held = Vec::new();
        for _ in 0..6 {
            held.push(permits.one(Share::Question, &node).await);
        }
        let other_account = Node { user: "other".into(), ..node.clone() };
        let mut next = Box::pin(permits.one(Share::Question, &other_account));
        assert!((&mut next).now_or_never().is_none(), "a server is full whatever the account");
        assert!(permits.one(Share::Control, &node).now_or_never().is_some(), "KILL gets through");
        let elsewhere = Node::new("b");
        assert!(permits.one(Share::Question, &elsewhere).now_or_never().is_some(), "others are not full");
        held.pop();
        assert!(next.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_cancelled_request_releases_its_permits() {
        let (permits, a, b) = (permits(4, 1000), node("a"), node("b"));
        let held = permits.one(Share::Transfer, &b).await;
        let mut both = Box::pin(permits.several(Share::Transfer, [&a, &b], 1));
        assert!((&mut both).now_or_never().is_none());
        assert!(permits.one(Share::Transfer, &a).now_or_never().is_none(), "the first of the two is held");
        drop(both);
        assert!(permits.one(Share::Transfer, &a).now_or_never().is_some());
        drop(held);
    }

    #[tokio::test]
    async fn transfers_in_both_directions_do_not_deadlock() {
        let (permits, a, b) = (permits(4, 1000), node("a"), node("b"));
        let transfer = |from: Node, to: Node| {
            let permits = permits.clone();
            async move {
                for _ in 0..100 {
                    let held = permits.several(Share::Transfer, [&from, &to], 2).await;
                    tokio::task::yield_now().await;
                    drop(held);
                }
            }
        };
        let forward = tokio::spawn(transfer(a.clone(), b.clone()));
        let backward = tokio::spawn(transfer(b, a.clone()));
        let local = tokio::spawn(transfer(a.clone(), a));
        for task in [forward, backward, local] {
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn many_servers_share_the_connections_of_the_process() {
        let permits = permits(20, 20);
        let mut held = Vec::new();
        for number in 0..6 {
            held.push(permits.one(Share::Question, &node(&format!("h{number}"))).await);
        }
        assert!(permits.one(Share::Question, &node("another")).now_or_never().is_none());
        // A relay to more servers than there are connections still begins if it is alone.
        let nodes: Vec<Node> = (0..50).map(|number| node(&format!("t{number}"))).collect();
        assert!(permits.several(Share::Transfer, &nodes, 51).now_or_never().is_some());
    }
}
