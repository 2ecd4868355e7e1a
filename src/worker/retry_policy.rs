//! The retry policy of a worker: how many attempts a job gets, how long a worker pauses before each, and which error leads to another
//! attempt, to other nodes or to the end. Pure: it gets facts and the time, and returns decisions.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::Remedy;
use crate::model::Generation;
use crate::protocol::Failure;

/// The longest pause before an attempt.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The most doublings of the first pause. More would not fit into a number, and reach [`MAX_PAUSE`] anyway.
const MAX_DOUBLINGS: u32 = 10;
/// The pause before a fresh start is as long as the pause after this number of failures in a row.
const FAILURES_OF_FRESH_START: u32 = 6;
/// The number of failed attempts in a row after which a target node that does not answer counts as lost.
const FAILURES_UNTIL_LOST: u32 = 3;
/// How often a batch may move to other nodes.
const MAX_GENERATIONS: Generation = Generation(10);
/// How long the answers of an overloaded server do not count as failures.
const OVERLOAD_GRACE: Duration = Duration::from_secs(6 * 3600);
/// The number of attempts to count the rows of a node for the account.
const COUNT_ATTEMPTS: u32 = 4;
/// The pause before the second attempt to open a session with the coordinator.
pub(super) const FIRST_RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause before an attempt to open a session with the coordinator.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(30);

/// The pauses between the attempts of a worker at its jobs, and the number of attempts.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// The number of attempts after which a piece has failed.
    pub piece_attempts: u32,
    /// The number of attempts after which a publication has failed.
    pub publication_attempts: u32,
    /// How often failed jobs start again after all other jobs are done.
    pub rounds: u32,
    /// The pause before the second attempt. It doubles before each further attempt, up to a minute.
    pub first_pause: Duration,
}

impl RetryPolicy {
    /// Returns the pause after a number of failures in a row. The caller waits for a random part of it, so that workers do not retry
    /// together.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        (self.first_pause * 2u32.saturating_pow(failures.saturating_sub(1).min(MAX_DOUBLINGS))).min(MAX_PAUSE)
    }

    /// Returns the pause before failed jobs start again.
    pub(super) fn pause_before_fresh_start(&self) -> Duration {
        self.pause(FAILURES_OF_FRESH_START)
    }

    /// Returns whether a failed job starts again: if another attempt can help, as often as the rounds allow.
    pub(super) fn allows_fresh_start(&self, transient: bool, finished_rounds: u32) -> bool {
        transient && finished_rounds + 1 < self.rounds
    }
}

/// The failure of an attempt at a piece or at a publication, for the decision whether its batch moves to other target nodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchFailure {
    /// Whether recorded staged rows are missing on their node.
    pub(crate) staging_gone: bool,
    /// Whether another attempt can help.
    pub(crate) transient: bool,
    /// The number of failures in a row, with this one.
    pub(crate) failures: u32,
    /// The generation of the target nodes.
    pub(crate) generation: Generation,
}

impl BatchFailure {
    /// Returns whether the worker checks if a target node of the batch is lost. It does when staged rows are missing, or after several
    /// failures in a row that another attempt could remove.
    pub(super) fn may_mean_lost_node(self) -> bool {
        let repeated = self.transient && self.failures >= FAILURES_UNTIL_LOST;
        (self.staging_gone || repeated) && self.generation < MAX_GENERATIONS
    }
}

/// Returns whether an error of a source replica ends the attempts at a piece: its data are damaged, and there is no other replica.
pub(super) fn ends_without_other_replica(remedy: Remedy, replicas: usize) -> bool {
    remedy == Remedy::Elsewhere && replicas < 2
}

/// Returns whether a node is counted again for the account after an error.
pub(super) fn counts_again(remedy: Remedy, attempts: u32) -> bool {
    remedy == Remedy::Retry && attempts < COUNT_ATTEMPTS
}

/// Returns the pause that follows a pause between attempts to open a session.
pub(super) fn next_reconnect_pause(pause: Duration) -> Duration {
    (pause * 2).min(MAX_RECONNECT_PAUSE)
}

/// How long and how often in a row an overloaded server has answered the attempts at a job.
#[derive(Debug, Default)]
pub(super) struct OverloadGrace {
    /// The time of the first such answer.
    since: Option<Instant>,
    /// The number of such answers.
    answers: u32,
}

impl OverloadGrace {
    /// Takes a failure into account. Returns the failure to record: an overload is no failure until it has lasted for
    /// [`OVERLOAD_GRACE`].
    pub(super) fn judge(&mut self, mut failure: Failure, now: Instant) -> Failure {
        if failure.overload {
            let since = *self.since.get_or_insert(now);
            self.answers += 1;
            failure.overload = now.duration_since(since) < OVERLOAD_GRACE;
        } else {
            *self = Self::default();
        }
        failure
    }

    /// Returns the time since which the server has been overloaded, if it is.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Returns the number of answers of the overloaded server in a row.
    pub(super) fn answers(&self) -> u32 {
        self.answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy { piece_attempts: 3, publication_attempts: 3, rounds: 2, first_pause: Duration::from_secs(1) }
    }

    #[test]
    fn a_pause_doubles_with_each_failure_up_to_a_minute() {
        let seconds = |failures| policy().pause(failures).as_secs();
        assert_eq!([0, 1, 2, 3, 6, 7, 99, u32::MAX].map(seconds), [1, 1, 2, 4, 32, 60, 60, 60]);
        assert_eq!(policy().pause_before_fresh_start().as_secs(), 32);
        let long = RetryPolicy { first_pause: Duration::from_secs(90), ..policy() };
        assert_eq!(long.pause(1), MAX_PAUSE);
    }

    #[test]
    fn a_failed_job_starts_again_after_transient_errors_as_often_as_the_rounds_allow() {
        assert!(policy().allows_fresh_start(true, 0));
        assert!(!policy().allows_fresh_start(false, 0), "another attempt cannot help");
        assert!(!policy().allows_fresh_start(true, 1), "the second round was the last");
        let once = RetryPolicy { rounds: 0, ..policy() };
        assert!(!once.allows_fresh_start(true, 0));
    }

    #[test]
    fn a_batch_moves_to_other_nodes_after_lost_rows_or_three_failures_and_at_most_ten_times() {
        let failure = BatchFailure { staging_gone: false, transient: true, failures: 3, generation: Generation(9) };
        assert!(failure.may_mean_lost_node());
        assert!(!BatchFailure { failures: 2, ..failure }.may_mean_lost_node());
        assert!(!BatchFailure { transient: false, ..failure }.may_mean_lost_node());
        let gone = BatchFailure { staging_gone: true, transient: false, failures: 1, ..failure };
        assert!(gone.may_mean_lost_node());
        assert!(!BatchFailure { generation: Generation(10), ..gone }.may_mean_lost_node());
        assert!(!BatchFailure { generation: Generation(10), ..failure }.may_mean_lost_node());
    }

    #[test]
    fn damaged_data_end_the_attempts_only_if_no_other_replica_exists() {
        assert!(ends_without_other_replica(Remedy::Elsewhere, 1));
        assert!(!ends_without_other_replica(Remedy::Elsewhere, 2));
        assert!(!ends_without_other_replica(Remedy::Retry, 1));
    }

    #[test]
    fn a_count_is_repeated_three_times_after_transient_errors() {
        assert!(counts_again(Remedy::Retry, 1) && counts_again(Remedy::Retry, 3));
        assert!(!counts_again(Remedy::Retry, 4) && !counts_again(Remedy::GiveUp, 1));
    }

    #[test]
    fn the_pause_before_a_new_session_doubles_up_to_half_a_minute() {
        assert_eq!(next_reconnect_pause(FIRST_RECONNECT_PAUSE), Duration::from_millis(400));
        assert_eq!(next_reconnect_pause(Duration::from_secs(20)), MAX_RECONNECT_PAUSE);
    }

    #[test]
    fn an_overloaded_server_is_retried_only_within_the_grace_time() {
        let failure =
            |overload| Failure { error: "Too many parts".into(), transient: true, too_large: false, overload };
        let start = Instant::now();
        let mut grace = OverloadGrace::default();
        let mut is_overload = |overload, now| grace.judge(failure(overload), now).overload;
        assert!(is_overload(true, start));
        let half = start + OVERLOAD_GRACE / 2;
        assert!(is_overload(true, half) && !is_overload(false, half));
        assert!(is_overload(true, half), "counted from the beginning again");
        assert!(is_overload(true, start + OVERLOAD_GRACE), "the second overload began later");
        assert!(!is_overload(true, half + OVERLOAD_GRACE));
        assert_eq!((grace.since(), grace.answers()), (Some(half), 3));
    }
}
