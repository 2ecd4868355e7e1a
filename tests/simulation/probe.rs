//! The questions about identity and conversions that one worker asks the servers.

use std::collections::BTreeSet;

use clickhouse_copier::client::{Error, Fingerprint, Loss, Probe, Settings};
use clickhouse_copier::model::Node;
use clickhouse_copier::sql::{LossTest, Selection};

use crate::requests::Servers;

#[async_trait::async_trait]
impl Probe for Servers {
    /// It runs beside everything else, and nothing depends on it alone.
    async fn hold_mark(&self, node: &Node, mark: &str, settings: &Settings) -> Result<(), Error> {
        self.inner().hold_mark(node, mark, settings).await
    }

    async fn end_mark(&self, node: &Node, mark: &str) -> Result<(), Error> {
        self.inner().end_mark(node, mark).await
    }

    async fn marks(&self, node: &Node, prefix: &str) -> Result<BTreeSet<String>, Error> {
        self.ask(node, "marks", self.inner().marks(node, prefix)).await
    }

    async fn marks_behind(&self, from: &Node, to: &Node, prefix: &str) -> Result<BTreeSet<String>, Error> {
        self.ask(from, "marks_behind", self.inner().marks_behind(from, to, prefix)).await
    }

    async fn fingerprint(&self, node: &Node) -> Result<Fingerprint, Error> {
        self.ask(node, "fingerprint", self.inner().fingerprint(node)).await
    }

    async fn losses(
        &self,
        node: &Node,
        rows: &Selection,
        tests: &[LossTest],
        settings: &Settings,
    ) -> Result<Vec<Loss>, Error> {
        self.ask(node, "losses", self.inner().losses(node, rows, tests, settings)).await
    }
}
