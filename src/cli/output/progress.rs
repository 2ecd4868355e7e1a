//! How far a run is, while it runs: bars on a terminal, else a line now and then. What cannot be seen is not shown, and nothing
//! waits for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::model::one_line;
use crate::protocol::PieceRef;
use crate::report::progress::{line, share};
use crate::report::status::{Speedometer, Status};
use crate::worker::view::{InHand, View, Watcher};

use super::super::process::systemd;
use super::terminal::Terminal;

/// The servers are asked so often how many rows have moved, while there are bars.
const PIECES: Duration = Duration::from_secs(1);
/// The records are read so often, while there are bars.
const WHOLE: Duration = Duration::from_secs(3);
/// A look at the records is followed by so many times the time that it took: a large task is looked at less often.
const LOOKS: u32 = 20;
/// So many bars at most, besides that of the whole task.
const MOST_BARS: usize = 10;
const PIECE_BAR: &str = "[{bar:24}] {percent:>3} % of {human_len} rows  {wide_msg}";
const WHOLE_BAR: &str = "[{bar:24}] {wide_msg}";
/// The whole task is a bar of so many steps.
const STEPS: u64 = 1000;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A bar for each piece, and one for the whole task. In the log there is a line for debugging now and then.
    Bars,
    /// A line of the log now and then, when something has changed.
    Lines,
    /// Not at all.
    None,
}

/// Shows progress until it is dropped.
pub(crate) struct Shows {
    task: JoinHandle<()>,
    bars: Option<MultiProgress>,
}

impl Drop for Shows {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bars) = &self.bars {
            // Where a terminal has gone there is nothing to clear.
            let _ = bars.clear();
        }
    }
}

/// Begins to show what `view` shows. `path` is where the task is recorded. To be called in a runtime.
pub(crate) fn begin(
    progress: Progress,
    every: Duration,
    view: &View,
    path: &str,
    terminal: &Terminal,
) -> Option<Shows> {
    let teller = Teller { watcher: view.watcher(), path: path.to_owned(), speed: Speedometer::default() };
    match progress {
        Progress::None => None,
        Progress::Lines => Some(Shows { task: tokio::spawn(teller.tell_lines(every)), bars: None }),
        Progress::Bars => {
            let bars = terminal.bars().clone();
            let runner = view.watcher();
            let (all, shown) = (bars.clone(), bars.clone());
            let task = tokio::spawn(async move {
                let whole = Whole::new(&all);
                tokio::join!(draw_pieces(runner, all), teller.draw_whole(whole, every));
            });
            Some(Shows { task, bars: Some(shown) })
        }
    }
}

/// Who looks at the whole task.
struct Teller {
    watcher: Watcher,
    path: String,
    speed: Speedometer,
}

impl Teller {
    /// How the task stands.
    async fn look(&mut self) -> Option<Status> {
        let overview = self.watcher.look().await?;
        let mut status = Status::of(&overview, &self.path);
        self.speed.note(&mut status, Instant::now());
        Some(status)
    }

    async fn tell_lines(mut self, every: Duration) {
        let mut told = None;
        loop {
            self.watcher.at_work().await;
            let took = Instant::now();
            if let Some(status) = self.look().await
                && told.as_ref().is_none_or(|told| *told != what_counts(&status))
            {
                // What is not begun when the worker comes is no progress.
                if told.is_some() || status.total.bytes_copied > 0 {
                    let line = line(&status);
                    systemd::stands(&line);
                    tracing::info!(task = status.task, "{line}");
                }
                told = Some(what_counts(&status));
            }
            sleep(every.max(took.elapsed() * LOOKS)).await;
        }
    }

    async fn draw_whole(mut self, whole: Whole, every: Duration) {
        let mut told: Option<(Instant, _)> = None;
        loop {
            self.watcher.at_work().await;
            let took = Instant::now();
            if let Some(status) = self.look().await {
                whole.draw(&status);
                let now = what_counts(&status);
                if told.as_ref().is_none_or(|(at, before)| at.elapsed() >= every && *before != now) {
                    tracing::debug!(task = status.task, "{}", line(&status));
                    told = Some((Instant::now(), now));
                }
            }
            sleep(WHOLE.max(took.elapsed() * LOOKS)).await;
        }
    }
}

/// What makes a line worth telling.
fn what_counts(status: &Status) -> (u64, BTreeMap<crate::report::status::PartitionState, usize>, usize) {
    (status.total.bytes_copied, status.total.partitions.clone(), status.workers.len())
}

/// The bar of the whole task.
struct Whole(ProgressBar);

impl Whole {
    fn new(bars: &MultiProgress) -> Self {
        Self(bars.add(ProgressBar::new(STEPS).with_style(style(WHOLE_BAR))))
    }

    fn draw(&self, status: &Status) {
        self.0.set_position((share(&status.total) * STEPS as f64) as u64);
        self.0.set_message(line(status));
    }
}

/// A bar for each piece that this worker has in hand, as long as it has it.
async fn draw_pieces(mut watcher: Watcher, all: MultiProgress) {
    let mut bars: BTreeMap<(PieceRef, u32), ProgressBar> = BTreeMap::new();
    loop {
        watcher.at_work().await;
        let in_hand = watcher.in_hand().await;
        bars.retain(|key, bar| {
            let stays = in_hand.iter().any(|held| key_of(held) == *key);
            if !stays {
                bar.finish_and_clear();
                all.remove(bar);
            }
            stays
        });
        for held in &in_hand {
            if !bars.contains_key(&key_of(held)) && bars.len() >= MOST_BARS {
                continue;
            }
            let bar = bars.entry(key_of(held)).or_insert_with(|| {
                let style = style(PIECE_BAR);
                // The whole task stays at the bottom.
                let bar = all.insert(0, ProgressBar::new(held.rows).with_style(style));
                bar.with_message(title(&held.name, held.attempt))
            });
            // What is moved by several statements, one after the other, is counted from the beginning by each.
            bar.set_position(held.so_far.max(bar.position()));
        }
        sleep(PIECES).await;
    }
}

fn key_of(held: &InHand) -> (PieceRef, u32) {
    (held.piece, held.attempt)
}

/// Names come from servers; a terminal is not to obey them.
fn title(name: &str, attempt: u32) -> String {
    let name = one_line(name);
    if attempt > 1 { format!("{name}, attempt {attempt}") } else { name.into_owned() }
}

/// A template that is wrong gives a bar without words; a test sees to it that none is.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_templates() {
        for template in [PIECE_BAR, WHOLE_BAR] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn a_name_is_one_line() {
        assert_eq!(title("hits piece 3 (a\nb\x1b[2J)", 1), "hits piece 3 (a\\nb\\u{1b}[2J)");
        assert_eq!(title("hits", 2), "hits, attempt 2");
    }
}
