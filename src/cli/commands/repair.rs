//! `verify --repair`: what differs is copied again by a task of its own, beside the one that copied it.

use std::time::Duration;

use crate::operations::verify::Request;
use crate::planning::errors::RunError;
use crate::report::verify::{Outcome, VerifyReport};
use crate::runtime::random::Randomness;
use crate::task::{IfTargetNotEmpty, Task, replacing};
use crate::worker;
use crate::worker::context::WorkerOptions;
use crate::worker::ending::Ending;
use crate::worker::launch::Launch;
use crate::worker::limits::concurrency::Jobs;

use super::super::args::address::{Address, stored};
use super::super::exit::failure;
use super::super::{Exit, Failure, Interrupt};

/// What a repair works with, known before anything is compared.
pub(crate) struct Repair {
    /// The task's text.
    text: String,
    /// The path of the task that repairs.
    task_path: String,
    randomness: Randomness,
    /// Where the task lives, and how servers are treated.
    place: Address,
}

impl Repair {
    /// Refused where the target holds rows of others on purpose: replaced partitions would lose them.
    pub(crate) async fn of(request: &Request, place: Option<&Address>) -> Result<Self, Failure> {
        let refused = |why: String| Failure::new(Exit::BadInput, why);
        let Some(((coordinator, path), place)) = request.coordinator.as_ref().zip(place) else {
            return Err(refused(
                "--repair needs a place for the task that repairs: give that of the task with --config and --task-path, or \
                 with --state-dir"
                    .to_owned(),
            ));
        };
        let (text, file) = match &request.description {
            Some(given) => given.clone(),
            None => stored(coordinator.as_ref(), path).await?,
        };
        let task = Task::parse(&text, request.secrets.as_ref())
            .map_err(|faults| Failure::new(Exit::BadInput, faults.in_file(file)))?
            .task;
        for (at, job) in task.tables.iter().enumerate() {
            if let IfTargetNotEmpty::Append | IfTargetNotEmpty::Skip = job.if_target_not_empty {
                return Err(refused(format!(
                    "--repair: tables/{} has if_target_not_empty {}: the target may hold rows of others, which would be lost \
                     where a partition is replaced",
                    job.name,
                    job.if_target_not_empty.as_str()
                )));
            }
            let same = |other: &&crate::task::TableJob| {
                other.target_cluster == job.target_cluster && other.target == job.target
            };
            if let Some(other) = task.tables[..at].iter().find(same) {
                return Err(refused(format!(
                    "--repair: tables/{} and tables/{} fill the same table {}: the rows of one would be lost where those of \
                     the other are replaced",
                    other.name, job.name, job.target
                )));
            }
        }
        let randomness = Randomness::fair();
        let task_path = format!("{path}-repair-{}", randomness.unique(8));
        Ok(Self { text, task_path, randomness, place: place.clone() })
    }

    /// The partitions that differ and have rows at the source, by table job.
    pub(crate) fn chosen(&self, report: &VerifyReport) -> Vec<(String, Vec<String>)> {
        let of_table = |table: &crate::report::verify::TableReport| {
            let differ = table.partitions.iter().filter(|of| of.verdict == Outcome::Different && of.source_rows > 0);
            (table.table.clone(), differ.map(|of| of.partition.clone()).collect::<Vec<_>>())
        };
        report.tables.iter().map(of_table).filter(|(_, partitions)| !partitions.is_empty()).collect()
    }

    /// Copies them again. Gives the exit code of a run that did not do all.
    pub(crate) async fn run(
        self,
        request: &Request,
        chosen: &[(String, Vec<String>)],
        interrupt: &Interrupt,
    ) -> Result<Option<Exit>, Failure> {
        let Some((coordinator, _)) = &request.coordinator else { return Ok(Some(Exit::Failed)) };
        for (table, partitions) in chosen {
            tracing::warn!(
                "{table}: replacing {} on the target by the source's rows, as task {}",
                partitions.join(", "),
                self.task_path
            );
        }
        // A table without partitions has nothing to name.
        let named = |(table, partitions): &(String, Vec<String>)| {
            let all = partitions.as_slice() == ["all"];
            (table.clone(), if all { Vec::new() } else { partitions.clone() })
        };
        let wanted: Vec<_> = chosen.iter().map(named).collect();
        let text = replacing(&self.text, &wanted);
        // Made from the task file, it is trusted as that is; made from a description of the coordinator, it is not.
        let secrets = match request.description {
            Some(_) => self.place.secrets(Some(&text)),
            None => request.secrets.clone(),
        };
        let launch = Launch {
            coordinator: coordinator.clone(),
            client: request.client.clone(),
            secrets,
            description: Some((text, format!("the task of {}", self.task_path))),
            task_path: self.task_path,
            upload_force: false,
            agreed: None,
            incremental: None,
            // As a run without flags.
            worker_options: WorkerOptions {
                tries: 3,
                publication_tries: 10,
                rounds: 3,
                retry_delay: Duration::from_secs(1),
                stall_timeout: self.place.servers.stall,
                copy_fault_probability: 0.0,
                move_fault_probability: 0.0,
                jobs: Jobs::Adaptive,
                safe_mode: false,
            },
            worker: format!("{}-{}-{}", request.host, std::process::id(), self.randomness.unique(4)),
            host: request.host.clone(),
            randomness: self.randomness,
        };
        let summary = worker::run(launch, interrupt, async || Ok::<_, RunError>(())).await.map_err(failure)?;
        for line in &summary.left {
            tracing::error!("not everything is cleaned up: {line}");
        }
        Ok(match summary.ending {
            Ending::Finished | Ending::WasFinished => None,
            Ending::Different => Some(Exit::Different),
            Ending::Partial | Ending::Unaccounted | Ending::Uncleaned => Some(Exit::Partial),
            Ending::Interrupted => Some(Exit::Interrupted),
            Ending::Cancelled => Some(Exit::Failed),
        })
    }
}
