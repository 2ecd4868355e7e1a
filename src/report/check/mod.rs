//! What `check` prints: a finding a line, or all of them as one JSON object.

mod coordinator;
mod judge;

use std::fmt;

use serde::Serialize;

use crate::model::{counted, one_line, sentence};
pub use judge::judge;

/// What a check found. As JSON: `{"verdict": …, "findings": [{"level", "about", "node"?, "table"?, "what", "todo"?}, …]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// What a run would come to.
    pub verdict: Verdict,
    /// The findings, the worst first.
    pub findings: Vec<Finding>,
}

/// What a run would come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is in its way.
    Clear,
    /// It would fail.
    WouldFail,
    /// The task says something that cannot be.
    TaskWrong,
}

/// One thing that a person should know before a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is about.
    pub about: About,
    /// The node, as `host:port` of the native protocol; none where it is about several, or about none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The table job's name; none where it is about the whole task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// What is wrong, or what is so.
    pub what: String,
    /// What to do about it, where that is not plain from what is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A run would fail.
    Fault,
    /// A run may fail, or do what somebody does not want.
    Warning,
    /// Good to know.
    Remark,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// The task's text.
    Task,
    /// A server that does not answer, or what it answers.
    Server,
    /// A server's version.
    Version,
    /// What an account may do.
    Rights,
    /// Tables, columns, keys and paths on both sides; how rows travel.
    Table,
    /// Partitions of the target that hold rows.
    Partitions,
    /// Room on the target's disks.
    Disk,
    /// A server's clock.
    Clock,
    /// ZooKeeper, or what the task's coordinator is.
    Zookeeper,
    /// A mutation that is not done.
    Mutation,
    /// A TTL of the target.
    Ttl,
    /// A materialized view over the target.
    View,
    /// What earlier tasks left.
    Leftover,
    /// Settings of the task.
    Settings,
}

impl CheckReport {
    /// Of findings in any order.
    pub fn of(mut findings: Vec<Finding>) -> Self {
        findings.sort();
        findings.dedup();
        let faults: Vec<About> =
            findings.iter().filter(|finding| finding.level == Level::Fault).map(|finding| finding.about).collect();
        let verdict = match faults.as_slice() {
            [] => Verdict::Clear,
            faults if faults.contains(&About::Task) => Verdict::TaskWrong,
            _ => Verdict::WouldFail,
        };
        Self { verdict, findings }
    }

    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fault => "FAULT",
            Self::Warning => "warning",
            Self::Remark => "remark",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} ", self.level)?;
        if let Some(node) = &self.node {
            write!(f, "{}: ", one_line(node))?;
        }
        if let Some(table) = &self.table {
            write!(f, "table {}: ", one_line(table))?;
        }
        // What a server says may have lines.
        f.write_str(&sentence(&self.what))?;
        match &self.todo {
            Some(todo) => write!(f, ". {}", sentence(todo)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let [faults, warnings, remarks] =
            [(Level::Fault, "fault"), (Level::Warning, "warning"), (Level::Remark, "remark")]
                .map(|(level, word)| counted(self.count(level), word));
        let end = match self.verdict {
            Verdict::Clear => "nothing is in the way of a run",
            Verdict::WouldFail => "a run would fail",
            Verdict::TaskWrong => "the task is wrong",
        };
        write!(f, "{faults}, {warnings}, {remarks}: {end}.")
    }
}
