use std::time::Duration;

use futures::FutureExt;

use super::super::{Destination, Error, Origin, Placing, ServerClient, Settings, Transfer};
use super::*;
use crate::model::{PartitionId, Way};
use crate::sql::{Relation, Selection};

fn node(number: u16) -> Arc<Node> {
    Arc::new(Node::new(format!("n{number}")))
}

async fn conformer(test: &str) -> (MemoryServerClient, [Arc<Node>; 2], String) {
    let (memory, nodes) = (MemoryServerClient::new(), [node(1), node(2)]);
    for node in &nodes {
        memory.add_node(node, &[("replica", &node.host)]);
    }
    (memory, nodes, format!("it_{test}"))
}

crate::client_conformance!(conformer);
crate::inspector_conformance!(conformer);

struct Scene {
    memory: MemoryServerClient,
    one: Arc<Node>,
    two: Arc<Node>,
    a: TableName,
    b: TableName,
}

const REPLICATED: &str = "ReplicatedMergeTree('/t', '{replica}') PARTITION BY m ORDER BY id";

/// Creates `a` on the first node with ten rows in two partitions, and `b` on both nodes with this engine.
async fn scene(engine: &str) -> Scene {
    let (memory, [one, two], _) = conformer("").await;
    let (a, b) = (TableName::new("default", "a"), TableName::new("default", "b"));
    let plain = "MergeTree PARTITION BY m ORDER BY id";
    for (node, name, engine) in [(&one, &a, plain), (&one, &b, engine), (&two, &b, engine)] {
        let statement = format!("CREATE TABLE {name} (`m` UInt8, `id` UInt32) ENGINE = {engine}");
        memory.create_table(node, name, &statement, &Settings::new()).await.unwrap();
    }
    let rows = (0..10).map(|id| vec![(id % 2).to_string(), id.to_string()]).collect();
    memory.insert(&one, &a, rows).unwrap();
    memory.set_block_rows(3);
    Scene { memory, one, two, a, b }
}

impl Scene {
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
    async fn until_running(&self, running: bool) {
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
async fn a_push_goes_on_after_its_sender_has_gone() {
    let scene = scene(PLAIN).await;
    let push = scene.push();
    let mut sent = scene.memory.transfer(&push);
    while scene.memory.running(&scene.one, "q1").await.unwrap().is_empty() {
        assert!((&mut sent).now_or_never().is_none());
    }
    drop(sent);
    scene.until_running(false).await;
    assert_eq!(scene.rows(&scene.two, &scene.b), 10);
}

#[tokio::test(start_paused = true)]
async fn a_killed_push_leaves_what_it_wrote() {
    let scene = scene(PLAIN).await;
    scene.memory.set_block_rows(1);
    let (memory, push) = (scene.memory.clone(), scene.push());
    let sent = tokio::spawn(async move { memory.transfer(&push).await });
    scene.until_running(true).await;
    scene.memory.kill(&scene.one, "q1:").await.unwrap();
    assert_eq!(sent.await.unwrap().unwrap_err().code(), Some(394));
    assert!(scene.rows(&scene.two, &scene.b) < 10);
}

#[tokio::test(start_paused = true)]
async fn a_relay_ends_with_its_sender_and_a_pull_goes_on() {
    for (way, whole) in [(Way::Relay, false), (Way::Pull, true)] {
        let scene = scene(PLAIN).await;
        scene.memory.set_block_rows(1);
        let transfer = Transfer { way, ..scene.push() };
        let mut sent = scene.memory.transfer(&transfer);
        while scene.rows(&scene.two, &scene.b) == 0 {
            assert!((&mut sent).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        let ids = scene.memory.statements(&scene.one);
        assert_eq!(ids, if whole { vec![] } else { vec![transfer.reading_id(0)] });
        drop(sent);
        while !scene.memory.statements(&scene.two).is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(scene.memory.statements(&scene.one).is_empty());
        assert_eq!(scene.rows(&scene.two, &scene.b) == 10, whole);
    }
}

#[tokio::test(start_paused = true)]
async fn walls_and_accounts_that_may_only_read_stop_their_ways() {
    let scene = scene(PLAIN).await;
    let outcome = async |way| {
        let to = vec![Destination::of_all(&scene.two, format!("q:{way}"))];
        scene.memory.transfer(&Transfer { way, to, ..scene.push() }).await.map_err(|error| error.code())
    };
    scene.memory.set_wall(&scene.one, &scene.two, true);
    assert_eq!(outcome(Way::Push).await, Err(Some(279)));
    assert_eq!(outcome(Way::Pull).await, Ok(()));
    scene.memory.set_wall(&scene.two, &scene.one, true);
    assert_eq!(outcome(Way::Pull).await, Err(Some(279)));
    assert_eq!(outcome(Way::Relay).await, Ok(()));
    scene.memory.set_wall(&scene.one, &scene.two, false);
    scene.memory.set_read_only(&scene.one, true);
    assert_eq!(outcome(Way::Push).await, Err(Some(164)));
    assert_eq!(outcome(Way::Relay).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_held_statement_arrives_late() {
    let scene = scene(PLAIN).await;
    let mut held = scene.memory.hold(|statement| statement.deed == "push");
    let (memory, push) = (scene.memory.clone(), scene.push());
    let sent = tokio::spawn(async move { memory.transfer(&push).await });
    held.sent().await;
    scene.memory.set_reachable(&scene.one, false);
    assert!(sent.await.unwrap().unwrap_err().is_unreachable());
    scene.memory.set_reachable(&scene.one, true);
    // The server does not know the statement, so it cannot be killed.
    assert!(scene.memory.running(&scene.one, "").await.unwrap().is_empty());
    scene.memory.kill(&scene.one, "q1").await.unwrap();
    assert_eq!(scene.rows(&scene.two, &scene.b), 0);
    held.release();
    scene.until_running(true).await;
    scene.until_running(false).await;
    assert_eq!(scene.rows(&scene.two, &scene.b), 10);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_hides_a_deed_that_was_done() {
    let scene = scene(PLAIN).await;
    scene.memory.lose_next_reply(|statement| statement.deed == "place");
    assert!(scene.place(Placing::Attach, "0").await.unwrap_err().is_unreachable());
    assert_eq!(scene.rows(&scene.one, &scene.b), 5);
    scene.place(Placing::Attach, "0").await.unwrap();
    assert_eq!(scene.rows(&scene.one, &scene.b), 10);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_answers_nothing_and_takes_nothing() {
    let scene = scene(PLAIN).await;
    scene.memory.set_reachable(&scene.two, false);
    assert!(scene.memory.server(&scene.two).await.unwrap_err().is_unreachable());
    assert_eq!(scene.memory.transfer(&scene.push()).await.unwrap_err().code(), Some(279));
    scene.memory.set_reachable(&scene.two, true);
    scene.memory.transfer(&scene.push()).await.unwrap();
    assert_eq!(scene.rows(&scene.two, &scene.b), 10);
}

#[tokio::test(start_paused = true)]
async fn displaced_parts_stay_for_a_while_and_come_back_after_a_restart() {
    let scene = scene(PLAIN).await;
    let zero = [PartitionId("0".into())];
    let displaced = || scene.memory.displaced_parts(&scene.one, &scene.b, &zero);
    scene.place(Placing::Attach, "0").await.unwrap();
    scene.place(Placing::Replace, "0").await.unwrap();
    assert_eq!(displaced().await.unwrap(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(displaced().await.unwrap(), 0);
    scene.memory.restart(&scene.one);
    assert_eq!(scene.rows(&scene.one, &scene.b), 5);
    scene.place(Placing::Replace, "0").await.unwrap();
    scene.memory.restart(&scene.one);
    assert_eq!(scene.rows(&scene.one, &scene.b), 10);
}

#[tokio::test(start_paused = true)]
async fn what_was_merged_does_not_come_back_after_a_restart() {
    let scene = scene("MergeTree PARTITION BY m ORDER BY id").await;
    for id in ["1", "2"] {
        scene.memory.insert(&scene.one, &scene.b, vec![vec!["0".into(), id.into()]]).unwrap();
    }
    scene.memory.merge(&scene.one, &scene.b).unwrap();
    scene.memory.restart(&scene.one);
    assert_eq!(scene.rows(&scene.one, &scene.b), 2);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_lags_merges_nothing_and_replaces_also_what_others_merged() {
    let scene = scene(REPLICATED).await;
    for id in ["1", "2"] {
        scene.memory.insert(&scene.one, &scene.b, vec![vec!["0".into(), id.into()]]).unwrap();
    }
    scene.memory.set_lagging(&scene.two, true);
    scene.memory.merge(&scene.one, &scene.b).unwrap();
    scene.memory.merge(&scene.two, &scene.b).unwrap();
    let zero = [PartitionId("0".into())];
    scene.memory.drop_partitions(&scene.two, &scene.b, &zero, &Settings::new()).await.unwrap();
    assert_eq!((scene.rows(&scene.one, &scene.b), scene.rows(&scene.two, &scene.b)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lagging_replica_gets_rows_when_it_is_told_to_sync() {
    let scene = scene(REPLICATED).await;
    scene.memory.set_lagging(&scene.two, true);
    scene.place(Placing::Attach, "0").await.unwrap();
    scene.place(Placing::Replace, "0").await.unwrap();
    assert_eq!((scene.rows(&scene.one, &scene.b), scene.rows(&scene.two, &scene.b)), (5, 0));
    scene.memory.sync_replica(&scene.two, &scene.b).await.unwrap();
    assert_eq!(scene.rows(&scene.two, &scene.b), 5);
    // A REPLACE by a lagging replica replaces rows everywhere, even rows that it has not seen.
    scene.memory.insert(&scene.one, &scene.b, vec![vec!["0".into(), "99".into()]]).unwrap();
    let zero = [PartitionId("0".into())];
    scene.memory.drop_partitions(&scene.two, &scene.b, &zero, &Settings::new()).await.unwrap();
    assert_eq!((scene.rows(&scene.one, &scene.b), scene.rows(&scene.two, &scene.b)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn equal_parts_at_once_are_refused_by_a_replicated_table() {
    let scene = scene(REPLICATED).await;
    for _ in 0..2 {
        scene.memory.insert(&scene.one, &scene.a, vec![vec!["7".into(), "1".into()]]).unwrap();
    }
    assert_eq!(scene.place(Placing::Attach, "7").await.unwrap_err().code(), Some(999));
    assert_eq!(scene.rows(&scene.one, &scene.b), 0);
}

#[tokio::test(start_paused = true)]
async fn a_merge_of_replacing_keeps_the_last_row_of_each_key() {
    let scene = scene("ReplacingMergeTree PARTITION BY m ORDER BY id").await;
    for id in ["1", "1", "2"] {
        scene.memory.insert(&scene.one, &scene.b, vec![vec!["0".into(), id.into()]]).unwrap();
    }
    assert_eq!(scene.rows(&scene.one, &scene.b), 3);
    scene.memory.merge(&scene.one, &scene.b).unwrap();
    assert_eq!(scene.rows(&scene.one, &scene.b), 2);
    scene.memory.stop_merges(&scene.one, &scene.b).await.unwrap();
    scene.memory.insert(&scene.one, &scene.b, vec![vec!["0".into(), "1".into()]]).unwrap();
    scene.memory.merge(&scene.one, &scene.b).unwrap();
    assert_eq!(scene.rows(&scene.one, &scene.b), 3);
}
