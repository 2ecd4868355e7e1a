//! The nodes of a task's clusters: which of them answer, the facts about them, and the order in which to ask them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::join_all;

use super::asked_once::AskedOnce;
use super::known_routes::KnownRoutes;
use super::settings::known_settings;
use crate::client::{Error, ServerClient, ServerContext, ServerFacts, Settings};
use crate::model::{Cluster, Node, Shard};

/// The known facts about the nodes. A node that did not answer is asked again when it is needed again.
pub(crate) struct NodePool {
    /// The client for all servers.
    pub(crate) client: Arc<dyn ServerClient>,
    facts: AskedOnce<ServerFacts>,
    context: AskedOnce<ServerContext>,
    merge_tree_settings: AskedOnce<BTreeSet<String>>,
    /// The number of failures of each node. Nodes that failed are asked last.
    suspects: Mutex<HashMap<String, u32>>,
    own_host: String,
    /// The known routes between nodes.
    pub(crate) routes: KnownRoutes,
}

impl NodePool {
    /// Creates a pool without any facts.
    pub(crate) fn new(client: Arc<dyn ServerClient>, own_host: String) -> Self {
        let (facts, context, merge_tree_settings) = Default::default();
        Self {
            client,
            facts,
            context,
            merge_tree_settings,
            suspects: Mutex::default(),
            own_host,
            routes: KnownRoutes::default(),
        }
    }

    /// Returns the facts about a node. Asks it the first time.
    pub(crate) async fn facts(&self, node: &Node) -> Result<Arc<ServerFacts>, Error> {
        let (client, asked) = (self.client.clone(), node.clone());
        self.facts.get(key(node), || async move { client.server(&asked).await }.boxed()).await
    }

    /// Returns the facts about a node if it has answered before. Asks nothing.
    pub(crate) fn known_facts(&self, node: &Node) -> Option<Arc<ServerFacts>> {
        self.facts.known(&key(node))
    }

    /// Forgets the facts about the node at an address. A server that failed may come back with another version or other settings.
    pub(crate) fn forget(&self, address: &str) {
        let asked = format!("{address} ");
        self.facts.forget_all(|question| question.starts_with(&asked));
        self.context.forget_all(|question| question.starts_with(&asked));
        self.merge_tree_settings.forget_all(|question| question.starts_with(&asked));
    }

    /// Returns the server context that definitions and expressions depend on at a node. Asks it the first time.
    pub(crate) async fn context(&self, node: &Node) -> Result<Arc<ServerContext>, Error> {
        let (client, asked) = (self.client.clone(), node.clone());
        self.context.get(key(node), || async move { client.context(&asked).await }.boxed()).await
    }

    /// Returns the settings that tables of the MergeTree family can have at a node. Asks it the first time.
    pub(crate) async fn merge_tree_settings(&self, node: &Node) -> Result<Arc<BTreeSet<String>>, Error> {
        let (client, asked) = (self.client.clone(), node.clone());
        let ask = || async move { client.merge_tree_settings(&asked).await }.boxed();
        self.merge_tree_settings.get(key(node), ask).await
    }

    /// Asks every node of a shard. Returns those that answer, and the errors of the others.
    pub(crate) async fn live_replicas(&self, shard: &Shard) -> (Vec<(usize, Arc<Node>)>, Vec<Error>) {
        let answers = join_all(shard.replicas.iter().map(|node| self.facts(node))).await;
        let mut live = Vec::new();
        let mut errors = Vec::new();
        for (replica, (node, answer)) in shard.replicas.iter().zip(answers).enumerate() {
            match answer {
                Ok(_) => live.push((replica, Arc::new(node.clone()))),
                Err(error) => errors.push(error),
            }
        }
        (live, errors)
    }

    /// Records that a node failed, so that others are asked first.
    pub(crate) fn suspect(&self, node: &Node) {
        *self.suspects.lock().unwrap_or_else(PoisonError::into_inner).entry(node.address()).or_default() += 1;
    }

    /// Returns the replicas of a source shard in the order in which to read from them: first those that failed least often, then
    /// those on this host, then by `turn`, which spreads the work.
    pub(crate) fn in_order(&self, shard: &Shard, turn: usize) -> Vec<Arc<Node>> {
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let count = shard.replicas.len();
        let mut order: Vec<(u32, bool, usize, &Node)> = shard
            .replicas
            .iter()
            .enumerate()
            .map(|(i, node)| {
                let failures = suspects.get(&node.address()).copied().unwrap_or(0);
                (failures, !self.is_near(node), (i + count - turn % count.max(1)) % count, node)
            })
            .collect();
        order.sort_by_key(|(failures, far, turn, _)| (*failures, *far, *turn));
        order.into_iter().map(|(.., node)| Arc::new(node.clone())).collect()
    }

    /// Returns whether a node is on this worker's own host.
    pub(crate) fn is_near(&self, node: &Node) -> bool {
        let short = |name: &str| name.split('.').next().unwrap_or(name).to_ascii_lowercase();
        node.host == "localhost"
            || node.host.eq_ignore_ascii_case(&self.own_host)
            || (node.host.parse::<std::net::IpAddr>().is_err() && short(&node.host) == short(&self.own_host))
    }

    /// Returns the wanted settings that a node gets, for a statement that only this node sees. Asks the node the first time.
    pub(crate) async fn settings<'a>(
        &self,
        node: &Node,
        wanted: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Settings, Error> {
        Ok(known_settings(self.facts(node).await?.as_ref(), wanted))
    }

    /// Returns the node with an address in a shard.
    pub(crate) fn find(cluster: &Cluster, shard: usize, address: &str) -> Option<Arc<Node>> {
        let replicas = &cluster.shards.get(shard)?.replicas;
        replicas.iter().find(|node| node.address() == address).map(|node| Arc::new(node.clone()))
    }
}

/// Returns the key of a server with one of its accounts, since the same server may be used with several. The address comes first.
fn key(node: &Node) -> String {
    format!("{} {} {}", node.address(), node.url(), node.user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::memory::MemoryServerClient;

    fn node(host: &str) -> Node {
        Node::new(host)
    }

    fn hosts(nodes: Vec<Arc<Node>>) -> Vec<String> {
        nodes.iter().map(|node| node.host.clone()).collect()
    }

    #[tokio::test]
    async fn simultaneous_questions_share_one_answer_and_an_error_is_not_kept() {
        let (memory, node) = (MemoryServerClient::new(), node("a.example"));
        memory.add_node(&node, &[]);
        memory.set_reachable(&node, false);
        let pool = NodePool::new(Arc::new(memory.clone()), "w".into());
        let three = || join_all((0..3).map(|_| pool.facts(&node)));
        assert!(three().await.iter().all(Result::is_err) && pool.known_facts(&node).is_none());
        memory.set_reachable(&node, true);
        let answers: Vec<_> = three().await.into_iter().map(Result::unwrap).collect();
        assert!(answers.iter().all(|answer| Arc::ptr_eq(answer, &answers[0])));
        assert!(pool.known_facts(&node).is_some_and(|known| Arc::ptr_eq(&known, &answers[0])));
        pool.forget("other:9000");
        assert!(pool.known_facts(&node).is_some());
        pool.forget(&node.address());
        assert!(pool.known_facts(&node).is_none());
        assert!(!Arc::ptr_eq(&pool.facts(&node).await.unwrap(), &answers[0]));
    }

    #[test]
    fn near_replicas_come_first_and_failed_replicas_last() {
        let pool = NodePool::new(Arc::new(MemoryServerClient::new()), "b.example".into());
        let replicas = vec![node("a.example"), node("b.example"), node("c.example")];
        let shard = Shard { weight: 1, internal_replication: true, replicas };
        assert_eq!(hosts(pool.in_order(&shard, 0)), ["b.example", "a.example", "c.example"]);
        assert_eq!(hosts(pool.in_order(&shard, 2)), ["b.example", "c.example", "a.example"]);
        pool.suspect(&node("b.example"));
        assert_eq!(hosts(pool.in_order(&shard, 0)), ["a.example", "c.example", "b.example"]);
    }

    #[test]
    fn an_address_is_near_only_when_it_is_the_same() {
        let pool = NodePool::new(Arc::new(MemoryServerClient::new()), "10".into());
        assert!(!pool.is_near(&node("10.0.0.1")) && pool.is_near(&node("localhost")));
    }
}
