//! Each form of each flag, and what it means.

use super::super::address::{Coordination, ServerLimits};
use super::*;
use crate::cli::{Refusal, understand};
use crate::protocol::TaskId;
use crate::task::Allowed;
use crate::worker::limits::concurrency::Jobs;

fn run(arguments: &[&str]) -> RunOptions {
    match try_run(arguments) {
        Ok(options) => options,
        Err(line) => panic!("{arguments:?}: {line}"),
    }
}

/// Returns the options of a command line with a valid configuration file, a valid task path and these arguments.
fn try_run(arguments: &[&str]) -> Result<RunOptions, String> {
    let needed = ["clickhouse-copier", "--config-file=Cargo.toml", "--task-path=/task"];
    let line = needed.iter().chain(arguments).map(|word| (*word).into());
    match understand(line) {
        Ok(Invocation::Run(options)) => Ok(options),
        Ok(other) => Err(format!("{other:?}")),
        Err(Refusal::Wrong(text) | Refusal::Shown(text)) => Err(text),
    }
}

fn invocation(line: &[&str]) -> Invocation {
    understand(line.iter().map(|word| (*word).into())).expect("a good command line")
}

#[test]
fn missing_flags_have_the_defaults_of_the_original() {
    let here = std::env::current_dir().unwrap();
    let options = run(&[]);
    assert_eq!(
        options,
        RunOptions {
            address: Address {
                coordinator: Coordination::Keeper(here.join("Cargo.toml")),
                task_path: "/task".to_owned(),
                servers: ServerLimits::default(),
                allowed: Allowed::default(),
                task_file: None,
            },
            task_file: None,
            incremental: None,
            plan: None,
            upload_force: false,
            daemon: false,
            umask: None,
            pid_file: None,
            log: LogOptions {
                level: Level::Debug,
                format: LogFormat::Text,
                base_dir: here,
                file: None,
                error_file: None
            },
            safe_mode: false,
            tries: Tries { table: 3, partition: 3, attach: 10 },
            retry_delay: Duration::from_secs(1),
            copy_fault_probability: 0.0,
            move_fault_probability: 0.0,
            jobs: Jobs::Adaptive,
            format: LogFormat::Text,
            // Depends on whether the test runs in a terminal.
            progress: options.progress,
            progress_every: Duration::from_secs(30),
            metrics: None,
            report: Vec::new(),
            on_finish: None,
            on_failure: None,
            notices: vec![],
        }
    );
}

#[test]
fn the_config_file_is_accepted_in_every_documented_form() {
    let forms: [&[&str]; 9] = [
        &["--config", "Cargo.toml"],
        &["--config=Cargo.toml"],
        &["--config-file", "Cargo.toml"],
        &["--config-file=Cargo.toml"],
        &["--config-f=Cargo.toml"],
        &["-C", "Cargo.toml"],
        &["-CCargo.toml"],
        &["-C=Cargo.toml"],
        &["--conf", "Cargo.toml"],
    ];
    for form in forms {
        for verb in [&[][..], &["run"], &["copier"]] {
            let line: Vec<&str> =
                ["clickhouse-copier"].iter().chain(verb).chain(form).chain(&["--task-path", "/t/"]).copied().collect();
            let Invocation::Run(options) = invocation(&line) else { panic!("{line:?}") };
            let Address { coordinator: Coordination::Keeper(config), task_path, .. } = options.address else {
                panic!("{line:?}")
            };
            assert!(config.ends_with("Cargo.toml"), "{line:?}");
            assert_eq!(task_path, "/t");
        }
    }
}

#[test]
fn each_flag_sets_its_option() {
    let file = std::path::absolute("Cargo.toml").unwrap();
    assert_eq!(run(&["--task-file", "Cargo.toml"]).task_file, Some(file));
    assert!(run(&["--daemon"]).daemon);
    assert_eq!(run(&["--umask=027"]).umask, Some(0o27));
    assert!(run(&["--safe-mode"]).safe_mode);
    assert_eq!(run(&["--max-table-tries=7"]).tries.table, 7);
    assert_eq!(run(&["--max-shard-partition-tries", "8"]).tries.partition, 8);
    assert_eq!(run(&["--max-shard-partition-piece-tries-for-alter", "9"]).tries.attach, 9);
    assert_eq!(run(&["--retry-delay-ms=2500"]).retry_delay, Duration::from_millis(2500));
    assert_eq!(run(&["--retry-delay-ms=0"]).retry_delay, Duration::from_millis(100));
    assert_eq!(run(&["--stall-timeout=90"]).address.servers.stall, Duration::from_secs(90));
    assert_eq!(run(&["--max-statements-per-server=7"]).address.servers.statements, 7);
    assert_eq!(run(&["--copy-fault-probability=0.5"]).copy_fault_probability, 0.5);
    assert_eq!(run(&["--move-fault-probability", "1"]).move_fault_probability, 1.0);
    assert_eq!(run(&["--jobs", "1"]).jobs, Jobs::Fixed(1));
    assert_eq!(run(&["--log-format=json"]).log.format, LogFormat::Json);
    assert_eq!(run(&["--log-level", "information"]).log.level, Level::Information);
    assert_eq!(run(&["--base-dir", "/nonexistent/later"]).log.base_dir, Path::new("/nonexistent/later"));
    for form in [&["--pid-file", "x.pid"][..], &["--pidfile=x.pid"], &["-Px.pid"]] {
        assert_eq!(run(form).pid_file, Some(std::path::absolute("x.pid").unwrap()));
    }
    assert_eq!(run(&["-Lx.log"]).log.file, Some(std::path::absolute("x.log").unwrap()));
    assert_eq!(run(&["--errorlog-file=x.err"]).log.error_file, Some(std::path::absolute("x.err").unwrap()));
}

#[test]
fn a_boolean_flag_may_stand_alone_or_have_a_value() {
    for (form, expected) in [
        (&["--task-upload-force"][..], true),
        (&["--task-upload-force", "true"], true),
        (&["--task-upload-force=1"], true),
        (&["--task-upload-force=yes"], true),
        (&["--task-upload-force=false"], false),
        (&["--task-upload-force", "0"], false),
        (&["--task-upload-force", "--daemon"], true),
    ] {
        assert_eq!(run(form).upload_force, expected, "{form:?}");
    }
    assert!(try_run(&["--task-upload-force=maybe"]).unwrap_err().contains("--task-upload-force"));
}

#[test]
fn a_flag_without_effect_is_accepted_with_a_notice() {
    assert!(run(&["--experimental-use-sample-offset", "1"]).notices[0].contains("no longer needed"));
    assert!(run(&["--experimental-use-sample-offset=0"]).notices.is_empty());
    assert!(run(&["--task-upload-force"]).notices[0].contains("--task-file"));
}

#[test]
fn the_flag_status_copies_nothing() {
    let understood = invocation(&["clickhouse-copier", "-C", "Cargo.toml", "--task-path", "/t", "--status"]);
    assert!(matches!(understood, Invocation::Counts(CountsOptions { address, .. }) if address.task_path() == "/t"));
}

#[test]
fn cleanup_only_lists_without_the_flag_remove() {
    let cleanup = |arguments: &[&str]| {
        let line = ["clickhouse-copier", "cleanup", "--conf", "Cargo.toml", "--task-path", "/t/"];
        match invocation(&[&line[..], arguments].concat()) {
            Invocation::Cleanup(options) => options,
            other => panic!("{other:?}"),
        }
    };
    let listing = cleanup(&[]);
    assert_eq!((listing.address.task_path(), listing.remove, listing.forget), ("/t", false, false));
    assert!(matches!(&listing.address.coordinator, Coordination::Keeper(config) if config.ends_with("Cargo.toml")));
    assert!(listing.task_id.is_none());
    let removing = cleanup(&["--remove", "--task-id", "0123456789ab"]);
    assert!(removing.remove && removing.task_id == TaskId::parse("0123456789ab"));
    assert!(cleanup(&["--remove", "--forget"]).forget);
}

#[test]
fn without_zookeeper_the_task_file_gives_the_state_folder_and_the_task_path() {
    let here = std::env::current_dir().unwrap();
    let address = |arguments: &[&str]| match understand(arguments.iter().map(|word| (*word).into())) {
        Ok(Invocation::Run(options)) => Ok(Address { task_file: None, ..options.address }),
        Err(Refusal::Wrong(line)) => Err(line),
        other => panic!("{arguments:?}: {other:?}"),
    };
    let local = |state_dir: &str, task_path: &str| {
        Ok(Address {
            coordinator: Coordination::Local(here.join(state_dir)),
            task_path: task_path.to_owned(),
            servers: ServerLimits::default(),
            allowed: Allowed::default(),
            task_file: None,
        })
    };
    let simple = "task-configs/simple-copy.xml";
    assert_eq!(
        address(&["copier", "run", "--task-file", simple]),
        local("task-configs/clickhouse-copier-state", "/simple-copy")
    );
    assert_eq!(address(&["copier", "--task-file", simple, "--state-dir", "s"]), local("s", "/simple-copy"));
    assert_eq!(
        address(&["copier", "--task-file", simple, "--task-path=/t/"]),
        local("task-configs/clickhouse-copier-state", "/t")
    );
    assert_eq!(address(&["copier", "--state-dir=s", "--task-path=/t"]), local("s", "/t"));
    for (arguments, words) in [
        (&["copier", "--state-dir=s"][..], "--task-path is missing"),
        (&["copier", "--task-path=/t"], "--config-file is missing"),
        // A pipe can be read only once, and has another name the next time.
        (&["copier", "--task-file=/dev/null"], "--task-path is missing"),
        (&["copier", "--task-file=/dev/null", "--task-path=/t"], "--state-dir is missing"),
        (&["copier", "--task-file", simple, "--state-dir=Cargo.toml"], "not a folder"),
        (&["copier", "--config=Cargo.toml", "--task-path=/t", "--state-dir=s"], "--state-dir"),
    ] {
        let wrong = address(arguments).unwrap_err();
        assert!(wrong.contains(words), "{arguments:?}: {wrong}");
    }
}

#[test]
fn a_server_is_given_as_a_host_with_its_http_port() {
    let read = |text: &str| server("--from", text).map(|node| (node.host, node.http_port, node.port, node.secure)).ok();
    for (text, expected) in [
        ("h", Some(("h", 8123, 9000, false))),
        ("h:81", Some(("h", 81, 9000, false))),
        ("http://h:81/", Some(("h", 81, 9000, false))),
        ("https://h", Some(("h", 8443, 9440, true))),
        ("[::1]:81", Some(("[::1]", 81, 9000, false))),
        ("::1", Some(("::1", 8123, 9000, false))),
        ("", None),
        ("h:", None),
        ("h:0", None),
        ("h|i", None),
        ("user@h", None),
    ] {
        assert_eq!(
            read(text),
            expected.map(|(host, http, native, secure)| (host.to_owned(), http, native, secure)),
            "{text}"
        );
    }
}

#[test]
fn a_token_comes_from_a_variable_or_a_file_and_never_from_the_command_line() {
    let read = |more: &[&str]| {
        let line = [&["copier", "dashboard", "--config=Cargo.toml", "--task-path=/t"], more].concat();
        match understand(line.iter().map(|word| (*word).into())) {
            Ok(Invocation::Dashboard(options)) => Ok(options.serving),
            Ok(other) => panic!("{other:?}"),
            Err(Refusal::Wrong(line) | Refusal::Shown(line)) => Err(line),
        }
    };
    let serving = |listen: &str, token| Ok(Serving { listen: listen.parse().unwrap(), token });
    assert_eq!(read(&[]), serving("127.0.0.1:8080", None));
    assert_eq!(read(&["--listen=localhost:0"]), serving("127.0.0.1:0", None));
    assert_eq!(read(&["--listen=[::]:1", "--token-env=T"]), serving("[::]:1", Some(TokenSource::Env("T".into()))));
    for (arguments, words) in [
        (&["--listen=8080"][..], "127.0.0.1:8080"),
        (&["--listen=example.com:80"], "127.0.0.1:8080"),
        (&["--token-file=nowhere"], "--token-file nowhere"),
        (&["--token-env=T", "--token-file=Cargo.toml"], "cannot be used with"),
        (&["--token=0123456789abcdef"], "--token"),
    ] {
        let wrong = read(arguments).unwrap_err();
        assert!(wrong.contains(words), "{arguments:?}: {wrong}");
    }
}
