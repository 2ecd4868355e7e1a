//! The places of jobs on servers, where a task limits the number of jobs per server. Each place is an ephemeral node, numbered from 0
//! for each server. So the limit holds for all workers together, and the places of a dead worker are free when its session ends.

use super::{Ledger, LedgerError, Outcome};
use crate::coordinator::{Change, Op, ensure_path};
use crate::protocol::ServerPlace;

pub(super) const ON_SERVERS: &str = "on_servers";

impl Ledger {
    /// Reads the taken places, and watches for their next change.
    pub(crate) async fn watch_on_servers(&self) -> Result<(Vec<ServerPlace>, Change), LedgerError> {
        let path = self.path(ON_SERVERS);
        let (taken, change) = self.session.watch_children(&path).await?;
        if taken.is_none() {
            ensure_path(self.session.as_ref(), &path).await?;
        }
        Ok((parsed(&taken.unwrap_or_default()), change))
    }

    /// Reads the taken places.
    pub(crate) async fn on_servers(&self) -> Result<Vec<ServerPlace>, LedgerError> {
        Ok(parsed(&self.session.children(&self.path(ON_SERVERS)).await?.unwrap_or_default()))
    }

    /// Takes all of these places or none. `holder` is a text that no other caller uses.
    pub(crate) async fn enter_servers(&self, places: &[ServerPlace], holder: &str) -> Result<Outcome, LedgerError> {
        let ops: Vec<Op> = places.iter().map(|place| Op::ephemeral(self.place_on_server(place), holder)).collect();
        let Some(first) = places.first().map(|place| self.place_on_server(place)) else { return Ok(Outcome::Done) };
        match self.session.commit(ops).await {
            Ok(()) => Ok(Outcome::Done),
            Err(error) if error.may_have_applied() && !self.session.is_lost() => {
                let stored = self.session.get(&first).await?;
                let ours = stored.is_some_and(|stored| stored.data == holder.as_bytes());
                Ok(if ours { Outcome::Done } else { Outcome::Lost })
            }
            Err(error) if error.conflict().is_some() => Ok(Outcome::Lost),
            Err(error) => Err(error.into()),
        }
    }

    /// Releases places.
    pub(crate) async fn leave_servers(&self, places: &[ServerPlace]) -> Result<(), LedgerError> {
        let ops = places.iter().map(|place| Op::delete(self.place_on_server(place), None)).collect();
        self.commit_all(ops).await
    }

    fn place_on_server(&self, place: &ServerPlace) -> String {
        self.path(&format!("{ON_SERVERS}/{place}"))
    }
}

/// Returns the places with these names. Names that no worker would choose are left out.
fn parsed(names: &[String]) -> Vec<ServerPlace> {
    names.iter().filter_map(|name| ServerPlace::parse(name)).collect()
}
