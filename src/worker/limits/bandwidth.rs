//! The limits of a worker in bytes per second: its own limit, and its share of the limit of all workers.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::client::Throttle;
use crate::task::Task;

/// The throttles of a worker. A changed limit also applies to transfers that run.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    /// The throttle of all jobs.
    all: Arc<Throttle>,
    /// The throttles of each table job.
    tables: Vec<Arc<Throttle>>,
    /// The number of workers that have a place, with this one.
    workers: AtomicU64,
}

impl Bandwidth {
    /// Creates the throttles for a task, as if this were the only worker.
    pub(crate) fn new(task: &Task) -> Self {
        let tables = task.tables.iter().map(|_| Arc::default()).collect();
        let bandwidth = Self { all: Arc::default(), tables, workers: AtomicU64::new(1) };
        bandwidth.follow(task);
        bandwidth
    }

    /// Returns the throttles that the rows of a table job pass.
    pub(crate) fn of(&self, table: usize) -> Vec<Arc<Throttle>> {
        vec![self.tables[table].clone(), self.all.clone()]
    }

    /// Sets the number of workers that share the limit of the task.
    pub(crate) fn share(&self, task: &Task, workers: usize) {
        self.workers.store(workers.max(1) as u64, Ordering::Relaxed);
        self.follow(task);
    }

    /// Applies the current limits of the task, and logs those that changed.
    pub(crate) fn follow(&self, task: &Task) {
        let workers = self.workers.load(Ordering::Relaxed);
        let rate = rate(task, workers);
        if self.all.set_rate(rate) {
            match (rate, task.max_bytes_per_second_of_task) {
                (Some(rate), Some(_)) => {
                    tracing::info!("this worker moves at most {rate} bytes of rows a second ({workers} workers share)");
                }
                (Some(rate), None) => tracing::info!("this worker moves at most {rate} bytes of rows a second"),
                (None, _) => tracing::info!("this worker moves rows as fast as it can"),
            }
        }
        for (throttle, job) in self.tables.iter().zip(&task.tables) {
            if throttle.set_rate(job.max_bytes_per_second) {
                match job.max_bytes_per_second {
                    Some(rate) => {
                        tracing::info!(table = job.name, "table {}: at most {rate} bytes of rows a second", job.name)
                    }
                    None => tracing::info!(table = job.name, "table {}: no cap of its own any more", job.name),
                }
            }
        }
    }
}

/// Returns the smaller one of the worker's own limit and its share of the limit of all workers, in bytes per second.
fn rate(task: &Task, workers: u64) -> Option<NonZeroU64> {
    let at_least_one = |bytes: u64| NonZeroU64::new(bytes).unwrap_or(NonZeroU64::MIN);
    let share = task.max_bytes_per_second_of_task.map(|all| at_least_one(all.get() / workers.max(1)));
    [task.max_bytes_per_second, share].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::GivenSecrets;

    #[test]
    fn the_bandwidth_of_a_worker_is_the_lower_of_its_limit_and_its_share() {
        let limit = |worker: &str, task: &str, workers| {
            let xml = format!(
                "<clickhouse><remote_servers><c><shard><replica><host>h</host></replica></shard></c></remote_servers>\
                 {worker}{task}<tables><t><cluster_pull>c</cluster_pull><database_pull>a</database_pull>\
                 <table_pull>t</table_pull><cluster_push>c</cluster_push><database_push>b</database_push>\
                 <table_push>t</table_push></t></tables></clickhouse>"
            );
            rate(&Task::parse(&xml, &GivenSecrets::default()).unwrap().task, workers).map(NonZeroU64::get)
        };
        let (worker, task) = (
            "<max_bytes_per_second>10M</max_bytes_per_second>",
            "<max_bytes_per_second_of_task>12M</max_bytes_per_second_of_task>",
        );
        assert_eq!(limit("", "", 3), None);
        assert_eq!(limit(worker, "", 3), Some(10 << 20));
        assert_eq!((limit(worker, task, 1), limit(worker, task, 3)), (Some(10 << 20), Some(4 << 20)));
        assert_eq!(limit("", task, u64::MAX), Some(1));
    }
}
