//! The drop guard of old servers. A server drops no table larger than `max_table_size_to_drop` and no partition larger than
//! `max_partition_size_to_drop`, which are 50 GB by default. Statements to modern servers lift both limits. Older servers such as 18.16
//! have the limits in their configuration only, and no query reads their values.

use super::Planner;
use crate::client::{Error, ServerFacts};
use crate::model::few;
use crate::plan::TablePlan;
use crate::task::IfTargetNotEmpty;

/// The limit of a server whose configuration has none, in bytes (18.16.1).
const USUAL_LIMIT: u64 = 50_000_000_000;

/// Returns whether statements cannot lift the server's limits on the size of dropped tables and partitions.
pub(crate) fn guards_drops(facts: &ServerFacts) -> bool {
    !facts.settings.contains_key("max_table_size_to_drop")
}

impl Planner<'_> {
    /// Returns a warning where target servers will probably refuse to drop tables or partitions of the copy.
    pub(super) async fn drop_guard(&self, plan: &TablePlan) -> Result<Option<String>, Error> {
        let sizes = (0..plan.batches.len()).map(|batch| {
            let partitions = plan.partitions_of(batch);
            let bytes: u64 = partitions.iter().map(|partition| partition.bytes).sum();
            (bytes, partitions.iter().map(|partition| partition.name.clone()).collect::<Vec<_>>())
        });
        let Some((bytes, names)) = sizes.max().filter(|(bytes, _)| *bytes > USUAL_LIMIT) else { return Ok(None) };
        let mut guarded = Vec::new();
        for node in self.survey.targets.iter().flatten() {
            let facts = self.pool.facts(node).await?;
            if guards_drops(&facts) {
                guarded.push(format!("{node} (ClickHouse {})", facts.version));
            }
        }
        Ok(warning(&guarded, &names, bytes, self.policy))
    }
}

/// `bytes` are those of the largest batch, before compression, and `names` its partitions.
fn warning(guarded: &[String], names: &[String], bytes: u64, policy: IfTargetNotEmpty) -> Option<String> {
    if guarded.is_empty() {
        return None;
    }
    let replaced = match policy {
        IfTargetNotEmpty::Replace => ", and a partition of that size is not replaced",
        _ => "",
    };
    Some(format!(
        "{} drop no table and no partition that is larger than max_table_size_to_drop and max_partition_size_to_drop in their \
         configuration (50 GB unless written there), and {} has about {} GB before compression. Raise both before copying, or tables of \
         the task stay there at the end{replaced}",
        few(guarded),
        few(names),
        bytes / 1_000_000_000
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_names_the_servers_that_drop_no_large_tables() {
        let (nodes, names) = (["t:9000 (ClickHouse 18.16.1)".to_owned()], ["201801".to_owned()]);
        assert_eq!(warning(&[], &names, 60_000_000_000, IfTargetNotEmpty::Fail), None);
        let line = warning(&nodes, &names, 60_000_000_000, IfTargetNotEmpty::Fail).unwrap();
        assert!(line.starts_with("t:9000 (ClickHouse 18.16.1) drop no table"), "{line}");
        assert!(line.contains("201801 has about 60 GB") && !line.contains("replaced"), "{line}");
        let line = warning(&nodes, &names, 60_000_000_000, IfTargetNotEmpty::Replace).unwrap();
        assert!(line.ends_with("a partition of that size is not replaced"), "{line}");
    }
}
