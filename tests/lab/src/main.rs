//! `lab up 25.8:3`: servers to try things by hand. Prints their addresses and runs until its standard input ends.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use lab::{Lab, LabSpec, Release};

const USAGE: &str = "usage: lab up [RELEASE[:NUMBER]]... [--no-zookeeper] [--query-log] [--set NAME=VALUE]...
Starts ClickHouse servers and a ZooKeeper, prints their addresses, and ends them when its standard input ends (Ctrl-D) or it
is killed in whatever way. RELEASE is 18.16, 24.8, 25.8 or 26.9; the default is one server of 25.8.
--query-log keeps system.query_log; --set writes an element into the servers' configuration, such as max_connections=60.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(spec) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match up(spec) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let causes = std::iter::successors(e.source(), |e| e.source()).map(|e| format!(": {e}"));
            eprintln!("lab: {e}{}", causes.collect::<String>());
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Option<LabSpec> {
    let (verb, rest) = arguments.split_first()?;
    if verb != "up" {
        return None;
    }
    let mut servers = Vec::new();
    let (mut zookeeper, mut query_log, mut server) = (true, false, Vec::new());
    let mut rest = rest.iter();
    while let Some(argument) = rest.next() {
        if argument == "--no-zookeeper" {
            zookeeper = false;
            continue;
        }
        if argument == "--query-log" {
            query_log = true;
            continue;
        }
        if argument == "--set" {
            let (name, value) = rest.next()?.split_once('=')?;
            server.push((name.to_owned(), value.to_owned()));
            continue;
        }
        let (release, number) = argument.split_once(':').unwrap_or((argument, "1"));
        servers.extend(std::iter::repeat_n(Release::named(release)?, number.parse().ok()?));
    }
    if servers.is_empty() {
        servers.push(Release::V25_8);
    }
    Some(LabSpec { zookeeper, query_log, server, ..LabSpec::mixed(&servers) })
}

fn up(spec: LabSpec) -> Result<(), Box<dyn std::error::Error>> {
    let zookeeper = spec.zookeeper;
    let lab = Lab::start(spec)?;
    let mut out = io::stdout().lock();
    writeln!(out, "folder {}", lab.dir().display())?;
    if zookeeper {
        writeln!(out, "zookeeper {} pid {}", lab.zookeeper().hosts(), lab.zookeeper().pid().unwrap_or_default())?;
    }
    for server in lab.servers() {
        let (release, host) = (server.release().name(), server.host());
        writeln!(out, "clickhouse {release} {host} pid {}", server.pid().unwrap_or_default())?;
    }
    writeln!(out, "ready")?;
    out.flush()?;
    io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}
