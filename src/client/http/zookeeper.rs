//! The server's own ZooKeeper.

use std::collections::BTreeSet;

use super::super::Error;
use super::super::codes::KEEPER_EXCEPTION;
use super::{HttpServerClient, SHORT};
use crate::model::Node;
use crate::sql;

impl HttpServerClient {
    /// Returns the nodes under a path, or `None` when there is no such path.
    pub(super) async fn children_in_zookeeper(&self, node: &Node, path: &str) -> Result<Option<Vec<String>>, Error> {
        let doing = format!("cannot look at {path} in the server's ZooKeeper");
        match self.rows(node, &doing, &sql::zookeeper_children(path), SHORT).await {
            Err(error)
                if error.code() == Some(KEEPER_EXCEPTION) && error.to_string().to_lowercase().contains("no node") =>
            {
                Ok(None)
            }
            // Modern servers give the same answer for a node without children and for a path without a node.
            Ok(children) if children.is_empty() => {
                Ok(self.is_in_zookeeper(node, &doing, path).await?.then_some(children))
            }
            other => other.map(Some),
        }
    }

    /// Returns whether there is a node at a path, from the children of its parent. The root is always there.
    async fn is_in_zookeeper(&self, node: &Node, doing: &str, path: &str) -> Result<bool, Error> {
        let Some((parent, name)) = path.rsplit_once('/').filter(|(_, name)| !name.is_empty()) else { return Ok(true) };
        let parent = if parent.is_empty() { "/" } else { parent };
        let siblings: Result<Vec<String>, Error> =
            self.rows(node, doing, &sql::zookeeper_children(parent), SHORT).await;
        match siblings {
            Err(error) if error.code() == Some(KEEPER_EXCEPTION) => Ok(false),
            siblings => Ok(siblings?.iter().any(|sibling| sibling == name)),
        }
    }

    /// Returns what tells the ZooKeeper of the server from others.
    pub(super) async fn marks_of_zookeeper(&self, node: &Node) -> Result<BTreeSet<String>, Error> {
        let doing = "cannot look at the root of the server's ZooKeeper";
        let marks: Vec<String> = self.rows(node, doing, sql::ZOOKEEPER_MARKS, SHORT).await?;
        Ok(marks.into_iter().collect())
    }
}
