//! What systemd is told, where it started this process by a unit with `Type=notify`; elsewhere nothing happens. It is told for its
//! status line only: a word that is lost changes nothing.

use sd_notify::NotifyState;

/// Work has begun: `systemctl start` returns.
pub(crate) fn works() {
    tell(&[NotifyState::Ready, NotifyState::Status("at work")]);
}

/// How far it is, for `systemctl status`.
pub(crate) fn stands(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// The work is over; what is left are reports and hooks.
pub(crate) fn ends() {
    tell(&[NotifyState::Stopping, NotifyState::Status("writing reports and running hooks")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd cannot be told: {error}");
    }
}
