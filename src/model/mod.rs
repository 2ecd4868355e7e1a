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

pub(crate) use bytes_text::{bytes_of_text, text_of_bytes};
pub use cluster::{Cluster, Node, Shard};
pub use numbers::{AttemptNo, Generation, PublicationNo};
pub use partition::{PartitionId, PartitionValue};
pub use printable::is_obeyed;
pub(crate) use printable::{one_line, printable, printable_json, sentence};
pub use secret::Secret;
pub use setting::renamed_settings;
pub(crate) use setting::{lay_over, setting_names};
pub use table::TableName;
pub(crate) use tls::Identity;
pub use tls::Tls;
pub use way::Way;
pub(crate) use words::{counted, few};
