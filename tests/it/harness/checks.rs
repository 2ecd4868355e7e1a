//! Checks on the servers after a test: the rows, and that nothing of the copier is left.

use std::collections::BTreeMap;

use lab::Cluster;
use serde_json::{Value, json};

use super::{Scene, Table, Task};

/// The number of rows and the sum of their hashes: equal for equal rows in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    pub rows: u64,
    pub sum: u64,
}

/// An identifier in backticks.
pub fn tick(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A string literal.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn full((database, table): &(String, String)) -> String {
    format!("{}.{}", tick(database), tick(table))
}

impl Scene {
    /// Returns the digest of the rows of some servers together. `row` is an expression that hashes a row, `from` is what follows
    /// `FROM`.
    pub fn digest(&self, servers: &[usize], row: &str, from: &str) -> Digest {
        let ask = |&server: &usize| {
            let answer = self.ask(server, &format!("SELECT count(), sum({row}) FROM {from}"));
            let (rows, sum) = answer.split_once('\t').unwrap();
            Digest { rows: rows.parse().unwrap(), sum: sum.parse().unwrap() }
        };
        let add = |a: Digest, b: Digest| Digest { rows: a.rows + b.rows, sum: a.sum.wrapping_add(b.sum) };
        servers.iter().map(ask).fold(Digest { rows: 0, sum: 0 }, add)
    }

    /// An expression that hashes a whole row of a table, except its ALIAS columns.
    pub fn row_hash(&self, server: usize, table: &(String, String)) -> String {
        let (database, name) = (quote(&table.0), quote(&table.1));
        let columns = self.ask(
            server,
            &format!(
                "SELECT name, type FROM system.columns WHERE database = {database} AND table = {name} \
                 AND default_kind != 'ALIAS' FORMAT TSVRaw"
            ),
        );
        let hash = |line: &str| {
            let (name, kind) = line.split_once('\t').unwrap();
            hash(&tick(name), kind)
        };
        let hashes: Vec<String> = columns.lines().map(hash).collect();
        assert!(!hashes.is_empty(), "{table:?} has no columns on server {server}");
        format!("cityHash64({})", hashes.join(", "))
    }

    /// Checks that the target has exactly the rows of the source, that the replicas of each shard agree, that no table, query or
    /// ephemeral node is left, and that `/status` shows all partitions as processed.
    #[track_caller]
    pub fn check(&self, task: &Task) {
        for table in &task.tables {
            self.check_rows(task, table, "1");
        }
        self.check_nothing_left(task);
        self.check_status(task);
    }

    /// Checks that the target table has exactly the rows of the source for which a condition holds.
    #[track_caller]
    pub fn check_rows(&self, task: &Task, table: &Table, condition: &str) {
        let (sources, targets) = (self.readers(&task.source), self.readers(&task.target));
        let row = self.row_hash(sources[0], &table.source);
        let wanted = self.digest(&sources, &row, &format!("{} WHERE {condition}", full(&table.source)));
        let found = self.digest(&targets, &row, &full(&table.target));
        assert_eq!(found, wanted, "rows of {}: found on the target and wanted", table.name);
        self.check_replicas(task, table);
    }

    /// Checks that all live replicas of each target shard hold the same rows.
    #[track_caller]
    pub fn check_replicas(&self, task: &Task, table: &Table) {
        for (number, shard) in task.target.shards.iter().enumerate() {
            let live: Vec<usize> = shard.replicas.iter().filter_map(|host| self.live(host)).collect();
            let row = self.row_hash(live[0], &table.target);
            let digests: Vec<Digest> =
                live.iter().map(|&server| self.digest(&[server], &row, &full(&table.target))).collect();
            assert!(digests.iter().all(|digest| *digest == digests[0]), "replicas of shard {number}: {digests:?}");
        }
    }

    /// Checks that the copier has left no table, no query and no ephemeral node.
    #[track_caller]
    pub fn check_nothing_left(&self, task: &Task) {
        self.check_no_tables(task);
        self.wait_for_sessions_to_expire(task);
    }

    /// Waits until no worker has a session or a claim. The session of a killed worker lives on until its timeout.
    #[track_caller]
    pub fn wait_for_sessions_to_expire(&self, task: &Task) {
        for path in ["claims", "task_active_workers"] {
            let path = format!("{}/{path}", task.path);
            self.eventually(&format!("{path} is empty"), || match self.children(&path) {
                Some(names) if !names.is_empty() => Err(format!("{names:?}")),
                _ => Ok(()),
            });
        }
    }

    /// Checks that `run` and `check` refuse a task with this exit code and create nothing. `expected`: for each table job its name
    /// and words that stand with it in one line.
    #[track_caller]
    pub fn refuses(&self, task: &Task, code: i32, expected: &[(&str, &[&str])]) {
        let run = self.run(task).with(code);
        let check = self.launch(task).verb("check").run().with(code);
        for (output, verb) in [(&run.stderr, "run"), (&check.stdout, "check")] {
            for (name, words) in expected {
                let matches = |line: &&str| line.contains(name) && words.iter().all(|word| line.contains(word));
                assert!(
                    output.lines().any(|line| matches(&line)),
                    "{verb}: no line with {name} and {words:?}:\n{output}"
                );
            }
        }
        assert_eq!(self.children(&task.path), None, "{} was made in ZooKeeper", task.path);
        self.check_no_database();
    }

    /// Fails if the target database exists on a server that is running.
    #[track_caller]
    pub fn check_no_database(&self) {
        for (number, server) in self.lab().servers().iter().enumerate().filter(|(_, server)| server.pid().is_some()) {
            assert!(!self.has_database(number, &self.dst), "database {} was created on {}", self.dst, server.host());
        }
    }

    /// Returns whether a server has a database of this name.
    pub fn has_database(&self, server: usize, name: &str) -> bool {
        self.ask(server, &format!("SELECT count() FROM system.databases WHERE name = {}", quote(name))) == "1"
    }

    /// Checks that the copier has left no table and no query.
    #[track_caller]
    pub fn check_no_tables(&self, task: &Task) {
        let databases: Vec<String> =
            task.tables.iter().flat_map(|table| [quote(&table.source.0), quote(&table.target.0)]).collect();
        let databases = databases.join(", ");
        let tables = format!(
            "SELECT database, name FROM system.tables WHERE database IN ({databases}) AND name LIKE 'copier\\\\_%'"
        );
        let of_ours = task.tables.iter().map(|table| format!("position(query, {}) > 0", quote(&table.target.0)));
        let of_ours = of_ours.collect::<Vec<_>>().join(" OR ");
        let queries =
            format!("SELECT query_id, query FROM system.processes WHERE query_id LIKE 'copier:%' AND ({of_ours})");
        for server in self.lab().servers().iter().filter(|server| server.pid().is_some()) {
            for (what, sql) in [("tables", &tables), ("queries", &queries)] {
                let left = server.query(sql).unwrap();
                assert!(left.is_empty(), "{what} left on {}:\n{left}", server.host());
            }
        }
    }

    /// Checks that `/status` has every table of the task, with all partitions processed.
    #[track_caller]
    pub fn check_status(&self, task: &Task) {
        let status = self.status(task);
        let tables = status.as_object().unwrap();
        assert_eq!(tables.len(), task.tables.len(), "{status}");
        for table in &task.tables {
            let counts = &tables[&table.name];
            assert_eq!(counts["all_partitions_count"], counts["processed_partitions_count"], "{status}");
            assert!(counts["all_partitions_count"].is_u64(), "{status}");
        }
    }

    /// Checks that `/status` has exactly these tables with these numbers of partitions, all processed.
    #[track_caller]
    pub fn check_partitions(&self, task: &Task, expected: &[(&str, u64)]) {
        let entry = |&(name, count): &(&str, u64)| {
            let counts = json!({ "all_partitions_count": count, "processed_partitions_count": count });
            (name.to_owned(), counts)
        };
        let expected: BTreeMap<String, Value> = expected.iter().map(entry).collect();
        assert_eq!(self.status(task), json!(expected));
    }

    /// The task's `/status`.
    #[track_caller]
    pub fn status(&self, task: &Task) -> Value {
        let text = self.node(&format!("{}/status", task.path)).expect("/status is there");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// Returns the identity of a task, which is part of the names of its tables and statements.
    pub fn task_id(&self, task: &Task) -> String {
        let record = self.node(&format!("{}/task", task.path)).expect("the task is recorded");
        let record: Value = serde_json::from_str(&record).unwrap();
        record["id"].as_str().expect("it has an identity").to_owned()
    }

    /// The records of the pieces of a task's first table.
    #[track_caller]
    pub fn pieces(&self, task: &Task) -> Vec<Value> {
        let groups = (0..).map_while(|group| self.node(&format!("{}/pieces/0.{group}", task.path)));
        let groups =
            groups.map(|text| serde_json::from_str::<Vec<Value>>(&text).unwrap_or_else(|e| panic!("{e}: {text}")));
        let pieces: Vec<Value> = groups.flatten().collect();
        assert!(!pieces.is_empty(), "the task is planned");
        pieces
    }

    /// The names of the children of a ZooKeeper node; `None` when there is no such node.
    pub fn children(&self, path: &str) -> Option<Vec<String>> {
        let sql = format!("SELECT name FROM system.zookeeper WHERE path = {} FORMAT TSVRaw", quote(path));
        match self.any_live().query(&sql) {
            // Modern servers answer the same for a node without children and for none.
            Ok(names) if names.is_empty() && !self.is_node(path) => None,
            Ok(names) => Some(names.lines().map(str::to_owned).collect()),
            Err(e) if e.to_string().contains("No node") || e.to_string().contains("no node") => None,
            Err(e) => panic!("{e}"),
        }
    }

    /// Returns whether a ZooKeeper node exists.
    fn is_node(&self, path: &str) -> bool {
        let Some((parent, name)) = path.rsplit_once('/') else { return true };
        let parent = quote(if parent.is_empty() { "/" } else { parent });
        let sql = format!("SELECT count() FROM system.zookeeper WHERE path = {parent} AND name = {}", quote(name));
        self.any_live().value(&sql).is_ok_and(|count| count == "1")
    }

    /// The content of a ZooKeeper node; `None` when there is no such node.
    pub fn node(&self, path: &str) -> Option<String> {
        let (parent, name) = path.rsplit_once('/').unwrap();
        if !self.children(parent)?.iter().any(|child| child == name) {
            return None;
        }
        let (parent, name) = (quote(parent), quote(name));
        let sql = format!("SELECT value FROM system.zookeeper WHERE path = {parent} AND name = {name} FORMAT TSVRaw");
        Some(self.any_live().value(&sql).unwrap())
    }

    /// One live replica of each shard.
    pub fn readers(&self, cluster: &Cluster) -> Vec<usize> {
        let reader = |shard: &lab::Shard| shard.replicas.iter().find_map(|host| self.live(host)).unwrap();
        cluster.shards.iter().map(reader).collect()
    }

    fn live(&self, host: &str) -> Option<usize> {
        self.lab().servers().iter().position(|server| server.host() == host && server.pid().is_some())
    }

    fn any_live(&self) -> &lab::ClickHouse {
        self.lab().servers().iter().find(|server| server.pid().is_some()).unwrap()
    }
}

/// A hash of a value that is the same for equal values and never NULL.
fn hash(value: &str, kind: &str) -> String {
    if let Some(inner) = kind.strip_prefix("Nullable(").and_then(|rest| rest.strip_suffix(')')) {
        return format!("isNull({value}), ifNull({}, toUInt64(0))", hash(value, inner));
    }
    if let Some(inner) = kind.strip_prefix("Array(").and_then(|rest| rest.strip_suffix(')')) {
        if inner.starts_with("Nullable(") {
            return format!("cityHash64(arrayMap(x -> cityHash64({}), {value}))", hash("x", inner));
        }
        return format!("cityHash64({value})");
    }
    if kind == "UUID" || kind.starts_with("Decimal") {
        return format!("cityHash64(reinterpretAsString({value}))");
    }
    format!("cityHash64({value})")
}
