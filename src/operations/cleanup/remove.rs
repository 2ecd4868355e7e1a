//! The removal of leftovers: changes the records first, then ends statements, then drops tables.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::{Cleaner, Findings, Leftover, LeftoverKind, Removal};
use crate::client::Settings;
use crate::ledger::{ClaimChange, Outcome};
use crate::model::Node;
use crate::nodes::settings::wanted_for_target;
use crate::planning::errors::RunError;
use crate::protocol::to_void;
use crate::runtime::fault_point::fault_point;
use crate::runtime::signals::Interrupt;

/// How long a killed statement may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(60);
/// How often to check whether a killed statement has ended. Servers do not report it.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

impl Cleaner {
    /// Removes the removable leftovers. Stops at an interrupt, or when the session is lost; another cleanup can remove the rest.
    ///
    /// # Errors
    /// When a worker of the task is alive, or when the task is unknown. Nothing is removed then.
    pub async fn remove(&mut self, found: &Findings, interrupt: &Interrupt) -> Result<Removal, RunError> {
        self.refuse(found)?;
        let mut removal = Removal { given_up: self.give_up().await?, ..Removal::default() };
        fault_point("cleanup-recorded").await;
        let session = self.ledger.session().clone();
        tokio::select! {
            biased;
            lost = session.lost() => return Err(lost.into()),
            () = interrupt.finish() => removal.interrupted = true,
            () = self.clear(found, &mut removal) => {}
        }
        Ok(removal)
    }

    /// Refuses a removal while workers are alive or the task is unknown.
    fn refuse(&self, found: &Findings) -> Result<(), RunError> {
        let world = |line: String| Err(RunError::servers(line));
        // Without a task, tables of an unknown task may be of one that was here. Where there are none, there is nothing to remove.
        if self.id.is_none() && !found.has_leftovers_of_unknown_tasks() {
            return Ok(());
        }
        let Some(id) = &self.id else {
            return Err(RunError::task(format!(
                "there is no task at {}, so nothing is removed: --task-id says whose tables may go",
                self.task_path
            )));
        };
        if self.record.is_none() {
            return match found.neighbours.get(id) {
                Some(path) => world(format!("task {} lives at {path}: clean up there, with --task-path {path}", id.0)),
                None => Ok(()),
            };
        }
        if !found.holders.is_empty() {
            let workers: Vec<&str> = found.holders.iter().map(|holder| holder.worker.as_str()).collect();
            return world(format!(
                "nothing is removed while somebody is at work on the task: {}. A worker that was killed counts as alive \
                 until its session ends (session_timeout_ms)",
                workers.join(", ")
            ));
        }
        if !self.holds_places {
            return world(format!("somebody was at work on the task at {} a moment ago: try again", self.task_path));
        }
        Ok(())
    }

    /// Records that the staged rows of unfinished batches are given up. Returns the number of batches that had some.
    pub(super) async fn give_up(&mut self) -> Result<usize, RunError> {
        let batches = to_void(&self.cache.by_table);
        for batch in &batches {
            let expected = self.cache.by_table[batch.table].batches[batch.index].clone();
            let (next, none) = (expected.void(), ClaimChange::None);
            let changed = self.ledger.change_batch(&mut self.cache, *batch, &expected, next, none, &self.name).await?;
            if changed == Outcome::Lost {
                return Err(RunError::servers("somebody else has changed the task's records: try again"));
            }
        }
        Ok(batches.len())
    }

    /// Ends the statements and drops the tables.
    pub(super) async fn clear(&self, found: &Findings, removal: &mut Removal) {
        let mut by_node: BTreeMap<String, Vec<&Leftover>> = BTreeMap::new();
        for leftover in found.removable() {
            by_node.entry(format!("{}@{}", leftover.node.user, leftover.node.url())).or_default().push(leftover);
        }
        // End the statements on all nodes first, since statements of the source write into tables of the target.
        let ended = join_all(by_node.values().map(|leftovers| self.end_statements(leftovers))).await;
        let dropped = join_all(by_node.values().map(|leftovers| self.drop_tables(leftovers))).await;
        for (count, failed) in ended {
            removal.statements += count;
            removal.failed.extend(failed);
        }
        for (count, failed) in dropped {
            removal.tables += count;
            removal.failed.extend(failed);
        }
    }

    async fn end_statements(&self, leftovers: &[&Leftover]) -> (usize, Vec<String>) {
        let (mut ended, mut failed) = (0, Vec::new());
        for leftover in leftovers {
            let LeftoverKind::Statement { query_id, .. } = &leftover.what else { continue };
            match self.end_statement(&leftover.node, query_id).await {
                Ok(()) => {
                    tracing::info!("{}: ended {query_id}", leftover.node);
                    ended += 1;
                }
                Err(line) => failed.push(line),
            }
        }
        (ended, failed)
    }

    async fn end_statement(&self, node: &Node, query_id: &str) -> Result<(), String> {
        let client = &self.pool.client;
        client.kill(node, query_id).await.map_err(|error| error.to_string())?;
        let started = Instant::now();
        loop {
            let running = client.running(node, query_id).await.map_err(|error| error.to_string())?;
            if running.is_empty() {
                return Ok(());
            }
            if started.elapsed() > END_TIMEOUT {
                return Err(format!("{node}: {query_id} was told to end and still runs"));
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    async fn drop_tables(&self, leftovers: &[&Leftover]) -> (usize, Vec<String>) {
        let (mut dropped, mut failed) = (0, Vec::new());
        for leftover in leftovers {
            let LeftoverKind::Table(name, _) = &leftover.what else { continue };
            let settings = self.drop_settings(&leftover.node).await;
            match self.pool.client.drop_table(&leftover.node, name, &settings).await {
                Ok(()) => {
                    tracing::info!("{}: dropped {name}", leftover.node);
                    dropped += 1;
                }
                Err(error) => failed.push(error.to_string()),
            }
        }
        (dropped, failed)
    }

    /// Returns the settings of the task, and those that allow dropping large tables. Returns none if the node does not answer; the DROP
    /// then reports the error.
    async fn drop_settings(&self, node: &Node) -> Settings {
        let mut wanted = wanted_for_target(&self.task);
        for name in ["max_table_size_to_drop", "max_partition_size_to_drop"] {
            wanted.insert(name.to_owned(), "0".to_owned());
        }
        self.pool.settings(node, &wanted).await.unwrap_or_default()
    }
}
