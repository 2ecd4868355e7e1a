use futures::FutureExt;

use super::super::{Conflict, Op};
use super::*;

async fn new_coordinator(test: &str) -> (MemoryCoordinator, String) {
    (MemoryCoordinator::new(), format!("/{test}"))
}

crate::coordinator_conformance!(new_coordinator);

mod over_sqlite {
    use super::*;

    async fn new_coordinator(test: &str) -> (MemoryCoordinator, String) {
        (MemoryCoordinator::over_sqlite(), format!("/{test}"))
    }

    crate::coordinator_conformance!(new_coordinator);
}

async fn session(memory: &MemoryCoordinator) -> Arc<dyn Session> {
    memory.session().await.unwrap()
}

#[tokio::test]
async fn a_write_is_done_if_its_reply_is_lost_and_not_done_if_its_request_is_lost() {
    let memory = MemoryCoordinator::new();
    let session = session(&memory).await;
    memory.lose_next_reply(&session.id());
    let error = session.commit(vec![Op::create("/a", "x")]).await.unwrap_err();
    assert!(matches!(&error, Error::Unknown { path, .. } if path == "/a"), "{error}");
    assert!(error.is_retriable() && error.may_have_applied());
    assert!(session.get("/a").await.unwrap().is_some());

    memory.lose_next_request(&session.id());
    assert!(session.commit(vec![Op::create("/b", "x")]).await.unwrap_err().may_have_applied());
    assert_eq!(session.get("/b").await.unwrap(), None);
    // Only one commit is affected.
    session.commit(vec![Op::create("/b", "x")]).await.unwrap();
    assert_eq!(memory.commits(), 2);
}

#[tokio::test]
async fn an_expired_session_fails_at_once_and_its_ephemeral_nodes_are_gone() {
    let memory = MemoryCoordinator::new();
    let (expired, other) = (session(&memory).await, session(&memory).await);
    expired.commit(vec![Op::ephemeral("/lock", "")]).await.unwrap();
    let (_, gone) = other.watch("/lock").await.unwrap();
    let (_, watch) = expired.watch("/lock").await.unwrap();
    memory.expire(&expired.id());
    gone.fired().await.unwrap();
    expired.lost().await;
    assert!(expired.is_lost() && !other.is_lost());
    assert!(matches!(watch.fired().await, Err(Error::SessionLost { .. })));
    assert!(matches!(expired.get("/").await, Err(Error::SessionLost { .. })));
    assert_eq!(other.get("/lock").await.unwrap(), None);
    assert_eq!(memory.sessions(), [other.id()]);
}

#[tokio::test]
async fn a_disconnected_session_waits_and_gets_changes_after_it_reconnects() {
    let memory = MemoryCoordinator::new();
    let (cut, other) = (session(&memory).await, session(&memory).await);
    let (_, change) = cut.watch("/a").await.unwrap();
    memory.cut(&cut.id());
    other.commit(vec![Op::create("/a", "1")]).await.unwrap();
    let write = cut.commit(vec![Op::create("/a", "2")]);
    tokio::pin!(write);
    let change = change.fired();
    tokio::pin!(change);
    for _ in 0..10 {
        assert_eq!(write.as_mut().now_or_never(), None);
        assert_eq!(change.as_mut().now_or_never(), None);
        tokio::task::yield_now().await;
    }
    memory.mend(&cut.id());
    change.await.unwrap();
    assert_eq!(write.await.unwrap_err().conflict(), Some(Conflict::Exists));
}

#[tokio::test]
async fn an_unreachable_coordinator_gives_no_sessions() {
    let memory = MemoryCoordinator::new();
    memory.set_reachable(false);
    let error = memory.session().await.err().unwrap();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    memory.set_reachable(true);
    memory.session().await.unwrap();
}
