//! The check that the source can be copied, and that no two of its shards return the same rows. A view over one Distributed table on
//! two shards would return every row twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::errors::Problem;
use super::{Holders, Surveyor};
use crate::client::Error;
use crate::model::{Node, TableName};
use crate::plan::Remark;
use crate::sql::{Beneath, Expression, KeyElement, Reads, Relation, Selection, TableDefinition, quote};

/// The most tables below one source that are checked.
const MAX_TABLES_BENEATH: usize = 1000;

/// The tables that a source reads on one node.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// The tables of that node.
    pub(crate) tables: Vec<TableDefinition>,
    /// Why other nodes may return the same rows, if they may.
    shared: Option<String>,
}

impl Below {
    /// Records that other nodes may return the same rows. Keeps the first reason.
    fn is_shared(&mut self, why: impl FnOnce() -> String) {
        self.shared.get_or_insert_with(why);
    }
}

impl Surveyor<'_> {
    /// Refuses a source that cannot be copied, or whose shards may return the same rows.
    pub(super) async fn check_readable(
        &self,
        source: &TableDefinition,
        holders: &Holders,
        remarks: &mut Vec<Remark>,
    ) -> Result<(), Vec<Problem>> {
        let name = &source.name;
        let shards: Vec<&Arc<Node>> = holders.iter().filter_map(|nodes| nodes.first()).collect();
        let mut faults = Vec::new();
        for (shard, node) in shards.iter().enumerate() {
            let own = if shard == 0 { Ok(Some(source.clone())) } else { self.pool.client.table(node, name).await };
            let Some(definition) = own.map_err(|error| vec![self.server_error(&error)])? else { continue };
            let engine = &definition.engine.name;
            if let Reads::Nothing(why) = definition.reads() {
                let problem = format!("{name} on {node} is a table of engine {engine}: {why}. Name another table");
                faults.push(self.task("table_pull", &problem));
            } else if shards.len() > 1 {
                let shared = self.shared_beneath(node, definition.clone()).await;
                if let Some(which) = shared.map_err(|error| vec![self.server_error(&error)])? {
                    faults.push(self.task(
                        "table_pull",
                        &format!(
                            "{name} on {node} is a table of engine {engine}, and {which}: {} source shards may give the same \
                             rows. Name the table that holds the rows, or copy from a cluster of one shard",
                            shards.len()
                        ),
                    ));
                }
            } else if engine == "Distributed" {
                remarks.push(Remark::new(format!(
                    "{name} is a Distributed table: its rows are read through {node}. A task that names the table it stands for, \
                     and that table's cluster, reads each shard directly"
                )));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Returns which table makes a node return rows that other nodes may return too, or `None` where all rows are its own.
    async fn shared_beneath(&self, node: &Node, definition: TableDefinition) -> Result<Option<String>, Error> {
        Ok(self.beneath(node, definition).await?.shared)
    }

    /// Finds the tables that a source reads on its node, directly and through others.
    pub(super) async fn beneath(&self, node: &Node, source: TableDefinition) -> Result<Below, Error> {
        let mut below = Below::default();
        let mut seen = BTreeSet::from([source.name.to_string()]);
        let mut due = vec![source];
        while let Some(definition) = due.pop() {
            let tables = match definition.reads() {
                Reads::Own | Reads::Nothing(_) => continue,
                Reads::Shared if seen.len() == 1 => {
                    below.is_shared(|| "it is not known which servers it reads".into());
                    continue;
                }
                Reads::Shared => {
                    below.is_shared(|| format!("it reads {} ({})", definition.name, definition.engine.name));
                    continue;
                }
                Reads::Tables(tables) => tables,
            };
            for table in self.named(node, tables).await? {
                if !seen.insert(table.to_string()) {
                    continue;
                }
                if seen.len() > MAX_TABLES_BENEATH {
                    below.is_shared(|| format!("it reads more than {MAX_TABLES_BENEATH} tables"));
                    return Ok(below);
                }
                match self.pool.client.table(node, &table).await? {
                    Some(definition) => {
                        below.tables.push(definition.clone());
                        due.push(definition);
                    }
                    None => below.is_shared(|| format!("it reads {table}, which is not found")),
                }
            }
        }
        Ok(below)
    }

    /// Returns the names of the tables, including those that match an expression.
    async fn named(&self, node: &Node, tables: Vec<Beneath>) -> Result<Vec<TableName>, Error> {
        let mut names = Vec::new();
        for beneath in tables {
            let (database, pattern) = match beneath {
                Beneath::Table(table) => {
                    names.push(table);
                    continue;
                }
                Beneath::Matching { database, pattern } => (database, pattern),
            };
            let condition =
                format!("database = {} AND match(name, {})", quote::literal(&database), quote::literal(&pattern));
            let system = Relation::plain(TableName::new("system", "tables"));
            // A condition made of two literals is an expression.
            let condition = Expression::parse(&condition).unwrap_or_else(|_| Expression::never());
            let rows = Selection::all(Relation { condition: Some(condition), ..system });
            let key = [KeyElement { expression: "name".into(), type_name: "String".into() }];
            let found = self.pool.client.tally(node, &rows, &key, &Vec::new()).await?;
            let matching = found.into_iter().filter_map(|tally| tally.value.0.into_iter().next());
            names.extend(matching.map(|table| TableName::new(&database, table)));
        }
        Ok(names)
    }
}
