//! `<tables>`: the source and target of each table.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::NonZeroU64;

use super::elements::ElementPath;
use super::fault::Problem;
use super::partitions;
use super::walk::{Scope, Text, closest};
use crate::model::{Cluster, Node, TableName, Way};

/// What to do with a target partition that holds foreign rows before the copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IfTargetNotEmpty {
    /// Refuse before any row is copied.
    #[default]
    Fail,
    /// The copied rows replace its rows; the original's `<allow_to_drop_target_partitions>`.
    Replace,
    /// The copied rows are added.
    Append,
    /// The partition stays as it is and is not copied.
    Skip,
}

impl IfTargetNotEmpty {
    const WORDS: [(&'static str, Self); 4] =
        [("fail", Self::Fail), ("replace", Self::Replace), ("append", Self::Append), ("skip", Self::Skip)];

    /// Returns the word that a task file uses.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Replace => "replace",
            Self::Append => "append",
            Self::Skip => "skip",
        }
    }

    /// Returns the policy with or without `--safe-mode`, which drops nothing that existed before.
    pub(crate) fn in_mode(self, safe: bool) -> Self {
        if safe && self == Self::Replace { Self::Fail } else { self }
    }
}

/// The words of `<transfer>`; `None` is `auto`.
const TRANSFERS: [(&str, Option<Way>); 5] = [
    ("auto", None),
    ("push", Some(Way::Push)),
    ("pull", Some(Way::Pull)),
    ("relay", Some(Way::Relay)),
    ("clone", Some(Way::Clone)),
];
/// How a copy is checked against the selected rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verify {
    /// The selected rows are counted at the source after the transfer, and compared with the arrived rows.
    #[default]
    Count,
    /// Contents are compared too, by a checksum, once more on the target.
    Checksum,
    /// The arrived rows are counted. The source is counted only if they differ from the count at planning time.
    None,
}

impl Verify {
    const WORDS: [(&'static str, Self); 3] =
        [("count", Self::Count), ("checksum", Self::Checksum), ("none", Self::None)];

    /// Returns the word that a task file uses.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Checksum => "checksum",
            Self::None => "none",
        }
    }
}

/// A table job: one element of `<tables>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableJob {
    /// The element's name.
    pub name: String,
    /// Index into [`Task::clusters`](super::Task::clusters); see [`Task::source`](super::Task::source).
    pub(crate) source_cluster: usize,
    /// `database_pull`, `table_pull`.
    pub source: TableName,
    /// Index into [`Task::clusters`](super::Task::clusters); see [`Task::target`](super::Task::target).
    pub(crate) target_cluster: usize,
    /// `database_push`, `table_push`.
    pub target: TableName,
    /// `<engine>` as written, trimmed; by default the source's engine.
    pub engine: Option<String>,
    /// `<sharding_key>` as written, trimmed; it exists if several target shards can get rows.
    pub(crate) sharding_key: Option<String>,
    /// `<where_condition>` as written, trimmed.
    pub where_condition: Option<String>,
    /// Literals as written (`202001`, `'2018-02-26'`, `('a', 1)`), at least one; `None` means all partitions.
    pub enabled_partitions: Option<Vec<String>>,
    /// Whether named partitions that the source lacks are left out; otherwise they are an error.
    pub(crate) skip_missing_partitions: bool,
    /// The smallest number of pieces of a partition. The default of the original was 10 (later 3); here pieces are
    /// cut by size, and the default is 1.
    pub number_of_splits: u32,
    /// Approximate uncompressed bytes that are published together; by default chosen by the size of the table
    /// ([`usual_batch_bytes`](crate::plan::usual_batch_bytes)).
    pub batch_bytes: Option<u64>,
    /// The policy of this table; by default that of the task, and otherwise [`IfTargetNotEmpty::Fail`].
    pub if_target_not_empty: IfTargetNotEmpty,
    /// Whether ALIAS and MATERIALIZED columns are transferred as data.
    pub copy_alias_and_materialized: bool,
    /// `<transfer>`: how rows travel; `None` is `auto`. It may change while the task runs: the plan depends on it
    /// only because cloned pieces are never slices.
    pub transfer: Option<Way>,
    /// `<relay_compression>`: whether a relay asks for compressed rows; true by default.
    pub relay_compression: bool,
    /// How the copy is checked; by default as the task says, and otherwise [`Verify::Count`].
    pub verify: Verify,
    /// `<merges_rows>`: whether merges remove rows of the target by design. `None`: the engine's name decides.
    pub(crate) merges_rows: Option<bool>,
    /// `<hidden_rows>`: what to do about rows that the source's account cannot see.
    pub(crate) hidden_rows: HiddenRows,
    /// `<max_bytes_per_second>` of this table: uncompressed bytes of rows that each worker moves per second at most,
    /// in addition to the task's limit. It may change while the task runs.
    pub max_bytes_per_second: Option<NonZeroU64>,
    /// `<allow_lossy_conversion>`: columns whose values are copied although the target's type cannot hold all of
    /// them. It may change while the task runs: it only decides whether the task is refused.
    pub(crate) allow_lossy_conversion: Vec<String>,
    /// Whether its rows have a bandwidth limit, of its own or of the task: they must pass through the worker then.
    pub(crate) paced: bool,
}

impl TableJob {
    /// Returns the transfer that the task prescribes for rows; `None` if it leaves the choice. A task that prescribes
    /// clone says nothing about pieces that cannot be cloned.
    pub(crate) fn way_of_rows(&self) -> Option<Way> {
        self.transfer.filter(|way| *way != Way::Clone)
    }
}

/// What to do about rows of the source that a row policy or a filter hides from the account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum HiddenRows {
    /// The task is refused.
    #[default]
    Refuse,
    /// They are not copied.
    Skip,
}

impl HiddenRows {
    const WORDS: [(&'static str, Self); 2] = [("refuse", Self::Refuse), ("skip", Self::Skip)];

    /// Returns the word that a task file uses.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Skip => "skip",
        }
    }
}

#[derive(Clone, Copy)]
struct Policies {
    if_target_not_empty: IfTargetNotEmpty,
    copy_alias_and_materialized: bool,
    transfer: Option<Way>,
    relay_compression: bool,
    verify: Verify,
    hidden_rows: HiddenRows,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            if_target_not_empty: IfTargetNotEmpty::default(),
            copy_alias_and_materialized: false,
            transfer: None,
            relay_compression: true,
            verify: Verify::default(),
            hidden_rows: HiddenRows::default(),
        }
    }
}

/// Returns the table jobs in the order written; complete only if no fault was found.
pub(super) fn read(root: &Scope<'_>, tables: &Scope<'_>, clusters: &[Cluster]) -> Vec<TableJob> {
    let of_task = policies(root, Policies::default());
    // An invalid rate is a fault of its own, reported with the task's other elements.
    let paced = root.child("max_bytes_per_second").or_else(|| root.child("max_bytes_per_second_of_task")).is_some();
    tables.attributes(&[]);
    tables.no_text();
    let mut jobs = Vec::new();
    let mut names = JobNames::default();
    for scope in tables.children() {
        jobs.extend(table(&scope, names.next(scope.name()), clusters, of_task, paced));
    }
    if names.0.is_empty() {
        tables.fault(Problem::NoTables);
    }
    jobs
}

/// The names of table jobs, which are those of their elements. As in the original, a second `<table>` is another job,
/// `table[1]`.
#[derive(Default)]
pub(super) struct JobNames(BTreeMap<String, usize>);

impl JobNames {
    /// Returns the name of the next job, whose element has this name.
    pub(crate) fn next(&mut self, element: &str) -> String {
        let before = self.0.entry(element.to_owned()).or_default();
        let name = if *before == 0 { element.to_owned() } else { format!("{element}[{before}]") };
        *before += 1;
        name
    }
}

fn table(
    scope: &Scope<'_>,
    job_name: String,
    clusters: &[Cluster],
    of_task: Policies,
    paced: bool,
) -> Option<TableJob> {
    scope.only(ElementPath::Table);
    // Everything is read before an error is returned, so that every fault is found.
    let source_cluster = cluster(scope.required("cluster_pull"), clusters);
    let source = name(scope, "database_pull", "table_pull");
    let target_cluster = cluster(scope.required("cluster_push"), clusters);
    let target = name(scope, "database_push", "table_push");
    let engine = scope.optional("engine");
    let written_key = scope.child("sharding_key").map(|element| element.own_text());
    let sharding_key = written_key.iter().flatten().map(|text| text.trimmed().to_owned()).find(|key| !key.is_empty());
    let where_condition = scope.optional("where_condition");
    let named_partitions = scope.child("enabled_partitions");
    let skip_missing_partitions = named_partitions.as_ref().is_some_and(partitions::skip_missing);
    let enabled_partitions = named_partitions.and_then(|list| partitions::read(&list));
    let number_of_splits = scope.number32("number_of_splits", 1, 1);
    let batch_bytes = scope.size("batch_bytes");
    let merges_rows = scope.boolean("merges_rows");
    let policies = policies(scope, of_task);
    let max_bytes_per_second = scope.rate("max_bytes_per_second");
    let lossy = scope.optional("allow_lossy_conversion");
    let allow_lossy_conversion = lossy.map(|text| names(&text)).unwrap_or_default();
    let paced = paced || max_bytes_per_second.is_some();
    if let Some(way) = policies.transfer.filter(|way| paced && *way != Way::Relay) {
        scope.fault(Problem::NotPaced(way));
    }

    if let Some(index) = target_cluster {
        let shards = clusters[index].shards.iter().filter(|shard| shard.weight > 0).count();
        // An element with a fault of its own is not reported as missing.
        if shards > 1 && sharding_key.is_none() && !matches!(written_key, Some(None)) {
            scope.fault(Problem::NoShardingKey { cluster: clusters[index].name.clone(), shards });
        }
    }
    let (source_cluster, source) = (source_cluster?, source?);
    let (target_cluster, target) = (target_cluster?, target?);
    if source == target
        && let Some(node) = node_of_both(&clusters[source_cluster], &clusters[target_cluster])
    {
        scope.fault(Problem::OntoItself { table: source.to_string(), node });
    }
    Some(TableJob {
        name: job_name,
        source_cluster,
        source,
        target_cluster,
        target,
        engine,
        sharding_key,
        where_condition,
        enabled_partitions,
        skip_missing_partitions,
        number_of_splits,
        batch_bytes,
        if_target_not_empty: policies.if_target_not_empty,
        copy_alias_and_materialized: policies.copy_alias_and_materialized,
        transfer: policies.transfer,
        relay_compression: policies.relay_compression,
        verify: policies.verify,
        merges_rows,
        hidden_rows: policies.hidden_rows,
        max_bytes_per_second,
        allow_lossy_conversion,
        paced,
    })
}

fn name(scope: &Scope<'_>, database: &'static str, table: &'static str) -> Option<TableName> {
    let (database, table) = (scope.required(database), scope.required(table));
    Some(TableName::new(database?.trimmed(), table?.trimmed()))
}

/// Returns names between commas; a name with a comma is in backticks.
fn names(text: &str) -> Vec<String> {
    let mut quoted = false;
    let split = |c: char| {
        quoted ^= c == '`';
        c == ',' && !quoted
    };
    let bare = |name: &str| {
        let name = name.trim();
        name.strip_prefix('`').and_then(|name| name.strip_suffix('`')).unwrap_or(name).to_owned()
    };
    text.split(split).map(bare).filter(|name| !name.is_empty()).collect()
}

fn cluster(name: Option<Text<'_>>, clusters: &[Cluster]) -> Option<usize> {
    let text = name?;
    let found = clusters.iter().position(|cluster| cluster.name == text.trimmed());
    // Without any cluster, that is the fault to report.
    if found.is_none() && !clusters.is_empty() {
        let known: Vec<&str> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        let known = match closest(text.trimmed(), &known) {
            Some(meant) => format!("{} (did you mean {meant}?)", known.join(", ")),
            None => known.join(", "),
        };
        let name = match &text.variable {
            Some(variable) => format!("(from environment variable {variable})"),
            None => text.shown(),
        };
        text.fault(Problem::UnknownCluster { name, known });
    }
    found
}

fn policies(scope: &Scope<'_>, inherited: Policies) -> Policies {
    let written = scope.text("if_target_not_empty").and_then(|text| text.choice(&IfTargetNotEmpty::WORDS));
    let may_drop = scope.boolean("allow_to_drop_target_partitions");
    if let (Some(policy), Some(may_drop)) = (written, may_drop)
        && may_drop != (policy == IfTargetNotEmpty::Replace)
        && let Some(element) = scope.child("if_target_not_empty")
    {
        element.fault(Problem::Contradiction("allow_to_drop_target_partitions"));
    }
    let if_target_not_empty = match (written, may_drop, inherited.if_target_not_empty) {
        (Some(policy), _, _) => policy,
        (None, Some(true), _) => IfTargetNotEmpty::Replace,
        // "Must not drop" revokes the task's permission only.
        (None, Some(false), IfTargetNotEmpty::Replace) => IfTargetNotEmpty::Fail,
        (None, _, inherited) => inherited,
    };
    let copy_alias_and_materialized =
        scope.boolean("allow_to_copy_alias_and_materialized_columns").unwrap_or(inherited.copy_alias_and_materialized);
    let relay_compression = scope.boolean("relay_compression").unwrap_or(inherited.relay_compression);
    let verify = scope.text("verify").and_then(|text| text.choice(&Verify::WORDS)).unwrap_or(inherited.verify);
    let hidden_rows = scope.text("hidden_rows").and_then(|text| text.choice(&HiddenRows::WORDS));
    Policies {
        if_target_not_empty,
        copy_alias_and_materialized,
        transfer: transfer(scope, inherited),
        relay_compression,
        verify,
        hidden_rows: hidden_rows.unwrap_or(inherited.hidden_rows),
    }
}

fn transfer(scope: &Scope<'_>, inherited: Policies) -> Option<Way> {
    let Some(text) = scope.text("transfer") else { return inherited.transfer };
    text.choice(&TRANSFERS).unwrap_or_default()
}

/// Host names are case-insensitive.
fn identity(node: &Node) -> (String, u16) {
    (node.host.to_ascii_lowercase(), node.port)
}

/// Checks that a source or target cluster names each node once. (A cluster that no table uses may repeat nodes, like
/// the examples in a server's own configuration.)
pub(super) fn check_nodes(servers: &Scope<'_>, clusters: &[Cluster], jobs: &[TableJob]) {
    let used: BTreeSet<usize> = jobs.iter().flat_map(|job| [job.source_cluster, job.target_cluster]).collect();
    for cluster in used.into_iter().map(|index| &clusters[index]) {
        let mut seen = HashSet::new();
        // A missing host is a fault of its own.
        let mut nodes = cluster.nodes().map(|(_, node)| node).filter(|node| !node.host.is_empty());
        if let Some(node) = nodes.find(|node| !seen.insert(identity(node)))
            && let Some(scope) = servers.child(&cluster.name)
        {
            scope.fault(Problem::NodeTwice(node.address()));
        }
    }
}

fn node_of_both(source: &Cluster, target: &Cluster) -> Option<String> {
    let nodes: HashMap<_, _> = source.nodes().map(|(_, node)| (identity(node), node)).collect();
    let mut both = target.nodes().filter(|(_, node)| !node.host.is_empty());
    both.find(|(_, node)| nodes.contains_key(&identity(node))).map(|(_, node)| node.address())
}
