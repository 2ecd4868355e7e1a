//! The plots of a report, as SVG in its page. They show the contents of its tables, so nobody needs them to read the
//! report. The page defines the colours.

use maud::{Markup, html};

use super::super::moment::Moment;
use super::super::size;
use super::super::status::{PartitionStatus, duration};
use super::{ShardBulk, Side, Spent, Throughput};

/// The width of every plot, in its own units; the page scales them.
const WIDTH: f64 = 720.0;
/// The width of the words beside bars.
const LABEL_WIDTH: f64 = 170.0;
/// The height of a bar with its gap.
const ROW_HEIGHT: f64 = 20.0;
/// The highest number of bars in a plot.
const MAX_BARS: usize = 60;
/// The number of letters after which a name in a plot is cut; the table has the whole name.
const MAX_NAME_LETTERS: usize = 24;

fn svg(height: f64, label: &str, inner: Markup) -> Markup {
    html! {
        svg role="img" aria-label=(label) viewBox=(format!("0 0 {WIDTH} {height}")) { (inner) }
    }
}

fn shortened(name: &str) -> String {
    let mut short: String = name.chars().take(MAX_NAME_LETTERS).collect();
    if name.chars().nth(MAX_NAME_LETTERS).is_some() {
        short.push('…');
    }
    short
}

/// Plots bytes per second over the time of the copy.
pub(super) fn throughput(throughput: &Throughput) -> Markup {
    const HEIGHT: f64 = 180.0;
    const LEFT: f64 = 90.0;
    let rates: Vec<f64> = throughput.rates().collect();
    let highest = rates.iter().copied().fold(1.0, f64::max);
    let width = (WIDTH - LEFT) / rates.len() as f64;
    let seconds = (throughput.ended.0 - throughput.began.0).div_ceil(1000);
    svg(
        HEIGHT + 30.0,
        &format!("bytes copied in a second, over {}; at most {}/s", duration(seconds), size(highest as u64)),
        html! {
            @for part in [0.0, 0.5, 1.0] {
                @let y = 10.0 + (HEIGHT - 10.0) * (1.0 - part);
                line class="grid" x1=(LEFT) x2=(WIDTH) y1=(y) y2=(y) {}
                text x=(LEFT - 6.0) y=(y + 4.0) text-anchor="end" { (size((highest * part) as u64)) "/s" }
            }
            @for (index, rate) in rates.iter().enumerate() {
                @let height = (HEIGHT - 10.0) * rate / highest;
                rect class="a" x=(format!("{:.2}", LEFT + width * index as f64)) y=(format!("{:.2}", HEIGHT - height))
                    width=(format!("{:.2}", (width - 1.0).max(0.5))) height=(format!("{height:.2}")) {
                    title { (size(*rate as u64)) "/s from " (Moment(throughput.began.0 + throughput.stretch * index as u64)) }
                }
            }
            text x=(LEFT) y=(HEIGHT + 20.0) { (throughput.began) }
            text x=(WIDTH) y=(HEIGHT + 20.0) text-anchor="end" { (throughput.ended) }
        },
    )
}

/// Plots when partitions were copied and published. Shows the partitions that took longest.
pub(super) fn partitions(partitions: &[(&str, &PartitionStatus)]) -> Option<(Markup, usize)> {
    let mut timed: Vec<(&str, &PartitionStatus, u64, u64)> = partitions
        .iter()
        .filter_map(|(table, partition)| {
            let began = partition.began_at?.0;
            let ended = partition.published_at.or(partition.copied_at)?.0.max(began);
            Some((*table, *partition, began, ended))
        })
        .collect();
    let all = timed.len();
    timed.sort_by_key(|(.., began, ended)| std::cmp::Reverse(ended - began));
    timed.truncate(MAX_BARS);
    timed.sort_by_key(|(_, partition, began, _)| (*began, partition.name.clone()));
    let first = timed.iter().map(|(.., began, _)| *began).min()?;
    let last = timed.iter().map(|(.., ended)| *ended).max()?.max(first + 1);
    let x = |moment: u64| {
        LABEL_WIDTH + (WIDTH - LABEL_WIDTH) * (moment.clamp(first, last) - first) as f64 / (last - first) as f64
    };
    let height = ROW_HEIGHT * timed.len() as f64 + 24.0;
    let several = timed.iter().any(|(table, ..)| *table != timed[0].0);
    let label = |table: &str, name: &str| shortened(&if several { format!("{table} {name}") } else { name.to_owned() });
    let bars = html! {
        @for (index, (table, partition, began, ended)) in timed.iter().enumerate() {
            @let y = ROW_HEIGHT * index as f64;
            @let copied = partition.copied_at.map_or(*ended, |copied| copied.0).clamp(*began, *ended);
            text x=(LABEL_WIDTH - 6.0) y=(y + 14.0) text-anchor="end" { (label(table, &partition.name)) }
            rect class="a" x=(format!("{:.2}", x(*began))) y=(y + 3.0) height=(ROW_HEIGHT - 6.0)
                width=(format!("{:.2}", (x(copied) - x(*began)).max(0.5))) {
                title { (table) " " (partition.name) ": copied in " (seconds(copied - began)) }
            }
            rect class="b" x=(format!("{:.2}", x(copied))) y=(y + 3.0) height=(ROW_HEIGHT - 6.0)
                width=(format!("{:.2}", (x(*ended) - x(copied)).max(0.5))) {
                title { (table) " " (partition.name) ": published " (seconds(ended - copied)) " later" }
            }
        }
        text x=(LABEL_WIDTH) y=(height - 6.0) { (Moment(first)) }
        text x=(WIDTH) y=(height - 6.0) text-anchor="end" { (Moment(last)) }
    };
    Some((svg(height, "when each partition was copied and published", bars), all - timed.len()))
}

/// Returns milliseconds in a readable unit.
pub(super) fn seconds(millis: u64) -> String {
    if millis < 120_000 { format!("{:.1} s", millis as f64 / 1000.0) } else { duration(millis / 1000) }
}

/// Plots the shares of the time as one bar.
pub(super) fn spent(times: &Spent) -> Markup {
    let mut x = 0.0;
    let parts = times.named().map(|(what, millis)| {
        let (from, width) = (x, WIDTH * millis as f64 / times.total().max(1) as f64);
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

/// The colours of the shares, in the order of [`Spent::named`].
pub(super) const CLASSES: [&str; 4] = ["a", "c", "b", "d"];

/// Plots the bytes of each shard of one table job: the source's shards above the target's.
pub(super) fn shards(shards: &[&ShardBulk]) -> Markup {
    let shown = &shards[..shards.len().min(MAX_BARS)];
    let highest = shown.iter().map(|shard| shard.bytes).max().unwrap_or(0).max(1);
    let max_width = WIDTH - LABEL_WIDTH - 90.0;
    svg(
        ROW_HEIGHT * shown.len() as f64,
        "uncompressed bytes of each shard",
        html! {
            @for (index, shard) in shown.iter().enumerate() {
                @let y = ROW_HEIGHT * index as f64;
                @let (side, class) = match shard.side { Side::Source => ("source shard", "a"), Side::Target => ("target shard", "b") };
                @let width = max_width * shard.bytes as f64 / highest as f64;
                text x=(LABEL_WIDTH - 6.0) y=(y + 14.0) text-anchor="end" { (side) " " (shard.shard) }
                rect class=(class) x=(LABEL_WIDTH) y=(y + 3.0) width=(format!("{:.2}", width.max(0.5))) height=(ROW_HEIGHT - 6.0) {}
                text x=(format!("{:.2}", LABEL_WIDTH + width + 6.0)) y=(y + 14.0) { (size(shard.bytes)) }
            }
        },
    )
}
