//! The nodes of a task in the coordinator, while a small copy runs over servers in memory; and what it makes on servers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use clickhouse_copier::client::memory::MemoryServerClient;
use clickhouse_copier::coordinator::{MemoryCoordinator, Stored};
use clickhouse_copier::model::Node;
use clickhouse_copier::worker::ending::Ending;
use serde_json::Value;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::sleep;

use super::run::{HOSTS, copy, insert, servers};
use super::{check, json};

const PATH: &str = "/copy/hits";
/// If nothing has changed for so many steps, the worker waits for the clock.
const STEPS: u64 = 100;

/// All paths and contents that existed during a copy, and the tree at some instants.
#[derive(Default)]
struct Seen {
    /// The identity of the task.
    id: String,
    /// Numbers of commits and sessions: if they change, the tree may have changed.
    commits: (u64, usize),
    nodes: BTreeSet<String>,
    tables: BTreeSet<String>,
    statements: BTreeSet<String>,
    created: Option<BTreeMap<String, Stored>>,
    planned: Option<BTreeMap<String, Stored>>,
    working: Option<BTreeMap<String, Stored>>,
    ended: BTreeMap<String, Stored>,
}

fn record(tree: &BTreeMap<String, Stored>) -> Option<Value> {
    serde_json::from_slice(&tree.get(&format!("{PATH}/task"))?.data).ok()
}

/// Returns a text with the random identity of the task masked.
fn masked(text: &str, id: &str) -> String {
    if id.is_empty() { text.to_owned() } else { text.replace(id, "(task)") }
}

/// Returns the paths below the task, the ephemeral ones marked.
fn paths(tree: &BTreeMap<String, Stored>) -> Vec<String> {
    let marked = |(path, stored): (&String, &Stored)| {
        let mark = if stored.ephemeral_owner.is_some() { " (ephemeral)" } else { "" };
        format!("{path}{mark}")
    };
    tree.iter().filter(|(path, _)| path.starts_with(PATH)).map(marked).collect()
}

impl Seen {
    fn look(&mut self, coordinator: &MemoryCoordinator, servers: &MemoryServerClient) {
        let now = (coordinator.commits(), coordinator.sessions().len());
        if self.commits != now {
            self.commits = now;
            self.look_at_nodes(coordinator.tree());
        }
        for node in HOSTS.map(Node::new) {
            let tables = servers.tables(&node).into_iter().map(|name| masked(&name.to_string(), &self.id));
            self.tables.extend(tables);
            self.statements.extend(servers.statements(&node).iter().map(|statement| masked(statement, &self.id)));
        }
    }

    fn look_at_nodes(&mut self, tree: BTreeMap<String, Stored>) {
        self.nodes.extend(paths(&tree));
        let Some(record) = record(&tree) else { return };
        self.id = record["id"].as_str().unwrap_or_default().to_owned();
        if record["planned"] == false {
            self.created.get_or_insert_with(|| tree.clone());
        } else {
            self.planned.get_or_insert_with(|| tree.clone());
        }
        if tree.keys().any(|path| path.contains("/claims/t0-b")) {
            self.working.get_or_insert_with(|| tree.clone());
        }
        self.ended = tree;
    }
}

/// Runs a copy and reads the tree after each step.
async fn watched(coordinator: &MemoryCoordinator, servers: &MemoryServerClient, incremental: bool) -> Seen {
    let mut seen = Seen::default();
    let work = spawn_local(copy(Arc::new(coordinator.clone()), servers.clone(), PATH, incremental));
    let (mut steps, mut before) = (0, (0, 0));
    while !work.is_finished() {
        seen.look(coordinator, servers);
        yield_now().await;
        let now = (coordinator.commits(), servers.changes());
        steps = if now == before { steps + 1 } else { 0 };
        before = now;
        // The paused clock goes on only while nobody is ready to work.
        if steps == STEPS {
            steps = 0;
            sleep(Duration::from_millis(50)).await;
        }
    }
    seen.look(coordinator, servers);
    assert_eq!(work.await.expect("the worker does not panic").expect("the copy succeeds"), Ending::Finished);
    seen
}

/// Both passes of a task, run once for all tests.
static PASSES: LazyLock<(Seen, Seen)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), async {
        let (coordinator, servers) = (MemoryCoordinator::new(), servers().await);
        let first = watched(&coordinator, &servers, false).await;
        insert(&servers, 90..95);
        let second = watched(&coordinator, &servers, true).await;
        (first, second)
    })
});

fn lines(all: &BTreeSet<String>) -> String {
    all.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}

fn list(tree: Option<&BTreeMap<String, Stored>>) -> String {
    tree.map(paths).expect("the instant was seen").join("\n")
}

/// Returns what the nodes hold, as it is stored: a plan without the head of its chunk.
fn contents(tree: &BTreeMap<String, Stored>) -> String {
    let id = record(tree).and_then(|record| record["id"].as_str().map(str::to_owned)).unwrap_or_default();
    let mut contents = BTreeMap::new();
    for (path, stored) in tree.iter().filter(|(path, _)| path.starts_with(PATH)) {
        let text = masked(&String::from_utf8_lossy(&stored.data), &id);
        let (head, body) = match text.split_once('\n') {
            Some((head, body)) if head.bytes().all(|byte| byte.is_ascii_digit()) => (Some(head.to_owned()), body),
            _ => (None, text.as_str()),
        };
        let value = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body.lines().next().unwrap_or_default()));
        let key = head.map_or(path.clone(), |head| format!("{path} after the head {head}"));
        contents.insert(key, without_times(value));
    }
    json(&contents)
}

/// Times are by the clock of the machine.
fn without_times(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| match name.as_str() {
                    "ms" | "millis" | "began" | "verifying" | "gathering" if value.is_number() => {
                        (name, Value::from("(time)"))
                    }
                    "b" if value.as_u64().is_some_and(|moment| moment > 1_000_000_000_000) => {
                        (name, Value::from("(time)"))
                    }
                    _ => (name, without_times(value)),
                })
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.into_iter().map(without_times).collect()),
        other => other,
    }
}

#[test]
fn coordinator_nodes_of_a_task_keep_their_paths() {
    let (first, second) = &*PASSES;
    check("paths-created.txt", &list(first.created.as_ref()));
    check("paths-planned.txt", &list(first.planned.as_ref()));
    check("paths-working.txt", &list(first.working.as_ref()));
    check("paths-ended.txt", &list(Some(&first.ended)));
    check("paths-ever.txt", &lines(&first.nodes));
    check("paths-second-pass-ever.txt", &lines(&second.nodes));
    check("paths-second-pass-ended.txt", &list(Some(&second.ended)));
}

#[test]
fn coordinator_nodes_of_a_task_keep_their_contents() {
    let (first, second) = &*PASSES;
    check("paths-contents-planned.json", &contents(first.planned.as_ref().expect("the instant was seen")));
    check("paths-contents-ended.json", &contents(&first.ended));
    check("paths-contents-second-pass.json", &contents(&second.ended));
}

#[test]
fn tables_and_statements_on_servers_keep_their_names() {
    let (first, _) = &*PASSES;
    check("paths-tables.txt", &lines(&first.tables));
    // The statements depend on which transfer is the fastest.
    let form = |id: &String| {
        let (task, rest) = id.rsplit_once(')').unwrap_or(("", id));
        format!("{task}){}", rest.replace(|c: char| c.is_ascii_digit(), "0"))
    };
    check("paths-statements.txt", &lines(&first.statements.iter().map(form).collect()));
}
