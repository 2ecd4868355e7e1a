//! The account after publishing (I7): checks that all rows of the source were selected, and that the target holds all published
//! rows. This module asks the servers; `protocol::account` decides.

mod sources;
mod targets;

use super::context::WorkerContext;
use crate::plan::TablePlan;
use crate::protocol::account::Findings;
use crate::protocol::{BatchState, Published, TableRecords};
use crate::runtime::bounded::all_tables;

/// Settles the account of a task whose batches are all published.
pub(super) async fn settle(context: &WorkerContext, by_table: &[TableRecords]) -> Findings {
    let mut findings = Findings::default();
    let jobs = context.plans.iter().zip(by_table).enumerate();
    let sources = all_tables(jobs.map(|(table, (plan, records))| sources::settle(context, table, plan, records)));
    let (sources, targets) = tokio::join!(sources, targets::settle(context, by_table));
    for part in sources.into_iter().chain([targets]) {
        findings.differences.extend(part.differences);
        findings.unaccounted.extend(part.unaccounted);
    }
    findings
}

/// Returns the publication of each batch, or `None` where a batch is not done.
fn published<'a>(plan: &TablePlan, records: &'a TableRecords) -> Option<Vec<&'a Published>> {
    let done = records.batches.iter().map(|batch| match &batch.state {
        BatchState::Done(published) => Some(published),
        _ => None,
    });
    done.collect::<Option<Vec<_>>>().filter(|done| done.len() == plan.batches.len())
}
