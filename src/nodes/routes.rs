//! The choice of the transfer between two nodes where the task does not set one (`<transfer>auto`).
//!
//! `push` where it works. `pull` where the source's account may not write, or where the source cannot reach the target, and the
//! target can reach the source. Otherwise `relay`, which needs only the HTTP ports that a worker needs anyway. Servers are asked once for
//! each pair of nodes, and again after a transfer between them failed.

use futures::FutureExt;

use super::column_routes::ColumnRoutes;
use super::known_routes::account;
use super::pool::NodePool;
use crate::client::{Error, Remedy, ServerFacts, codes};
use crate::model::{Node, Way};
use crate::sql::required_settings::{Correction, Matters, SKIPS_UNKNOWN_SETTINGS};
use crate::task::TableJob;

/// The chosen transfer between two nodes, with the reason if it is not the usual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// The transfer.
    pub(crate) way: Way,
    /// Why better transfers are not possible. `None` for a push, or when the task sets the transfer.
    pub(crate) reason: Option<String>,
}

/// Returns the route for the rows of a table job: the transfer that the task sets, otherwise the best one. Rows with a bandwidth limit
/// pass through the worker: no setting of a server limits the rows of all statements together, or can be changed while a statement
/// runs. (18.16: `max_network_bandwidth` limits the compressed bytes of one statement; `…_for_user` and `…_for_all_users` do not
/// limit a push.) Rows that servers cannot send to each other are relayed at once.
pub(crate) async fn way_of(
    pool: &NodePool,
    job: &TableJob,
    from: &Node,
    to: &Node,
    filtered: bool,
    columns: &ColumnRoutes,
) -> Result<Route, Error> {
    if job.way_of_rows().is_none() && job.paced {
        let reason = "max_bytes_per_second holds only what passes through the worker".to_owned();
        return Ok(Route { way: Way::Relay, reason: Some(reason) });
    }
    if job.way_of_rows().is_none()
        && let Some(reason) = columns.needs_dealing(pool.facts(from).await?.release())
    {
        return Ok(Route { way: Way::Relay, reason: Some(reason) });
    }
    match (job.way_of_rows(), columns.against_push()) {
        (None, Some(no_push)) => way_but_push(pool, from, to, no_push.to_owned(), filtered).await,
        (wanted, _) => way_between(pool, from, to, wanted, filtered).await,
    }
}

/// Returns the route from a source node to a target node. `filtered` is whether the source would filter the rows of a pull, see
/// [`Selection::filters_at_the_table`](crate::sql::Selection::filters_at_the_table).
///
/// # Errors
/// When a node that must be asked does not answer: then nothing is known about routes.
pub(crate) async fn way_between(
    pool: &NodePool,
    from: &Node,
    to: &Node,
    wanted: Option<Way>,
    filtered: bool,
) -> Result<Route, Error> {
    if let Some(way) = wanted {
        return Ok(Route { way, reason: None });
    }
    let Some(no_push) = against_push(pool, from, to).await? else {
        return Ok(Route { way: Way::Push, reason: None });
    };
    way_but_push(pool, from, to, no_push, filtered).await
}

/// Returns the route where a push is not possible.
async fn way_but_push(
    pool: &NodePool,
    from: &Node,
    to: &Node,
    no_push: String,
    filtered: bool,
) -> Result<Route, Error> {
    let no_pull = match filtered {
        true => against_pull(pool, from, to).await?,
        false => Some(format!("{to} would have to fetch all rows of the table to filter them")),
    };
    Ok(match no_pull {
        None => Route { way: Way::Pull, reason: Some(no_push) },
        Some(no_pull) => Route { way: Way::Relay, reason: Some(format!("{no_push}; and {no_pull}")) },
    })
}

/// Returns why a source cannot push rows to a target, or `None` where it can.
pub(crate) async fn against_push(pool: &NodePool, from: &Node, to: &Node) -> Result<Option<String>, Error> {
    if pool.facts(from).await?.is_read_only() {
        return Ok(Some(format!("user {} may only read at {from}", from.user)));
    }
    against(pool, Way::Push, from, to, from, to).await
}

/// Returns why a target cannot pull rows from a source, or `None` where it can.
pub(crate) async fn against_pull(pool: &NodePool, from: &Node, to: &Node) -> Result<Option<String>, Error> {
    against(pool, Way::Pull, from, to, to, from).await
}

/// Returns why `asking` cannot send a statement of a transfer to `asked`, or `None` where it can.
async fn against(
    pool: &NodePool,
    way: Way,
    from: &Node,
    to: &Node,
    asking: &Node,
    asked: &Node,
) -> Result<Option<String>, Error> {
    let refused = (account(from), account(to), way);
    if let Some(why) = pool.routes.known(|known| known.refused.get(&refused).cloned()) {
        return Ok(Some(why));
    }
    let (client, here, there) = (pool.client.clone(), asking.clone(), asked.clone());
    let ask = || async move {
        match client.reaches(&here, &there).await {
            Err(error) if error.is_unreachable() => Err(error),
            answer => Ok(answer.map_err(|error| obstacle(&here, &there, &error))),
        }
    };
    let reached = pool.routes.reached.get(pair(asking, asked), || ask().boxed()).await?;
    if let Err(why) = reached.as_ref() {
        return Ok(Some(why.clone()));
    }
    let (sender, receiver) = (pool.facts(asking).await?, pool.facts(asked).await?);
    let setting = blocking_setting(&sender, &receiver, way);
    Ok(setting.map(|name| format!("a statement of {asking} to {asked} must set {name}, and cannot")))
}

/// Records that a transfer failed, so that the next attempt asks again whether the nodes reach each other. Returns whether the next
/// attempt may use another transfer, although the answer of the server was final.
pub(crate) fn after_failure(pool: &NodePool, from: &Node, to: &Node, way: Way, error: &Error) -> bool {
    let refused =
        way != Way::Relay && (error.is_denied() || error.code().is_some_and(|code| REFUSAL_CODES.contains(&code)));
    [pair(from, to), pair(to, from)].iter().for_each(|pair| pool.routes.reached.forget(pair));
    if refused {
        let key = (account(from), account(to), way);
        pool.routes.known(|known| known.refused.insert(key, format!("a {way} was refused: {error}")));
    }
    refused && error.remedy() == Remedy::GiveUp
}

/// Returns the setting that a statement of one server to another must set but cannot. An old server refuses a statement with an unknown
/// setting (docs/clickhouse-behaviour.md, §1). No server passes on settings that it does not know. A sender passes on settings that its
/// account may not change.
fn blocking_setting(sender: &ServerFacts, receiver: &ServerFacts, way: Way) -> Option<&'static str> {
    let needed = |facts: &ServerFacts, writes: bool| -> Vec<Correction> {
        let matters = |one: &Correction| match one.matters {
            Matters::Everywhere => true,
            Matters::Writing => writes,
            Matters::Passing => false,
        };
        facts.corrections().into_iter().filter(matters).collect()
    };
    let knows = |facts: &ServerFacts, name: &str| facts.settings.contains_key(name);
    let is_old = receiver.release() < SKIPS_UNKNOWN_SETTINGS;
    // The receiver of a pull only reads. 18.16 does not pass the settings of the statement on to it: of 30,100 rows of an account whose
    // result_overflow_mode is break, 10,000 arrived.
    let keeps = way == Way::Pull && sender.release() < SKIPS_UNKNOWN_SETTINGS;
    let by_receiver = needed(receiver, way != Way::Pull).into_iter().find(|one| keeps || !knows(sender, one.name));
    let by_sender =
        || needed(sender, true).into_iter().find(|one| !one.allowed || (is_old && !knows(receiver, one.name)));
    by_receiver.or_else(by_sender).map(|one| one.name)
}

/// Returns the key of the question whether a node reaches another one.
fn pair(asking: &Node, asked: &Node) -> String {
    format!("{} to {}", account(asking), account(asked))
}

/// Returns the message why one server cannot reach another one.
fn obstacle(asking: &Node, asked: &Node, error: &Error) -> String {
    match (&asked.named_collection, error.code()) {
        // 25.8 takes the name of a collection that it does not know for a database, and the next argument for a column.
        (Some(name), Some(codes::UNKNOWN_IDENTIFIER | codes::NAMED_COLLECTION_DOESNT_EXIST)) => {
            let user = &asking.user;
            format!(
                "{asking} knows no named collection {name}, by which it would reach {asked}, or user {user} may not use it"
            )
        }
        _ => format!("{asked} cannot be reached from {asking}: {}", error.reason()),
    }
}

/// Error codes of a server that does not know a packet of the protocol or a setting of the other server.
const REFUSAL_CODES: [u32; 5] = [
    codes::UNKNOWN_PACKET_FROM_CLIENT,
    codes::UNKNOWN_PACKET_FROM_SERVER,
    codes::UNEXPECTED_PACKET_FROM_CLIENT,
    codes::UNEXPECTED_PACKET_FROM_SERVER,
    codes::UNKNOWN_SETTING,
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client::Kind;
    use crate::client::memory::MemoryServerClient;
    use crate::sql::required_settings::SettingRule;

    fn node(host: &str) -> Node {
        Node::new(host)
    }

    fn two_nodes() -> (MemoryServerClient, NodePool, Node, Node) {
        let (memory, from, to) = (MemoryServerClient::new(), node("s"), node("t"));
        [&from, &to].into_iter().for_each(|node| memory.add_node(node, &[]));
        (memory.clone(), NodePool::new(Arc::new(memory), "w".into()), from, to)
    }

    /// Each case has the sender, the receiver, the transfer, and the setting that blocks it.
    #[test]
    fn a_setting_that_cannot_be_passed_on_excludes_a_transfer() {
        let facts = |version: &str, settings: &[(&str, &str)], fixed: &[&str]| ServerFacts {
            version: version.into(),
            settings: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            setting_rules: fixed
                .iter()
                .map(|name| ((*name).to_owned(), SettingRule { readonly: true, ..SettingRule::default() }))
                .collect(),
        };
        let old = facts("18.16.1", &[("extremes", "0")], &[]);
        let new = facts("25.8.2", &[("extremes", "0"), ("limit", "0"), ("async_insert", "0")], &[]);
        let limited = facts("25.8.2", &[("extremes", "0"), ("limit", "5"), ("async_insert", "0")], &[]);
        let extreme = facts("18.16.1", &[("extremes", "1")], &[]);
        let late = facts("26.9.2", &[("extremes", "0"), ("limit", "0"), ("async_insert", "1")], &[]);
        let fixed = facts("26.9.2", &[("extremes", "0"), ("limit", "0"), ("async_insert", "1")], &["async_insert"]);
        for (sender, receiver, way, name) in [
            (&new, &old, Way::Push, None),
            (&old, &limited, Way::Push, Some("limit")),
            (&limited, &old, Way::Push, Some("limit")),
            (&limited, &new, Way::Push, None),
            (&extreme, &new, Way::Push, None),
            (&new, &extreme, Way::Pull, None),
            (&old, &late, Way::Push, Some("async_insert")),
            (&old, &late, Way::Pull, None),
            (&old, &extreme, Way::Pull, Some("extremes")),
            (&new, &late, Way::Push, None),
            (&fixed, &new, Way::Push, Some("async_insert")),
        ] {
            assert_eq!(blocking_setting(sender, receiver, way), name, "{way} {} {}", sender.version, receiver.version);
        }
    }

    #[test]
    fn a_named_collection_that_is_missing_is_named() {
        let (from, to) = (Node::new("s"), Node::new("t"));
        let message = "Unknown expression identifier `database`".to_owned();
        let error = Error { node: "s".into(), doing: "cannot ask".into(), kind: Kind::Server { code: 47, message } };
        assert!(obstacle(&from, &to, &error).contains("t:9000 cannot be reached from s:9000: code 47"));
        let named = Node { named_collection: Some("copy_target".into()), ..to };
        assert!(obstacle(&from, &named, &error).contains("s:9000 knows no named collection copy_target, by which"));
    }

    #[tokio::test]
    async fn the_first_transfer_that_works_is_chosen() {
        for (read_only, target_blocked, source_blocked, filtered, way, words) in [
            (false, false, false, true, Way::Push, ""),
            (false, false, true, false, Way::Push, ""),
            (true, false, false, true, Way::Pull, "user default may only read at s:9000"),
            (false, true, false, true, Way::Pull, "t:9000 cannot be reached from s:9000: code 279"),
            (false, true, true, true, Way::Relay, "s:9000 cannot be reached from t:9000: code 279"),
            (true, false, true, true, Way::Relay, "may only read at s:9000; and s:9000 cannot be reached"),
            (true, false, false, false, Way::Relay, "t:9000 would have to fetch all rows"),
        ] {
            let (memory, pool, from, to) = two_nodes();
            memory.set_read_only(&from, read_only);
            memory.set_blocked(&from, &to, target_blocked);
            memory.set_blocked(&to, &from, source_blocked);
            let route = way_between(&pool, &from, &to, None, filtered).await.unwrap();
            assert_eq!(route.way, way, "{route:?}");
            assert!(route.reason.unwrap_or_default().contains(words), "{way}");
        }
    }

    #[tokio::test]
    async fn a_change_of_the_network_is_noticed_only_after_a_failure() {
        let (memory, pool, from, to) = two_nodes();
        let error = |code| Error {
            node: from.to_string(),
            doing: "cannot push".into(),
            kind: Kind::Server { code, message: "no".into() },
        };
        let way = async || way_between(&pool, &from, &to, None, true).await.unwrap().way;
        assert_eq!(way().await, Way::Push);
        memory.set_blocked(&from, &to, true);
        assert_eq!(way().await, Way::Push);
        assert!(!after_failure(&pool, &from, &to, Way::Push, &error(279)));
        assert_eq!(way().await, Way::Pull);
        memory.set_blocked(&from, &to, false);
        assert!(!after_failure(&pool, &from, &to, Way::Pull, &error(279)));
        assert_eq!(way().await, Way::Push);
        // An account that may read through a table function, and not write through one.
        assert!(after_failure(&pool, &from, &to, Way::Push, &error(497)));
        assert_eq!(way().await, Way::Pull);
        assert!(!after_failure(&pool, &from, &to, Way::Relay, &error(497)));
    }

    #[tokio::test]
    async fn an_unreachable_node_is_an_error_and_no_transfer_is_chosen() {
        let (memory, pool, from, to) = two_nodes();
        pool.facts(&from).await.unwrap();
        memory.set_reachable(&from, false);
        assert!(way_between(&pool, &from, &to, None, true).await.unwrap_err().is_unreachable());
    }
}
