//! From a task to its plans: what stands on both clusters, whether the task fits it, and what is to be copied.
//!
//! - `task_file`: reads the description and compares it with the one that was planned.
//! - [`survey`]: looks at the tables, keys, rights and settings on both sides. Creates nothing.
//! - [`planner`]: plans one table job; [`plan_all`]: plans all of them.
//! - [`document`]: the plan as a document, for people and for `run --plan`.
//! - [`target_tables`]: creates the target tables.

pub mod document;
pub mod errors;
pub mod plan_all;
pub mod planner;
pub(crate) mod replica_paths;
pub(crate) mod shared_partitions;
pub mod survey;
pub mod target_tables;
pub(crate) mod task_file;
