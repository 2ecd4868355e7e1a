use std::collections::BTreeSet;

use super::*;

fn parsed(text: &str) -> Engine {
    Engine::parse(text).unwrap()
}

#[test]
fn a_ttl_is_read_as_a_condition_on_expired_rows() {
    let expired = |ttl: &str| parsed(&format!("MergeTree ORDER BY a TTL {ttl} SETTINGS x = 1")).expired();
    assert_eq!(expired("d + toIntervalDay(1)"), Some(vec!["toDate(d + toIntervalDay(1)) < today()".into()]));
    assert_eq!(
        expired("d DELETE WHERE n > 5, d + INTERVAL 1 DAY TO DISK 's', d RECOMPRESS CODEC(ZSTD(9))"),
        Some(vec!["toDate(d) < today() AND (n > 5)".into()])
    );
    assert_eq!(expired("d GROUP BY a SET n = sum(n)"), None);
    assert_eq!(parsed("MergeTree ORDER BY a").expired(), Some(Vec::new()));
}

#[test]
fn an_engine_may_end_with_semicolons() {
    let plain = "MergeTree PARTITION BY d ORDER BY (a, ';') SETTINGS storage_policy = ';'";
    for end in [";", " ;\n ", ";; -- the end\n"] {
        assert_eq!(parsed(&format!("{plain}{end}")), parsed(plain), "{end:?}");
    }
    for wrong in ["MergeTree ORDER BY a; SELECT 1", ";", "MergeTree ORDER BY ';"] {
        assert!(Engine::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_value_of_a_setting_is_returned_without_quotes() {
    let engine = parsed("MergeTree ORDER BY a SETTINGS index_granularity = 1024, storage_policy = 'hot'");
    assert_eq!(engine.setting("storage_policy").as_deref(), Some("hot"));
    assert_eq!(engine.setting("index_granularity").as_deref(), Some("1024"));
    assert_eq!(engine.setting("disk"), None);
}

#[test]
fn an_engine_of_the_new_syntax_is_parsed_and_printed() {
    let engine = parsed(
        "ENGINE=ReplicatedReplacingMergeTree('/t/{shard}/x', '{replica}', v)\n PARTITION BY (toYYYYMM(d), s)
         ORDER BY (a, intHash32(a)) TTL d + INTERVAL 1 DAY SETTINGS index_granularity = 1024, merge_with_ttl_timeout=1",
    );
    assert_eq!(engine.replica_arguments(), Some(("'/t/{shard}/x'", "'{replica}'")));
    assert_eq!(engine.partition_key().as_deref(), Some("(toYYYYMM(d), s)"));
    assert!(engine.merges_rows() && engine.is_replicated() && !engine.is_old_syntax());
    assert_eq!(
        engine.staging().to_string(),
        "MergeTree PARTITION BY (toYYYYMM(d), s) ORDER BY (a, intHash32(a)) SETTINGS index_granularity = 1024, \
         max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1, \
         parts_to_delay_insert = 1000000, parts_to_throw_insert = 1000000"
    );
}

#[test]
fn a_staging_engine_of_the_old_syntax_keeps_only_the_keys() {
    let engine = parsed("ReplicatedSummingMergeTree('/p', 'r', d, intHash32(u), (a, intHash32(u)), 8192, (x, y))");
    assert!(engine.is_old_syntax());
    assert_eq!(engine.partition_key().as_deref(), Some("toYYYYMM(d)"));
    assert_eq!(engine.staging().to_string(), "MergeTree(d, intHash32(u), (a, intHash32(u)), 8192)");
}

#[test]
fn settings_that_a_server_does_not_know_are_left_out_and_named() {
    let known = BTreeSet::from(["index_granularity".to_owned()]);
    for (engine, fitting, left_out) in [
        (
            "MergeTree ORDER BY a SETTINGS storage_policy = 'a,b', index_granularity = 1024, ttl_only_drop_parts=1",
            "MergeTree ORDER BY a SETTINGS index_granularity = 1024",
            &["storage_policy", "ttl_only_drop_parts"][..],
        ),
        ("MergeTree ORDER BY a SETTINGS ttl_only_drop_parts = 1", "MergeTree ORDER BY a", &["ttl_only_drop_parts"]),
        ("MergeTree ORDER BY a", "MergeTree ORDER BY a", &[]),
    ] {
        let (found, unknown) = parsed(engine).with_settings_among(&known);
        assert_eq!(
            (found.to_string().as_str(), unknown),
            (fitting, left_out.iter().map(|s| (*s).to_owned()).collect())
        );
    }
}

#[test]
fn engines_without_parentheses_or_clauses_are_parsed() {
    assert_eq!(parsed("Memory").to_string(), "Memory");
    assert_eq!(parsed("`Null`").to_string(), "Null");
    assert_eq!(parsed("MergeTree ORDER BY tuple()").clause(Clause::OrderBy), Some("tuple()"));
    assert_eq!(parsed("MergeTree() ORDER BY a").arguments, Some(vec![]));
    let named = parsed("MergeTree PARTITION BY ttl ORDER BY comment SETTINGS index_granularity = 8192");
    assert_eq!((named.clause(Clause::OrderBy), named.clause(Clause::Comment)), (Some("comment"), None));
    assert_eq!((named.clause(Clause::PartitionBy), named.clause(Clause::Ttl)), (Some("ttl"), None));
}

#[test]
fn an_error_says_why_a_text_is_not_an_engine() {
    for (text, why) in [
        ("", "it does not start with the name of an engine"),
        ("('a')", "it does not start with the name of an engine"),
        ("`a` b`", "a quote ` is not closed"),
        ("`a b`", "it does not start with the name of an engine"),
        ("MergeTree(", "a bracket ( is not closed"),
        ("MergeTree ORDER BY", "ORDER BY is empty"),
        ("MergeTree ORDER BY a ORDER BY b", "ORDER BY is there twice"),
        (
            "MergeTree rand()",
            "\"rand\" is not a clause of an engine (PARTITION BY, PRIMARY KEY, ORDER BY, SAMPLE BY, TTL, SETTINGS)",
        ),
    ] {
        assert_eq!(Engine::parse(text).unwrap_err().to_string(), why, "{text}");
    }
}
