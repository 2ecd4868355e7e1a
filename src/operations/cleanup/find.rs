//! The search of a cleanup: finds live workers, records, and tables and statements on servers. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use futures::future::join_all;

use super::{Cleaner, Findings, Holder, Leftover, LeftoverKind, Standing};
use crate::client::Error;
use crate::ledger::{LedgerError, membership};
use crate::model::{Node, PublicationNo, TableName};
use crate::planning::errors::RunError;
use crate::protocol::{
    Alive, BatchState, BatchTable, Claim, HeldClaim, LeftoverVerdict, MadeStatement, MadeTable, TaskId,
    judge_statement, judge_table,
};

/// How many tables of a node are measured at once.
const CONCURRENT_SIZES: usize = 4;

/// A node to search, with the account to use there.
struct SearchedNode {
    node: Arc<Node>,
    statements: bool,
    databases: BTreeSet<String>,
}

impl Cleaner {
    /// Searches the coordinator and all servers of the task. Nodes that do not answer are named in the findings.
    ///
    /// # Errors
    /// When the coordinator is lost.
    pub async fn find(&mut self) -> Result<Findings, RunError> {
        let holders = self.holders().await?;
        let standing = self.read_records().await?;
        let alive = Alive(holders.iter().map(|holder| holder.worker.clone()).collect());
        let places = self.places();
        let answers = join_all(places.iter().map(|place| self.search(place, &alive))).await;
        let mut leftovers = Vec::new();
        let mut silent = BTreeSet::new();
        for answer in answers {
            match answer {
                Ok(found) => leftovers.extend(found),
                Err(error) => drop(silent.insert(error.to_string())),
            }
        }
        let order = |verdict: &LeftoverVerdict| match verdict {
            LeftoverVerdict::Goes(_) => 0,
            LeftoverVerdict::Held { .. } => 1,
            LeftoverVerdict::OfAnother(_) => 2,
            LeftoverVerdict::NotOurs => 3,
        };
        leftovers
            .sort_by_cached_key(|leftover| (order(&leftover.verdict), leftover.node.address(), leftover.what.name()));
        Ok(Findings {
            id: self.id.clone(),
            task_path: self.task_path.clone(),
            standing,
            holders,
            leftovers,
            silent: silent.into_iter().collect(),
            neighbours: self.ledger.neighbours().await,
        })
    }

    /// Returns the live workers of the task, without this cleaner.
    async fn holders(&self) -> Result<Vec<Holder>, RunError> {
        if self.record.is_none() {
            return Ok(Vec::new());
        }
        let own = membership::cleaner_place(&self.name);
        let mut claims: BTreeMap<String, Vec<Claim>> = BTreeMap::new();
        for place in membership::places(&self.ledger).await? {
            if !own.ends_with(&format!("/{place}")) {
                claims.entry(place).or_default();
            }
        }
        for HeldClaim { claim, worker } in self.ledger.claim_holders().await? {
            claims.entry(worker).or_default().push(claim);
        }
        Ok(claims.into_iter().map(|(worker, claims)| Holder { worker, claims }).collect())
    }

    async fn read_records(&mut self) -> Result<Standing, RunError> {
        let Some(record) = &self.record else {
            return Ok(if self.id.is_some() { Standing::Named } else { Standing::Absent });
        };
        if record.forgotten {
            return Ok(Standing::HalfForgotten);
        }
        if !record.planned {
            return Ok(Standing::NotPlanned);
        }
        match self.ledger.plans(self.task.tables.len()).await {
            Ok(plans) => self.ledger.refresh(&mut self.cache, &plans).await?,
            // No run can continue with such records, but the leftovers on the servers can still be removed.
            Err(error @ LedgerError::Damaged { .. }) => tracing::warn!("{error}"),
            Err(error) => return Err(error.into()),
        }
        if record.finished {
            return Ok(Standing::Finished);
        }
        let batches = || self.cache.by_table.iter().flat_map(|records| &records.batches);
        let done = batches().filter(|batch| batch.is_done()).count();
        let begun = |state: &BatchState| !matches!(state, BatchState::Done(_) | BatchState::Copying);
        let begun = batches()
            .filter(|batch| begun(&batch.state) || (batch.publication > PublicationNo(0) && !batch.is_done()))
            .count();
        Ok(Standing::Unfinished { done, batches: batches().count(), begun })
    }

    /// Returns every node of the task once for its statements, and once for each account that created tables there.
    fn places(&self) -> Vec<SearchedNode> {
        let mut sources: BTreeMap<String, SearchedNode> = BTreeMap::new();
        let mut targets: BTreeMap<String, SearchedNode> = BTreeMap::new();
        for job in &self.task.tables {
            for (_, node) in self.task.source(job).nodes() {
                let place =
                    || SearchedNode { node: Arc::new(node.clone()), statements: true, databases: BTreeSet::new() };
                let place = sources.entry(node.url()).or_insert_with(place);
                // Cloned parts passed through a table on the source.
                place.databases.insert(job.source.database.clone());
            }
        }
        for job in &self.task.tables {
            for (_, node) in self.task.target(job).nodes() {
                let statements = !sources.contains_key(&node.url());
                let place = || SearchedNode { node: Arc::new(node.clone()), statements, databases: BTreeSet::new() };
                let place = targets.entry(node.url()).or_insert_with(place);
                place.databases.insert(job.target.database.clone());
                if let Some(source) = sources.get_mut(&node.url()) {
                    source.databases.remove(&job.target.database);
                }
            }
        }
        sources.into_values().chain(targets.into_values()).collect()
    }

    /// Finds the leftovers on a node.
    async fn search(&self, place: &SearchedNode, alive: &Alive) -> Result<Vec<Leftover>, Error> {
        let (client, node) = (&self.pool.client, &place.node);
        self.pool.facts(node).await?;
        let mut found = Vec::new();
        if place.statements {
            for statement in client.running(node, TaskId::ALL_QUERIES).await? {
                found.push(Leftover {
                    node: node.clone(),
                    description: self.describe_query(&statement.query_id),
                    verdict: judge_statement(&statement.query_id, self.id.as_ref(), self.by_table(), alive),
                    what: LeftoverKind::Statement { query_id: statement.query_id, elapsed: statement.elapsed },
                });
            }
        }
        for database in &place.databases {
            let names = client.tables_with_prefix(node, database, TaskId::ALL_TABLES).await?;
            let sized = futures::stream::iter(names).map(|name| async move {
                let table = TableName::new(database, &name);
                // Only tables of tasks are known to be MergeTree tables, which have a size.
                let size = match MadeTable::parse(&name) {
                    Some(_) => client.parts(node, &table).await.ok().map(|parts| {
                        parts.iter().fold((0, 0), |(rows, bytes), part| (rows + part.rows, bytes + part.bytes))
                    }),
                    None => None,
                };
                Leftover {
                    node: node.clone(),
                    description: self.describe_table(&name),
                    verdict: judge_table(&name, self.id.as_ref(), self.by_table(), alive),
                    what: LeftoverKind::Table(table, size),
                }
            });
            found.extend(sized.buffered(CONCURRENT_SIZES).collect::<Vec<_>>().await);
        }
        Ok(found)
    }

    /// Returns what the name of a table tells about its attempt.
    fn describe_table(&self, name: &str) -> String {
        let Some(made) = MadeTable::parse(name) else { return String::new() };
        let batch = format!("{}batch {}", self.job(&made.task, made.batch.table), made.batch.index);
        match made.table {
            BatchTable::Assembly { publication } => format!("{batch}, gathered for publishing, attempt {publication}"),
            BatchTable::Parts { piece, attempt, .. } => {
                format!("{batch}, piece {piece}, attempt {attempt}, parts on their way")
            }
            BatchTable::Staging { piece, attempt, publication: None } => {
                format!("{batch}, piece {piece}, attempt {attempt}")
            }
            BatchTable::Staging { piece, attempt, publication: Some(publication) } => {
                format!("{batch}, piece {piece}, attempt {attempt}, taken for publishing, attempt {publication}")
            }
        }
    }

    fn describe_query(&self, query_id: &str) -> String {
        let describe = |made: MadeStatement| {
            let job = self.job(&made.task, made.piece.table);
            format!("{job}piece {}, attempt {}", made.piece.index, made.attempt)
        };
        MadeStatement::parse(query_id).map(describe).unwrap_or_default()
    }

    /// Returns the name of a table job, or its number where it is of another task.
    fn job(&self, task: &TaskId, table: usize) -> String {
        match self.task.tables.get(table) {
            Some(job) if self.id.as_ref() == Some(task) => format!("table {}, ", job.name),
            _ => format!("table {table}, "),
        }
    }
}

impl LeftoverKind {
    /// Returns the name of the table, or the id of the statement.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Table(name, _) => name.to_string(),
            Self::Statement { query_id, .. } => query_id.clone(),
        }
    }
}
