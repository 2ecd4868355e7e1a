//! The limits of a worker: how many pieces it copies at once, and how fast rows move.
//!
//! - [`concurrency`]: how many pieces a worker copies at once.
//! - `bandwidth`: how many bytes per second it moves.
//! - `admission`: when an attempt may begin on its servers.
//! - `transfer_trial`: which of two split methods is faster here.

pub(crate) mod admission;
pub(crate) mod bandwidth;
pub mod concurrency;
pub(crate) mod transfer_trial;
