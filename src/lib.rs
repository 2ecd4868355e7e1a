//! Copies and reshards ClickHouse tables between clusters: exactly once, verified, resumable.
//!
//! The modules stand in the order in which a copy meets them; a module imports only modules above it.
//!
//! - [`model`]: the vocabulary: clusters and nodes, tables, partitions, secrets.
//! - [`task`]: the job as written: XML → [`task::Task`], every fault with the path of its element.
//! - [`sql`]: every statement that can be sent, as text; quoting in one file.
//! - [`protocol`]: what is recorded, what it means, what comes next. Pure.
//! - [`plan`]: partitions and sizes → batches and pieces. Pure.
//! - [`keeper`]: the door to coordination: ZooKeeper, or a file on one machine.
//! - [`cluster`]: the door to ClickHouse.
//! - [`worker`]: observe, decide, perform: the one room that uses both doors.
//! - [`report`]: what happened, for people.
//! - [`web`]: the same while it happens, over HTTP: a page, JSON, metrics.
//! - [`cli`]: arguments as typed → as meant.
//! - [`fuzzed`]: the readers of what others wrote, for fuzzing.

// What is printed goes through `cli::output`, where control characters end and errors begin.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod cli;
pub mod cluster;
#[doc(hidden)]
pub mod fuzzed;
pub mod keeper;
pub mod model;
pub mod plan;
pub mod protocol;
pub mod report;
pub mod sql;
pub mod task;
pub mod web;
pub mod worker;
