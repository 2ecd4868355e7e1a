//! What a person told all workers of a task.

use serde::{Deserialize, Serialize};

/// What the workers of a task are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Work.
    #[default]
    Run,
    /// Finish what is in hand, begin nothing, and wait.
    Pause,
    /// Give up what is in hand, and wait.
    PauseNow,
    /// Give up what is in hand, and end. Nothing comes after it.
    Cancel,
}

impl Order {
    /// Whether work may be begun.
    pub fn lets_begin(self) -> bool {
        self == Self::Run
    }

    /// Whether what is in hand is given up.
    pub fn stops(self) -> bool {
        matches!(self, Self::PauseNow | Self::Cancel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_nobody_gave_orders_for_is_worked_on() {
        assert!(Order::default().lets_begin() && !Order::default().stops());
        assert_eq!(serde_json::to_string(&Order::PauseNow).unwrap(), r#""pause_now""#);
        assert!(!Order::Pause.lets_begin() && !Order::Pause.stops() && Order::Cancel.stops());
    }
}
