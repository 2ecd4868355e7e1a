//! Rows that an account does not see: a row policy, or a filter in `users.xml`, hides them without a word. What the parts of a table
//! hold is compared with what a count shows.
//!
//! `system.parts` knows nothing of policies. A plain `count()` obeys them on every release: modern servers answer it from metadata only
//! where no policy applies. Rows that a lightweight DELETE removed are still in the parts, and are counted with them here.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;

use crate::client::Error;
use crate::model::{Node, TableName};
use crate::sql::{PolicyKind, Relation, Selection, TableDefinition};
use crate::task::HiddenRows;

use super::super::errors::Fault;
use super::{Holders, Surveyor};

/// How often a table that is written to meanwhile is looked at.
const LOOKS: usize = 5;
/// What shows rows that were deleted or changed as the parts have them.
const AS_STORED: &[(&str, &str)] =
    &[("apply_deleted_mask", "0"), ("apply_patch_parts", "0"), ("apply_mutations_on_fly", "0")];

/// One look at a table: what its parts held before and after its rows were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    before: u64,
    counted: u64,
    after: u64,
}

impl Look {
    /// Returns whether nothing seems to have happened to the table meanwhile.
    fn is_still(&self) -> bool {
        self.before == self.after
    }

    /// Returns the rows that the parts held all the time, and the count did not show.
    fn hidden(&self) -> u64 {
        self.before.min(self.after).saturating_sub(self.counted)
    }
}

/// Returns how many rows are hidden; `None` where another look may tell more. A table that does not hold still hides rows where every
/// look missed some.
fn judge(looks: &[Look]) -> Option<u64> {
    let last = looks.last()?;
    match last.is_still() || last.hidden() == 0 {
        true => Some(last.hidden()),
        false if looks.len() == LOOKS => looks.iter().map(Look::hidden).min(),
        false => None,
    }
}

impl Surveyor<'_> {
    /// Refuses tables of which the accounts do not see all rows. Returns a line for each node whose hidden rows the task skips.
    pub(super) async fn hidden_rows(
        &self,
        (source, sources): (&TableDefinition, &Holders),
        (target, targets, missing): (&TableDefinition, &Holders, &[Arc<Node>]),
    ) -> Result<Vec<String>, Vec<Fault>> {
        let (mut skipped, mut faults) = (Vec::new(), Vec::new());
        for (node, answer) in self.hidden_on(source, sources.iter().flatten().collect()).await {
            match answer {
                Ok(0) => {}
                Ok(rows) if self.job.hidden_rows == HiddenRows::Skip => {
                    skipped.push(format!("{}; they are not copied", hides(rows, &source.name, node)));
                }
                Ok(rows) => faults.push(self.world(&format!(
                    "{}. Let it see all rows, or write <hidden_rows>skip</hidden_rows> to copy only what it sees",
                    hides(rows, &source.name, node)
                ))),
                Err(error) if error.is_unreachable() => {}
                Err(error) => faults.push(self.world(&error.to_string())),
            }
        }
        faults.extend(self.policies((source, sources), &mut skipped).await);
        faults.extend(self.target_policies(&target.name, targets).await);
        let is_new = |node: &Arc<Node>| missing.iter().any(|other| other.address() == node.address());
        let existing = targets.iter().flatten().filter(|node| !is_new(node)).collect();
        for (node, answer) in self.hidden_on(target, existing).await {
            match answer {
                Ok(0) => {}
                Ok(rows) => faults.push(self.world(&format!(
                    "{}, the target. Let it see all rows: those that it does not see can be neither counted nor kept",
                    hides(rows, &target.name, node)
                ))),
                Err(error) if error.is_unreachable() => {}
                Err(error) => faults.push(self.world(&error.to_string())),
            }
        }
        if faults.is_empty() { Ok(skipped) } else { Err(faults) }
    }

    /// Refuses policies that hide values of the source, or rows of one whose parts cannot tell how many.
    async fn policies(&self, (source, nodes): (&TableDefinition, &Holders), skipped: &mut Vec<String>) -> Vec<Fault> {
        let mut faults = Vec::new();
        for node in nodes.iter().flatten() {
            let (name, user) = (&source.name, &node.user);
            match self.policy(node, name, PolicyKind::Masking).await {
                Ok(None) => {}
                Ok(Some(policy)) => faults.push(self.world(&format!(
                    "masking policy {policy} hides values of {name} from account {user} at {node}. Let it see all values"
                ))),
                Err(error) => faults.push(self.world(&error.to_string())),
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
                Err(error) => faults.push(self.world(&error.to_string())),
            }
            // A server that does not say what it hides may hide something: its rows have no second count that would tell.
            match self.hidden_beneath(node, source).await {
                Ok(beneath) => {
                    hiding.extend(beneath.rows);
                    faults.extend(beneath.values.iter().map(|line| self.world(line)));
                }
                Err(error) => faults.push(self.world(&error.to_string())),
            }
            for line in hiding {
                match self.job.hidden_rows {
                    HiddenRows::Skip => skipped.push(format!("{line}; they are not copied")),
                    HiddenRows::Refuse => faults.push(self.world(&format!(
                        "{line}. Let it see all rows, or write <hidden_rows>skip</hidden_rows> to copy only what it sees"
                    ))),
                }
            }
        }
        faults
    }

    /// Returns what hides rows and values of the tables that the source reads. A table that our account may not ask is read with the
    /// rights of the view's definer, and what is hidden from that one is not known.
    async fn hidden_beneath(&self, node: &Arc<Node>, source: &TableDefinition) -> Result<HiddenBeneath, Error> {
        let mut found = HiddenBeneath::default();
        for table in self.beneath(node, source.clone()).await?.tables {
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

    /// Refuses row policies of the target: they would hide rows that are copied, too.
    async fn target_policies(&self, name: &TableName, nodes: &Holders) -> Vec<Fault> {
        let mut faults = Vec::new();
        for node in nodes.iter().flatten() {
            match self.policy(node, name, PolicyKind::Row).await {
                Ok(None) => {}
                Ok(Some(policy)) => faults.push(self.world(&format!(
                    "row policy {policy} may hide rows of {name}, the target, from account {} at {node}. Let it see all rows: those that it \
                     does not see can be neither counted nor kept",
                    node.user
                ))),
                // What is put there is counted there, too.
                Err(error) if error.is_unreachable() => {}
                Err(error) => faults.push(self.world(&error.to_string())),
            }
        }
        faults
    }

    /// Returns a policy that applies to our account.
    async fn policy(&self, node: &Node, name: &TableName, kind: PolicyKind) -> Result<Option<String>, Error> {
        Ok(self.pool.client.policies(node, name, kind).await?.into_iter().next())
    }

    /// How many rows of a table each node hides from its account.
    async fn hidden_on<'n>(
        &self,
        table: &TableDefinition,
        nodes: Vec<&'n Arc<Node>>,
    ) -> Vec<(&'n Arc<Node>, Result<u64, Error>)> {
        // Other engines have no parts that could tell.
        let nodes = if table.engine.is_merge_tree() { nodes } else { Vec::new() };
        let asked = nodes.iter().map(|node| self.hidden(node, &table.name));
        let answers = join_all(asked).await;
        nodes.into_iter().zip(answers).collect()
    }

    async fn hidden(&self, node: &Node, name: &TableName) -> Result<u64, Error> {
        let mut looks = Vec::new();
        let mut before = self.stored(node, name).await?;
        loop {
            let mut counted = self.counted(node, name, before.exact).await?;
            // A profile may have mutations applied that are not done (`apply_mutations_on_fly`): they delete rows of exact parts.
            if before.exact && counted < before.rows {
                counted = self.counted(node, name, false).await?;
            }
            let after = self.stored(node, name).await?;
            // Deleted rows explain a difference where an account may not ask for them.
            let exact = before.exact && after.exact;
            let explained = !exact && !self.may_set(node).await?;
            looks.push(Look { before: before.rows, counted, after: after.rows });
            match judge(&looks) {
                Some(_) if explained => return Ok(0),
                Some(hidden) => return Ok(hidden),
                None => before = after,
            }
        }
    }

    /// The rows that the parts hold.
    async fn stored(&self, node: &Node, name: &TableName) -> Result<Stored, Error> {
        let parts = self.pool.client.parts(node, name).await?;
        Ok(parts.iter().fold(Stored { rows: 0, exact: true }, |sum, part| Stored {
            rows: sum.rows + part.rows,
            exact: sum.exact && part.exact,
        }))
    }

    /// The rows that the account sees.
    async fn counted(&self, node: &Node, name: &TableName, exact: bool) -> Result<u64, Error> {
        let wanted: BTreeMap<String, String> = match exact {
            true => BTreeMap::new(),
            false => AS_STORED.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        let settings = self.pool.settings(node, &wanted).await?;
        let rows = Selection::all(Relation::plain(name.clone()));
        let tallies = self.pool.client.tally(node, &rows, &[], &settings).await?;
        Ok(tallies.iter().map(|tally| tally.rows).sum())
    }

    async fn may_set(&self, node: &Node) -> Result<bool, Error> {
        let facts = self.pool.facts(node).await?;
        Ok(facts.settings.get("readonly").is_none_or(|value| value != "1"))
    }
}

/// What hides rows and values of the tables that a source reads, as sentences.
#[derive(Debug, Default)]
struct HiddenBeneath {
    rows: Vec<String>,
    values: Vec<String>,
}

/// The rows that parts hold, and whether a count would find as many.
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

    fn looks(of: &[(u64, u64, u64)]) -> Vec<Look> {
        of.iter().map(|(before, counted, after)| Look { before: *before, counted: *counted, after: *after }).collect()
    }

    #[test]
    fn hidden_rows_are_told_from_a_table_that_is_written_to() {
        for (seen, hidden) in [
            (&[(1000, 1000, 1000)][..], Some(0)),
            (&[(1000, 500, 1000)], Some(500)),
            // Rows came, or went, between the looks.
            (&[(1000, 1005, 1010)], Some(0)),
            (&[(1000, 900, 800)], Some(0)),
            (&[(1000, 500, 1010)], None),
            (&[(1000, 500, 1010), (1010, 505, 1010)], Some(505)),
            (&[(1000, 500, 1010); 4], None),
            (&[(1000, 500, 1010); 5], Some(500)),
            (&[], None),
        ] {
            assert_eq!(judge(&looks(seen)), hidden, "{seen:?}");
        }
    }
}
