//! Copies and reshards ClickHouse tables between clusters: exactly once, verified, resumable.
//!
//! The modules stand in the order in which a copy meets them; a module imports only modules above it.
//!
//! - [`runtime`]: the clock, randomness, signals: what a simulation replaces.
//! - [`model`]: the vocabulary: clusters and nodes, tables, partitions, secrets.
//! - [`task`]: the job as written: XML → [`task::Task`], every fault with the path of its element.
//! - [`sql`]: every statement that can be sent, as text; quoting in one file.
//! - [`protocol`]: what is recorded, what it means, what comes next. Pure.
//! - [`plan`]: partitions and sizes → batches and pieces. Pure.
//! - [`coordinator`]: the door to coordination: ZooKeeper, or a file on one machine.
//! - [`client`]: the door to ClickHouse servers.
//! - [`ledger`]: the records of a task in the coordinator, and who works on it.
//! - [`nodes`]: the nodes of a task: which answer, how rows travel between them, which settings statements need.
//! - [`planning`]: from a task to its plans.
//! - [`worker`]: one run: claims, copies, publishes, counts.
//! - [`operations`]: the other verbs.
//! - [`report`]: what happened, for people and for programs.
//! - [`web`]: the same while it happens, over HTTP: a page, JSON, metrics.
//! - [`cli`]: arguments, commands, the process, output.
//! - [`fuzzed`]: the readers of what others wrote, for fuzzing.

// What is printed goes through `cli::output`, where control characters end and errors begin.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod cli;
pub mod client;
pub mod coordinator;
#[doc(hidden)]
pub mod fuzzed;
pub mod ledger;
pub mod model;
pub mod nodes;
pub mod operations;
pub mod plan;
pub mod planning;
pub mod protocol;
pub mod report;
pub mod runtime;
pub mod sql;
pub mod task;
pub mod web;
pub mod worker;
