//! Turns the command line into plain, checked values. Creates nothing.

pub mod address;
pub(super) mod config_files;
pub mod fault;
pub(super) mod files;
pub(super) mod flags;
pub(super) mod input;
pub mod level;
pub mod meaning;
pub mod options;
pub(super) mod task_path;
