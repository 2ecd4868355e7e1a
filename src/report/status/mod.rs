//! How far a task is: one form for people (`text`) and for programs (JSON: this type as it is).
//!
//! Rows and bytes of what is *copied* lie in staging tables and were counted there; what is *published* was counted in the target
//! table again. Bytes are uncompressed, and estimated when the task was planned.

mod now;
mod pieces;
mod rate;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ledger::overview::TaskOverview;
use crate::plan::TablePlan;
use crate::protocol::account::Findings;
use crate::protocol::{BatchState, Order, PieceState, TableRecords};

use super::moment::Moment;
use now::{errors, waits, workers};
pub use pieces::{BatchStatus, PieceStage, PieceStatus};
pub use rate::Speedometer;
pub(crate) use text::{duration, thousands};

/// The version of the form: it grows when a field changes its meaning or goes, not when one is added.
pub const SCHEMA: u32 = 1;

/// A task as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The task's identity: its tables on servers are called `copier_<id>_…`, its statements `copier:<id>:…`.
    pub task: String,
    /// Where it is recorded.
    pub path: String,
    /// How it stands as a whole.
    pub state: TaskState,
    /// All tables together.
    pub total: Amounts,
    /// Bytes copied in a second; absent when nothing is copied or too little is known.
    pub bytes_per_second: Option<u64>,
    /// Seconds until everything is copied, at that rate; absent before a hundredth is.
    pub seconds_left: Option<u64>,
    /// By table job.
    pub tables: Vec<TableStatus>,
    /// Who has a place, and what each does.
    pub workers: Vec<WorkerStatus>,
    /// What waits for something else than a worker, and for what.
    pub waits: Vec<String>,
    /// What failed last, of what is not done: with attempts to come, or without.
    pub errors: Vec<ErrorStatus>,
    /// What the account of a finished task found (I7).
    pub account: Findings,
    /// Servers that did not answer.
    pub silent: Vec<String>,
}

/// How a task stands as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// There is no plan yet.
    Planning,
    /// Workers are at work.
    Copying,
    /// Nobody works on it: start a worker.
    Idle,
    /// It is paused; what was in hand is being finished.
    Pausing,
    /// It is paused.
    Paused,
    /// It was cancelled.
    Cancelled,
    /// Everything is done, but for what failed, and nobody works on it.
    Failed,
    /// Everything is published; what the task made on servers is being removed, or could not be.
    Finishing,
    /// Everything is done and nothing is left.
    Finished,
    /// Not known: a run failed before it could look. In a report only.
    Unknown,
}

/// How much there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Amounts {
    /// How many partitions are in each state.
    pub partitions: BTreeMap<PartitionState, usize>,
    /// Rows when it was planned; what was selected, of what is published.
    pub rows: u64,
    /// Of them staged or published.
    pub rows_copied: u64,
    /// Of them counted in the target table.
    pub rows_published: u64,
    /// Uncompressed bytes.
    pub bytes: u64,
    /// Of them staged or published.
    pub bytes_copied: u64,
    /// Partitions whose contents were compared by checksum, and not only by count.
    pub partitions_compared: usize,
    /// Attempts after the first, at pieces and at publishing.
    pub retries: u32,
}

/// A table job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// Its name in the task.
    pub name: String,
    /// The source table.
    pub source: String,
    /// The target table.
    pub target: String,
    /// How much there is of it.
    pub amounts: Amounts,
    /// Its partitions, in the order in which they are copied.
    pub partitions: Vec<PartitionStatus>,
    /// So many more are as an earlier pass has copied them (`run --incremental`), and are left alone.
    pub unchanged: usize,
    /// What a person should know, from planning and publishing.
    pub remarks: Vec<String>,
}

/// A partition of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionStatus {
    /// As a person writes it.
    pub name: String,
    /// Where it stands.
    pub state: PartitionState,
    /// Rows when it was planned; what was selected, once it is published.
    pub rows: u64,
    /// Uncompressed bytes, estimated.
    pub bytes: u64,
    /// Rows staged so far.
    pub rows_copied: u64,
    /// Rows counted in the target table, once it is published.
    pub rows_published: Option<u64>,
    /// Whether contents were compared by checksum.
    pub compared: bool,
    /// Attempts after the first, at pieces and at publishing, of all partitions that travel together.
    pub retries: u32,
    /// Milliseconds that they took so far, of all workers together.
    pub millis: u64,
    /// How many partitions travel together.
    pub together: usize,
    /// When the first of their pieces began that are copied.
    pub began_at: Option<Moment>,
    /// When the last of their pieces was copied, once all are.
    pub copied_at: Option<Moment>,
    /// When they were published.
    pub published_at: Option<Moment>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Where a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionState {
    /// It is in the target table, and counted there.
    Done,
    /// All its pieces are copied; it is being put in place, or will be next.
    Publishing,
    /// Some of its pieces are copied or being copied.
    Copying,
    /// Nothing of it was begun.
    Pending,
    /// It failed, and is not tried again by this run.
    Failed,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerStatus {
    /// Host, process and a number.
    pub name: String,
    /// What it has in hand.
    pub jobs: Vec<JobStatus>,
}

/// Something that a worker has in hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobStatus {
    /// As a person says it: `copies hits piece 3 (201801)`.
    pub what: String,
    /// The table job.
    pub table: Option<String>,
    /// The piece.
    pub piece: Option<usize>,
    /// The number of the attempt.
    pub attempt: Option<u32>,
    /// What servers say that runs for it.
    pub statements: Vec<StatementStatus>,
}

/// A statement on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatementStatus {
    /// Where.
    pub node: String,
    /// Its id: what to look for in the server's logs, or to kill.
    pub query_id: String,
    /// How long, in milliseconds.
    pub millis: u64,
    /// Rows read so far.
    pub rows_read: u64,
    /// Rows written so far.
    pub rows_written: u64,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorStatus {
    /// What: table and piece or partition.
    pub what: String,
    /// The error of its last attempt.
    pub error: String,
    /// Whether it is tried again.
    pub tried_again: bool,
}

impl Status {
    /// Of what was seen. `path` is where the task is recorded.
    pub fn of(overview: &TaskOverview, path: &str) -> Self {
        let tables: Vec<TableStatus> = overview
            .plans
            .iter()
            .zip(&overview.by_table)
            .map(|(plan, records)| TableStatus::of(plan, records))
            .collect();
        let mut total = Amounts::default();
        tables.iter().for_each(|table| total.add(&table.amounts));
        let mut status = Self {
            schema: SCHEMA,
            task: overview.record.id.0.clone(),
            path: path.to_owned(),
            state: TaskState::Idle,
            total,
            bytes_per_second: None,
            seconds_left: None,
            tables,
            workers: workers(overview),
            waits: waits(overview),
            errors: errors(overview),
            account: overview.record.account.clone(),
            silent: overview.silent.clone(),
        };
        status.state = status.state(overview);
        status.at_rate(rate::of_jobs(overview));
        status
    }

    /// Of a task that could not be looked at.
    pub fn unknown(path: &str) -> Self {
        Self {
            schema: SCHEMA,
            task: String::new(),
            path: path.to_owned(),
            state: TaskState::Unknown,
            total: Amounts::default(),
            bytes_per_second: None,
            seconds_left: None,
            tables: Vec::new(),
            workers: Vec::new(),
            waits: Vec::new(),
            errors: Vec::new(),
            account: Findings::default(),
            silent: Vec::new(),
        }
    }

    /// With a rate that was measured: what is left takes so long.
    pub fn at_rate(&mut self, bytes_per_second: Option<u64>) {
        let (copied, all) = (self.total.bytes_copied, self.total.bytes);
        self.bytes_per_second = bytes_per_second.filter(|rate| *rate > 0);
        let enough = copied >= all / 100 && copied > 0;
        self.seconds_left =
            self.bytes_per_second.filter(|_| enough).map(|rate| all.saturating_sub(copied).div_ceil(rate));
    }

    fn state(&self, overview: &TaskOverview) -> TaskState {
        let (record, busy) = (&overview.record, !overview.places.is_empty() || !overview.claims.is_empty());
        let of = |state| self.total.partitions.get(&state).copied().unwrap_or(0);
        let all: usize = self.total.partitions.values().sum();
        match overview.order {
            _ if record.finished => TaskState::Finished,
            Order::Cancel => TaskState::Cancelled,
            Order::Pause | Order::PauseNow if busy => TaskState::Pausing,
            Order::Pause | Order::PauseNow => TaskState::Paused,
            Order::Run if !record.planned && busy => TaskState::Planning,
            Order::Run if record.planned && of(PartitionState::Done) == all => TaskState::Finishing,
            Order::Run if busy => TaskState::Copying,
            Order::Run
                if of(PartitionState::Failed) > 0 && of(PartitionState::Failed) + of(PartitionState::Done) == all =>
            {
                TaskState::Failed
            }
            Order::Run => TaskState::Idle,
        }
    }
}

impl Amounts {
    fn add(&mut self, other: &Self) {
        for (state, count) in &other.partitions {
            *self.partitions.entry(*state).or_default() += count;
        }
        self.rows += other.rows;
        self.rows_copied += other.rows_copied;
        self.rows_published += other.rows_published;
        self.bytes += other.bytes;
        self.bytes_copied += other.bytes_copied;
        self.partitions_compared += other.partitions_compared;
        self.retries += other.retries;
    }
}

impl TableStatus {
    fn of(plan: &TablePlan, records: &TableRecords) -> Self {
        let (mut partitions, mut amounts) = (Vec::new(), Amounts::default());
        let mut remarks = plan.remarks.clone();
        for (batch, record) in records.batches.iter().enumerate() {
            let pieces = &records.pieces[records.pieces_of[batch].clone()];
            let valid = |piece: &crate::protocol::PieceRecord| piece.generation == record.generation;
            let published = match &record.state {
                BatchState::Done(published) => Some(published),
                _ => None,
            };
            let failed = matches!(record.state, BatchState::Failed { .. })
                || pieces.iter().any(|piece| matches!(piece.state, PieceState::Failed { .. }));
            let complete = pieces.iter().all(|piece| valid(piece) && piece.copied().is_some());
            let state = match () {
                () if published.is_some() => PartitionState::Done,
                () if failed => PartitionState::Failed,
                () if complete => PartitionState::Publishing,
                () if pieces.iter().any(|piece| piece.attempt > 0) => PartitionState::Copying,
                () => PartitionState::Pending,
            };
            let retries = pieces.iter().map(|piece| piece.attempt).chain([record.publication]);
            let retries: u32 = retries.map(|attempts| attempts.saturating_sub(1)).sum();
            amounts.retries += retries;
            let copying: u64 = pieces.iter().filter_map(|piece| piece.copied()).map(|copied| copied.millis).sum();
            let millis = copying + published.map_or(0, |published| published.millis);
            let timed = || pieces.iter().filter_map(|piece| piece.copied()).filter(|copied| copied.began > 0);
            let began_at = timed().map(|copied| Moment(copied.began)).min();
            let copied_at = timed().map(|copied| Moment(copied.began + copied.millis)).max();
            let published_at = published.filter(|published| published.began > 0);
            let published_at = published_at.map(|published| Moment(published.began + published.millis));
            let error = match &record.state {
                BatchState::Failed { error, .. } => Some(error),
                _ => pieces.iter().find_map(|piece| match &piece.state {
                    PieceState::Failed { error, .. } => Some(error),
                    _ => None,
                }),
            };
            remarks.extend(published.into_iter().flat_map(|published| published.remarks.iter().cloned()));
            for (at, partition) in plan.partitions_of(batch).iter().enumerate() {
                let result = published.and_then(|published| published.partitions.get(at));
                let staged = pieces.iter().filter(|piece| valid(piece)).filter_map(|piece| piece.copied());
                let staged: u64 = staged.filter_map(|copied| copied.selected.get(at)).sum();
                let rows = result.map_or(partition.rows, |result| result.selected);
                let copied = if result.is_some() { rows } else { staged };
                // Of a partition that grew after it was planned no more than all is copied.
                let share = if rows == 0 { 1.0 } else { (copied as f64 / rows as f64).min(1.0) };
                let share = if state == PartitionState::Pending { 0.0 } else { share };
                amounts.rows += rows;
                amounts.rows_copied += copied;
                amounts.rows_published += result.map_or(0, |result| result.target);
                amounts.bytes += partition.bytes;
                amounts.bytes_copied += (partition.bytes as f64 * share) as u64;
                amounts.partitions_compared += usize::from(result.is_some_and(|result| result.checksum.is_some()));
                *amounts.partitions.entry(state).or_default() += 1;
                partitions.push(PartitionStatus {
                    name: partition.name.clone(),
                    state,
                    rows,
                    bytes: partition.bytes,
                    rows_copied: copied,
                    rows_published: result.map(|result| result.target),
                    compared: result.is_some_and(|result| result.checksum.is_some()),
                    retries,
                    millis,
                    together: plan.partitions_of(batch).len(),
                    began_at,
                    copied_at: copied_at.filter(|_| complete || published.is_some()),
                    published_at,
                    error: error.cloned(),
                });
            }
        }
        let (name, source, target) = (plan.name.clone(), plan.source.to_string(), plan.target.to_string());
        Self { name, source, target, amounts, partitions, unchanged: plan.unchanged, remarks }
    }
}

#[cfg(test)]
pub(crate) use tests::sample;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A task with three partitions of six done, one failed, and two workers.
    pub(crate) fn status() -> Status {
        let failed = PartitionStatus {
            name: "a|b".into(),
            state: PartitionState::Failed,
            rows: 10,
            bytes: 100,
            rows_copied: 0,
            rows_published: None,
            compared: false,
            retries: 2,
            millis: 0,
            together: 1,
            began_at: None,
            copied_at: None,
            published_at: None,
            error: Some("disk\n full".into()),
        };
        let worker = |name: &str| WorkerStatus { name: name.into(), jobs: Vec::new() };
        Status {
            schema: SCHEMA,
            task: "0123456789ab".into(),
            path: "/copy".into(),
            state: TaskState::Copying,
            total: Amounts {
                partitions: BTreeMap::from([(PartitionState::Done, 3), (PartitionState::Pending, 3)]),
                ..Amounts::default()
            },
            bytes_per_second: None,
            seconds_left: None,
            tables: vec![TableStatus {
                name: "hits".into(),
                source: "a.hits".into(),
                target: "b.hits".into(),
                amounts: Amounts::default(),
                partitions: vec![failed],
                unchanged: 0,
                remarks: Vec::new(),
            }],
            workers: vec![worker("w-1"), worker("w-2")],
            waits: Vec::new(),
            errors: Vec::new(),
            account: Findings::default(),
            silent: Vec::new(),
        }
    }

    /// The same with so many partitions in its table, all pending.
    pub(crate) fn sample(partitions: usize) -> Status {
        let mut status = status();
        let one = PartitionStatus {
            state: PartitionState::Pending,
            retries: 0,
            error: None,
            ..status.tables[0].partitions[0].clone()
        };
        let named = |n: usize| PartitionStatus { name: format!("p{n}"), ..one.clone() };
        status.tables[0].partitions = (0..partitions).map(named).collect();
        status
    }
}
