//! The admission of an attempt at a piece: the attempt waits for a place on each of its servers, where the task limits jobs per
//! server, and for target replicas with a short queue.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::super::context::WorkerContext;
use crate::client::ReplicaState;
use crate::ledger::membership::any;
use crate::ledger::{Ledger, LedgerError, Outcome};
use crate::model::Node;
use crate::protocol::{BatchRecord, PieceRef, ServerPlace};
use crate::runtime::signals::Interrupt;

/// How often the limit of jobs and the queues of replicas are read again.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// The most queue entries of a replica that keeps up.
const MAX_QUEUE: u64 = 100;
/// How long to wait for a replica. A replica whose queue is stuck must not stop the copy.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(600);

/// The places on servers that a job holds.
pub(crate) struct Admitted(Vec<ServerPlace>);

/// The admission of the attempts of one job.
pub(crate) struct Admission<'a> {
    /// The context of the worker.
    pub(crate) context: &'a WorkerContext,
    /// The records of the task, with the places that are taken.
    pub(crate) ledger: &'a Ledger,
    /// The interrupt that ends waits.
    pub(crate) interrupt: &'a Interrupt,
    /// The name of the job, for log lines.
    pub(crate) name: &'a str,
}

impl Admission<'_> {
    /// Waits until an attempt at a piece may begin. Returns `None` when the run is interrupted first.
    pub(crate) async fn admit(
        &self,
        piece: PieceRef,
        batch: &BatchRecord,
        sources: impl Iterator<Item = &Node>,
    ) -> Result<Option<Admitted>, LedgerError> {
        if !self.replicas_keep_up(piece, batch).await {
            return Ok(None);
        }
        let targets = batch.nodes.iter().flatten().cloned();
        let servers: BTreeSet<String> = sources.map(Node::address).chain(targets).collect();
        let holder = format!("{} {}.{}", self.context.worker, piece.table, piece.index);
        let (name, mut is_announced) = (self.name, false);
        loop {
            let Some(limit) = self.context.task().max_jobs_per_server else { return Ok(Some(Admitted(Vec::new()))) };
            let (taken, change) = self.ledger.watch_on_servers().await?;
            match places(&servers, &taken, limit.get()) {
                Ok(places) => {
                    if self.ledger.enter_servers(&places, &holder).await? == Outcome::Done {
                        return Ok(Some(Admitted(places)));
                    }
                    continue;
                }
                Err(full) if !is_announced => {
                    is_announced = true;
                    tracing::info!(
                        node = full,
                        names_table = true,
                        "{name}: waits for {full}: {limit} of {limit} jobs are at work there"
                    );
                }
                Err(_) => {}
            }
            tokio::select! {
                biased;
                () = self.interrupt.finish() => return Ok(None),
                lost = self.ledger.session().lost() => return Err(lost.into()),
                () = any(vec![change]) => {}
                // The limit may have changed.
                () = sleep(CHECK_INTERVAL) => {}
            }
        }
    }

    /// Releases the places.
    pub(crate) async fn dismiss(&self, admitted: Admitted) -> Result<(), LedgerError> {
        self.ledger.leave_servers(&admitted.0).await
    }

    /// Waits while a target replica has a long queue, since more rows would make the queue longer. Returns `false` when the run is
    /// interrupted.
    async fn replicas_keep_up(&self, piece: PieceRef, batch: &BatchRecord) -> bool {
        let (name, started) = (self.name, Instant::now());
        let mut is_announced = false;
        while let Some((node, state)) = self.behind(piece, batch).await {
            let has = format!("replica {node} of the target has {} entries in its queue", state.queue);
            if started.elapsed() > QUEUE_TIMEOUT {
                tracing::warn!(
                    node = node.address(),
                    names_table = true,
                    "{name}: {has} after {} min of waiting; going on",
                    QUEUE_TIMEOUT.as_secs() / 60
                );
                break;
            }
            if !is_announced {
                is_announced = true;
                tracing::info!(node = node.address(), names_table = true, "{name}: waits, since {has}");
            }
            tokio::select! {
                biased;
                () = self.interrupt.finish() => return false,
                () = sleep(CHECK_INTERVAL) => {}
            }
        }
        true
    }

    /// Returns a target replica with a long queue, if there is one. Does not wait for a replica that does not answer.
    async fn behind(&self, piece: PieceRef, batch: &BatchRecord) -> Option<(Arc<Node>, ReplicaState)> {
        let context = self.context;
        if !context.plans[piece.table].engine_replicates {
            return None;
        }
        let task = context.task();
        let shards = &task.target(&task.tables[piece.table]).shards;
        let used = batch.nodes.iter().enumerate().filter(|(_, nodes)| !nodes.is_empty());
        let nodes: Vec<Arc<Node>> =
            used.flat_map(|(shard, _)| shards[shard].replicas.iter().cloned().map(Arc::new)).collect();
        let target = &context.plans[piece.table].target;
        let states = join_all(nodes.into_iter().map(|node| async move {
            let state = context.pool.client.replica_state(&node, target).await.ok().flatten()?;
            Some((node, state))
        }));
        states.await.into_iter().flatten().find(|(_, state)| state.queue > MAX_QUEUE)
    }
}

/// Returns a free place on each server, as far as this worker knows; otherwise a server without a free place.
fn places(servers: &BTreeSet<String>, taken: &[ServerPlace], limit: u32) -> Result<Vec<ServerPlace>, String> {
    let free = |server: &String| {
        let mut all = (0..limit).map(|number| ServerPlace { address: server.clone(), number });
        // After the limit was lowered, places with higher numbers may still be taken.
        let busy = taken.iter().filter(|place| place.address == *server).count();
        let free = all.find(|place| !taken.contains(place)).filter(|_| busy < limit as usize);
        free.ok_or_else(|| server.clone())
    };
    servers.iter().map(free).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_gets_a_place_on_every_server_or_on_none() {
        let servers = BTreeSet::from(["a:9000".to_owned(), "b:9000".to_owned()]);
        let taken = |names: &[&str]| names.iter().map(|name| ServerPlace::parse(name).unwrap()).collect::<Vec<_>>();
        let places = |servers: &BTreeSet<String>, taken: &[ServerPlace], limit| {
            places(servers, taken, limit).map(|places| places.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(places(&servers, &[], 1).unwrap(), ["a:9000#0", "b:9000#0"]);
        assert_eq!(places(&servers, &taken(&["a:9000#0"]), 1), Err("a:9000".to_owned()));
        assert_eq!(places(&servers, &taken(&["a:9000#0", "b:9000#1"]), 2).unwrap(), ["a:9000#1", "b:9000#0"]);
        assert_eq!(places(&servers, &taken(&["a:9000#4"]), 1), Err("a:9000".to_owned()), "the limit was lowered");
        assert_eq!(places(&servers, &taken(&["aa:9000#0"]), 1).unwrap(), ["a:9000#0", "b:9000#0"]);
    }
}
