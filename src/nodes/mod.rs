//! The nodes of a task: which of them answer, how rows travel between them, and what statements to them need.
//!
//! - [`pool`]: what is known of each node, and in which order to ask them.
//! - `routes`: how rows travel between two nodes; `column_routes`: what the columns of a table allow.
//! - [`settings`]: the settings of our statements.
//! - `counts` and [`checksums`]: rows and sums, as both sides give them.

pub(crate) mod asked_once;
pub mod checksums;
pub(crate) mod column_routes;
pub(crate) mod counts;
pub(crate) mod known_routes;
pub mod pool;
pub(crate) mod routes;
pub mod settings;
