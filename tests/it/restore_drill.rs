//! `examples/restore-drill.sh`: what it detects, its messages, and that it leaves nothing.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use lab::{LabSpec, Release};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Scene, fill, scene};

/// Makes a backup of two shards on one server, with `backup.xml`.
fn backup(scene: &Scene) {
    fill(scene, &[0, 1], BY_MONTH, 20_000, 3);
    let task = scene.task(&[&[0], &[1]], &[&[2]]).with(scene.table("hits"));
    scene.launch_local(&task, "backup.xml").run().with(0);
}

fn drill(scene: &Scene) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/restore-drill.sh");
    let mut command = Command::new(script);
    command.current_dir(scene.dir()).args(["--copier", env!("CARGO_BIN_EXE_clickhouse-copier")]);
    command.args(["--work-dir", "drills", "--report", "report.txt", "--sharding-key", "intHash64(id)"]);
    command
}

/// Checks the exit code, and that both the report and standard error have these words.
#[track_caller]
fn ended(scene: &Scene, output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let report = fs::read_to_string(scene.dir().join("report.txt")).unwrap();
    for word in words {
        assert!(report.contains(word) && stderr.contains(word), "no {word:?}: {stderr}\n--- report:\n{report}");
    }
}

/// Returns the databases and folders that drills have left.
fn left(scene: &Scene) -> (Vec<String>, Vec<String>) {
    let all: Vec<usize> = (0..scene.lab().servers().len()).collect();
    let databases = scene.lines(&all, "SELECT name FROM system.databases WHERE name LIKE 'copier\\\\_drill%'");
    let folders = fs::read_dir(scene.dir().join("drills")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    (databases, folders.filter(|name| name != "lock").collect())
}

#[track_caller]
fn nothing_left(scene: &Scene) {
    assert_eq!(left(scene), (Vec::new(), Vec::new()));
    let staging = "SELECT count() FROM system.tables WHERE name LIKE 'copier\\\\_%'";
    assert_eq!(scene.sum(&[0, 1, 2], staging), 0, "staging tables");
}

#[apply(both)]
fn a_restore_drill_detects_changed_lost_and_unreadable_rows(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 3));
    backup(&scene);
    let hits = format!("{}.hits", scene.dst);
    let task = ["--", "--task-file", "backup.xml"];
    let run = |more: &[&str]| drill(&scene).args(more).args(task).output().unwrap();

    ended(&scene, &run(&[]), 0, &["3 partitions compared by checksum: 3 equal", "The drill holds"]);
    nothing_left(&scene);

    // Another drill is running.
    let lock = File::options().write(true).open(scene.dir().join("drills/lock")).unwrap();
    lock.lock().unwrap();
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another drill"), "{output:?}");
    drop(lock);

    // The backup has other rows than its source. A comparison with the source finds it; a restore alone does not.
    let row = "SELECT d, id, s, v FROM";
    scene.ask(2, &format!("CREATE TABLE {hits}_kept AS {hits} ENGINE = Log"));
    scene.ask(2, &format!("INSERT INTO {hits}_kept {row} {hits}"));
    scene.ask(2, &format!("ALTER TABLE {hits} DROP PARTITION 201802"));
    let changed = format!(
        "INSERT INTO {hits} SELECT d, id, s, if(id = 40, v + 1, v) FROM {hits}_kept WHERE toYYYYMM(d) = 201802"
    );
    scene.ask(2, &changed);
    let words = [
        "201802: DIFFERENT",
        "id 40: 1 row on both sides, with other contents",
        "the backup is not what its source holds",
    ];
    ended(&scene, &run(&[]), 4, &words);
    nothing_left(&scene);
    ended(&scene, &run(&["--no-source"]), 0, &["The drill holds"]);

    // A partition is lost.
    scene.ask(2, &format!("ALTER TABLE {hits} DROP PARTITION 201803"));
    ended(&scene, &run(&[]), 4, &["201803: DIFFERENT", "no row on the target"]);
    nothing_left(&scene);

    // A file on the disk of the backup is damaged.
    let part = format!(
        "SELECT any(path) FROM system.parts WHERE database = '{}' AND table = 'hits' AND active AND name LIKE '201801\\_%'",
        scene.dst
    );
    let part = PathBuf::from(scene.ask(2, &part));
    // Modern servers keep the columns of a small part in one file.
    let column = ["s.bin", "data.bin"].map(|file| part.join(file)).into_iter().find(|path| path.is_file()).unwrap();
    let mut bytes = fs::read(&column).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].iter_mut().for_each(|byte| *byte = !*byte);
    fs::write(&column, bytes).unwrap();
    ended(
        &scene,
        &run(&["--no-source"]),
        3,
        &["hecksum doesn't match", "201801 failed", "not everything could be restored"],
    );
    nothing_left(&scene);

    // With `--keep` the restored database stays.
    ended(&scene, &run(&["--no-source", "--keep"]), 3, &["kept: the database copier_drill_"]);
    let (databases, folders) = left(&scene);
    assert_eq!((databases.len(), folders.len()), (2, 1));

    // The backup is gone. The drill reports what an earlier drill left, and does not touch it.
    scene.ask(2, &format!("DROP TABLE {hits}"));
    ended(&scene, &run(&["--no-source"]), 2, &["nothing to copy back", "is left of an earlier drill"]);
    assert_eq!(left(&scene), (databases, folders));
}

/// Writes a `curl` that creates the database on one host just before the drill does, as if it had existed.
fn overtaking_curl(scene: &Scene, host: &str) -> PathBuf {
    let folder = scene.dir().join("bin");
    fs::create_dir(&folder).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let real = std::env::split_paths(&path).map(|dir| dir.join("curl")).find(|path| path.exists()).unwrap();
    let script = format!(
        "#!/bin/bash\nif [[ \"$*\" == *'CREATE DATABASE'*'{host}'* ]]; then\n\
         for word in \"$@\"; do case $word in CREATE*) {0} -sS -d \"$word\" http://{host}:8123/ ;; esac; done\nfi\n\
         exec {0} \"$@\"\n",
        real.display()
    );
    fs::write(folder.join("curl"), script).unwrap();
    fs::set_permissions(folder.join("curl"), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[apply(both)]
fn a_restore_drill_does_not_touch_a_database_of_somebody_else(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 3));
    backup(&scene);
    let second = scene.server(1).host();
    let mut path = vec![overtaking_curl(&scene, second)];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let mut command = drill(&scene);
    command.env("PATH", std::env::join_paths(path).unwrap());
    let output = command.args(["--", "--task-file", "backup.xml"]).output().unwrap();
    ended(&scene, &output, 1, &["cannot be made on", second, "already exists", "dropped the database", "FAILED"]);
    // The drill has dropped its database on the first server, and left the other one on the second.
    let (databases, folders) = left(&scene);
    assert_eq!((databases.len(), folders.len()), (1, 0));
    assert_eq!(scene.lines(&[1], "SELECT name FROM system.databases WHERE name LIKE 'copier\\\\_drill%'"), databases);
}

#[apply(both)]
fn an_interrupted_restore_drill_leaves_nothing(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 3));
    backup(&scene);
    // With the bandwidth limit the restore takes some seconds.
    let slow = fs::read_to_string(scene.dir().join("backup.xml")).unwrap();
    let slow = slow.replace("<tables>", "<max_bytes_per_second>300K</max_bytes_per_second><tables>");
    fs::write(scene.dir().join("backup.xml"), slow).unwrap();
    let mut child = drill(&scene);
    let child = child.args(["--no-source", "--", "--task-file", "backup.xml"]).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let run = stderr.find(|line| line.as_ref().unwrap().contains("clickhouse-copier run"));
    assert!(run.is_some());
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let rest: Vec<String> = stderr.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    println!("{}", rest.join("\n"));
    nothing_left(&scene);
}

/// Writes a copier that gets SIGTERM as soon as it runs, before it has a task.
fn copier_that_is_ended_at_once(scene: &Scene) -> PathBuf {
    let path = scene.dir().join("copier");
    let real = env!("CARGO_BIN_EXE_clickhouse-copier");
    fs::write(&path, format!("#!/bin/bash\n[[ $1 != run ]] || kill -TERM $$\nexec {real} \"$@\"\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[apply(both)]
fn a_restore_drill_interrupted_before_its_task_exists_leaves_nothing(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 3));
    backup(&scene);
    let mut command = drill(&scene);
    let copier = copier_that_is_ended_at_once(&scene);
    let output =
        command.arg("--copier").arg(copier).args(["--no-source", "--", "--task-file", "backup.xml"]).output().unwrap();
    ended(&scene, &output, 1, &["not everything could be restored", "dropped the database"]);
    nothing_left(&scene);
}
