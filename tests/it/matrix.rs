//! Source version × target version × transfer: the table in `docs/compatibility.md` is what this test finds.
//!
//! `UPDATE_DOCS=1 cargo test --test it matrix` writes it there.

use std::path::Path;

use lab::{ClickHouse, Lab, Release};

use crate::harness::{BY_MONTH, Scene, Task, cluster_of_shards, scene};

const BEGIN: &str = "<!-- made by tests/it/matrix.rs -->\n";
const END: &str = "<!-- end -->\n";

/// Types that all releases have, with values that releases may print differently.
const COLUMNS: &str = "(d Date, id UInt64, s String, n Nullable(Int32), a Array(String), dec Decimal(18, 4), fl Float64, \
                       t DateTime('UTC'), f FixedString(3), e Enum8('a' = 1, 'b' = 2))";
const VALUES: &str = "SELECT toDate('2018-01-01') + number % 60, number, if(number % 5 = 0, 'x\\0', toString(number)), \
                      if(number % 3 = 0, NULL, toInt32(number)), [toString(number), ''], toDecimal64(number, 4) / 3, \
                      number / 7, toDateTime('2018-01-01 00:00:00', 'UTC') + number, 'ab', if(number % 2 = 0, 'a', 'b') \
                      FROM system.numbers LIMIT 5000";
const ROW: &str = "cityHash64(d, id, s, ifNull(n, toInt32(-1)), isNull(n), a, reinterpretAsString(dec), fl, t, f, e)";

fn digest(servers: &[&ClickHouse], table: &str) -> (u64, u64) {
    let ask = |server: &&ClickHouse| {
        let answer = server.value(&format!("SELECT count(), sum({ROW}) FROM {table}")).unwrap();
        let (rows, sum) = answer.split_once('\t').unwrap();
        (rows.parse::<u64>().unwrap(), sum.parse::<u64>().unwrap())
    };
    servers.iter().map(ask).fold((0, 0u64), |(rows, sum), more| (rows + more.0, sum.wrapping_add(more.1)))
}

/// Returns the cell of the table for one transfer from a server to a cluster. It copies a plain table to one shard, and a table to
/// two shards, Replicated if the release can replicate. `clone` fills one shard only.
fn cell(scene: &Scene, from: &ClickHouse, to: &[&ClickHouse; 2], transfer: &str, name: &str) -> String {
    let dst = scene.database(name);
    let one = cluster_of_shards("target", &to[..1]);
    let many = cluster_of_shards("shards", if transfer == "clone" { &to[..1] } else { to });
    let mut task = Task::new(scene.task_path(), cluster_of_shards("source", &[from]), one).at(name);
    task.targets.push(many);
    let job = |name: &str, engine: &str| {
        let table = scene.table(name).from(&scene.src, "hits").to(&dst, name).sharding_key("id").engine(engine);
        table.with("transfer", transfer).with("verify", "checksum")
    };
    let path = format!(
        "ENGINE = ReplicatedMergeTree('/{dst}/{{shard}}', '{{replica}}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)"
    );
    let second = if to[0].release().is_whole() { path.as_str() } else { BY_MONTH };
    let task = task.with(job("plain", BY_MONTH)).with(job("second", second).cluster("shards"));
    let ended = scene.run(&task);
    if ended.status.code() == Some(1) {
        let made = format!("SELECT count() FROM system.databases WHERE name = '{dst}'");
        assert!(to.iter().all(|server| server.value(&made).unwrap() == "0"), "{name} was refused too late");
        return refusal(&ended.stderr, &[from, to[0], to[1]]);
    }
    let ended = ended.with(0).reports(&["equal, checksum too"]);
    let source = digest(&[from], &format!("{}.hits", scene.src));
    let second = if transfer == "clone" { &to[..1] } else { &to[..] };
    for (servers, table) in [(&to[..1], "plain"), (second, "second")] {
        assert_eq!(digest(servers, &format!("{dst}.{table}")), source, "{name}, {table}");
    }
    if transfer != "auto" {
        return "equal".to_owned();
    }
    let taken =
        ["clone", "push", "pull", "relay"].into_iter().filter(|way| ended.stderr.contains(&format!("transfer: {way}")));
    let taken: Vec<&str> = taken.collect();
    format!("equal, by {}", if taken.is_empty() { "push".to_owned() } else { taken.join(" and ") })
}

/// Returns which release refused the transfer, and its message.
fn refusal(said: &str, servers: &[&ClickHouse]) -> String {
    let reason = said.split_once(" does not work: ").unwrap_or_else(|| panic!("no way is refused: {said}")).1;
    let reason = reason.split(". Without <transfer>").next().unwrap_or(reason);
    if reason.contains("system.zookeeper") {
        return "refused: the servers have no ZooKeeper here".to_owned();
    }
    let Some((route, answer)) = reason.split_once(": code ") else {
        return format!("refused: {}", reason.split(" (").next().unwrap_or(reason));
    };
    let answer = answer.split_once(": ").map_or(answer, |(_, text)| text);
    // The message of a second server names that server.
    let (host, words) = match answer.strip_prefix("Received from ") {
        Some(rest) => rest.split_once(". DB::Exception: ").unwrap(),
        None => (route.rsplit(' ').next().unwrap(), answer),
    };
    let host = host.split(':').next().unwrap_or(host);
    let server = servers.iter().find(|server| server.host() == host);
    let release = server.unwrap_or_else(|| panic!("{host} is none of the servers: {said}")).release().name();
    let words = [". (", " in block", ". "].iter().fold(words, |words, end| words.split(end).next().unwrap_or(words));
    format!("refused by {release}: {words}")
}

/// Two servers of a release.
fn servers(release: Release) -> [&'static ClickHouse; 2] {
    [0, 1].map(|index| Lab::shared(release).clickhouse(index))
}

#[test]
fn every_release_copies_to_every_other_as_documented() {
    let scene = scene!(Release::V18_16);
    let kinds = Release::ALL.map(|release| (release.name(), servers(release)));
    for (release, [source, _]) in &kinds {
        assert!(source.value("SELECT version()").unwrap().starts_with(release));
        source.query(&format!("CREATE DATABASE IF NOT EXISTS {}", scene.src)).unwrap();
        source.query(&format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.src)).unwrap();
        source.query(&format!("INSERT INTO {}.hits {VALUES}", scene.src)).unwrap();
    }
    let table = format!("{}.hits", scene.src);
    for (release, [source, _]) in &kinds[1..] {
        assert_eq!(digest(&[kinds[0].1[0]], &table), digest(&[source], &table), "{release} hashes these values alike");
    }
    let ways = ["push", "pull", "relay", "clone", "auto"];
    let mut table = format!(
        "| from | to | {} |\n| --- | --- | --- | --- | --- | --- | --- |\n",
        ways.map(|way| format!("`{way}`")).join(" | ")
    );
    for (from, [source, _]) in &kinds {
        for (to, targets) in &kinds {
            let name = |way: &str| format!("{way}_{from}_{to}").replace('.', "_");
            // The first target is another server than the source, also if both are of one release.
            let targets = [targets[1], targets[0]];
            let cells = ways.map(|way| cell(&scene, source, &targets, way, &name(way)));
            table += &format!("| {from} | {to} | {} |\n", cells.join(" | "));
        }
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compatibility.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if std::env::var("UPDATE_DOCS").is_ok() {
        std::fs::write(&page, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written, table, "UPDATE_DOCS=1 writes what was found");
}
