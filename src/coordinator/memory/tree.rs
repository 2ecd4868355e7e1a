//! The shared tree of the double: nodes, and steps that can be undone.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Conflict, NodeKind, Op, Stored, Version, path};

#[derive(Debug, Clone)]
struct Node {
    data: Vec<u8>,
    version: Version,
    owner: Option<String>,
    children: BTreeSet<String>,
}

/// Why a step does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    Conflict(Conflict),
    Refused(&'static str),
}

impl From<Conflict> for Misfit {
    fn from(why: Conflict) -> Self {
        Self::Conflict(why)
    }
}

/// The effect of a step, for the watches and for undoing it.
#[derive(Debug)]
pub(crate) enum Done {
    Created(String),
    Set { path: String, before: (Vec<u8>, Version) },
    Deleted { path: String, before: Stored },
    Nothing,
}

/// The storage of the double's nodes.
pub(crate) trait Forest: Send {
    fn get(&mut self, path: &str) -> Option<Stored>;
    fn children(&mut self, path: &str) -> Option<Vec<String>>;
    fn all(&mut self) -> BTreeMap<String, Stored>;
    /// Applies all steps or none. The error contains the index of the step that does not fit.
    fn apply(&mut self, session: &str, ops: &[Op]) -> Result<Vec<Done>, (usize, Misfit)>;
    /// Deletes the nodes of an ended session.
    fn end(&mut self, session: &str) -> Vec<Done>;
}

#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    pub(super) fn new() -> Self {
        let root = Node { data: Vec::new(), version: 0, owner: None, children: BTreeSet::new() };
        Self { nodes: BTreeMap::from([("/".to_owned(), root)]) }
    }

    fn step(&mut self, session: &str, op: &Op) -> Result<Done, Misfit> {
        match op {
            Op::Create { path, data, kind } => {
                let Some(parent) = path::parent(path) else { return Err(Conflict::Exists.into()) };
                let above = self.nodes.get(parent).ok_or(Conflict::Missing)?;
                if self.nodes.contains_key(path) {
                    return Err(Conflict::Exists.into());
                }
                if above.owner.is_some() {
                    return Err(Misfit::Refused("ephemeral node can not have children"));
                }
                let owner = (*kind == NodeKind::Ephemeral).then(|| session.to_owned());
                self.put(path, Stored { data: data.clone(), version: 0, ephemeral_owner: owner });
                Ok(Done::Created(path.clone()))
            }
            Op::Set { path, data, version } => {
                let node = self.nodes.get_mut(path).ok_or(Conflict::Missing)?;
                node.expect(*version)?;
                let before = (std::mem::replace(&mut node.data, data.clone()), node.version);
                node.version += 1;
                Ok(Done::Set { path: path.clone(), before })
            }
            Op::Delete { path, version } => {
                if path == "/" {
                    return Err(Misfit::Refused("can not delete root node"));
                }
                let node = self.nodes.get(path).ok_or(Conflict::Missing)?;
                node.expect(*version)?;
                if !node.children.is_empty() {
                    return Err(Conflict::NotEmpty.into());
                }
                let before = node.stored();
                self.take(path);
                Ok(Done::Deleted { path: path.clone(), before })
            }
            Op::Check { path, version } => {
                self.nodes.get(path).ok_or(Conflict::Missing)?.expect(*version)?;
                Ok(Done::Nothing)
            }
        }
    }

    fn undo(&mut self, done: Done) {
        match done {
            Done::Created(path) => self.take(&path),
            Done::Set { path, before } => {
                if let Some(node) = self.nodes.get_mut(&path) {
                    (node.data, node.version) = before;
                }
            }
            Done::Deleted { path, before } => self.put(&path, before),
            Done::Nothing => {}
        }
    }

    fn put(&mut self, path: &str, node: Stored) {
        let Stored { data, version, ephemeral_owner: owner } = node;
        self.nodes.insert(path.to_owned(), Node { data, version, owner, children: BTreeSet::new() });
        self.siblings(path, |names, name| names.insert(name.to_owned()));
    }

    fn take(&mut self, path: &str) {
        self.nodes.remove(path);
        self.siblings(path, |names, name| names.remove(name));
    }

    fn siblings(&mut self, path: &str, change: impl FnOnce(&mut BTreeSet<String>, &str) -> bool) {
        let name = path.rsplit('/').next().unwrap_or(path);
        if let Some(parent) = path::parent(path).and_then(|parent| self.nodes.get_mut(parent)) {
            change(&mut parent.children, name);
        }
    }
}

impl Forest for Tree {
    fn get(&mut self, path: &str) -> Option<Stored> {
        self.nodes.get(path).map(Node::stored)
    }

    fn children(&mut self, path: &str) -> Option<Vec<String>> {
        self.nodes.get(path).map(|node| node.children.iter().cloned().collect())
    }

    fn all(&mut self) -> BTreeMap<String, Stored> {
        self.nodes.iter().map(|(path, node)| (path.clone(), node.stored())).collect()
    }

    fn apply(&mut self, session: &str, ops: &[Op]) -> Result<Vec<Done>, (usize, Misfit)> {
        let mut done = Vec::with_capacity(ops.len());
        for (at, op) in ops.iter().enumerate() {
            match self.step(session, op) {
                Ok(one) => done.push(one),
                Err(misfit) => {
                    done.into_iter().rev().for_each(|one| self.undo(one));
                    return Err((at, misfit));
                }
            }
        }
        Ok(done)
    }

    fn end(&mut self, session: &str) -> Vec<Done> {
        let owned = |node: &Node| node.owner.as_deref() == Some(session);
        let owned: Vec<_> = self.nodes.iter().filter(|(_, node)| owned(node)).map(|(path, _)| path.clone()).collect();
        let delete = |path| self.apply(session, &[Op::delete(path, None)]).unwrap_or_default();
        owned.into_iter().flat_map(delete).collect()
    }
}

impl Node {
    fn stored(&self) -> Stored {
        Stored { data: self.data.clone(), version: self.version, ephemeral_owner: self.owner.clone() }
    }

    fn expect(&self, version: Option<Version>) -> Result<(), Conflict> {
        if version.is_none_or(|version| version == self.version) { Ok(()) } else { Err(Conflict::Version) }
    }
}
