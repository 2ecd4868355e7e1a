//! Ours alone: where the time goes.

use std::fs;

use lab::ClickHouse;

use crate::Outcome;
use crate::arguments::Arguments;
use crate::case::Case;
use crate::copier::Maker;
use crate::ground::Ground;
use crate::usage::medians;

/// So much of a statement is shown, and so many kinds of statements.
const SHOWN: usize = 110;
const KINDS: usize = 12;

/// Runs ours and prints medians, the statements of the last run by kind, and what its first worker said.
pub fn profile(case: &'static Case, arguments: &Arguments) -> Outcome<()> {
    let mut ground = Ground::prepare(case, arguments, true)?;
    let mut runs = Vec::new();
    let mut begun = Vec::new();
    for _ in 0..arguments.runs() {
        begun = clocks(ground.all())?;
        runs.push(ground.run(Maker::Ours, arguments.workers, "")?);
    }
    let usage = medians(&runs);
    let [source, target, workers, zookeeper] = usage.cpu.parts();
    println!("case {}, {} rows, medians of {} runs", case.name, ground.rows(), runs.len());
    println!(
        "{:.2} s; processor {:.2} s: source {source:.2}, target {target:.2}, workers {workers:.2}, ZooKeeper {zookeeper:.2}; \
         {:.1} MiB; {} parts",
        usage.wall,
        usage.cpu.total(),
        usage.memory as f64 / f64::from(1 << 20),
        usage.parts
    );
    let servers = ground.all();
    for (number, (server, begun)) in servers.iter().zip(&begun).enumerate() {
        let role = if number < case.sources { "source" } else { "target" };
        println!("\n{role} {}: statements of the last run by the time they took", server.host());
        print!("{}", statements(server, begun)?);
    }
    println!("\nwhat the worker said in the last run:");
    print!("{}", fs::read_to_string(ground.last_run().join("worker-0/said"))?);
    Ok(())
}

fn clocks(servers: &[ClickHouse]) -> Outcome<Vec<String>> {
    servers.iter().map(|server| Ok(server.value("SELECT toUInt32(now())")?)).collect()
}

/// Kinds of statements: names of ours and numbers are left out. `query_log` has what other servers and the benchmark itself
/// have asked too; its comparison of the rows is not shown.
fn statements(server: &ClickHouse, begun: &str) -> Outcome<String> {
    server.query("SYSTEM FLUSH LOGS")?;
    let kind = format!(
        "substring(replaceRegexpAll(replaceRegexpAll(query, 'copier_[0-9a-zA-Z_]+', 'copier_#'), '[0-9]+|\\\\s+', ' '), 1, {SHOWN})"
    );
    let answer = server.query(&format!(
        "SELECT round(sum(query_duration_ms) / 1000, 2) AS seconds, count(), sum(read_rows), \
         formatReadableSize(max(memory_usage)), {kind} AS kind FROM system.query_log \
         WHERE type = 2 AND toUInt32(event_time) >= {begun} AND NOT match(query, 'AS month|system.merges|FLUSH LOGS') \
         GROUP BY kind ORDER BY seconds DESC LIMIT {KINDS} FORMAT TSVRaw"
    ))?;
    let mut text = format!("{:>8} {:>6} {:>12} {:>12}\n", "seconds", "times", "rows read", "memory");
    for line in answer.lines() {
        let fields: Vec<&str> = line.splitn(5, '\t').collect();
        if let [seconds, times, rows, memory, kind] = fields[..] {
            text += &format!("{seconds:>8} {times:>6} {rows:>12} {memory:>12}  {kind}\n");
        }
    }
    Ok(text)
}
