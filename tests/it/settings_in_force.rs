//! Profiles whose settings change what a statement returns, stores or makes: the copy sets what it needs, or is refused by the name of
//! the setting.

use lab::{LabSpec, Release, User};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Scene, Task, scene};

const ROWS: u64 = 30_000;

/// Settings that would each spoil a copy, by the releases that know them.
const SPOILING: &[(&str, &str)] = &[("extremes", "1"), ("max_result_rows", "7"), ("result_overflow_mode", "break")];
const SPOILING_MODERN: &[(&str, &str)] = &[
    ("limit", "3"),
    ("offset", "1"),
    ("final", "1"),
    ("additional_table_filters", "{'spoilt.hits': 'id % 2 = 0'}"),
    ("aggregate_functions_null_for_empty", "1"),
    ("join_use_nulls", "1"),
    ("transform_null_in", "1"),
    ("data_type_default_nullable", "1"),
    ("cast_keep_nullable", "1"),
    ("use_query_cache", "1"),
    ("session_timezone", "Asia/Tokyo"),
    ("async_insert", "1"),
    ("insert_deduplication_token", "always the same"),
    ("output_format_native_encode_types_in_binary_format", "1"),
    ("bool_true_representation", "yes"),
    ("force_primary_key", "1"),
    ("create_if_not_exists", "1"),
];
/// A limit that cuts off.
const CUTTING: &[(&str, &str)] =
    &[("max_rows_to_read", "20000"), ("read_overflow_mode", "break"), ("max_block_size", "1000"), ("max_threads", "1")];

fn user(name: &str, settings: &[&[(&str, &str)]]) -> User {
    let pairs = settings.iter().flat_map(|list| list.iter());
    let settings = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    User { settings, ..User::new(name, "") }
}

/// A laboratory with accounts of three profiles, and a table `spoilt.hits` whose equal rows merges would remove.
fn spoilt(here: &str, release: Release) -> Scene {
    let modern: &[(&str, &str)] = if release.is_modern() { SPOILING_MODERN } else { &[] };
    let users = vec![
        user("odd", &[SPOILING, modern]),
        user("cut", &[CUTTING]),
        user("fixed", &[CUTTING, &[("readonly", "1")]]),
    ];
    let scene = Scene::own(here, LabSpec { users, ..LabSpec::of(release, 2) });
    scene.on(&[0], "CREATE DATABASE spoilt");
    scene.on(
        &[0],
        "CREATE TABLE spoilt.hits (id UInt64, k UInt8, t DateTime, s String) \
         ENGINE = ReplacingMergeTree PARTITION BY (k, toYYYYMMDD(t)) ORDER BY id",
    );
    let insert = format!(
        "INSERT INTO spoilt.hits SELECT number, number % 3, toDateTime('2024-01-01 20:00:00') + number % 3 * 7200, 'x' \
         FROM system.numbers LIMIT {ROWS}"
    );
    scene.on(&[0], "SYSTEM STOP MERGES");
    scene.on(&[0], &insert);
    scene.on(&[0], "INSERT INTO spoilt.hits SELECT id, k, t, 'y' FROM spoilt.hits WHERE id < 100");
    scene
}

fn task(scene: &Scene, name: &str, transfer: &str, source: &str, target: &str) -> Task {
    let table = scene.table("hits").from("spoilt", "hits").to(&scene.database(name), "hits");
    let engine = "MergeTree PARTITION BY (k, toYYYYMMDD(t)) ORDER BY id";
    let mut task = scene.task(&[&[0]], &[&[1]]).at(name).with(table.engine(engine).with("transfer", transfer));
    task.source_account = Some((source.to_owned(), String::new()));
    task.target_account = Some((target.to_owned(), String::new()));
    task
}

/// Whichever side has the account, and whoever carries the rows.
#[apply(both)]
fn what_a_profile_changes_is_set_back_for_our_statements(#[case] release: Release) {
    fn here() {}
    let scene = spoilt(std::any::type_name_of_val(&here), release);
    for (name, transfer, source, target) in [
        ("pushed", "push", "odd", "default"),
        ("pushed_into", "push", "default", "odd"),
        ("pulled", "pull", "odd", "default"),
        ("relayed", "relay", "odd", "odd"),
    ] {
        if name == "pulled" && !release.is_modern() {
            // 18.16 does not hand settings on to the server that it reads from.
            scene.run(&task(&scene, name, transfer, source, target)).with(1).tells(&["pull does not work", "must set"]);
            continue;
        }
        scene.run(&task(&scene, name, transfer, source, target)).with(0).reports(&["equal"]);
        let arrived = format!("SELECT count(), sum(s = 'y'), uniqExact(k, t) FROM {}.hits", scene.database(name));
        assert_eq!(scene.ask(1, &arrived), format!("{}\t100\t3", ROWS + 100), "{name}");
        let types = format!("SELECT groupArray(type) FROM system.columns WHERE database = '{}'", scene.database(name));
        assert_eq!(scene.ask(1, &types), "['UInt64','UInt8','DateTime','String']", "{name}");
        scene.launch(&task(&scene, name, transfer, source, target)).verb("verify").run().with(0);
    }
}

#[apply(both)]
fn a_limit_that_cuts_off_is_an_error_and_one_that_cannot_be_set_is_refused_by_name(#[case] release: Release) {
    fn here() {}
    let scene = spoilt(std::any::type_name_of_val(&here), release);
    let few = ["--max-table-tries=1", "--max-shard-partition-tries=2", "--retry-delay-ms=1"];
    for transfer in ["push", "relay"] {
        let ended = scene.launch(&task(&scene, transfer, transfer, "cut", "default")).args(&few).run();
        assert!([1, 2, 3].contains(&ended.status.code().unwrap()), "{transfer}: {}", ended.stderr);
        ended.tells(&["Limit for rows"]);
    }
    let mut accounts = vec![("fixed", "read_overflow_mode = break", "read_overflow_mode = throw")];
    // 18.16 has no constraints.
    if release.is_modern() {
        scene.on(&[0], "CREATE USER held SETTINGS limit = 7 READONLY");
        scene.on(&[0], "GRANT CURRENT GRANTS ON *.* TO held");
        // 25.8 does not tell what the value of a limit is.
        accounts.push(("held", "limit = set", "limit = 0"));
    }
    for (account, has, needs) in accounts {
        let refused = task(&scene, account, "auto", account, "default");
        let line = format!("the profile of account {account} has {has}, which the account may not change");
        scene.launch(&refused).verb("check").run().with(1).reports(&[&line, needs]);
        scene.run(&refused).with(1).tells(&[&line, needs]);
        let made = format!("SELECT count() FROM system.databases WHERE name = '{}'", scene.database(account));
        assert_eq!(scene.ask(1, &made), "0");
    }
}

#[apply(both)]
fn a_task_that_would_change_results_is_wrong(#[case] release: Release) {
    let scene = scene!(release);
    scene.on(&[0], &format!("CREATE TABLE {}.hits (id UInt64) ENGINE = MergeTree ORDER BY id", scene.src));
    for (settings, words) in [
        (
            "<settings><read_overflow_mode>break</read_overflow_mode></settings>",
            "settings/read_overflow_mode: it is break",
        ),
        ("<settings_pull><limit>10</limit></settings_pull>", "settings_pull/limit: it is 10"),
        ("<settings_push><final>1</final></settings_push>", "settings_push/final: it is 1"),
    ] {
        let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits")).more(settings);
        scene.run(&task).with(2).tells(&[words, "Leave it out"]);
    }
}
