//! The nodes of a task: which of them answer, how rows travel between them, and which settings their statements need.
//!
//! - [`pool`]: the facts about each node, and the order in which to ask nodes.
//! - `routes`: how rows travel between two nodes; `column_routes`: the routes that the columns of a table allow.
//! - [`settings`]: the settings of our statements.
//! - `counts` and [`checksums`]: counts and checksums of rows, in the form that both sides return.

pub(crate) mod asked_once;
pub mod checksums;
pub(crate) mod column_routes;
pub(crate) mod counts;
pub(crate) mod known_routes;
pub(crate) mod pool;
pub(crate) mod routes;
pub mod settings;
