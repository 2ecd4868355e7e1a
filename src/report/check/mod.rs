//! The output of `check`: one line for each finding, or all findings as one JSON object.

mod coordinator;
mod judge;

use std::fmt;

use serde::Serialize;

use crate::model::{counted, one_line, sentence};

pub(crate) use judge::judge;

/// The findings of `check`. As JSON: `{"verdict": …, "findings": [{"level", "about", "node"?, "table"?, "what",
/// "todo"?}, …]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The result that a run would have.
    pub(crate) verdict: CheckResult,
    /// The findings, the worst first.
    pub(crate) findings: Vec<Finding>,
}

/// The result that a run would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// Nothing prevents a run.
    Clear,
    /// A run would fail.
    WouldFail,
    /// The task is wrong.
    TaskWrong,
}

/// One fact that the user should know before a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The severity.
    pub level: Level,
    /// The topic.
    pub about: Topic,
    /// The node, as `host:port` of the native protocol. `None` if the finding concerns several nodes or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The name of the table job. `None` if the finding concerns the whole task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The fault or the fact.
    pub what: String,
    /// The advice, if it does not follow from the fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A run would fail.
    Fault,
    /// A run may fail, or have an effect that the user may not want.
    Warning,
    /// A fact that is good to know.
    Remark,
}

/// The topic of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// The task's text.
    Task,
    /// A server that does not answer, or its answer.
    Server,
    /// A server's version.
    Version,
    /// The rights of an account.
    Rights,
    /// Tables, columns, keys and paths on both sides; the transfers of rows.
    Table,
    /// Partitions of the target that hold rows.
    Partitions,
    /// Free space on the target's disks.
    Disk,
    /// A server's clock.
    Clock,
    /// ZooKeeper, or another coordinator of the task.
    Zookeeper,
    /// A mutation that is not done.
    Mutation,
    /// A TTL of the target.
    Ttl,
    /// A materialized view over the target.
    View,
    /// Tables and statements that earlier tasks left.
    Leftover,
    /// Settings of the task.
    Settings,
}

impl CheckReport {
    /// Makes the report from findings in any order.
    pub fn of(mut findings: Vec<Finding>) -> Self {
        findings.sort();
        findings.dedup();
        let faults: Vec<Topic> =
            findings.iter().filter(|finding| finding.level == Level::Fault).map(|finding| finding.about).collect();
        let verdict = match faults.as_slice() {
            [] => CheckResult::Clear,
            faults if faults.contains(&Topic::Task) => CheckResult::TaskWrong,
            _ => CheckResult::WouldFail,
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
        // A message of a server may have several lines.
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
            CheckResult::Clear => "nothing is in the way of a run",
            CheckResult::WouldFail => "a run would fail",
            CheckResult::TaskWrong => "the task is wrong",
        };
        write!(f, "{faults}, {warnings}, {remarks}: {end}.")
    }
}
