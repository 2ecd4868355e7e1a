use std::time::Duration;

use futures::FutureExt;

use super::super::{Destination, Error, Origin, Placing, ServerClient, Settings, Transfer};
use super::*;
use crate::model::{PartitionId, Way};
use crate::sql::{Relation, Selection};

fn node(number: u16) -> Arc<Node> {
    Arc::new(Node::new(format!("n{number}")))
}

async fn new_client(test: &str) -> (MemoryServerClient, [Arc<Node>; 2], String) {
    let (memory, nodes) = (MemoryServerClient::new(), [node(1), node(2)]);
    for node in &nodes {
        memory.add_node(node, &[("replica", &node.host)]);
    }
    (memory, nodes, format!("it_{test}"))
}

crate::client_conformance!(new_client);
crate::inspector_conformance!(new_client);

struct Setup {
    memory: MemoryServerClient,
    one: Arc<Node>,
    two: Arc<Node>,
    a: TableName,
    b: TableName,
}

const REPLICATED: &str = "ReplicatedMergeTree('/t', '{replica}') PARTITION BY m ORDER BY id";

/// Creates `a` on the first node with ten rows in two partitions, and `b` on both nodes with this engine.
async fn setup(engine: &str) -> Setup {
    let (memory, [one, two], _) = new_client("").await;
    let (a, b) = (TableName::new("default", "a"), TableName::new("default", "b"));
    let plain = "MergeTree PARTITION BY m ORDER BY id";
    for (node, name, engine) in [(&one, &a, plain), (&one, &b, engine), (&two, &b, engine)] {
        let statement = format!("CREATE TABLE {name} (`m` UInt8, `id` UInt32) ENGINE = {engine}");
        memory.create_table(node, name, &statement, &Settings::new()).await.unwrap();
    }
    let rows = (0..10).map(|id| vec![(id % 2).to_string(), id.to_string()]).collect();
    memory.insert(&one, &a, rows).unwrap();
    memory.set_block_rows(3);
    Setup { memory, one, two, a, b }
}

impl Setup {
    fn push(&self) -> Transfer {
        Transfer {
            way: Way::Push,
            from: vec![Origin::of(&self.one)],
            to: vec![Destination::of_all(&self.two, "q1:a")],
            dealt: None,
            into: self.b.clone(),
            columns: vec!["m".into(), "id".into()],
            values: vec!["`m`".into(), "id".into()],
            rows: Selection::all(Relation::plain(self.a.clone())),
            compress: true,
            throttles: Vec::new(),
            course: Arc::default(),
        }
    }

    fn rows(&self, node: &Node, name: &TableName) -> usize {
        self.memory.rows(node, name).unwrap().len()
    }

    async fn place(&self, placing: Placing, id: &str) -> Result<(), Error> {
        let id = PartitionId(id.into());
        self.memory.place(&self.one, placing, &self.b, &self.a, &[id], &Settings::new()).await
    }

    /// Lets other tasks run until a statement is running, or until none is.
    async fn wait_until_running(&self, running: bool) {
        for _ in 0..100 {
            if self.memory.running(&self.one, "q1").await.unwrap().is_empty() != running {
                return;
            }
        }
        panic!("a statement runs: not {running} within 100 steps");
    }
}

const PLAIN: &str = "MergeTree PARTITION BY m ORDER BY id";

#[tokio::test(start_paused = true)]
async fn a_push_continues_after_its_client_has_gone() {
    let setup = setup(PLAIN).await;
    let push = setup.push();
    let mut sent = setup.memory.transfer(&push);
    while setup.memory.running(&setup.one, "q1").await.unwrap().is_empty() {
        assert!((&mut sent).now_or_never().is_none());
    }
    drop(sent);
    setup.wait_until_running(false).await;
    assert_eq!(setup.rows(&setup.two, &setup.b), 10);
}

#[tokio::test(start_paused = true)]
async fn a_killed_push_keeps_the_rows_that_it_wrote() {
    let setup = setup(PLAIN).await;
    setup.memory.set_block_rows(1);
    let (memory, push) = (setup.memory.clone(), setup.push());
    let sent = tokio::spawn(async move { memory.transfer(&push).await });
    setup.wait_until_running(true).await;
    setup.memory.kill(&setup.one, "q1:").await.unwrap();
    assert_eq!(sent.await.unwrap().unwrap_err().code(), Some(394));
    assert!(setup.rows(&setup.two, &setup.b) < 10);
}

#[tokio::test(start_paused = true)]
async fn a_relay_ends_with_its_client_and_a_pull_continues() {
    for (way, whole) in [(Way::Relay, false), (Way::Pull, true)] {
        let setup = setup(PLAIN).await;
        setup.memory.set_block_rows(1);
        let transfer = Transfer { way, ..setup.push() };
        let mut sent = setup.memory.transfer(&transfer);
        while setup.rows(&setup.two, &setup.b) == 0 {
            assert!((&mut sent).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        let ids = setup.memory.statements(&setup.one);
        assert_eq!(ids, if whole { vec![] } else { vec![transfer.reading_id(0)] });
        drop(sent);
        while !setup.memory.statements(&setup.two).is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(setup.memory.statements(&setup.one).is_empty());
        assert_eq!(setup.rows(&setup.two, &setup.b) == 10, whole);
    }
}

#[tokio::test(start_paused = true)]
async fn firewalls_and_read_only_accounts_block_transfers() {
    let setup = setup(PLAIN).await;
    let outcome = async |way| {
        let to = vec![Destination::of_all(&setup.two, format!("q:{way}"))];
        setup.memory.transfer(&Transfer { way, to, ..setup.push() }).await.map_err(|error| error.code())
    };
    setup.memory.set_blocked(&setup.one, &setup.two, true);
    assert_eq!(outcome(Way::Push).await, Err(Some(279)));
    assert_eq!(outcome(Way::Pull).await, Ok(()));
    setup.memory.set_blocked(&setup.two, &setup.one, true);
    assert_eq!(outcome(Way::Pull).await, Err(Some(279)));
    assert_eq!(outcome(Way::Relay).await, Ok(()));
    setup.memory.set_blocked(&setup.one, &setup.two, false);
    setup.memory.set_read_only(&setup.one, true);
    assert_eq!(outcome(Way::Push).await, Err(Some(164)));
    assert_eq!(outcome(Way::Relay).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_statement_runs_after_its_release() {
    let setup = setup(PLAIN).await;
    let mut held = setup.memory.hold(|statement| statement.operation == "push");
    let (memory, push) = (setup.memory.clone(), setup.push());
    let sent = tokio::spawn(async move { memory.transfer(&push).await });
    held.sent().await;
    setup.memory.set_reachable(&setup.one, false);
    assert!(sent.await.unwrap().unwrap_err().is_unreachable());
    setup.memory.set_reachable(&setup.one, true);
    // The server does not know the statement, so it cannot be killed.
    assert!(setup.memory.running(&setup.one, "").await.unwrap().is_empty());
    setup.memory.kill(&setup.one, "q1").await.unwrap();
    assert_eq!(setup.rows(&setup.two, &setup.b), 0);
    held.release();
    setup.wait_until_running(true).await;
    setup.wait_until_running(false).await;
    assert_eq!(setup.rows(&setup.two, &setup.b), 10);
}

#[tokio::test(start_paused = true)]
async fn a_statement_whose_reply_was_lost_has_run() {
    let setup = setup(PLAIN).await;
    setup.memory.lose_next_reply(|statement| statement.operation == "place");
    assert!(setup.place(Placing::Attach, "0").await.unwrap_err().is_unreachable());
    assert_eq!(setup.rows(&setup.one, &setup.b), 5);
    setup.place(Placing::Attach, "0").await.unwrap();
    assert_eq!(setup.rows(&setup.one, &setup.b), 10);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_node_answers_nothing_and_receives_nothing() {
    let setup = setup(PLAIN).await;
    setup.memory.set_reachable(&setup.two, false);
    assert!(setup.memory.server(&setup.two).await.unwrap_err().is_unreachable());
    assert_eq!(setup.memory.transfer(&setup.push()).await.unwrap_err().code(), Some(279));
    setup.memory.set_reachable(&setup.two, true);
    setup.memory.transfer(&setup.push()).await.unwrap();
    assert_eq!(setup.rows(&setup.two, &setup.b), 10);
}

#[tokio::test(start_paused = true)]
async fn displaced_parts_stay_for_a_while_and_return_after_a_restart() {
    let setup = setup(PLAIN).await;
    let zero = [PartitionId("0".into())];
    let displaced = || setup.memory.displaced_parts(&setup.one, &setup.b, &zero);
    setup.place(Placing::Attach, "0").await.unwrap();
    setup.place(Placing::Replace, "0").await.unwrap();
    assert_eq!(displaced().await.unwrap(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(displaced().await.unwrap(), 0);
    setup.memory.restart(&setup.one);
    assert_eq!(setup.rows(&setup.one, &setup.b), 5);
    setup.place(Placing::Replace, "0").await.unwrap();
    setup.memory.restart(&setup.one);
    assert_eq!(setup.rows(&setup.one, &setup.b), 10);
}

#[tokio::test(start_paused = true)]
async fn merged_parts_do_not_return_after_a_restart() {
    let setup = setup("MergeTree PARTITION BY m ORDER BY id").await;
    for id in ["1", "2"] {
        setup.memory.insert(&setup.one, &setup.b, vec![vec!["0".into(), id.into()]]).unwrap();
    }
    setup.memory.merge(&setup.one, &setup.b).unwrap();
    setup.memory.restart(&setup.one);
    assert_eq!(setup.rows(&setup.one, &setup.b), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lagging_replica_merges_nothing_and_drops_parts_that_others_merged() {
    let setup = setup(REPLICATED).await;
    for id in ["1", "2"] {
        setup.memory.insert(&setup.one, &setup.b, vec![vec!["0".into(), id.into()]]).unwrap();
    }
    setup.memory.set_lagging(&setup.two, true);
    setup.memory.merge(&setup.one, &setup.b).unwrap();
    setup.memory.merge(&setup.two, &setup.b).unwrap();
    let zero = [PartitionId("0".into())];
    setup.memory.drop_partitions(&setup.two, &setup.b, &zero, &Settings::new()).await.unwrap();
    assert_eq!((setup.rows(&setup.one, &setup.b), setup.rows(&setup.two, &setup.b)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lagging_replica_gets_rows_by_sync_replica() {
    let setup = setup(REPLICATED).await;
    setup.memory.set_lagging(&setup.two, true);
    setup.place(Placing::Attach, "0").await.unwrap();
    setup.place(Placing::Replace, "0").await.unwrap();
    assert_eq!((setup.rows(&setup.one, &setup.b), setup.rows(&setup.two, &setup.b)), (5, 0));
    setup.memory.sync_replica(&setup.two, &setup.b).await.unwrap();
    assert_eq!(setup.rows(&setup.two, &setup.b), 5);
    // A REPLACE by a lagging replica replaces rows everywhere, even rows that it has not seen.
    setup.memory.insert(&setup.one, &setup.b, vec![vec!["0".into(), "99".into()]]).unwrap();
    let zero = [PartitionId("0".into())];
    setup.memory.drop_partitions(&setup.two, &setup.b, &zero, &Settings::new()).await.unwrap();
    assert_eq!((setup.rows(&setup.one, &setup.b), setup.rows(&setup.two, &setup.b)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_replicated_table_refuses_equal_parts_in_one_attach() {
    let setup = setup(REPLICATED).await;
    for _ in 0..2 {
        setup.memory.insert(&setup.one, &setup.a, vec![vec!["7".into(), "1".into()]]).unwrap();
    }
    assert_eq!(setup.place(Placing::Attach, "7").await.unwrap_err().code(), Some(999));
    assert_eq!(setup.rows(&setup.one, &setup.b), 0);
}

#[tokio::test(start_paused = true)]
async fn a_merge_of_a_replacing_engine_keeps_the_last_row_of_each_key() {
    let setup = setup("ReplacingMergeTree PARTITION BY m ORDER BY id").await;
    for id in ["1", "1", "2"] {
        setup.memory.insert(&setup.one, &setup.b, vec![vec!["0".into(), id.into()]]).unwrap();
    }
    assert_eq!(setup.rows(&setup.one, &setup.b), 3);
    setup.memory.merge(&setup.one, &setup.b).unwrap();
    assert_eq!(setup.rows(&setup.one, &setup.b), 2);
    setup.memory.stop_merges(&setup.one, &setup.b).await.unwrap();
    setup.memory.insert(&setup.one, &setup.b, vec![vec!["0".into(), "1".into()]]).unwrap();
    setup.memory.merge(&setup.one, &setup.b).unwrap();
    assert_eq!(setup.rows(&setup.one, &setup.b), 3);
}
