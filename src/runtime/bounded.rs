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
    async fn no_more_than_so_many_are_looked_at_together_and_all_are_in_their_order() {
        let (now, most) = (Cell::new(0), Cell::new(0));
        let (now, most) = (&now, &most);
        let jobs = (0..3 * MAX_TABLE_JOBS).map(|number| async move {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            for _ in 0..number % 3 {
                tokio::task::yield_now().await;
            }
            now.set(now.get() - 1);
            number
        });
        assert_eq!(all_tables(jobs).await, (0..3 * MAX_TABLE_JOBS).collect::<Vec<_>>());
        assert!(most.get() > 1 && most.get() <= MAX_TABLE_JOBS);
    }
}
