//! The results as a picture: for each case the time and the processor time of ours, in percent of the original's.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Outcome;
use crate::results::{Compared, Results};
use crate::usage::Usage;

const WIDTH: u32 = 900;
/// Pixels of the head, of a case, of one bar of it.
const HEAD: i32 = 66;
const CASE: i32 = 108;
const BAR: i32 = 16;
/// Where the bars begin, and how long the longest is.
const LEFT: i32 = 80;
const LONGEST: f64 = 680.0;

/// Source, target, workers, ZooKeeper, as in the table.
const ROLES: [(&str, RGBColor); 4] = [
    ("source's servers", RGBColor(69, 117, 180)),
    ("target's servers", RGBColor(145, 191, 219)),
    ("workers", RGBColor(215, 48, 39)),
    ("ZooKeeper", RGBColor(120, 120, 120)),
];
const TIME: RGBColor = RGBColor(60, 60, 60);

/// Draws it into a file.
pub fn draw(results: &Results, path: &Path) -> Outcome<()> {
    if results.cases.is_empty() {
        return Ok(());
    }
    let height = HEAD + CASE * i32::try_from(results.cases.len())?;
    let area = SVGBackend::new(path, (WIDTH, u32::try_from(height)?)).into_drawing_area();
    let drawn = fill(&area, results);
    drawn.and_then(|()| area.present()).map_err(|e| format!("draw {}: {e}", path.display()))?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>>;

fn fill(area: &Area<'_>, results: &Results) -> Drawn {
    area.fill(&WHITE)?;
    text(
        area,
        "Ours in percent of the original copier: time, and processor time by who used it (green: the goal)",
        (10, 20),
        20,
    )?;
    let mut x = LEFT;
    for (name, colour) in [("time", TIME)].into_iter().chain(ROLES) {
        bar(area, x, 38, 12, colour)?;
        text(area, name, (x + 18, 45), 16)?;
        x += 160;
    }
    let longest = results.cases.iter().flat_map(|case| [1.0, wall(case, &case.ours), cpu(case, &case.ours)]);
    let longest = longest.fold(1.0, f64::max);
    let pixels = |share: f64| (share / longest * LONGEST).round() as i32;
    for (number, case) in (0..).zip(&results.cases) {
        draw_case(area, case, HEAD + CASE * number, &pixels)?;
    }
    Ok(())
}

/// As a part of the original's.
fn wall(case: &Compared, usage: &Usage) -> f64 {
    usage.wall / case.original.wall
}

fn cpu(case: &Compared, usage: &Usage) -> f64 {
    usage.cpu.total() / case.original.cpu.total()
}

fn draw_case(area: &Area<'_>, case: &Compared, top: i32, pixels: &impl Fn(f64) -> i32) -> Drawn {
    text(area, &format!("{}: {}", case.case, case.title), (10, top + 6), 16)?;
    let top = top + 20;
    for (name, usage, top) in [("original", &case.original, top), ("ours", &case.ours, top + 2 * BAR + 6)] {
        text(area, name, (10, top + BAR), 16)?;
        let length = bar(area, LEFT, top, pixels(wall(case, usage)), TIME)?;
        text(area, &format!("{:.0} %", wall(case, usage) * 100.0), (length + 6, top + BAR / 2), 15)?;
        let mut x = LEFT;
        for (part, (_, colour)) in usage.cpu.parts().into_iter().zip(ROLES) {
            x = bar(area, x, top + BAR, pixels(part / case.original.cpu.total()), colour)?;
        }
        text(area, &format!("{:.0} %", cpu(case, usage) * 100.0), (x + 6, top + BAR + BAR / 2), 15)?;
    }
    // How far ours is to come.
    let x = LEFT + pixels(case.goal);
    let (from, to) = (top + 2 * BAR + 3, top + 3 * BAR + 9);
    area.draw(&PathElement::new(vec![(x, from), (x, to)], RGBColor(0, 140, 0).stroke_width(2)))
}

/// Draws a bar; where it ends.
fn bar(
    area: &Area<'_>,
    x: i32,
    top: i32,
    length: i32,
    colour: RGBColor,
) -> Result<i32, DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>> {
    area.draw(&Rectangle::new([(x, top), (x + length, top + BAR - 3)], colour.filled()))?;
    Ok(x + length)
}

/// `at` is the middle of the text's left side.
fn text(area: &Area<'_>, words: &str, at: (i32, i32), size: i32) -> Drawn {
    let style = ("sans-serif", size).into_font().into_text_style(area).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw_text(words, &style, at)
}
