//! Databases of engine Replicated run each DDL statement on all of their servers. A target of one shard works there. With several shards,
//! the RENAME and REPLACE PARTITION of one shard would also run on the servers of the others.

use std::sync::Arc;

use super::super::errors::Problem;
use super::Surveyor;
use crate::model::Node;

/// The engine's name in `system.databases`.
const REPLICATED: &str = "Replicated";

impl Surveyor<'_> {
    /// Refuses a target of several shards in a database of engine Replicated. Asks one node of each shard; creates nothing.
    pub(super) async fn check_replicated_databases(&self, targets: &[Vec<Arc<Node>>]) -> Result<(), Vec<Problem>> {
        let shards: Vec<&Arc<Node>> = targets.iter().filter_map(|nodes| nodes.first()).collect();
        if shards.len() < 2 {
            return Ok(());
        }
        let database = &self.job.target.database;
        for node in shards {
            match self.pool.client.database_engine(node, database).await {
                Ok(Some(engine)) if engine == REPLICATED => {
                    let cause = format!(
                        "database {database} is of engine Replicated, and the target has several shards: each shard's statements \
                         would reach the servers of all. Let <database_push> name a database of engine Atomic, or copy to one shard"
                    );
                    return Err(vec![self.servers(&cause).on_node(node)]);
                }
                Ok(_) => {}
                Err(error) => return Err(vec![self.server_error(&error)]),
            }
        }
        Ok(())
    }
}
