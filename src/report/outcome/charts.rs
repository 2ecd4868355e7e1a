//! Plots of a report, as SVG inside of its page. They show what its tables say, so that none is needed to read it; colours are
//! the page's.

use maud::{Markup, html};

use super::super::moment::Moment;
use super::super::size;
use super::super::status::{PartitionStatus, duration};
use super::{ShardBulk, Side, Spent, Throughput};

/// Width of every plot, in its own units; the page scales them.
const WIDTH: f64 = 720.0;
/// What words beside bars need.
const WORDS: f64 = 170.0;
/// The height of a bar with its gap.
const ROW: f64 = 20.0;
/// So many bars have a plot at the most.
const MOST_BARS: usize = 60;
/// A name in a plot is cut after so many letters; the table has it whole.
const LONGEST: usize = 24;

fn svg(height: f64, label: &str, inner: Markup) -> Markup {
    html! {
        svg role="img" aria-label=(label) viewBox=(format!("0 0 {WIDTH} {height}")) { (inner) }
    }
}

fn shortened(name: &str) -> String {
    let mut short: String = name.chars().take(LONGEST).collect();
    if name.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

/// Bytes a second, over the time of the copy.
pub(super) fn throughput(of: &Throughput) -> Markup {
    const HEIGHT: f64 = 180.0;
    const LEFT: f64 = 90.0;
    let rates: Vec<f64> = of.rates().collect();
    let most = rates.iter().copied().fold(1.0, f64::max);
    let width = (WIDTH - LEFT) / rates.len() as f64;
    let seconds = (of.ended.0 - of.began.0).div_ceil(1000);
    svg(
        HEIGHT + 30.0,
        &format!("bytes copied in a second, over {}; at most {}/s", duration(seconds), size(most as u64)),
        html! {
            @for part in [0.0, 0.5, 1.0] {
                @let y = 10.0 + (HEIGHT - 10.0) * (1.0 - part);
                line class="grid" x1=(LEFT) x2=(WIDTH) y1=(y) y2=(y) {}
                text x=(LEFT - 6.0) y=(y + 4.0) text-anchor="end" { (size((most * part) as u64)) "/s" }
            }
            @for (at, rate) in rates.iter().enumerate() {
                @let height = (HEIGHT - 10.0) * rate / most;
                rect class="a" x=(format!("{:.2}", LEFT + width * at as f64)) y=(format!("{:.2}", HEIGHT - height))
                    width=(format!("{:.2}", (width - 1.0).max(0.5))) height=(format!("{height:.2}")) {
                    title { (size(*rate as u64)) "/s from " (Moment(of.began.0 + of.stretch * at as u64)) }
                }
            }
            text x=(LEFT) y=(HEIGHT + 20.0) { (of.began) }
            text x=(WIDTH) y=(HEIGHT + 20.0) text-anchor="end" { (of.ended) }
        },
    )
}

/// When partitions were copied and published, those that took longest.
pub(super) fn partitions(partitions: &[(&str, &PartitionStatus)]) -> Option<(Markup, usize)> {
    let mut timed: Vec<(&str, &PartitionStatus, u64, u64)> = partitions
        .iter()
        .filter_map(|(table, of)| {
            let began = of.began_at?.0;
            let ended = of.published_at.or(of.copied_at)?.0.max(began);
            Some((*table, *of, began, ended))
        })
        .collect();
    let all = timed.len();
    timed.sort_by_key(|(.., began, ended)| std::cmp::Reverse(ended - began));
    timed.truncate(MOST_BARS);
    timed.sort_by_key(|(_, of, began, _)| (*began, of.name.clone()));
    let first = timed.iter().map(|(.., began, _)| *began).min()?;
    let last = timed.iter().map(|(.., ended)| *ended).max()?.max(first + 1);
    let x = |moment: u64| WORDS + (WIDTH - WORDS) * (moment.clamp(first, last) - first) as f64 / (last - first) as f64;
    let height = ROW * timed.len() as f64 + 24.0;
    let several = timed.iter().any(|(table, ..)| *table != timed[0].0);
    let label = |table: &str, name: &str| shortened(&if several { format!("{table} {name}") } else { name.to_owned() });
    let bars = html! {
        @for (at, (table, of, began, ended)) in timed.iter().enumerate() {
            @let y = ROW * at as f64;
            @let copied = of.copied_at.map_or(*ended, |copied| copied.0).clamp(*began, *ended);
            text x=(WORDS - 6.0) y=(y + 14.0) text-anchor="end" { (label(table, &of.name)) }
            rect class="a" x=(format!("{:.2}", x(*began))) y=(y + 3.0) height=(ROW - 6.0)
                width=(format!("{:.2}", (x(copied) - x(*began)).max(0.5))) {
                title { (table) " " (of.name) ": copied in " (seconds(copied - began)) }
            }
            rect class="b" x=(format!("{:.2}", x(copied))) y=(y + 3.0) height=(ROW - 6.0)
                width=(format!("{:.2}", (x(*ended) - x(copied)).max(0.5))) {
                title { (table) " " (of.name) ": published " (seconds(ended - copied)) " later" }
            }
        }
        text x=(WORDS) y=(height - 6.0) { (Moment(first)) }
        text x=(WIDTH) y=(height - 6.0) text-anchor="end" { (Moment(last)) }
    };
    Some((svg(height, "when each partition was copied and published", bars), all - timed.len()))
}

/// Milliseconds as a person reads them.
pub(super) fn seconds(millis: u64) -> String {
    if millis < 120_000 { format!("{:.1} s", millis as f64 / 1000.0) } else { duration(millis / 1000) }
}

/// One bar of shares.
pub(super) fn spent(of: &Spent) -> Markup {
    let mut x = 0.0;
    let parts = of.named().map(|(what, millis)| {
        let (from, width) = (x, WIDTH * millis as f64 / of.total().max(1) as f64);
        x += width;
        (what, millis, from, width)
    });
    svg(
        30.0,
        "shares of the time",
        html! {
            @for ((what, millis, from, width), class) in parts.iter().zip(CLASSES) {
                rect class=(class) x=(format!("{from:.2}")) y="3" width=(format!("{width:.2}")) height="24" {
                    title { (what) ": " (seconds(*millis)) }
                }
            }
        },
    )
}

/// The colours of shares, in the order of [`Spent::named`].
pub(super) const CLASSES: [&str; 4] = ["a", "c", "b", "d"];

/// Bytes of each shard of one table job, the source's above the target's.
pub(super) fn shards(shards: &[&ShardBulk]) -> Markup {
    let shown = &shards[..shards.len().min(MOST_BARS)];
    let most = shown.iter().map(|shard| shard.bytes).max().unwrap_or(0).max(1);
    let room = WIDTH - WORDS - 90.0;
    svg(
        ROW * shown.len() as f64,
        "uncompressed bytes of each shard",
        html! {
            @for (at, shard) in shown.iter().enumerate() {
                @let y = ROW * at as f64;
                @let (side, class) = match shard.side { Side::Source => ("source shard", "a"), Side::Target => ("target shard", "b") };
                @let width = room * shard.bytes as f64 / most as f64;
                text x=(WORDS - 6.0) y=(y + 14.0) text-anchor="end" { (side) " " (shard.shard) }
                rect class=(class) x=(WORDS) y=(y + 3.0) width=(format!("{:.2}", width.max(0.5))) height=(ROW - 6.0) {}
                text x=(format!("{:.2}", WORDS + width + 6.0)) y=(y + 14.0) { (size(shard.bytes)) }
            }
        },
    )
}
