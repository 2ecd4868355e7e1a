//! Rows that an account does not see. A row policy or a filter in `users.xml` hides them without an error. The survey compares the rows
//! in the parts of a table with a count.
//!
//! `system.parts` ignores policies. A plain `count()` obeys them on every release: modern servers answer it from metadata only
//! where no policy applies. Rows that a lightweight DELETE removed are still in the parts, and are included in this count.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;

use super::super::errors::Problem;
use super::{Holders, Surveyor};
use crate::client::{Error, FIRST_REPLICA};
use crate::model::{Node, TableName};
use crate::nodes::settings::defaults;
use crate::sql::{Behind, PolicyKind, Relation, Selection, TableDefinition};
use crate::task::HiddenRows;

/// How often a table is counted while other clients write to it.
const MAX_COUNTS: usize = 5;
/// The settings with which a SELECT returns deleted or changed rows as the parts store them.
const AS_STORED: &[(&str, &str)] =
    &[("apply_deleted_mask", "0"), ("apply_patch_parts", "0"), ("apply_mutations_on_fly", "0")];

/// One count of a table, with the rows of its parts before and after the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    before: u64,
    counted: u64,
    after: u64,
}

impl Count {
    /// Returns whether the number of rows in the parts did not change meanwhile.
    fn is_still(&self) -> bool {
        self.before == self.after
    }

    /// Returns the number of rows that the parts held all the time and the count did not return.
    fn hidden(&self) -> u64 {
        self.before.min(self.after).saturating_sub(self.counted)
    }
}

/// Returns how many rows are hidden, or `None` where another count may tell more. A table that changes meanwhile has hidden rows if every
/// count missed some.
fn judge(counts: &[Count]) -> Option<u64> {
    let last = counts.last()?;
    match last.is_still() || last.hidden() == 0 {
        true => Some(last.hidden()),
        false if counts.len() == MAX_COUNTS => counts.iter().map(Count::hidden).min(),
        false => None,
    }
}

impl Surveyor<'_> {
    /// Refuses tables with rows that the accounts do not see. Returns a line for each node whose hidden rows the task skips.
    pub(super) async fn hidden_rows(
        &self,
        source: &TableDefinition,
        sources: &Holders,
        target: &TableDefinition,
        targets: &Holders,
        missing: &[Arc<Node>],
    ) -> Result<Vec<String>, Vec<Problem>> {
        let (mut skipped, mut faults) = (Vec::new(), Vec::new());
        for (node, answer) in self.hidden_on(source, sources.iter().flatten().collect()).await {
            match answer {
                Ok(0) => {}
                Ok(rows) if self.job.hidden_rows == HiddenRows::Skip => {
                    skipped.push(format!("{}; they are not copied", hides(rows, &source.name, node)));
                }
                Ok(rows) => faults.push(self.servers(&format!(
                    "{}. Let it see all rows, or write <hidden_rows>skip</hidden_rows> to copy only what it sees",
                    hides(rows, &source.name, node)
                ))),
                Err(error) if error.is_unreachable() => {}
                Err(error) => faults.push(self.server_error(&error)),
            }
        }
        faults.extend(self.policies(source, sources, &mut skipped).await);
        faults.extend(self.target_policies(&target.name, targets).await);
        let is_new = |node: &Arc<Node>| missing.iter().any(|other| other.address() == node.address());
        let existing = targets.iter().flatten().filter(|node| !is_new(node)).collect();
        for (node, answer) in self.hidden_on(target, existing).await {
            match answer {
                Ok(0) => {}
                Ok(rows) => faults.push(self.servers(&format!(
                    "{}, the target. Let it see all rows: those that it does not see can be neither counted nor kept",
                    hides(rows, &target.name, node)
                ))),
                Err(error) if error.is_unreachable() => {}
                Err(error) => faults.push(self.server_error(&error)),
            }
        }
        if faults.is_empty() { Ok(skipped) } else { Err(faults) }
    }

    /// Refuses policies that hide values of the source, or rows of a source without parts, where they cannot be counted.
    async fn policies(&self, source: &TableDefinition, nodes: &Holders, skipped: &mut Vec<String>) -> Vec<Problem> {
        let mut faults = Vec::new();
        for node in nodes.iter().flatten() {
            let (name, user) = (&source.name, &node.user);
            match self.policy(node, name, PolicyKind::Masking).await {
                Ok(None) => {}
                Ok(Some(policy)) => faults.push(self.servers(&format!(
                    "masking policy {policy} hides values of {name} from account {user} at {node}. Let it see all values"
                ))),
                Err(error) => faults.push(self.server_error(&error)),
            }
            if source.engine.is_merge_tree() {
                continue;
            }
            let mut hiding = Vec::new();
            match self.policy(node, name, PolicyKind::Row).await {
                Ok(None) => {}
                Ok(Some(policy)) => {
                    hiding.push(format!("row policy {policy} may hide rows of {name} from account {user} at {node}"));
                }
                Err(error) => faults.push(self.server_error(&error)),
            }
            // A server that does not list its policies may hide rows, and no second count would find them.
            match self.hidden_beneath(node, source).await {
                Ok(beneath) => {
                    hiding.extend(beneath.rows);
                    faults.extend(beneath.values.iter().map(|line| self.servers(line)));
                }
                Err(error) => faults.push(self.server_error(&error)),
            }
            for line in hiding {
                match self.job.hidden_rows {
                    HiddenRows::Skip => skipped.push(format!("{line}; they are not copied")),
                    HiddenRows::Refuse => faults.push(self.servers(&format!(
                        "{line}. Let it see all rows, or write <hidden_rows>skip</hidden_rows> to copy only what it sees"
                    ))),
                }
            }
        }
        faults
    }

    /// Returns the policies that hide rows and values of the tables that the source reads. A table that our account may not read is read
    /// with the rights of the view's definer, and the policies of that account are unknown.
    async fn hidden_beneath(&self, node: &Arc<Node>, source: &TableDefinition) -> Result<HiddenBeneath, Error> {
        let mut found = HiddenBeneath::default();
        found.rows.extend(self.hidden_behind(node, source).await?);
        for table in self.beneath(node, source.clone()).await?.tables {
            found.rows.extend(self.hidden_behind(node, &table).await?);
            let (name, reader, user) = (&table.name, &source.name, &node.user);
            if let Some(policy) = self.policy(node, name, PolicyKind::Masking).await? {
                found.values.push(format!(
                    "masking policy {policy} hides values of {name}, which {reader} reads, from account {user} at {node}. Let it see all \
                     values"
                ));
            }
            if let Some(policy) = self.policy(node, name, PolicyKind::Row).await? {
                found.rows.push(format!(
                    "row policy {policy} may hide rows of {name}, which {reader} reads, from account {user} at {node}"
                ));
            } else if table.engine.is_merge_tree() {
                match self.hidden(node, name).await {
                    Ok(0) => {}
                    Ok(rows) => found.rows.push(format!("{}, and {reader} reads it", hides(rows, name, node))),
                    Err(error) if error.is_denied() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// Returns a sentence if the servers behind a Distributed table hide rows from the account with which they are asked. Policies of
    /// that account are on other servers, so the rows are compared.
    async fn hidden_behind(&self, node: &Node, table: &TableDefinition) -> Result<Option<String>, Error> {
        let Some(behind) = table.behind() else { return Ok(None) };
        let hidden = self.hidden_in(node, &CountedTable { name: &table.name, behind: Some(&behind) }).await;
        match hidden {
            Ok(0) => Ok(None),
            Ok(rows) => Ok(Some(format!(
                "a row policy or a filter hides {rows} rows of {} on the servers of cluster {} from readers of {} at {node}",
                behind.table, behind.cluster, table.name
            ))),
            Err(error) if error.is_denied() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses row policies of the target, since they would hide copied rows too.
    async fn target_policies(&self, name: &TableName, nodes: &Holders) -> Vec<Problem> {
        let mut faults = Vec::new();
        for node in nodes.iter().flatten() {
            match self.policy(node, name, PolicyKind::Row).await {
                Ok(None) => {}
                Ok(Some(policy)) => faults.push(self.servers(&format!(
                    "row policy {policy} may hide rows of {name}, the target, from account {} at {node}. Let it see all rows: those that it \
                     does not see can be neither counted nor kept",
                    node.user
                ))),
                // The copied rows are counted on the target.
                Err(error) if error.is_unreachable() => {}
                Err(error) => faults.push(self.server_error(&error)),
            }
        }
        faults
    }

    /// Returns a policy that applies to our account.
    async fn policy(&self, node: &Node, name: &TableName, kind: PolicyKind) -> Result<Option<String>, Error> {
        Ok(self.pool.client.policies(node, name, kind).await?.into_iter().next())
    }

    /// Returns how many rows of a table each node hides from its account.
    async fn hidden_on<'n>(
        &self,
        table: &TableDefinition,
        nodes: Vec<&'n Arc<Node>>,
    ) -> Vec<(&'n Arc<Node>, Result<u64, Error>)> {
        // Other engines have no parts to count.
        let nodes = if table.engine.is_merge_tree() { nodes } else { Vec::new() };
        let asked = nodes.iter().map(|node| self.hidden(node, &table.name));
        let answers = join_all(asked).await;
        nodes.into_iter().zip(answers).collect()
    }

    async fn hidden(&self, node: &Node, name: &TableName) -> Result<u64, Error> {
        self.hidden_in(node, &CountedTable { name, behind: None }).await
    }

    async fn hidden_in(&self, node: &Node, table: &CountedTable<'_>) -> Result<u64, Error> {
        let mut counts = Vec::new();
        let mut before = self.stored(node, table).await?;
        loop {
            let mut counted = self.counted(node, table, before.exact).await?;
            // With `apply_mutations_on_fly` a server applies unfinished mutations, which may delete rows of exact parts.
            if before.exact && counted < before.rows {
                counted = self.counted(node, table, false).await?;
            }
            let after = self.stored(node, table).await?;
            // Deleted rows may explain a difference where an account may not read them.
            let exact = before.exact && after.exact;
            let explained = !exact && !self.may_set(node).await?;
            counts.push(Count { before: before.rows, counted, after: after.rows });
            match judge(&counts) {
                Some(_) if explained => return Ok(0),
                Some(hidden) => return Ok(hidden),
                None => before = after,
            }
        }
    }

    /// Counts the rows of the parts.
    async fn stored(&self, node: &Node, table: &CountedTable<'_>) -> Result<Stored, Error> {
        let client = &self.pool.client;
        let parts = match table.behind {
            None => client.parts(node, table.name).await?,
            Some(behind) => client.parts_behind(node, behind).await?,
        };
        Ok(parts.iter().fold(Stored { rows: 0, exact: true }, |sum, part| Stored {
            rows: sum.rows + part.rows,
            exact: sum.exact && part.exact,
        }))
    }

    /// Counts the rows that the account sees.
    async fn counted(&self, node: &Node, table: &CountedTable<'_>, exact: bool) -> Result<u64, Error> {
        let as_stored = if exact { &[] } else { AS_STORED };
        let same_replicas = if table.behind.is_some() { FIRST_REPLICA } else { &[] };
        let wanted: BTreeMap<String, String> = defaults(as_stored).into_iter().chain(defaults(same_replicas)).collect();
        let settings = self.pool.settings(node, &wanted).await?;
        let rows = Selection::all(Relation::plain(table.name.clone()));
        let tallies = self.pool.client.tally(node, &rows, &[], &settings).await?;
        Ok(tallies.iter().map(|tally| tally.rows).sum())
    }

    async fn may_set(&self, node: &Node) -> Result<bool, Error> {
        let facts = self.pool.facts(node).await?;
        Ok(facts.settings.get("readonly").is_none_or(|value| value != "1"))
    }
}

/// A table whose rows are compared with those in its parts.
struct CountedTable<'a> {
    name: &'a TableName,
    /// The table that holds the parts, if the counted table is a Distributed table.
    behind: Option<&'a Behind>,
}

/// The policies that hide rows and values of the tables that a source reads, as sentences.
#[derive(Debug, Default)]
struct HiddenBeneath {
    rows: Vec<String>,
    values: Vec<String>,
}

/// The number of rows in the parts, and whether a count would return the same number.
#[derive(Clone, Copy)]
struct Stored {
    rows: u64,
    exact: bool,
}

fn hides(rows: u64, table: &TableName, node: &Node) -> String {
    format!("a row policy or a filter hides {rows} rows of {table} from account {} at {node}", node.user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(observed: &[(u64, u64, u64)]) -> Vec<Count> {
        observed
            .iter()
            .map(|(before, counted, after)| Count { before: *before, counted: *counted, after: *after })
            .collect()
    }

    #[test]
    fn hidden_rows_are_distinguished_from_concurrent_writes() {
        for (seen, hidden) in [
            (&[(1000, 1000, 1000)][..], Some(0)),
            (&[(1000, 500, 1000)], Some(500)),
            // Rows were added or removed between the counts.
            (&[(1000, 1005, 1010)], Some(0)),
            (&[(1000, 900, 800)], Some(0)),
            (&[(1000, 500, 1010)], None),
            (&[(1000, 500, 1010), (1010, 505, 1010)], Some(505)),
            (&[(1000, 500, 1010); 4], None),
            (&[(1000, 500, 1010); 5], Some(500)),
            (&[], None),
        ] {
            assert_eq!(judge(&counts(seen)), hidden, "{seen:?}");
        }
    }
}
