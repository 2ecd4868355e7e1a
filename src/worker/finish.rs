//! The end of a task: its account is settled (I7), and nothing of ours stays on any server (I6).

use std::collections::BTreeMap;

use futures::future::join_all;

use crate::model::Node;
use crate::protocol::MadeTable;
use crate::protocol::account::Findings;

use super::RunError;
use super::account::settle;
use super::crew::any;
use super::fault_point::fault_point;
use super::interrupt::Interrupt;
use super::jobs::Hands;
use super::ledger::Outcome;

const CLAIM: &str = "finishing";

/// How the end of a task went.
#[derive(Debug, Default)]
pub struct Finish {
    /// What was left on servers that did not answer: lines for a person.
    pub left: Vec<String>,
    /// Whether the task was not recorded as finished before.
    pub ended_it: bool,
    /// What the account found.
    pub account: Findings,
}

/// Settles the account of the task, ends what is left of it on all servers, and records that it is finished. `None` when the run is
/// to end first.
///
/// Several workers may come here at once: each does it, one after the other, since the one before may have died half way.
pub async fn finish(hands: &Hands, interrupt: &Interrupt) -> Result<Option<Finish>, RunError> {
    loop {
        let claims = hands.ledger.watch_claims().await?;
        if hands.ledger.claim(CLAIM, &hands.site.worker).await? == Outcome::Done {
            break;
        }
        tokio::select! {
            biased;
            () = interrupt.finish() => return Ok(None),
            lost = hands.ledger.session().lost() => return Err(lost.into()),
            () = any(vec![claims]) => {}
        }
    }
    let boards = hands.cache.lock().await.boards.clone();
    // Only the holder of the claim writes the record. A judgement that another worker has recorded stands.
    let account = match hands.ledger.task().await?.filter(|record| record.finished) {
        Some(record) => record.account,
        None => {
            fault_point("account").await;
            tokio::select! {
                biased;
                () = interrupt.finish() => {
                    hands.ledger.release(CLAIM).await?;
                    return Ok(None);
                }
                lost = hands.ledger.session().lost() => return Err(lost.into()),
                account = settle(&hands.site, &boards) => account,
            }
        }
    };
    let left = clear(hands).await;
    let mut ended_it = false;
    if left.is_empty() {
        ended_it = hands.ledger.task().await?.is_some_and(|record| !record.finished);
        let found = account.clone();
        hands.ledger.set_task(|record| (record.finished, record.account) = (true, found.clone())).await?;
    }
    hands.ledger.release(CLAIM).await?;
    Ok(Some(Finish { left, ended_it, account }))
}

/// Ends statements and drops tables of the task everywhere. Gives a line for what could not be.
async fn clear(hands: &Hands) -> Vec<String> {
    let task = hands.site.task();
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    // With whether it is a source's.
    let mut places: BTreeMap<(String, String), (Node, bool)> = BTreeMap::new();
    for (table, (job, plan)) in task.tables.iter().zip(hands.site.plans.iter()).enumerate() {
        if hands.site.may_clone(table) {
            for (_, node) in task.source(job).nodes() {
                places.insert((node.url(), plan.source.database.clone()), (node.clone(), true));
            }
        }
        for (_, node) in task.source(job).nodes().chain(task.target(job).nodes()) {
            nodes.insert(node.url(), node.clone());
        }
        for (_, node) in task.target(job).nodes() {
            places.insert((node.url(), plan.target.database.clone()), (node.clone(), false));
        }
    }
    // A push runs on the source, a pull on the target, a relay on both.
    let queries = hands.site.id.queries();
    join_all(nodes.values().map(|node| hands.site.fleet.warehouse.kill(node, &queries))).await;
    let cleared = places.iter().map(|((_, database), (node, source))| clear_node(hands, node, *source, database));
    let cleared = join_all(cleared).await;
    cleared.into_iter().flatten().collect()
}

async fn clear_node(hands: &Hands, node: &Node, source: bool, database: &str) -> Vec<String> {
    let warehouse = &hands.site.fleet.warehouse;
    // A node that never got anything of this task may be dead for good.
    let used = used(hands, node, source).await;
    let names = match warehouse.server(node).await {
        Ok(_) => warehouse.tables_with_prefix(node, database, &hands.site.id.tables()).await,
        Err(error) => Err(error),
    };
    let names = match names {
        Ok(names) => names,
        Err(_) if !used => return Vec::new(),
        Err(error) => return vec![format!("{error}: tables {}* may be left there", hands.site.id.tables())],
    };
    let settings = hands.site.target_settings(node).await.unwrap_or_default();
    let mut left = Vec::new();
    // A table that somebody made beside ours, a renamed one for instance, is not ours.
    for name in names.into_iter().filter(|name| MadeTable::parse(name).is_some()) {
        let table = crate::model::TableName::new(database, name);
        if let Err(error) = warehouse.drop_table(node, &table, &settings).await {
            left.push(error.to_string());
        }
    }
    left
}

async fn used(hands: &Hands, node: &Node, source: bool) -> bool {
    let address = node.address();
    let cache = hands.cache.lock().await;
    if source && cache.boards.iter().flat_map(|board| &board.pieces).any(|piece| piece.lent.contains(&address)) {
        return true;
    }
    let mut batches = cache.boards.iter().flat_map(|board| &board.batches);
    batches.any(|batch| batch.nodes.iter().flatten().chain(&batch.former).any(|used| used == &address))
}
