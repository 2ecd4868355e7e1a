//! Ours and the original, by turns.

use crate::Outcome;
use crate::arguments::Arguments;
use crate::case::Case;
use crate::copier::Maker;
use crate::ground::Ground;
use crate::results::Compared;
use crate::usage::{Usage, medians};

/// So many workers of the original are tried.
const TRIED: [u32; 4] = [1, 2, 3, 4];
/// With so many workers ours runs once more, to see whether they help.
const SECOND: u32 = 2;

/// Measures one case.
pub fn compare(case: &'static Case, arguments: &Arguments) -> Outcome<Compared> {
    let mut ground = Ground::prepare(case, arguments, false)?;
    let (original_workers, tried) = match arguments.original_workers {
        Some(number) => (number, Vec::new()),
        None => best(&mut ground)?,
    };
    let (mut ours, mut original) = (Vec::new(), Vec::new());
    for round in 0..arguments.runs() {
        let turns = [(Maker::Ours, arguments.workers), (Maker::Original, original_workers)];
        // What disturbs the second of two runs is not to disturb the same one each time.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for (maker, workers) in order.map(|turn| turns[turn]) {
            let usage = ground.run(maker, workers, "")?;
            if maker == Maker::Ours { &mut ours } else { &mut original }.push(usage);
        }
    }
    let two = ground.run(Maker::Ours, SECOND, "")?;
    let seconds = |runs: &[Usage]| runs.iter().map(|run| run.wall).collect();
    let compared = Compared {
        case: case.name.to_owned(),
        title: case.title.to_owned(),
        elements: format!("{}{}", case.elements, arguments.elements()),
        goal: case.goal,
        rows: ground.rows(),
        bytes: ground.bytes,
        workers: arguments.workers,
        original_workers,
        tried,
        ours_seconds: seconds(&ours),
        original_seconds: seconds(&original),
        ours: medians(&ours),
        original: medians(&original),
        two_of_ours: two,
    };
    eprintln!(
        "  ours / original: time {:.2} (goal {:.2}), processor time {:.2}",
        compared.time(),
        compared.goal,
        compared.ours.cpu.total() / compared.original.cpu.total()
    );
    Ok(compared)
}

/// The number of workers with which the original is fastest, and the seconds with each.
fn best(ground: &mut Ground<'_>) -> Outcome<(u32, Vec<(u32, f64)>)> {
    let mut tried = Vec::new();
    for number in TRIED {
        tried.push((number, ground.run(Maker::Original, number, "")?.wall));
    }
    let best = tried.iter().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(TRIED[0], |(number, _)| *number);
    Ok((best, tried))
}
