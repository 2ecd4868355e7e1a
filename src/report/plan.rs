//! The plan of a run, as text.

use std::collections::BTreeMap;
use std::fmt;

use comfy_table::presets::ASCII_NO_BORDERS;
use comfy_table::{CellAlignment, LineStyle, Table};

use super::status::{duration, thousands};
use super::{MAX_LISTED, size};
use crate::model::{counted, one_line, sentence};
use crate::plan::{Document, Planned, Travel};

/// Bytes per second of one worker, the slowest rate that was measured: rows sorted into three shards on two cores. The
/// plan estimates the time of one worker at this rate.
const ESTIMATED_BYTES_PER_SECOND: u64 = 64 << 20;

/// Displays a plan for a person before it is run.
pub(crate) struct PlanText<'a>(pub(crate) &'a Document);

impl fmt::Display for PlanText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.0.tables {
            write_table(table, f)?;
        }
        let partitions = || self.0.tables.iter().flat_map(|table| &table.plan.partitions);
        let (rows, bytes) =
            partitions().fold((0, 0), |(rows, bytes), partition| (rows + partition.rows, bytes + partition.bytes));
        write!(
            f,
            "Altogether {}, {} rows, {}. One worker that moves {} a second takes about {}; more workers share the work.",
            counted(partitions().count(), "partition"),
            thousands(rows),
            size(bytes),
            size(ESTIMATED_BYTES_PER_SECOND),
            duration(bytes.div_ceil(ESTIMATED_BYTES_PER_SECOND))
        )
    }
}

fn write_table(table: &Planned, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let plan = &table.plan;
    let [source, target] = [&plan.source, &plan.target].map(ToString::to_string);
    writeln!(f, "Table {}: {} → {}", one_line(&plan.name), one_line(&source), one_line(&target))?;
    for creation in &table.create {
        let nodes: Vec<&str> = creation.nodes.iter().map(String::as_str).collect();
        writeln!(f, "  is made on {}: {}", one_line(&nodes.join(", ")), sentence(&creation.statement))?;
        if !creation.left_out.is_empty() {
            writeln!(
                f,
                "    left out, since the version there does not know it: {}",
                one_line(&creation.left_out.join(", "))
            )?;
        }
    }
    let (batches, pieces) = (counted(plan.batches.len(), "batch"), counted(plan.pieces.len(), "piece"));
    writeln!(f, "  {} in {batches} and {pieces}", counted(plan.partitions.len(), "partition"))?;
    if let Some(sharding) = &plan.sharding {
        writeln!(f, "  target shard by {}, {} slots", sentence(&sharding.key), sharding.total)?;
    }
    // Most pairs of nodes have the same transfer.
    let mut ways: BTreeMap<(&str, Option<&str>), Vec<&Travel>> = BTreeMap::new();
    for travel in &table.travel {
        ways.entry((&travel.way, travel.since.as_deref())).or_default().push(travel);
    }
    for ((way, since), travel) in ways {
        let pairs: Vec<String> = travel.iter().map(|pair| format!("{} to {}", pair.from, pair.to)).collect();
        let since = since.map(|since| format!(", since {}", sentence(since))).unwrap_or_default();
        writeln!(f, "  rows travel by {way} from {}{since}", one_line(&pairs.join(", ")))?;
    }
    if table.travel.iter().any(|travel| travel.way == "push") && plan.target_shards().count() > 1 {
        writeln!(f, "  (and by relay at first, to see which is faster for several target shards)")?;
    }
    let mut rows = Table::new();
    rows.load_style(ASCII_NO_BORDERS.row_separator(LineStyle::none()));
    rows.set_header(["partition", "rows", "bytes", "pieces", "batch"]);
    for (batch, planned) in plan.batches.iter().enumerate() {
        for partition in plan.partitions_of(batch) {
            if rows.row_count() < MAX_LISTED {
                rows.add_row([
                    one_line(&partition.name).into_owned(),
                    thousands(partition.rows),
                    size(partition.bytes),
                    planned.pieces.len().to_string(),
                    batch.to_string(),
                ]);
            }
        }
    }
    for column in 1..5 {
        if let Some(column) = rows.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(f, "{rows}")?;
    if plan.partitions.len() > MAX_LISTED {
        writeln!(f, "and {} more", counted(plan.partitions.len() - MAX_LISTED, "partition"))?;
    }
    for remark in &plan.remarks {
        writeln!(f, "note: {}", sentence(&remark.to_string()))?;
    }
    Ok(())
}
