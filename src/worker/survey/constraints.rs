//! Constraints that only the target has. An INSERT would hold rows to them; a copy puts whole partitions in place, which no server checks.

use std::sync::Arc;

use crate::model::Node;
use crate::sql::{KeyElement, Selection, TableDefinition, quote};

use super::super::wishes::source_wishes;
use super::{Fault, Holders, Surveyor};

impl Surveyor<'_> {
    /// Refuses rows of the source that do not meet a constraint of the target which the source does not have.
    pub(super) async fn check_constraints(
        &self,
        (source, target): (&TableDefinition, &TableDefinition),
        rows: Selection,
        sources: &Holders,
    ) -> Result<(), Vec<Fault>> {
        let known = source.constraints();
        let new = target.constraints().into_iter().filter(|(_, check)| !known.iter().any(|(_, other)| other == check));
        let mut faults = Vec::new();
        for (name, check) in new {
            for node in sources.iter().filter_map(|nodes| nodes.first()) {
                match self.breaking(node, &rows, &check).await? {
                    0 => {}
                    broken => faults.push(self.world(&format!(
                        "{broken} rows of {} on {node} do not meet the constraint {} of the target {}: CHECK {check}. Leave them out with \
                         <where_condition>, or drop the constraint",
                        source.name,
                        quote::ident(&name),
                        target.name
                    ))),
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Counts the rows of a source node that do not meet a check; NULL does not meet it.
    async fn breaking(&self, node: &Arc<Node>, rows: &Selection, check: &str) -> Result<u64, Vec<Fault>> {
        let world = |error: crate::cluster::Error| vec![self.world(&error.to_string())];
        let settings = self.fleet.settings(node, &source_wishes(self.task)).await.map_err(world)?;
        let broken = KeyElement { expression: format!("toUInt8(ifNull(({check}), 0) = 0)"), type_name: "UInt8".into() };
        let tallies = self.fleet.warehouse.tally(node, rows, &[broken], &settings).await.map_err(world)?;
        Ok(tallies.iter().filter(|tally| tally.value.0 == ["1"]).map(|tally| tally.rows).sum())
    }
}
