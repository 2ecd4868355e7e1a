//! Where a task lives, as typed → as meant → as doors: the same for every verb.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::logs::Rotation;
use super::meant::{Fault, existing_file, folder_or_nothing};
use super::work::{keeper_config, name, shell_word, text};
use super::{Exit, Failure, task_path, typed};
use crate::cluster::http::{HttpWarehouse, Limits, USUAL_STATEMENTS};
use crate::keeper::{Coordinator, LocalCoordinator, ZooKeeperCoordinator, ZooKeeperOptions};
use crate::model::Tls;
use crate::worker::ledger::Ledger;

/// The state directory that is used when none is named: beside the task file, so that the same task file finds the same
/// state from wherever it is run.
const STATE_DIR: &str = "clickhouse-copier-state";

/// Where a task lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// In ZooKeeper.
    Keeper {
        /// The XML file that says how to reach it. Existed when the command line was read.
        config: PathBuf,
        /// The task's node: absolute, no slash at its end, no empty parts.
        task_path: String,
        /// Statements at once on each server.
        statements: u16,
    },
    /// On this machine.
    Local {
        /// A folder, or a place where one can be made.
        state_dir: PathBuf,
        /// As in ZooKeeper.
        task_path: String,
        /// Statements at once on each server.
        statements: u16,
    },
}

impl Address {
    /// The task's node: absolute, no slash at its end, no empty parts.
    pub fn task_path(&self) -> &str {
        match self {
            Self::Keeper { task_path, .. } | Self::Local { task_path, .. } => task_path,
        }
    }

    /// The flags that name it, for a command that can be pasted into a shell.
    pub fn flags(&self) -> String {
        let (flag, place, task_path) = match self {
            Self::Keeper { config, task_path, .. } => ("--config", config, task_path),
            Self::Local { state_dir, task_path, .. } => ("--state-dir", state_dir, task_path),
        };
        format!("{flag} {} --task-path {}", shell_word(&place.display().to_string()), shell_word(task_path))
    }
}

/// What the flags of a verb name. `task_file` is the verb's own flag; without other flags it says where the state is and
/// what the task is called there.
pub(super) fn addressed(typed: typed::Address, task_file: Option<&Path>) -> Result<Address, Fault> {
    let normalised = |path: String| task_path::normalised(&path).map_err(Fault::TaskPath);
    let statements = typed.max_statements_per_server;
    if let Some(config) = typed.config_file {
        let config = existing_file("--config-file", &config)?;
        let task_path = typed.task_path.ok_or(Fault::Missing {
            flag: "--task-path",
            purpose: "name the node in ZooKeeper where the task lives, as in /clickhouse/copytasks/task1",
        })?;
        return Ok(Address::Keeper { config, task_path: normalised(task_path)?, statements });
    }
    // A pipe has neither a place nor a name that would be the same the next time.
    let file = match task_file {
        Some(file) => Some(existing_file("--task-file", file)?).filter(|file| file.is_file()),
        None if typed.state_dir.is_none() => {
            return Err(Fault::Missing {
                flag: "--config-file",
                purpose: "name the XML file that says how to reach ZooKeeper, or, for a task that needs none, --task-file \
                          or --state-dir. A first task file is written by init: see --help",
            });
        }
        None => None,
    };
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
    Ok(Address::Local { state_dir, task_path: normalised(task_path)?, statements })
}

impl Address {
    /// The same, for a verb that only looks: there must be something to look at.
    pub(super) fn existing(self) -> Result<Address, Fault> {
        if let Self::Local { state_dir, .. } = &self {
            let file = LocalCoordinator::new(state_dir).file();
            if !file.is_file() {
                return Err(Fault::NoState { file });
            }
        }
        Ok(self)
    }
}

/// What a verb works with.
pub(super) struct Doors {
    pub(super) coordinator: Arc<dyn Coordinator>,
    pub(super) warehouse: Arc<HttpWarehouse>,
    pub(super) rotation: Rotation,
}

/// The doors to coordination and to ClickHouse. Nothing is connected, nothing is made yet.
///
/// What the file of `--config` says besides (whom to trust, when log files are set aside) has its defaults without it.
pub(super) fn doors_of(address: &Address) -> Result<Doors, Failure> {
    let usual = Rotation::default();
    match address {
        Address::Local { state_dir, statements, .. } => Ok(Doors {
            coordinator: Arc::new(LocalCoordinator::new(state_dir)),
            warehouse: warehouse(&Tls::default(), *statements)?,
            rotation: usual,
        }),
        Address::Keeper { config, statements, .. } => {
            let config = keeper_config(config)?;
            Ok(Doors {
                warehouse: warehouse(&config.tls, *statements)?,
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
pub(super) fn servers(config: Option<&Path>) -> Result<Arc<HttpWarehouse>, Failure> {
    let config = config.map(keeper_config).transpose()?;
    warehouse(&config.map(|config| config.tls).unwrap_or_default(), USUAL_STATEMENTS)
}

/// Certificates that cannot be used are a fault of the configuration.
fn warehouse(tls: &Tls, statements: u16) -> Result<Arc<HttpWarehouse>, Failure> {
    let door = HttpWarehouse::limited(tls, Limits::of(statements));
    door.map(Arc::new).map_err(|error| Failure::new(Exit::BadInput, error))
}

/// The text of a task with the name of its file, or of the node that holds it; and the door to its servers.
pub(super) async fn described(
    place: Option<Address>,
    task_file: Option<&Path>,
) -> Result<(Arc<HttpWarehouse>, String, String), Failure> {
    let doors = place.as_ref().map(doors_of).transpose()?;
    let http = doors.as_ref().map_or_else(|| servers(None), |doors| Ok(doors.warehouse.clone()))?;
    let (text, file) = match (task_file, doors.zip(place)) {
        (Some(file), _) => (text(file)?, name(file)),
        (None, Some((doors, address))) => stored(doors.coordinator.as_ref(), address.task_path()).await?,
        (None, None) => return Err(Failure::new(Exit::BadInput, "give the task's file with --task-file")),
    };
    Ok((http, text, file))
}

/// The description of a task in the coordinator, and its place.
pub(super) async fn stored(coordinator: &dyn Coordinator, task_path: &str) -> Result<(String, String), Failure> {
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
pub(super) fn coordinator_of(address: &Address) -> Result<Arc<dyn Coordinator>, Failure> {
    Ok(doors_of(address)?.coordinator)
}
