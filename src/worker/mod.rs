//! A worker reads the state of a task, lets the protocol decide, and does what was decided.
//!
//! A run goes through these steps, in this order:
//!
//! 1. `open_task`: reads the task, compares it with the record at its path, and creates it there if it is new.
//! 2. [`survey`](crate::planning::survey): inspects both clusters, and refuses a task that does not fit them.
//! 3. [`membership`](crate::ledger::membership): the worker takes a place among the workers.
//! 4. [`prepare`]: one worker plans ([`planning`](crate::planning)) and creates the target tables.
//! 5. [`main_loop`]: claims pieces and publications and works on them ([`jobs`]: [`copy`], [`publish`]); `verify` compares the
//!    staged rows with the selected rows.
//! 6. [`finish`]: settles the `account`, and removes all tables and statements of the task from the servers.
//!
//! [`limits`] controls how many pieces the worker copies at once and how fast rows move. [`view`] shows the state of a worker to
//! other parts of the same process.
//!
//! When the session is lost, the worker drops its current work and continues at step 3 with a new session.

mod account;
mod clear;
pub mod context;
pub mod copy;
pub mod counters;
pub mod ending;
pub mod finish;
pub mod jobs;
pub mod launch;
pub mod limits;
pub mod main_loop;
mod next_pass;
pub(crate) mod open_task;
pub mod prepare;
pub mod publish;
pub(crate) mod renew;
mod run;
pub mod target_sizes;
mod verify;
pub mod view;

pub use run::{run, run_seen};
