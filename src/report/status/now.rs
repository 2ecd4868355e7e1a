//! The current work of a task: jobs of workers, waits, and the last errors.

use std::collections::{BTreeMap, BTreeSet};

use super::super::state::{LastError, PartitionState, TaskModel};
use super::{ErrorStatus, JobStatus, StatementStatus, WorkerStatus};
use crate::ledger::overview::{TaskOverview, TaskStatement};
use crate::plan::TablePlan;
use crate::protocol::{BatchRef, Claim, Job, PieceRef};

/// Returns a short text for the partitions of a batch.
pub(super) fn partitions(plan: &TablePlan, batch: usize) -> String {
    match plan.partitions_of(batch) {
        [one] => one.name.clone(),
        many => format!("{} partitions from {}", many.len(), many.first().map_or("", |first| first.name.as_str())),
    }
}

pub(super) fn piece_name(overview: &TaskOverview, piece: PieceRef) -> String {
    match overview.plans.get(piece.table).and_then(|plan| Some((plan, plan.pieces.get(piece.index)?))) {
        Some((plan, planned)) => format!("{} piece {} ({})", plan.name, piece.index, partitions(plan, planned.batch)),
        None => format!("piece {}", piece.index),
    }
}

pub(super) fn workers(model: &TaskModel<'_>) -> Vec<WorkerStatus> {
    let overview = model.overview;
    let mut workers: BTreeMap<&str, Vec<JobStatus>> =
        overview.places.iter().map(|place| (place.as_str(), Vec::new())).collect();
    for held in &overview.claims {
        workers.entry(&held.worker).or_default().push(job(model, &held.claim));
    }
    workers.into_iter().map(|(name, jobs)| WorkerStatus { name: name.to_owned(), jobs }).collect()
}

fn job(model: &TaskModel<'_>, claim: &Claim) -> JobStatus {
    let overview = model.overview;
    let table = |table: usize| overview.plans.get(table).map(|plan| plan.name.clone());
    match claim.job() {
        Some(Job::Copy(piece)) => {
            let on_servers = overview.statements.iter().filter(|statement| statement.piece == piece);
            let statements = on_servers.map(|TaskStatement { node, running, .. }| StatementStatus {
                node: node.clone(),
                query_id: running.query_id.clone(),
                millis: (running.elapsed * 1000.0) as u64,
                rows_read: running.read_rows,
                rows_written: running.written_rows,
            });
            JobStatus {
                what: format!("copies {}", piece_name(overview, piece)),
                table: table(piece.table),
                piece: Some(piece.index),
                attempt: model.piece(piece).map(|piece| piece.attempts),
                statements: statements.collect(),
            }
        }
        Some(Job::Publish(BatchRef { table: index, index: batch })) => {
            let what =
                overview.plans.get(index).map(|plan| format!("publishes {} {}", plan.name, partitions(plan, batch)));
            JobStatus {
                what: what.unwrap_or_else(|| "publishes".into()),
                table: table(index),
                piece: None,
                attempt: model.batch(index, batch).map(|batch| batch.publications),
                statements: Vec::new(),
            }
        }
        None => {
            JobStatus { what: format!("is {claim}"), table: None, piece: None, attempt: None, statements: Vec::new() }
        }
    }
}

pub(super) fn waits(overview: &TaskOverview) -> Vec<String> {
    let mut waits = BTreeSet::new();
    if let Some(limit) = overview.max_workers.filter(|limit| overview.places.len() >= *limit as usize) {
        waits.insert(format!("more workers: {limit} of max_workers {limit} have a place"));
    }
    let Some(limit) = overview.max_jobs_per_server else { return waits.into_iter().collect() };
    let mut busy: BTreeMap<&str, u32> = BTreeMap::new();
    for place in &overview.on_servers {
        *busy.entry(&place.address).or_default() += 1;
    }
    let full: Vec<&str> = busy.iter().filter(|(_, count)| **count >= limit).map(|(server, _)| *server).collect();
    for held in &overview.claims {
        if let Some(Job::Copy(piece)) = held.claim.job()
            && !overview.statements.iter().any(|statement| statement.piece == piece)
        {
            for server in &full {
                waits.insert(format!("{}: {limit} of {limit} jobs of {server} are taken", piece_name(overview, piece)));
            }
        }
    }
    waits.into_iter().collect()
}

pub(super) fn errors(model: &TaskModel<'_>) -> Vec<ErrorStatus> {
    let mut errors = Vec::new();
    let mut add = |what: String, error: LastError<'_>| {
        errors.push(ErrorStatus { what, error: error.text.to_owned(), tried_again: error.tried_again });
    };
    for (table, job) in model.tables.iter().enumerate() {
        for batch in job.batches.iter().filter(|batch| batch.state != PartitionState::Done) {
            if let Some(error) = batch.publishing_error {
                add(format!("{} {}", job.plan.name, partitions(job.plan, batch.index)), error);
            }
            for piece in &batch.pieces {
                if let Some(error) = piece.error {
                    add(piece_name(model.overview, PieceRef { table, index: piece.index }), error);
                }
            }
        }
    }
    errors
}
