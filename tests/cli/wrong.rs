//! Wrong command lines: each gives one line on standard error and exit code 2.

use super::{GOOD, Place, stderr};

/// A wrong command line and words of its message.
type Wrong = (&'static [&'static str], &'static [&'static str]);

/// Wrong command lines after [`GOOD`], with words that the message has.
const AFTER_GOOD: [Wrong; 30] = [
    (&["--jobs", "0"], &["--jobs", "0"]),
    (&["--jobs=many"], &["--jobs", "many"]),
    (&["--max-table-tries=0"], &["--max-table-tries"]),
    (&["--max-table-tries", "-1"], &["--max-table-tries", "-1"]),
    (&["--max-shard-partition-tries=x"], &["--max-shard-partition-tries"]),
    (&["--max-shard-partition-piece-tries-for-alter=0"], &["--max-shard-partition-piece-tries-for-alter"]),
    (&["--retry-delay-ms=99999999999"], &["--retry-delay-ms"]),
    (&["--stall-timeout=0"], &["--stall-timeout"]),
    (&["--copy-fault-probability=1.5"], &["--copy-fault-probability", "from 0 to 1"]),
    (&["--move-fault-probability", "-0.1"], &["--move-fault-probability", "from 0 to 1"]),
    (&["--move-fault-probability=NaN"], &["--move-fault-probability", "from 0 to 1"]),
    (&["--log-level=loud"], &["--log-level", "information"]),
    (&["--log-format=xml"], &["--log-format", "json"]),
    (&["--task-upload-force=perhaps"], &["--task-upload-force", "true or false"]),
    (&["--task-file=absent.xml"], &["--task-file absent.xml", "No such file"]),
    (&["--task-file=."], &["--task-file .", "a folder"]),
    (&["--base-dir=task.xml"], &["--base-dir task.xml", "not a folder"]),
    (&["--pid-file=absent/x.pid"], &["--pid-file absent/x.pid", "No such file"]),
    (&["--log-file=absent/x.log"], &["--log-file absent/x.log", "No such file"]),
    (&["--umask=9"], &["--umask", "octal"]),
    (&["--safe-mode=yes"], &["--safe-mode"]),
    (&["--task-path=/other"], &["--task-path", "multiple times"]),
    (&["--no-such-flag"], &["--no-such-flag"]),
    (&["--saef-mode"], &["--saef-mode", "--safe-mode"]),
    (&["--daemon", "--jobs=0"], &["--jobs"]),
    (&["--progress=loud"], &["--progress", "bars"]),
    (&["--progress=bars"], &["--progress bars", "terminal"]),
    (&["--progress-every=0"], &["--progress-every"]),
    (&["--report=absent/x.json"], &["--report absent/x.json", "No such file"]),
    (&["--report=."], &["--report .", "a folder"]),
];

/// Whole command lines that are wrong, with words that the message has.
const WHOLE: [Wrong; 57] = [
    (&[], &["--config-file is missing", "--task-file"]),
    (&["run"], &["--config-file is missing"]),
    (&["--task-path=/task"], &["--config-file is missing"]),
    (&["--config=keeper.xml"], &["--task-path is missing"]),
    (&["--config=keeper.xml", "--task-path=/t", "--state-dir=state"], &["--state-dir", "--config-file"]),
    (&["--config=keeper.xml", "--task-file=task.xml"], &["--task-path is missing"]),
    (&["--state-dir=state"], &["--task-path is missing"]),
    (&["--state-dir=task.xml", "--task-path=/t"], &["--state-dir task.xml", "not a folder"]),
    (&["--state-dir=task.xml/state", "--task-path=/t"], &["--state-dir task.xml/state", "Not a directory"]),
    (&["--task-file=/dev/null"], &["--task-path is missing"]),
    (&["--task-file=task.xml", "--status"], &["clickhouse-copier-state/coordination.sqlite", "no task was run"]),
    (&["cleanup", "--task-file=task.xml"], &["clickhouse-copier-state/coordination.sqlite", "no task was run"]),
    (&["--config=absent.xml", "--task-path=/task"], &["--config-file absent.xml", "No such file"]),
    (&["--config=", "--task-path=/task"], &["--config"]),
    (&["--config=.", "--task-path=/task"], &["--config-file .", "a folder"]),
    (&["--config=keeper.xml", "--task-path=task"], &["--task-path", "must begin with '/'"]),
    (&["--config=keeper.xml", "--task-path=/"], &["--task-path", "the root"]),
    (&["--config=keeper.xml", "--task-path=/a//b"], &["--task-path", "empty part"]),
    (&["conquer"], &["conquer"]),
    (&["cleanup"], &["--config-file is missing"]),
    (&["cleanup", "--config=keeper.xml"], &["--task-path is missing"]),
    (&["cleanup", "--config=keeper.xml", "--task-path=/t", "--task-file=absent.xml"], &["--task-file absent.xml"]),
    (&["cleanup", "--config=keeper.xml", "--task-path=/t", "--forget"], &["--remove"]),
    (&["cleanup", "--config=keeper.xml", "--task-path=/t", "--task-id=mine"], &["--task-id", "twelve hexadecimal"]),
    (
        &["cleanup", "--config=keeper.xml", "--task-path=/t", "--remove", "--forget", "--task-id=0123456789ab"],
        &["--task-id", "--forget"],
    ),
    (&["cleanup", "--config=keeper.xml", "--task-path=/t", "--jobs=1"], &["--jobs"]),
    (&["--config=keeper.xml", "run", "--task-path=/task"], &["run"]),
    (&["check"], &["--config-file is missing"]),
    (&["status"], &["--config-file is missing"]),
    (&["pause", "--config=keeper.xml"], &["--task-path is missing"]),
    (&["status", "--config=keeper.xml", "--task-path=/t", "--watch=0"], &["--watch"]),
    (&["resume", "--task-file=task.xml"], &["clickhouse-copier-state"]),
    (&["plan", "--task-file=task.xml", "--output=task.xml"], &["--output task.xml", "not overwritten"]),
    (&["run", "--task-file=task.xml", "--plan=absent.json"], &["--plan absent.json", "No such file"]),
    (&["completions", "cobol"], &["cobol", "bash"]),
    (&["check", "--config=keeper.xml", "--task-file=task.xml"], &["--task-path is missing"]),
    (&["check", "--task-file=absent.xml"], &["--task-file absent.xml", "No such file"]),
    (&["check", "--task-file=task.xml", "--format=xml"], &["--format", "json"]),
    (&["verify"], &["--config-file is missing"]),
    (&["verify", "--task-path=/t"], &["--config-file is missing"]),
    (&["verify", "--task-file=absent.xml"], &["--task-file absent.xml", "No such file"]),
    (&["verify", "--task-file=task.xml", "--by=guess"], &["--by", "checksum"]),
    (&["verify", "--task-file=task.xml", "--sample=8/7"], &["--sample", "as in 1/7"]),
    (&["verify", "--task-file=task.xml", "--sample=0/7"], &["--sample", "as in 1/7"]),
    (&["verify", "--task-file=task.xml", "--sample=1/7", "--date=31.1.2026"], &["--date", "as in 2026-01-31"]),
    (&["verify", "--task-file=task.xml", "--date=2026-01-31"], &["--sample"]),
    (&["init"], &["--from is missing"]),
    (&["init", "--from=a"], &["--to is missing"]),
    (&["init", "--from=a", "--to=b"], &["--table is missing"]),
    (&["init", "--from=a", "--to=b", "--table=hits"], &["--table", "web.hits"]),
    (&["init", "--from=a,b", "--to=b", "--table=d.t"], &["--from a,b", "no server"]),
    (&["init", "--from=a", "--to=b:http", "--table=d.t"], &["--to b:http", "no server"]),
    (&["init", "--from=ftp://a", "--to=b", "--table=d.t"], &["--from ftp://a", "no server"]),
    (&["init", "--from=a", "--to=b", "--table=d.t", "--output=task.xml"], &["--output task.xml", "not overwritten"]),
    (&["reverse"], &["--config-file is missing"]),
    (&["reverse", "--task-file=task.xml", "--to-user=u"], &["--to"]),
    (&["reverse", "--task-file=task.xml", "--output=absent/x.xml"], &["--output absent/x.xml", "No such file"]),
];

#[test]
fn a_wrong_command_line_prints_one_line_exits_with_2_and_creates_nothing() {
    let after_good = AFTER_GOOD.map(|(arguments, words)| ([&GOOD[..], arguments].concat(), words));
    let whole = WHOLE.map(|(arguments, words)| (arguments.to_vec(), words));
    let place = Place::new();
    let before = place.names();
    for (line, words) in after_good.into_iter().chain(whole) {
        let output = place.copier(&line);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{line:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{line:?}: {message}");
        assert!(message.starts_with("clickhouse-copier: "), "{line:?}: {message}");
        for word in words {
            assert!(message.contains(word), "{line:?} does not say {word:?}: {message}");
        }
        assert!(output.stdout.is_empty(), "{line:?}");
        assert_eq!(place.names(), before, "{line:?} left something behind");
    }
}
