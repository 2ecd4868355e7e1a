//! Futures that are awaited a bounded number at a time.

use futures::StreamExt;
use futures::stream;

/// The most table jobs that are worked on at a time. More would take more memory and would not be faster: the servers take fewer statements.
const TABLE_JOBS: usize = 500;
/// The most tables that are created at a time.
const CREATED: usize = 8;

/// Awaits work on table jobs, [`TABLE_JOBS`] at a time. The results are in the order of the jobs.
pub(crate) async fn all_tables<F: Future>(jobs: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    stream::iter(jobs).buffered(TABLE_JOBS).collect().await
}

/// Awaits work that creates tables, [`CREATED`] at a time. The results are in its order.
pub(crate) async fn few_at_a_time<F: Future>(jobs: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    stream::iter(jobs).buffered(CREATED).collect().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn no_more_than_so_many_are_looked_at_together_and_all_are_in_their_order() {
        let (now, most) = (Cell::new(0), Cell::new(0));
        let (now, most) = (&now, &most);
        let jobs = (0..3 * TABLE_JOBS).map(|number| async move {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            for _ in 0..number % 3 {
                tokio::task::yield_now().await;
            }
            now.set(now.get() - 1);
            number
        });
        assert_eq!(all_tables(jobs).await, (0..3 * TABLE_JOBS).collect::<Vec<_>>());
        assert!(most.get() > 1 && most.get() <= TABLE_JOBS);
    }
}
