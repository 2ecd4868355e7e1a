//! What can be seen of a task over HTTP: a page, the same as JSON, and metrics. Read-only: nothing here changes anything.
//!
//! 1. [`access`]: who may see it;
//! 2. [`watch`]: one who looks at the task for all viewers, while there are any, and keeps the last sight when the
//!    coordinator is away;
//! 3. [`events`]: what changed between two looks, in words; [`news`]: what changed, for a page that has the rest;
//! 4. [`metrics`]: a sight as Prometheus reads it, and a worker's own figures;
//! 5. [`server`]: addresses → answers; [`serve`](mod@serve): connections, with a limit for everything that a stranger can hold.
//!
//! # Guarantees
//! - Viewers cost the task nothing together that one of them would not: the servers and the coordinator are asked once.
//! - A viewer that reads slowly is sent less often, and holds nobody up.
//! - What cannot be seen is said to be so, with the reason; the last sight stays, marked as old.

pub mod access;
mod assets;
pub mod events;
pub mod metrics;
pub mod news;
pub mod serve;
pub mod server;
pub mod watch;
