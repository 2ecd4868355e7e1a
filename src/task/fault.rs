//! Faults and warnings of task and keeper files.

use std::fmt;

use thiserror::Error;

use crate::model::Way;

/// A fault that makes a file unusable. Its text follows the path of the element and contains no secret: values from
/// the environment are not shown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum Problem {
    /// The text is not well-formed XML, or not a possible configuration.
    #[error("not XML: {why} (line {line}, column {column})")]
    NotXml {
        /// The parser's error.
        why: String,
        /// Line, from 1.
        line: u32,
        /// Column in characters, from 1.
        column: u32,
    },
    /// The text is not YAML, or not in a form that ClickHouse accepts.
    #[error("not YAML: {why} (line {line}, column {column})")]
    NotYaml {
        /// The parser's error.
        why: String,
        /// Line, from 1.
        line: u32,
        /// Column in characters, from 1.
        column: u32,
    },
    /// The document has no element at all.
    #[error("the file is empty: the root element <clickhouse> is missing")]
    NoRoot,
    /// The root is neither `<clickhouse>` nor `<yandex>`.
    #[error("the root element must be <clickhouse> or <yandex>")]
    WrongRoot,
    /// A required element is missing.
    #[error("<{0}> is missing")]
    Missing(&'static str),
    /// An element that needs a value is empty.
    #[error("is empty")]
    Empty,
    /// A text was expected, but the element contains elements (whose names may be part of a badly escaped secret).
    #[error("must hold text only, but holds elements (write < as &lt;)")]
    NotText,
    /// An element that may occur only once occurs again.
    #[error("is defined twice, first on line {0}")]
    Duplicate(u32),
    /// Not a whole number, or one that does not fit.
    #[error("must be a whole number from {min} to {max}, but is {found}")]
    Number {
        /// The written value.
        found: String,
        /// Smallest allowed value.
        min: u64,
        /// Largest allowed value.
        max: u64,
    },
    /// Not a number of bytes.
    #[error("must be a number of bytes above 0, such as 1073741824, 512M or 1GiB, but is {0}")]
    Size(String),
    /// Not a boolean.
    #[error("must be 1, true, yes, on, 0, false, no or off, but is {0}")]
    Boolean(String),
    /// Not one of the allowed words.
    #[error("must be one of {allowed}, but is {found}")]
    Choice {
        /// The written value.
        found: String,
        /// The words, joined.
        allowed: String,
    },
    /// `from_env` names a variable that is not set (or is not UTF-8).
    #[error("the environment variable {0} is not set")]
    NoVariable(String),
    /// An element has a text of its own and takes one from elsewhere too.
    #[error("is given twice: here and by {0}")]
    TwoSources(&'static str),
    /// A list of hosts, a pattern, a URL.
    #[error("must be the name or address of one host, but is {0}")]
    Host(String),
    /// A PEM file without the expected content.
    #[error("{path} holds no {what} in PEM form")]
    NotPem {
        /// The path as written.
        path: String,
        /// "certificate" or "private key".
        what: &'static str,
    },
    /// `<loadDefaultCAFile>false` without a `<caConfig>`.
    #[error("no certificate authority is left to trust: write <caConfig>, or leave this out")]
    NoAuthority,
    /// `password_file` can't be read.
    #[error("cannot read {path}: {why}")]
    Unreadable {
        /// The path as written.
        path: String,
        /// The operating system's answer.
        why: String,
    },
    /// `<remote_servers>` contains no cluster.
    #[error("holds no cluster")]
    NoClusters,
    /// A cluster without shards.
    #[error("the cluster has no <shard>")]
    NoShards,
    /// A shard without replicas.
    #[error("the shard has no <replica>")]
    NoReplicas,
    /// ClickHouse refuses unknown elements in a cluster or shard: ignoring one could lose a shard.
    #[error("unknown element in a {parent}{}", suggested(.suggestion))]
    Unknown {
        /// "cluster" or "shard".
        parent: &'static str,
        /// A similar known name.
        suggestion: Option<String>,
    },
    /// ClickHouse accepts one form or the other.
    #[error("the cluster has both <shard> and <node> elements; only one form is possible")]
    ShardsAndNodes,
    /// No shard has a slot.
    #[error("the weights of all shards are 0: no shard would get a row")]
    NoWeight,
    /// `<tables>` contains no table.
    #[error("holds no table")]
    NoTables,
    /// A table names an unknown cluster.
    #[error("unknown cluster {name}; <remote_servers> has {known}")]
    UnknownCluster {
        /// The name.
        name: String,
        /// The known names, joined.
        known: String,
    },
    /// Several target shards without a sharding key.
    #[error("<sharding_key> is missing, and cluster {cluster} has {shards} shards to choose from")]
    NoShardingKey {
        /// The target cluster.
        cluster: String,
        /// Shards that can get rows.
        shards: usize,
    },
    /// Source and target are the same table, which would be read while it is written.
    #[error("copies {table} onto itself: {node} is in both the source and the target cluster")]
    OntoItself {
        /// The table.
        table: String,
        /// A node of both clusters.
        node: String,
    },
    /// Its rows would be read (or written) twice.
    #[error("names the node {0} twice: its rows would be copied twice")]
    NodeTwice(String),
    /// An open quote or bracket in a list of partitions.
    #[error("the list of partitions has an unclosed or unopened {0}")]
    Unbalanced(char),
    /// An element of a task among settings.
    #[error("is no setting of ClickHouse: it belongs {0}")]
    Misplaced(&'static str),
    /// `<enabled_partitions/>`: neither "all" nor "none" can be meant with certainty.
    #[error("is empty; leave the element out to copy all partitions")]
    NoPartitions,
    /// Two elements that contradict each other.
    #[error("contradicts <{0}> of the same element")]
    Contradiction(&'static str),
    /// A bandwidth limit although servers carry the rows.
    #[error(
        "rows that travel by {0} cannot be held to max_bytes_per_second: leave <transfer> out or write relay, so that they \
         pass through the worker; or cap each statement's compressed bytes by max_network_bandwidth in <settings> instead"
    )]
    NotPaced(Way),
    /// A description that somebody else may have written would read an environment variable of this machine.
    #[error(
        "refers to the environment variable {0}, and this description came from the coordinator: give the task's own file with \
         --task-file, or allow it with --allow-env {0}"
    )]
    VariableNotAllowed(String),
    /// Such a description would read a file.
    #[error(
        "refers to the file {0}, and this description came from the coordinator: give the task's own file with --task-file, or \
         allow a folder of secrets with --secrets-dir"
    )]
    FileNotAllowed(String),
    /// The chroot of ZooKeeper.
    #[error("must start with /, but is {0}")]
    NotAPath(String),
    /// Digest authentication takes `user:password`.
    #[error("must have the form user:password")]
    Identity,
    /// `<zookeeper>` without a server.
    #[error("has no <node>")]
    NoNodes,
    /// TLS to some servers of one ensemble only.
    #[error("<secure> must be the same for all nodes")]
    MixedSecure,
    /// `from_zk` in a part of a configuration that says where ZooKeeper is.
    #[error(
        "from_zk=\"{0}\" is not supported: the copier does not read its configuration from ZooKeeper; write the content here"
    )]
    FromZooKeeper(String),
    /// `incl` names something that is not in the file of `<include_from>`.
    #[error("incl=\"{0}\" is not in the file that <include_from> names (without <include_from>: in /etc/metrika.xml)")]
    IncludeMissing(String),
    /// `incl` with an unsupported form of path.
    #[error("incl=\"{0}\" is not supported: write names of elements, with / between them")]
    IncludeName(String),
    /// Includes that may have no end.
    #[error("inclusions are nested more than {0} deep")]
    IncludeDepth(usize),
    /// Includes that multiply.
    #[error("more than {0} elements are included")]
    TooManyIncluded(usize),
    /// `<include>` may have no content of its own.
    #[error("must be empty: its content comes from elsewhere")]
    IncludeWithContent,
    /// `<include>` without a source.
    #[error("must have one of the attributes incl and from_env")]
    IncludeOfNothing,
    /// `incl` and `from_env` on one element, for example.
    #[error("has more than one of the attributes incl, from_env and from_zk")]
    TwoSubstitutions,
    /// `remove` and `replace` on one element.
    #[error("<{0}> has both attributes, remove and replace")]
    RemoveAndReplace(String),
    /// A variable that contains tags but is not well-formed XML.
    #[error("the environment variable {0} holds a <, and is not well-formed XML")]
    VariableNotXml(String),
    /// `encrypted_by`: only servers have the key.
    #[error("encrypted_by is not supported: the copier has no key of the server; write the content here")]
    Encrypted,
    /// Old and modern servers would use different ZooKeepers.
    #[error(
        "releases of ClickHouse merge these files in different ways: 25.8 takes {modern}, 18.16 takes {old}. Name a file for \
         --config that holds one <zookeeper>, without other files beside it"
    )]
    ReleasesDiffer {
        /// The ZooKeeper of modern servers.
        modern: String,
        /// The ZooKeeper of old servers.
        old: String,
    },
}

/// A warning about an accepted element. The text follows the path of the element.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum Notice {
    /// The original ignored such elements, so a mistyped element silently changed many a task.
    #[error("unknown element, ignored{}", suggested(.0))]
    Unknown(Option<String>),
    /// An unknown attribute.
    #[error("unknown attribute {name}, ignored{}", suggested(.suggestion))]
    UnknownAttribute {
        /// The attribute.
        name: String,
        /// A similar known name.
        suggestion: Option<String>,
    },
    /// A known element without effect here.
    #[error("has no effect: {0}")]
    NoEffect(&'static str),
    /// Only the first one counts, as in the original.
    #[error("is written again on line {0}; the first one is used")]
    Repeated(u32),
    /// Text where only elements have a meaning.
    #[error("the text between the elements is ignored")]
    StrayText,
    /// Elements of a server's configuration that the copier does not use.
    #[error("not used by the copier: {0}")]
    NotForUs(String),
    /// Every worker would wait.
    #[error("is 0: every worker waits until it is raised")]
    NobodyWorks,
    /// The configuration switches off the check of certificates.
    #[error(
        "certificates of servers are not checked: whoever stands between can pose as a server, and read passwords and rows"
    )]
    Unverified,
    /// The ZooKeeper library always checks certificates.
    #[error("ZooKeeper's certificates are checked all the same")]
    CheckedAllTheSame,
    /// Nothing was included, and the element has content of its own.
    #[error("incl=\"{0}\" is not in the file that <include_from> names; what is written here is used alone")]
    IncludeMissing(String),
    /// `from_env` with `optional`, and the variable is not set.
    #[error("left out: the environment variable {0} is not set")]
    NoVariable(String),
    /// `readonly` although rows are written.
    #[error("readonly is ignored here: rows could not be written with it")]
    ReadonlyPush,
}

fn suggested(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

/// A [`Problem`] with its location.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{problem}", prefix(.path))]
pub struct Fault {
    /// Path of the element, `/clickhouse/tables/hits/engine`. If several have the same name, it contains a number:
    /// `/clickhouse/remote_servers/source/shard[2]`. It is empty for the whole file.
    pub path: String,
    /// Line of the element's start tag, from 1; 0 when there is none.
    pub line: u32,
    /// The file, if it is a merged or included one.
    pub(crate) file: Option<String>,
    /// The problem.
    pub(crate) problem: Problem,
}

/// A [`Notice`] with its location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// As in [`Fault::path`].
    pub(crate) path: String,
    /// As in [`Fault::line`].
    pub(crate) line: u32,
    /// As in [`Fault::file`].
    pub(crate) file: Option<String>,
    /// The notice.
    pub(crate) notice: Notice,
}

impl Warning {
    /// Returns the warning after the name of its file; `named` is the main file.
    pub(crate) fn in_file(&self, named: &str) -> String {
        format!("{}: {self}", place(named, self.file.as_deref(), self.line))
    }
}

/// Returns a file, and the line if several files can contain the same element.
fn place(named: &str, other: Option<&str>, line: u32) -> String {
    match other {
        Some(file) if line > 0 => format!("{file} line {line}"),
        Some(file) => file.to_owned(),
        None => named.to_owned(),
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", prefix(&self.path), self.notice)
    }
}

fn prefix(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

/// Every fault of a file, in the order of its lines; at least one. Displayed as one line per fault, each after the
/// name of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    file: String,
    list: Vec<Fault>,
}

impl Faults {
    pub(super) fn new(file: &str, mut list: Vec<Fault>) -> Self {
        // Faults of the named file come first.
        list.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Self { file: file.to_owned(), list }
    }

    /// Sets the file's name (before: `task.xml` or `keeper.xml`).
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = file.into();
        self
    }

    /// Returns the name of the main file.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// Returns the faults, in the order of their lines.
    pub fn list(&self) -> &[Fault] {
        &self.list
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {fault}", place(&self.file, fault.file.as_deref(), fault.line))?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Returns the line of a problem that contains one; 0 for others.
pub(super) fn line_of(problem: &Problem) -> u32 {
    match problem {
        Problem::NotXml { line, .. } | Problem::NotYaml { line, .. } => *line,
        _ => 0,
    }
}
