//! The coordinator on a real ZooKeeper: the conformance suite, and broken connections.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clickhouse_copier::coordinator::{Coordinator, Error, Op, Session, ZooKeeperCoordinator, ZooKeeperOptions};
use clickhouse_copier::coordinator_conformance;
use clickhouse_copier::model::{Secret, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::harness::zookeeper_hosts;
use lab::Release;

/// The session timeout: short, but at least twice the tick of the test server.
const TIMEOUT: Duration = Duration::from_secs(2);

fn options(hosts: Vec<(String, u16)>, test: &str) -> ZooKeeperOptions {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let root = format!("/it/keeper/{test}-{}-{}", std::process::id(), since.as_nanos());
    ZooKeeperOptions {
        hosts,
        secure: false,
        tls: Tls::default(),
        session_timeout: TIMEOUT,
        root: Some(root),
        identity: None,
    }
}

async fn zookeeper(test: &str) -> (ZooKeeperCoordinator, String) {
    let options =
        ZooKeeperOptions { session_timeout: Duration::from_secs(20), ..options(zookeeper_hosts(Release::V25_8), test) };
    (ZooKeeperCoordinator::new(options), format!("/{test}"))
}

coordinator_conformance!(zookeeper);

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    /// Nothing passes, and no side notices it.
    Stalled,
    /// Requests pass, answers do not.
    Mute,
    /// Closed; new connections are closed at once.
    Cut,
}

/// A proxy to ZooKeeper whose connections can be broken.
struct Proxy {
    port: u16,
    line: watch::Sender<Line>,
    /// How often bytes were held back.
    held: watch::Sender<u64>,
}

impl Proxy {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (line, seen) = watch::channel(Line::Open);
        let held = watch::Sender::new(0);
        let count = held.clone();
        let [target] = <[_; 1]>::try_from(zookeeper_hosts(Release::V25_8)).unwrap();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (mut cut, seen, target, count) = (seen.clone(), seen.clone(), target.clone(), count.clone());
                tokio::spawn(async move {
                    if *seen.borrow() == Line::Cut {
                        return;
                    }
                    let far = TcpStream::connect(target).await.unwrap();
                    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                    tokio::select! {
                        _ = cut.wait_for(|line| *line == Line::Cut) => {}
                        () = forward(from_near, to_far, seen.clone(), &count, |line| line == Line::Stalled) => {}
                        () = forward(from_far, to_near, seen.clone(), &count, |line| line != Line::Open) => {}
                    }
                });
            }
        });
        Self { port, line, held }
    }

    fn turn(&self, to: Line) {
        self.line.send_replace(to);
    }

    /// Returns a coordinator over this proxy, and one for the same root without it.
    fn coordinators(&self, test: &str) -> (ZooKeeperCoordinator, ZooKeeperCoordinator) {
        let direct = options(zookeeper_hosts(Release::V25_8), test);
        let over = ZooKeeperOptions { hosts: vec![("127.0.0.1".into(), self.port)], ..direct.clone() };
        (ZooKeeperCoordinator::new(over), ZooKeeperCoordinator::new(direct))
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
    count: &watch::Sender<u64>,
    held: fn(Line) -> bool,
) {
    let mut bytes = vec![0; 65536];
    loop {
        let Ok(length @ 1..) = from.read(&mut bytes).await else { return };
        if held(*line.borrow()) {
            count.send_modify(|count| *count += 1);
        }
        if line.wait_for(|line| !held(*line)).await.is_err() || to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

async fn session(with_identity: &ZooKeeperCoordinator) -> Arc<dyn Session> {
    with_identity.session().await.unwrap()
}

#[tokio::test]
async fn reads_and_watches_survive_a_broken_connection() {
    let proxy = Proxy::new().await;
    let (over, direct) = proxy.coordinators("broken-line");
    let (session_over, session_direct) = (session(&over).await, session(&direct).await);
    session_over.commit(vec![Op::ephemeral("/lock", "")]).await.unwrap();
    let (_, change) = session_over.watch("/a").await.unwrap();
    for round in 0..3 {
        // The answer is on its way when the line breaks, or, the last time, the request comes when it is broken already.
        proxy.turn(if round == 2 { Line::Cut } else { Line::Mute });
        let mut held = proxy.held.subscribe();
        let read = tokio::spawn({
            let session = session_over.clone();
            async move { session.get("/lock").await }
        });
        if round < 2 {
            held.changed().await.unwrap();
            proxy.turn(Line::Cut);
        }
        session_direct.commit(vec![Op::create(format!("/{round}"), "")]).await.unwrap();
        if round == 0 {
            session_direct.commit(vec![Op::create("/a", "")]).await.unwrap();
        }
        proxy.turn(Line::Open);
        let owner = read.await.unwrap().unwrap().unwrap().ephemeral_owner;
        assert_eq!(owner, Some(session_over.id()));
    }
    change.fired().await.unwrap();
    assert!(!session_over.is_lost());
    assert_eq!(session_over.children("/").await.unwrap().unwrap(), ["0", "1", "2", "a", "lock"]);
}

#[tokio::test]
async fn a_write_without_an_answer_is_unknown_until_the_next_read() {
    let proxy = Proxy::new().await;
    let (over, direct) = proxy.coordinators("lost-reply");
    let (session_over, session_direct) = (session(&over).await, session(&direct).await);
    // The root is made with the first node, and that is not what is tried here.
    session_over.commit(vec![Op::create("/first", "")]).await.unwrap();
    for (name, several) in [("/one", false), ("/several", true)] {
        let (_, applied) = session_direct.watch(name).await.unwrap();
        proxy.turn(Line::Mute);
        let mut ops = vec![Op::create(name, "done")];
        if several {
            ops.push(Op::set("/one", "", None));
        }
        let write = tokio::spawn({
            let session = session_over.clone();
            async move { session.commit(ops).await }
        });
        applied.fired().await.unwrap();
        proxy.turn(Line::Cut);
        let error = write.await.unwrap().unwrap_err();
        assert!(matches!(&error, Error::Unknown { path, .. } if path == name), "{error}");
        proxy.turn(Line::Open);
        assert_eq!(session_over.get(name).await.unwrap().unwrap().data, b"done");
    }
    assert!(!session_over.is_lost());
}

#[tokio::test]
async fn a_session_without_contact_expires_in_time_and_another_takes_over() {
    let proxy = Proxy::new().await;
    let (over, direct) = proxy.coordinators("expiry");
    let (session_over, session_direct) = (session(&over).await, session(&direct).await);
    session_over.commit(vec![Op::ephemeral("/lock", "")]).await.unwrap();
    let (_, gone) = session_direct.watch("/lock").await.unwrap();
    let (_, never) = session_over.watch("/lock").await.unwrap();
    proxy.turn(Line::Stalled);
    let began = Instant::now();
    let (read, write) = tokio::join!(session_over.get("/lock"), session_over.commit(vec![Op::create("/late", "")]));
    let waited = began.elapsed();
    assert!(matches!(read, Err(Error::SessionLost { .. })), "{read:?}");
    assert!(write.as_ref().unwrap_err().may_have_applied(), "{write:?}");
    assert!(waited < TIMEOUT * 2, "{waited:?}");
    session_over.lost().await;
    assert!(matches!(never.fired().await, Err(Error::SessionLost { .. })));
    assert!(matches!(session_over.get("/lock").await, Err(Error::SessionLost { .. })));
    gone.fired().await.unwrap();
    proxy.turn(Line::Open);
    let again = session(&over).await;
    assert_ne!(again.id(), session_over.id());
    again.commit(vec![Op::ephemeral("/lock", "")]).await.unwrap();
}

#[tokio::test]
async fn unreachable_zookeeper_servers_are_named_with_the_reason() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let hosts = [closed, silent_port].map(|port| ("127.0.0.1".to_owned(), port)).to_vec();
    let coordinator = ZooKeeperCoordinator::new(options(hosts, "unreachable"));
    let error = coordinator.session().await.err().unwrap();
    assert!(matches!(&error, Error::Unreachable { place, .. } if *place == coordinator.place()), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{closed}: Connection refused")), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{silent_port}: it takes connections but gives no session")), "{text}");

    // One server that answers is enough.
    let mut hosts = zookeeper_hosts(Release::V25_8);
    hosts.insert(0, ("127.0.0.1".into(), closed));
    ZooKeeperCoordinator::new(options(hosts, "one-of-two")).session().await.unwrap();
}

#[tokio::test]
async fn all_paths_are_below_the_configured_root() {
    let rooted = options(zookeeper_hosts(Release::V25_8), "root");
    let root = rooted.root.clone().unwrap();
    let free = ZooKeeperOptions { root: None, ..rooted.clone() };
    let rooted = ZooKeeperCoordinator::new(ZooKeeperOptions { root: Some(format!("{root}/")), ..rooted });
    let free = session(&ZooKeeperCoordinator::new(free)).await;
    assert!(rooted.place().ends_with(&root), "{}", rooted.place());
    session(&rooted).await.commit(vec![Op::create("/a", "x")]).await.unwrap();
    assert_eq!(free.get(&format!("{root}/a")).await.unwrap().unwrap().data, b"x");
    assert_eq!(session(&rooted).await.children("/").await.unwrap(), Some(vec!["a".into()]));

    let bad = ZooKeeperOptions { root: Some("no-slash".into()), ..options(zookeeper_hosts(Release::V25_8), "") };
    let error = ZooKeeperCoordinator::new(bad).session().await.err().unwrap();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
}

#[tokio::test]
async fn only_the_same_identity_can_read_and_write_nodes() {
    let anyone = options(zookeeper_hosts(Release::V25_8), "identity");
    let with_identity = |identity: &str| ZooKeeperOptions { identity: Some(Secret::new(identity)), ..anyone.clone() };
    let anyone = session(&ZooKeeperCoordinator::new(anyone.clone())).await;
    let (own, other) = (
        ZooKeeperCoordinator::new(with_identity("copier:right")),
        ZooKeeperCoordinator::new(with_identity("copier:wrong")),
    );
    assert!(!format!("{own:?} {}", own.place()).contains("right"));
    session(&own).await.commit(vec![Op::create("/a", "x"), Op::create("/a/b", "y")]).await.unwrap();
    session(&own).await.commit(vec![Op::create("/c", "z")]).await.unwrap();
    for path in ["/a", "/a/b", "/c"] {
        assert!(session(&own).await.get(path).await.unwrap().is_some());
        for stranger in [&anyone, &session(&other).await] {
            let error = stranger.get(path).await.unwrap_err();
            assert!(matches!(&error, Error::Refused { path: at, .. } if at == path), "{error}");
            let error = stranger.commit(vec![Op::set(path, "", None), Op::check("/", None)]).await.unwrap_err();
            assert!(matches!(&error, Error::Refused { path: at, .. } if at == path), "{error}");
        }
    }
}

/// A TLS connection to a plain port gives no session. The error says what to check.
#[tokio::test]
async fn tls_to_a_plain_zookeeper_port_fails_with_advice() {
    let secure = ZooKeeperOptions { secure: true, ..options(zookeeper_hosts(Release::V25_8), "tls") };
    let error = ZooKeeperCoordinator::new(secure).session().await.err().unwrap().to_string();
    assert!(error.contains("is this its secure port"), "{error}");
}
