//! The address of a task: read from flags, checked, and turned into clients. It is the same for every verb.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::args::input::{keeper_config, task_text};
use super::super::output::log_file::Rotation;
use super::super::output::shell_word::shell_word;
use super::super::{Exit, Failure};
use super::fault::ArgumentFault;
use super::files::{existing_file, folder_or_nothing};
use super::{flags, task_path};
use crate::client::STALL_TIMEOUT;
use crate::client::http::{HttpServerClient, Limits, USUAL_STATEMENTS};
use crate::coordinator::{Coordinator, LocalCoordinator, ZooKeeperCoordinator, ZooKeeperOptions};
use crate::ledger::Ledger;
use crate::model::Tls;
use crate::task::{Allowed, OperatorSecrets, SecretSource, SystemSecrets, TaskText};

/// The state directory when no flag names one. It stands beside the task file, so the same task file finds the same
/// state from every working directory.
const STATE_DIR: &str = "clickhouse-copier-state";

/// The limits of the statements on servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerLimits {
    /// The highest number of statements at once on each server.
    pub(crate) statements: u16,
    /// How long a statement or a transfer may make no progress.
    pub(crate) stall: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { statements: USUAL_STATEMENTS, stall: STALL_TIMEOUT }
    }
}

/// The address of a task, and how this process works with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// The coordinator that keeps the task.
    pub(crate) coordinator: Coordination,
    /// The path of the task's node: absolute, without a slash at the end, without empty parts.
    pub(crate) task_path: String,
    /// The limits of the task's statements on servers.
    pub(crate) servers: ServerLimits,
    /// The variables and files that descriptions from the coordinator may refer to.
    pub(crate) allowed: Allowed,
    /// The task file of the command line, if it is a regular file, which can be read more than once.
    pub(crate) task_file: Option<PathBuf>,
}

/// The coordinator that keeps a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Coordination {
    /// ZooKeeper. The XML file says how to reach it; the file existed when the command line was read.
    Keeper(PathBuf),
    /// A state directory of this machine: an existing folder, or a path where a folder can be created.
    Local(PathBuf),
}

impl Address {
    /// Returns the path of the task's node: absolute, without a slash at the end, without empty parts.
    pub(crate) fn task_path(&self) -> &str {
        &self.task_path
    }

    /// Returns the flags that name this address, quoted for a command that can be pasted into a shell.
    pub(crate) fn flags(&self) -> String {
        let (flag, path) = match &self.coordinator {
            Coordination::Keeper(config) => ("--config", config),
            Coordination::Local(state_dir) => ("--state-dir", state_dir),
        };
        format!("{flag} {} --task-path {}", shell_word(&path.display().to_string()), shell_word(&self.task_path))
    }

    /// Returns the source of the secrets that descriptions may refer to. `own` is the description that this command
    /// line brought. Without it, the text of [`Self::task_file`] is taken.
    pub(crate) fn secrets(&self, own: Option<&str>) -> Arc<dyn SecretSource> {
        let own_coordinator = match &self.coordinator {
            Coordination::Keeper(_) => false,
            Coordination::Local(state_dir) => LocalCoordinator::new(state_dir).is_own(),
        };
        let read = || std::fs::read_to_string(self.task_file.as_deref()?).ok();
        Arc::new(OperatorSecrets::new(self.allowed.clone(), own.map(str::to_owned).or_else(read), own_coordinator))
    }
}

/// Returns the text of the description that this command line brought.
pub(crate) fn own(description: &Option<TaskText>) -> Option<&str> {
    description.as_ref().map(|description| description.text.as_str())
}

/// Returns [`Address::secrets`]. A task that has no address yet has only its file: that may refer to every secret of
/// the system.
pub(crate) fn secrets_at(place: Option<&Address>, own: Option<&str>) -> Arc<dyn SecretSource> {
    place.map_or_else(|| Arc::new(SystemSecrets) as Arc<dyn SecretSource>, |address| address.secrets(own))
}

/// Returns the address that the flags of a verb name. `task_file` is the verb's own flag. Without other flags it gives
/// the state directory and the task's name.
pub(crate) fn addressed(typed: flags::Address, task_file: Option<&Path>) -> Result<Address, ArgumentFault> {
    let normalised = |path: String| task_path::normalised(&path).map_err(ArgumentFault::TaskPath);
    let servers = ServerLimits {
        statements: typed.max_statements_per_server,
        stall: Duration::from_secs(typed.stall_timeout.into()),
    };
    let allowed = allowed(typed.allow_env, &typed.secrets_dir)?;
    // A pipe has no folder for the state and no name that stays the same.
    let file = task_file.map(|file| existing_file("--task-file", file)).transpose()?.filter(|file| file.is_file());
    if let Some(config) = typed.config_file {
        let config = existing_file("--config-file", &config)?;
        let task_path = typed.task_path.ok_or(ArgumentFault::Missing {
            flag: "--task-path",
            purpose: "name the node in ZooKeeper where the task lives, as in /clickhouse/copytasks/task1",
        })?;
        let task_path = normalised(task_path)?;
        return Ok(Address { coordinator: Coordination::Keeper(config), task_path, servers, allowed, task_file: file });
    }
    if file.is_none() && task_file.is_none() && typed.state_dir.is_none() {
        return Err(ArgumentFault::Missing {
            flag: "--config-file",
            purpose: "name the XML file that says how to reach ZooKeeper, or, for a task that needs none, --task-file \
                      or --state-dir. A first task file is written by init: see --help",
        });
    }
    let task_path = match (typed.task_path, file.as_deref().and_then(Path::file_stem)) {
        (Some(path), _) => path,
        (None, Some(stem)) => format!("/{}", stem.to_string_lossy()),
        (None, None) => {
            return Err(ArgumentFault::Missing {
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
            return Err(ArgumentFault::Missing {
                flag: "--state-dir",
                purpose: "name the folder that keeps the task's state: there is none beside a task file that is a pipe",
            });
        }
    };
    let state_dir = folder_or_nothing("--state-dir", &state_dir)?;
    let task_path = normalised(task_path)?;
    Ok(Address { coordinator: Coordination::Local(state_dir), task_path, servers, allowed, task_file: file })
}

/// Returns what the operator allows descriptions from the coordinator to refer to.
fn allowed(variables: Vec<String>, folders: &[PathBuf]) -> Result<Allowed, ArgumentFault> {
    let folder = |path: &PathBuf| {
        let unseen = |source| ArgumentFault::Unseen { flag: "--secrets-dir", path: path.clone(), source };
        if !std::fs::metadata(path).map_err(unseen)?.is_dir() {
            return Err(ArgumentFault::NotAFolder { flag: "--secrets-dir", path: path.clone() });
        }
        std::path::absolute(path).map_err(unseen)
    };
    let folders = folders.iter().map(folder).collect::<Result<_, _>>()?;
    Ok(Allowed { variables: variables.into_iter().collect(), folders })
}

impl Address {
    /// Returns the same address for a verb that only reads. Fails if the task has no state yet.
    pub(crate) fn existing(self) -> Result<Address, ArgumentFault> {
        if let Coordination::Local(state_dir) = &self.coordinator {
            let file = LocalCoordinator::new(state_dir).file();
            if !file.is_file() {
                return Err(ArgumentFault::NoState { file });
            }
        }
        Ok(self)
    }
}

/// The clients that a verb works with.
pub(crate) struct Clients {
    pub(crate) coordinator: Arc<dyn Coordinator>,
    pub(crate) client: Arc<HttpServerClient>,
    pub(crate) rotation: Rotation,
}

/// Makes the clients of the coordinator and of the ClickHouse servers. Connects to nothing and creates nothing.
///
/// Without `--config`, certificates and the rotation of log files have their defaults.
pub(crate) fn clients_of(address: &Address) -> Result<Clients, Failure> {
    let default = Rotation::default();
    match &address.coordinator {
        Coordination::Local(state_dir) => Ok(Clients {
            coordinator: Arc::new(LocalCoordinator::new(state_dir)),
            client: client(&Tls::default(), address.servers)?,
            rotation: default,
        }),
        Coordination::Keeper(config) => {
            let config = keeper_config(config)?;
            Ok(Clients {
                client: client(&config.tls, address.servers)?,
                rotation: Rotation {
                    bytes: config.logger.size.and_then(|size| usize::try_from(size).ok()).unwrap_or(default.bytes),
                    files: config.logger.count.map_or(default.files, |count| count as usize),
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

/// Makes the client of the ClickHouse servers alone. The file of `--config` may name the trusted certificates; without
/// it the authorities of the system are trusted.
pub(crate) fn servers(config: Option<&Path>) -> Result<Arc<HttpServerClient>, Failure> {
    let config = config.map(keeper_config).transpose()?;
    client(&config.map(|config| config.tls).unwrap_or_default(), ServerLimits::default())
}

/// Makes the client. Certificates that cannot be used are a fault of the configuration.
fn client(tls: &Tls, servers: ServerLimits) -> Result<Arc<HttpServerClient>, Failure> {
    let client = HttpServerClient::limited(tls, Limits { stall: servers.stall, ..Limits::of(servers.statements) });
    client.map(Arc::new).map_err(|error| Failure::new(Exit::BadInput, error))
}

/// The text of a task, and the client and secrets that are needed to work with it.
pub(crate) struct TaskInput {
    pub(crate) http: Arc<HttpServerClient>,
    pub(crate) text: TaskText,
    pub(crate) secrets: Arc<dyn SecretSource>,
}

/// Reads the text of a task from its file or from the coordinator, and makes the client of its servers.
pub(crate) async fn read_task(place: Option<Address>, task_file: Option<&Path>) -> Result<TaskInput, Failure> {
    let clients = place.as_ref().map(clients_of).transpose()?;
    let http = clients.as_ref().map_or_else(|| servers(None), |clients| Ok(clients.client.clone()))?;
    if let Some(file) = task_file {
        let text = task_text(file)?;
        return Ok(TaskInput { http, secrets: secrets_at(place.as_ref(), Some(&text.text)), text });
    }
    let Some((clients, address)) = clients.zip(place) else {
        return Err(Failure::new(Exit::BadInput, "give the task's file with --task-file"));
    };
    let text = stored(clients.coordinator.as_ref(), address.task_path()).await?;
    Ok(TaskInput { http, text, secrets: address.secrets(None) })
}

/// Returns the description of a task in the coordinator, named after its node.
pub(crate) async fn stored(coordinator: &dyn Coordinator, task_path: &str) -> Result<TaskText, Failure> {
    let session = coordinator.session().await?;
    let ledger = Ledger::new(session, task_path);
    let description = ledger.description().await;
    ledger.session().close().await;
    match description? {
        Some(text) => Ok(TaskText::new(text, ledger.path("description"))),
        None => {
            let line =
                format!("there is no task at {task_path} in {}: give its file with --task-file", coordinator.place());
            Err(Failure::new(Exit::BadInput, line))
        }
    }
}

/// Makes the client of the coordinator alone, for a verb that asks no server.
pub(crate) fn coordinator_of(address: &Address) -> Result<Arc<dyn Coordinator>, Failure> {
    Ok(clients_of(address)?.coordinator)
}
