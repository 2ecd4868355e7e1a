//! Table jobs that are looked at together.

use futures::StreamExt;
use futures::stream;

/// So many table jobs are looked at together. More of them would hold more memory and be no faster: the servers take fewer statements.
const TABLE_JOBS: usize = 500;
/// So many tables are made together.
const MAKERS: usize = 8;

/// Awaits all, a bounded number at a time; their results are in their order.
pub(super) async fn all_tables<F: Future>(jobs: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    stream::iter(jobs).buffered(TABLE_JOBS).collect().await
}

/// Awaits all that make tables, a few at a time.
pub(super) async fn all_makers<F: Future>(jobs: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    stream::iter(jobs).buffered(MAKERS).collect().await
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
