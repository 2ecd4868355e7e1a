//! The verb `status`: reads the records of a task, its workers, and its statements that run on servers. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use crate::client::{Running, ServerClient};
use crate::coordinator::Coordinator;
use crate::ledger::overview::TaskOverview;
use crate::ledger::{Cache, Ledger, membership};
use crate::model::Node;
use crate::plan::TablePlan;
use crate::planning::errors::RunError;
use crate::planning::task_file::parse;
use crate::protocol::{MadeStatement, PieceRef, TaskId};
use crate::task::{SecretSource, Task};

/// How long to wait for the answers of servers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A reader of the state of a task. It can be used many times, and reads plans only once.
pub struct TaskReader {
    ledger: Ledger,
    client: Arc<dyn ServerClient>,
    /// The pass of the plans and records.
    pass: Option<(u32, TaskId)>,
    /// The text from which `task` was parsed.
    description: String,
    secrets: Arc<dyn SecretSource>,
    task: Task,
    plans: Arc<Vec<TablePlan>>,
    cache: Cache,
}

impl TaskReader {
    /// Opens an existing task.
    ///
    /// # Errors
    /// When there is no task at the path, or its description cannot be read.
    pub async fn open(
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
            let task = parse(&text, &ledger.path("description"), secrets.as_ref())?;
            Ok((text, task))
        };
        match opened.await {
            Ok((description, task)) => Ok(Self {
                ledger,
                client,
                pass: None,
                description,
                secrets,
                task,
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
    pub async fn read(&mut self) -> Result<TaskOverview, RunError> {
        let Some(record) = self.ledger.task().await? else {
            return Err(RunError::servers("the task was removed"));
        };
        match &self.pass {
            Some((pass, id)) if *id != record.id && record.pass <= *pass => {
                return Err(RunError::servers("the task was removed, and another one is at its path now"));
            }
            Some((_, id)) if *id == record.id => {}
            // Each pass has its own plans and records.
            _ => (self.plans, self.cache) = (Arc::default(), Cache::default()),
        }
        self.pass = Some((record.pass, record.id.clone()));
        self.reload_task().await?;
        if record.planned && self.plans.is_empty() {
            self.plans = Arc::new(self.ledger.plans(self.task.tables.len()).await?);
        }
        self.ledger.refresh(&mut self.cache, &self.plans).await?;
        let prefix = record.id.queries();
        let (statements, silent) = if record.finished { Default::default() } else { self.statements(&prefix).await };
        Ok(TaskOverview {
            order: self.ledger.order().await?,
            max_jobs_per_server: self.task.max_jobs_per_server.map(std::num::NonZeroU32::get),
            max_workers: Some(self.task.max_workers).filter(|limit| *limit != u32::MAX),
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
        if text != self.description {
            if let Ok(parsed) = Task::parse(&text, self.secrets.as_ref())
                && parsed.task.tables.len() == self.task.tables.len()
            {
                self.task = parsed.task;
            }
            self.description = text;
        }
        Ok(())
    }

    /// Ends the session.
    pub async fn close(self) {
        self.ledger.session().close().await;
    }

    /// Returns the running statements of the task, and the errors of nodes that do not answer. Asks each node once, with the account that
    /// the task names first.
    async fn statements(&self, prefix: &str) -> (Vec<(String, PieceRef, Running)>, Vec<String>) {
        let mut nodes: BTreeMap<String, &Node> = BTreeMap::new();
        for job in &self.task.tables {
            for cluster in [self.task.source(job), self.task.target(job)] {
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
                    Some((node.clone(), MadeStatement::parse(&running.query_id)?.piece, running))
                })),
                Ok(Err(error)) => drop(silent.insert(error.to_string())),
                Err(_) => drop(silent.insert(format!("{node}: no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
            }
        }
        (statements, silent.into_iter().collect())
    }
}
