//! A worker: observe, let the protocol decide, perform.
//!
//! A run goes through these steps, and a reader can follow them in this order:
//!
//! 1. `open_task`: the task is read, compared with what is recorded at its path, and created there if it is new.
//! 2. [`survey`](crate::planning::survey): looks at both clusters, and refuses a task that does not fit them.
//! 3. [`membership`](crate::ledger::membership): the worker takes a place among the workers.
//! 4. [`prepare`]: one worker plans ([`planning`](crate::planning)) and creates the target tables.
//! 5. [`main_loop`]: claims pieces and publications and works on them ([`jobs`]: [`copy`], [`publish`]); `verify` compares what
//!    arrived with what was selected.
//! 6. [`finish`]: settles the `account`, and removes everything that the task has on servers.
//!
//! [`limits`] says how many pieces are in hand and how fast rows move. [`view`] shows a worker to others in its process.
//!
//! When the session is lost, the worker drops all work in hand and begins again at step 3 with a new session.

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
pub(crate) mod remake;
mod run;
pub mod target_sizes;
mod verify;
pub mod view;

pub use run::{run, run_seen};
