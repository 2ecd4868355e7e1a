//! Where a task lives, as typed → as meant → as doors: the same for every verb.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::args::input::{keeper_config, name, text};
use super::super::output::log_file::Rotation;
use super::super::output::shell_word::shell_word;
use super::super::{Exit, Failure};
use super::fault::Fault;
use super::files::{existing_file, folder_or_nothing};
use super::{flags, task_path};
use crate::client::STALL_TIMEOUT;
use crate::client::http::{HttpServerClient, Limits, USUAL_STATEMENTS};
use crate::coordinator::{Coordinator, LocalCoordinator, ZooKeeperCoordinator, ZooKeeperOptions};
use crate::ledger::Ledger;
use crate::model::Tls;
use crate::task::{Allowed, OperatorSecrets, SecretSource, SystemSecrets};

/// The state directory that is used when none is named: beside the task file, so that the same task file finds the same
/// state from wherever it is run.
const STATE_DIR: &str = "clickhouse-copier-state";

/// What limits the statements on servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Statements at once on each server.
    pub statements: u16,
    /// How long a statement or a transfer may move nothing.
    pub stall: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { statements: USUAL_STATEMENTS, stall: STALL_TIMEOUT }
    }
}

/// Where a task lives, and how this process works with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The coordinator.
    pub coordinator: Coordination,
    /// The task's node: absolute, no slash at its end, no empty parts.
    pub task_path: String,
    /// What limits its statements on servers.
    pub servers: ServerLimits,
    /// What descriptions from the coordinator may refer to.
    pub allowed: Allowed,
    /// The task file of the command line, where it is a file that can be read more than once.
    pub task_file: Option<PathBuf>,
}

/// Which coordinator keeps a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coordination {
    /// ZooKeeper; the XML file says how to reach it. It existed when the command line was read.
    Keeper(PathBuf),
    /// A state directory of this machine: a folder, or a place where one can be made.
    Local(PathBuf),
}

impl Address {
    /// The task's node: absolute, no slash at its end, no empty parts.
    pub fn task_path(&self) -> &str {
        &self.task_path
    }

    /// The flags that name it, for a command that can be pasted into a shell.
    pub fn flags(&self) -> String {
        let (flag, place) = match &self.coordinator {
            Coordination::Keeper(config) => ("--config", config),
            Coordination::Local(state_dir) => ("--state-dir", state_dir),
        };
        format!("{flag} {} --task-path {}", shell_word(&place.display().to_string()), shell_word(&self.task_path))
    }

    /// What descriptions may refer to. `own` is the one that this command line brought; without it that of [`Self::task_file`]
    /// counts.
    pub(crate) fn secrets(&self, own: Option<&str>) -> Arc<dyn SecretSource> {
        let own_coordinator = match &self.coordinator {
            Coordination::Keeper(_) => false,
            Coordination::Local(state_dir) => LocalCoordinator::new(state_dir).is_own(),
        };
        let read = || std::fs::read_to_string(self.task_file.as_deref()?).ok();
        Arc::new(OperatorSecrets::new(self.allowed.clone(), own.map(str::to_owned).or_else(read), own_coordinator))
    }
}

/// The text of a description that this command line brought.
pub(crate) fn own(description: &Option<(String, String)>) -> Option<&str> {
    description.as_ref().map(|(text, _)| text.as_str())
}

/// [`Address::secrets`] of a task that may have no place yet: then its file is all there is.
pub(crate) fn secrets_at(place: Option<&Address>, own: Option<&str>) -> Arc<dyn SecretSource> {
    place.map_or_else(|| Arc::new(SystemSecrets) as Arc<dyn SecretSource>, |address| address.secrets(own))
}

/// What the flags of a verb name. `task_file` is the verb's own flag; without other flags it says where the state is and
/// what the task is called there.
pub(crate) fn addressed(typed: flags::Address, task_file: Option<&Path>) -> Result<Address, Fault> {
    let normalised = |path: String| task_path::normalised(&path).map_err(Fault::TaskPath);
    let servers = ServerLimits {
        statements: typed.max_statements_per_server,
        stall: Duration::from_secs(typed.stall_timeout.into()),
    };
    let allowed = allowed(typed.allow_env, &typed.secrets_dir)?;
    // A pipe has neither a place nor a name that would be the same the next time.
    let file = task_file.map(|file| existing_file("--task-file", file)).transpose()?.filter(|file| file.is_file());
    if let Some(config) = typed.config_file {
        let config = existing_file("--config-file", &config)?;
        let task_path = typed.task_path.ok_or(Fault::Missing {
            flag: "--task-path",
            purpose: "name the node in ZooKeeper where the task lives, as in /clickhouse/copytasks/task1",
        })?;
        let task_path = normalised(task_path)?;
        return Ok(Address { coordinator: Coordination::Keeper(config), task_path, servers, allowed, task_file: file });
    }
    if file.is_none() && task_file.is_none() && typed.state_dir.is_none() {
        return Err(Fault::Missing {
            flag: "--config-file",
            purpose: "name the XML file that says how to reach ZooKeeper, or, for a task that needs none, --task-file \
                      or --state-dir. A first task file is written by init: see --help",
        });
    }
    let task_path = match (typed.task_path, file.as_deref().and_then(Path::file_stem)) {
        (Some(path), _) => path,
        (None, Some(stem)) => format!("/{}", stem.to_string_lossy()),
        (None, None) => {
            return Err(Fault::Missing {
                flag: "--task-path",
                purpose: "name the task in --state-dir; it is called like the file that was given to --task-file, as in /task \
                          for task.xml",
            });
        }
    };
    let state_dir = match (typed.state_dir, file.as_deref().and_then(Path::parent)) {
        (Some(named), _) => named,
        (None, Some(folder)) => folder.join(STATE_DIR),
        (None, None) => {
            return Err(Fault::Missing {
                flag: "--state-dir",
                purpose: "name the folder that keeps the task's state: there is none beside a task file that is a pipe",
            });
        }
    };
    let state_dir = folder_or_nothing("--state-dir", &state_dir)?;
    let task_path = normalised(task_path)?;
    Ok(Address { coordinator: Coordination::Local(state_dir), task_path, servers, allowed, task_file: file })
}

/// What the operator allows descriptions from the coordinator to refer to.
fn allowed(variables: Vec<String>, folders: &[PathBuf]) -> Result<Allowed, Fault> {
    let folder = |path: &PathBuf| {
        let unseen = |source| Fault::Unseen { flag: "--secrets-dir", path: path.clone(), source };
        if !std::fs::metadata(path).map_err(unseen)?.is_dir() {
            return Err(Fault::NotAFolder { flag: "--secrets-dir", path: path.clone() });
        }
        std::path::absolute(path).map_err(unseen)
    };
    let folders = folders.iter().map(folder).collect::<Result<_, _>>()?;
    Ok(Allowed { variables: variables.into_iter().collect(), folders })
}

impl Address {
    /// The same, for a verb that only looks: there must be something to look at.
    pub(crate) fn existing(self) -> Result<Address, Fault> {
        if let Coordination::Local(state_dir) = &self.coordinator {
            let file = LocalCoordinator::new(state_dir).file();
            if !file.is_file() {
                return Err(Fault::NoState { file });
            }
        }
        Ok(self)
    }
}

/// What a verb works with.
pub(crate) struct Doors {
    pub(crate) coordinator: Arc<dyn Coordinator>,
    pub(crate) client: Arc<HttpServerClient>,
    pub(crate) rotation: Rotation,
}

/// The doors to coordination and to ClickHouse. Nothing is connected, nothing is made yet.
///
/// What the file of `--config` says besides (whom to trust, when log files are set aside) has its defaults without it.
pub(crate) fn doors_of(address: &Address) -> Result<Doors, Failure> {
    let usual = Rotation::default();
    match &address.coordinator {
        Coordination::Local(state_dir) => Ok(Doors {
            coordinator: Arc::new(LocalCoordinator::new(state_dir)),
            client: client(&Tls::default(), address.servers)?,
            rotation: usual,
        }),
        Coordination::Keeper(config) => {
            let config = keeper_config(config)?;
            Ok(Doors {
                client: client(&config.tls, address.servers)?,
                rotation: Rotation {
                    bytes: config.logger.size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usual.bytes),
                    files: config.logger.count.map_or(usual.files, |count| count as usize),
                },
                coordinator: Arc::new(ZooKeeperCoordinator::new(ZooKeeperOptions {
                    hosts: config.hosts,
                    secure: config.secure,
                    tls: config.tls,
                    session_timeout: config.session_timeout,
                    root: config.root,
                    identity: config.identity,
                })),
            })
        }
    }
}

/// The door to ClickHouse alone. Whom to trust may be said by a file of `--config`; else the system's authorities.
pub(crate) fn servers(config: Option<&Path>) -> Result<Arc<HttpServerClient>, Failure> {
    let config = config.map(keeper_config).transpose()?;
    client(&config.map(|config| config.tls).unwrap_or_default(), ServerLimits::default())
}

/// Certificates that cannot be used are a fault of the configuration.
fn client(tls: &Tls, servers: ServerLimits) -> Result<Arc<HttpServerClient>, Failure> {
    let door = HttpServerClient::limited(tls, Limits { stall: servers.stall, ..Limits::of(servers.statements) });
    door.map(Arc::new).map_err(|error| Failure::new(Exit::BadInput, error))
}

/// A task's text, where it is from, and what it takes to work with it.
pub(crate) struct Described {
    pub(crate) http: Arc<HttpServerClient>,
    pub(crate) text: String,
    /// The name of its file, or of the node that holds it.
    pub(crate) file: String,
    pub(crate) secrets: Arc<dyn SecretSource>,
}

/// The text of a task, from its file or from the coordinator, and the door to its servers.
pub(crate) async fn described(place: Option<Address>, task_file: Option<&Path>) -> Result<Described, Failure> {
    let doors = place.as_ref().map(doors_of).transpose()?;
    let http = doors.as_ref().map_or_else(|| servers(None), |doors| Ok(doors.client.clone()))?;
    if let Some(file) = task_file {
        let (text, file) = (text(file)?, name(file));
        return Ok(Described { http, secrets: secrets_at(place.as_ref(), Some(&text)), text, file });
    }
    let Some((doors, address)) = doors.zip(place) else {
        return Err(Failure::new(Exit::BadInput, "give the task's file with --task-file"));
    };
    let (text, file) = stored(doors.coordinator.as_ref(), address.task_path()).await?;
    Ok(Described { http, text, file, secrets: address.secrets(None) })
}

/// The description of a task in the coordinator, and its place.
pub(crate) async fn stored(coordinator: &dyn Coordinator, task_path: &str) -> Result<(String, String), Failure> {
    let session = coordinator.session().await?;
    let ledger = Ledger::new(session, task_path);
    let description = ledger.description().await;
    ledger.session().close().await;
    match description? {
        Some(text) => Ok((text, ledger.path("description"))),
        None => {
            let line =
                format!("there is no task at {task_path} in {}: give its file with --task-file", coordinator.place());
            Err(Failure::new(Exit::BadInput, line))
        }
    }
}

/// The door to coordination alone, for a verb that asks no server.
pub(crate) fn coordinator_of(address: &Address) -> Result<Arc<dyn Coordinator>, Failure> {
    Ok(doors_of(address)?.coordinator)
}
