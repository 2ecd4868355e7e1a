//! The progress of a task, in one line.

use super::size;
use super::status::{Amounts, PartitionState, Status, duration};

/// Returns a line such as `41.2 % copied, 195 MiB of 472 MiB, 85 MiB/s, about 3 s left; 3 of 6 partitions published; 2
/// workers`.
pub(crate) fn line(status: &Status) -> String {
    let total = &status.total;
    let mut line =
        format!("{:.1} % copied, {} of {}", share(total) * 100.0, size(total.bytes_copied), size(total.bytes));
    if let Some(rate) = status.bytes_per_second {
        line += &format!(", {}/s", size(rate));
    }
    if let Some(seconds) = status.seconds_left.filter(|seconds| *seconds > 0) {
        line += &format!(", about {} left", duration(seconds));
    }
    let (done, failed) = (total.count(PartitionState::Done), total.count(PartitionState::Failed));
    line += &format!("; {done} of {} partitions published", total.all_partitions());
    if failed > 0 {
        line += &format!(", {failed} failed");
    }
    line + &match status.workers.len() {
        1 => "; 1 worker".to_owned(),
        workers => format!("; {workers} workers"),
    }
}

/// Returns the copied share, 0 to 1. It is 1 only if everything is copied.
pub(crate) fn share(total: &Amounts) -> f64 {
    if total.bytes_copied >= total.bytes {
        return 1.0;
    }
    (total.bytes_copied as f64 / total.bytes as f64).min(0.999)
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::status;
    use super::*;

    #[test]
    fn a_progress_line_shows_only_known_numbers() {
        let mut status = status();
        status.total.bytes = 472 << 20;
        assert_eq!(line(&status), "0.0 % copied, 0 bytes of 472 MiB; 3 of 6 partitions published; 2 workers");
        // Too little is copied for an estimate.
        status.total.bytes_copied = 1 << 20;
        status.at_rate(Some(85 << 20));
        assert_eq!(line(&status), "0.2 % copied, 1 MiB of 472 MiB, 85 MiB/s; 3 of 6 partitions published; 2 workers");
        status.total.bytes_copied = 195 << 20;
        status.at_rate(Some(85 << 20));
        assert_eq!(
            line(&status),
            "41.3 % copied, 195 MiB of 472 MiB, 85 MiB/s, about 4 s left; 3 of 6 partitions published; 2 workers"
        );
        status.total.bytes_copied = status.total.bytes - 1;
        status.total.partitions.insert(PartitionState::Failed, 1);
        status.workers.pop();
        status.at_rate(None);
        assert_eq!(line(&status), "99.9 % copied, 471 MiB of 472 MiB; 3 of 7 partitions published, 1 failed; 1 worker");
    }

    #[test]
    fn a_task_without_bytes_is_fully_copied() {
        assert_eq!(share(&Amounts::default()), 1.0);
    }
}
