//! The tables and statements of the local coordinator beneath the double, for simulations. Time does not pass there
//! while a thread works, so all sessions share one connection to a database in memory.

use std::collections::BTreeMap;

use super::super::memory::tree::{Done, Forest, Misfit};
use super::super::{Op, Stored};
use super::state_dir::Number;
use super::store::{Kind, Store, StoreError};

/// Nodes in SQLite, in memory.
pub(crate) struct SqliteForest {
    store: Store,
    told: i64,
}

impl SqliteForest {
    pub(crate) fn new() -> Self {
        Self { store: must(Store::in_memory()), told: 0 }
    }

    /// Returns the changes in the log since it was last read.
    fn changes(&mut self) -> Vec<Done> {
        let changes = must(self.store.changes(self.told)).unwrap_or_default();
        self.told = changes.last().map_or(self.told, |last| last.number);
        let nothing = || Stored { data: Vec::new(), version: 0, ephemeral_owner: None };
        let done = |kind, path| match kind {
            Kind::Created => Done::Created(path),
            Kind::Set => Done::Set { path, before: (Vec::new(), 0) },
            Kind::Deleted => Done::Deleted { path, before: nothing() },
        };
        changes.into_iter().map(|change| done(change.kind, change.path)).collect()
    }
}

impl Forest for SqliteForest {
    fn get(&mut self, path: &str) -> Option<Stored> {
        must(self.store.read_any(|tree| tree.get(path)))
    }

    fn children(&mut self, path: &str) -> Option<Vec<String>> {
        must(self.store.read_any(|tree| tree.children(path)))
    }

    fn all(&mut self) -> BTreeMap<String, Stored> {
        let paths = must(self.store.read_any(|tree| tree.paths()));
        paths.into_iter().filter_map(|path| self.get(&path).map(|node| (path, node))).collect()
    }

    fn apply(&mut self, session: &str, ops: &[Op]) -> Result<Vec<Done>, (usize, Misfit)> {
        let session = number(session);
        must(self.store.ensure_session(session));
        match self.store.commit(session, ops) {
            Ok(()) => Ok(self.changes()),
            Err(StoreError::Conflict(at, why)) => Err((at, why.into())),
            Err(StoreError::Refused(at, what)) => Err((at, Misfit::Refused(what))),
            other => must(other.map(|()| Ok(Vec::new()))),
        }
    }

    fn end(&mut self, session: &str) -> Vec<Done> {
        must(self.store.end(number(session)));
        self.changes()
    }
}

/// Sessions of the double have the same names as sessions here.
fn number(session: &str) -> Number {
    session.strip_prefix("0x").and_then(|digits| Number::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

/// In memory only a bug can cause an error.
fn must<T>(outcome: Result<T, StoreError>) -> T {
    outcome.unwrap_or_else(|failure| panic!("SQLite in memory: {failure:?}"))
}
