//! The surroundings of a run in its process: the daemon, the pid file, systemd, hooks, reports after the run, and the
//! HTTP address.

pub(super) mod after_run;
pub mod daemon;
pub(super) mod files;
pub(super) mod hook;
pub mod pid_file;
pub mod serving;
pub(super) mod systemd;
