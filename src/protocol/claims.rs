//! What a worker claims: jobs, and places on servers. Each claim is an ephemeral node of the coordinator.

use std::fmt;

use super::names::{BatchRef, PieceRef};

/// A job that a worker can claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Job {
    /// Copy a piece.
    Copy(PieceRef),
    /// Publish a batch.
    Publish(BatchRef),
}

impl Job {
    /// Returns the name of its claim in the coordinator.
    pub fn claim(self) -> String {
        match self {
            Self::Copy(piece) => format!("t{}-p{}", piece.table, piece.index),
            Self::Publish(batch) => format!("t{}-b{}", batch.table, batch.index),
        }
    }
}

/// A claim of a worker. Its text is the name of its ephemeral node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// On a job.
    Job(Job),
    /// On work for the whole task, such as `planning`.
    Task(String),
}

impl Claim {
    /// Parses the name of a claim's node.
    pub fn parse(name: &str) -> Self {
        job_of_claim(name).map_or_else(|| Self::Task(name.to_owned()), Self::Job)
    }

    /// Returns the claimed job; `None` for work for the whole task.
    pub fn job(&self) -> Option<Job> {
        match self {
            Self::Job(job) => Some(*job),
            Self::Task(_) => None,
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(job) => f.write_str(&job.claim()),
            Self::Task(name) => f.write_str(name),
        }
    }
}

/// Returns the job that a claim is for; `None` for claims on planning and finishing.
fn job_of_claim(name: &str) -> Option<Job> {
    let (table, rest) = name.strip_prefix('t')?.split_once('-')?;
    let table = table.parse().ok()?;
    match rest.split_at_checked(1)? {
        ("p", piece) => Some(Job::Copy(PieceRef { table, index: piece.parse().ok()? })),
        ("b", batch) => Some(Job::Publish(BatchRef { table, index: batch.parse().ok()? })),
        _ => None,
    }
}

/// A claim with the worker that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldClaim {
    /// The claim.
    pub claim: Claim,
    /// The worker that holds it.
    pub worker: String,
}

/// A place of a job on a server, where the task limits the jobs of each server. Its text is the name of its ephemeral node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerPlace {
    /// The address of the server.
    pub address: String,
    /// The number of the place, from 0.
    pub number: u32,
}

impl ServerPlace {
    /// Parses the name of a place's node; returns `None` for a name that no worker would choose.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (address, number) = name.rsplit_once('#')?;
        Some(Self { address: address.to_owned(), number: number.parse().ok()? })
    }
}

impl fmt::Display for ServerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.address, self.number)
    }
}
