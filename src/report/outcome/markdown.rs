//! The report as Markdown, for a wiki or a ticket.

use std::fmt::Write;

use super::super::size;
use super::super::status::{PartitionState, TableStatus, duration, thousands};
use super::{Outcome, Side};
use crate::model::sentence;

/// Returns the report as Markdown. Names and messages are escaped.
pub(super) fn page(outcome: &Outcome) -> String {
    let (status, total) = (&outcome.status, &outcome.status.total);
    let mut text = format!("# Copy of {}: {}\n\n", cell(&status.path), outcome.headline());
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{} of {} partitions are published, {} rows on the target, {} copied, {} retries. Task {}, worker {}, ended {} \
         after {}.",
        total.count(PartitionState::Done),
        total.all_partitions(),
        thousands(total.rows_published),
        size(total.bytes_copied),
        total.retries,
        cell(outcome.task()),
        cell(&outcome.worker),
        outcome.ended,
        duration(outcome.seconds.ceil() as u64),
    );
    if let Some(error) = &outcome.error {
        let _ = writeln!(text, "\n**{}**", cell(error));
    }
    status.tables.iter().for_each(|table| table_markdown(&mut text, table));
    course(&mut text, outcome);
    plans(&mut text, outcome);
    list(&mut text, "Warnings", &outcome.warnings);
    text
}

fn course(text: &mut String, outcome: &Outcome) {
    if outcome.spent.total() > 0 {
        text.push_str(
            "\n## Where the time went\n\nOf all jobs of all workers together.\n\n| | seconds |\n| --- | ---: |\n",
        );
        for (what, millis) in outcome.spent.named() {
            let _ = writeln!(text, "| {what} | {:.1} |", millis as f64 / 1000.0);
        }
    }
    if let Some(throughput) = &outcome.throughput {
        let bytes: u64 = throughput.bytes.iter().sum();
        let millis = (throughput.ended.0 - throughput.began.0).max(1);
        let fastest = throughput.rates().fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "\nCopied from {} to {}: {} at {}/s, at most {}/s.",
            throughput.began,
            throughput.ended,
            size(bytes),
            size(bytes * 1000 / millis),
            size(fastest as u64),
        );
    }
    if !outcome.shards.is_empty() {
        text.push_str("\n## Shards\n\n| table | shard | rows | uncompressed |\n| --- | --- | ---: | ---: |\n");
        for shard in &outcome.shards {
            let side = match shard.side {
                Side::Source => "source, before",
                Side::Target => "target, after",
            };
            let _ = writeln!(
                text,
                "| {} | {side}: {} | {}{} | {} |",
                cell(&shard.table),
                shard.shard,
                thousands(shard.rows),
                if shard.whole_table { " (whole table)" } else { "" },
                size(shard.bytes),
            );
        }
    }
}

fn plans(text: &mut String, outcome: &Outcome) {
    for plan in &outcome.plans {
        let pieces: usize = plan.batches.iter().map(|batch| batch.pieces).sum();
        let partitions: usize = plan.batches.iter().map(|batch| batch.partitions.len()).sum();
        let _ = writeln!(
            text,
            "\nPlan of {}: {partitions} partitions in {} batches and {pieces} pieces; {} columns; partition key {}{}{}.",
            cell(&plan.table),
            plan.batches.len(),
            plan.columns.len(),
            if plan.partition_key.is_empty() { "none".to_owned() } else { cell(&plan.partition_key.join(", ")) },
            plan.sharding_key.as_ref().map(|key| format!("; sharding key {}", cell(key))).unwrap_or_default(),
            plan.condition.as_ref().map(|condition| format!("; rows where {}", cell(condition))).unwrap_or_default(),
        );
    }
}

fn table_markdown(text: &mut String, table: &TableStatus) {
    let (name, source, target) = (cell(&table.name), cell(&table.source), cell(&table.target));
    let _ = writeln!(text, "\n## {name}: {source} → {target}\n");
    text.push_str("| partition | state | rows selected | rows on target | seconds | retries | verified by |\n");
    text.push_str("| --- | --- | ---: | ---: | ---: | ---: | --- |\n");
    for partition in &table.partitions {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.1}{} | {} | {} |",
            cell(&partition.name),
            partition.state,
            thousands(partition.rows),
            partition.rows_published.map_or("-".into(), thousands),
            partition.millis as f64 / 1000.0,
            if partition.together > 1 { "\\*" } else { "" },
            partition.retries,
            match (partition.rows_published, partition.compared) {
                (None, _) => "",
                (Some(_), true) => "count, checksum",
                (Some(_), false) => "count",
            },
        );
    }
    if table.partitions.iter().any(|partition| partition.together > 1) {
        text.push_str("\n\\* seconds of all partitions that were copied together with it\n");
    }
    let failed = table.partitions.iter().filter_map(|partition| {
        let error = partition.error.as_ref().filter(|_| partition.rows_published.is_none())?;
        Some(format!("{}: {error}", partition.name))
    });
    list(text, "Failed", &failed.collect::<Vec<_>>());
    if table.unchanged > 0 {
        let _ = writeln!(text, "\n{} partitions that were copied before are unchanged.", table.unchanged);
    }
    list(text, "Notes", &table.remarks);
}

fn list(text: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        let _ = writeln!(text, "\n{title}:\n");
        text.extend(lines.iter().map(|line| format!("- {}\n", cell(line))));
    }
}

/// Escapes a text for Markdown and puts it on one line.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for c in sentence(text).chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' => cell.extend(['\\', c]),
            c => cell.push(c),
        }
    }
    cell
}
