//! `keeper.xml`: the address of ZooKeeper, and the settings of logs.

use std::time::Duration;

use super::configuration::{ConfigText, Documents, Rules};
use super::elements::{Element, ElementPath};
use super::fault::{Fault, Faults, Notice, Problem, Warning};
use super::secrets::{SecretSource, Trust};
use super::values;
use super::walk::{Scope, closest, walked};
use crate::model::{Secret, Tls};

/// The file that `--config` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeeperConfig {
    /// Host and client port (2181 by default) of every server, at least one.
    pub hosts: Vec<(String, u16)>,
    /// Whether all of them use TLS.
    pub secure: bool,
    /// How long a session outlives its connection; 30 s by default.
    pub session_timeout: Duration,
    /// How long an answer may take; 10 s by default.
    pub operation_timeout: Duration,
    /// The root of all paths (chroot): begins with `/` and does not end with it.
    pub root: Option<String>,
    /// `user:password` for digest authentication.
    pub identity: Option<Secret>,
    /// TLS options; for ClickHouse too.
    pub tls: Tls,
    /// Settings of logs.
    pub logger: LoggerConfig,
}

/// `<logger>`; the program chooses what is not written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoggerConfig {
    /// The least severe messages to write.
    pub level: Option<LogLevel>,
    /// The log file, if no `--base-dir` is given.
    pub(crate) log: Option<String>,
    /// The file of errors, if no `--base-dir` is given.
    pub(crate) errorlog: Option<String>,
    /// Bytes after which a log file is rotated.
    pub size: Option<u64>,
    /// How many rotated files are kept.
    pub count: Option<u32>,
    /// Whether to write to the terminal too.
    pub(crate) console: Option<bool>,
}

/// Levels of a log. The original's `fatal`, `critical`, `notice` and `test` become the nearest of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// No messages.
    Off,
    /// `error`, `critical`, `fatal`.
    Error,
    /// `warning`.
    Warning,
    /// `information`, `notice`.
    Information,
    /// `debug`.
    Debug,
    /// `trace`, `test`.
    Trace,
}

impl LogLevel {
    const WORDS: [(&'static str, Self); 10] = [
        ("none", Self::Off),
        ("fatal", Self::Error),
        ("critical", Self::Error),
        ("error", Self::Error),
        ("warning", Self::Warning),
        ("notice", Self::Information),
        ("information", Self::Information),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
        ("test", Self::Trace),
    ];
}

impl KeeperConfig {
    /// Reads a `keeper.xml` without other files. One warning names all elements of a server's configuration that the
    /// copier does not use.
    ///
    /// # Errors
    ///
    /// Returns every fault of the file at once.
    pub fn parse(xml: &str, secrets: &dyn SecretSource) -> Result<(Self, Vec<Warning>), Faults> {
        Self::of(&[ConfigText { path: "keeper.xml".to_owned(), text: xml.to_owned() }], secrets)
    }

    /// Reads a configuration of several files: the named one and those merged into it, in their order.
    ///
    /// # Errors
    ///
    /// Returns every fault at once, each with its file. Files that old and modern servers merge into different
    /// ZooKeepers are refused.
    pub(crate) fn of(texts: &[ConfigText], secrets: &dyn SecretSource) -> Result<(Self, Vec<Warning>), Faults> {
        let documents = Documents::read(texts)?;
        let named = texts.first().map_or("keeper.xml", |text| &text.path);
        let (keeper, warnings) =
            read(&documents, Rules::Modern, secrets).map_err(|faults| Faults::new(named, faults))?;
        if documents.may_be_old()
            && let Ok((old, _)) = read(&documents, Rules::Old, secrets)
            && !old.is_at(&keeper)
        {
            let problem = Problem::ReleasesDiffer { modern: keeper.shown(), old: old.shown() };
            let fault = Fault { path: "/yandex/zookeeper".to_owned(), line: 0, file: None, problem };
            return Err(Faults::new(named, vec![fault]));
        }
        Ok((keeper, warnings))
    }

    /// Returns whether both use the same nodes of the same ZooKeeper.
    fn is_at(&self, other: &Self) -> bool {
        (&self.hosts, self.secure) == (&other.hosts, other.secure)
            && (&self.root, &self.identity) == (&other.root, &other.identity)
    }

    /// Returns the address of ZooKeeper for messages.
    fn shown(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        let secure = if self.secure { " with TLS" } else { "" };
        let identity = if self.identity.is_some() { ", with an identity" } else { "" };
        format!("{}{}{secure}{identity}", hosts.join(","), self.root.as_deref().unwrap_or_default())
    }
}

fn read(
    documents: &Documents,
    rules: Rules,
    secrets: &dyn SecretSource,
) -> Result<(KeeperConfig, Vec<Warning>), Vec<Fault>> {
    let merged = documents.merged(rules, secrets, false);
    let (keeper, found, warnings) = walked(&merged.root, &merged.files, secrets, Trust::Full, |root| {
        root_vocabulary(root);
        let logger = root.child("logger").map(|scope| logger(&scope)).unwrap_or_default();
        let Some(zookeeper) = root.child("zookeeper") else {
            root.fault(Problem::Missing("zookeeper"));
            return None;
        };
        let tls = root.child("openSSL").map(|scope| super::tls::read(&scope)).unwrap_or_default();
        let keeper = keeper(&zookeeper, logger, tls);
        if keeper.secure && !keeper.tls.verify {
            zookeeper.warn(Notice::CheckedAllTheSame);
        }
        Some(keeper)
    });
    let mut faults = merged.faults;
    // After a broken include, missing elements are not reported in addition.
    if faults.is_empty() {
        faults = found;
    }
    match keeper {
        Some(keeper) if faults.is_empty() => Ok((keeper, merged.warnings.into_iter().chain(warnings).collect())),
        _ => {
            faults.extend(merged.left_out);
            Err(faults)
        }
    }
}

/// The file may be a whole server configuration, with dozens of elements that are not ours.
fn root_vocabulary(root: &Scope<'_>) {
    root.attributes(&[]);
    root.no_text();
    let known = Element::names(ElementPath::KeeperRoot);
    let mut others = Vec::new();
    for child in root.children() {
        if known.contains(&child.name()) || child.name() == "include_from" {
            continue;
        }
        match closest(child.name(), &known) {
            Some(meant) => child.warn(Notice::Unknown(Some(meant))),
            None => others.push(child.name()),
        }
    }
    others.dedup();
    if !others.is_empty() {
        root.warn(Notice::NotForUs(others.join(", ")));
    }
}

fn keeper(scope: &Scope<'_>, logger: LoggerConfig, tls: Tls) -> KeeperConfig {
    let mut hosts = Vec::new();
    let mut secures = Vec::new();
    // ClickHouse compares only the beginning of these names.
    let (nodes, others): (Vec<_>, Vec<_>) =
        scope.children().into_iter().partition(|child| child.name().starts_with("node"));
    for node in &nodes {
        node.only(ElementPath::ZooKeeperNode);
        hosts.push((super::clusters::host(node), node.port("port", 2181)));
        secures.push(node.boolean("secure").unwrap_or(false));
    }
    scope.no_text();
    scope.attributes(ElementPath::ZooKeeper.attributes());
    scope.known(ElementPath::ZooKeeper, &others);
    if hosts.is_empty() {
        scope.fault(Problem::NoNodes);
    }
    let secure = secures.first().copied().unwrap_or(false);
    if secures.iter().any(|other| *other != secure) {
        scope.fault(Problem::MixedSecure);
    }
    let milliseconds = |name, default| Duration::from_millis(scope.number(name, 1, i32::MAX as u64, default));
    KeeperConfig {
        hosts,
        secure,
        session_timeout: milliseconds("session_timeout_ms", 30_000),
        operation_timeout: milliseconds("operation_timeout_ms", 10_000),
        root: chroot(scope),
        identity: identity(scope),
        tls,
        logger,
    }
}

fn chroot(scope: &Scope<'_>) -> Option<String> {
    let text = scope.text("root")?;
    let path = text.trimmed().trim_end_matches('/');
    if !path.is_empty() && !path.starts_with('/') {
        text.fault(Problem::NotAPath(text.shown()));
    }
    (!path.is_empty()).then(|| path.to_owned())
}

fn identity(scope: &Scope<'_>) -> Option<Secret> {
    let text = scope.text("identity")?;
    match text.trimmed() {
        "" => None,
        pair if pair.split_once(':').is_some_and(|(user, _)| !user.is_empty()) => Some(Secret::new(pair)),
        _ => {
            text.fault(Problem::Identity);
            None
        }
    }
}

fn logger(scope: &Scope<'_>) -> LoggerConfig {
    scope.only(ElementPath::Logger);
    LoggerConfig {
        level: scope.text("level").and_then(|text| text.choice(&LogLevel::WORDS)),
        log: scope.optional("log"),
        errorlog: scope.optional("errorlog"),
        size: rotation_size(scope),
        count: scope.child("count").map(|_| scope.number32("count", 0, 1)),
        console: scope.boolean("console"),
    }
}

/// Poco can also rotate by time (`daily`, `7 days`, `never`); such a value is accepted and has no effect.
fn rotation_size(scope: &Scope<'_>) -> Option<u64> {
    let text = scope.text("size")?;
    let size = values::bytes(text.trimmed()).filter(|bytes| *bytes > 0);
    if size.is_none() {
        text.scope.warn(Notice::NoEffect("log files are rotated by size, such as 100M"));
    }
    size
}
