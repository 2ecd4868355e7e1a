//! Shows the progress of a run: bars on a terminal, else log lines at intervals. Output that fails is dropped, and the
//! run never waits for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::super::process::systemd;
use super::terminal::Terminal;
use crate::model::{AttemptNo, one_line};
use crate::protocol::PieceRef;
use crate::report::progress::{line, share};
use crate::report::status::{Speedometer, Status};
use crate::worker::view::{RunningPiece, View, Watcher};

/// The interval at which servers are asked for moved rows, for the bars of pieces.
const PIECES_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which the records are read, for the bar of the whole task.
const TASK_INTERVAL: Duration = Duration::from_secs(3);
/// The pause after reading the records, as a multiple of the time that reading took: a large task is read less often.
const PAUSE_FACTOR: u32 = 20;
/// The highest number of bars of pieces.
const MAX_PIECE_BARS: usize = 10;
const PIECE_BAR: &str = "[{bar:24}] {percent:>3} % of {human_len} rows  {wide_msg}";
const TASK_BAR: &str = "[{bar:24}] {wide_msg}";
/// The number of steps of the bar of the whole task.
const TASK_BAR_STEPS: u64 = 1000;

/// The form of progress output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A bar for each piece, and one for the whole task. The log has a debug line at intervals.
    Bars,
    /// A log line at intervals, if something has changed.
    Lines,
    /// No output.
    None,
}

/// The progress display. It ends when it is dropped.
pub(crate) struct ProgressDisplay {
    task: JoinHandle<()>,
    bars: Option<MultiProgress>,
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bars) = &self.bars {
            // A terminal that has gone needs no clearing.
            let _ = bars.clear();
        }
    }
}

/// Begins to show the progress of `view`. `path` is the path of the task. Call it in a runtime.
pub(crate) fn begin(
    progress: Progress,
    every: Duration,
    view: &View,
    path: &str,
    terminal: &Terminal,
) -> Option<ProgressDisplay> {
    let task_progress = TaskProgress { watcher: view.watcher(), path: path.to_owned(), speed: Speedometer::default() };
    match progress {
        Progress::None => None,
        Progress::Lines => Some(ProgressDisplay { task: tokio::spawn(task_progress.log_lines(every)), bars: None }),
        Progress::Bars => {
            let bars = terminal.bars().clone();
            let watcher = view.watcher();
            let (all, shown) = (bars.clone(), bars.clone());
            let task = tokio::spawn(async move {
                let task_bar = TaskBar::new(&all);
                tokio::join!(draw_pieces(watcher, all), task_progress.draw_task(task_bar, every));
            });
            Some(ProgressDisplay { task, bars: Some(shown) })
        }
    }
}

/// Reads the state of the whole task for bars and lines.
struct TaskProgress {
    watcher: Watcher,
    path: String,
    speed: Speedometer,
}

impl TaskProgress {
    /// Reads the state of the task.
    async fn look(&mut self) -> Option<Status> {
        let overview = self.watcher.read().await?;
        let mut status = Status::of(&overview, &self.path);
        self.speed.note(&mut status, Instant::now());
        Some(status)
    }

    async fn log_lines(mut self, every: Duration) {
        let mut last_values = None;
        loop {
            self.watcher.at_work().await;
            let started = Instant::now();
            if let Some(status) = self.look().await
                && last_values.as_ref().is_none_or(|last_values| *last_values != progress_values(&status))
            {
                // A worker that starts on a task without copied bytes logs no line.
                if last_values.is_some() || status.total.bytes_copied > 0 {
                    let line = line(&status);
                    systemd::report_progress(&line);
                    tracing::info!(task = status.task, "{line}");
                }
                last_values = Some(progress_values(&status));
            }
            sleep(every.max(started.elapsed() * PAUSE_FACTOR)).await;
        }
    }

    async fn draw_task(mut self, task_bar: TaskBar, every: Duration) {
        let mut last_values: Option<(Instant, _)> = None;
        loop {
            self.watcher.at_work().await;
            let started = Instant::now();
            if let Some(status) = self.look().await {
                task_bar.draw(&status);
                let now = progress_values(&status);
                if last_values.as_ref().is_none_or(|(at, before)| at.elapsed() >= every && *before != now) {
                    tracing::debug!(task = status.task, "{}", line(&status));
                    last_values = Some((Instant::now(), now));
                }
            }
            sleep(TASK_INTERVAL.max(started.elapsed() * PAUSE_FACTOR)).await;
        }
    }
}

/// Returns the values whose change makes a line worth logging.
fn progress_values(status: &Status) -> (u64, BTreeMap<crate::report::status::PartitionState, usize>, usize) {
    (status.total.bytes_copied, status.total.partitions.clone(), status.workers.len())
}

/// The bar of the whole task.
struct TaskBar(ProgressBar);

impl TaskBar {
    fn new(bars: &MultiProgress) -> Self {
        Self(bars.add(ProgressBar::new(TASK_BAR_STEPS).with_style(style(TASK_BAR))))
    }

    fn draw(&self, status: &Status) {
        self.0.set_position((share(&status.total) * TASK_BAR_STEPS as f64) as u64);
        self.0.set_message(line(status));
    }
}

/// Draws a bar for each piece that this worker copies now.
async fn draw_pieces(mut watcher: Watcher, all: MultiProgress) {
    let mut bars: BTreeMap<(PieceRef, AttemptNo), ProgressBar> = BTreeMap::new();
    loop {
        watcher.at_work().await;
        let running_pieces = watcher.running_pieces().await;
        bars.retain(|key, bar| {
            let stays = running_pieces.iter().any(|held| key_of(held) == *key);
            if !stays {
                bar.finish_and_clear();
                all.remove(bar);
            }
            stays
        });
        for held in &running_pieces {
            if !bars.contains_key(&key_of(held)) && bars.len() >= MAX_PIECE_BARS {
                continue;
            }
            let bar = bars.entry(key_of(held)).or_insert_with(|| {
                let style = style(PIECE_BAR);
                // The bar of the whole task stays at the bottom.
                let bar = all.insert(0, ProgressBar::new(held.rows).with_style(style));
                bar.with_message(title(&held.name, held.attempt))
            });
            // A piece may be moved by several statements, one after the other, and each counts from 0. The bar does not
            // go back.
            bar.set_position(held.so_far.max(bar.position()));
        }
        sleep(PIECES_INTERVAL).await;
    }
}

fn key_of(held: &RunningPiece) -> (PieceRef, AttemptNo) {
    (held.piece, held.attempt)
}

/// Returns the title of a bar. Names come from servers, so control characters are escaped.
fn title(name: &str, attempt: AttemptNo) -> String {
    let name = one_line(name);
    if attempt > AttemptNo(1) { format!("{name}, attempt {attempt}") } else { name.into_owned() }
}

/// Returns the style. A wrong template gives a bar without text; a test checks all templates.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_of_the_progress_bars_are_valid() {
        for template in [PIECE_BAR, TASK_BAR] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn the_title_of_a_progress_bar_is_one_line() {
        assert_eq!(title("hits piece 3 (a\nb\x1b[2J)", AttemptNo(1)), "hits piece 3 (a\\nb\\u{1b}[2J)");
        assert_eq!(title("hits", AttemptNo(2)), "hits, attempt 2");
    }
}
