//! The command line of the real binary: exit codes, messages, and files that it creates.

mod wrong;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder with a configuration and a task file in it; the copier is started there, so it is the base folder too.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("keeper.xml"), "<clickhouse/>").expect("keeper.xml");
        fs::write(folder.path().join("task.xml"), "<clickhouse/>").expect("task.xml");
        Place(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn copier(&self, arguments: &[&str]) -> Output {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.command(&arguments).output().expect("the binary starts")
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clickhouse-copier"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("the folder is there");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

const GOOD: [&str; 4] = ["--config-file", "keeper.xml", "--task-path", "/task"];

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_exits_with_0_and_names_every_flag() {
    for line in [&["--help"][..], &["run", "--help"]] {
        let output = Place::new().copier(line);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        let help = String::from_utf8(output.stdout).expect("help is text");
        for flag in [
            "--config-file",
            "--config",
            "-C",
            "--state-dir",
            "--task-path",
            "--task-file",
            "--task-upload-force",
            "--base-dir",
            "--daemon",
            "--umask",
            "--pid-file",
            "--pidfile",
            "-P",
            "--log-level",
            "--log-format",
            "--progress",
            "--progress-every",
            "--report",
            "--on-finish",
            "--on-failure",
            "--log-file",
            "-L",
            "--errorlog-file",
            "-E",
            "--safe-mode",
            "--status",
            "--max-table-tries",
            "--max-shard-partition-tries",
            "--max-shard-partition-piece-tries-for-alter",
            "--retry-delay-ms",
            "--copy-fault-probability",
            "--move-fault-probability",
            "--experimental-use-sample-offset",
            "--jobs",
            "--help",
        ] {
            assert!(help.contains(flag), "{line:?} does not mention {flag}:\n{help}");
        }
    }
}

#[test]
fn cleanup_has_its_own_help_and_a_line_in_the_general_help() {
    let output = Place::new().copier(&["cleanup", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).expect("help is text");
    for words in
        ["--config-file", "--state-dir", "--task-path", "--task-file", "--remove", "--forget", "--task-id", "Examples:"]
    {
        assert!(help.contains(words), "no {words}:\n{help}");
    }
    assert!(!help.contains("--jobs"), "{help}");
    let output = Place::new().copier(&["--help"]);
    let help = String::from_utf8(output.stdout).expect("help is text");
    assert!(help.lines().any(|line| line.trim_start().starts_with("cleanup ")), "{help}");
}

#[test]
fn help_of_check_verify_init_and_reverse_has_examples() {
    for (verb, flags) in [
        ("check", &["--task-file", "--task-path", "--format"][..]),
        ("verify", &["--task-file", "--task-path", "--by", "--sample", "--date", "--keys", "--format"]),
        ("init", &["--from", "--to", "--table", "--from-cluster", "--to-cluster", "--from-password-env", "--output"]),
        ("reverse", &["--task-file", "--task-path", "--database", "--sharding-key", "--to", "--output"]),
    ] {
        let output = Place::new().copier(&[verb, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        let help = String::from_utf8(output.stdout).expect("help is text");
        for words in flags.iter().chain(&["Examples:", "Exit codes:"]) {
            assert!(help.contains(words), "{verb}: no {words}:\n{help}");
        }
        assert!(!help.contains("--jobs"), "{help}");
    }
}

#[test]
fn version_prints_the_version_of_the_program() {
    let output = Place::new().copier(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let line = format!("clickhouse-copier {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), line);
}

#[test]
fn a_failure_is_shown_at_every_log_level() {
    for level in ["none", "error", "trace"] {
        let output = Place::new().copier(&[&GOOD[..], &["--log-level", level]].concat());
        assert_ne!(output.status.code(), Some(0));
        assert!(stderr(&output).contains("ERROR"), "{level}: {}", stderr(&output));
    }
}

#[test]
fn every_line_of_a_json_log_is_json() {
    let output =
        Place::new().copier(&[&GOOD[..], &["--log-format=json", "--experimental-use-sample-offset=1"]].concat());
    let message = stderr(&output);
    assert!(message.contains("no longer needed"), "{message}");
    for line in message.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[test]
fn a_daemon_that_cannot_start_prints_its_error_and_returns_its_exit_code() {
    let place = Place::new();
    let in_front = place.copier(&GOOD);
    let behind = place.copier(&[&GOOD[..], &["--daemon", "--pid-file=copier.pid"]].concat());
    assert_eq!(behind.status.code(), in_front.status.code());
    assert_ne!(behind.status.code(), Some(0));
    // The same sentence, once, and without the time stamp of a log line.
    let message = stderr(&behind);
    let sentence = message.trim_start_matches("clickhouse-copier: ").trim_end();
    assert!(!sentence.is_empty() && stderr(&in_front).contains(sentence), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(behind.stdout.is_empty());
    assert!(!place.path().join("copier.pid").exists());
}

#[test]
fn a_pid_file_in_use_is_refused_in_the_foreground_and_as_a_daemon() {
    let place = Place::new();
    let path = place.path().join("copier.pid");
    let held = fs::File::create(&path).expect("the pid file");
    fs::write(&path, "4242\n").expect("a pid");
    held.lock().expect("a lock");
    for more in [&["--pid-file=copier.pid"][..], &["--pidfile", "copier.pid", "--daemon"]] {
        let output = place.copier(&[&GOOD[..], more].concat());
        assert_eq!(output.status.code(), Some(1));
        let message = stderr(&output);
        assert!(message.contains("copier.pid: already running as process 4242"), "{message}");
    }
    assert_eq!(fs::read_to_string(&path).expect("still there"), "4242\n");
}

/// A wrong task file is reported before anything is created, with and without ZooKeeper.
#[test]
fn a_wrong_task_file_creates_no_state_directory() {
    let place = Place::new();
    let before = place.names();
    let output = place.copier(&["run", "--task-file", "task.xml"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("task.xml"), "{}", stderr(&output));
    assert_eq!(place.names(), before);
}

#[test]
fn completions_and_the_man_page_list_every_verb() {
    for arguments in [&["completions", "bash"][..], &["completions", "zsh"], &["completions", "fish"], &["man"]] {
        let output = Place::new().copier(arguments);
        let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        for verb in
            ["run", "init", "check", "plan", "status", "pause", "resume", "cancel", "cleanup", "reverse", "task-path"]
        {
            let verb = if arguments == ["man"] { verb.replace('-', "\\-") } else { verb.to_owned() };
            assert!(text.contains(&verb), "{arguments:?} without {verb}");
        }
    }
}

/// Everything that the program prints without a server, and the help of each verb: if standard output is full, the program fails with
/// one line.
#[test]
fn a_full_standard_output_is_an_error() {
    let mut lines: Vec<Vec<String>> = vec![vec!["--version".into()], vec!["--help".into()], vec!["man".into()]];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        lines.push(vec!["completions".into(), shell.into()]);
    }
    for verb in clickhouse_copier::cli::command().get_subcommands() {
        lines.push(vec![verb.get_name().to_owned(), "--help".into()]);
    }
    assert!(lines.len() > 15);
    let place = Place::new();
    for line in lines {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let output = place.command(&line).stdout(full).output().expect("the binary starts");
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{line:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{line:?}: {message}");
        assert!(
            message.starts_with("clickhouse-copier: cannot write to standard output: No space left"),
            "{line:?}: {message}"
        );
        // A closed pipe is not a failure.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = place.command(&line).stdout(writer).output().expect("the binary starts");
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{line:?}");
    }
}

/// Messages repeat arguments of the command line, which may contain control characters.
#[test]
fn control_characters_of_the_command_line_are_not_printed() {
    const HOSTILE: &str = "x\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}2J\u{7f}\u{202e}\ry";
    let place = Place::new();
    fs::write(place.path().join(HOSTILE), "<clickhouse/>").expect("a file");
    let flag = |name: &str| format!("--{name}={HOSTILE}");
    let lines: [&[&str]; 12] = [
        &[HOSTILE],
        &[&flag(HOSTILE)],
        &[&flag("jobs")],
        &[&flag("log-level"), "--config=keeper.xml"],
        &["run", &flag("config"), "--task-path=/t"],
        &["run", &format!("--task-file={HOSTILE}")],
        &["run", "--config=keeper.xml", &flag("task-path")],
        &["check", &flag("task-file")],
        &["verify", &flag("task-file"), "--format=json"],
        &["status", "--state-dir=absent", &flag("task-path")],
        &["init", &flag("from"), "--to=b", "--table=d.t"],
        &["run", "--task-file=task.xml", &flag("plan")],
    ];
    for line in lines {
        for more in [&[][..], &["--daemon"]] {
            let output = place.copier(&[line, more].concat());
            assert!(matches!(output.status.code(), Some(1 | 2)), "{line:?}: {}", stderr(&output));
            for stream in [&output.stdout, &output.stderr] {
                let text = String::from_utf8_lossy(stream);
                assert!(!text.contains(clickhouse_copier::model::is_obeyed), "{line:?}: {text:?}");
            }
        }
    }
}

/// The environment of a run may contain secrets. A hook gets only the variables that programs need.
#[test]
fn a_hook_gets_only_documented_environment_variables() {
    let place = Place::new();
    let passed = ["HOME=/home/x", "LC_TIME=C", "LANG=C.UTF-8", "https_proxy=http://p:1", "TZ=UTC"];
    let kept = ["COPIER_PASSWORD=hush", "AWS_SECRET_ACCESS_KEY=hush", "NOTIFY_SOCKET=/nowhere", "RUST_LOG=info"];
    let variables = passed.iter().chain(&kept).filter_map(|variable| variable.split_once('='));
    let line = ["run", "--task-file=task.xml", "--on-failure=env > hook.env"].map(str::to_owned);
    let output = place.command(&line).envs(variables).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let found = fs::read_to_string(place.path().join("hook.env")).expect("the hook ran");
    for words in passed.iter().chain(&["PATH=", "CLICKHOUSE_COPIER_EXIT_CODE=2", "CLICKHOUSE_COPIER_TASK=/task"]) {
        assert!(found.lines().any(|line| line.starts_with(words)), "no {words} in\n{found}");
    }
    let page = include_str!("../../docs/reports-and-hooks.md");
    for line in found.lines() {
        let name = line.split('=').next().unwrap_or_default();
        // The shell sets some variables itself.
        let documented = page.contains(&format!("`{name}`"))
            || name.starts_with("LC_")
            || ["PWD", "SHLVL", "_", "OLDPWD"].contains(&name);
        assert!(documented && !line.contains("hush"), "{line}");
    }
}

/// A user who may write to the folder cannot make the program write another file.
#[test]
fn symbolic_links_cannot_redirect_the_pid_file_or_the_state() {
    let place = Place::new();
    let victim = place.path().join("victim");
    fs::write(&victim, "").expect("a file");
    let state = place.path().join("state");
    fs::create_dir(&state).expect("a folder");
    let dead = place.path().join("task.xml");
    fs::write(&dead, include_str!("../../task-configs/simple-copy.xml")).expect("a task");
    std::os::unix::fs::symlink(&victim, place.path().join("copier.pid")).expect("a link");
    let output = place.copier(&["run", "--task-file=task.xml", "--pid-file=copier.pid"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("--pid-file"), "{}", stderr(&output));
    for name in ["opening", "coordination.sqlite"] {
        let link = state.join(name);
        std::os::unix::fs::symlink(place.path().join("made"), &link).expect("a link");
        let output = place.copier(&["run", "--task-file=task.xml", "--state-dir=state"]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(!place.path().join("made").exists(), "{name} was followed: {}", stderr(&output));
        fs::remove_file(&link).expect("the link");
    }
    assert_eq!(fs::read_to_string(&victim).expect("still there"), "");
}
