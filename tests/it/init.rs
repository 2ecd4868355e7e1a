//! `init` and `reverse` write task files from live servers; these copy there and back.

use std::path::Path;
use std::process::{Command, Output};

use lab::{LabSpec, Release};
use rstest_reuse::apply;
use serde_json::Value;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, Digest, Scene, fill, rows, scene};

/// The program in the scene's folder, with this password in its environment.
fn copier(scene: &Scene, arguments: &[&str], password: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clickhouse-copier"))
        .args(arguments)
        .env("COPIER_TEST_PASSWORD", password)
        .current_dir(scene.dir())
        .output()
        .unwrap()
}

#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let text_of_run = [&output.stdout[..], &output.stderr[..]].concat();
    let text_of_run = String::from_utf8(text_of_run).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text_of_run}");
    assert!(!text_of_run.contains("panicked"), "{text_of_run}");
    text_of_run
}

/// Checks a file and runs it at a path of its own.
#[track_caller]
fn check_and_run(scene: &Scene, file: &str, path: &str) {
    let text_of_run = ended(&copier(scene, &["check", "--task-file", file], ""), 0);
    assert!(text_of_run.contains("0 faults, 0 warnings"), "{text_of_run}\n{}", text(scene, file));
    let keeper = scene.keeper_xml();
    let path = format!("{}/{path}", scene.task_path());
    let config = keeper.to_str().unwrap();
    ended(
        &copier(scene, &["--config", config, "--task-path", &path, "--task-file", file, "--base-dir", "logs"], ""),
        0,
    );
}

fn text(scene: &Scene, file: &str) -> String {
    std::fs::read_to_string(Path::new(scene.dir()).join(file)).unwrap()
}

fn digest(scene: &Scene, servers: &[usize], table: &str) -> Digest {
    scene.digest(servers, "cityHash64(d, id, s, v)", table)
}

#[apply(both)]
fn init_and_reverse_write_task_files_that_copy_there_and_back(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 5));
    let (src, dst, back) = (scene.src.clone(), scene.dst.clone(), scene.database("back"));
    let (one, three) = (scene.server(0).host(), scene.server(2).host());
    for (name, shards) in [("old", [&[0][..], &[1]]), ("new", [&[2], &[3]])] {
        scene.lab().define_cluster(&scene.lab().cluster(name, &shards)).unwrap();
    }
    fill(&scene, &[0, 1], BY_MONTH, 3000, 3);
    let replicated =
        "ENGINE = ReplicatedMergeTree('/events/{shard}', '{replica}') PARTITION BY toMonday(d) ORDER BY (d, s)";
    for (number, server) in [(0, 0), (1, 1)] {
        scene.ask(server, &format!("CREATE TABLE {src}.events {COLUMNS} {replicated}"));
        scene.ask(server, &format!("INSERT INTO {src}.events {}", rows(number * 500, 500, 1)));
    }
    scene.ask(
        0,
        &format!("CREATE TABLE {src}.all_hits {COLUMNS} ENGINE = Distributed(old, {src}, hits, intHash32(id))"),
    );
    let wanted = ["hits", "events"].map(|table| digest(&scene, &[0, 1], &format!("{src}.{table}")));

    let tables = ["hits", "events"].map(|table| format!("{src}.{table}"));
    let init = ["init", "--from", one, "--to", three, "--table", &tables[0], "--table", &tables[1], "--database", &dst];
    let written = [&init[..], &["--output", "task.xml"]].concat();
    assert!(ended(&copier(&scene, &written, ""), 0).contains("check --task-file"));
    let task = text(&scene, "task.xml");
    for words in [
        "one cluster that fits: old",
        "one cluster that fits: new",
        "<engine>MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)",
        "<engine>ReplicatedMergeTree PARTITION BY toMonday(d) ORDER BY (d, s)",
        "all_hits",
        "<sharding_key>intHash32(id)</sharding_key>",
        "<sharding_key>cityHash64(`s`)</sharding_key>",
        "the first column of the sorting key",
    ] {
        assert!(task.contains(words), "no {words:?} in\n{task}");
    }
    // The JSON has the same XML as the file.
    let json: Value =
        serde_json::from_str(&ended(&copier(&scene, &[&init[..], &["--format=json"]].concat(), ""), 0)).unwrap();
    assert_eq!((json["written"].as_str(), json["xml"].as_str()), (None, Some(task.as_str())));
    assert_eq!(json["clusters"][1]["shards"][0]["replicas"][0], format!("{}:9000", scene.server(2).host()), "{json}");
    assert_eq!(json["tables"][0]["sharding_key"], "intHash32(id)");
    assert_eq!(json["tables"][1]["target"]["database"], dst);
    assert!(json["tables"][0]["remarks"].to_string().contains("all_hits"), "{json}");
    // Nothing is overwritten.
    assert!(ended(&copier(&scene, &written, ""), 2).contains("not overwritten"));
    assert_eq!(text(&scene, "task.xml"), task);

    check_and_run(&scene, "task.xml", "there");
    for (table, wanted) in ["hits", "events"].iter().zip(&wanted) {
        assert_eq!(digest(&scene, &[2, 3], &format!("{dst}.{table}")), *wanted, "{table}");
    }
    assert!(
        scene.ask(2, &format!("SELECT engine FROM system.tables WHERE database = '{dst}' AND name = 'events'"))
            == "ReplicatedMergeTree"
    );

    // The sharding key of `events` is not known for two shards.
    let text_of_run = ended(&copier(&scene, &["reverse", "--task-file", "task.xml", "--database", &back], ""), 2);
    assert!(
        text_of_run.contains("tables/events")
            && text_of_run.contains("--sharding-key")
            && !text_of_run.contains("tables/hits"),
        "{text_of_run}"
    );
    let drill = ["--database", &back, "--sharding-key", "intHash64(id)", "--output", "drill.xml", "--format=json"];
    let json = ended(&copier(&scene, &[&["reverse", "--task-file", "task.xml"], &drill[..]].concat(), ""), 0);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["written"].as_str().unwrap().ends_with("drill.xml") && json["xml"].is_null(), "{json}");
    assert_eq!(json["tables"][1]["sharding_key"], "intHash64(id)", "{json}");
    check_and_run(&scene, "drill.xml", "drill");
    for (table, wanted) in ["hits", "events"].iter().zip(&wanted) {
        assert_eq!(digest(&scene, &[0, 1], &format!("{back}.{table}")), *wanted, "{table}");
    }

    // The way back to the original tables is refused while they exist. Then they are dropped, and restored.
    scene.on(
        &[0, 1],
        &format!("CREATE TABLE {src}.all_events {COLUMNS} ENGINE = Distributed(old, {src}, events, cityHash64(s))"),
    );
    let keeper = scene.keeper_xml();
    let path = format!("{}/there", scene.task_path());
    let stored = ["reverse", "--config", keeper.to_str().unwrap(), "--task-path", &path];
    ended(&copier(&scene, &[&stored[..], &["--output", "back.xml"]].concat(), ""), 0);
    let text_of_run = ended(&copier(&scene, &["check", "--task-file", "back.xml"], ""), 1);
    assert!(text_of_run.contains("holds rows already"), "{text_of_run}");
    for table in ["hits", "events"] {
        scene.on(&[0, 1], &format!("DROP TABLE {src}.{table}"));
    }
    ended(&copier(&scene, &[&stored[..], &["--output", "lost.xml"]].concat(), ""), 0);
    let lost = text(&scene, "lost.xml");
    assert!(lost.contains("<sharding_key>intHash32(id)<") && lost.contains("<sharding_key>cityHash64(s)<"), "{lost}");
    check_and_run(&scene, "lost.xml", "lost");
    for (table, wanted) in ["hits", "events"].iter().zip(&wanted) {
        assert_eq!(digest(&scene, &[0, 1], &format!("{src}.{table}")), *wanted, "{table}");
    }
    // The rows are on the shards where the Distributed table expects them.
    assert_eq!(scene.sum(&[0], &format!("SELECT count() FROM {src}.hits WHERE toUInt32(intHash32(id)) % 2 != 0")), 0);

    // To another single server, which needs no sharding key.
    let spare = scene.server(4).host();
    ended(&copier(&scene, &[&stored[..], &["--to", spare, "--output", "spare.xml"]].concat(), ""), 0);
    check_and_run(&scene, "spare.xml", "spare");
    assert_eq!(digest(&scene, &[4], &format!("{src}.events")), wanted[1]);
}

#[apply(both)]
fn init_writes_the_variable_of_a_password_and_never_the_password(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 100, 1);
    let (one, two, table) = (scene.server(0).host(), scene.server(1).host(), format!("{}.hits", scene.src));
    let account = ["--from-user", "tester", "--from-password-env", "COPIER_TEST_PASSWORD"];
    let init =
        [&["init", "--from", one, "--to", two, "--table", &table, "--database", &scene.dst], &account[..]].concat();
    let output = copier(&scene, &init, lab::ODD_PASSWORD);
    let task = ended(&output, 0);
    assert!(
        task.contains("<user>tester</user>") && task.contains("<password from_env=\"COPIER_TEST_PASSWORD\"/>"),
        "{task}"
    );
    assert!(!task.contains(lab::ODD_PASSWORD) && !task.contains("ss\\w%&amp;"), "{task}");
    std::fs::write(scene.dir().join("task.xml"), &output.stdout).unwrap();
    ended(&copier(&scene, &["check", "--task-file", "task.xml"], lab::ODD_PASSWORD), 0);
    // `reverse` does not write the password either.
    scene.on(&[1], &format!("CREATE DATABASE {}", scene.dst));
    scene.ask(1, &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.dst));
    let back = ended(&copier(&scene, &["reverse", "--task-file", "task.xml"], lab::ODD_PASSWORD), 0);
    assert!(back.contains("<password from_env=\"COPIER_TEST_PASSWORD\"/>") && !back.contains("ss\\w%&amp;"), "{back}");
    let wrong = ended(&copier(&scene, &init, "sesame-open"), 1);
    assert!(wrong.contains(one) && wrong.contains("password") && !wrong.contains("sesame-open"), "{wrong}");
}

#[apply(both)]
fn init_reports_missing_tables_and_clusters_and_unreachable_servers(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 100, 1);
    let (one, two, table) = (scene.server(0).host(), scene.server(1).host(), format!("{}.hits", scene.src));
    let nobody = scene.unused_host(150);
    let missing = format!("{}.misses", scene.src);
    for (more, code, words) in [
        (&["--from", one, "--to", two, "--table", &missing][..], 1, &["there is no table", "misses", one][..]),
        (&["--from", &nobody, "--to", two, "--table", &table], 1, &[&nobody, "no answer"]),
        (&["--from", one, "--to", &nobody, "--table", &table], 1, &[&nobody, "no answer"]),
        (&["--from", one, "--to", two, "--table", &table, "--to-cluster", "nowhere"], 2, &["no cluster nowhere", two]),
        (&["--from", one, "--to", two, "--table", &table, "--to-password-env", "NOT_SET_HERE"], 2, &["NOT_SET_HERE"]),
        // The same table on the same server.
        (&["--from", one, "--to", one, "--table", &table], 2, &["hits", one]),
    ] {
        let text_of_run = ended(&copier(&scene, &[&["init"], more].concat(), ""), code);
        for word in words {
            assert!(text_of_run.contains(word), "{more:?}: no {word:?}: {text_of_run}");
        }
        assert!(!text_of_run.contains("<clickhouse>"), "{more:?}: {text_of_run}");
    }
}
