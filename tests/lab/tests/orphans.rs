//! No server outlives the process that started it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Up {
    process: Child,
    folder: PathBuf,
    pids: Vec<String>,
}

/// Runs `lab up 18.16 25.8` and reads what it says.
fn up() -> Up {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(["up", "18.16", "25.8"]).stdin(Stdio::piped()).stdout(Stdio::piped()).env_remove("LAB_KEEP");
    let mut process = command.spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    let lines: Vec<String> = lines.take_while(|line| line != "ready").collect();
    let folder = lines[0].strip_prefix("folder ").unwrap().into();
    let pids: Vec<String> = lines[1..].iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(pids.len(), 3, "{lines:?}");
    Up { process, folder, pids }
}

fn exists(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

/// Supervisors have no event that a stranger could wait for: looks again and again.
fn assert_gone(up: &Up) {
    let patience = Instant::now() + Duration::from_secs(20);
    while up.pids.iter().any(|pid| exists(pid)) || up.folder.exists() {
        assert!(Instant::now() < patience, "left behind: {:?} or {}", up.pids, up.folder.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_killed_laboratory_leaves_no_server_and_no_file() {
    let mut up = up();
    assert!(up.pids.iter().all(|pid| exists(pid)));
    assert!(up.folder.exists());
    up.process.kill().unwrap(); // SIGKILL
    up.process.wait().unwrap();
    assert_gone(&up);
}

#[test]
fn a_laboratory_stops_its_servers_when_its_input_ends() {
    let mut up = up();
    drop(up.process.stdin.take());
    assert!(up.process.wait().unwrap().success());
    assert!(up.pids.iter().all(|pid| !exists(pid)) && !up.folder.exists());
}

#[test]
fn a_frozen_server_ends_when_its_laboratory_is_killed() {
    let mut up = up();
    for pid in &up.pids {
        assert!(Command::new("kill").args(["-STOP", pid]).status().unwrap().success());
    }
    up.process.kill().unwrap();
    up.process.wait().unwrap();
    assert_gone(&up);
}
