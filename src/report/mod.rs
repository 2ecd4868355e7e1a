//! The result and the state of a task, for people and programs: the final report, and what `check`, `verify`, `status`
//! and `cleanup` print. Read-only; made from plans, records and facts.

pub mod check;
pub mod leftovers;
pub mod moment;
pub mod order;
pub mod outcome;
pub mod plan;
pub mod progress;
pub mod proposal;
pub mod status;
pub mod verify;

use std::fmt;

use comfy_table::presets::ASCII_NO_BORDERS;
use comfy_table::{CellAlignment, LineStyle, Table};
use leftovers::size;

use crate::model::{one_line, sentence};
use crate::plan::TablePlan;
use crate::protocol::account::Findings;
use crate::protocol::{BatchState, PieceState, TableRecords};

/// The highest number of partitions of a table that are listed, besides partitions that are not as they should be.
const MAX_LISTED: usize = 100;

/// The report of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The report of each table job.
    pub tables: Vec<TableReport>,
    /// The findings of the account: lines about rows that are missing, too many, or not accounted for.
    pub account: Vec<String>,
}

/// The result of a table job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableReport {
    /// The name of the table job in the task.
    pub name: String,
    /// `source → target`.
    pub route: String,
    /// The partitions.
    pub partitions: Vec<PartitionReport>,
    /// The number of further partitions that are unchanged since an earlier pass copied them.
    pub unchanged: usize,
    /// Remarks for the user.
    pub remarks: Vec<String>,
}

/// The result of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionReport {
    /// The literal of the partition.
    pub name: String,
    /// Rows selected at the source. For a partition that is not copied, the rows at planning.
    pub selected: u64,
    /// Rows of this task on the target; `None` when it is not published.
    pub target: Option<u64>,
    /// Whether the contents of both sides were compared, not only the row counts.
    pub compared: bool,
    /// Milliseconds spent on its batch, by all workers together.
    pub millis: u64,
    /// The number of partitions in that batch.
    pub together: usize,
    /// Attempts after the first, at its pieces and at publishing. The earlier attempt failed, or its worker did.
    pub retries: u32,
    /// The error, if the partition is not published because something failed.
    pub error: Option<String>,
}

impl Report {
    /// Makes the report from plans and records.
    pub fn of(plans: &[TablePlan], by_table: &[TableRecords]) -> Self {
        let tables = plans.iter().zip(by_table).map(|(plan, records)| TableReport::of(plan, records)).collect();
        Self { tables, account: Vec::new() }
    }

    /// Returns the report with the findings of the account.
    pub fn with_account(self, findings: &Findings) -> Self {
        Self { account: findings.lines(), ..self }
    }

    /// Returns the number of rows on the targets.
    pub fn rows(&self) -> u64 {
        self.tables.iter().flat_map(|table| &table.partitions).filter_map(|partition| partition.target).sum()
    }

    /// Returns the number of partitions that are not published.
    pub fn missing(&self) -> usize {
        self.tables.iter().flat_map(|table| &table.partitions).filter(|partition| partition.target.is_none()).count()
    }
}

impl TableReport {
    fn of(plan: &TablePlan, records: &TableRecords) -> Self {
        let mut partitions = Vec::new();
        let mut remarks = plan.remarks.clone();
        for (batch, planned) in plan.batches.iter().enumerate() {
            let record = &records.batches[batch];
            let pieces = &records.pieces[planned.pieces.clone()];
            let copying: u64 = pieces.iter().filter_map(|piece| piece.copied()).map(|copied| copied.millis).sum();
            let attempt_counts = pieces.iter().map(|piece| piece.attempt.0).chain([record.publication.0]);
            let retries = attempt_counts.map(|attempts| attempts.saturating_sub(1)).sum();
            let published = match &record.state {
                BatchState::Done(published) => Some(published),
                _ => None,
            };
            let error = match &record.state {
                BatchState::Failed { error, .. } => Some(error.clone()),
                _ => pieces.iter().find_map(|piece| match &piece.state {
                    PieceState::Failed { error, .. } => Some(error.clone()),
                    _ => None,
                }),
            };
            for (index, partition) in plan.partitions_of(batch).iter().enumerate() {
                let result = published.map(|published| &published.partitions[index]);
                partitions.push(PartitionReport {
                    name: partition.name.clone(),
                    selected: result.map_or(partition.rows, |result| result.selected),
                    target: result.map(|result| result.target),
                    compared: result.is_some_and(|result| result.checksum.is_some()),
                    millis: copying + published.map_or(0, |published| published.millis),
                    together: planned.partitions.len(),
                    retries,
                    error: error.clone(),
                });
            }
            remarks.extend(published.into_iter().flat_map(|published| published.remarks.iter().cloned()));
        }
        let (name, route) = (plan.name.clone(), format!("{} → {}", plan.source, plan.target));
        Self { name, route, partitions, unchanged: plan.unchanged, remarks }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            write!(f, "{table}")?;
        }
        for line in &self.account {
            writeln!(f, "{}", sentence(line))?;
        }
        let all: usize = self.tables.iter().map(|table| table.partitions.len()).sum();
        write!(f, "{} of {all} partitions are published, {} rows on the target.", all - self.missing(), self.rows())
    }
}

impl fmt::Display for TableReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Table {}: {}", one_line(&self.name), one_line(&self.route))?;
        let mut rows = Table::new();
        rows.load_style(ASCII_NO_BORDERS.row_separator(LineStyle::none()));
        rows.set_header(["partition", "rows selected", "rows on target", "seconds", "retries", ""]);
        let mut shared = false;
        let mut hidden = 0;
        for (index, partition) in self.partitions.iter().enumerate() {
            let equal = partition.target == Some(partition.selected);
            if index >= MAX_LISTED && equal {
                hidden += 1;
                continue;
            }
            let mark = if partition.together > 1 { "*" } else { "" };
            shared |= partition.together > 1;
            rows.add_row([
                one_line(&partition.name).into_owned(),
                partition.selected.to_string(),
                partition.target.map_or("-".into(), |rows| rows.to_string()),
                format!("{:.1}{mark}", partition.millis as f64 / 1000.0),
                partition.retries.to_string(),
                match (partition.target, &partition.error) {
                    (Some(_), _) if equal && partition.compared => "equal, checksum too".into(),
                    (Some(_), _) if equal => "equal".into(),
                    (Some(_), _) => "fewer, see below".into(),
                    (None, Some(_)) => "failed, see below".into(),
                    (None, None) => "not done".into(),
                },
            ]);
        }
        for column in 1..5 {
            if let Some(column) = rows.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(f, "{rows}")?;
        if hidden > 0 {
            writeln!(f, "and {hidden} more partitions, equal on both sides")?;
        }
        if self.unchanged > 0 {
            writeln!(f, "{} partitions that were copied before are unchanged", self.unchanged)?;
        }
        if shared {
            writeln!(f, "* seconds of all partitions that were copied together with it")?;
        }
        // Errors are too long for a column.
        for partition in &self.partitions {
            if let (None, Some(error)) = (partition.target, &partition.error) {
                writeln!(f, "{} failed: {}", one_line(&partition.name), sentence(error))?;
            }
        }
        for remark in &self.remarks {
            writeln!(f, "note: {}", sentence(remark))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_why() {
        let partition = |name: &str, target, error: Option<&str>| PartitionReport {
            name: name.into(),
            selected: 10,
            target,
            compared: name == "201801",
            millis: 1234,
            together: 1,
            retries: 2,
            error: error.map(str::to_owned),
        };
        let report = Report {
            tables: vec![TableReport {
                name: "hits".into(),
                route: "a.b → c.d".into(),
                partitions: vec![partition("201801", Some(10), None), partition("201802", None, Some("disk full"))],
                unchanged: 3,
                remarks: vec!["something".into()],
            }],
            account: Vec::new(),
        };
        let text = report.to_string();
        assert!(text.contains("201801") && text.contains("equal, checksum too") && text.contains("1.2"), "{text}");
        assert!(text.contains("201802 failed: disk full") && text.contains("note: something"), "{text}");
        assert!(text.ends_with("1 of 2 partitions are published, 10 rows on the target."), "{text}");
    }
}
