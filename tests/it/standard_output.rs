//! Full or closed standard output for every verb, and closed terminals.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::process::{Command, Stdio};

use lab::{LabSpec, Release};
use nix::sys::signal::Signal;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Scene, Task, fill, scene};

fn task(scene: &Scene) -> Task {
    scene.short_sessions();
    fill(scene, &[0], BY_MONTH, 3000, 3);
    scene.task(&[&[0]], &[&[1]]).with(scene.table("hits").engine(BY_MONTH).with("batch_bytes", "1"))
}

/// Arguments of each verb. Verbs that print nothing about a task are tested in tests/cli/main.rs.
fn lines(scene: &Scene) -> BTreeMap<&'static str, Vec<Vec<String>>> {
    let table = format!("{}.hits", scene.src);
    let init = ["--from", scene.server(0).host(), "--to", scene.server(1).host(), "--table", &table];
    let init: Vec<String> = init.iter().map(|word| (*word).to_owned()).collect();
    let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let json = || text(&["--format=json"]);
    BTreeMap::from([
        ("init", vec![init.clone(), [init.clone(), json()].concat(), [init, text(&["--output=made.xml"])].concat()]),
        ("check", vec![text(&[]), json()]),
        ("plan", vec![text(&[]), json()]),
        ("run", vec![text(&[]), json(), text(&["--status"])]),
        ("status", vec![text(&[]), json(), text(&["--watch=1"]), text(&["--watch=1", "--format=json"])]),
        ("verify", vec![text(&[]), json()]),
        ("reverse", vec![text(&[]), json(), text(&["--output=back.xml"])]),
        ("pause", vec![text(&[]), json()]),
        ("resume", vec![text(&[]), json()]),
        ("cancel", vec![text(&[]), json()]),
        ("cleanup", vec![text(&[]), json(), text(&["--remove"])]),
        ("dashboard", vec![text(&["--listen=127.0.0.1:0"])]),
    ])
}

/// Runs a verb with this standard output. Returns its exit code and standard error.
fn run(scene: &Scene, task: &Task, verb: &str, more: &[String], out: Stdio) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clickhouse-copier"));
    command.arg(verb).args(more).current_dir(scene.dir()).stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
    if verb != "init" {
        command.arg("--config").arg(scene.keeper_xml()).args(["--task-path", &task.path]);
    }
    if ["check", "plan", "run", "reverse", "verify"].contains(&verb) && more != ["--status"] {
        fs::write(scene.dir().join("task.xml"), task.xml()).unwrap();
        command.arg("--task-file").arg("task.xml");
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[apply(both)]
fn every_verb_fails_when_standard_output_is_full(#[case] release: Release) {
    // Shared servers know clusters of other tests, which `init` would take.
    let scene = scene!(own LabSpec::of(release, 2));
    let task = task(&scene);
    let lines = lines(&scene);
    let program = clickhouse_copier::cli::command();
    let verbs: Vec<&str> = program.get_subcommands().map(|verb| verb.get_name()).collect();
    for verb in verbs.iter().filter(|verb| !["completions", "man"].contains(verb)) {
        assert!(lines.contains_key(verb), "nobody has tried {verb} here");
    }
    let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
    // In the order in which a task is worked on.
    let order = ["init", "check", "plan", "run", "status", "verify", "reverse", "dashboard", "cleanup"];
    for verb in order {
        for more in &lines[verb] {
            let mut this_task = task.clone();
            if verb == "run" && more != &["--status"] {
                // A task that is finished prints no report again.
                this_task = elsewhere(&this_task, &format!("run{}", more.len()));
            }
            fails(&scene, verb, more, run(&scene, &this_task, verb, more, full()));
            for file in ["made.xml", "back.xml"] {
                let _ = fs::remove_file(scene.dir().join(file));
            }
        }
        if verb == "plan" {
            scene.run(&task).with(0);
        }
    }
    // `pause`, `resume` and `cancel` need a task that is not finished.
    let orders = ["pause", "resume", "cancel"];
    assert_eq!(order.len() + orders.len(), lines.len());
    for (at, name) in ["half", "other_half"].into_iter().enumerate() {
        let half = elsewhere(&task, name);
        let worker = scene.launch(&half).stop_at("piece-claimed").start();
        worker.reaches("piece-claimed");
        worker.kill_9();
        for verb in orders {
            let more = &lines[verb][at];
            fails(&scene, verb, more, run(&scene, &half, verb, more, full()));
        }
    }
}

/// The same task at a path and with a target of its own.
fn elsewhere(task: &Task, name: &str) -> Task {
    let mut task = task.clone().at(name);
    task.tables[0].target.1 = name.to_owned();
    task
}

#[track_caller]
fn fails(scene: &Scene, verb: &str, more: &[String], (code, stderr): (Option<i32>, String)) {
    assert_eq!(code, Some(1), "{} {verb} {more:?}: {stderr}", scene.name());
    let errors = stderr.lines().filter(|line| line.contains("cannot write to standard output")).count();
    assert_eq!(errors, 1, "{verb} {more:?}: {stderr}");
    assert!(stderr.contains("No space left on device") && !stderr.contains("panicked"), "{verb} {more:?}: {stderr}");
}

/// A closed pipe (`| head`) gives no message and changes no exit code. `status --watch` ends.
#[apply(both)]
fn a_closed_pipe_on_standard_output_is_not_a_failure(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    // The worker is stopped, so `--watch` would run for ever.
    let worker = scene.launch(&task).stop_at("piece-claimed").start();
    worker.reaches("piece-claimed");
    for more in [text(&["--watch=1"]), text(&["--watch=1", "--format=json"])] {
        assert_eq!(run(&scene, &task, "status", &more, closed()), (Some(0), String::new()));
    }
    worker.kill_9();
    scene.run(&task).with(0);
    scene.ask(1, &format!("INSERT INTO {}.hits SELECT * FROM {}.hits LIMIT 1", scene.dst, scene.dst));
    let (code, stderr) = run(&scene, &task, "verify", &[], closed());
    assert_eq!(code, Some(4), "{stderr}");
    assert!(!stderr.contains("standard output"), "{stderr}");
}

/// A closed terminal ends a run as SIGTERM does, with report and hook. If SIGHUP is ignored (`nohup`), the run continues.
#[apply(both)]
fn a_closed_terminal_ends_a_run_unless_sighup_is_ignored(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let errors = scene.dir().join("told");
    let hook = format!("echo $CLICKHOUSE_COPIER_OUTCOME >> '{}'", errors.display());
    let launch = || scene.launch(&task).args(&["--report=report.json", "--on-failure", &hook, "--on-finish", &hook]);
    let worker = launch().heeding_hang_ups().freeze_at("piece-pushed").start();
    worker.freezes_at("piece-pushed");
    // Both the kernel and the shell send SIGHUP.
    worker.signal(Signal::SIGHUP);
    worker.thaw();
    worker.says("told to end");
    worker.signal(Signal::SIGHUP);
    let ended = worker.ends().with(130);
    assert!(!ended.stderr.contains("told again"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&errors).unwrap(), "interrupted\n");
    let report = scene.read_json("report.json");
    assert_eq!((&report["outcome"], &report["exit_code"]), (&"interrupted".into(), &130.into()));

    let worker = launch().ignoring_hang_ups().freeze_at("publication-claimed").start();
    worker.freezes_at("publication-claimed");
    worker.signal(Signal::SIGHUP);
    worker.thaw();
    worker.ends().with(0);
    assert_eq!(fs::read_to_string(&errors).unwrap(), "interrupted\nfinished\n");
    scene.check(&task);

    // A long verb.
    let page = scene
        .launch(&task)
        .heeding_hang_ups()
        .without_task_file()
        .verb("dashboard")
        .args(&["--listen=127.0.0.1:0"])
        .start();
    page.prints("The dashboard is at ");
    page.signal(Signal::SIGHUP);
    page.ends().with(0).tells(&["told to end"]);
}

/// A daemon closes the file descriptors that it was started with, so that a reader of such a pipe does not wait for the end of the
/// task.
#[apply(both)]
fn a_daemon_closes_inherited_file_descriptors(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    fs::write(scene.dir().join("task.xml"), task.xml()).unwrap();
    // The task file is one of them. The daemon stands still when it works.
    let line = "exec 8<> pipe; \
                \"$0\" run --daemon --config keeper.xml --task-path \"$1\" --task-file <(cat task.xml) --base-dir logs --pid-file pid; \
                code=$?; ls -l /proc/$(cat pid)/fd; exit $code";
    let mut command = Command::new("bash");
    command.args(["-c", &format!("mkfifo pipe; {line}"), env!("CARGO_BIN_EXE_clickhouse-copier"), &task.path]);
    command.current_dir(scene.dir()).env("CLICKHOUSE_COPIER_STOP_AT", "piece-claimed").stdin(Stdio::null());
    let output = command.output().unwrap();
    let (stderr, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let pid: i32 = fs::read_to_string(scene.dir().join("pid")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    assert!(output.status.success() && stderr.contains("working in the background"), "{stderr}{errors}");
    assert!(!stderr.contains("pipe"), "{stderr}");
    let logs = fs::read_dir(scene.dir().join("logs")).unwrap().next().unwrap().unwrap().path();
    for name in ["log.log", "log.err.log", "stderr.log"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(logs.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777 & !0o640, 0, "{name}: {mode:o}");
    }
}
