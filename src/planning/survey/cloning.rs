//! The check that tables and servers allow cloning parts from the source to the target. Creates nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;

use super::{Survey, Surveyor};
use crate::model::{Node, Way};
use crate::nodes::pool::NodePool;

/// The versions with which cloning was tested. Other versions clone only where the task sets `clone`.
const TESTED: &[(u32, u32)] = &[(18, 16), (24, 8), (25, 8)];

impl Surveyor<'_> {
    /// Returns why parts cannot be cloned, if there is a reason. Some conditions show only when a piece is cloned (the right to create
    /// tables on the source, connections between servers, columns missing in parts); such a piece uses another transfer.
    pub(super) async fn against_clone(&self, survey: &Survey) -> Option<String> {
        match self.job.transfer {
            Some(Way::Clone) => {}
            Some(other) => return Some(format!("the task says {other}")),
            None if self.job.paced => {
                return Some("max_bytes_per_second holds only what passes through the worker".into());
            }
            None => {}
        }
        let reading = survey.reading.against_parts(&survey.columns);
        if let Some(why) = reading.or_else(|| survey.source.against_parts_in(&survey.target)) {
            return Some(why);
        }
        if survey.skips_hidden_rows {
            return Some("parts hold rows that the account does not see, and that the task skips".into());
        }
        if let Some(why) = survey.variants.iter().find_map(|variant| variant.against_parts_in(&survey.target)) {
            return Some(why);
        }
        let is_demanded = self.job.transfer.is_some();
        let of_targets = self.task.target(self.job).shards.iter().filter(|shard| shard.weight > 0).count();
        if !is_demanded && of_targets > 1 && of_targets != survey.sources.len() {
            return Some(format!("{} source shards become {of_targets}", survey.sources.len()));
        }
        let sources: Vec<&Arc<Node>> = survey.sources.iter().flatten().collect();
        let mut releases = BTreeSet::new();
        for node in survey.sources.iter().chain(&survey.targets).flatten() {
            match self.pool.facts(node).await {
                Ok(facts) => releases.insert((facts.release(), facts.version.clone())),
                Err(error) => return Some(error.to_string()),
            };
        }
        let versions = || releases.iter().map(|(_, version)| version.clone()).collect::<Vec<_>>().join(", ");
        if releases.iter().map(|(release, _)| release).collect::<BTreeSet<_>>().len() > 1 {
            return Some(format!("the servers are of different versions ({})", versions()));
        }
        if !is_demanded && releases.iter().any(|(release, _)| !TESTED.contains(release)) {
            return Some(format!("that was not tried with ClickHouse {} so far", versions()));
        }
        for node in &sources {
            match self.pool.facts(node).await {
                Ok(facts) if facts.is_read_only() => {
                    return Some(format!("user {} may only read at {node}", node.user));
                }
                Ok(facts) if facts.applies_mutations_on_fly() => {
                    return Some(format!(
                        "user {} sees mutations at {node} that are not done yet (apply_mutations_on_fly), and parts do not have them",
                        node.user
                    ));
                }
                Ok(_) => {}
                Err(error) => return Some(error.to_string()),
            }
            let database = self.pool.client.database_engine(node, &survey.source.name.database).await;
            if database.is_ok_and(|engine| engine.as_deref() == Some("Replicated")) {
                return Some(format!("{node}: database {} is Replicated", survey.source.name.database));
            }
        }
        None
    }
}

impl Survey {
    /// Returns why the servers cannot find each other's parts: they must all use the same ZooKeeper. Call this when the task is planned,
    /// not earlier: then even a new ZooKeeper has the node of the task, if servers and workers share it.
    pub(crate) async fn against_zookeepers(&self, pool: &NodePool, is_demanded: bool) -> Option<String> {
        let nodes: Vec<&Arc<Node>> = self.sources.iter().chain(&self.targets).flatten().collect();
        let (first, others) = nodes.split_first()?;
        if others.iter().all(|node| node.url() == first.url()) {
            return None;
        }
        let marks = join_all(nodes.iter().map(|node| pool.client.zookeeper_marks(node))).await;
        let mut common: Option<BTreeSet<String>> = None;
        for (node, marks) in nodes.iter().zip(marks) {
            let marks = match marks {
                // A new ZooKeeper has no nodes to compare yet. The first piece will show whether it is the same one.
                Ok(marks) if marks.is_empty() && is_demanded => continue,
                Ok(marks) if marks.is_empty() => {
                    return Some(format!("it cannot be told whether {node} has the same ZooKeeper as the others"));
                }
                Ok(marks) => marks,
                Err(error) => return Some(error.to_string()),
            };
            let shared = match common {
                None => marks,
                Some(before) => before.intersection(&marks).cloned().collect(),
            };
            if shared.is_empty() {
                return Some(format!("{first} and {node} do not have the same ZooKeeper"));
            }
            common = Some(shared);
        }
        None
    }
}
