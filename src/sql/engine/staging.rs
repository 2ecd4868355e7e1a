//! The engine of a staging table.

use super::Engine;
use super::clause::Clause;
use super::settings::{setting_name, settings};

impl Engine {
    /// Returns the engine of a staging table for a target table with this engine. It is a plain MergeTree with the same keys,
    /// granularity and disks. It removes no rows and does not merge (docs/clickhouse-behaviour.md, §3; docs/design.md, §3).
    ///
    /// The old syntax takes no settings. There a statement stops merges.
    pub(crate) fn staging(&self) -> Engine {
        if let Some(index) = self.granularity_argument()
            && self.is_old_syntax()
        {
            let arguments = self.own_arguments()[..=index].to_vec();
            return Engine { name: "MergeTree".into(), arguments: Some(arguments), clauses: Vec::new() };
        }
        let mut clauses: Vec<(Clause, String)> = self
            .clauses
            .iter()
            .filter(|(clause, _)| !matches!(clause, Clause::Ttl | Clause::Settings | Clause::Comment))
            .cloned()
            .collect();
        let kept = self.clause(Clause::Settings).map(kept_settings).unwrap_or_default();
        let settings: Vec<String> =
            kept.into_iter().chain(NO_MERGES.iter().map(|(name, value)| format!("{name} = {value}"))).collect();
        clauses.push((Clause::Settings, settings.join(", ")));
        Engine { name: "MergeTree".into(), arguments: None, clauses }
    }
}

/// The settings that keep a staging table from merging and from refusing many parts. They are settings of the table, so that
/// they outlast a restart of the server. 18.16 knows all of them.
const NO_MERGES: &[(&str, &str)] = &[
    ("max_bytes_to_merge_at_max_space_in_pool", "1"),
    ("max_bytes_to_merge_at_min_space_in_pool", "1"),
    ("parts_to_delay_insert", "1000000"),
    ("parts_to_throw_insert", "1000000"),
];

/// Returns the settings of the target that its staging tables share. They decide the format of parts and their disks.
fn kept_settings(text: &str) -> Vec<String> {
    let kept = |name: &str| {
        name.starts_with("index_granularity")
            || name.starts_with("min_bytes_for_wide")
            || name.starts_with("min_rows_for_wide")
            || name.starts_with("allow_")
            || name.starts_with("add_minmax_index_for_")
            || matches!(
                name,
                "storage_policy"
                    | "disk"
                    | "min_compress_block_size"
                    | "max_compress_block_size"
                    | "ratio_of_defaults_for_sparse_serialization"
                    | "enable_block_number_column"
                    | "enable_block_offset_column"
                    | "enable_mixed_granularity_parts"
                    | "use_minimalistic_part_header_in_zookeeper"
            )
    };
    settings(text).into_iter().filter(|setting| kept(setting_name(setting))).collect()
}
