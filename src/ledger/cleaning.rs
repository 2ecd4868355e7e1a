//! The operations of `cleanup` on the records of a task.

use std::collections::BTreeMap;

use super::{Ledger, LedgerError, TASK, parsed};
use crate::coordinator::{Conflict, Error, Op};
use crate::model::AttemptNo;
use crate::protocol::{Claim, HeldClaim, PieceRecord, TaskId, TaskRecord};
use crate::runtime::fault_point::fault_point;

/// Nodes that have one node for each table, batch or group of pieces below them.
const LARGE: [&str; 5] = ["plan", super::EARLIER, "pieces", "batches", "processed"];
/// All nodes of a task below its path. Other nodes there do not belong to the task.
const ALL: [&str; 13] = [
    "plan",
    super::EARLIER,
    "pieces",
    "batches",
    "processed",
    "claims",
    super::servers::ON_SERVERS,
    super::order::ORDER,
    "status",
    "description",
    TASK,
    super::PLACES,
    super::PLACES_VERSION,
];

/// The result of removing a task from the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forgotten {
    /// The node of the task and all nodes below it are removed.
    Everything,
    /// The node of the task stays, with nodes of others below it.
    AllButTheRoot,
}

impl Ledger {
    /// Reads the claims.
    pub(crate) async fn claim_holders(&self) -> Result<Vec<HeldClaim>, LedgerError> {
        let names = self.session.children(&self.path("claims")).await?.unwrap_or_default();
        let paths: Vec<String> = names.iter().map(|name| self.path(&format!("claims/{name}"))).collect();
        let found = self.session.get_many(&paths).await?;
        let held = names.into_iter().zip(found).filter_map(|(name, stored)| {
            let worker = String::from_utf8_lossy(&stored?.data).into_owned();
            Some(HeldClaim { claim: Claim::parse(&name), worker })
        });
        Ok(held.collect())
    }

    /// Reads the tasks next to this one in the coordinator, with their paths. The list is only a hint and leaves out tasks that
    /// cannot be read.
    pub(crate) async fn neighbours(&self) -> BTreeMap<TaskId, String> {
        let Some((parent, own)) = self.root.rsplit_once('/') else { return BTreeMap::new() };
        let above = if parent.is_empty() { "/" } else { parent };
        let names = self.session.children(above).await.ok().flatten().unwrap_or_default();
        let places: Vec<String> =
            names.iter().filter(|name| *name != own).map(|name| format!("{parent}/{name}")).collect();
        let paths: Vec<String> = places.iter().map(|place| format!("{place}/{TASK}")).collect();
        let found = self.session.get_many(&paths).await.unwrap_or_default();
        let tasks = places.into_iter().zip(found).filter_map(|(place, stored)| {
            let record: TaskRecord = parsed(&place, &stored?.data).ok()?;
            Some((record.id, place))
        });
        tasks.collect()
    }

    /// Returns whether a worker has ever begun to copy a piece of the task.
    pub(crate) async fn is_begun(&self) -> Result<bool, LedgerError> {
        let groups = self.session.children(&self.path("pieces")).await?.unwrap_or_default();
        let paths: Vec<String> = groups.iter().map(|group| self.path(&format!("pieces/{group}"))).collect();
        for (path, stored) in paths.iter().zip(self.session.get_many(&paths).await?) {
            let Some(stored) = stored else { continue };
            let pieces: Vec<PieceRecord> = parsed(path, &stored.data)?;
            if pieces.iter().any(|piece| piece.attempt > AttemptNo(0)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the task from the coordinator. The caller must hold all its places under `place`. Marks the record first, since the
    /// removal takes several commits. The last commit removes all remaining nodes at once, together with the place. If the caller dies
    /// in between, the removal must run again.
    pub(crate) async fn forget(&self, place: &str) -> Result<Forgotten, LedgerError> {
        self.set_task(|record| record.forgotten = true).await?;
        for name in LARGE {
            let children = self.session.children(&self.path(name)).await?.unwrap_or_default();
            let ops = children.iter().map(|child| Op::delete(self.path(&format!("{name}/{child}")), None));
            self.commit_all(ops.collect()).await?;
        }
        fault_point("half-forgotten").await;
        let others = self.session.children(&self.root).await?.unwrap_or_default();
        let mut with_root = others.iter().all(|child| ALL.contains(&child.as_str()));
        loop {
            let paths: Vec<String> = ALL.iter().map(|name| self.path(name)).collect();
            let found = self.session.get_many(&paths).await?;
            let mut ops = vec![Op::delete(self.path(place), None)];
            ops.extend(
                paths
                    .into_iter()
                    .zip(found)
                    .filter(|(_, stored)| stored.is_some())
                    .map(|(path, _)| Op::delete(path, None)),
            );
            if with_root {
                ops.push(Op::delete(self.root.clone(), None));
            }
            let outcome = if with_root { Forgotten::Everything } else { Forgotten::AllButTheRoot };
            match self.session.commit(ops).await {
                Ok(()) => return Ok(outcome),
                Err(Error::Unknown { .. }) if self.session.get(&self.path(TASK)).await?.is_none() => {
                    return Ok(outcome);
                }
                Err(Error::Unknown { .. }) => {}
                Err(Error::Conflict { path, why: Conflict::NotEmpty, .. }) if path == self.root => with_root = false,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
