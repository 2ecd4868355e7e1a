//! The results as a table, for people and for `docs/performance.md`.

use std::fmt::Write as _;
use std::fs;

use crate::Outcome;
use crate::results::{Compared, Results, Verification, root};
use crate::usage::Usage;

const BEGIN: &str = "<!-- made by benches/against_the_original -->\n";
const END: &str = "<!-- end -->\n";

/// So much of the processor may be used by others.
const DISTURBED: f64 = 0.1;

/// The table and what is to be said of it.
pub fn markdown(results: &Results) -> String {
    let mut text = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{args}"); // a String takes all
    };
    if !results.cases.is_empty() {
        line(format_args!(
            "| case | time | goal | processor time | source's servers | target's servers | workers | ZooKeeper | memory of a worker |"
        ));
        line(format_args!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |"));
        for case in &results.cases {
            line(format_args!("{}", row(case)));
        }
        line(format_args!(""));
        let files = if results.in_memory { "in memory" } else { "on a disk" };
        line(format_args!(
            "Servers and workers shared {} cores, the servers' files were {files}; seconds would say little elsewhere.",
            results.cores
        ));
        for case in &results.cases {
            line(format_args!("{}", remark(case, results.cores)));
        }
    }
    if let Some(verification) = &results.verification {
        line(format_args!("{}", cost(verification)));
    }
    text
}

fn row(case: &Compared) -> String {
    let whole = case.original.cpu.total();
    let shares = |usage: &Usage| usage.cpu.parts().map(|part| format!("{:.0}", part / whole * 100.0));
    let (ours, original) = (shares(&case.ours), shares(&case.original));
    let mut cells = vec![
        format!("{}: {}", case.case, case.title),
        format!("**{:.2}**", case.time()),
        format!("{:.2}", case.goal),
        format!("{:.2}", case.ours.cpu.total() / whole),
    ];
    cells.extend(ours.iter().zip(&original).map(|(ours, original)| format!("{ours} : {original}")));
    cells.push(format!("{} : {} MiB", case.ours.memory >> 20, case.original.memory >> 20));
    format!("| {} |", cells.join(" | "))
}

fn remark(case: &Compared, cores: usize) -> String {
    let millions = case.rows as f64 / 1e6;
    let mut text = format!(
        "- {}: {millions:.1} million rows of {} bytes; the original was fastest with {} worker(s), ours had {}; two of ours \
         take {:.2} of the time of that.",
        case.case,
        case.bytes / case.rows.max(1),
        case.original_workers,
        case.workers,
        case.two_of_ours.wall / case.ours.wall,
    );
    let disturbed = |usage: &Usage| usage.others / (usage.wall * cores as f64);
    let disturbed = disturbed(&case.ours).max(disturbed(&case.original));
    if disturbed > DISTURBED {
        let _ = write!(text, " Other programs had {:.0} % of the processor: the time says little.", disturbed * 100.0);
    }
    if !case.elements.is_empty() {
        let _ = write!(text, " Ours with `{}`.", case.elements);
    }
    text
}

fn cost(verification: &Verification) -> String {
    let share = |usage: &Usage, of: fn(&Usage) -> f64| {
        let (with, without) = (of(usage), of(&verification.none));
        format!("{:+.0} %", (with / without - 1.0) * 100.0)
    };
    let say = |usage: &Usage| {
        let (time, cpu) = (share(usage, |usage| usage.wall), share(usage, |usage| usage.cpu.total()));
        format!("{time} time, {cpu} processor time")
    };
    format!(
        "- H: verification in case A, compared with `none`: `count` {} (goal: 3 %), `checksum` {} (goal: 20 %).",
        say(&verification.count),
        say(&verification.checksum)
    )
}

/// Puts the table between its markers in `docs/performance.md`.
pub fn into_page(table: &str) -> Outcome<()> {
    let path = root().join("docs/performance.md");
    let text = fs::read_to_string(&path)?;
    let missing = || format!("docs/performance.md has no {}", BEGIN.trim_end());
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}"))?)
}
