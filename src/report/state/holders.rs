//! The workers that hold the jobs of a task.

use std::collections::HashMap;

use crate::protocol::{HeldClaim, Job};

/// The worker that holds each claimed job.
#[derive(Default)]
pub(crate) struct Holders<'a>(HashMap<Job, &'a str>);

impl<'a> Holders<'a> {
    /// Takes the claims of all workers.
    pub(crate) fn of(claims: &'a [HeldClaim]) -> Self {
        let mut holders = HashMap::new();
        for held in claims {
            if let Some(job) = held.claim.job() {
                holders.entry(job).or_insert(held.worker.as_str());
            }
        }
        Self(holders)
    }

    /// Returns the worker that holds a job.
    pub(crate) fn holder(&self, job: Job) -> Option<&'a str> {
        self.0.get(&job).copied()
    }
}
