//! What happens to workers and servers.

use std::thread;
use std::time::Duration;

use lab::{Lab, LabError};
use nix::sys::signal::Signal;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::processes::Process;

/// How long something is frozen or away, in seconds. A session of ZooKeeper ends after ten.
const AWAY: std::ops::Range<u64> = 1..16;

/// Lets one thing happen, and says what.
pub fn happen(lab: &Lab, workers: &mut Vec<Process>, random: &mut StdRng) -> Result<String, LabError> {
    let away = Duration::from_secs(random.random_range(AWAY));
    let at = random.random_range(0..lab.servers().len());
    let server = lab.clickhouse(at);
    Ok(match random.random_range(0..8) {
        0 | 1 if workers.len() > 1 => {
            // Dropping it kills it.
            drop(workers.swap_remove(random.random_range(0..workers.len())));
            "a worker is killed".into()
        }
        2 if !workers.is_empty() => {
            let worker = &workers[random.random_range(0..workers.len())];
            worker.signal(Signal::SIGSTOP);
            thread::sleep(away);
            worker.signal(Signal::SIGCONT);
            format!("a worker is frozen for {away:?}")
        }
        3 => {
            server.kill_9()?;
            thread::sleep(away);
            server.start()?;
            format!("server {at} is killed and away for {away:?}")
        }
        4 => {
            server.freeze()?;
            thread::sleep(away);
            server.thaw()?;
            format!("server {at} is frozen for {away:?}")
        }
        5 => {
            server.stop()?;
            server.start()?;
            format!("server {at} is restarted")
        }
        6 => {
            lab.zookeeper().kill_9()?;
            thread::sleep(away);
            lab.zookeeper().start()?;
            format!("ZooKeeper is killed and away for {away:?}")
        }
        _ => {
            lab.zookeeper().freeze()?;
            thread::sleep(away);
            lab.zookeeper().thaw()?;
            format!("ZooKeeper is frozen for {away:?}")
        }
    })
}
