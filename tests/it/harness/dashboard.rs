//! The verb `dashboard` as a process.

use serde_json::Value;

use super::{Launch, Scene, Task, Worker, ask};

/// The token in the variable `DASHBOARD_TOKEN`.
pub const TOKEN: &str = "correct-horse-battery-staple";

/// A running dashboard and its address, `host:port`.
pub struct Dashboard {
    pub process: Worker,
    pub address: String,
}

impl Dashboard {
    pub fn start(scene: &Scene, task: &Task, arguments: &[&str]) -> Dashboard {
        Self::from_launch(scene.launch(task).verb("dashboard").env("DASHBOARD_TOKEN", TOKEN).args(arguments))
    }

    /// Starts the dashboard with this command line.
    pub fn from_launch(launch: Launch<'_>) -> Dashboard {
        let process = launch.without_task_file().start();
        let address = process.prints("The dashboard is at http://");
        Dashboard { process, address: address.trim_end_matches('/').to_owned() }
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = ask(&self.address, path, &[], None);
        assert_eq!(answer.code, 200, "{path}: {}", answer.body);
        answer.json()
    }
}
