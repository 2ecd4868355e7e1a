//! A task over HTTP: a page, the same facts as JSON, and metrics. Read-only: this module changes nothing.
//!
//! 1. [`access`]: decides which requests are allowed;
//! 2. [`watch`]: reads the task for all viewers, while there are any, and keeps the last reading when the coordinator
//!    is away;
//! 3. [`events`]: the changes between two readings, in words; [`page_updates`]: the changes for a page that has the
//!    rest;
//! 4. [`metrics`]: a reading in the format of Prometheus, and a worker's own figures;
//! 5. [`server`]: the answer of each address; [`serve`](mod@serve): connections, with a limit for everything that a
//!    stranger can hold.
//!
//! # Guarantees
//! - All viewers together cost no more than one: the servers and the coordinator are asked once.
//! - A viewer that reads slowly receives fewer messages, and blocks nobody.
//! - If the task cannot be read, the viewer sees the reason and the last reading, marked as old.

pub mod access;
mod assets;
pub mod events;
pub mod metrics;
pub mod page_updates;
pub(crate) mod serve;
pub mod server;
pub mod watch;
