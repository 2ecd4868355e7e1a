//! The start of a seed, before the first worker: servers, tables, rows, tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use clickhouse_copier::client::ServerClient;
use clickhouse_copier::client::memory::{MemoryServerClient, Row};
use clickhouse_copier::model::{Node, PartitionId, TableName};
use rand::RngExt;
use rand::rngs::StdRng;

/// The shards and replicas of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Two shards of one server each.
    Plain,
    /// Two shards; the first has two replicas that fetch from each other.
    Replicated,
    /// Two shards; the first has two servers without internal replication.
    Twice,
}

/// The policy for target partitions that hold rows before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Fail,
    Replace,
    Append,
}

/// What a second task at another path does with the same target table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Second {
    None,
    /// The other partitions.
    Disjoint,
    /// The same task again, as after a typing error in the path.
    Same,
}

/// The transfers that are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Travel {
    /// The task names one of `push`, `pull`, `relay`, `clone`, or none; and all of them work.
    Told(&'static str),
    /// The task names none, and the source's accounts may only read.
    ReadOnly,
    /// The task names none, and no source server can connect to a target server.
    Wall,
    /// The task names none, and neither side can connect to the other.
    Walls,
}

/// The start of one seed.
#[derive(Debug, Clone)]
pub struct Scene {
    pub layout: Layout,
    pub before: Before,
    pub second: Second,
    /// Whether each source shard has a second server with the same rows.
    pub source_pair: bool,
    pub travel: Travel,
    /// The content of `<verify>`.
    pub verify: &'static str,
    pub splits: u32,
    pub batch_bytes: u32,
    pub workers: usize,
    pub jobs: usize,
    /// The most pieces at a time on a server, if limited.
    pub per_server: Option<u32>,
    /// Rows by source shard.
    pub rows: Vec<Vec<Row>>,
    /// Rows that the target holds before, by target shard.
    pub present: Vec<Vec<Row>>,
    /// The changes of the source before the second pass, if there is one.
    pub later: Option<Later>,
}

/// The changes of the source between two passes.
#[derive(Debug, Clone)]
pub struct Later {
    /// Partitions that are dropped.
    pub gone: Vec<String>,
    /// Rows that are inserted, by source shard.
    pub rows: Vec<Vec<Row>>,
    /// Whether dropped partitions are dropped on the target too.
    pub drops: bool,
}

pub const SOURCE: (&str, &str) = ("a", "hits");
pub const TARGET: (&str, &str) = ("b", "hits");
const COLUMNS: &str = "(`d` Date, `id` UInt64)";

pub fn node(host: &str) -> Node {
    Node::new(host)
}

pub fn source() -> TableName {
    TableName::new(SOURCE.0, SOURCE.1)
}

pub fn target() -> TableName {
    TableName::new(TARGET.0, TARGET.1)
}

/// The month of a row, as the partition is named: `201801`.
pub fn partition_of(row: &Row) -> String {
    row[0][..7].replace('-', "")
}

/// The target shard of a row: slots 0 of 3 belong to the first shard, 1 and 2 to the second (docs/design.md, §3).
pub fn shard_of(row: &Row) -> usize {
    let id: u64 = row[1].parse().expect("ids are numbers");
    usize::from(!id.is_multiple_of(3))
}

fn some_row(chance: &mut StdRng, month: u32) -> Row {
    vec![format!("2018-{month:02}-{:02}", chance.random_range(1..4)), chance.random_range(0..60u32).to_string()]
}

impl Scene {
    pub fn new(chance: &mut StdRng) -> Self {
        let layout = match chance.random_range(0..3) {
            0 => Layout::Replicated,
            1 => Layout::Twice,
            _ => Layout::Plain,
        };
        let before = match chance.random_range(0..5) {
            0 => Before::Replace,
            1 => Before::Append,
            _ => Before::Fail,
        };
        let second = match chance.random_range(0..6) {
            0 if before == Before::Fail => Second::Disjoint,
            1 if before != Before::Append => Second::Same,
            _ => Second::None,
        };
        let months = chance.random_range(2..4);
        let rows = (0..2)
            .map(|_| {
                let mut rows: Vec<Row> =
                    (0..chance.random_range(6..12)).map(|n| some_row(chance, n % months + 1)).collect();
                // Equal rows are rows.
                rows.extend_from_within(0..2);
                rows
            })
            .collect();
        let mut present: Vec<Vec<Row>> = vec![Vec::new(), Vec::new()];
        let mut others = Vec::new();
        // A partition that no task copies is not checked.
        others.extend((0..3).map(|_| some_row(chance, 9)));
        if before != Before::Fail {
            others.extend((0..5).map(|_| some_row(chance, 1)));
        }
        for row in others {
            present[shard_of(&row)].push(row);
        }
        Self {
            layout,
            before,
            second,
            source_pair: chance.random_bool(0.3),
            travel: match chance.random_range(0..9) {
                0 => Travel::ReadOnly,
                1 => Travel::Wall,
                2 => Travel::Walls,
                3 => Travel::Told("push"),
                4 => Travel::Told("pull"),
                5 => Travel::Told("relay"),
                6 => Travel::Told("clone"),
                _ => Travel::Told("auto"),
            },
            verify: ["count", "count", "checksum", "none"][chance.random_range(0..4)],
            splits: chance.random_range(1..3),
            batch_bytes: if chance.random_bool(0.5) { 1 } else { 100_000 },
            workers: chance.random_range(1..4),
            jobs: chance.random_range(1..4),
            per_server: [None, None, Some(1), Some(2)][chance.random_range(0..4)],
            rows,
            present,
            later: None,
        }
        .laid_out()
    }

    /// With another part of the seed's chance: what comes later.
    pub fn with_later(mut self, chance: &mut StdRng) -> Self {
        if self.before == Before::Append || self.second != Second::None || !chance.random_bool(0.5) {
            return self;
        }
        let gone = (1..4).filter(|_| chance.random_bool(0.3)).map(|month| format!("2018{month:02}")).collect();
        let mut rows: Vec<Vec<Row>> = vec![Vec::new(); self.rows.len()];
        for rows in &mut rows {
            for _ in 0..chance.random_range(0..5) {
                let month = chance.random_range(1..5);
                rows.push(some_row(chance, month));
            }
        }
        self.later = Some(Later { gone, rows, drops: chance.random_bool(0.5) });
        if self.travel == Travel::Told("clone")
            && let Some(later) = &mut self.later
        {
            let (first, second) = later.rows.drain(..).flatten().partition(|row| shard_of(row) == 0);
            later.rows = vec![first, second];
        }
        self.without_lost_shards()
    }

    /// An empty source shard is refused as lost: then there is no second pass.
    fn without_lost_shards(mut self) -> Self {
        let lost = |(before, after): (&Vec<Row>, &Vec<Row>)| !before.is_empty() && after.is_empty();
        if self.rows.iter().zip(&self.afterwards().rows).any(lost) {
            self.later = None;
        }
        self
    }

    /// What it is after that.
    pub fn afterwards(&self) -> Self {
        let mut next = self.clone();
        let Some(later) = next.later.take() else { return next };
        for (rows, more) in next.rows.iter_mut().zip(later.rows) {
            rows.retain(|row| !later.gone.contains(&partition_of(row)));
            rows.extend(more);
        }
        next
    }

    /// Changes the source's servers so.
    pub async fn change(&self, client: &MemoryServerClient) {
        let Some(later) = &self.later else { return };
        let gone: Vec<PartitionId> = later.gone.iter().cloned().map(PartitionId).collect();
        for (hosts, rows) in self.sources().iter().zip(&later.rows) {
            for host in hosts {
                client.set_read_only(&node(host), false);
                client.drop_partitions(&node(host), &source(), &gone, &Vec::new()).await.unwrap();
                client.set_read_only(&node(host), self.travel == Travel::ReadOnly);
                if !rows.is_empty() {
                    client.insert(&node(host), &source(), rows.clone()).unwrap();
                }
            }
        }
    }

    /// What is cloned is not split: each source shard has what one target shard is to have.
    fn laid_out(mut self) -> Self {
        if self.travel == Travel::Told("clone") {
            let (first, second) = self.rows.drain(..).flatten().partition(|row| shard_of(row) == 0);
            self.rows = vec![first, second];
        }
        self
    }

    /// The hosts of each source shard.
    pub fn sources(&self) -> Vec<Vec<&'static str>> {
        match self.source_pair {
            true => vec![vec!["s1a", "s1b"], vec!["s2a", "s2b"]],
            false => vec![vec!["s1a"], vec!["s2a"]],
        }
    }

    /// The hosts of each target shard.
    pub fn targets(&self) -> Vec<Vec<&'static str>> {
        match self.layout {
            Layout::Plain => vec![vec!["t1a"], vec!["t2a"]],
            Layout::Replicated | Layout::Twice => vec![vec!["t1a", "t1b"], vec!["t2a"]],
        }
    }

    pub fn hosts(&self) -> Vec<&'static str> {
        self.sources().concat().into_iter().chain(self.targets().concat()).collect()
    }

    pub fn tasks(&self) -> usize {
        if self.second == Second::None { 1 } else { 2 }
    }

    /// Whether a task copies a partition.
    pub fn copies(&self, task: usize, partition: &str) -> bool {
        match self.second {
            Second::Disjoint => (partition == "201801") == (task == 0),
            _ => true,
        }
    }

    /// Returns the rows that a partition of a target shard has after the copy, without the rows from before.
    pub fn expected(&self) -> BTreeMap<(usize, String), Vec<Row>> {
        let mut expected: BTreeMap<(usize, String), Vec<Row>> = BTreeMap::new();
        for row in self.rows.iter().flatten() {
            expected.entry((shard_of(row), partition_of(row))).or_default().push(row.clone());
        }
        expected
    }

    /// The description of a task.
    pub fn task(&self, task: usize, max_workers: Option<u32>) -> String {
        let shard = |hosts: &Vec<&str>, rest: &str| {
            let replicas: String = hosts.iter().map(|host| format!("<replica><host>{host}</host></replica>")).collect();
            format!("<shard>{rest}{replicas}</shard>")
        };
        let sources: String = self.sources().iter().map(|hosts| shard(hosts, "")).collect();
        let internal = match self.layout {
            Layout::Twice => "<internal_replication>false</internal_replication>",
            _ => "<internal_replication>true</internal_replication>",
        };
        let weight = |n: usize| format!("<weight>{}</weight>{internal}", n + 1);
        let targets: String = self.targets().iter().enumerate().map(|(n, hosts)| shard(hosts, &weight(n))).collect();
        let engine = match self.layout {
            Layout::Replicated => "ReplicatedMergeTree('/tables/{shard}/hits', '{replica}')",
            _ => "MergeTree",
        };
        let policy = match self.before {
            Before::Fail => "fail",
            Before::Replace => "replace",
            Before::Append => "append",
        };
        let all = ["201801", "201802", "201803"];
        let enabled: String = match self.second {
            Second::Disjoint => {
                let own = all.iter().filter(|partition| self.copies(task, partition));
                let list: String = own.map(|partition| format!("<partition>{partition}</partition>")).collect();
                format!("<enabled_partitions missing=\"skip\">{list}</enabled_partitions>")
            }
            _ => String::new(),
        };
        let transfer = match self.travel {
            Travel::Told(word) => word,
            _ => "auto",
        };
        let limit = max_workers.map(|limit| format!("<max_workers>{limit}</max_workers>")).unwrap_or_default();
        let per_server = |limit| format!("<max_jobs_per_server>{limit}</max_jobs_per_server>");
        let per_server = self.per_server.map(per_server).unwrap_or_default();
        format!(
            "<clickhouse>{limit}{per_server}<remote_servers><src>{sources}</src><dst>{targets}</dst></remote_servers><tables><hits>
            <cluster_pull>src</cluster_pull><database_pull>a</database_pull><table_pull>hits</table_pull>
            <cluster_push>dst</cluster_push><database_push>b</database_push><table_push>hits</table_push>
            <engine>ENGINE = {engine} PARTITION BY toYYYYMM(d) ORDER BY id</engine>
            <sharding_key>id</sharding_key><number_of_splits>{}</number_of_splits><verify>{}</verify>
            <batch_bytes>{}</batch_bytes><if_target_not_empty>{policy}</if_target_not_empty>{enabled}<transfer>{transfer}</transfer>
            </hits></tables></clickhouse>",
            self.splits, self.verify, self.batch_bytes
        )
    }

    /// The servers with what they hold before.
    pub async fn servers(&self) -> MemoryServerClient {
        let client = MemoryServerClient::new();
        client.set_block_rows(3);
        client.set_linger(Duration::from_secs(2));
        for (prefix, shards) in [("s", self.sources()), ("t", self.targets())] {
            for (shard, hosts) in shards.iter().enumerate() {
                for host in hosts {
                    let shard = format!("{prefix}{shard}");
                    client.add_node(&node(host), &[("shard", &shard), ("replica", host)]);
                }
            }
        }
        let settings = Vec::new();
        for (hosts, rows) in self.sources().iter().zip(&self.rows) {
            for host in hosts {
                let create =
                    format!("CREATE TABLE a.hits {COLUMNS} ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY id");
                client.create_database(&node(host), SOURCE.0, &settings).await.unwrap();
                client.create_table(&node(host), &source(), &create, &settings).await.unwrap();
                client.insert(&node(host), &source(), rows.clone()).unwrap();
            }
        }
        let (sources, targets) = (self.sources().concat(), self.targets().concat());
        for source in &sources {
            client.set_read_only(&node(source), self.travel == Travel::ReadOnly);
            for target in &targets {
                let wall = matches!(self.travel, Travel::Wall | Travel::Walls);
                client.set_blocked(&node(source), &node(target), wall);
                client.set_blocked(&node(target), &node(source), self.travel == Travel::Walls);
            }
        }
        let engine = match self.layout {
            Layout::Replicated => "ReplicatedMergeTree('/tables/{shard}/hits', '{replica}')",
            _ => "MergeTree",
        };
        for (hosts, rows) in self.targets().iter().zip(&self.present) {
            for (n, host) in hosts.iter().enumerate() {
                let create =
                    format!("CREATE TABLE b.hits {COLUMNS} ENGINE = {engine} PARTITION BY toYYYYMM(d) ORDER BY id");
                client.create_database(&node(host), TARGET.0, &settings).await.unwrap();
                client.create_table(&node(host), &target(), &create, &settings).await.unwrap();
                if n == 0 || self.layout == Layout::Twice {
                    client.insert(&node(host), &target(), rows.clone()).unwrap();
                }
            }
        }
        client
    }
}
