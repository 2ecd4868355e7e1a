//! Whether the rows of a piece can be dealt to the target shards on their way: by the worker that relays them, or by the source that
//! pushes them.

use super::super::errors::AttemptError;
use super::{Attempt, Source};
use crate::client::Error;
use crate::model::Node;

/// The first release whose `remote()` takes a sharding key (docs/clickhouse-behaviour.md, §1).
const REMOTE_TAKES_SHARDING_KEY: (u32, u32) = (21, 2);

impl Attempt<'_> {
    /// Returns whether the worker can deal the rows to several target shards.
    pub(super) async fn deals(&self, sources: &[Source]) -> Result<bool, AttemptError> {
        let several = self.plan().sharding.is_some() && self.plan().target_shards().count() > 1;
        Ok(several && self.against_dealing(sources).await?.is_none())
    }

    /// Returns the reason in the columns why the worker cannot deal the rows, if there is one.
    pub(super) async fn against_dealing(&self, sources: &[Source]) -> Result<Option<String>, AttemptError> {
        for source in sources {
            let columns = self.context.column_routes(self.piece.table, &source.node).await?;
            if let Some(why) = columns.against_dealing() {
                return Ok(Some(why.to_owned()));
            }
        }
        Ok(None)
    }

    /// Returns whether a source sends rows in a form that a target can read only after the worker has dealt them.
    pub(super) async fn needs_dealing(&self, sources: &[Source]) -> Result<bool, AttemptError> {
        for source in sources {
            let release = self.context.pool.facts(&source.node).await?.release();
            let columns = self.context.column_routes(self.piece.table, &source.node).await?;
            if columns.needs_dealing(release).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether the version of a source node, the columns and the sharding key let one statement push rows to all target
    /// shards. The source evaluates the key over the columns of the staging tables.
    pub(super) async fn can_push_by_key(&self, source: &Node) -> Result<bool, Error> {
        let plan = self.plan();
        let key_is_transferred =
            plan.sharding.as_ref().is_some_and(|sharding| sharding.slot_key().key.uses_only(&plan.columns));
        Ok(key_is_transferred
            && self.context.pool.facts(source).await?.release() >= REMOTE_TAKES_SHARDING_KEY
            && self.context.column_routes(self.piece.table, source).await?.can_be_pushed_by_key())
    }
}
