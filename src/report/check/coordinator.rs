//! Turns facts about the coordinator into findings. Pure.

use super::super::leftovers::size;
use super::judge::{Findings, NO_SUBJECT};
use super::{Level, Topic};
use crate::coordinator::{CLOSE_ZOOKEEPER, COMMIT_LIMIT};
use crate::ledger::footprint;
use crate::operations::check::KeeperFacts;

/// The highest number of nodes of a task without a warning. A larger task is slow to read, and slows down others on the
/// same ZooKeeper (docs/design.md, §4).
const MAX_USUAL_NODES: usize = 100_000;

impl Findings<'_> {
    /// Adds findings about the coordinator, and about the nodes that the task would create there.
    pub(super) fn add_coordinator(&mut self, keeper: &KeeperFacts) {
        let KeeperFacts { place, task_path, .. } = keeper;
        if let Some(error) = &keeper.error {
            return self.add(Level::Fault, Topic::Zookeeper, NO_SUBJECT, error, None);
        }
        match &keeper.record {
            Some(record) if record.forgotten => {
                let what = format!("the task at {task_path} is being forgotten");
                let todo = Some("cleanup --remove --forget ends that");
                self.add(Level::Fault, Topic::Zookeeper, NO_SUBJECT, what, todo);
            }
            Some(record) if record.finished => {
                let what = format!("the task at {task_path} is finished: a run has nothing to do");
                self.add(Level::Remark, Topic::Zookeeper, NO_SUBJECT, what, None);
            }
            Some(_) => {
                let what = format!("the task at {task_path} was begun: a run goes on where it stands");
                self.add(Level::Remark, Topic::Zookeeper, NO_SUBJECT, what, None);
            }
            None => {}
        }
        if keeper.open_to_all {
            let what = format!("everybody who reaches {place} can change the task there");
            self.add(Level::Remark, Topic::Zookeeper, NO_SUBJECT, what, Some(CLOSE_ZOOKEEPER));
        }
        if keeper.description > COMMIT_LIMIT {
            let what = format!(
                "the task file has {}; a node takes {}",
                size(keeper.description as u64),
                size(COMMIT_LIMIT as u64)
            );
            self.add(Level::Fault, Topic::Zookeeper, NO_SUBJECT, what, Some("Make several tasks of it"));
        }
        let plans = self.observed.tables.iter().filter_map(|facts| facts.plan.plan());
        let (nodes, bytes) = plans.map(footprint).fold((0, 0), |(n, b), (nodes, bytes)| (n + nodes, b + bytes));
        if nodes > 0 {
            let what = format!("the task takes {nodes} nodes in {place}; its plan has {}", size(bytes as u64));
            let is_large = nodes > MAX_USUAL_NODES;
            let todo = is_large.then_some("A larger <batch_bytes>, or several tasks, make it less");
            self.add(if is_large { Level::Warning } else { Level::Remark }, Topic::Zookeeper, NO_SUBJECT, what, todo);
        }
    }
}
