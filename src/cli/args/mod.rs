//! Turns the command line into plain, checked values. Creates nothing.

pub(crate) mod address;
pub(super) mod config_files;
pub(crate) mod fault;
pub(super) mod files;
pub(super) mod flags;
pub(super) mod input;
pub(crate) mod level;
pub(crate) mod meaning;
pub(crate) mod options;
pub(super) mod task_path;
