//! Profiles with settings that change results, stored values or created tables: the copier sets the values that it needs, or refuses
//! the task and names the setting.

use lab::{LabSpec, Release, User};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{FEW_TRIES, Scene, Task, scene};

const ROWS: u64 = 30_000;

/// Settings that would each make a copy wrong. The second list is for modern releases only.
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
/// Limits that silently truncate a result.
const CUTTING: &[(&str, &str)] =
    &[("max_rows_to_read", "20000"), ("read_overflow_mode", "break"), ("max_block_size", "1000"), ("max_threads", "1")];

fn user(name: &str, settings: &[&[(&str, &str)]]) -> User {
    let pairs = settings.iter().flat_map(|list| list.iter());
    let settings = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    User { settings, ..User::new(name, "") }
}

/// A laboratory with accounts of three profiles.
fn with_profiles(release: Release) -> LabSpec {
    let modern: &[(&str, &str)] = if release.is_modern() { SPOILING_MODERN } else { &[] };
    let users = vec![
        user("odd", &[SPOILING, modern]),
        user("cut", &[CUTTING]),
        user("fixed", &[CUTTING, &[("readonly", "1")]]),
    ];
    LabSpec { users, ..LabSpec::of(release, 2) }
}

/// Creates a table `spoilt.hits` whose equal rows would be removed by merges.
fn fill(scene: &Scene) {
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
}

fn task(scene: &Scene, name: &str, transfer: &str, source: &str, target: &str) -> Task {
    let table = scene.table("hits").from("spoilt", "hits").to(&scene.database(name), "hits");
    let engine = "MergeTree PARTITION BY (k, toYYYYMMDD(t)) ORDER BY id";
    let mut task = scene.task(&[&[0]], &[&[1]]).at(name).with(table.engine(engine).with("transfer", transfer));
    task.source_account = Some((source.to_owned(), String::new()));
    task.target_account = Some((target.to_owned(), String::new()));
    task
}

/// The account may be on either side, with any transfer.
#[apply(both)]
fn profile_settings_that_change_results_are_overridden(#[case] release: Release) {
    let scene = scene!(own with_profiles(release));
    fill(&scene);
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
fn profile_limits_that_truncate_results_are_errors(#[case] release: Release) {
    let scene = scene!(own with_profiles(release));
    fill(&scene);
    for transfer in ["push", "relay"] {
        let ended = scene.launch(&task(&scene, transfer, transfer, "cut", "default")).args(&FEW_TRIES).run();
        assert!([1, 2, 3].contains(&ended.status.code().unwrap()), "{transfer}: {}", ended.stderr);
        ended.tells(&["Limit for rows"]);
    }
    let mut accounts = vec![("fixed", "read_overflow_mode = break", "read_overflow_mode = throw")];
    // 18.16 has no constraints.
    if release.is_modern() {
        scene.on(&[0], "CREATE USER held SETTINGS limit = 7 READONLY");
        scene.on(&[0], "GRANT CURRENT GRANTS ON *.* TO held");
        // 25.8 does not report the value of a limit.
        accounts.push(("held", "limit = set", "limit = 0"));
    }
    for (account, has, needs) in accounts {
        let refused = task(&scene, account, "auto", account, "default");
        let line = format!("the profile of account {account} has {has}, which the account may not change");
        scene.launch(&refused).verb("check").run().with(1).reports(&[&line, needs]);
        scene.run(&refused).with(1).tells(&[&line, needs]);
        assert!(!scene.has_database(1, &scene.database(account)));
    }
}

#[apply(both)]
fn task_settings_that_change_results_are_refused(#[case] release: Release) {
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
