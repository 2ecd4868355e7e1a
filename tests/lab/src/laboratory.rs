//! A set of servers that start and end together.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use tempfile::TempDir;

use crate::config::{ServerConfig, users_xml};
use crate::tls::{AUTHORITY_FILE, Authority, authority};
use crate::{
    BlockLease, Certificate, ClickHouse, Cluster, LabError, Macros, Release, Shard, User, ZooKeeper,
    install_clickhouse, install_zookeeper,
};

/// How many ClickHouse servers [`Lab::shared`] has: two shards of two replicas and a target of two, or two and three.
pub const SHARED_SERVERS: usize = 6;

/// The servers and accounts of a laboratory.
#[derive(Debug, Clone)]
pub struct LabSpec {
    /// Whether there is a ZooKeeper server. Without it there are no Replicated tables.
    pub zookeeper: bool,
    /// The ClickHouse servers, at most 99: the release of each.
    pub servers: Vec<Release>,
    /// Macros of servers by their index, where the default does not do.
    pub macros: BTreeMap<usize, Macros>,
    /// Accounts besides `default` (no password), `tester` ([`crate::ODD_PASSWORD`]), `readonly` (no password) and `nodb`
    /// (no password; may use the database `harmless` only).
    pub users: Vec<User>,
    /// Settings of the default profile.
    pub settings: Vec<(String, String)>,
    /// Elements of the servers' own configuration, such as `max_table_size_to_drop` (bytes).
    pub server: Vec<(String, String)>,
    /// Time zones of servers by their index; UTC where none is named.
    pub time_zones: BTreeMap<usize, String>,
    /// Settings of all MergeTree tables, such as `old_parts_lifetime` (seconds).
    pub merge_tree: Vec<(String, String)>,
    /// Whether the servers keep `system.query_log`.
    pub query_log: bool,
    /// Servers by their index whose data lie on a small disk of their own, and its MiB: see [`ClickHouse::fill_disk`]. It is
    /// empty after each start.
    pub small_disks: BTreeMap<usize, u32>,
    /// ClickHouse servers by their index that speak TLS beside the plain protocols (8443 and 9440, as by default), and what
    /// they show: see [`Lab::authority`].
    pub secure: BTreeMap<usize, Certificate>,
}

impl LabSpec {
    /// A ZooKeeper and so many servers of one release.
    #[must_use]
    pub fn of(release: Release, servers: usize) -> LabSpec {
        LabSpec::mixed(&vec![release; servers])
    }

    /// A ZooKeeper and servers of these releases.
    #[must_use]
    pub fn mixed(servers: &[Release]) -> LabSpec {
        LabSpec {
            zookeeper: true,
            servers: servers.to_vec(),
            macros: BTreeMap::new(),
            users: Vec::new(),
            settings: Vec::new(),
            server: Vec::new(),
            time_zones: BTreeMap::new(),
            merge_tree: Vec::new(),
            query_log: false,
            small_disks: BTreeMap::new(),
            secure: BTreeMap::new(),
        }
    }
}

/// Folders of the authority that signs the servers' certificates, and of one that does not.
const AUTHORITY: &str = "authority";
const STRANGER: &str = "stranger";

/// Running servers. Dropped, it kills them and removes their files (not with `LAB_KEEP` in the environment).
#[derive(Debug)]
pub struct Lab {
    // In the order in which they are to be dropped: servers, their files, their addresses.
    clickhouse: Vec<ClickHouse>,
    zookeeper: Option<ZooKeeper>,
    files: TempDir,
    _addresses: BlockLease,
}

impl Lab {
    /// The laboratory of a release that all tests of a process share, started by the first call: a ZooKeeper and
    /// [`SHARED_SERVERS`] ClickHouse servers with `system.query_log`. Releases that are not whole servers, and 24.8, which
    /// few tests ask for, have two servers; without ZooKeeper where they cannot replicate. Each test takes databases and a
    /// ZooKeeper path of its own, and leaves the servers running: one that kills or freezes them starts a laboratory for
    /// itself.
    ///
    /// # Panics
    /// When the servers cannot be started; at once again for each later call, so that no test waits for it twice.
    pub fn shared(release: Release) -> &'static Lab {
        static SHARED: [OnceLock<Result<Lab, LabError>>; Release::ALL.len()] = [const { OnceLock::new() }; 4];
        let servers = if matches!(release, Release::V18_16 | Release::V25_8) { SHARED_SERVERS } else { 2 };
        let spec = || LabSpec { query_log: true, zookeeper: release.is_whole(), ..LabSpec::of(release, servers) };
        match SHARED[release as usize].get_or_init(|| Lab::start(spec())) {
            Ok(lab) => lab,
            Err(e) => panic!("no laboratory of {}: {}", release.name(), with_causes(e)),
        }
    }

    /// Starts all servers at once and returns when all answer; installs what is missing.
    ///
    /// # Errors
    /// The first server's that failed, in the order of their indexes, ZooKeeper first; then none is left running.
    pub fn start(spec: LabSpec) -> Result<Lab, LabError> {
        if spec.zookeeper {
            install_zookeeper()?;
        }
        if spec.servers.contains(&Release::V18_16) {
            install_clickhouse()?;
        }
        let addresses = BlockLease::take(spec.servers.len())?;
        let failed = |source| LabError::File { action: "create", path: place_for_files(), source };
        let keep = env::var_os("LAB_KEEP").is_some_and(|value| !value.is_empty());
        let mut files = tempfile::Builder::new();
        files.prefix("clickhouse-copier-lab-").disable_cleanup(keep);
        let files = files.tempdir_in(place_for_files()).map_err(failed)?;
        let dir = files.path().to_path_buf();
        if keep {
            eprintln!("LAB_KEEP: the laboratory's files stay in {}", dir.display());
        }

        let own = if spec.secure.is_empty() {
            None
        } else {
            authority(&dir, STRANGER)?;
            Some(authority(&dir, AUTHORITY)?)
        };
        let zookeeper = match spec.zookeeper {
            true => Some(ZooKeeper::prepare(&folder(&dir, "zookeeper")?, addresses.zookeeper(), own.as_ref())?),
            false => None,
        };
        let clickhouse = prepare_clickhouse(&spec, &dir, &addresses, own.as_ref())?;
        let lab = Lab { clickhouse, zookeeper, files, _addresses: addresses };
        lab.start_all()?;
        Ok(lab)
    }

    /// The ClickHouse server with this index, counted from 0.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn clickhouse(&self, index: usize) -> &ClickHouse {
        &self.clickhouse[index]
    }

    /// The certificate (PEM) of the authority that signed those of the servers in [`LabSpec::secure`].
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.files.path().join(AUTHORITY).join(AUTHORITY_FILE)
    }

    /// The certificate of an authority that signed none of them.
    #[must_use]
    pub fn stranger(&self) -> PathBuf {
        self.files.path().join(STRANGER).join(AUTHORITY_FILE)
    }

    /// All ClickHouse servers.
    #[must_use]
    pub fn servers(&self) -> &[ClickHouse] {
        &self.clickhouse
    }

    /// The ZooKeeper server.
    ///
    /// # Panics
    /// When the spec was without.
    #[must_use]
    pub fn zookeeper(&self) -> &ZooKeeper {
        self.zookeeper.as_ref().expect("a laboratory with `zookeeper: true` has one; this one was asked to have none")
    }

    /// The folder with all files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.files.path()
    }

    /// Describes a cluster of servers by their indexes: shards of replicas. Weights are 1, `internal_replication` is true
    /// where a shard has several replicas; the fields are there to be changed.
    #[must_use]
    pub fn cluster(&self, name: &str, shards: &[&[usize]]) -> Cluster {
        let shard = |replicas: &&[usize]| Shard {
            weight: 1,
            internal_replication: replicas.len() > 1,
            replicas: replicas.iter().map(|&index| self.clickhouse(index).host().to_owned()).collect(),
        };
        Cluster { name: name.to_owned(), shards: shards.iter().map(shard).collect() }
    }

    /// Makes a cluster known to all servers, for Distributed tables; see [`ClickHouse::define_cluster`].
    ///
    /// # Errors
    /// As [`ClickHouse::define_cluster`], of the first server that fails.
    pub fn define_cluster(&self, cluster: &Cluster) -> Result<(), LabError> {
        self.clickhouse.iter().try_for_each(|server| server.define_cluster(cluster))
    }

    fn start_all(&self) -> Result<(), LabError> {
        thread::scope(|scope| {
            let clickhouse = self.clickhouse.iter().map(|server| &**server);
            let servers = self.zookeeper.iter().map(|server| &**server).chain(clickhouse);
            let starting: Vec<_> = servers.map(|server| scope.spawn(|| server.start())).collect();
            let ends: Vec<_> = starting.into_iter().map(thread::ScopedJoinHandle::join).collect();
            ends.into_iter().try_for_each(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }
}

/// Where servers keep their files: in `TMPDIR`, else in memory where there is much of it, else in the folder for temporary
/// files. Servers make and remove thousands of small files; on ext4 that took half of the processors' time (the kernel looks
/// for inodes that were not removed lately).
fn place_for_files() -> PathBuf {
    const MEMORY: &str = "/dev/shm";
    const ENOUGH: u64 = 8 << 30;
    let free = |path: &str| {
        let room = nix::sys::statvfs::statvfs(path).ok()?;
        Some(room.blocks_available() * room.fragment_size())
    };
    if env::var_os("TMPDIR").is_none() && free(MEMORY).is_some_and(|bytes| bytes >= ENOUGH) {
        return PathBuf::from(MEMORY);
    }
    env::temp_dir()
}

fn prepare_clickhouse(
    spec: &LabSpec,
    root: &Path,
    addresses: &BlockLease,
    authority: Option<&Authority>,
) -> Result<Vec<ClickHouse>, LabError> {
    let server = |(index, &release): (usize, &Release)| {
        let users = users_xml(release, &spec.users, &spec.settings, spec.query_log);
        let ip = addresses.clickhouse(index);
        let macros = || Macros { shard: index.to_string(), replica: ip.to_string() };
        let dir = folder(root, &format!("clickhouse-{index}"))?;
        let openssl = match (authority, spec.secure.get(&index)) {
            (Some(authority), Some(&certificate)) => {
                authority.sign(&dir, ip, certificate)?;
                Some(authority.server_xml(&dir))
            }
            _ => None,
        };
        let config = ServerConfig {
            release,
            dir: &dir,
            ip,
            zookeeper: (spec.zookeeper && release.is_whole()).then(|| addresses.zookeeper()),
            macros: spec.macros.get(&index).cloned().unwrap_or_else(macros),
            timezone: spec.time_zones.get(&index).map_or("UTC", String::as_str),
            merge_tree: &spec.merge_tree,
            server: &spec.server,
            query_log: spec.query_log,
            small_disk: spec.small_disks.get(&index).copied(),
            openssl,
        };
        ClickHouse::prepare(&config, &users)
    };
    spec.servers.iter().enumerate().map(server).collect()
}

fn folder(root: &Path, name: &str) -> Result<PathBuf, LabError> {
    let path = root.join(name);
    fs::create_dir(&path).map_err(|source| LabError::File { action: "create", path: path.clone(), source })?;
    Ok(path)
}

/// The error and what caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
