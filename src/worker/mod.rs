//! A worker: observe, let the protocol decide, perform. The one room that uses both doors.
//!
//! A run goes through these, and a reader can follow them in this order:
//!
//! 1. `run`: the task is read, compared with what is recorded at its path, and created there if it is new;
//! 2. [`survey`]: what is there on both clusters, and whether the task fits it; creates nothing;
//! 3. [`crew`]: a place among the workers;
//! 4. [`prepare`]: one worker plans ([`planner`]) and makes the target tables;
//! 5. [`shift`]: pieces and publications are claimed and worked on ([`jobs`]: [`copy`], [`publish`]), and what
//!    arrived is compared with what was selected (`verify`);
//! 6. [`finish`]: the `account` is settled, and nothing of ours is left.
//!
//! How many pieces are in hand is up to `tempo`, and when an attempt may begin to `admission`; `caps` and `pace` say how fast and by
//! which way rows travel.
//!
//! Beside a run stand, in the order of a task's life, [`propose`]: a task file from what servers say; [`check`]: what a run would
//! find, asked beforehand; [`foresee`]: what it would do; [`status`] and [`view`]: a look at it from outside and from inside of its
//! process; [`orders`]: what a person tells all workers; [`compare`]: whether both sides are the same, asked at any later time; and
//! [`cleanup`]: what a task left whose workers are all dead.
//!
//! A lost session ends 3 to 6: everything in hand is dropped, and they begin again with a new session.

mod accept;
mod account;
mod admission;
mod asked_once;
mod bounded;
pub mod bulk;
mod caps;
mod carried;
pub mod check;
pub mod checksums;
pub mod cleanup;
mod clear;
mod clock;
pub mod compare;
pub mod copy;
pub mod counts;
pub mod crew;
mod description;
pub mod dice;
pub mod document;
pub mod ending;
pub mod errors;
mod fault_point;
pub mod finish;
pub mod fleet;
pub mod foresee;
pub mod interrupt;
pub mod jobs;
pub mod known_ways;
pub mod launch;
pub mod ledger;
pub mod orders;
mod pace;
mod pass;
pub mod plan_all;
pub mod planner;
pub mod prepare;
pub mod propose;
pub mod publish;
mod renew;
mod replica_paths;
mod run;
pub mod shift;
pub mod site;
pub mod status;
pub mod survey;
mod tally;
pub mod target_tables;
pub mod task_file;
pub mod task_state;
pub mod tempo;
mod turns;
mod verify;
pub mod view;
mod ways;
pub mod wishes;

pub use run::{run, run_seen};
