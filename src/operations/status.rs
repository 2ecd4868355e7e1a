//! A look at a task from outside: what is recorded, who is at work, and what the servers say runs. Changes nothing.

use crate::ledger::overview::TaskOverview;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use crate::client::{Running, ServerClient};
use crate::coordinator::Coordinator;
use crate::model::Node;
use crate::plan::TablePlan;
use crate::protocol::{MadeStatement, PieceRef, TaskId};
use crate::task::{SecretSource, Task};

use crate::ledger::membership;
use crate::ledger::{Cache, Ledger};
use crate::planning::errors::RunError;
use crate::planning::task_file::parse;

/// So long the servers are asked; whoever looks wants to see something.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who looks at a task, again and again: what cannot change is read once.
pub struct TaskReader {
    ledger: Ledger,
    client: Arc<dyn ServerClient>,
    /// Of which pass plans and records are.
    pass: Option<(u32, TaskId)>,
    /// The text that `task` was read from.
    description: String,
    secrets: Arc<dyn SecretSource>,
    task: Task,
    plans: Arc<Vec<TablePlan>>,
    cache: Cache,
}

impl TaskReader {
    /// Of a task that is there.
    ///
    /// # Errors
    /// When there is none at the path, or its description cannot be read.
    pub async fn open(
        coordinator: &dyn Coordinator,
        client: Arc<dyn ServerClient>,
        secrets: Arc<dyn SecretSource>,
        task_path: &str,
    ) -> Result<Self, RunError> {
        let ledger = Ledger::new(coordinator.session().await?, task_path);
        let opened = async {
            let absent = || RunError::Task(vec![format!("there is no task at {task_path} in {}", coordinator.place())]);
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

    /// Looks.
    ///
    /// # Errors
    /// The coordinator. Servers that do not answer are named in the sight.
    pub async fn look(&mut self) -> Result<TaskOverview, RunError> {
        let Some(record) = self.ledger.task().await? else {
            return Err(RunError::World(vec!["the task was removed".into()]));
        };
        match &self.pass {
            Some((pass, id)) if *id != record.id && record.pass <= *pass => {
                return Err(RunError::World(vec!["the task was removed, and another one is at its path now".into()]));
            }
            Some((_, id)) if *id == record.id => {}
            // A pass has plans and records of its own.
            _ => (self.plans, self.cache) = (Arc::default(), Cache::default()),
        }
        self.pass = Some((record.pass, record.id.clone()));
        self.read_again().await?;
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

    /// Limits and accounts may be changed while one looks on. What cannot be understood leaves what was read before.
    async fn read_again(&mut self) -> Result<(), RunError> {
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

    /// Every node once, whatever it is used for; the account of its first mention will do.
    async fn statements(&self, prefix: &str) -> (Vec<(String, PieceRef, Running)>, Vec<String>) {
        let mut nodes: BTreeMap<String, &Node> = BTreeMap::new();
        for job in &self.task.tables {
            for cluster in [self.task.source(job), self.task.target(job)] {
                for (_, node) in cluster.nodes() {
                    nodes.entry(node.url()).or_insert(node);
                }
            }
        }
        let looks = join_all(nodes.values().map(|node| async {
            (node.address(), tokio::time::timeout(PATIENCE, self.client.running(node, prefix)).await)
        }));
        let (mut statements, mut silent) = (Vec::new(), BTreeSet::new());
        for (node, look) in looks.await {
            match look {
                Ok(Ok(running)) => statements.extend(running.into_iter().filter_map(|running| {
                    Some((node.clone(), MadeStatement::parse(&running.query_id)?.piece, running))
                })),
                Ok(Err(error)) => drop(silent.insert(error.to_string())),
                Err(_) => drop(silent.insert(format!("{node}: no answer within {} s", PATIENCE.as_secs()))),
            }
        }
        (statements, silent.into_iter().collect())
    }
}
