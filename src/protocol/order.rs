//! The command that a user gave to all workers of a task.

use serde::{Deserialize, Serialize};

/// The command for the workers of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Work.
    #[default]
    Run,
    /// Finish the current jobs, start nothing, and wait.
    Pause,
    /// Abandon the current jobs and wait.
    PauseNow,
    /// Abandon the current jobs and end. No other command can follow.
    Cancel,
}

impl Order {
    /// Returns whether workers may start jobs.
    pub(crate) fn lets_begin(self) -> bool {
        self == Self::Run
    }

    /// Returns whether workers abandon their current jobs.
    pub(crate) fn stops(self) -> bool {
        matches!(self, Self::PauseNow | Self::Cancel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_without_an_order_is_worked_on() {
        assert!(Order::default().lets_begin() && !Order::default().stops());
        assert_eq!(serde_json::to_string(&Order::PauseNow).unwrap(), r#""pause_now""#);
        assert!(!Order::Pause.lets_begin() && !Order::Pause.stops() && Order::Cancel.stops());
    }
}
