//! The conformance suite of coordinators. [`coordinator_conformance!`](crate::coordinator_conformance) makes a test
//! of each function here for one implementation. The functions panic if the implementation fails.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;

use super::*;

/// Defines the tests of the suite for one implementation. The argument is the name of an `async fn(test: &str) ->
/// (impl Coordinator, String)` that returns a coordinator and a path. Only the parent of the path exists.
#[doc(hidden)]
#[macro_export]
macro_rules! coordinator_conformance {
    ($make:ident) => {
        $crate::coordinator_conformance!($make:
            nodes_are_created_changed_and_deleted,
            stale_versions_and_missing_or_existing_nodes_are_conflicts,
            a_commit_applies_all_steps_or_none_and_names_the_failed_step,
            children_are_sorted_and_without_grandchildren,
            many_nodes_are_returned_in_the_requested_order,
            ephemeral_nodes_are_deleted_when_their_session_ends,
            a_watch_fires_once_for_each_kind_of_change,
            a_watch_of_children_fires_when_a_child_is_created_or_deleted,
            watches_are_independent_of_each_other,
            every_call_in_a_closed_session_fails_at_once,
            compare_and_set_loses_no_update,
            large_commits_and_malformed_paths_are_refused_before_they_are_sent,
            helpers_may_run_in_several_sessions_at_once,
        );
    };
    ($make:ident: $($test:ident,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                let (coordinator, base) = $make(stringify!($test)).await;
                $crate::coordinator::conformance::$test(&coordinator, &base).await;
            }
        )*
    };
}

async fn session(coordinator: &dyn Coordinator) -> Arc<dyn Session> {
    coordinator.session().await.unwrap()
}

/// Returns a session after the base node was created.
async fn start(coordinator: &dyn Coordinator, base: &str) -> Arc<dyn Session> {
    let session = session(coordinator).await;
    session.commit(vec![Op::create(base, "")]).await.unwrap();
    session
}

async fn fired(change: Change) -> Result<(), Error> {
    tokio::time::timeout(Duration::from_secs(10), change.fired()).await.expect("the watch fires within ten seconds")
}

async fn has_not_fired(change: &mut Change) -> bool {
    poll_fn(|cx| Poll::Ready(change.0.poll_unpin(cx).is_pending())).await
}

fn node(data: &str, version: Version) -> Option<Stored> {
    Some(Stored { data: data.into(), version, ephemeral_owner: None })
}

#[track_caller]
fn conflict(outcome: Result<(), Error>, step: usize, path: &str, expected: Conflict) {
    assert_eq!(outcome, Err(Error::Conflict { op: step, path: path.to_owned(), why: expected }));
}

pub async fn nodes_are_created_changed_and_deleted(coordinator: &dyn Coordinator, base: &str) {
    let session = session(coordinator).await;
    assert_eq!(session.get(base).await.unwrap(), None);
    assert_eq!(session.children(base).await.unwrap(), None);
    session.commit(vec![Op::create(base, "one")]).await.unwrap();
    assert_eq!(session.get(base).await.unwrap(), node("one", 0));
    assert_eq!(session.children(base).await.unwrap(), Some(vec![]));
    session.commit(vec![Op::set(base, "two", 0)]).await.unwrap();
    session.commit(vec![Op::set(base, "", None)]).await.unwrap();
    assert_eq!(session.get(base).await.unwrap(), node("", 2));
    session.commit(vec![Op::check(base, 2)]).await.unwrap();
    session.commit(vec![Op::check(base, None)]).await.unwrap();
    session.commit(vec![]).await.unwrap();
    session.commit(vec![Op::delete(base, 2)]).await.unwrap();
    assert_eq!(session.get(base).await.unwrap(), None);
    // A recreated node starts at version 0.
    session.commit(vec![Op::create(base, vec![0, 255])]).await.unwrap();
    let again = session.get(base).await.unwrap().unwrap();
    assert_eq!((again.data, again.version), (vec![0, 255], 0));
}

pub async fn stale_versions_and_missing_or_existing_nodes_are_conflicts(coordinator: &dyn Coordinator, base: &str) {
    let session = start(coordinator, base).await;
    let (a, b, missing) = (format!("{base}/a"), format!("{base}/a/b"), format!("{base}/no/no"));
    session.commit(vec![Op::create(&a, "")]).await.unwrap();
    session.commit(vec![Op::create(&b, "")]).await.unwrap();
    let commit = |op| session.commit(vec![op]);
    conflict(commit(Op::create(&a, "")).await, 0, &a, Conflict::Exists);
    conflict(commit(Op::create(&missing, "")).await, 0, &missing, Conflict::Missing);
    conflict(commit(Op::set(&a, "", 1)).await, 0, &a, Conflict::Version);
    conflict(commit(Op::set(&missing, "", None)).await, 0, &missing, Conflict::Missing);
    conflict(commit(Op::delete(&a, None)).await, 0, &a, Conflict::NotEmpty);
    conflict(commit(Op::delete(&b, 7)).await, 0, &b, Conflict::Version);
    conflict(commit(Op::delete(&missing, None)).await, 0, &missing, Conflict::Missing);
    conflict(commit(Op::check(&a, 1)).await, 0, &a, Conflict::Version);
    conflict(commit(Op::check(&missing, None)).await, 0, &missing, Conflict::Missing);
    assert_eq!(session.get(&a).await.unwrap(), node("", 0));
}

pub async fn a_commit_applies_all_steps_or_none_and_names_the_failed_step(coordinator: &dyn Coordinator, base: &str) {
    let session = start(coordinator, base).await;
    let (a, b) = (format!("{base}/a"), format!("{base}/a/b"));
    // Later steps see earlier ones.
    session
        .commit(vec![Op::create(&a, "0"), Op::create(&b, "0"), Op::set(&b, "1", 0), Op::check(&b, 1)])
        .await
        .unwrap();
    assert_eq!(session.get(&b).await.unwrap(), node("1", 1));

    let c = format!("{base}/c");
    let undone = |last| {
        vec![Op::create(&c, ""), Op::set(&a, "changed", 0), Op::delete(&b, None), last, Op::set(&a, "more", None)]
    };
    for (last, path, why) in [
        (Op::set(&c, "", 9), &c, Conflict::Version),
        (Op::check(&a, 0), &a, Conflict::Version),
        (Op::create(&a, ""), &a, Conflict::Exists),
        (Op::delete(&b, None), &b, Conflict::Missing),
        (Op::delete(base, None), &base.to_owned(), Conflict::NotEmpty),
    ] {
        conflict(session.commit(undone(last)).await, 3, path, why);
        assert_eq!(session.get(&a).await.unwrap(), node("0", 0));
        assert_eq!(session.get(&b).await.unwrap(), node("1", 1));
        assert_eq!(session.get(&c).await.unwrap(), None);
        assert_eq!(session.children(base).await.unwrap(), Some(vec!["a".into()]));
    }
    conflict(session.commit(vec![Op::check(&a, 5), Op::create(&c, "")]).await, 0, &a, Conflict::Version);
}

pub async fn children_are_sorted_and_without_grandchildren(coordinator: &dyn Coordinator, base: &str) {
    let session = start(coordinator, base).await;
    for name in ["b", "a-", "a", "a/x", "ä", "10", "9"] {
        session.commit(vec![Op::create(format!("{base}/{name}"), "")]).await.unwrap();
    }
    let names = session.children(base).await.unwrap().unwrap();
    assert_eq!(names, ["10", "9", "a", "a-", "b", "ä"]);
    assert_eq!(session.children(&format!("{base}/a")).await.unwrap(), Some(vec!["x".into()]));
}

pub async fn many_nodes_are_returned_in_the_requested_order(coordinator: &dyn Coordinator, base: &str) {
    let session = start(coordinator, base).await;
    let path = |number: usize| format!("{base}/{number}");
    for numbers in (0..1200).collect::<Vec<usize>>().chunks(300) {
        let created = numbers.iter().filter(|number| !number.is_multiple_of(3));
        let ops = created.map(|number| Op::create(path(*number), number.to_string()));
        session.commit(ops.collect()).await.unwrap();
    }
    let paths: Vec<_> = (0..1200).rev().map(path).collect();
    let found = session.get_many(&paths).await.unwrap();
    let expected = |number: usize| (!number.is_multiple_of(3)).then(|| node(&number.to_string(), 0)).flatten();
    assert_eq!(found, (0..1200).rev().map(expected).collect::<Vec<_>>());
    assert_eq!(session.get_many(&[]).await.unwrap(), []);
}

pub async fn ephemeral_nodes_are_deleted_when_their_session_ends(coordinator: &dyn Coordinator, base: &str) {
    let watching = start(coordinator, base).await;
    let (closed, dropped) = (session(coordinator).await, session(coordinator).await);
    let (a, b) = (format!("{base}/a"), format!("{base}/b"));
    closed.commit(vec![Op::ephemeral(&a, "x")]).await.unwrap();
    dropped.commit(vec![Op::check(base, 0), Op::ephemeral(&b, "y")]).await.unwrap();
    assert_ne!(closed.id(), dropped.id());
    assert_eq!(watching.get(&a).await.unwrap().unwrap().ephemeral_owner, Some(closed.id()));
    assert_eq!(watching.get(&b).await.unwrap().unwrap().ephemeral_owner, Some(dropped.id()));
    let below = watching.commit(vec![Op::create(format!("{a}/c"), "")]).await;
    assert!(matches!(below, Err(Error::Refused { .. })), "{below:?}");

    closed.close().await;
    assert_eq!(watching.get(&a).await.unwrap(), None, "the node is deleted at once");
    let (_, deleted) = watching.watch(&b).await.unwrap();
    drop(dropped);
    fired(deleted).await.unwrap();
    assert_eq!(watching.children(base).await.unwrap(), Some(vec![]));
}

pub async fn a_watch_fires_once_for_each_kind_of_change(coordinator: &dyn Coordinator, base: &str) {
    let (watching, changing) = (start(coordinator, base).await, session(coordinator).await);
    let path = format!("{base}/a");
    for (op, before) in [
        (Op::create(&path, "1"), None),
        (Op::set(&path, "2", None), node("1", 0)),
        (Op::delete(&path, None), node("2", 1)),
        (Op::ephemeral(&path, "3"), None),
    ] {
        let (found, mut change) = watching.watch(&path).await.unwrap();
        assert_eq!(found, before);
        // Neither reads nor changes elsewhere fire it.
        watching.get(&path).await.unwrap();
        changing.commit(vec![Op::set(base, "", None)]).await.unwrap();
        watching.get(&path).await.unwrap();
        assert!(has_not_fired(&mut change).await);
        changing.commit(vec![op]).await.unwrap();
        fired(change).await.unwrap();
    }
    let (_, change) = watching.watch(&path).await.unwrap();
    changing.close().await;
    fired(change).await.unwrap();
}

pub async fn a_watch_of_children_fires_when_a_child_is_created_or_deleted(coordinator: &dyn Coordinator, base: &str) {
    let (watching, changing) = (session(coordinator).await, session(coordinator).await);
    let child = format!("{base}/a");
    for (op, before) in [
        (Op::create(base, ""), None),
        (Op::create(&child, ""), Some(vec![])),
        (Op::delete(&child, None), Some(vec!["a".to_owned()])),
        (Op::delete(base, None), Some(vec![])),
        (Op::create(base, ""), None),
    ] {
        let (found, change) = watching.watch_children(base).await.unwrap();
        assert_eq!(found, before);
        changing.commit(vec![op]).await.unwrap();
        fired(change).await.unwrap();
    }
    // The data of children is not watched.
    changing.commit(vec![Op::create(&child, "")]).await.unwrap();
    let (_, mut change) = watching.watch_children(base).await.unwrap();
    changing.commit(vec![Op::set(&child, "x", None)]).await.unwrap();
    watching.get(&child).await.unwrap();
    assert!(has_not_fired(&mut change).await);
}

pub async fn watches_are_independent_of_each_other(coordinator: &dyn Coordinator, base: &str) {
    let (session, other) = (start(coordinator, base).await, session(coordinator).await);
    let (_, first) = session.watch(base).await.unwrap();
    let (_, second) = session.watch(base).await.unwrap();
    let (_, third) = other.watch(base).await.unwrap();
    let (_, unwanted) = session.watch(base).await.unwrap();
    let (_, children) = session.watch_children(base).await.unwrap();
    drop(unwanted);
    session.commit(vec![Op::set(base, "1", 0)]).await.unwrap();
    for change in [first, second, third] {
        fired(change).await.unwrap();
    }
    // A watch set after a change waits for the next change, even if the first is reported late.
    for version in 1..20 {
        let (found, change) = session.watch(base).await.unwrap();
        assert_eq!(found.unwrap().version, version);
        other.commit(vec![Op::set(base, "", version)]).await.unwrap();
        fired(change).await.unwrap();
    }
    session.commit(vec![Op::create(format!("{base}/a"), "")]).await.unwrap();
    fired(children).await.unwrap();
}

pub async fn every_call_in_a_closed_session_fails_at_once(coordinator: &dyn Coordinator, base: &str) {
    let session = start(coordinator, base).await;
    let (_, change) = session.watch(base).await.unwrap();
    let (_, children) = session.watch_children(base).await.unwrap();
    assert!(!session.is_lost());
    session.close().await;
    assert!(session.is_lost());
    session.lost().await;
    let lost = Error::SessionLost { place: coordinator.place() };
    assert!(lost.is_retriable());
    assert_eq!(fired(change).await, Err(lost.clone()));
    assert_eq!(fired(children).await, Err(lost.clone()));
    assert_eq!(session.get(base).await, Err(lost.clone()));
    assert_eq!(session.get_many(&[base.to_owned()]).await, Err(lost.clone()));
    assert_eq!(session.children(base).await, Err(lost.clone()));
    assert_eq!(session.watch(base).await.err(), Some(lost.clone()));
    assert_eq!(session.commit(vec![Op::set(base, "", None)]).await, Err(lost));
    session.close().await;
}

pub async fn compare_and_set_loses_no_update(coordinator: &dyn Coordinator, base: &str) {
    const EACH: usize = 10;
    start(coordinator, base).await;
    let counting = (0..6).map(|_| async {
        let session = session(coordinator).await;
        let mut counted = 0;
        while counted < EACH {
            let now = session.get(base).await.unwrap().unwrap();
            let next = String::from_utf8(now.data).unwrap().parse().unwrap_or(0) + 1;
            match session.commit(vec![Op::set(base, next.to_string(), now.version)]).await {
                Ok(()) => counted += 1,
                Err(error) => assert_eq!(error.conflict(), Some(Conflict::Version)),
            }
        }
    });
    join_all(counting).await;
    let counted = session(coordinator).await.get(base).await.unwrap();
    assert_eq!(counted, node(&(6 * EACH).to_string(), 6 * EACH as Version));
}

pub async fn large_commits_and_malformed_paths_are_refused_before_they_are_sent(
    coordinator: &dyn Coordinator,
    base: &str,
) {
    let session = start(coordinator, base).await;
    let (a, b) = (format!("{base}/a"), format!("{base}/b"));
    let large = vec![b'x'; COMMIT_LIMIT + 1];
    let too_large = session.commit(vec![Op::create(&a, "small"), Op::create(&b, large)]).await.unwrap_err();
    assert!(matches!(&too_large, Error::TooLarge { path, .. } if *path == b), "{too_large}");
    // Each fits alone, but together they are too large.
    let half = vec![b'x'; COMMIT_LIMIT / 2];
    let both = session.commit(vec![Op::create(&a, half.clone()), Op::create(&b, half.clone())]).await;
    assert!(matches!(both, Err(Error::TooLarge { .. })), "{both:?}");
    // The largest size allowed.
    let most = vec![b'x'; COMMIT_LIMIT - a.len() - 1024];
    session.commit(vec![Op::create(&a, most.clone())]).await.unwrap();
    assert_eq!(session.get(&a).await.unwrap().unwrap().data.len(), most.len());

    for bad in ["", "relative", "/ends/", "/a//b", "/a/../b", "/a\0b"] {
        let refused = |error: Error| assert!(matches!(error, Error::Refused { .. }), "{bad:?}: {error}");
        refused(session.get(bad).await.unwrap_err());
        refused(session.children(bad).await.unwrap_err());
        refused(session.watch(bad).await.unwrap_err());
        refused(session.commit(vec![Op::check(base, None), Op::create(bad, "")]).await.unwrap_err());
    }
    assert!(matches!(session.commit(vec![Op::delete("/", None)]).await, Err(Error::Refused { .. })));
    assert!(!session.is_lost());
}

pub async fn helpers_may_run_in_several_sessions_at_once(coordinator: &dyn Coordinator, base: &str) {
    let sessions = join_all((0..4).map(|_| session(coordinator))).await;
    let deep = format!("{base}/a/b/c");
    for created in join_all(sessions.iter().map(|session| ensure_path(&**session, &deep))).await {
        created.unwrap();
    }
    let session = &*sessions[0];
    assert_eq!(session.get(&deep).await.unwrap(), node("", 0));
    ensure_path(session, "/").await.unwrap();

    let path = format!("{base}/x");
    assert_eq!(create_if_absent(session, &path, b"mine".to_vec()).await, Ok(true));
    assert_eq!(create_if_absent(session, &path, b"yours".to_vec()).await, Ok(false));
    assert_eq!(session.get(&path).await.unwrap(), node("mine", 0));

    let many = (0..500).map(|number| Op::create(format!("{deep}/{number}"), "")).collect();
    session.commit(many).await.unwrap();
    for deleted in join_all(sessions.iter().map(|session| delete_tree(&**session, base))).await {
        deleted.unwrap();
    }
    assert_eq!(session.get(base).await.unwrap(), None);
    delete_tree(session, base).await.unwrap();
}
