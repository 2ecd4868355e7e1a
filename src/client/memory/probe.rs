//! The questions before a copy. The double converts nothing, so no value is lost.

use std::collections::BTreeSet;
use std::future::pending;

use async_trait::async_trait;

use super::super::{Error, Fingerprint, Loss, Probe, Settings};
use super::MemoryServerClient;
use crate::model::Node;
use crate::sql::{LossTest, Selection};

/// A mark that runs while this lives.
struct Mark<'a> {
    memory: &'a MemoryServerClient,
    server: String,
    mark: String,
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.memory.world().marks.remove(&(self.server.clone(), self.mark.clone()));
    }
}

impl MemoryServerClient {
    /// Makes a node answer questions of identity like another server, as if both were names of one server.
    pub fn set_name_of(&self, node: &Node, server: &Node) {
        self.world().names.insert(node.address(), server.address());
    }

    fn server_of(&self, node: &Node) -> String {
        let address = node.address();
        self.world().names.get(&address).cloned().unwrap_or(address)
    }
}

#[async_trait]
impl Probe for MemoryServerClient {
    async fn hold_mark(&self, node: &Node, mark: &str, _: &Settings) -> Result<(), Error> {
        let server = self.server_of(node);
        let held = Mark { memory: self, server: server.clone(), mark: mark.to_owned() };
        self.question(node, "cannot run a statement by which the server is told".into(), |world, _| {
            world.marks.insert((server, mark.to_owned()));
            Ok(())
        })
        .await?;
        pending::<()>().await;
        drop(held);
        Ok(())
    }

    /// A mark ends with its future.
    async fn end_mark(&self, _: &Node, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn marks(&self, node: &Node, prefix: &str) -> Result<BTreeSet<String>, Error> {
        let server = self.server_of(node);
        self.question(node, "cannot list running statements".into(), |world, _| {
            let here = world.marks.iter().filter(|(at, mark)| *at == server && mark.starts_with(prefix));
            Ok(here.map(|(_, mark)| mark.clone()).collect())
        })
        .await
    }

    async fn marks_behind(&self, from: &Node, to: &Node, prefix: &str) -> Result<BTreeSet<String>, Error> {
        let (doing, server) = (format!("cannot list running statements of {to} from there"), self.server_of(to));
        let to = to.address();
        self.question(from, doing, |world, from| {
            world.speaks(from, &to)?;
            let marks = world.marks.iter().filter(|(at, mark)| *at == server && mark.starts_with(prefix));
            Ok(marks.map(|(_, mark)| mark.clone()).collect())
        })
        .await
    }

    async fn fingerprint(&self, node: &Node) -> Result<Fingerprint, Error> {
        let server = self.server_of(node);
        self.question(node, "cannot ask the server what it is".into(), |_, _| {
            Ok(Fingerprint { host: server, started: 0, uuid: None, port: None })
        })
        .await
    }

    async fn losses(&self, node: &Node, _: &Selection, tests: &[LossTest], _: &Settings) -> Result<Vec<Loss>, Error> {
        let doing = "cannot count what conversions lose".to_owned();
        self.question(node, doing, |_, _| Ok(vec![Loss::default(); tests.len()])).await
    }
}
