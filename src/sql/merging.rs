//! Engines whose merges remove rows.

use super::engine::Engine;

/// The engines whose merges remove rows by design; `VersionedCollapsingMergeTree` ends like one of them.
const MERGING: &[&str] = &[
    "ReplacingMergeTree",
    "SummingMergeTree",
    "AggregatingMergeTree",
    "CollapsingMergeTree",
    "GraphiteMergeTree",
    "CoalescingMergeTree",
];

impl Engine {
    /// Returns whether merges remove rows of this engine by design, as far as its name is known: with any prefix (Replicated, Shared,
    /// a vendor's). A name that is not known says nothing, so that its rows are counted exactly.
    pub(crate) fn merges_rows(&self) -> bool {
        MERGING.iter().any(|name| self.name.ends_with(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_engines_that_merge_rows_may_hold_fewer_rows() {
        for (name, merges) in [
            ("MergeTree", false),
            ("ReplicatedMergeTree", false),
            ("SharedMergeTree", false),
            ("HaUniqueMergeTree", false),
            ("CnchMergeTree", false),
            ("Log", false),
            ("ReplacingMergeTree", true),
            ("SharedReplacingMergeTree", true),
            ("ReplicatedVersionedCollapsingMergeTree", true),
            ("HaAggregatingMergeTree", true),
            ("CoalescingMergeTree", true),
            ("ReplicatedGraphiteMergeTree", true),
            ("SummingMergeTree", true),
        ] {
            assert_eq!(Engine::parse(&format!("{name} ORDER BY a")).unwrap().merges_rows(), merges, "{name}");
        }
    }
}
