//! Transfers: rows from server to server.

use super::super::{Error, Settings, Transfer};
use super::bound::Bound;
use super::permits::{Permit, Share};
use super::{HttpServerClient, SHORT};
use crate::model::{Node, Way};
use crate::sql;

/// A statement of a transfer.
struct Statement<'a> {
    /// The node that runs it.
    node: &'a Node,
    /// The nodes that this one connects to, and sends its settings to.
    others: &'a [&'a Node],
    text: &'a str,
    settings: &'a Settings,
    query_id: &'a str,
}

impl HttpServerClient {
    /// Makes one node connect to another over the native protocol.
    pub(super) async fn reach_from(&self, from: &Node, to: &Node) -> Result<(), Error> {
        let doing = format!("cannot speak to {to} from there");
        self.answers.keep_secret(&to.password);
        let (needed, behind) = self.settings_between(from, &[to], SHORT).await?;
        let client = needed.iter().fold(self.client(from), |client, (name, value)| client.with_setting(name, value));
        let statement = format!("{}{behind}", sql::reach(to));
        let _permit = self.permits.several(Share::Question, [from, to], 1).await;
        self.execute_by(client, from, &doing, &statement, &Settings::new(), Bound::Within(SHORT)).await
    }

    /// Moves the rows of a transfer.
    pub(super) async fn move_rows(&self, transfer: &Transfer) -> Result<(), Error> {
        if transfer.way == Way::Clone {
            return Err(transfer.parts_do_not());
        }
        let _permit = self.permit_of(transfer).await;
        if transfer.way == Way::Relay {
            return self.relay(transfer).await;
        }
        for (from, to) in transfer.pairs() {
            self.answers.keep_secret(&from.node.password);
            self.answers.keep_secret(&to.node.password);
        }
        match transfer.dealt_into() {
            Some(remote) if transfer.way == Way::Push => self.push_dealt(transfer, &remote).await,
            _ => self.move_by_pairs(transfer).await,
        }
    }

    /// Waits for a place on all nodes of a transfer.
    async fn permit_of(&self, transfer: &Transfer) -> Permit {
        let nodes = transfer.from.iter().map(|from| &from.node).chain(transfer.to.iter().map(|to| &to.node));
        let connections = if transfer.way == Way::Relay { 1 + transfer.to.len() } else { 1 };
        let _waits = transfer.course.wait();
        self.permits.several(Share::Transfer, nodes.map(AsRef::as_ref), connections).await
    }

    /// Pushes rows with one statement for each source node, which deals them to all target shards.
    async fn push_dealt(&self, transfer: &Transfer, remote: &str) -> Result<(), Error> {
        let text = sql::push_dealt(remote, &transfer.values, &transfer.rows);
        let others: Vec<&Node> = transfer.to.iter().map(|to| to.node.as_ref()).collect();
        for from in &transfer.from {
            let (settings, query_id) = (&from.settings, transfer.query_id());
            let statement = Statement { node: &from.node, others: &others, text: &text, settings, query_id };
            self.send(transfer, &statement).await?;
        }
        Ok(())
    }

    /// Pushes or pulls rows with one statement for each pair of a source node and a target node.
    async fn move_by_pairs(&self, transfer: &Transfer) -> Result<(), Error> {
        let Transfer { into, columns, values, .. } = transfer;
        for (from, to) in transfer.pairs() {
            let rows = transfer.rows_for(to);
            let (node, other, text, settings) = match transfer.way {
                Way::Pull => (&to.node, &from.node, sql::pull(&from.node, into, columns, values, &rows), &to.settings),
                _ => (&from.node, &to.node, sql::push(&to.node, into, values, &rows), &from.settings),
            };
            let (others, query_id) = ([other.as_ref()], &to.query_id);
            let statement = Statement { node, others: &others, text: &text, settings, query_id };
            self.send(transfer, &statement).await?;
        }
        Ok(())
    }

    /// Runs a statement of a transfer, with the settings that all its nodes need.
    async fn send(&self, transfer: &Transfer, statement: &Statement<'_>) -> Result<(), Error> {
        let Statement { node, others, text, settings, query_id } = statement;
        let (needed, behind) = self.settings_between(node, others, SHORT).await?;
        let client = needed.iter().fold(self.client(node), |client, (name, value)| client.with_setting(name, value));
        let text = format!("{text}{behind}");
        let bound = Bound::Transfer { query_id, course: &transfer.course };
        self.execute_by(client, node, &transfer.doing(), &text, settings, bound).await
    }
}
