//! Rows that an account does not see. A row policy or a filter in `users.xml` hides them without an error. The survey compares the rows
//! in the parts of a table with a count.
//!
//! `system.parts` ignores policies. A plain `count()` obeys them on every release: modern servers answer it from metadata only
//! where no policy applies. Rows that a lightweight DELETE removed are still in the parts, and are included in this count.

use std::sync::Arc;

use futures::future::join_all;

use super::super::errors::Problem;
use super::{Holders, Surveyor};
use crate::client::{Error, Settings};
use crate::model::{Node, TableName};
use crate::nodes::settings::defaults;
use crate::sql::{Behind, PolicyKind, Relation, Selection, TableDefinition};
use crate::task::HiddenRows;

/// How often a table is counted while other clients write to it.
const MAX_COUNTS: usize = 5;
/// The settings with which a SELECT returns deleted or changed rows as the parts store them.
const AS_STORED: &[(&str, &str)] =
    &[("apply_deleted_mask", "0"), ("apply_patch_parts", "0"), ("apply_mutations_on_fly", "0")];

/// The settings with which all statements on a Distributed table read the same replica of each shard.
const FIRST_REPLICA: &[(&str, &str)] = &[("load_balancing", "in_order")];

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
    /// Refuses tables with rows that the accounts do not see. Returns remarks on hidden rows that the task skips, and on tables of which
    /// this cannot be told.
    pub(super) async fn hidden_rows(
        &self,
        source: &TableDefinition,
        sources: &Holders,
        target: &TableDefinition,
        targets: &Holders,
        missing: &[Arc<Node>],
    ) -> Result<HiddenRemarks, Vec<Problem>> {
        let (mut remarks, mut faults) = (HiddenRemarks::default(), Vec::new());
        for (node, answer) in self.hidden_on(source, sources.iter().flatten().collect()).await {
            match answer {
                Ok(Hidden { rows: 0, .. }) => {}
                Ok(Hidden { may_be_deleted: true, .. }) => {
                    faults.extend(self.add_policy(source, node, &mut remarks).await);
                }
                Ok(Hidden { rows, .. }) => {
                    faults.extend(self.skip_or_refuse(&hides(rows, &source.name, node), &mut remarks));
                }
                Err(error) if error.is_unreachable() => {}
                Err(error) => faults.push(self.server_error(&error)),
            }
        }
        faults.extend(self.policies(source, sources, &mut remarks).await);
        faults.extend(self.target_policies(&target.name, targets).await);
        let is_new = |node: &Arc<Node>| missing.iter().any(|other| other.address() == node.address());
        let existing = targets.iter().flatten().filter(|node| !is_new(node)).collect();
        for (node, answer) in self.hidden_on(target, existing).await {
            match answer {
                // The policies of the target are refused above.
                Ok(Hidden { rows: 0, .. } | Hidden { may_be_deleted: true, .. }) => {}
                Ok(Hidden { rows, .. }) => faults.push(self.servers(&format!(
                    "{}, the target. Let it see all rows: those that it does not see can be neither counted nor kept",
                    hides(rows, &target.name, node)
                ))),
                Err(error) if error.is_unreachable() => {}
                Err(error) => faults.push(self.server_error(&error)),
            }
        }
        if faults.is_empty() { Ok(remarks) } else { Err(faults) }
    }

    /// Refuses policies that hide values of the source, or rows of a source without parts, where they cannot be counted.
    async fn policies(&self, source: &TableDefinition, nodes: &Holders, remarks: &mut HiddenRemarks) -> Vec<Problem> {
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
            faults.extend(self.add_policy(source, node, remarks).await);
            // A server that does not list its policies may hide rows, and no second count would find them.
            match self.hidden_beneath(node, source).await {
                Ok(beneath) => {
                    let skip_or_refuse = |line: &String| self.skip_or_refuse(line, remarks);
                    faults.extend(beneath.rows.iter().filter_map(skip_or_refuse));
                    remarks.unknown.extend(beneath.unknown);
                    faults.extend(beneath.values.iter().map(|line| self.servers(line)));
                }
                Err(error) => faults.push(self.server_error(&error)),
            }
        }
        faults
    }

    /// Adds a row policy of the source that applies to our account, where a count cannot tell whether it hides rows. Returns the problem if
    /// the task does not skip hidden rows.
    async fn add_policy(&self, source: &TableDefinition, node: &Node, remarks: &mut HiddenRemarks) -> Option<Problem> {
        match self.policy(node, &source.name, PolicyKind::Row).await {
            Ok(None) => None,
            Ok(Some(policy)) => {
                let (name, user) = (&source.name, &node.user);
                let line = format!("row policy {policy} may hide rows of {name} from account {user} at {node}");
                self.skip_or_refuse(&line, remarks)
            }
            Err(error) => Some(self.server_error(&error)),
        }
    }

    /// Returns the problem that rows are hidden, or adds the remark that the task skips them.
    fn skip_or_refuse(&self, line: &str, remarks: &mut HiddenRemarks) -> Option<Problem> {
        match self.job.hidden_rows {
            HiddenRows::Skip => {
                remarks.skipped.push(format!("{line}; they are not copied"));
                None
            }
            HiddenRows::Refuse => Some(self.servers(&format!(
                "{line}. Let it see all rows, or write <hidden_rows>skip</hidden_rows> to copy only what it sees"
            ))),
        }
    }

    /// Returns the policies that hide rows and values of the tables that the source reads. A table that our account may not read is read
    /// with the rights of the view's definer, and the policies of that account are unknown.
    async fn hidden_beneath(&self, node: &Arc<Node>, source: &TableDefinition) -> Result<HiddenBeneath, Error> {
        let mut found = HiddenBeneath::default();
        self.add_hidden_behind(node, source, &mut found).await?;
        for table in self.beneath(node, source.clone()).await?.tables {
            self.add_hidden_behind(node, &table, &mut found).await?;
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
                    // No policy applies to our account.
                    Ok(Hidden { rows: 0, .. } | Hidden { may_be_deleted: true, .. }) => {}
                    Ok(Hidden { rows, .. }) => {
                        found.rows.push(format!("{}, and {reader} reads it", hides(rows, name, node)))
                    }
                    Err(error) if error.is_denied() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// Adds what the servers behind a Distributed table hide from the account with which they are asked. The policies of that account are
    /// on other servers, so the rows are compared. An error of a server, such as a missing right to use `cluster()`, is a remark: the
    /// copy does not need this answer.
    async fn add_hidden_behind(
        &self,
        node: &Node,
        table: &TableDefinition,
        found: &mut HiddenBeneath,
    ) -> Result<(), Error> {
        let Some(behind) = table.behind() else { return Ok(()) };
        let (name, Behind { cluster, table: hidden }) = (&table.name, &behind);
        match self.hidden_in(node, &CountedTable { name, behind: Some(&behind) }).await {
            Ok(Hidden { rows: 0, .. }) => {}
            // No list of policies says more.
            Ok(Hidden { rows, may_be_deleted: true }) => found.rows.push(format!(
                "readers of {name} at {node} do not see {rows} rows of {hidden} on the servers of cluster {cluster}: a row policy or a filter \
                 hides them, or they were deleted, and account {} may not count deleted rows",
                node.user
            )),
            Ok(Hidden { rows, .. }) => found.rows.push(format!(
                "a row policy or a filter hides {rows} rows of {hidden} on the servers of cluster {cluster} from readers of {name} at {node}"
            )),
            Err(error) if error.code().is_some() => found.unknown.push(format!(
                "whether the servers of cluster {cluster} hide rows of {hidden} from readers of {name} cannot be told: {error}"
            )),
            Err(error) => return Err(error),
        }
        Ok(())
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
    ) -> Vec<(&'n Arc<Node>, Result<Hidden, Error>)> {
        // Other engines have no parts to count.
        let nodes = if table.engine.is_merge_tree() { nodes } else { Vec::new() };
        let asked = nodes.iter().map(|node| self.hidden(node, &table.name));
        let answers = join_all(asked).await;
        nodes.into_iter().zip(answers).collect()
    }

    async fn hidden(&self, node: &Node, name: &TableName) -> Result<Hidden, Error> {
        self.hidden_in(node, &CountedTable { name, behind: None }).await
    }

    /// Returns the rows of a table that a node hides from its account.
    async fn hidden_in(&self, node: &Node, table: &CountedTable<'_>) -> Result<Hidden, Error> {
        let mut counts = Vec::new();
        let mut before = self.stored(node, table).await?;
        loop {
            let mut counted = self.counted(node, table, before.exact).await?;
            // With `apply_mutations_on_fly` a server applies unfinished mutations, which may delete rows of exact parts.
            if before.exact && counted < before.rows {
                counted = self.counted(node, table, false).await?;
            }
            let after = self.stored(node, table).await?;
            // Deleted rows may explain a difference where an account may not count them.
            let exact = before.exact && after.exact;
            let explained = !exact && !self.may_set(node).await?;
            counts.push(Count { before: before.rows, counted, after: after.rows });
            match judge(&counts) {
                Some(rows) => return Ok(Hidden { rows, may_be_deleted: explained }),
                None => before = after,
            }
        }
    }

    /// Counts the rows of the parts.
    async fn stored(&self, node: &Node, table: &CountedTable<'_>) -> Result<Stored, Error> {
        let client = &self.pool.client;
        let parts = match table.behind {
            None => client.parts(node, table.name).await?,
            Some(behind) => client.parts_behind(node, behind, &self.settings(node, FIRST_REPLICA).await?).await?,
        };
        Ok(parts.iter().fold(Stored { rows: 0, exact: true }, |sum, part| Stored {
            rows: sum.rows + part.rows,
            exact: sum.exact && part.exact,
        }))
    }

    /// Counts the rows that the account sees.
    async fn counted(&self, node: &Node, table: &CountedTable<'_>, exact: bool) -> Result<u64, Error> {
        let as_stored = if exact { &[] } else { AS_STORED };
        let first_replica = if table.behind.is_some() { FIRST_REPLICA } else { &[] };
        let settings = self.settings(node, &[as_stored, first_replica].concat()).await?;
        let rows = Selection::all(Relation::plain(table.name.clone()));
        let tallies = self.pool.client.tally(node, &rows, &[], &settings).await?;
        Ok(tallies.iter().map(|tally| tally.rows).sum())
    }

    /// Returns those of some settings that an account may give to a node.
    async fn settings(&self, node: &Node, wanted: &[(&str, &str)]) -> Result<Settings, Error> {
        self.pool.settings(node, &defaults(wanted)).await
    }

    async fn may_set(&self, node: &Node) -> Result<bool, Error> {
        let facts = self.pool.facts(node).await?;
        Ok(facts.settings.get("readonly").is_none_or(|value| value != "1"))
    }
}

/// The rows of a table that an account does not see.
#[derive(Clone, Copy)]
struct Hidden {
    rows: u64,
    /// Whether these may be deleted rows, because the account may not count those.
    may_be_deleted: bool,
}

/// A table whose rows are compared with those in its parts.
struct CountedTable<'a> {
    name: &'a TableName,
    /// The table that holds the parts, if the counted table is a Distributed table.
    behind: Option<&'a Behind>,
}

/// The remarks on rows of the source that accounts do not see.
#[derive(Debug, Default)]
pub(super) struct HiddenRemarks {
    /// Hidden rows that the task skips.
    pub(super) skipped: Vec<String>,
    /// Tables of which it cannot be told whether they hide rows.
    pub(super) unknown: Vec<String>,
}

/// What hides rows and values of the tables that a source reads, as sentences.
#[derive(Debug, Default)]
struct HiddenBeneath {
    rows: Vec<String>,
    values: Vec<String>,
    /// The tables of which it cannot be told.
    unknown: Vec<String>,
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
