//! The result and the state of a task, for people and programs: the final report, and what `check`, `verify`, `status`
//! and `cleanup` print. Read-only; made from plans, records and facts.

pub mod check;
pub mod leftovers;
pub(crate) mod moment;
pub mod order;
pub mod outcome;
pub(crate) mod plan;
pub(crate) mod progress;
pub mod proposal;
mod state;
pub mod status;
pub mod verify;

use std::fmt;

use comfy_table::presets::ASCII_NO_BORDERS;
use comfy_table::{CellAlignment, LineStyle, Table};
use leftovers::size;
use state::{Holders, TableModel};
use status::{PartitionStatus, Status, TableStatus};

use crate::model::{one_line, sentence};
use crate::plan::TablePlan;
use crate::protocol::TableRecords;
use crate::protocol::account::Findings;

/// The highest number of partitions of a table that are listed, besides partitions that are not as they should be.
const MAX_LISTED: usize = 100;

/// The report of a task, as text: what the status knows, for the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The table jobs.
    pub tables: Vec<TableStatus>,
    /// The findings of the account: lines about rows that are missing, too many, or not accounted for.
    pub(crate) account: Vec<String>,
}

impl Report {
    /// Makes the report from plans and records.
    pub fn of(plans: &[TablePlan], by_table: &[TableRecords]) -> Self {
        let nobody = Holders::default();
        let jobs = plans.iter().zip(by_table).enumerate();
        let tables = jobs.map(|(table, (plan, records))| TableModel::of(table, plan, records, &nobody));
        Self { tables: tables.map(|model| TableStatus::of(&model)).collect(), account: Vec::new() }
    }

    /// Makes the report from a status.
    pub(crate) fn of_status(status: &Status) -> Self {
        Self { tables: status.tables.clone(), account: status.account.lines() }
    }

    /// Returns the report with the findings of the account.
    pub(crate) fn with_account(self, findings: &Findings) -> Self {
        Self { account: findings.lines(), ..self }
    }

    /// Returns the number of rows on the targets.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.amounts.rows_published).sum()
    }

    /// Returns the number of partitions that are not published.
    pub(crate) fn missing(&self) -> usize {
        self.partitions().filter(|partition| partition.rows_published.is_none()).count()
    }

    fn partitions(&self) -> impl Iterator<Item = &PartitionStatus> {
        self.tables.iter().flat_map(|table| &table.partitions)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            write_table(f, table)?;
        }
        for line in &self.account {
            writeln!(f, "{}", sentence(line))?;
        }
        let all = self.partitions().count();
        write!(f, "{} of {all} partitions are published, {} rows on the target.", all - self.missing(), self.rows())
    }
}

/// Writes the partitions of a table job as a table, and below it what is too long for a column.
fn write_table(f: &mut fmt::Formatter<'_>, table: &TableStatus) -> fmt::Result {
    let route = format!("{} → {}", table.source, table.target);
    writeln!(f, "Table {}: {}", one_line(&table.name), one_line(&route))?;
    let mut rows = Table::new();
    rows.load_style(ASCII_NO_BORDERS.row_separator(LineStyle::none()));
    rows.set_header(["partition", "rows selected", "rows on target", "seconds", "retries", ""]);
    let mut shared = false;
    let mut hidden = 0;
    for (index, partition) in table.partitions.iter().enumerate() {
        let equal = partition.rows_published == Some(partition.rows);
        if index >= MAX_LISTED && equal {
            hidden += 1;
            continue;
        }
        let mark = if partition.together > 1 { "*" } else { "" };
        shared |= partition.together > 1;
        rows.add_row([
            one_line(&partition.name).into_owned(),
            partition.rows.to_string(),
            partition.rows_published.map_or("-".into(), |rows| rows.to_string()),
            format!("{:.1}{mark}", partition.millis as f64 / 1000.0),
            partition.retries.to_string(),
            match (partition.rows_published, &partition.error) {
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
    if table.unchanged > 0 {
        writeln!(f, "{} partitions that were copied before are unchanged", table.unchanged)?;
    }
    if shared {
        writeln!(f, "* seconds of all partitions that were copied together with it")?;
    }
    // Errors are too long for a column.
    for partition in &table.partitions {
        if let (None, Some(error)) = (partition.rows_published, &partition.error) {
            writeln!(f, "{} failed: {}", one_line(&partition.name), sentence(error))?;
        }
    }
    for remark in &table.remarks {
        writeln!(f, "note: {}", sentence(remark))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_why_a_partition_is_missing() {
        let mut status = status::tests::status();
        let table = &mut status.tables[0];
        let missing =
            PartitionStatus { name: "201802".into(), error: Some("disk full".into()), ..table.partitions[0].clone() };
        let published = PartitionStatus {
            name: "201801".into(),
            rows_published: Some(10),
            compared: true,
            millis: 1234,
            error: None,
            ..missing.clone()
        };
        table.amounts.rows_published = 10;
        table.partitions = vec![published, missing];
        table.remarks = vec!["something".into()];
        let text = Report::of_status(&status).to_string();
        assert!(text.contains("201801") && text.contains("equal, checksum too") && text.contains("1.2"), "{text}");
        assert!(text.contains("201802 failed: disk full") && text.contains("note: something"), "{text}");
        assert!(text.ends_with("1 of 2 partitions are published, 10 rows on the target."), "{text}");
    }
}
