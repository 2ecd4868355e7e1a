//! The vocabulary as types. This room does no I/O; all other rooms use its types.

mod bytes_text;
mod cluster;
mod numbers;
mod partition;
mod printable;
mod secret;
mod setting;
mod table;
mod tls;
mod way;
mod words;

pub use bytes_text::{bytes_of_text, text_of_bytes};
pub use cluster::{Cluster, Node, Shard};
pub use numbers::{AttemptNo, Generation, PublicationNo};
pub use partition::{PartitionId, PartitionValue};
pub use printable::{is_obeyed, one_line, printable, printable_json, sentence};
pub use secret::Secret;
pub use setting::{lay_over, renamed_settings, setting_names};
pub use table::TableName;
pub use tls::{Identity, Tls};
pub use way::Way;
pub use words::{counted, few};
