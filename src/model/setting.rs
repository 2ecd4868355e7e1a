//! Settings that ClickHouse has renamed. `system.settings` lists the names that a server knows.

use std::collections::BTreeMap;

/// Old name, new name. Newer servers know both (`system.settings.alias_for`, checked on 26.9); older servers know
/// only the old one.
const RENAMED: &[(&str, &str)] = &[
    ("replication_alter_partitions_sync", "alter_sync"),          // 23.x
    ("insert_distributed_sync", "distributed_foreground_insert"), // 23.11, like those below
    ("insert_distributed_timeout", "distributed_background_insert_timeout"),
    ("distributed_directory_monitor_sleep_time_ms", "distributed_background_insert_sleep_time_ms"),
    ("distributed_directory_monitor_max_sleep_time_ms", "distributed_background_insert_max_sleep_time_ms"),
    ("distributed_directory_monitor_batch_inserts", "distributed_background_insert_batch"),
    ("distributed_directory_monitor_split_batch_on_failure", "distributed_background_insert_split_batch_on_failure"),
    ("max_insert_block_size", "max_insert_block_size_rows"),
    ("async_insert_busy_timeout_ms", "async_insert_busy_timeout_max_ms"),
    ("allow_experimental_projection_optimization", "optimize_use_projections"),
    ("allow_experimental_lightweight_delete", "enable_lightweight_delete"),
    ("allow_experimental_time_time64_type", "enable_time_time64_type"),
    ("allow_experimental_nullable_tuple_type", "enable_nullable_tuple_type"),
    ("allow_experimental_full_text_index", "enable_full_text_index"),
    ("allow_experimental_statistics", "allow_statistics"),
];

/// Returns the pairs of names of renamed settings, the older name first.
pub fn renamed_settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    RENAMED.iter().copied()
}

/// Returns the names of a setting: the given name first, then the other name if the setting was renamed.
pub(crate) fn setting_names(name: &str) -> impl Iterator<Item = &str> {
    let other = RENAMED.iter().find_map(|(old, new)| match name {
        name if name == *old => Some(*new),
        name if name == *new => Some(*old),
        _ => None,
    });
    std::iter::once(name).chain(other)
}

/// Adds the settings of `over` to `under`. A setting in `over` replaces the same setting in `under`, also under its
/// other name.
pub(crate) fn lay_over(under: &mut BTreeMap<String, String>, over: BTreeMap<String, String>) {
    for name in over.keys() {
        for other in setting_names(name) {
            under.remove(other);
        }
    }
    under.extend(over);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_and_its_alias_are_the_same_setting() {
        assert_eq!(
            setting_names("alter_sync").collect::<Vec<_>>(),
            ["alter_sync", "replication_alter_partitions_sync"]
        );
        assert_eq!(setting_names("max_threads").collect::<Vec<_>>(), ["max_threads"]);
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let mut under = map(&[("replication_alter_partitions_sync", "1"), ("max_threads", "1")]);
        lay_over(&mut under, map(&[("alter_sync", "2")]));
        assert_eq!(under, map(&[("alter_sync", "2"), ("max_threads", "1")]));
    }
}
