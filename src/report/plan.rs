//! What a run would do, as a person reads it.

use std::collections::BTreeMap;
use std::fmt;

use comfy_table::presets::ASCII_NO_BORDERS;
use comfy_table::{CellAlignment, LineStyle, Table};

use crate::plan::{Document, Planned, Travel};

use super::status::{duration, thousands};
use super::{LISTED, size};
use crate::model::{counted, one_line, sentence};

/// What one worker moved in a second where this was measured at its slowest: rows that are sorted into three shards on two cores.
/// Time is said as that of one worker at this rate.
const USUAL_RATE: u64 = 64 << 20;

/// A plan with what a person wants to know before it is run.
pub struct Shown<'a>(pub &'a Document);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.0.tables {
            show(table, f)?;
        }
        let partitions = || self.0.tables.iter().flat_map(|table| &table.plan.partitions);
        let (rows, bytes) = partitions().fold((0, 0), |(rows, bytes), of| (rows + of.rows, bytes + of.bytes));
        write!(
            f,
            "Altogether {}, {} rows, {}. One worker that moves {} a second takes about {}; more workers share the work.",
            counted(partitions().count(), "partition"),
            thousands(rows),
            size(bytes),
            size(USUAL_RATE),
            duration(bytes.div_ceil(USUAL_RATE))
        )
    }
}

fn show(table: &Planned, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let plan = &table.plan;
    let [source, target] = [&plan.source, &plan.target].map(ToString::to_string);
    writeln!(f, "Table {}: {} → {}", one_line(&plan.name), one_line(&source), one_line(&target))?;
    for made in &table.create {
        let nodes: Vec<&str> = made.nodes.iter().map(String::as_str).collect();
        writeln!(f, "  is made on {}: {}", one_line(&nodes.join(", ")), sentence(&made.statement))?;
        if !made.left_out.is_empty() {
            writeln!(
                f,
                "    left out, since the version there does not know it: {}",
                one_line(&made.left_out.join(", "))
            )?;
        }
    }
    let (batches, pieces) = (counted(plan.batches.len(), "batch"), counted(plan.pieces.len(), "piece"));
    writeln!(f, "  {} in {batches} and {pieces}", counted(plan.partitions.len(), "partition"))?;
    if let Some(sharding) = &plan.sharding {
        writeln!(f, "  target shard by {}, {} slots", sentence(&sharding.key), sharding.total)?;
    }
    // Most pairs of nodes are alike.
    let mut ways: BTreeMap<(&str, Option<&str>), Vec<&Travel>> = BTreeMap::new();
    for travel in &table.travel {
        ways.entry((&travel.way, travel.since.as_deref())).or_default().push(travel);
    }
    for ((way, since), travel) in ways {
        let pairs: Vec<String> = travel.iter().map(|of| format!("{} to {}", of.from, of.to)).collect();
        let since = since.map(|since| format!(", since {}", sentence(since))).unwrap_or_default();
        writeln!(f, "  rows travel by {way} from {}{since}", one_line(&pairs.join(", ")))?;
    }
    if table.travel.iter().any(|travel| travel.way == "push") && plan.target_shards().count() > 1 {
        writeln!(f, "  (and by relay at first, to see which is faster for several target shards)")?;
    }
    let mut rows = Table::new();
    rows.load_style(ASCII_NO_BORDERS.row_separator(LineStyle::none()));
    rows.set_header(["partition", "rows", "bytes", "pieces", "batch"]);
    for (batch, of) in plan.batches.iter().enumerate() {
        for partition in plan.partitions_of(batch) {
            if rows.row_count() < LISTED {
                rows.add_row([
                    one_line(&partition.name).into_owned(),
                    thousands(partition.rows),
                    size(partition.bytes),
                    of.pieces.len().to_string(),
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
    if plan.partitions.len() > LISTED {
        writeln!(f, "and {} more", counted(plan.partitions.len() - LISTED, "partition"))?;
    }
    for remark in &plan.remarks {
        writeln!(f, "note: {}", sentence(remark))?;
    }
    Ok(())
}
