//! Futures of which only a limited number runs at once.

use futures::{StreamExt, stream};

/// The most table jobs at once. More would take more memory and would not be faster, since servers run fewer statements at once.
const MAX_TABLE_JOBS: usize = 500;
/// The most tables that are created at once.
const MAX_CREATED_TABLES: usize = 8;

/// Runs work on table jobs, at most [`MAX_TABLE_JOBS`] at once. Returns the results in the order of the jobs.
pub(crate) async fn all_tables<F: Future>(jobs: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    stream::iter(jobs).buffered(MAX_TABLE_JOBS).collect().await
}

/// Runs work that creates tables, at most [`MAX_CREATED_TABLES`] at once. Returns the results in the order of the jobs.
pub(crate) async fn few_at_a_time<F: Future>(jobs: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    stream::iter(jobs).buffered(MAX_CREATED_TABLES).collect().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn jobs_run_within_the_limit_and_their_results_keep_the_order() {
        let (running, maximum) = (Cell::new(0), Cell::new(0));
        let (running, maximum) = (&running, &maximum);
        let jobs = (0..3 * MAX_TABLE_JOBS).map(|number| async move {
            running.set(running.get() + 1);
            maximum.set(maximum.get().max(running.get()));
            for _ in 0..number % 3 {
                tokio::task::yield_now().await;
            }
            running.set(running.get() - 1);
            number
        });
        assert_eq!(all_tables(jobs).await, (0..3 * MAX_TABLE_JOBS).collect::<Vec<_>>());
        assert!(maximum.get() > 1 && maximum.get() <= MAX_TABLE_JOBS);
    }
}
