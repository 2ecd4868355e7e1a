//! The vocabulary as types. Nothing here does I/O, and every other room speaks in these words.

mod cluster;
mod partition;
mod secret;
mod table;
mod tls;

pub use cluster::{Cluster, Node, Shard};
pub use partition::{PartitionId, PartitionValue};
pub use secret::Secret;
pub use table::TableName;
pub use tls::{Identity, Tls};
