//! The account before copying (I7): the rows that a query counted on each source shard of a table job.

use serde::{Deserialize, Serialize};

use crate::protocol::account::Blocks;

/// The counts of a table job's source before copying.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The counts by source shard.
    pub shards: Vec<ShardAccount>,
    /// Rows of partitions that the task wants and the plan does not copy, because an earlier pass copied them or they
    /// are skipped. `None` if the task names its partitions: others are not read then.
    pub beside: Option<u64>,
    /// Whether the source has the target's partitions, with the same ids.
    pub same_partitions: bool,
    /// Whether rows arrived or left between the list of partitions and the count, so that the two differ.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
}

/// The count of a source shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardAccount {
    /// The replica that was queried.
    #[serde(rename = "n")]
    pub node: String,
    /// Rows that a query counted under the task's condition.
    #[serde(rename = "r")]
    pub counted: u64,
    /// The parts at the time of the count, if the table has parts.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Blocks>,
}
