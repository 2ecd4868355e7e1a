//! Source version × target version × transfer: the table in README is what this test finds.
//!
//! `UPDATE_README=1 cargo test --test it matrix` writes it there.

use std::path::Path;

use lab::{ClickHouse, Cluster, Lab, Shard};

use crate::copy::BY_MONTH;
use crate::harness::{Scene, Task, scene};

const BEGIN: &str = "<!-- made by tests/it/matrix.rs -->\n";
const END: &str = "<!-- end -->\n";

/// Types that all versions have, and every kind of value that they print differently if they can.
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

pub fn cluster_of(name: &str, servers: &[&ClickHouse]) -> Cluster {
    let shard = |server: &&ClickHouse| Shard {
        weight: 1,
        internal_replication: false,
        replicas: vec![server.host().to_owned()],
    };
    Cluster { name: name.to_owned(), shards: servers.iter().map(shard).collect() }
}

/// Copies one table to two shards; what a reader of README is told of it.
fn cell(scene: &Scene, from: &ClickHouse, to: &[&ClickHouse], transfer: &str, name: &str) -> String {
    let dst = scene.database(name);
    let table = scene.table("hits").to(&dst, "hits").sharding_key("id").engine(BY_MONTH);
    let table = table.with("transfer", transfer).with("verify", "checksum");
    let task = Task::new(scene.task_path(), cluster_of("source", &[from]), cluster_of("target", to));
    let ended = scene.run(&task.with(table).at(name));
    if ended.status.code() == Some(1) && ended.stderr.contains("cannot be reached from") {
        let made = format!("SELECT count() FROM system.databases WHERE name = '{dst}'");
        assert!(to.iter().all(|server| server.value(&made).unwrap() == "0"), "{name} was refused too late");
        return "refused".to_owned();
    }
    let ended = ended.with(0).reports(&["equal, checksum too"]);
    let source = digest(&[from], &format!("{}.hits", scene.src));
    assert_eq!(digest(to, &format!("{dst}.hits")), source, "{name}");
    match transfer {
        "auto" if ended.stderr.contains("transfer: relay") => {
            ended.tells(&["transfer: relay", "since"]);
            "equal, by relay".to_owned()
        }
        "auto" if ended.stderr.contains("transfer: pull") => "equal, by pull".to_owned(),
        "auto" => "equal, by push".to_owned(),
        _ => "equal".to_owned(),
    }
}

#[test]
fn every_version_goes_to_every_other_as_readme_says() {
    let scene = scene!();
    let (between, modern) = (Lab::shared_between(), Lab::shared_modern());
    let kinds = [
        ("18.16", scene.server(0), [scene.server(1), scene.server(2)]),
        ("24.5", between.modern(0), [between.modern(0), between.modern(1)]),
        ("26.9", modern.modern(0), [modern.modern(0), modern.modern(1)]),
    ];
    for (release, source, _) in &kinds {
        assert!(source.value("SELECT version()").unwrap().starts_with(release));
        source.query(&format!("CREATE DATABASE IF NOT EXISTS {}", scene.src)).unwrap();
        source.query(&format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.src)).unwrap();
        source.query(&format!("INSERT INTO {}.hits {VALUES}", scene.src)).unwrap();
    }
    let table = format!("{}.hits", scene.src);
    for (release, source, _) in &kinds[1..] {
        assert_eq!(digest(&[kinds[0].1], &table), digest(&[source], &table), "{release} hashes these values alike");
    }
    let ways = ["push", "pull", "relay", "auto"];
    let mut table = format!(
        "| from | to | {} |\n| --- | --- | --- | --- | --- | --- |\n",
        ways.map(|way| format!("`{way}`")).join(" | ")
    );
    for (from, source, _) in &kinds {
        for (to, _, targets) in &kinds {
            let name = |way: &str| format!("{way}_{from}_{to}").replace('.', "_");
            let cells = ways.map(|way| cell(&scene, source, targets, way, &name(way)));
            table += &format!("| {from} | {to} | {} |\n", cells.join(" | "));
        }
    }
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&readme).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if std::env::var("UPDATE_README").is_ok() {
        std::fs::write(&readme, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written, table, "UPDATE_README=1 writes what was found");
}
