//! Other addresses of servers: connections are forwarded unchanged, and counted.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// An address that forwards to servers until the end of the test process.
pub struct Forwarder {
    pub port: u16,
    connections: Arc<AtomicUsize>,
}

impl Forwarder {
    /// Listens at an address (port 0: a free one), and forwards each connection to the next of these addresses in turn.
    pub fn start(listen: (&str, u16), targets: Vec<(String, u16)>) -> Forwarder {
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (host, port) = &targets[count.fetch_add(1, Ordering::Relaxed) % targets.len()];
                let Ok(server) = TcpStream::connect((host.as_str(), *port)) else { continue };
                let (client2, server2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || forward(client, server));
                thread::spawn(move || forward(server2, client2));
            }
        });
        Forwarder { port, connections }
    }

    /// Returns how many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Forwards the bytes of one direction.
fn forward(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write); // the other side may be closed already
}
