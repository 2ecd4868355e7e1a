//! The program, started and looked at.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::figures::Sample;

/// Where the program runs, and with which files.
pub struct Program {
    pub binary: PathBuf,
    pub dir: PathBuf,
    /// `25.8`
    pub release: &'static str,
    /// All processes that were started, for who samples them.
    pub running: Arc<Mutex<Vec<(String, u32, bool)>>>,
}

/// A process of the program. It is killed when it is dropped.
pub struct Process {
    child: Child,
    said: PathBuf,
    running: Arc<Mutex<Vec<(String, u32, bool)>>>,
}

impl Program {
    /// Starts a verb. What it says goes to a file that `name` gives its name to.
    pub fn start(&self, name: &str, is_judged: bool, arguments: &[&str]) -> Process {
        let said = self.dir.join(format!("{}.txt", name.replace(' ', "-")));
        let mut command = Command::new(&self.binary);
        command.args(arguments).args(["--config", "keeper.xml"]).current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(File::create(said.with_extension("out")).unwrap());
        let child = command.stderr(File::create(&said).unwrap()).spawn().unwrap();
        // Of short-lived ones the kind counts.
        let kind = if is_judged { name } else { arguments[0] };
        self.running.lock().unwrap().push((format!("{} {kind}", self.release), child.id(), is_judged));
        Process { child, said, running: self.running.clone() }
    }

    /// Looks at all processes that run.
    pub fn sample(&self, recorder: &Sender<Sample>) {
        let running = self.running.lock().unwrap().clone();
        let samples = running.iter().filter_map(|(process, pid, is_judged)| Sample::take(process, *pid, *is_judged));
        samples.for_each(|sample| recorder.send(sample).unwrap());
    }

    /// Asks the dashboard for its page and its metrics, as a browser and Prometheus do. It may be busy, and what it answers is not looked at.
    pub fn ask_dashboard(&self) {
        let printed = fs::read_to_string(self.dir.join("dashboard.out")).unwrap_or_default();
        let address = printed.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        for path in ["/", "/metrics"] {
            let Some(Ok(mut stream)) = address.map(TcpStream::connect) else { return };
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", address.unwrap_or_default());
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut Vec::new()));
        }
    }

    /// Files in which a panic is told.
    pub fn panics(&self) -> Vec<String> {
        let told = |path: &Path| fs::read_to_string(path).is_ok_and(|text| text.contains("panicked at"));
        let files = fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.is_file() && told(path)).map(|path| format!("a panic: {}", path.display())).collect()
    }
}

impl Process {
    pub fn signal(&self, signal: Signal) {
        // It may have ended.
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    /// Its exit code, if it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    pub fn wait(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// The last lines that it said.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(&self.said).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.running.lock().unwrap().retain(|(_, pid, _)| *pid != self.child.id());
    }
}
