//! The settings that our statements want, and which of them a server gets. Settings of the task override ours. Pure.

use std::collections::BTreeMap;

use crate::client::{ServerFacts, Settings};
use crate::model::{lay_over, setting_names};
use crate::task::Task;

/// Settings for the statements of a transfer. The connections of the original failed on links slower than 50 ms. Blocks may hold any
/// number of partitions. Rows for staging are not merged during the INSERT (docs/clickhouse-behaviour.md, §2).
pub(crate) const TRANSFER_DEFAULTS: &[(&str, &str)] = &[
    ("connect_timeout_with_failover_ms", "5000"),
    ("connect_timeout_with_failover_secure_ms", "5000"),
    ("max_partitions_per_insert_block", "0"),
    ("throw_on_max_partitions_per_insert_block", "0"),
    ("optimize_on_insert", "0"),
    ("parallel_distributed_insert_select", "0"),
    ("max_execution_time", "0"),
    // A NULL for a column that is not Nullable is an error, not a default value.
    ("insert_null_as_default", "0"),
];

/// Settings for the statements of a relay. Its servers wait for each other through the worker, and the rows must be stored when the
/// server answers.
pub(crate) const RELAY_DEFAULTS: &[(&str, &str)] = &[
    ("http_send_timeout", "3600"),
    ("http_receive_timeout", "3600"),
    ("async_insert", "0"),
    ("insert_deduplicate", "0"),
    ("input_format_null_as_default", "0"),
    ("input_format_skip_unknown_fields", "0"),
    // One thread reads rows in the order of the key, so that the target need not sort them again; pieces run in parallel.
    ("max_threads", "1"),
];

/// Settings for statements on a target node. Equal rows are separate rows: the server must not deduplicate our inserts
/// (docs/clickhouse-behaviour.md, T1). Large partitions may be moved and dropped, and a dropped table is gone at once. REPLACE waits for
/// this replica only; the worker checks the others itself.
const TARGET_DEFAULTS: &[(&str, &str)] = &[
    ("insert_deduplicate", "0"),
    ("deduplicate_insert", "disable"),
    ("deduplicate_insert_select", "disable"),
    ("alter_sync", "1"),
    ("max_partition_size_to_drop", "0"),
    ("max_table_size_to_drop", "0"),
    // Atomic databases drop a table minutes later without this setting. Until then the ZooKeeper nodes of a Replicated table and the
    // disk space stay.
    ("database_atomic_wait_for_drop_and_detach_synchronously", "1"),
    ("max_partitions_per_insert_block", "0"),
    ("optimize_on_insert", "0"),
];

/// Settings for a count for the account (I7), which must read the rows: no answer may come from metadata, a projection or a cache.
const COUNTING_DEFAULTS: &[(&str, &str)] = &[
    ("optimize_trivial_count_query", "0"),
    ("optimize_use_implicit_projections", "0"),
    ("optimize_use_projections", "0"),
    ("use_query_cache", "0"),
    ("use_query_condition_cache", "0"),
    // A count of all rows cannot use the key.
    ("force_primary_key", "0"),
    ("force_index_by_date", "0"),
];

/// The buffers that a server holds in memory for one INSERT … SELECT: blocks that it reads, for each thread, and blocks that it sends and
/// writes. Each entry has the setting, its default on 18.16, and the smallest value to use.
const BUFFERS: &[(&str, u64, u64)] = &[
    ("max_block_size", 65_536, 512),
    ("min_insert_block_size_rows", 1_048_576, 8_192),
    ("min_insert_block_size_bytes", 268_435_456, 1_048_576),
    ("max_threads", 4, 1),
];

/// Makes a statement use less memory. `narrow` is how often attempts ran out of memory; each time the buffers shrink to a quarter.
pub(crate) fn narrower(wanted: &mut BTreeMap<String, String>, narrow: u32) {
    if narrow == 0 {
        return;
    }
    for (name, usual, least) in BUFFERS {
        let allowed = (usual >> (2 * narrow).min(63)).max(*least);
        let given = wanted.get(*name).and_then(|text| text.parse::<u64>().ok()).filter(|given| *given > 0);
        wanted.insert((*name).to_owned(), allowed.min(given.unwrap_or(u64::MAX)).to_string());
    }
}

/// Settings for statements that create a table like an existing one, even if a server rejects a part of its definition as suspicious
/// or experimental. Each setting is sent only to the servers that know it.
const DEFINITION_DEFAULTS: &[(&str, &str)] = &[
    // without it, Nested columns that are stored as one column become several
    ("flatten_nested", "0"),
    ("allow_deprecated_syntax_for_merge_tree", "1"),
    // types that were experimental in some versions
    ("allow_experimental_decimal_type", "1"),
    ("allow_experimental_low_cardinality_type", "1"),
    ("allow_experimental_bigint_types", "1"),
    ("allow_experimental_map_type", "1"),
    ("allow_experimental_geo_types", "1"),
    ("allow_experimental_object_type", "1"),
    ("allow_experimental_json_type", "1"),
    ("allow_experimental_variant_type", "1"),
    ("allow_experimental_dynamic_type", "1"),
    ("allow_experimental_bfloat16_type", "1"),
    ("allow_experimental_qbit_type", "1"),
    ("enable_time_time64_type", "1"),
    ("enable_nullable_tuple_type", "1"),
    ("allow_suspicious_low_cardinality_types", "1"),
    ("allow_suspicious_fixed_string_types", "1"),
    ("allow_suspicious_variant_types", "1"),
    // indices, projections, statistics
    ("allow_experimental_data_skipping_indices", "1"),
    ("allow_experimental_projection_optimization", "1"),
    ("allow_experimental_inverted_index", "1"),
    ("allow_experimental_annoy_index", "1"),
    ("allow_experimental_usearch_index", "1"),
    ("allow_experimental_vector_similarity_index", "1"),
    ("enable_full_text_index", "1"),
    ("allow_statistics", "1"),
    ("allow_suspicious_indices", "1"),
    ("allow_minmax_index_for_json", "1"),
    ("allow_create_index_without_type", "1"),
    // codecs, keys, TTL
    ("allow_suspicious_codecs", "1"),
    ("allow_experimental_codecs", "1"),
    ("enable_deflate_qpl_codec", "1"),
    ("enable_zstd_qat_codec", "1"),
    ("enable_alp_codec", "1"),
    ("enable_quantized_codec", "1"),
    ("enable_sz3_codec", "1"),
    ("enable_zxc_codec", "1"),
    ("allow_suspicious_primary_key", "1"),
    ("allow_suspicious_ttl_expressions", "1"),
];

/// Returns the settings of the task for statements that read the source. [`required_settings`](crate::sql::required_settings) lists
/// the settings that we add.
pub(crate) fn wanted_for_source(task: &Task) -> BTreeMap<String, String> {
    task.settings.for_pull()
}

/// Returns the settings for a count of the source for the account. They override the settings of the task.
pub(crate) fn wanted_for_counting_source(task: &Task) -> BTreeMap<String, String> {
    let mut wanted = wanted_for_source(task);
    wanted.extend(defaults(COUNTING_DEFAULTS));
    wanted
}

/// Returns the settings for a count of the target for the account. They override the settings of the task.
pub(crate) fn wanted_for_counting_target(task: &Task) -> BTreeMap<String, String> {
    let mut wanted = wanted_for_target(task);
    wanted.extend(defaults(COUNTING_DEFAULTS));
    wanted
}

/// Returns the settings for statements on a target node: ours, overridden by those of the task.
pub fn wanted_for_target(task: &Task) -> BTreeMap<String, String> {
    let mut wanted = defaults(TARGET_DEFAULTS);
    wanted.extend(defaults(DEFINITION_DEFAULTS));
    lay_over(&mut wanted, task.settings.for_push());
    wanted
}

/// Returns the wanted settings that a server knows, for a statement that only this server sees. Returns no settings where the account
/// may change none.
pub(crate) fn known_settings<'a>(
    server: &ServerFacts,
    wanted: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Settings {
    if server.settings.get("readonly").is_some_and(|value| value == "1") {
        return Settings::new();
    }
    let wanted: Vec<_> = wanted.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    server.known(&wanted)
}

/// Returns the wanted settings that two servers know, for a statement that the first server sends on to the second. The first server
/// passes its settings on, and an old second server refuses settings that it does not know (docs/clickhouse-behaviour.md, §1).
pub(crate) fn settings_known_to_both<'a>(
    first: &ServerFacts,
    second: &ServerFacts,
    wanted: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Settings {
    let known_to_both = |name: &&str| first.settings.contains_key(*name) && second.settings.contains_key(*name);
    // A setting needs a name that both servers know.
    let named =
        |(name, value): (&String, &String)| Some((setting_names(name).find(known_to_both)?.to_owned(), value.clone()));
    let wanted: BTreeMap<String, String> = wanted.into_iter().filter_map(named).collect();
    known_settings(first, &wanted)
}

/// Returns a list of settings as a map.
pub(crate) fn defaults(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_after_lack_of_memory_has_smaller_buffers_and_keeps_the_limits_of_the_task() {
        let task = || std::collections::BTreeMap::from([("max_block_size".to_owned(), "1000".to_owned())]);
        let narrowed = |narrow| {
            let mut wanted = task();
            narrower(&mut wanted, narrow);
            wanted
        };
        assert_eq!(narrowed(0), task());
        assert_eq!((narrowed(1)["max_block_size"].as_str(), narrowed(1)["max_threads"].as_str()), ("1000", "1"));
        assert_eq!(narrowed(2)["min_insert_block_size_bytes"], "16777216");
        assert_eq!((narrowed(99)["max_block_size"].as_str(), narrowed(99)["max_threads"].as_str()), ("512", "1"));
    }
}
