//! Tests of connections that servers close, and of endless answers.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const ONE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\x01";

async fn read_request(connection: &mut TcpStream) {
    let mut request = vec![0; 4096];
    assert!(connection.read(&mut request).await.unwrap() > 0);
}

#[tokio::test]
async fn a_question_is_asked_again_if_the_server_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        read_request(&mut first).await;
        first.write_all(ONE).await.unwrap();
        read_request(&mut first).await;
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        read_request(&mut second).await;
        second.write_all(ONE).await.unwrap();
        // The third question: the server closes the new connection too, so it counts as unreachable.
        for _ in 0..2 {
            read_request(&mut listener.accept().await.unwrap().0).await;
        }
    });
    let client = HttpServerClient::new(&Tls::default()).unwrap();
    let node = Node { http_port: port, ..Node::new("127.0.0.1") };
    for _ in 0..2 {
        client.reach(&node).await.unwrap();
    }
    let error = client.reach(&node).await.unwrap_err();
    assert!(matches!(error.kind, Kind::Network(_)), "{error}");
    server.await.unwrap();
}

/// Starts a server that answers every request with this head, and then with endless bytes. Returns its port, and a
/// counter of the sent bytes.
async fn endless(head: &'static [u8]) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, sent) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(0)));
    let counted = sent.clone();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                read_request(&mut connection).await;
                let mut bytes = head.to_vec();
                while connection.write_all(&bytes).await.is_ok() {
                    counted.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    bytes = vec![b'x'; 1 << 16];
                }
            });
        }
    });
    (port, sent)
}

/// Covers pings, questions, and reads and writes of a relay.
#[tokio::test]
async fn an_endless_answer_is_stopped() {
    const ERROR: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\n\r\n";
    let (port, sent) = endless(ERROR).await;
    let node = Node { http_port: port, ..Node::new("127.0.0.1") };
    let client = HttpServerClient::new(&Tls::default()).unwrap();
    let error = client.reach(&node).await.unwrap_err();
    assert!(error.to_string().contains("500 Internal Server Error"), "{error}");
    client.rows::<u8>(&node, "cannot ask", "SELECT 1", SHORT).await.unwrap_err();
    for library in [&client.client, &client.fresh, &client.rows] {
        let client = client.entered(library, &node);
        client.query_raw("SELECT 1").fetch_bytes("Native").unwrap().collect().await.unwrap_err();
        let mut insert = client.insert_formatted_with("INSERT INTO t FORMAT Native");
        let _ = insert.send(bytes::Bytes::from_static(b"rows")).await;
        insert.end().await.unwrap_err();
    }
    // The count includes bytes in the buffers of connections.
    assert!(sent.load(Ordering::Relaxed) < 100 << 20, "{sent:?}");
}
