//! Runs every command that README and `docs/` show, on servers with the names that they use, and compares the form of the output with
//! the output that they show.

mod blocks;
mod reader;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use lab::{LabSpec, Release, User};
use rstest_reuse::apply;

use crate::both;
use crate::harness::scene;

use blocks::blocks;
use reader::{INIT, Reader, file};

/// Commands that are not run here, with the reason.
const NOT_RUN: [(&str, &str); 9] = [
    ("cargo build --bins --example demo && cargo run --example demo", "the demo: half a minute, and a build"),
    ("cargo build --release", "a build"),
    ("cargo test --workspace", "this is it"),
    ("UPDATE_DOCS=1 cargo test --test docs", "it writes the documents"),
    ("UPDATE_DOCS=1 cargo test --test it matrix", "it writes the documents"),
    ("UPDATE_LICENCES=1 cargo test --test licences", "it writes the list"),
    ("TMPDIR=/dev/shm UPDATE_DOCS=1 cargo bench --bench against_the_original", "an hour"),
    ("cargo bench --bench coordination -- --pieces 100000 --workers 16 --case slices", "minutes"),
    ("cargo run -p lab -- up 25.8:2 18.16", "it starts servers, and keeps them until it is ended"),
];

/// Tests that run the commands which a document marks with `<!-- tested elsewhere: FILE -->`.
const ELSEWHERE: [&str; 2] = ["tests/it/dashboard.rs", "tests/it/incremental.rs"];

const README: &str = "README.md";
const TUTORIAL: &str = "docs/tutorial.md";
const OPERATIONS: &str = "docs/operations.md";
const COMMANDS: &str = "docs/commands.md";
const REPORTS: &str = "docs/reports-and-hooks.md";
const MIGRATION: &str = "docs/migration-from-the-original.md";
const BACKUP: &str = "docs/backup-and-restore.md";
const RESHARD: &str = "docs/resharding-in-place.md";

/// A command of a document, in the order in which it is run.
struct Step {
    command: &'static str,
    /// Runs before the command.
    before: fn(&Reader),
    code: i32,
    /// Words that the output must have.
    says: &'static [&'static str],
}

fn step(command: &'static str, code: i32, says: &'static [&'static str]) -> Step {
    Step { command, before: |_| (), code, says }
}

impl Step {
    fn after(mut self, before: fn(&Reader)) -> Step {
        self.before = before;
        self
    }
}

/// The four commands of a first copy to empty servers.
fn first_copy() -> Vec<Step> {
    vec![
        step(INIT, 0, &["clickhouse-copier check --task-file"]).after(Reader::empty_target),
        step("clickhouse-copier check --task-file task.xml", 0, &["0 faults"]),
        step("clickhouse-copier run --task-file task.xml", 0, &["2 of 2 partitions are published"]),
        step("clickhouse-copier verify --task-file task.xml", 0, &["2 equal, 0 different"]),
    ]
}

fn version() -> Step {
    step("clickhouse-copier --version", 0, &["clickhouse-copier "])
}

fn readme() -> Vec<Step> {
    let mut steps = first_copy();
    steps.push(version());
    steps
}

fn tutorial() -> Vec<Step> {
    let mut steps = first_copy();
    steps.extend([
        step(
            "clickhouse-copier reverse --task-file task.xml --database web_restored --output restore.xml",
            0,
            &["check"],
        ),
        step("clickhouse-copier run --task-file restore.xml", 0, &["2 of 2 partitions are published"]),
        step("clickhouse-copier verify --task-file restore.xml", 0, &["2 equal, 0 different"]),
    ]);
    steps
}

fn operations() -> Vec<Step> {
    vec![
        step("clickhouse-copier cleanup --task-file task.xml", 0, &["Nothing of the task is left"]).after(Reader::copied),
        step(
            "clickhouse-copier --config keeper.xml --task-path /copy/hits --task-file task.xml --base-dir /var/log/copier",
            0,
            &["2 of 2 partitions are published"],
        )
        .after(|reader| {
            reader.empty_target();
            reader.write("keeper.xml", OPERATIONS, "<zookeeper>", "");
        }),
        step("clickhouse-copier cleanup --config keeper.xml --task-path /copy/hits", 0, &["Nothing of the task is left"]),
    ]
}

/// Needs the task in ZooKeeper that the commands of `operations` created.
fn commands_page() -> Vec<Step> {
    vec![
        step("clickhouse-copier verify --config keeper.xml --task-path /copy/hits", 4, &["DIFFER"]).after(|reader| {
            reader.write("keeper.xml", OPERATIONS, "<zookeeper>", "");
            reader.change_a_row(&[3, 4]);
        }),
        step(INIT, 0, &["clickhouse-copier check --task-file"]).after(Reader::empty_target),
        step("clickhouse-copier check --task-file task.xml", 0, &["0 faults"]),
        step("clickhouse-copier plan --task-file task.xml", 0, &["is made on", "Altogether 2 partitions"]),
        step("clickhouse-copier run --task-file task.xml", 0, &["2 of 2 partitions are published"]),
        step("clickhouse-copier status --task-file task.xml --watch", 0, &["finished"]),
        step("clickhouse-copier reverse --task-file task.xml --output restore.xml", 0, &["restore.xml is written"]),
        step("clickhouse-copier cleanup --task-file task.xml", 0, &["Nothing of the task is left"]),
        step("clickhouse-copier run --task-file task.xml --plan plan.json", 0, &["2 of 2 partitions are published"])
            .after(|reader| {
                reader.forget("task.xml");
                reader.empty_target();
                reader.sh("clickhouse-copier plan --task-file task.xml --output plan.json").with(0, &[]);
            }),
    ]
}

fn reports() -> Vec<Step> {
    vec![
        step(
            "clickhouse-copier run --task-file task.xml --report copy.html --report copy.json --on-failure 'curl -s --data-binary \
             @- https://pager.example/copy'",
            0,
            &["the task is finished already"],
        )
        .after(Reader::copied),
    ]
}

fn backup() -> Vec<Step> {
    vec![
        step("clickhouse-copier check --task-file backup.xml", 0, &["0 faults"])
            .after(|reader| reader.write("backup.xml", BACKUP, "<tables>", "")),
        step("clickhouse-copier run --task-file backup.xml --report backup-report.json", 0, &["equal, checksum too"]),
        step("clickhouse-copier verify --task-file backup.xml --sample 1/7", 0, &["not in the sample of 1/7"]),
        step("clickhouse-copier reverse --task-file backup.xml --output restore.xml", 0, &["restore.xml is written"]),
        step("clickhouse-copier check --task-file restore.xml", 0, &["0 faults"])
            .after(|reader| reader.scene.on(&[0, 1], "DROP TABLE web.hits")),
        step("clickhouse-copier run --task-file restore.xml", 0, &["2 of 2 partitions are published"]),
        step("clickhouse-copier verify --task-file restore.xml", 0, &["2 equal, 0 different"]),
        step(
            "restore-drill.sh --work-dir drills --report drill-report.txt -- --task-file backup.xml",
            0,
            &["The drill holds"],
        ),
    ]
}

fn reshard() -> Vec<Step> {
    vec![
        step("clickhouse-copier check --task-file reshard.xml", 0, &["0 faults"])
            .after(|reader| reader.write("reshard.xml", RESHARD, "<tables>", "")),
        step("clickhouse-copier run --task-file reshard.xml", 0, &["2 of 2 partitions are published"]),
        step("clickhouse-copier run --task-file reshard-rest.xml", 0, &["1 of 1 partition"]).after(|reader| {
            reader.fill(2..3);
            let rest =
                "<enabled_partitions>201803</enabled_partitions><if_target_not_empty>replace</if_target_not_empty>";
            assert!(reader.text(RESHARD).contains("<enabled_partitions>201803</enabled_partitions>"));
            reader.write("reshard-rest.xml", RESHARD, "<tables>", rest);
        }),
        step("clickhouse-copier verify --task-file reshard-rest.xml", 0, &["1 equal, 0 different"]),
        step("clickhouse-copier verify --task-file reshard.xml", 0, &["2 equal, 0 different"]),
        step("clickhouse-copier reverse --task-file reshard.xml", 0, &["<table_pull>hits_resharded</table_pull>"]),
        step("clickhouse-copier cleanup --task-file reshard.xml --remove --forget", 0, &["The task is gone"])
            .after(swap),
    ]
}

/// Runs the statements of the page on the servers that it names.
fn swap(reader: &Reader) {
    let (scene, page) = (&reader.scene, reader.text(RESHARD));
    let run = |servers: &[usize], sql: &str| {
        assert!(page.contains(&format!("`{sql}`")), "the page does not say {sql}");
        scene.on(servers, sql);
    };
    let before = reader.digest(&[0, 1]);
    let there = [
        (&[0, 1][..], "RENAME TABLE web.hits TO web.hits_old, web.hits_resharded TO web.hits"),
        (&[2], "RENAME TABLE web.hits_resharded TO web.hits"),
    ];
    let back = [
        (&[0, 1][..], "RENAME TABLE web.hits TO web.hits_resharded, web.hits_old TO web.hits"),
        (&[2], "RENAME TABLE web.hits TO web.hits_resharded"),
    ];
    there.iter().for_each(|(servers, sql)| run(servers, sql));
    assert_eq!(reader.digest(&[0, 1, 2]), before);
    back.iter().for_each(|(servers, sql)| run(servers, sql));
    assert_eq!(reader.digest(&[0, 1]), before);
    there.iter().for_each(|(servers, sql)| run(servers, sql));
    run(&[0, 1], "DROP TABLE web.hits_old");
    // All rows are on the shards where a Distributed table of the new cluster expects them.
    scene.lab().define_cluster(&scene.lab().cluster("after", &[&[0], &[1], &[2]])).unwrap();
    run(&[0], "CREATE TABLE web.hits_all_new AS web.hits ENGINE = Distributed(after, web, hits, intHash64(UserID))");
    for (shard, server) in (0..).zip([0, 1, 2]) {
        let strays = format!("SELECT count() FROM web.hits WHERE toUInt64(intHash64(UserID)) % 3 != {shard}");
        assert_eq!(scene.ask(server, &strays), "0", "shard {shard}");
    }
    assert_eq!(scene.ask(0, "SELECT count() FROM web.hits_all_new"), before.rows.to_string());
}

/// Returns the commands that a document shows, in blocks and in sentences, with the output that it shows.
fn commands(document: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    let blocks = blocks(document);
    for (at, block) in blocks.iter().enumerate() {
        for span in block.before.split('`').skip(1).step_by(2) {
            let span = span.split_whitespace().collect::<Vec<_>>().join(" ");
            let ours = ["clickhouse-copier ", "restore-drill.sh "].iter().any(|program| span.starts_with(program));
            if (ours && span.contains(" --")) || span.split(' ').any(|word| word == "cargo") {
                found.push((span, None));
            }
        }
        if block.language != "sh" {
            continue;
        }
        let mark =
            block.before.trim_end().lines().last().and_then(|line| line.trim().strip_prefix("<!-- tested elsewhere: "));
        if let Some(mark) = mark {
            let test = mark.strip_suffix(" -->").unwrap();
            assert!(ELSEWHERE.contains(&test), "no such test: {test}");
            continue;
        }
        let mut lines: Vec<(String, Option<String>)> =
            block.text.lines().map(|line| (line.trim().to_owned(), None)).collect();
        let next = &blocks[at + 1];
        if let Some(last) = lines.last_mut().filter(|_| next.language == "text" && next.before.trim().is_empty()) {
            last.1 = Some(next.text.clone());
        }
        found.extend(lines);
    }
    found
}

/// Returns a line of output with every number replaced by 0, since numbers differ each time.
fn form(line: &str) -> String {
    let mut out = String::new();
    for c in line.trim().chars() {
        let c = if c.is_ascii_digit() { '0' } else { c };
        if !(c == '0' && out.ends_with('0')) {
            out.push(c);
        }
    }
    out
}

/// Checks that shown and real output have lines of the same forms. For `check` only the kinds of lines are compared, since the shown
/// findings come from other servers.
#[track_caller]
fn same_form(command: &str, shown: &str, output_text: &str) {
    let forms = |text: &str| -> BTreeSet<String> {
        let kind = |line: &str| match line.split_whitespace().next() {
            Some(kind @ ("FAULT" | "warning" | "remark")) => kind.to_owned(),
            _ => form(line).replace("faults", "fault").replace("warnings", "warning").replace("remarks", "remark"),
        };
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        if command.contains(" check ") { lines.map(kind).collect() } else { lines.map(form).collect() }
    };
    let (shown, mut output_text) = (forms(shown), forms(output_text));
    if command.contains(" check ") {
        let end = |clear: &str, told: &str| {
            output_text.contains(&format!("0 fault, 0 warning, 0 remark: {clear}")) && shown.contains(told)
        };
        assert!(
            end("nothing is in the way of a run.", "0 fault, 0 warning, 0 remark: a run would fail."),
            "{command}: {shown:?}, but {output_text:?}"
        );
        return;
    }
    // Documents do not show log lines.
    output_text.retain(|line| !line.starts_with("0-0-0T0"));
    assert_eq!(shown, output_text, "{command}");
}

#[apply(both)]
fn commands_in_the_documents_give_the_output_that_is_shown(#[case] release: Release) {
    let account = User::new("backup", "b4ckup");
    let scene = scene!(own LabSpec { users: vec![account], ..LabSpec::of(release, 6) });
    for (name, shards) in [("old", [&[0][..], &[1]]), ("new", [&[3], &[4]])] {
        scene.lab().define_cluster(&scene.lab().cluster(name, &shards)).unwrap();
    }
    let columns = "(EventDate Date, CounterID UInt32, UserID UInt64, URL String)";
    let engine = "MergeTree PARTITION BY toYYYYMM(EventDate) ORDER BY (CounterID, EventDate)";
    scene.on(&[0, 1], "CREATE DATABASE web");
    scene.on(&[0, 1], &format!("CREATE TABLE web.hits {columns} ENGINE = {engine}"));
    scene.on(&[0], "CREATE TABLE web.hits_all AS web.hits ENGINE = Distributed(old, web, hits, intHash64(UserID))");
    let bin = scene.dir().join("bin");
    fs::create_dir(&bin).unwrap();
    for (name, program) in [
        ("clickhouse-copier", PathBuf::from(env!("CARGO_BIN_EXE_clickhouse-copier"))),
        ("restore-drill.sh", file("examples/restore-drill.sh")),
    ] {
        std::os::unix::fs::symlink(program, bin.join(name)).unwrap();
    }
    let dir = scene.dir().to_path_buf();
    let mut reader = Reader { scene, dir };
    reader.fill(0..2);

    let mut pages: Vec<String> = fs::read_dir(file("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().display()))
        .collect();
    pages.retain(|page| page.ends_with(".md"));
    pages.push(README.to_owned());
    // The order matters: some pages need what others leave on the servers. Pages that are not listed show no commands of the program.
    let mut steps = [
        (README, readme()),
        (TUTORIAL, tutorial()),
        (OPERATIONS, operations()),
        (COMMANDS, commands_page()),
        (REPORTS, reports()),
        (MIGRATION, vec![version()]),
        (BACKUP, backup()),
        (RESHARD, reshard()),
    ]
    .into_iter()
    .map(|(page, steps)| (page.to_owned(), steps))
    .collect::<Vec<_>>();
    pages.retain(|page| !steps.iter().any(|(known, _)| known == page));
    steps.extend(pages.into_iter().map(|page| (page, Vec::new())));
    for (page, steps) in steps {
        let shown = commands(&reader.text(&page));
        for (command, _) in &shown {
            let known =
                steps.iter().any(|step| step.command == command) || NOT_RUN.iter().any(|(not, _)| not == command);
            assert!(known, "{page}: nobody runs {command}");
        }
        reader.dir = reader.scene.dir().join(page.replace('/', "-"));
        fs::create_dir(&reader.dir).unwrap();
        for step in steps {
            let of_page = shown.iter().filter(|(command, _)| command == step.command);
            let outputs: Vec<&String> = of_page.clone().filter_map(|(_, output)| output.as_ref()).collect();
            assert!(of_page.count() > 0, "{page} does not show {}", step.command);
            (step.before)(&reader);
            let output_text = reader.sh(step.command).with(step.code, step.says);
            outputs.into_iter().for_each(|output| same_form(step.command, output, &output_text));
        }
    }
}
