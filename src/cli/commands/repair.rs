//! `verify --repair`: copies partitions that differ again, as a task of its own beside the original task.

use std::time::Duration;

use super::super::args::address::{Address, stored};
use super::super::exit::failure;
use super::super::{Exit, Failure, Interrupt};
use crate::operations::verify::Request;
use crate::planning::errors::RunError;
use crate::report::verify::{ComparisonResult, VerifyReport};
use crate::runtime::random::Randomness;
use crate::task::{IfTargetNotEmpty, TablePartitions, TaskFile, TaskText, replacing};
use crate::worker;
use crate::worker::context::WorkerOptions;
use crate::worker::ending::Ending;
use crate::worker::launch::Launch;
use crate::worker::limits::concurrency::Jobs;
use crate::worker::retry_policy::RetryPolicy;

/// The inputs of a repair, which are known before anything is compared.
pub(crate) struct Repair {
    /// The original task.
    file: TaskFile,
    /// The path of the repair task.
    task_path: String,
    randomness: Randomness,
    /// The address of the original task, with the limits for servers.
    place: Address,
}

impl Repair {
    /// Prepares a repair. Refuses if the target may hold foreign rows on purpose: they would be lost with a replaced
    /// partition.
    pub(crate) async fn of(request: &Request, place: Option<&Address>) -> Result<Self, Failure> {
        let refused = |why: String| Failure::new(Exit::BadInput, why);
        let Some((location, place)) = request.location.as_ref().zip(place) else {
            return Err(refused(
                "--repair needs a place for the task that repairs: give that of the task with --config and --task-path, or \
                 with --state-dir"
                    .to_owned(),
            ));
        };
        let text = match &request.description {
            Some(given) => given.clone(),
            None => stored(location.coordinator.as_ref(), &location.task_path).await?,
        };
        let parsed = text.parse(request.secrets.as_ref());
        let file = parsed.map_err(|faults| Failure::new(Exit::BadInput, faults))?;
        let task = &file.task;
        for (index, job) in task.tables.iter().enumerate() {
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
            if let Some(other) = task.tables[..index].iter().find(same) {
                return Err(refused(format!(
                    "--repair: tables/{} and tables/{} fill the same table {}: the rows of one would be lost where those of \
                     the other are replaced",
                    other.name, job.name, job.target
                )));
            }
        }
        let randomness = Randomness::fair();
        let task_path = format!("{}-repair-{}", location.task_path, randomness.unique(8));
        Ok(Self { file, task_path, randomness, place: place.clone() })
    }

    /// Returns the partitions that differ and have rows at the source, for each table job.
    pub(crate) fn chosen(&self, report: &VerifyReport) -> Vec<TablePartitions> {
        let differing_partitions = |table: &crate::report::verify::TableReport| {
            let differ = table
                .partitions
                .iter()
                .filter(|partition| partition.verdict == ComparisonResult::Different && partition.source_rows > 0);
            let partitions = differ.map(|partition| partition.partition.clone()).collect();
            TablePartitions { table: table.table.clone(), partitions }
        };
        report.tables.iter().map(differing_partitions).filter(|chosen| !chosen.partitions.is_empty()).collect()
    }

    /// Copies these partitions again. Returns the exit code of a run that did not copy all of them.
    pub(crate) async fn run(
        self,
        request: &Request,
        chosen: &[TablePartitions],
        interrupt: &Interrupt,
    ) -> Result<Option<Exit>, Failure> {
        let Some(location) = &request.location else { return Ok(Some(Exit::Failed)) };
        for TablePartitions { table, partitions } in chosen {
            tracing::warn!(
                "{table}: replacing {} on the target by the source's rows, as task {}",
                partitions.join(", "),
                self.task_path
            );
        }
        // A table without partitions has no partition to name.
        let table_selection = |chosen: &TablePartitions| {
            let all = chosen.partitions.as_slice() == ["all"];
            TablePartitions {
                table: chosen.table.clone(),
                partitions: if all { Vec::new() } else { chosen.partitions.clone() },
            }
        };
        let wanted: Vec<_> = chosen.iter().map(table_selection).collect();
        let text = replacing(&self.file.text, &wanted);
        // A repair task that is made from the task file may refer to the same secrets as the file. A task from a
        // description of the coordinator may not.
        let secrets = match request.description {
            Some(_) => self.place.secrets(Some(&text)),
            None => request.secrets.clone(),
        };
        let text = TaskText::new(text, format!("the task of {}", self.task_path));
        let description = text.parse(secrets.as_ref()).map_err(|faults| failure(faults.into()))?;
        let launch = Launch {
            coordinator: location.coordinator.clone(),
            client: request.client.clone(),
            secrets,
            description: Some(description),
            task_path: self.task_path,
            upload_force: false,
            agreed: None,
            incremental: None,
            // These are the defaults of a run without flags.
            worker_options: WorkerOptions {
                retry: RetryPolicy {
                    piece_attempts: 3,
                    publication_attempts: 10,
                    rounds: 3,
                    first_pause: Duration::from_secs(1),
                },
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
