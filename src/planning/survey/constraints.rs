//! Constraints that only the target has. An INSERT checks them, but a copy puts whole partitions in place, which no server checks.

use super::super::errors::Problem;
use super::{Holders, Surveyor};
use crate::client::Error;
use crate::model::Node;
use crate::nodes::settings::wanted_for_source;
use crate::sql::{KeyElement, Selection, TableDefinition, quote};

impl Surveyor<'_> {
    /// Refuses rows of the source that do not meet a constraint of the target which the source does not have.
    pub(super) async fn check_constraints(
        &self,
        source: &TableDefinition,
        target: &TableDefinition,
        rows: Selection,
        sources: &Holders,
    ) -> Result<(), Vec<Problem>> {
        let known = source.constraints();
        let is_known = |check: &String| known.iter().any(|(_, other)| other == check);
        let added = target.constraints().into_iter().filter(|(_, check)| !is_known(check));
        let mut faults = Vec::new();
        for (name, check) in added {
            let name = quote::ident(&name);
            for node in sources.iter().filter_map(|nodes| nodes.first()) {
                match self.breaking(node, &rows, &check).await {
                    Ok(0) => {}
                    Err(error) if error.is_unreachable() => faults.push(self.server_error(&error)),
                    Err(error) => faults.push(self.servers(&format!(
                        "the constraint {name} of the target {} cannot be checked on the source: {error}. Drop the constraint to copy \
                         without it",
                        target.name
                    ))),
                    Ok(broken) => faults.push(self.servers(&format!(
                        "{broken} rows of {} on {node} do not meet the constraint {} of the target {}: CHECK {check}. Leave them out with \
                         <where_condition>, or drop the constraint",
                        source.name,
                        name,
                        target.name
                    ))),
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Counts the rows of a source node that do not meet a check. NULL does not meet it.
    async fn breaking(&self, node: &Node, rows: &Selection, check: &str) -> Result<u64, Error> {
        let settings = self.pool.settings(node, &wanted_for_source(self.task)).await?;
        let broken = KeyElement { expression: format!("toUInt8(ifNull(({check}), 0) = 0)"), type_name: "UInt8".into() };
        let tallies = self.pool.client.tally(node, rows, &[broken], &settings).await?;
        Ok(tallies.iter().filter(|tally| tally.value.0 == ["1"]).map(|tally| tally.rows).sum())
    }
}
