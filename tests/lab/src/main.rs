//! `lab up 3`: servers to try things by hand. Prints their addresses and runs until its standard input ends.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use lab::{Lab, LabSpec, Release};

const USAGE: &str = "usage: lab up [NUMBER] [--modern NUMBER] [--between NUMBER] [--no-zookeeper]
Starts NUMBER ClickHouse servers (default: 1), NUMBER nodes of 26.9 and of 24.5 (default: 0) and a ZooKeeper, prints their addresses,
ends them when its standard input ends (Ctrl-D) or it is killed in whatever way.";

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
    let mut spec = LabSpec::default();
    let mut rest = rest.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--no-zookeeper" => spec.zookeeper = false,
            "--modern" => nodes(&mut spec, Release::V26_9, rest.next()?)?,
            "--between" => nodes(&mut spec, Release::V24_5, rest.next()?)?,
            number => spec.clickhouse = number.parse().ok()?,
        }
    }
    Some(spec)
}

fn nodes(spec: &mut LabSpec, release: Release, number: &str) -> Option<()> {
    spec.modern.extend(std::iter::repeat_n(release, number.parse().ok()?));
    Some(())
}

fn up(spec: LabSpec) -> Result<(), Box<dyn std::error::Error>> {
    let (zookeeper, modern) = (spec.zookeeper, spec.modern.len());
    let lab = Lab::start(spec)?;
    let mut out = io::stdout().lock();
    writeln!(out, "folder {}", lab.dir().display())?;
    if zookeeper {
        writeln!(out, "zookeeper {} pid {}", lab.zookeeper().hosts(), lab.zookeeper().pid().unwrap_or_default())?;
    }
    for server in lab.servers() {
        writeln!(out, "clickhouse {} pid {}", server.host(), server.pid().unwrap_or_default())?;
    }
    for node in (0..modern).map(|index| lab.modern(index)) {
        writeln!(out, "modern {} pid {}", node.host(), node.pid().unwrap_or_default())?;
    }
    writeln!(out, "ready")?;
    out.flush()?;
    io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}
