//! Rows that are damaged between a server and the worker.

use std::sync::Arc;

use clickhouse_copier::client::http::HttpServerClient;
use clickhouse_copier::client::{Destination, Origin, ServerClient, Transfer};
use clickhouse_copier::model::{Node, TableName, Tls, Way};
use clickhouse_copier::sql::{Expression, Relation, Selection, SlotKey, SlotWidth};
use lab::Release;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::scene;

/// The byte of a connection in which a bit is flipped: in the middle of 5 MB of rows.
const DAMAGED: usize = 3_000_000;

/// Forwards the answers of a connection with one bit flipped.
async fn damage(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let (mut passed, mut bytes) = (0, vec![0; 1 << 16]);
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if (passed..passed + count).contains(&DAMAGED) {
            bytes[DAMAGED - passed] ^= 4;
        }
        passed += count;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// Starts a proxy for a server that damages its answers. Returns the port.
async fn damaging(host: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, server) = (listener.local_addr().unwrap().port(), format!("{host}:8123"));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut asked, answered) = client.into_split();
            let (answer, mut question) = TcpStream::connect(&server).await.unwrap().into_split();
            tokio::spawn(damage(answer, answered));
            tokio::spawn(async move { tokio::io::copy(&mut asked, &mut question).await });
        }
    });
    port
}

/// To one target the worker forwards compressed frames; to two targets it decompresses them.
/// 18.16 compresses no answer of its own that is smaller than a frame, so it is asked for none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_relayed_rows_is_reported_as_damage() {
    let scene = scene!(Release::V25_8);
    scene.on(&[1, 2], &format!("CREATE DATABASE {}", scene.dst));
    for (server, database) in [(0, &scene.src), (1, &scene.dst), (2, &scene.dst)] {
        scene.ask(server, &format!("CREATE TABLE {database}.t (n UInt64, s String) ENGINE = MergeTree ORDER BY n"));
    }
    // LZ4 stores incompressible data unchanged, so damaged data can be decompressed too; only the checksum finds it.
    scene.ask(0, &format!("INSERT INTO {}.t SELECT number, randomString(100) FROM numbers(50000)", scene.src));
    let port = damaging(scene.server(0).host()).await;
    let from = Arc::new(Node { http_port: port, ..Node::new("127.0.0.1") });
    let [one, two] = [1, 2].map(|server| Arc::new(Node::new(scene.server(server).host())));
    let key = SlotKey { key: Expression::parse("n").unwrap(), width: SlotWidth(64), total: 2 };
    let (first, second) = (Destination::of_all(&one, "it_damaged:0"), Destination::of_all(&two, "it_damaged:1"));
    let dealt = vec![Destination { slots: 0..1, ..first.clone() }, Destination { slots: 1..2, ..second }];
    for (to, dealt) in [(vec![first], None), (dealt, Some(key))] {
        let transfer = Transfer {
            way: Way::Relay,
            from: vec![Origin::of(&from)],
            to,
            dealt,
            into: TableName::new(&scene.dst, "t"),
            columns: vec!["n".into(), "s".into()],
            values: vec!["n".into(), "s".into()],
            rows: Selection::all(Relation::plain(TableName::new(&scene.src, "t"))),
            compress: true,
            throttles: Vec::new(),
            course: Arc::default(),
        };
        // A new client has new connections, and each connection is damaged once.
        let client = HttpServerClient::new(&Tls::default()).unwrap();
        let error = client.transfer(&transfer).await.unwrap_err();
        let words = "a compressed block of the rows was damaged on its way";
        assert!(error.to_string().contains(words) && error.to_string().contains("checksum does not match"), "{error}");
        assert_eq!(scene.sum(&[1, 2], &format!("SELECT count() FROM {}.t", scene.dst)), 0);
    }
}
