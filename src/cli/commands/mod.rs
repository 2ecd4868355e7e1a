//! The work of each verb: one file for each verb.

pub(super) mod check;
pub(super) mod cleanup;
pub(super) mod control;
pub(super) mod dashboard;
pub(super) mod init;
pub(super) mod plan;
pub(super) mod repair;
pub(super) mod reverse;
pub(super) mod run;
pub(super) mod status;
pub(super) mod verify;
