//! Removing what was found: the record first, then statements, then tables.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use crate::client::Settings;
use crate::model::Node;
use crate::protocol::to_void;

use super::{Cleaner, Findings, Leftover, Removal, Thing};
use crate::ledger::{ClaimChange, Outcome};
use crate::nodes::settings::wanted_for_target;
use crate::planning::errors::RunError;
use crate::runtime::fault_point::fault_point;
use crate::runtime::signals::Interrupt;

/// How long a statement that was told to end may take, and how often it is looked at. Servers tell nobody.
const END_LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);

impl Cleaner {
    /// Removes what may go. Stops where it is when told to, or when the session is lost: all of it can be done again.
    ///
    /// # Errors
    /// Nothing is removed while somebody is alive in the task, or when nobody said which task it is.
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

    fn refuse(&self, found: &Findings) -> Result<(), RunError> {
        let world = |line: String| Err(RunError::World(vec![line]));
        // Without a task, tables on the servers may be anybody's. Without either there is nothing to remove.
        if self.id.is_none() && found.things.is_empty() {
            return Ok(());
        }
        let Some(id) = &self.id else {
            return Err(RunError::Task(vec![format!(
                "there is no task at {}, so nothing is removed: --task-id says whose tables may go",
                self.task_path
            )]));
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

    /// Records that the staged rows of what is not done count no more. How many batches had some.
    pub(super) async fn give_up(&mut self) -> Result<usize, RunError> {
        let batches = to_void(&self.cache.by_table);
        for batch in &batches {
            let expected = self.cache.by_table[batch.table].batches[batch.batch].clone();
            let (next, none) = (expected.void(), ClaimChange::None);
            let changed = self.ledger.change_batch(&mut self.cache, *batch, &expected, next, none, &self.name).await?;
            if changed == Outcome::Lost {
                return Err(RunError::World(vec!["somebody else has changed the task's records: try again".into()]));
            }
        }
        Ok(batches.len())
    }

    pub(super) async fn clear(&self, found: &Findings, removal: &mut Removal) {
        let mut by_node: BTreeMap<String, Vec<&Leftover>> = BTreeMap::new();
        for thing in found.removable() {
            by_node.entry(format!("{}@{}", thing.node.user, thing.node.url())).or_default().push(thing);
        }
        // Statements of all nodes first: those of the source write into tables of the target.
        let ended = join_all(by_node.values().map(|things| self.end_statements(things))).await;
        let dropped = join_all(by_node.values().map(|things| self.drop_tables(things))).await;
        for (count, failed) in ended {
            removal.statements += count;
            removal.failed.extend(failed);
        }
        for (count, failed) in dropped {
            removal.tables += count;
            removal.failed.extend(failed);
        }
    }

    async fn end_statements(&self, things: &[&Leftover]) -> (usize, Vec<String>) {
        let (mut ended, mut failed) = (0, Vec::new());
        for thing in things {
            let Thing::Statement { query_id, .. } = &thing.what else { continue };
            match self.end_statement(&thing.node, query_id).await {
                Ok(()) => {
                    tracing::info!("{}: ended {query_id}", thing.node);
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
        let begun = Instant::now();
        loop {
            let running = client.running(node, query_id).await.map_err(|error| error.to_string())?;
            if running.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > END_LIMIT {
                return Err(format!("{node}: {query_id} was told to end and still runs"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn drop_tables(&self, things: &[&Leftover]) -> (usize, Vec<String>) {
        let (mut dropped, mut failed) = (0, Vec::new());
        for thing in things {
            let Thing::Table(name, _) = &thing.what else { continue };
            let settings = self.drop_settings(&thing.node).await;
            match self.pool.client.drop_table(&thing.node, name, &settings).await {
                Ok(()) => {
                    tracing::info!("{}: dropped {name}", thing.node);
                    dropped += 1;
                }
                Err(error) => failed.push(error.to_string()),
            }
        }
        (dropped, failed)
    }

    /// The task's settings, and what lets large tables go. A node that cannot be asked says so again at the drop.
    async fn drop_settings(&self, node: &Node) -> Settings {
        let mut wanted = wanted_for_target(&self.task);
        for name in ["max_table_size_to_drop", "max_partition_size_to_drop"] {
            wanted.insert(name.to_owned(), "0".to_owned());
        }
        self.pool.settings(node, &wanted).await.unwrap_or_default()
    }
}
