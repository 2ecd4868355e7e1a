//! Settings that change what our statements return, store or create, with the values that we need.
//!
//! An account's profile may change any of them. The client compares the current values with this list, and sets the
//! settings that differ for every statement. If the account may not set one, the survey refuses the copy and names
//! the setting. Almost every server has the needed values, so almost no statement contains one of these settings.
//!
//! The list was made by reading all settings of 18.16 (184), 25.8 (1,368) and 26.9 (1,857). These were left out on
//! purpose:
//! - Limits that throw (`max_rows_to_read`, `max_memory_usage`, …): an administrator wants them, and nothing is lost
//!   silently.
//! - `apply_mutations_on_fly`: rows are copied as a SELECT of the account shows them, and `check` reports unfinished
//!   mutations.
//! - `select_sequential_consistency`, `max_replica_delay_for_distributed_queries`: they make a statement fail or
//!   wait.
//! - `insert_deduplicate`, `deduplicate_insert`, `optimize_on_insert`, `max_partitions_per_insert_block`,
//!   `alter_sync`, `flatten_nested`, `insert_null_as_default`, `allow_suspicious_…`: they are sent with every
//!   statement that they matter for, whatever the current values are.
//! - Optimisations that are on by default (`optimize_…`, `query_plan_…`, `use_skip_indexes`): they keep results
//!   unchanged, or a change is a bug of the server.
//! - Settings of formats that we neither send nor request (CSV, Parquet, …), of table functions other than `remote`,
//!   of joins.

use std::collections::BTreeMap;

/// From this release on, a server skips unknown settings in statements of other servers (19.18;
/// docs/clickhouse-behaviour.md, §1).
pub(crate) const SKIPS_UNKNOWN_SETTINGS: (u32, u32) = (20, 1);

/// The statements that a setting matters for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matters {
    /// All reads, on sources and on targets.
    Everywhere,
    /// Writes and new tables, on targets.
    Writing,
    /// Another value only stops correct statements with an error. The setting is set if allowed, and no copy is
    /// refused for it.
    Passing,
}

/// A setting with the values that we need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequiredSetting {
    /// The setting's name.
    pub(crate) name: &'static str,
    /// The correct values. The first one is set if the current value is none of them.
    pub(crate) values: &'static [&'static str],
    /// Where it matters.
    pub(crate) matters: Matters,
    /// The effect of another value, as the end of a sentence.
    pub(crate) reason: &'static str,
}

/// Restrictions on a setting for an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SettingRule {
    /// Whether it may not be changed at all.
    pub(crate) readonly: bool,
    /// The least value, if there is one.
    pub(crate) min: Option<String>,
    /// The largest value, if there is one.
    pub(crate) max: Option<String>,
    /// Values that it may not have.
    pub(crate) disallowed: Vec<String>,
}

impl SettingRule {
    fn allows(&self, value: &str) -> bool {
        let number = |text: &str| text.parse::<f64>().ok();
        let outside = |limit: &Option<String>, is_outside: fn(f64, f64) -> bool| {
            let limit = limit.as_deref().and_then(number);
            limit.zip(number(value)).is_some_and(|(limit, value)| is_outside(value, limit))
        };
        !self.readonly
            && !self.disallowed.iter().any(|other| other == value)
            && !outside(&self.min, |value, min| value < min)
            && !outside(&self.max, |value, max| value > max)
    }
}

/// A required setting whose current value is not one that we need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Correction {
    /// The setting.
    pub(crate) name: &'static str,
    /// The current value.
    pub(crate) found: String,
    /// The value that we need.
    pub(crate) needed: &'static str,
    /// Where it matters.
    pub(crate) matters: Matters,
    /// The effect of the current value.
    pub(crate) reason: &'static str,
    /// Whether our account may set it.
    pub(crate) allowed: bool,
}

/// Compares the current values with those that we need. Settings that the server does not know are skipped.
pub(crate) fn corrections(values: &BTreeMap<String, String>, rules: &BTreeMap<String, SettingRule>) -> Vec<Correction> {
    let sets_nothing = values.get("readonly").is_some_and(|value| value == "1");
    let differing = |setting: &RequiredSetting| {
        let found = values.get(setting.name)?;
        if setting.is_met_by(found) {
            return None;
        }
        let needed = setting.values[0];
        let allowed = !sets_nothing && rules.get(setting.name).is_none_or(|rule| rule.allows(needed));
        let RequiredSetting { name, matters, reason, .. } = *setting;
        Some(Correction { name, found: found.clone(), needed, matters, reason, allowed })
    };
    REQUIRED_SETTINGS.iter().filter_map(differing).collect()
}

/// Returns the required setting of a name.
pub(crate) fn required_setting(name: &str) -> Option<&'static RequiredSetting> {
    REQUIRED_SETTINGS.iter().find(|setting| setting.name == name)
}

impl RequiredSetting {
    /// Returns whether a value is one that we need, however it is written.
    pub(crate) fn is_met_by(&self, value: &str) -> bool {
        let plain = |text: &str| match text.trim().trim_matches('\'').to_ascii_lowercase().as_str() {
            "false" | "0.0" | "0." => "0".to_owned(),
            "true" if !self.values.contains(&"true") => "1".to_owned(),
            other => other.to_owned(),
        };
        self.values.iter().any(|needed| plain(needed) == plain(value))
    }
}

const fn everywhere(name: &'static str, values: &'static [&'static str], reason: &'static str) -> RequiredSetting {
    RequiredSetting { name, values, matters: Matters::Everywhere, reason }
}

const fn writing(name: &'static str, values: &'static [&'static str], reason: &'static str) -> RequiredSetting {
    RequiredSetting { name, values, matters: Matters::Writing, reason }
}

const fn passing(name: &'static str, values: &'static [&'static str], reason: &'static str) -> RequiredSetting {
    RequiredSetting { name, values, matters: Matters::Passing, reason }
}

const OFF: &[&str] = &["0"];
const ON: &[&str] = &["1"];
const EMPTY: &[&str] = &[""];
const THROW: &[&str] = &["throw"];

const CUTS: &str = "a limit would cut a result short without an error";
const REWRITES: &str = "it rewrites the statement, and other rows come back";
const HIDES: &str = "rows would be left out";
const ELSEWHERE: &str = "rows would be read on other servers";
const ANSWER: &str = "answers would come in a form that was not asked for";
const TEXT: &str = "values are compared by their text, which must be the same on all servers";
const VALUES: &str = "functions and conversions would give other values";
const BLOCKS: &str = "blocks of rows would have another form than the receiver expects";
const UNASKED: &str = "statements would be refused that read a whole table";

/// All required settings.
#[rustfmt::skip]
pub(crate) const REQUIRED_SETTINGS: &[RequiredSetting] = &[
    // Results that are cut.
    everywhere("read_overflow_mode", THROW, CUTS),
    everywhere("read_overflow_mode_leaf", THROW, CUTS),
    everywhere("sort_overflow_mode", THROW, CUTS),
    everywhere("group_by_overflow_mode", THROW, CUTS),
    everywhere("distinct_overflow_mode", THROW, CUTS),
    everywhere("join_overflow_mode", THROW, CUTS),
    everywhere("set_overflow_mode", THROW, CUTS),
    everywhere("timeout_overflow_mode", THROW, CUTS),
    everywhere("timeout_overflow_mode_leaf", THROW, CUTS),
    everywhere("result_overflow_mode", THROW, CUTS),
    everywhere("transfer_overflow_mode", THROW, CUTS),
    everywhere("limit", OFF, "each result would be cut after so many rows"),
    everywhere("offset", OFF, "the first rows of each result would be left out"),
    everywhere("partial_result_on_first_cancel", OFF, "a statement that is ended would return a part of its rows without an error"),
    everywhere("skip_unavailable_shards", OFF, "a server that cannot be reached would count as empty"),

    // Statements that are rewritten (26.x).
    everywhere("page", OFF, REWRITES),
    everywhere("filter", EMPTY, REWRITES),
    everywhere("select", EMPTY, REWRITES),
    everywhere("sort", EMPTY, REWRITES),
    everywhere("order", EMPTY, REWRITES),
    everywhere("implicit_table_at_top_level", EMPTY, REWRITES),
    everywhere("dialect", &["clickhouse"], "statements would be read as those of another language"),

    // Rows that are left out, or merged while they are read.
    everywhere("additional_table_filters", &["{}"], HIDES),
    everywhere("additional_result_filter", EMPTY, HIDES),
    everywhere("final", OFF, "rows with equal keys would be merged while they are read"),
    everywhere("apply_deleted_mask", ON, "rows that were deleted would come back"),
    everywhere("apply_patch_parts", ON, "rows would come without the updates that were made to them"),
    everywhere("ignore_cold_parts_seconds", OFF, HIDES),
    everywhere("prefer_warmed_unmerged_parts_seconds", OFF, "parts that were merged away would be read"),
    everywhere("allow_experimental_query_deduplication", OFF, HIDES),
    everywhere("parallel_replicas_count", OFF, "only a sample of the rows would be read"),
    everywhere("parallel_replica_offset", OFF, "only a sample of the rows would be read"),
    everywhere("parallel_replicas_custom_key", EMPTY, ELSEWHERE),
    everywhere("allow_experimental_parallel_reading_from_replicas", OFF, ELSEWHERE),
    everywhere("automatic_parallel_replicas_mode", OFF, ELSEWHERE),
    everywhere("make_distributed_plan", OFF, ELSEWHERE),
    everywhere("use_query_cache", OFF, "counts would be those of an earlier moment"),
    everywhere("optimize_trivial_approximate_count_query", OFF, "counts would be estimates"),
    everywhere("optimize_using_constraints", OFF, "rows that break a constraint of the table would be left out"),
    everywhere("optimize_substitute_columns", OFF, "rows that break a constraint of the table would be left out"),
    everywhere("optimize_append_index", OFF, "rows that break a constraint of the table would be left out"),
    everywhere("checksum_on_read", ON, "damaged data would be copied without an error"),

    // Results of functions and operators.
    everywhere("aggregate_functions_null_for_empty", OFF, "sums and counts would have other types"),
    everywhere("empty_result_for_aggregation_by_empty_set", OFF, "a count of no rows would be no answer"),
    everywhere("group_by_use_nulls", OFF, VALUES),
    everywhere("join_use_nulls", OFF, VALUES),
    everywhere("transform_null_in", OFF, "conditions would choose other rows"),
    everywhere("extremes", OFF, "results would have more rows"),
    everywhere("cast_keep_nullable", OFF, VALUES),
    everywhere("cast_ipv4_ipv6_default_on_conversion_error", OFF, "addresses that cannot be read would become 0 without an error"),
    everywhere("decimal_check_overflow", ON, "decimals that are too large would become others without an error"),
    everywhere("date_time_overflow_behavior", &["ignore", "throw"], VALUES),
    everywhere("type_json_skip_duplicated_paths", OFF, "parts of JSON values would be dropped without an error"),
    everywhere("type_json_skip_invalid_typed_paths", OFF, "parts of JSON values would be dropped without an error"),
    everywhere("prefer_column_name_to_alias", OFF, "conditions would see other values"),
    everywhere("session_timezone", EMPTY, "times would be read and printed in another zone than the server's"),

    // Texts of values: partitions and keys are compared by them.
    everywhere("bool_true_representation", &["true"], TEXT),
    everywhere("bool_false_representation", &["false"], TEXT),
    everywhere("date_time_output_format", &["simple"], TEXT),
    everywhere("date_time_64_output_format_cut_trailing_zeros_align_to_groups_of_thousands", OFF, TEXT),
    everywhere("interval_output_format", &["numeric"], TEXT),
    everywhere("output_format_decimal_trailing_zeros", OFF, TEXT),
    everywhere("output_format_float_precision", OFF, TEXT),
    everywhere("output_format_always_write_decimal_point_in_float_and_decimal", OFF, TEXT),
    everywhere("output_format_trim_fixed_string", OFF, TEXT),

    // Formats of answers and rows.
    everywhere("format", EMPTY, ANSWER),
    everywhere("output_format", EMPTY, ANSWER),
    everywhere("input_format", EMPTY, ANSWER),
    everywhere("framing_output_format", &["None", ""], ANSWER),
    everywhere("compression", EMPTY, ANSWER),
    everywhere("run_query_in_background", OFF, "statements would answer before they are done"),
    everywhere("discard_query_data", OFF, "rows would be thrown away on their way"),
    everywhere("send_progress_in_http_headers", OFF, "an error would come with the status of a success"),
    everywhere("output_format_native_encode_types_in_binary_format", OFF, BLOCKS),
    everywhere("output_format_native_write_json_as_string", OFF, BLOCKS),
    everywhere("output_format_native_use_flattened_dynamic_and_json_serialization", OFF, BLOCKS),
    everywhere("ast_fuzzer_runs", OFF, "the server would run changed copies of our statements"),

    // Stored data.
    writing("input_format_native_decode_types_in_binary_format", OFF, BLOCKS),
    writing("input_format_column_name_matching_mode", &["auto", "match_case"], "values could get into other columns"),
    writing("input_format_connection_handling", OFF, "the rows of a broken connection would be stored"),
    writing("input_format_allow_errors_num", OFF, "rows that cannot be read would be left out"),
    writing("input_format_allow_errors_ratio", OFF, "rows that cannot be read would be left out"),
    writing("http_native_compression_disable_checksumming_on_decompress", OFF, "rows that were damaged on their way would be stored"),
    writing("async_insert", OFF, "rows would be stored later, together with others"),
    writing("insert_deduplication_token", EMPTY, "rows would be taken for a repetition of earlier ones and dropped"),
    writing("insert_shard_id", OFF, "all rows would go to one shard"),
    writing("insert_distributed_one_random_shard", OFF, "rows would go to a shard at random"),

    // Created and removed objects.
    writing("data_type_default_nullable", OFF, "columns of a table that is made would become Nullable"),
    writing("create_if_not_exists", OFF, "a table that exists would be taken for the one that is to be made"),
    writing("ignore_drop_queries_probability", OFF, "tables would not be dropped"),
    writing("distributed_ddl_output_mode", THROW, "errors of other hosts of a Replicated database would not be told"),

    // Settings that only stop statements.
    passing("force_index_by_date", OFF, UNASKED),
    passing("force_primary_key", OFF, UNASKED),
    passing("force_data_skipping_indices", EMPTY, UNASKED),
    passing("force_optimize_projection", OFF, UNASKED),
    passing("force_optimize_projection_name", EMPTY, UNASKED),
    passing("max_result_rows", OFF, "results of many rows would be refused"),
    passing("max_result_bytes", OFF, "results of many bytes would be refused"),
    passing("implicit_transaction", OFF, "statements on partitions would be refused"),
    passing("allow_ddl", ON, "no table could be made"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_settings_with_wrong_values_are_corrected() {
        let values = map(&[
            ("read_overflow_mode", "break"),
            ("final", "1"),
            ("limit", "0"),
            ("extremes", "false"),
            ("date_time_overflow_behavior", "throw"),
            ("max_threads", "3"),
        ]);
        let found = corrections(&values, &BTreeMap::new());
        let rows: Vec<_> = found.iter().map(|one| (one.name, one.found.as_str(), one.needed, one.allowed)).collect();
        assert_eq!(rows, [("read_overflow_mode", "break", "throw", true), ("final", "1", "0", true)]);
    }

    #[test]
    fn a_correction_says_whether_the_account_may_make_it() {
        let rule = |min: Option<&str>, max: Option<&str>, readonly| SettingRule {
            readonly,
            min: min.map(str::to_owned),
            max: max.map(str::to_owned),
            disallowed: Vec::new(),
        };
        let values = map(&[("limit", "7")]);
        for (rule, allowed) in [
            (rule(None, None, false), true),
            (rule(None, None, true), false),
            (rule(Some("1"), None, false), false),
            (rule(Some("0"), Some("9"), false), true),
            (SettingRule { disallowed: vec!["0".into()], ..Default::default() }, false),
        ] {
            let rules = BTreeMap::from([("limit".to_owned(), rule)]);
            assert_eq!(corrections(&values, &rules)[0].allowed, allowed, "{rules:?}");
        }
        let readonly = map(&[("limit", "7"), ("readonly", "1")]);
        assert!(!corrections(&readonly, &BTreeMap::new())[0].allowed);
    }

    #[test]
    fn each_setting_is_listed_once() {
        for (index, setting) in REQUIRED_SETTINGS.iter().enumerate() {
            assert!(REQUIRED_SETTINGS[..index].iter().all(|other| other.name != setting.name), "{}", setting.name);
        }
    }
}
