//! Notifies systemd, if it started this process by a unit with `Type=notify`. Elsewhere nothing happens. A lost
//! notification changes only the status line.

use sd_notify::NotifyState;

/// Reports that work has begun: `systemctl start` returns.
pub(crate) fn report_ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("at work")]);
}

/// Reports the progress, for `systemctl status`.
pub(crate) fn report_progress(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// Reports that the work is over; reports and hooks follow.
pub(crate) fn report_stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("writing reports and running hooks")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd cannot be told: {error}");
    }
}
