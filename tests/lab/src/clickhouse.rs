//! A ClickHouse server and a minimal client for it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::Agent;
use ureq::http::HeaderValue;

use crate::addresses::{HTTP_PORT, INTERSERVER_PORT, TCP_PORT};
use crate::config::{Cluster, ServerConfig, clusters_xml};
use crate::{LabError, Release, Server, disk, install, wheels};

/// How long a query may take. Long, since a test may wait for a slow one on a busy machine; finite, since it may have
/// frozen the server.
const QUERY_LIMIT: Duration = Duration::from_secs(300);
/// How long `/ping` may take while a server starts.
const PING_LIMIT: Duration = Duration::from_millis(500);
/// How much of a statement an error message repeats.
const SQL_SHOWN: usize = 200;

/// A ClickHouse server. What it does as a process (kill, freeze, start again) is in [`Server`].
#[derive(Debug)]
pub struct ClickHouse {
    server: Server,
    release: Release,
    host: String,
    agent: Agent,
    clusters: Mutex<BTreeMap<String, Cluster>>,
}

impl ClickHouse {
    /// Writes the configuration into `config.dir`, starts nothing; fetches the release where it is missing.
    pub(crate) fn prepare(config: &ServerConfig<'_>, users_xml: &str) -> Result<Self, LabError> {
        let (dir, ip, release) = (config.dir, config.ip, config.release);
        write(&dir.join("config.xml"), &config.xml())?;
        write(&dir.join("users.xml"), users_xml)?;
        write(&dir.join("clusters.xml"), &clusters_xml([]))?;

        let mut command: Vec<OsString> = match release {
            Release::V18_16 => {
                let mut file = OsString::from("--config-file=");
                file.push(dir.join("config.xml"));
                vec![install::clickhouse_server()?, file]
            }
            _ => wheels::server(release, dir)?,
        };
        if let Some(mib) = config.small_disk {
            let data = data(dir);
            fs::create_dir(&data).map_err(|source| LabError::File { action: "create", path: data.clone(), source })?;
            command = disk::on_small_disk(mib, &data, command);
        }

        let ports: &[u16] = if release.is_whole() { &[TCP_PORT, INTERSERVER_PORT] } else { &[TCP_PORT] };
        let ping = agent(PING_LIMIT);
        let is_ready = Box::new(move || answers(&ping, ip, ports));
        let name = format!("ClickHouse {} {ip}", release.name());
        let server = Server::new(name, dir.into(), command, dir.join("error.log"), is_ready);
        let agent = agent(QUERY_LIMIT);
        Ok(ClickHouse { server, release, host: ip.to_string(), agent, clusters: Mutex::default() })
    }

    /// The release of the server.
    #[must_use]
    pub fn release(&self) -> Release {
        self.release
    }

    /// The address of the server, as in a task file's `<host>`. The ports are the default ones: 8123, 9000, 9009.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `http://127.0.N.k:8123/`
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://{}:{HTTP_PORT}/", self.host)
    }

    /// `127.0.N.k:9000`, as `remote()` takes it.
    #[must_use]
    pub fn native(&self) -> String {
        format!("{}:{TCP_PORT}", self.host)
    }

    /// Runs a statement as `default` and returns what the server answers, as it comes (TSV unless `FORMAT` says else).
    /// Rows to be inserted may follow in the same text (`INSERT INTO t FORMAT TSV` and a line feed). Limit: five minutes.
    ///
    /// # Errors
    /// [`LabError::Query`] with the server's text, [`LabError::Http`] when there is no answer.
    pub fn query(&self, sql: &str) -> Result<String, LabError> {
        self.query_as("default", "", sql)
    }

    /// [`ClickHouse::query`] for a single value: without the line feed at the end.
    ///
    /// # Errors
    /// As [`ClickHouse::query`].
    pub fn value(&self, sql: &str) -> Result<String, LabError> {
        let mut text = self.query(sql)?;
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(text)
    }

    /// [`ClickHouse::query`] as another user.
    ///
    /// # Errors
    /// As [`ClickHouse::query`].
    pub fn query_as(&self, user: &str, password: &str, sql: &str) -> Result<String, LabError> {
        self.ask(user, password, &[], sql)
    }

    /// [`ClickHouse::query`] with settings, which hold for the whole statement. (On 18.16 the `SETTINGS` of an
    /// `INSERT … SELECT … SETTINGS` hold for its SELECT only: `insert_distributed_sync` there does nothing.)
    ///
    /// # Errors
    /// As [`ClickHouse::query`].
    pub fn query_with(&self, settings: &[(&str, &str)], sql: &str) -> Result<String, LabError> {
        self.ask("default", "", settings, sql)
    }

    fn ask(&self, user: &str, password: &str, settings: &[(&str, &str)], sql: &str) -> Result<String, LabError> {
        let shown = || sql.chars().take(SQL_SHOWN).collect::<String>();
        let failed = |source| LabError::Http { host: self.host.clone(), sql: shown(), source: Box::new(source) };
        let header =
            |text: &str| HeaderValue::from_bytes(text.as_bytes()).map_err(|e| failed(ureq::Error::Http(e.into())));
        // With `wait_end_of_query` an error in the middle of a result is an error status, not text among the rows.
        let request = self.agent.post(self.http_url()).query("wait_end_of_query", "1");
        let request = settings.iter().fold(request, |request, (name, value)| request.query(*name, *value));
        let request = request.header("X-ClickHouse-User", header(user)?).header("X-ClickHouse-Key", header(password)?);
        let mut response = request.send(sql).map_err(failed)?;
        let status = response.status().as_u16();
        let text =
            response.body_mut().with_config().limit(u64::MAX).lossy_utf8(true).read_to_string().map_err(failed)?;
        if status == 200 {
            return Ok(text);
        }
        Err(LabError::Query { host: self.host.clone(), status, text: text.trim_end().to_owned(), sql: shown() })
    }

    /// Takes up the space on the server's small disk (see [`crate::LabSpec::small_disks`]) until so many bytes are free.
    ///
    /// # Errors
    /// [`LabError::File`], [`LabError::NotRunning`].
    pub fn fill_disk(&self, leave: u64) -> Result<(), LabError> {
        disk::fill(&self.server, &data(self.dir()), leave)
    }

    /// Gives that space back.
    ///
    /// # Errors
    /// As [`ClickHouse::fill_disk`].
    pub fn free_disk(&self) -> Result<(), LabError> {
        disk::free(&self.server, &data(self.dir()))
    }

    /// Adds a cluster to the server's `<remote_servers>`, or replaces the one of that name; others stay. When this returns,
    /// a running server uses it (`SYSTEM RELOAD CONFIG`, 30 ms; by itself the server looks every two seconds).
    ///
    /// # Errors
    /// [`LabError::File`]; what [`ClickHouse::query`] returns, when the server runs.
    pub fn define_cluster(&self, cluster: &Cluster) -> Result<(), LabError> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.insert(cluster.name.clone(), cluster.clone());
        write(&self.dir().join("clusters.xml"), &clusters_xml(clusters.values()))?;
        if self.pid().is_some() {
            self.query("SYSTEM RELOAD CONFIG")?;
        }
        Ok(())
    }
}

impl Deref for ClickHouse {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Where a server's data are, below its folder.
fn data(dir: &Path) -> PathBuf {
    dir.join("data")
}

/// A client without a pool: after a kill, a connection kept from before would fail the first query to the new server.
fn agent(limit: Duration) -> Agent {
    let config = Agent::config_builder()
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        .max_idle_connections(0)
        .proxy(None)
        .build();
    config.into()
}

/// Whether all ports are open: HTTP is opened first, and a replica's first fetch needs the interserver port.
fn answers(agent: &Agent, ip: Ipv4Addr, ports: &[u16]) -> bool {
    let ping = agent.get(format!("http://{ip}:{HTTP_PORT}/ping")).call();
    let open = |&port: &u16| std::net::TcpStream::connect((ip, port)).is_ok();
    ping.is_ok_and(|response| response.status() == 200) && ports.iter().all(open)
}

/// Writes through a second file, so that a server that looks just then never reads half of it.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), LabError> {
    let failed = |source| LabError::File { action: "write", path: path.into(), source };
    let new = path.with_extension("new");
    fs::write(&new, text).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}
