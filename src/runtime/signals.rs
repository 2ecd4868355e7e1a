//! Signals that end a run: the first one means "finish or release the current work", the second one "stop now".

use std::future::pending;
use std::io;
use std::time::Duration;

use nix::sys::signal as signals;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

/// The urgency with which the run should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    None,
    Finish,
    Stop,
}

/// The request that a run should end. Cheap to clone; every clone gets the same signals.
///
/// Cancel safe: a dropped wait has consumed nothing, and a wait that begins after the signal returns at once.
#[derive(Debug, Clone)]
pub struct Interrupt {
    urgency: watch::Receiver<Urgency>,
}

/// SIGHUPs within this time count as one, since both a closing terminal and its shell send a SIGHUP.
const HANG_UP_WINDOW: Duration = Duration::from_secs(2);

impl Interrupt {
    /// Listens to SIGINT, SIGTERM and SIGHUP from now on: the first of them means "finish", the second "stop".
    /// Does not listen to SIGHUP where it was ignored before, so that `nohup` works.
    ///
    /// Must be called inside a tokio runtime. Fails if the handlers cannot be installed.
    pub(crate) fn listen() -> io::Result<Interrupt> {
        // This must be read before a handler is installed.
        let hang_up_counts = status().as_deref().and_then(ignores_hang_up) == Some(false);
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let mut hang_up = hang_up_counts.then(|| signal(SignalKind::hangup())).transpose()?;
        let (mut sender, interrupt) = Interrupt::manual();
        tokio::spawn(async move {
            let mut hung_up: Option<Instant> = None;
            loop {
                let heard = tokio::select! {
                    heard = int.recv() => heard,
                    heard = term.recv() => heard,
                    heard = next(&mut hang_up) => {
                        if hung_up.replace(Instant::now()).is_some_and(|before| before.elapsed() < HANG_UP_WINDOW) {
                            continue;
                        }
                        heard
                    }
                };
                if heard.is_none() {
                    break;
                }
                sender.signal();
                if *sender.sender.borrow() == Urgency::Finish {
                    tracing::warn!(
                        "told to end: finishing or releasing the work in hand; a second signal stops at once"
                    );
                } else {
                    tracing::warn!("told again: stopping now");
                }
            }
        });
        Ok(interrupt)
    }

    /// Creates an interrupt that a test or another part of the program signals, instead of the system.
    pub fn manual() -> (InterruptSender, Interrupt) {
        let (sender, urgency) = watch::channel(Urgency::None);
        (InterruptSender { sender }, Interrupt { urgency })
    }

    /// Returns whether the run should take no new work.
    pub(crate) fn is_finishing(&self) -> bool {
        *self.urgency.borrow() >= Urgency::Finish
    }

    /// Returns whether the run should stop at once.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.urgency.borrow() >= Urgency::Stop
    }

    /// Waits until the run should take no new work.
    pub(crate) async fn finish(&self) {
        self.reached(Urgency::Finish).await;
    }

    /// Waits until the run should stop at once.
    pub(crate) async fn stop(&self) {
        self.reached(Urgency::Stop).await;
    }

    async fn reached(&self, wanted: Urgency) {
        // The sender is dropped only with the runtime. After that no signal can come.
        if self.urgency.clone().wait_for(|urgency| *urgency >= wanted).await.is_err() {
            pending::<()>().await;
        }
    }
}

/// Returns the status of this process from `/proc`.
fn status() -> Option<String> {
    std::fs::read_to_string("/proc/self/status").ok()
}

/// Returns whether this process ignores SIGHUP according to its status, or `None` where the status does not say. Reading the handler
/// itself would need unsafe code.
fn ignores_hang_up(status: &str) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    Some(mask & (1 << (signals::Signal::SIGHUP as u64 - 1)) != 0)
}

async fn next(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => pending().await,
    }
}

/// The other end of [`Interrupt::manual`].
#[derive(Debug)]
pub struct InterruptSender {
    sender: watch::Sender<Urgency>,
}

impl InterruptSender {
    /// Sends one more signal.
    pub fn signal(&mut self) {
        self.sender.send_modify(|urgency| {
            *urgency = match *urgency {
                Urgency::None => Urgency::Finish,
                Urgency::Finish | Urgency::Stop => Urgency::Stop,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_sighup_is_found_in_the_status_of_the_process() {
        assert_eq!(ignores_hang_up("Name:\tx\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"), Some(false));
        assert_eq!(ignores_hang_up("SigIgn:\t0000000000001001\n"), Some(true));
        assert_eq!(ignores_hang_up("Name:\tx\n"), None);
        assert!(status().as_deref().and_then(ignores_hang_up).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_signal_lets_work_finish_and_the_second_stops_it() {
        let (mut sender, interrupt) = Interrupt::manual();
        assert!(!interrupt.is_finishing());
        sender.signal();
        interrupt.finish().await;
        assert!(interrupt.is_finishing() && !interrupt.is_stopping());
        assert!(tokio::time::timeout(Duration::from_secs(60), interrupt.stop()).await.is_err());
        sender.signal();
        interrupt.stop().await;
        assert!(interrupt.is_stopping());
        sender.signal();
        assert!(interrupt.is_stopping());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_signal_source_is_not_a_signal() {
        let (sender, interrupt) = Interrupt::manual();
        drop(sender);
        assert!(tokio::time::timeout(Duration::from_secs(60), interrupt.finish()).await.is_err());
    }
}
