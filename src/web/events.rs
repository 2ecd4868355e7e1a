//! The log of events: the changes from one reading of the task to the next, in words.
//!
//! The log knows only what was read. A change that came and went between two readings is missing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

use crate::report::status::{ErrorStatus, PartitionState, Status, TaskState};

/// The number of events that are kept.
pub(crate) const KEPT: usize = 500;
/// The highest number of partitions that are named in one event.
const MAX_NAMED: usize = 3;
/// The highest number of errors of one reading that get their own event.
const MAX_ERRORS: usize = 10;

/// A change of the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Event {
    /// The number of the event, from 1. A restarted dashboard begins again at 1.
    pub(crate) number: u64,
    /// The time of the reading, in RFC 3339.
    pub(crate) at: String,
    /// The subject of the event.
    pub(crate) about: About,
    /// The change, in words.
    pub(crate) text: String,
}

/// The subject of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// The task as a whole.
    Task,
    /// A worker came or left.
    Worker,
    /// Partitions changed their state.
    Partition,
    /// An attempt failed.
    Error,
    /// A server stopped answering, or answers again.
    Server,
    /// The reading became old, or is new again.
    #[serde(rename = "sight")]
    Reading,
}

/// The last events, at most [`KEPT`].
#[derive(Debug, Clone, Default)]
pub struct EventLog {
    events: VecDeque<Event>,
    last: u64,
}

impl EventLog {
    /// Adds an event.
    pub fn note(&mut self, at: &str, about: About, text: String) {
        self.last += 1;
        self.events.push_back(Event { number: self.last, at: at.to_owned(), about, text });
        while self.events.len() > KEPT {
            self.events.pop_front();
        }
    }

    /// Returns the events with higher numbers, the oldest first.
    pub(crate) fn after(&self, number: u64) -> impl Iterator<Item = &Event> {
        self.events.iter().skip_while(move |event| event.number <= number)
    }

    /// Returns the number of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }
}

/// Returns the changes between two readings. `before` is `None` for the first reading.
pub(crate) fn changes(before: Option<&Status>, now: &Status) -> Vec<(About, String)> {
    let Some(before) = before.filter(|before| before.task == now.task) else {
        let (done, all) = (now.total.count(PartitionState::Done), now.total.all_partitions());
        let state = state(now.state);
        return vec![(About::Task, format!("task {} {state}; {done} of {all} partitions are published", now.task))];
    };
    let mut changes = Vec::new();
    if before.state != now.state {
        changes.push((About::Task, format!("the task {}", state(now.state))));
    }
    workers(before, now, &mut changes);
    partitions(before, now, &mut changes);
    errors(before, now, &mut changes);
    let (was, is): (BTreeSet<_>, BTreeSet<_>) = (before.silent.iter().collect(), now.silent.iter().collect());
    changes.extend(is.difference(&was).map(|line| (About::Server, (*line).clone())));
    changes.extend(was.difference(&is).map(|line| (About::Server, format!("not any more: {line}"))));
    changes
}

fn state(state: TaskState) -> &'static str {
    match state {
        TaskState::Planning => "is being planned",
        TaskState::Copying => "is being copied",
        TaskState::Idle => "is not worked on by anybody",
        TaskState::Pausing => "is to pause: what was in hand is being finished",
        TaskState::Paused => "is paused",
        TaskState::Cancelled => "is cancelled",
        TaskState::Failed => "has failed partitions, and nobody works on it",
        TaskState::Finishing => "is published; what it made on servers is being removed",
        TaskState::Finished => "is finished",
        TaskState::Unknown => "is in a state that is not known",
    }
}

fn workers(before: &Status, now: &Status, changes: &mut Vec<(About, String)>) {
    let is_in = |status: &Status, name: &str| status.workers.iter().any(|worker| worker.name == name);
    for worker in now.workers.iter().filter(|worker| !is_in(before, &worker.name)) {
        changes.push((About::Worker, format!("worker {} has come", worker.name)));
    }
    for worker in before.workers.iter().filter(|worker| !is_in(now, &worker.name)) {
        let last_jobs = match worker.jobs.len() {
            0 => String::new(),
            1 => format!("; last seen it {}", worker.jobs[0].what),
            jobs => format!("; last seen it had {jobs} jobs in hand"),
        };
        changes.push((About::Worker, format!("worker {} is gone{last_jobs}", worker.name)));
    }
}

fn partitions(before: &Status, now: &Status, changes: &mut Vec<(About, String)>) {
    for table in &now.tables {
        let known = before.tables.iter().find(|known| known.name == table.name);
        let Some(known) = known.filter(|known| known.partitions.len() == table.partitions.len()) else {
            let (name, count) = (&table.name, table.partitions.len());
            changes.push((About::Task, format!("table {name}: {count} partitions are planned")));
            continue;
        };
        let mut moved: BTreeMap<PartitionState, Vec<&str>> = BTreeMap::new();
        for (was, is) in known.partitions.iter().zip(&table.partitions) {
            if was.state != is.state {
                moved.entry(is.state).or_default().push(&is.name);
            }
        }
        for (state, names) in moved {
            let what = match state {
                PartitionState::Done => "published",
                PartitionState::Publishing => "copied, about to be published",
                PartitionState::Copying => "begun",
                PartitionState::Pending => "to be copied again",
                PartitionState::Failed => "failed",
            };
            let which = match names.len() {
                1 => format!("partition {}", names[0]),
                2..=MAX_NAMED => format!("partitions {}", names.join(", ")),
                count => format!("{count} partitions, {} to {},", names[0], names[count - 1]),
            };
            changes.push((About::Partition, format!("table {} {which} {what}", table.name)));
        }
    }
}

fn errors(before: &Status, now: &Status, changes: &mut Vec<(About, String)>) {
    let known: BTreeSet<_> = before.errors.iter().map(|error| (&error.what, &error.error)).collect();
    let mut new: Vec<&ErrorStatus> =
        now.errors.iter().filter(|error| !known.contains(&(&error.what, &error.error))).collect();
    let more = new.len().saturating_sub(MAX_ERRORS);
    new.truncate(MAX_ERRORS);
    for error in new {
        let then = if error.tried_again { "failed and is tried again" } else { "failed" };
        changes.push((About::Error, format!("{} {then}: {}", error.what, error.error)));
    }
    if more > 0 {
        changes.push((About::Error, format!("and {more} more errors")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::status::sample;

    fn texts(before: &Status, now: &Status) -> Vec<String> {
        changes(Some(before), now).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn an_unchanged_task_gives_no_events() {
        assert_eq!(changes(Some(&sample(7)), &sample(7)), []);
    }

    #[test]
    fn the_first_reading_gives_the_state_of_the_task() {
        let [(About::Task, text)] = &changes(None, &sample(7))[..] else { panic!() };
        assert_eq!(text, "task 0123456789ab is being copied; 3 of 6 partitions are published");
        let mut other = sample(7);
        other.task = "ba9876543210".into();
        assert_eq!(texts(&sample(7), &other).len(), 1, "another task at the same path is read for the first time");
    }

    #[test]
    fn the_event_of_a_lost_worker_names_its_last_job() {
        let (mut before, mut now) = (sample(7), sample(7));
        before.workers[0].jobs.push(crate::report::status::JobStatus {
            what: "copies hits piece 3 (201801)".into(),
            table: None,
            piece: None,
            attempt: None,
            statements: Vec::new(),
        });
        now.workers.remove(0);
        assert_eq!(texts(&before, &now), ["worker w-1 is gone; last seen it copies hits piece 3 (201801)"]);
        assert_eq!(texts(&now, &before), ["worker w-1 has come"]);
    }

    #[test]
    fn many_partitions_are_one_event_and_few_are_listed() {
        let (before, mut now) = (sample(5000), sample(5000));
        let states = [PartitionState::Done; 4000].iter().chain(&[PartitionState::Copying; 2]);
        for (partition, state) in now.tables[0].partitions.iter_mut().zip(states) {
            partition.state = *state;
        }
        assert_eq!(
            texts(&before, &now),
            ["table hits 4000 partitions, p0 to p3999, published", "table hits partitions p4000, p4001 begun"]
        );
    }

    #[test]
    fn each_error_is_reported_once_and_their_number_is_limited() {
        let (before, mut now) = (sample(1), sample(1));
        let error = |n: usize| ErrorStatus { what: format!("hits piece {n}"), error: "full".into(), tried_again: true };
        now.errors = (0..100).map(error).collect();
        let reported = texts(&before, &now);
        assert_eq!((reported.len(), &*reported[0]), (11, "hits piece 0 failed and is tried again: full"));
        assert_eq!(reported[10], "and 90 more errors");
        assert_eq!(texts(&now, &now.clone()), [""; 0]);
    }

    #[test]
    fn the_event_log_drops_its_oldest_events() {
        let mut log = EventLog::default();
        (0..KEPT + 10).for_each(|n| log.note("t", About::Task, n.to_string()));
        assert_eq!(log.after(0).count(), KEPT);
        assert_eq!(log.after(0).next().map(|event| event.number), Some(11));
        assert_eq!(log.after(log.last() - 2).map(|event| event.text.as_str()).collect::<Vec<_>>(), ["508", "509"]);
    }
}
