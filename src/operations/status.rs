//! The verb `status`: reads the records of a task, its workers, and its statements that run on servers. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use crate::client::ServerClient;
use crate::coordinator::Coordinator;
use crate::ledger::overview::{TaskOverview, TaskStatement};
use crate::ledger::{Cache, Ledger, membership};
use crate::model::Node;
use crate::plan::TablePlan;
use crate::planning::errors::RunError;
use crate::planning::task_file::parse;
use crate::protocol::{MadeStatement, TaskId};
use crate::task::{SecretSource, TaskFile, TaskText};

/// How long to wait for the answers of servers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A reader of the state of a task. It can be used many times, and reads plans only once.
pub(crate) struct TaskReader {
    ledger: Ledger,
    client: Arc<dyn ServerClient>,
    /// The pass of the plans and records.
    pass: Option<ReadPass>,
    secrets: Arc<dyn SecretSource>,
    /// The last description that could be used.
    file: TaskFile,
    /// A newer text that cannot be used.
    unusable: Option<String>,
    plans: Arc<Vec<TablePlan>>,
    cache: Cache,
}

/// The pass of a task whose plans and records were read.
struct ReadPass {
    number: u32,
    task: TaskId,
}

impl TaskReader {
    /// Opens an existing task.
    ///
    /// # Errors
    /// When there is no task at the path, or its description cannot be read.
    pub(crate) async fn open(
        coordinator: &dyn Coordinator,
        client: Arc<dyn ServerClient>,
        secrets: Arc<dyn SecretSource>,
        task_path: &str,
    ) -> Result<Self, RunError> {
        let ledger = Ledger::new(coordinator.session().await?, task_path);
        let opened = async {
            let absent = || RunError::task(format!("there is no task at {task_path} in {}", coordinator.place()));
            let text = ledger.description().await?.ok_or_else(absent)?;
            ledger.task().await?.ok_or_else(absent)?;
            parse(TaskText::new(text, ledger.path("description")), secrets.as_ref())
        };
        match opened.await {
            Ok(file) => Ok(Self {
                ledger,
                client,
                pass: None,
                secrets,
                file,
                unusable: None,
                plans: Arc::default(),
                cache: Cache::default(),
            }),
            Err(error) => {
                ledger.session().close().await;
                Err(error)
            }
        }
    }

    /// Reads the current state of the task.
    ///
    /// # Errors
    /// When the coordinator fails. Servers that do not answer are named in the overview.
    pub(crate) async fn read(&mut self) -> Result<TaskOverview, RunError> {
        let Some(record) = self.ledger.task().await? else {
            return Err(RunError::servers("the task was removed"));
        };
        match &self.pass {
            Some(last) if last.task != record.id && record.pass <= last.number => {
                return Err(RunError::servers("the task was removed, and another one is at its path now"));
            }
            Some(last) if last.task == record.id => {}
            // Each pass has its own plans and records.
            _ => (self.plans, self.cache) = (Arc::default(), Cache::default()),
        }
        self.pass = Some(ReadPass { number: record.pass, task: record.id.clone() });
        self.reload_task().await?;
        if record.planned && self.plans.is_empty() {
            self.plans = Arc::new(self.ledger.plans(self.file.task.tables.len()).await?);
        }
        self.ledger.refresh(&mut self.cache, &self.plans).await?;
        let prefix = record.id.queries();
        let (statements, silent) = if record.finished { Default::default() } else { self.statements(&prefix).await };
        Ok(TaskOverview {
            order: self.ledger.order().await?,
            max_jobs_per_server: self.file.task.max_jobs_per_server.map(std::num::NonZeroU32::get),
            max_workers: Some(self.file.task.max_workers).filter(|limit| *limit != u32::MAX),
            plans: self.plans.clone(),
            by_table: self.cache.by_table.clone(),
            places: membership::places(&self.ledger).await?,
            claims: self.ledger.claim_holders().await?,
            on_servers: self.ledger.on_servers().await?,
            statements,
            silent,
            record,
        })
    }

    /// Reads the description again, since limits and accounts may change meanwhile. Keeps the last good task if it cannot be parsed.
    async fn reload_task(&mut self) -> Result<(), RunError> {
        let Some(text) = self.ledger.description().await? else { return Ok(()) };
        if text == self.file.text || self.unusable.as_ref() == Some(&text) {
            return Ok(());
        }
        match TaskText::new(text.clone(), self.file.name.clone()).parse(self.secrets.as_ref()) {
            Ok(file) if file.task.tables.len() == self.file.task.tables.len() => {
                (self.file, self.unusable) = (file, None);
            }
            _ => self.unusable = Some(text),
        }
        Ok(())
    }

    /// Ends the session.
    pub(crate) async fn close(self) {
        self.ledger.session().close().await;
    }

    /// Returns the running statements of the task, and the errors of nodes that do not answer. Asks each node once, with the account that
    /// the task names first.
    async fn statements(&self, prefix: &str) -> (Vec<TaskStatement>, Vec<String>) {
        let mut nodes: BTreeMap<String, &Node> = BTreeMap::new();
        for job in &self.file.task.tables {
            for cluster in [self.file.task.source(job), self.file.task.target(job)] {
                for (_, node) in cluster.nodes() {
                    nodes.entry(node.url()).or_insert(node);
                }
            }
        }
        let answers = join_all(nodes.values().map(|node| async {
            (node.address(), tokio::time::timeout(ANSWER_TIMEOUT, self.client.running(node, prefix)).await)
        }));
        let (mut statements, mut silent) = (Vec::new(), BTreeSet::new());
        for (node, answer) in answers.await {
            match answer {
                Ok(Ok(running)) => statements.extend(running.into_iter().filter_map(|running| {
                    let piece = MadeStatement::parse(&running.query_id)?.piece;
                    Some(TaskStatement { node: node.clone(), piece, running })
                })),
                Ok(Err(error)) => drop(silent.insert(error.to_string())),
                Err(_) => drop(silent.insert(format!("{node}: no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
            }
        }
        (statements, silent.into_iter().collect())
    }
}
