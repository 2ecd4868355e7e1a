//! Partitions of the target table.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A partition's id, as in `system.parts.partition_id` and `PARTITION ID '…'`. It is read from the server that holds
/// the partition. Another version may give the same partition another id (docs/clickhouse-behaviour.md, §4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub String);

impl PartitionId {
    /// Returns the partition whose rows a patch part changes, if this is the id of patch parts: `patch-<hash of
    /// columns>-<partition id>`. A lightweight UPDATE, or a lightweight DELETE in that mode, writes such parts (25.7
    /// and later). They are not a partition of their own.
    pub(crate) fn patched(&self) -> Option<PartitionId> {
        let (_, id) = self.0.strip_prefix("patch-")?.split_once('-')?;
        Some(PartitionId(id.to_owned()))
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a partition key: one text for each element of the key. Different values of a type have different
/// texts, and a value has the same text on every version ([`KeyElement::value`](crate::sql::KeyElement::value)). Two
/// partitions are the same if their texts are the same. The list is empty if the target is not partitioned.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionValue(pub Vec<String>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_parts_name_the_partition_that_they_change() {
        for (id, patched) in [
            ("patch-8feeedf7588c601fd7f38da7fe68712b-0", Some("0")),
            ("patch-8feeedf7588c601fd7f38da7fe68712b--5", Some("-5")),
            ("patch-8feeedf7588c601fd7f38da7fe68712b-20180101-7", Some("20180101-7")),
            ("202001", None),
            ("-5", None),
            ("all", None),
        ] {
            assert_eq!(PartitionId(id.into()).patched(), patched.map(|id| PartitionId(id.into())), "{id}");
        }
    }
}
