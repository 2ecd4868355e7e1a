//! The account before copying (I7): what a query counted on each source shard of a table job.

use serde::{Deserialize, Serialize};

use crate::protocol::account::Blocks;

/// What was counted on the source of a table job before copying.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// By source shard.
    pub shards: Vec<ShardAccount>,
    /// Rows of partitions that the task wants and the plan does not copy: they are as an earlier pass has copied them, or skipped.
    /// `None` where the task names its partitions: then others are not looked at.
    pub beside: Option<u64>,
    /// Whether the source has the target's partitions, by the same ids.
    pub same_partitions: bool,
    /// Whether rows came or went between the list of partitions and the count, so that the two differ.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
}

/// What was counted on a source shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardAccount {
    /// The replica that was asked.
    #[serde(rename = "n")]
    pub node: String,
    /// Rows that a query counted, under the task's condition.
    #[serde(rename = "r")]
    pub counted: u64,
    /// The parts when it was counted, where the table has some.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Blocks>,
}
