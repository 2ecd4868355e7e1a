//! The verbs other than `run`, one file or folder for each. All but `cleanup` and `control` only read.
//!
//! - [`init`]: writes a task file from the tables of servers, also for the reverse copy (`reverse`).
//! - [`check`]: finds problems before a run.
//! - [`plan`]: shows what a run would do.
//! - [`status`]: reads how far a task is.
//! - [`control`]: pauses, resumes and cancels a task.
//! - [`verify`]: compares source and target at any later time.
//! - [`cleanup`]: removes the tables and statements of a task whose workers are dead.

pub(crate) mod check;
pub mod cleanup;
pub(crate) mod control;
pub(crate) mod init;
pub(crate) mod location;
pub(crate) mod plan;
pub(crate) mod status;
pub mod verify;
