//! A worker reads the state of a task, lets the protocol decide, and does what was decided.
//!
//! A run goes through these steps, in this order:
//!
//! 1. `open_task`: reads the task, compares it with the record at its path, and creates it there if it is new.
//! 2. [`survey`](crate::planning::survey): inspects both clusters, and refuses a task that does not fit them.
//! 3. [`membership`](crate::ledger::membership): the worker takes a place among the workers.
//! 4. [`prepare`]: one worker plans ([`planning`](crate::planning)) and creates the target tables.
//! 5. [`main_loop`]: claims pieces and publications and works on them ([`jobs`]: [`copy`], [`publish`]). `copy` compares the
//!    staged rows with the selected rows.
//! 6. [`finish`]: settles the `account`, and removes all tables and statements of the task from the servers.
//!
//! [`limits`] controls how many pieces the worker copies at once and how fast rows move. [`view`] shows the state of a worker to
//! other parts of the same process. Three files decide without I/O: [`retry_policy`] (pauses and numbers of attempts),
//! `statement_settings` (which settings a statement gets) and `table_rules` (what the task says about a table job).
//!
//! When the session is lost, the worker drops its current work and continues at step 3 with a new session.

mod account;
mod clear;
pub mod context;
pub(crate) mod copy;
pub(crate) mod counters;
pub mod ending;
pub(crate) mod errors;
pub(crate) mod finish;
pub(crate) mod jobs;
pub mod launch;
pub mod limits;
pub(crate) mod main_loop;
mod next_pass;
pub(crate) mod open_task;
pub(crate) mod prepare;
pub(crate) mod publish;
pub(crate) mod renew;
pub mod retry_policy;
mod run;
mod statement_settings;
mod table_rules;
pub mod target_sizes;
pub mod view;

pub use run::run;
pub(crate) use run::run_seen;
