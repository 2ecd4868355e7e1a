//! The current work of a task: jobs of workers, waits, and the last errors.

use std::collections::{BTreeMap, BTreeSet};

use super::{ErrorStatus, JobStatus, StatementStatus, WorkerStatus};
use crate::ledger::overview::TaskOverview;
use crate::plan::TablePlan;
use crate::protocol::{BatchRef, BatchState, Claim, Job, PieceRef, PieceState};

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

pub(super) fn workers(overview: &TaskOverview) -> Vec<WorkerStatus> {
    let mut workers: BTreeMap<&str, Vec<JobStatus>> =
        overview.places.iter().map(|place| (place.as_str(), Vec::new())).collect();
    for (claim, worker) in &overview.claims {
        workers.entry(worker).or_default().push(job(overview, claim));
    }
    workers.into_iter().map(|(name, jobs)| WorkerStatus { name: name.to_owned(), jobs }).collect()
}

fn job(overview: &TaskOverview, claim: &Claim) -> JobStatus {
    let table = |table: usize| overview.plans.get(table).map(|plan| plan.name.clone());
    match claim.job() {
        Some(Job::Copy(piece)) => {
            let record = overview.by_table.get(piece.table).and_then(|records| records.pieces.get(piece.index));
            let on_servers = overview.statements.iter().filter(|(_, statement_piece, _)| *statement_piece == piece);
            let statements = on_servers.map(|(node, _, running)| StatementStatus {
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
                attempt: record.map(|record| record.attempt.0),
                statements: statements.collect(),
            }
        }
        Some(Job::Publish(BatchRef { table: index, index: batch })) => {
            let record = overview.by_table.get(index).and_then(|records| records.batches.get(batch));
            let what =
                overview.plans.get(index).map(|plan| format!("publishes {} {}", plan.name, partitions(plan, batch)));
            JobStatus {
                what: what.unwrap_or_else(|| "publishes".into()),
                table: table(index),
                piece: None,
                attempt: record.map(|record| record.publication.0),
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
    for (claim, _) in &overview.claims {
        if let Some(Job::Copy(piece)) = claim.job()
            && !overview.statements.iter().any(|(_, statement_piece, _)| *statement_piece == piece)
        {
            for server in &full {
                waits.insert(format!("{}: {limit} of {limit} jobs of {server} are taken", piece_name(overview, piece)));
            }
        }
    }
    waits.into_iter().collect()
}

pub(super) fn errors(overview: &TaskOverview) -> Vec<ErrorStatus> {
    let mut errors = Vec::new();
    for (table, (plan, records)) in overview.plans.iter().zip(&overview.by_table).enumerate() {
        for (batch, record) in records.batches.iter().enumerate().filter(|(_, record)| !record.is_done()) {
            let what = || format!("{} {}", plan.name, partitions(plan, batch));
            match (&record.state, &record.last_error) {
                (BatchState::Failed { error, .. }, _) => {
                    errors.push(ErrorStatus { what: what(), error: error.clone(), tried_again: false });
                }
                (_, Some(error)) => errors.push(ErrorStatus { what: what(), error: error.clone(), tried_again: true }),
                (_, None) => {}
            }
            for piece in records.pieces_of[batch].clone() {
                let record = &records.pieces[piece];
                let what = || piece_name(overview, PieceRef { table, index: piece });
                match (&record.state, &record.last_error) {
                    (PieceState::Failed { error, .. }, _) => {
                        errors.push(ErrorStatus { what: what(), error: error.clone(), tried_again: false });
                    }
                    (PieceState::Copied(_), _) | (_, None) => {}
                    (_, Some(error)) => {
                        errors.push(ErrorStatus { what: what(), error: error.clone(), tried_again: true });
                    }
                }
            }
        }
    }
    errors
}
