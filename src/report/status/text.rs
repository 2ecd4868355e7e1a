//! The status as text.

use std::fmt;

use super::super::size;
use super::{Amounts, PartitionState, PartitionStatus, Status, TableStatus, TaskState};
use crate::model::{counted, one_line, sentence};

/// The highest number of partitions of a table that are listed, of those that are not done.
const MAX_LISTED: usize = 20;

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Planning => "being planned",
            Self::Copying => "copying",
            Self::Idle => "nobody works on it; start a worker",
            Self::Pausing => "pausing: what is in hand is finished first",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Failed => "partitions have failed, and nobody works on it; the same run tries them again",
            Self::Finishing => "everything is published; the servers are being cleaned up",
            Self::Finished => "finished",
            Self::Unknown => "not known",
        })
    }
}

impl fmt::Display for PartitionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Publishing => "publishing",
            Self::Copying => "copying",
            Self::Pending => "pending",
            Self::Failed => "failed",
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Task {} at {}: {}", one_line(&self.task), one_line(&self.path), self.state)?;
        for table in &self.tables {
            write!(f, "{table}")?;
        }
        if self.tables.len() > 1 {
            writeln!(f, "All tables: {}", self.total)?;
        }
        if let Some(rate) = self.bytes_per_second {
            write!(f, "{}/s", size(rate))?;
            match self.seconds_left {
                Some(seconds) => writeln!(f, ", about {} left", duration(seconds))?,
                None => writeln!(f, "; too little is copied to say how long it takes")?,
            }
        }
        for worker in &self.workers {
            let idle = if worker.jobs.is_empty() { ": nothing in hand" } else { "" };
            writeln!(f, "Worker {}{idle}", one_line(&worker.name))?;
            for job in &worker.jobs {
                write!(f, "  {}", one_line(&job.what))?;
                if let Some(attempt) = job.attempt.filter(|attempt| *attempt > 1) {
                    write!(f, ", attempt {attempt}")?;
                }
                for statement in &job.statements {
                    let rows = statement.rows_read.max(statement.rows_written);
                    let seconds = statement.millis as f64 / 1000.0;
                    let node = one_line(&statement.node);
                    write!(f, "; on {node} for {seconds:.1} s: {} rows", thousands(rows))?;
                }
                writeln!(f)?;
            }
        }
        for wait in &self.waits {
            writeln!(f, "Waiting: {}", sentence(wait))?;
        }
        for error in &self.errors {
            let again = if error.tried_again { "is tried again" } else { "failed" };
            writeln!(f, "{} {again}: {}", one_line(&error.what), sentence(&error.error))?;
        }
        for line in self.account.lines() {
            writeln!(f, "{}", sentence(&line))?;
        }
        for silent in &self.silent {
            writeln!(f, "No answer: {}", sentence(silent))?;
        }
        Ok(())
    }
}

impl fmt::Display for TableStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [name, source, target] = [&self.name, &self.source, &self.target].map(|text| one_line(text));
        writeln!(f, "Table {name}: {source} → {target}")?;
        writeln!(f, "  {}", self.amounts)?;
        let open: Vec<&PartitionStatus> =
            self.partitions.iter().filter(|partition| partition.state != PartitionState::Done).collect();
        // Partitions in progress come first, then failed ones. Pending partitions come last: there may be many.
        let begun = open.iter().filter(|partition| partition.state != PartitionState::Pending);
        let pending = open.iter().filter(|partition| partition.state == PartitionState::Pending);
        for partition in begun.chain(pending).take(MAX_LISTED) {
            let (copied, rows) = (thousands(partition.rows_copied), thousands(partition.rows));
            let bytes = size(partition.bytes);
            writeln!(
                f,
                "  {:<12} {:<10} {copied} of {rows} rows copied, {bytes}",
                one_line(&partition.name),
                partition.state.to_string()
            )?;
        }
        if open.len() > MAX_LISTED {
            writeln!(f, "  and {} more", counted(open.len() - MAX_LISTED, "partition"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partitions: Vec<String> = self.partitions.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let percent = if self.bytes == 0 { 100.0 } else { self.bytes_copied as f64 * 100.0 / self.bytes as f64 };
        write!(
            f,
            "partitions: {}; copied {} of {} rows, {} of {} ({percent:.1} %); published {} rows",
            if partitions.is_empty() { "none".to_owned() } else { partitions.join(", ") },
            thousands(self.rows_copied),
            thousands(self.rows),
            size(self.bytes_copied),
            size(self.bytes),
            thousands(self.rows_published),
        )?;
        if self.partitions_compared > 0 {
            write!(f, ", {} verified by checksum", counted(self.partitions_compared, "partition"))?;
        }
        Ok(())
    }
}

/// Returns a number such as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a time such as `4 s`, `3 min`, `2 h 5 min`.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_are_formatted_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([4, 119, 121, 7300].map(duration), ["4 s", "119 s", "3 min", "2 h 1 min"]);
    }
}
