//! The surroundings of a run in its process: the daemon, the pid file, systemd, hooks, reports after the run, and the
//! HTTP address.

pub(super) mod after_run;
pub(crate) mod daemon;
pub(super) mod files;
pub(super) mod hook;
pub(crate) mod pid_file;
pub(crate) mod serving;
pub(super) mod systemd;
