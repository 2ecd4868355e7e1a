//! Copies and reshards ClickHouse tables between clusters: exactly once, verified, resumable.
//!
//! The modules stand in the order in which a copy meets them; a module imports only modules above it.
//!
//! - [`runtime`]: the clock, randomness, signals: what a simulation replaces.
//! - [`model`]: the vocabulary: clusters and nodes, tables, partitions, secrets.
//! - [`task`]: from XML to [`task::Task`]; every fault has the path of its element.
//! - [`sql`]: the text of every statement; quoting in one file.
//! - [`protocol`]: the records of a task, their meaning, and the next step. Pure.
//! - [`plan`]: from partitions and sizes to batches and pieces. Pure.
//! - [`coordinator`]: the client of the coordinator: ZooKeeper, or a file on one machine.
//! - [`client`]: the client of ClickHouse servers.
//! - [`ledger`]: the records of a task in the coordinator, and the membership of its workers.
//! - [`nodes`]: the nodes of a task: which of them answer, how rows travel between them, which settings statements
//!   need.
//! - [`planning`]: from a task to its plans.
//! - [`worker`]: one run: claims, copies, publishes, counts rows.
//! - [`operations`]: the other verbs.
//! - [`report`]: the result and the state of a task, for people and for programs.
//! - [`web`]: the state of a task over HTTP: a page, JSON, metrics.
//! - [`cli`]: arguments, commands, the process, output.
//! - [`fuzzed`]: the parsers of foreign input, for fuzzing.

// The documentation is for those who work on the program, so it describes private items too (`--document-private-items`).
#![allow(rustdoc::private_intra_doc_links)]
// All output goes through `cli::output`, which removes control characters and handles errors of writing.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod cli;
pub mod client;
pub mod coordinator;
#[cfg(any(test, feature = "doubles"))]
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
