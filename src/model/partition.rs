//! Partitions of the target table.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `system.parts.partition_id`: what `PARTITION ID '…'` takes. Read from the server that holds the partition,
/// never assumed equal on another version (facts file, §4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub String);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a partition key: for each of its elements the text that tells it from every other value of its type, on every
/// version ([`KeyElement::value`](crate::sql::KeyElement::value)). Two partitions are the same if these texts are. No
/// element at all when the target is not partitioned.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionValue(pub Vec<String>);
