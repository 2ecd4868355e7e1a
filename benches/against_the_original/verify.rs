//! What verification costs: the same copy with each kind of it, by turns.

use crate::Outcome;
use crate::arguments::Arguments;
use crate::case::{VERIFICATION, VERIFIED};
use crate::copier::Maker;
use crate::ground::Ground;
use crate::results::Verification;
use crate::usage::{Usage, medians};

const KINDS: [&str; 3] = ["none", "count", "checksum"];

/// Measures it.
pub fn measure(arguments: &Arguments) -> Outcome<Verification> {
    eprintln!("case {VERIFICATION}: what verification costs");
    let mut ground = Ground::prepare(VERIFIED, arguments, false)?;
    let mut runs: [Vec<Usage>; 3] = Default::default();
    for round in 0..arguments.runs() {
        for turn in 0..KINDS.len() {
            let kind = (turn + round) % KINDS.len();
            eprint!("  {}:", KINDS[kind]);
            let usage = ground.run(Maker::Ours, arguments.workers, &format!("<verify>{}</verify>", KINDS[kind]))?;
            runs[kind].push(usage);
        }
    }
    let [none, count, checksum] = runs.map(|runs| medians(&runs));
    Ok(Verification { rows: ground.rows(), none, count, checksum })
}
