//! ZooKeeper and ClickHouse Keeper.
//!
//! ClickHouse Keeper before 25.12 does not know `create2`, which the client sends inside a `multi`, and closes the
//! connection on it. A commit of several steps that creates a node therefore needs ZooKeeper (3.5 or later) or a
//! newer Keeper.

mod answer;
mod session;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use session::ZooKeeperSession;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use zookeeper_client as zk;

use super::{Coordinator, Error, Session, path};
use crate::model::{Secret, Tls};
use crate::task::system_authorities;

/// The longest time that opening a session may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The pause between two attempts to open a session.
const CONNECT_RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The address of ZooKeeper and our identity there.
#[derive(Debug, Clone)]
pub struct ZooKeeperOptions {
    /// The servers of one ensemble.
    pub hosts: Vec<(String, u16)>,
    /// Whether to use TLS.
    pub secure: bool,
    /// TLS options. The servers' certificates are always checked: the client has no other mode.
    pub tls: Tls,
    /// How long the servers keep our session without a sign of life. They may choose another timeout: the coordinator
    /// then uses theirs.
    pub session_timeout: Duration,
    /// The root of all paths ("chroot"); created with the first node in it.
    pub root: Option<String>,
    /// `user:password` of the digest scheme. With it, only this identity can access the nodes that we create; without
    /// it, anyone can.
    pub identity: Option<Secret>,
}

/// A ZooKeeper ensemble.
#[derive(Debug)]
pub struct ZooKeeperCoordinator {
    options: ZooKeeperOptions,
    place: String,
}

impl ZooKeeperCoordinator {
    /// Returns a coordinator for these servers, without connecting.
    pub fn new(mut options: ZooKeeperOptions) -> Self {
        options.root = options.root.map(|root| root.trim_end_matches('/').to_owned()).filter(|root| !root.is_empty());
        let place = format!("ZooKeeper {}{}", hosts(&options), options.root.as_deref().unwrap_or(""));
        Self { options, place }
    }

    fn acl(&self) -> zk::Acls<'static> {
        // Like the original: with an identity "creator all", else open.
        if self.options.identity.is_some() { zk::Acls::creator_all() } else { zk::Acls::anyone_all() }
    }

    fn refused(&self, what: impl ToString) -> Error {
        let path = self.options.root.clone().unwrap_or_else(|| "/".into());
        Error::Refused { place: self.place.clone(), path, what: what.to_string() }
    }

    fn connector(&self) -> Result<zk::Connector, Error> {
        // A refused connection is reported at once. A caller that wants to wait for starting servers tries again.
        let mut connector = zk::Client::connector()
            .with_session_timeout(self.options.session_timeout)
            .with_fail_eagerly()
            // A single create then goes out as the old request, which every ClickHouse Keeper understands.
            .with_server_version(3, 4, 14);
        if let Some(identity) = &self.options.identity {
            connector = connector.with_auth("digest", identity.expose().as_bytes());
        }
        if self.options.secure {
            connector = connector.with_tls(self.tls()?);
        }
        Ok(connector)
    }

    fn tls(&self) -> Result<zk::TlsOptions, Error> {
        let Tls { authorities, identity, .. } = &self.options.tls;
        let mut options = zk::TlsOptions::default();
        if let Some(pem) = authorities {
            options = options.with_pem_ca(pem).map_err(|error| self.refused(format!("<caConfig>: {error}")))?;
        }
        if self.options.tls.trusts_system() {
            let pem = system_authorities().map_err(|error| self.refused(error))?;
            options = options.with_pem_ca(&pem).map_err(|error| self.refused(format!("SSL_CERT_FILE: {error}")))?;
        }
        if let Some(identity) = identity {
            options = options.with_pem_identity(&identity.certificates, identity.key.expose()).map_err(|_| {
                self.refused("<certificateFile> and <privateKeyFile> are not a certificate and its key")
            })?;
        }
        Ok(options)
    }

    /// Connects a client whose paths start at the root. The root need not exist: a process that only reads creates
    /// nothing.
    async fn connect(&self, connector: zk::Connector) -> Result<zk::Client, zk::Error> {
        let hosts = hosts(&self.options);
        let client =
            if self.options.secure { connector.secure_connect(&hosts).await } else { connector.connect(&hosts).await }?;
        let Some(root) = &self.options.root else { return Ok(client) };
        client.chroot(root.as_str()).map_err(|_| zk::Error::BadArguments(&"not a path"))
    }

    /// Returns why no session was opened, host by host, because the client does not report it. Also returns whether a
    /// host accepts connections.
    async fn why_unreachable(&self, limit: Duration) -> (bool, String) {
        let causes = join_all(self.options.hosts.iter().map(|(host, port)| async move {
            let cause = match timeout(limit, TcpStream::connect((host.as_str(), *port))).await {
                Err(_) => return (false, format!("{host}:{port}: no answer")),
                Ok(Err(error)) => return (false, format!("{host}:{port}: {error}")),
                Ok(Ok(_)) if self.options.secure => {
                    "it takes connections but gives no session over TLS (is this its secure port, is its certificate \
                     for this host and known to the authorities of <caConfig> or SSL_CERT_FILE, does the ensemble have a quorum?)"
                        .to_owned()
                }
                Ok(Ok(_)) => {
                    "it takes connections but gives no session (does the ensemble have a quorum, is this its plain \
                     port?)"
                        .to_owned()
                }
            };
            (true, format!("{host}:{port}: {cause}"))
        }));
        let (open, causes): (Vec<bool>, Vec<String>) = causes.await.into_iter().unzip();
        (open.contains(&true), causes.join("; "))
    }
}

#[async_trait]
impl Coordinator for ZooKeeperCoordinator {
    async fn session(&self) -> Result<Arc<dyn Session>, Error> {
        if self.options.hosts.is_empty() {
            return Err(self.refused("no hosts are given"));
        }
        if let Some(root) = &self.options.root {
            path::check(&self.place, root)?;
        }
        // With short sessions the client gives up soon; a busy ensemble gets more time.
        let deadline = Instant::now() + CONNECT_LIMIT * 4 / 5;
        loop {
            match timeout_at(deadline, self.connect(self.connector()?)).await {
                Ok(Ok(client)) => {
                    let root = self.options.root.clone();
                    return Ok(Arc::new(ZooKeeperSession::new(client, self.place.clone(), self.acl(), root)));
                }
                Ok(Err(error)) if answer::is_refusal(&error) => return Err(self.refused(error)),
                Ok(Err(_)) | Err(_) => {
                    let (takes_connections, why) = self.why_unreachable(CONNECT_LIMIT / 5).await;
                    if !takes_connections || Instant::now() >= deadline {
                        return Err(Error::Unreachable { place: self.place.clone(), why });
                    }
                    sleep(CONNECT_RETRY_PAUSE).await;
                }
            }
        }
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn is_open_to_all(&self) -> bool {
        self.options.identity.is_none()
    }
}

fn hosts(options: &ZooKeeperOptions) -> String {
    let one = |(host, port): &(String, u16)| {
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    };
    options.hosts.iter().map(one).collect::<Vec<_>>().join(",")
}
