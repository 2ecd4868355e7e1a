//! Every element of a task file and of `keeper.xml`: its parent, its form, and its default. The parser takes its
//! known names from here, and `docs/task-reference.md` is generated from here.

use ElementPath::{
    Client, Cluster, Handler, KeeperRoot, Logger, Node, OpenSsl, Replica, Root, Shard, Table, ZooKeeper, ZooKeeperNode,
};
use Origin::{Original, Ours};
use Unwritten::{Is, Means, Required};

/// The parent of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementPath {
    /// The root of a task.
    Root,
    /// A cluster of `<remote_servers>`.
    Cluster,
    /// A `<shard>`.
    Shard,
    /// A `<replica>`.
    Replica,
    /// A `<node>` of a cluster, which is a shard and its only replica at once.
    Node,
    /// A table job.
    Table,
    /// The root of `keeper.xml`.
    KeeperRoot,
    /// `<zookeeper>`.
    ZooKeeper,
    /// A `<node>` of `<zookeeper>`.
    ZooKeeperNode,
    /// `<logger>`.
    Logger,
    /// `<openSSL>`.
    OpenSsl,
    /// `<client>` of `<openSSL>`.
    Client,
    /// `<invalidCertificateHandler>`.
    Handler,
}

/// A name that the parser knows.
#[derive(Debug, Clone, Copy)]
pub struct Element {
    /// The name. For shards, replicas and nodes only the beginning counts.
    pub name: &'static str,
    /// The parents where it may be written. A table's element at the root applies to all tables.
    pub places: &'static [ElementPath],
    /// The meaning of the element.
    pub meaning: Meaning,
}

/// The meaning of an element.
#[derive(Debug, Clone, Copy)]
pub enum Meaning {
    /// It has a value.
    Read(ElementText),
    /// It is known but has no effect here, for this reason.
    NoEffect(&'static str),
}

/// An element with a value.
#[derive(Debug, Clone, Copy)]
pub struct ElementText {
    /// An example of its content.
    pub example: &'static str,
    /// The form of its content.
    pub form: &'static str,
    /// The default of the element.
    pub default: Unwritten,
    /// Whether it comes from the original.
    pub origin: Origin,
    /// Whether it may be changed while a task runs (`--task-upload-force`). A worker reads `keeper.xml` only when it
    /// starts.
    pub live: bool,
    /// The effect of the element.
    pub effect: &'static str,
}

/// The default of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritten {
    /// None: it must be written.
    Required,
    /// This value.
    Is(&'static str),
    /// This meaning, which no value expresses.
    Means(&'static str),
}

/// The origin of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The original copier, or every ClickHouse configuration.
    Original,
    /// This copier.
    Ours,
}

impl Element {
    /// Returns the elements of a parent, in the order of the reference.
    pub fn of(place: ElementPath) -> impl Iterator<Item = &'static Element> + Clone {
        ELEMENTS.iter().filter(move |element| element.places.contains(&place))
    }

    /// Returns the names with a value in a parent.
    pub(super) fn names(place: ElementPath) -> Vec<&'static str> {
        Self::of(place)
            .filter(|element| matches!(element.meaning, Meaning::Read(_)))
            .map(|element| element.name)
            .collect()
    }

    /// Returns why a name has no effect in a parent, if it has none.
    pub(super) fn no_effect(place: ElementPath, name: &str) -> Option<&'static str> {
        Self::of(place).find(|element| element.name == name).and_then(|element| match element.meaning {
            Meaning::NoEffect(why) => Some(why),
            Meaning::Read(_) => None,
        })
    }
}

impl ElementPath {
    /// Returns the attributes that are known there, besides `from_env` of every text.
    pub(crate) fn attributes(self) -> &'static [&'static str] {
        match self {
            Shard | Replica | Node | ZooKeeperNode => &["index"],
            _ => &[],
        }
    }
}

const fn read(name: &'static str, places: &'static [ElementPath], text: ElementText) -> Element {
    Element { name, places, meaning: Meaning::Read(text) }
}

const fn no_effect(name: &'static str, places: &'static [ElementPath], why: &'static str) -> Element {
    Element { name, places, meaning: Meaning::NoEffect(why) }
}

/// Describes an element of the original.
const fn old(
    example: &'static str,
    form: &'static str,
    default: Unwritten,
    live: bool,
    effect: &'static str,
) -> ElementText {
    ElementText { example, form, default, origin: Original, live, effect }
}

/// Describes an element of this copier.
const fn new(
    example: &'static str,
    form: &'static str,
    default: Unwritten,
    live: bool,
    effect: &'static str,
) -> ElementText {
    ElementText { example, form, default, origin: Ours, live, effect }
}

const FIXED: bool = false;
const LIVE: bool = true;

const EACH_SHARD: &[ElementPath] = &[Shard, Node];
const EACH_NODE: &[ElementPath] = &[Replica, Node];
/// Elements of a table, or of the task for all its tables (where many users of the original put them).
const POLICY: &[ElementPath] = &[Table, Root];

const TEXT: &str = "text";
const NAME: &str = "name";
const ELEMENTS_IN_IT: &str = "elements";
const BOOLEAN: &str = "boolean";
const PORT: &str = "port";
const SQL: &str = "SQL";
const BYTES: &str = "bytes";
const RATE: &str = "bytes a second";
const FILE: &str = "file";
const MILLISECONDS: &str = "milliseconds";
const NO_LIMIT: Unwritten = Means("no limit");

const IN_TURN: &str = "the servers are tried in turn";
const NO_FAULTS: &str = "faults are not injected here";
const OTHER_FILE: &str = "it belongs to the file that --config names";
const STREAMS: &str = "the standard streams are left as they are";
const NO_SYSLOG: &str = "syslog is not supported";
const OLD_PROTOCOLS: &str = "TLS 1.2 and 1.3 are spoken, nothing older";
const SESSIONS: &str = "sessions are resumed as the library sees fit";
const CIPHERS: &str = "the library's ciphers are used";

/// All elements.
#[rustfmt::skip]
pub const ELEMENTS: &[Element] = &[
    // A task.
    read("remote_servers", &[Root], old("…", ELEMENTS_IN_IT, Required, FIXED,
        "The clusters, an element each, as in a server's configuration.")),
    read("tables", &[Root], old("…", ELEMENTS_IN_IT, Required, FIXED,
        "The table jobs, an element each, of any name.")),
    read("max_workers", &[Root], old("4", "number from 0", NO_LIMIT, LIVE,
        "So many workers are active at a time; the others wait. At 0 all do. The original demanded it.")),
    read("settings", &[Root], old("<max_threads>4</max_threads>", "settings", Means("none"), LIVE,
        "Settings of ClickHouse for our statements, by name. One that a server's version does not know is not sent to it; one that \
         was renamed is sent by the name that it knows.")),
    read("settings_pull", &[Root], old("<max_threads>2</max_threads>", "settings", Means("none"), LIVE,
        "The same for reading from the source, over `settings`. `readonly` is taken as a wish that the source is not changed.")),
    read("settings_push", &[Root], old("<max_insert_threads>2</max_insert_threads>", "settings", Means("none"), LIVE,
        "The same for writing to the target, over `settings`.")),
    read("max_bytes_per_second_of_task", &[Root], new("120M", RATE, NO_LIMIT, LIVE,
        "What all workers together move in a second, uncompressed; each has its share. Tables are relayed then.")),
    read("max_jobs_per_server", &[Root], new("3", "number from 1", NO_LIMIT, LIVE,
        "So many pieces are copied from or to one server at a time, by all workers together.")),
    read("tcp_port", &[Root], old("9100", PORT, Is("9000"), FIXED,
        "The native port of nodes that name none.")),
    read("tcp_port_secure", &[Root], old("9540", PORT, Is("9440"), FIXED,
        "The same of nodes with `secure`.")),
    no_effect("zookeeper", &[Root], OTHER_FILE),
    no_effect("logger", &[Root], OTHER_FILE),

    // Clusters.
    read("shard", &[Cluster], old("…", ELEMENTS_IN_IT, Required, FIXED,
        "A shard; the name may go on (`shard_1`). Their order counts: it is that of a Distributed table.")),
    read("node", &[Cluster], old("…", ELEMENTS_IN_IT, Means("none"), FIXED,
        "Instead of shards: a shard and its only replica at once, with the elements of both.")),
    no_effect("secret", &[Cluster], "servers are addressed with user and password"),
    no_effect("allow_distributed_ddl_queries", &[Cluster], "no distributed DDL is used"),
    read("weight", EACH_SHARD, old("2", "number from 0", Is("1"), FIXED,
        "Its share of the rows. At 0 it gets none.")),
    read("internal_replication", EACH_SHARD, old("true", BOOLEAN, Is("false"), FIXED,
        "true: rows are written to one replica, and the others fetch them (Replicated tables). false: rows are written to every replica.")),
    read("replica", &[Shard], old("…", ELEMENTS_IN_IT, Required, FIXED,
        "A server; the name may go on (`replica_1`).")),
    no_effect("name", &[Shard], "shards are named by their number"),
    read("host", EACH_NODE, old("server-1.example", "name or address", Required, FIXED,
        "One host, as the worker and the other servers reach it.")),
    read("port", EACH_NODE, old("9001", PORT, Means("`tcp_port`, with `secure` `tcp_port_secure`"), FIXED,
        "The native port, for the other servers.")),
    read("http_port", EACH_NODE, new("8124", PORT, Means("8123, with `secure` 8443"), LIVE,
        "The HTTP port, for the worker.")),
    read("secure", EACH_NODE, old("1", BOOLEAN, Is("0"), FIXED,
        "TLS: HTTPS for the worker, `remoteSecure` between servers.")),
    read("user", EACH_NODE, old("copier", NAME, Is("default"), LIVE,
        "The account.")),
    read("password", EACH_NODE, old("secret", TEXT, Is(""), LIVE,
        "Its password; blanks count. Better: `<password from_env=\"NAME\"/>`.")),
    read("password_file", EACH_NODE, new("/run/secrets/copier", FILE, Means("none"), LIVE,
        "The file that holds the password, on each worker's machine; a line end at its end does not count.")),
    read("default_database", EACH_NODE, old("web", NAME, Means("none"), LIVE,
        "Taken, as in a server's configuration; statements name their database anyway.")),
    read("named_collection", EACH_NODE, new("copy_target", NAME, Means("none"), LIVE,
        "The collection by which other servers (21.11 on) reach this one: no password stands in their statements then.")),
    no_effect("compression", EACH_NODE, "servers choose the compression between themselves"),
    no_effect("priority", EACH_NODE, "any live replica will do; near ones come first"),
    no_effect("bind_host", EACH_NODE, "the servers connect to each other from the address they choose"),

    // A table job.
    read("cluster_pull", &[Table], old("source", "name of a cluster", Required, FIXED, "Where it is copied from.")),
    read("database_pull", &[Table], old("web", NAME, Required, FIXED, "The database there.")),
    read("table_pull", &[Table], old("hits", NAME, Required, FIXED,
        "The table there, not a Distributed one.")),
    read("cluster_push", &[Table], old("target", "name of a cluster", Required, FIXED, "Where it is copied to.")),
    read("database_push", &[Table], old("web", NAME, Required, FIXED, "The database there; made if it is missing.")),
    read("table_push", &[Table], old("hits", NAME, Required, FIXED, "The table there; made if it is missing.")),
    read("engine", &[Table], old("MergeTree PARTITION BY toYYYYMM(d) ORDER BY id", SQL, Means("the source's engine"), FIXED,
        "Of a target table that is to be made, with its clauses; `ENGINE =` before it may be left out. In the path of a Replicated one `{database}`, \
         `{table}` and `{uuid}` are written out, the same for all its nodes; without arguments it is \
         `/clickhouse/tables/{uuid}/{shard}`. The original demanded it.")),
    read("sharding_key", &[Table], old("intHash64(UserID)", "SQL, an integer", Means("demanded where several target shards have a weight"), FIXED,
        "Rows lie where a Distributed table with this key and these weights looks for them. A key that is not a function of the row (`rand()`) \
         spreads rows by a hash of all their columns; one that changes the number of rows (`arrayJoin`) is refused.")),
    read("where_condition", &[Table], old("CounterID != 0", SQL, Means("all rows"), FIXED,
        "Only these rows of the source. Rows are read more than once: what gives another value each time (`rand()`, `_part`, an ALIAS column or a \
         function of a user that uses one) is refused, and so is `arrayJoin`. A query in it (`id IN (SELECT …)`) is run by each server that reads: its tables \
         must be there and hold still.")),
    read("enabled_partitions", &[Table], old("201801 201802", "partitions", Means("all"), FIXED,
        "Only these partitions of the *target* table, as the server writes them (`201801`, `'2018-02-26'`, `('a', 1)`), between blanks or commas, or an element each. \
         One that the source does not have is an error; `<enabled_partitions missing=\"skip\">` leaves it out.")),
    read("number_of_splits", &[Table], old("4", "number from 1", Is("1"), FIXED,
        "A partition is cut into so many pieces at least; the size decides beyond that. (In the original: exactly so many.)")),
    read("batch_bytes", &[Table], new("256M", BYTES, Means("an eighth of the table, between 128M and 1G"), FIXED,
        "About so much, uncompressed, is published together.")),
    read("if_target_not_empty", POLICY, new("replace", "`fail`, `replace`, `append` or `skip`", Is("fail"), FIXED,
        "What becomes of a target partition that holds rows before the copy. fail: nothing is copied at all. replace: they give way. append: the copied \
         rows are added. skip: it is left as it is, and not copied.")),
    read("allow_to_drop_target_partitions", POLICY, old("1", BOOLEAN, Is("0"), FIXED,
        "The original's word for `if_target_not_empty` `replace`.")),
    read("allow_to_copy_alias_and_materialized_columns", POLICY, old("1", BOOLEAN, Is("0"), FIXED,
        "ALIAS and MATERIALIZED columns are transferred as data. Not needed where they stand in keys.")),
    read("allow_lossy_conversion", &[Table], new("price, state", "names of columns", Means("none"), LIVE,
        "Columns that are converted to the target's type though it cannot hold all of their values. Without, a task is refused that \
         would lose some; `check` tells how many, with an example.")),
    read("transfer", POLICY, new("relay", "`auto`, `push`, `pull`, `relay` or `clone`", Is("auto"), LIVE,
        "How rows travel; see [Transfers](transfers.md). To `clone` only where no partition was cut into slices.")),
    read("relay_compression", POLICY, new("0", BOOLEAN, Is("1"), LIVE,
        "Whether a relay asks servers for compressed rows.")),
    read("merges_rows", &[Table], new("yes", BOOLEAN, Means("as the engine's name tells"), FIXED,
        "Whether merges of the target's engine remove rows by design, so that fewer rows than were copied are no loss. Known without it: Replacing, Summing, \
         Aggregating, Collapsing, VersionedCollapsing, Graphite and Coalescing, with any prefix. All other engines are held to exact counts.")),
    read("hidden_rows", POLICY, new("skip", "`refuse` or `skip`", Is("refuse"), FIXED,
        "What becomes of rows of the source that a row policy or a filter hides from the account. refuse: nothing is copied at all. skip: they are not copied.")),
    read("verify", POLICY, new("checksum", "`count`, `checksum` or `none`", Is("count"), FIXED,
        "How it is checked that what arrived is what was selected; see [What is verified](guarantees.md#what-is-verified).")),
    read("max_bytes_per_second", POLICY, new("50M", RATE, NO_LIMIT, LIVE,
        "What each worker moves in a second, uncompressed. At a table: of that table, beside what the task allows for all. Tables with a cap are relayed.")),

    // keeper.xml
    read("zookeeper", &[KeeperRoot], old("…", ELEMENTS_IN_IT, Required, FIXED,
        "Where ZooKeeper, or ClickHouse Keeper, is.")),
    read("logger", &[KeeperRoot], old("<size>200M</size>", ELEMENTS_IN_IT, Means("none"), FIXED,
        "What is logged. Flags of the command line come before it.")),
    read("openSSL", &[KeeperRoot], old("<client><verificationMode>none</verificationMode></client>", ELEMENTS_IN_IT, Means("the system's authorities are trusted"), FIXED,
        "Whom to trust over TLS, towards ClickHouse too.")),
    read("node", &[ZooKeeper], old("…", ELEMENTS_IN_IT, Required, FIXED,
        "A server; the name may go on. All of an ensemble should stand here.")),
    read("session_timeout_ms", &[ZooKeeper], old("10000", MILLISECONDS, Is("30000"), FIXED,
        "When a worker that is out of touch counts as dead, and others take over its work.")),
    read("operation_timeout_ms", &[ZooKeeper], old("5000", MILLISECONDS, Is("10000"), FIXED,
        "How long an answer may take.")),
    read("root", &[ZooKeeper], old("/copier", "path", Means("`/`"), FIXED,
        "All task paths are below this one.")),
    read("identity", &[ZooKeeper], old("copier:secret", "`user:password`", Means("none"), FIXED,
        "Digest authentication; what is made is open to this identity only.")),
    no_effect("implementation", &[ZooKeeper], "there is one implementation"),
    no_effect("connection_timeout_ms", &[ZooKeeper], "a connection may take as long as the session allows"),
    no_effect("zookeeper_load_balancing", &[ZooKeeper], IN_TURN),
    no_effect("keeper_load_balancing", &[ZooKeeper], IN_TURN),
    no_effect("use_compression", &[ZooKeeper], "our messages are small"),
    no_effect("fallback_session_lifetime", &[ZooKeeper], "a session stays with its server"),
    no_effect("enable_fault_injections_during_startup", &[ZooKeeper], NO_FAULTS),
    no_effect("send_fault_probability", &[ZooKeeper], NO_FAULTS),
    no_effect("recv_fault_probability", &[ZooKeeper], NO_FAULTS),
    read("host", &[ZooKeeperNode], old("zookeeper-1.example", "name or address", Required, FIXED, "The host.")),
    read("port", &[ZooKeeperNode], old("2182", PORT, Is("2181"), FIXED, "The client port.")),
    read("secure", &[ZooKeeperNode], old("1", BOOLEAN, Is("0"), FIXED, "TLS; the same for all nodes.")),
    no_effect("availability_zone", &[ZooKeeperNode], IN_TURN),
    no_effect("priority", &[ZooKeeperNode], IN_TURN),
    read("level", &[Logger], old("warning", "a level, as of `--log-level`", Means("`--log-level`"), FIXED, "What is logged.")),
    read("log", &[Logger], old("/var/log/copier/log.log", FILE, Means("`log.log` in the launch's folder"), FIXED,
        "The log, where no `--base-dir` is given.")),
    read("errorlog", &[Logger], old("/var/log/copier/err.log", FILE, Means("`log.err.log` in the launch's folder"), FIXED,
        "Warnings and errors, where no `--base-dir` is given.")),
    read("size", &[Logger], old("200M", BYTES, Means("100M"), FIXED, "A log file of this size is cut.")),
    read("count", &[Logger], old("3", "number from 0", Means("10"), FIXED, "So many old ones are kept.")),
    read("console", &[Logger], old("0", BOOLEAN, Means("true, without `--daemon`"), FIXED, "Whether the log goes to standard error too.")),
    no_effect("stderr", &[Logger], STREAMS),
    no_effect("stdout", &[Logger], STREAMS),
    no_effect("use_syslog", &[Logger], NO_SYSLOG),
    no_effect("syslog", &[Logger], NO_SYSLOG),
    no_effect("compress", &[Logger], "rotated files are not compressed"),
    no_effect("stream_compress", &[Logger], "log files are not compressed"),
    no_effect("formatting", &[Logger], "see --log-format"),
    no_effect("color_terminal", &[Logger], "colours are used on a terminal"),
    no_effect("console_log_level", &[Logger], "the terminal shows the same level"),
    no_effect("async", &[Logger], "logging does not wait in any case"),
    read("client", &[OpenSsl], old("<verificationMode>none</verificationMode>", ELEMENTS_IN_IT, Means("the system's authorities are trusted"), FIXED,
        "What holds for our connections.")),
    no_effect("server", &[OpenSsl], "the copier is a client only"),
    no_effect("fips", &[OpenSsl], "the library decides"),
    read("caConfig", &[Client], old("/etc/copier/ca.pem", FILE, Means("the system's authorities"), FIXED,
        "Whom to trust, as PEM.")),
    read("loadDefaultCAFile", &[Client], old("1", BOOLEAN, Means("true without `caConfig`"), FIXED,
        "Whether the system's authorities are trusted beside `caConfig`.")),
    read("verificationMode", &[Client], old("none", "`none`, `relaxed`, `strict` or `once`", Is("strict"), FIXED,
        "none switches all checks off, with a warning; the others are the same here.")),
    read("certificateFile", &[Client], old("/etc/copier/client.crt", FILE, Means("none"), FIXED,
        "Who we are, as PEM; with `privateKeyFile`.")),
    read("privateKeyFile", &[Client], old("/etc/copier/client.key", FILE, Means("none"), FIXED,
        "Its key, as PEM without a passphrase.")),
    read("invalidCertificateHandler", &[Client], old("<name>AcceptCertificateHandler</name>", ELEMENTS_IN_IT, Means("an invalid certificate is refused"), FIXED,
        "What becomes of an invalid certificate.")),
    read("name", &[Handler], old("AcceptCertificateHandler", "`AcceptCertificateHandler`, `RejectCertificateHandler` or `ConsoleCertificateHandler`", Is("RejectCertificateHandler"), FIXED,
        "AcceptCertificateHandler takes it, with a warning.")),
    no_effect("extendedVerification", &[Client], "the host's name is checked whenever the certificate is"),
    no_effect("verificationDepth", &[Client], "chains are as long as the library takes them"),
    no_effect("privateKeyPassphraseHandler", &[Client], "the key must have no passphrase"),
    no_effect("disableProtocols", &[Client], OLD_PROTOCOLS),
    no_effect("requireTLSv1", &[Client], OLD_PROTOCOLS),
    no_effect("requireTLSv1_1", &[Client], OLD_PROTOCOLS),
    no_effect("requireTLSv1_2", &[Client], OLD_PROTOCOLS),
    no_effect("cacheSessions", &[Client], SESSIONS),
    no_effect("sessionIdContext", &[Client], SESSIONS),
    no_effect("sessionCacheSize", &[Client], SESSIONS),
    no_effect("sessionTimeout", &[Client], SESSIONS),
    no_effect("preferServerCiphers", &[Client], CIPHERS),
    no_effect("cipherList", &[Client], CIPHERS),
    no_effect("cipherSuites", &[Client], CIPHERS),
    no_effect("dhParamsFile", &[Client], CIPHERS),
    no_effect("ecdhCurve", &[Client], CIPHERS),
    no_effect("fips", &[Client], CIPHERS),
];
