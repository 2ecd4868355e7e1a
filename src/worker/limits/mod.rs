//! What holds a worker back: how many pieces it has in hand, and how fast rows move.
//!
//! - [`concurrency`]: how many pieces a worker copies at once.
//! - `bandwidth`: how many bytes a second it moves.
//! - `admission`: when an attempt may begin on its servers.
//! - `transfer_trial`: which of two transfers is the faster one here.

pub(crate) mod admission;
pub(crate) mod bandwidth;
pub mod concurrency;
pub(crate) mod transfer_trial;
