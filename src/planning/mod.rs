//! The planning of a task: inspects both clusters, checks that the task fits them, and plans what to copy.
//!
//! - `task_file`: reads the description and compares it with the one that was planned.
//! - [`survey`]: inspects the tables, keys, rights and settings on both sides. Creates nothing.
//! - [`planner`]: plans one table job; [`plan_all`]: plans all of them.
//! - [`document`]: writes the plan as a document, for people and for `run --plan`.
//! - [`target_tables`]: creates the target tables.

pub(crate) mod document;
pub mod errors;
pub(crate) mod plan_all;
pub(crate) mod planner;
pub(crate) mod replica_paths;
pub(crate) mod shared_partitions;
pub(crate) mod survey;
pub(crate) mod target_tables;
pub(crate) mod task_file;
