//! The verbs beside `run`, one file or folder for each. All but `cleanup` and `control` only read.
//!
//! - [`init`]: writes a task file from what servers say, also for the way back (`reverse`).
//! - [`check`]: finds out beforehand what would stop a run.
//! - [`plan`]: shows what a run would do.
//! - [`status`]: reads how far a task is.
//! - [`control`]: pauses, resumes and cancels a task.
//! - [`verify`]: compares both sides at any later time.
//! - [`cleanup`]: removes what a task left whose workers are dead.

pub mod check;
pub mod cleanup;
pub mod control;
pub mod init;
pub mod plan;
pub mod status;
pub mod verify;
