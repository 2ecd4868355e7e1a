//! Verbs and flags. What the help says of them is not here.

use std::fmt::Write as _;

use clap::{Arg, Command};
use clickhouse_copier::cli;

use super::check;

fn flag(arg: &Arg) -> String {
    let mut line = match (arg.get_long(), arg.get_short()) {
        (Some(long), Some(short)) => format!("--{long} -{short}"),
        (Some(long), None) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => format!("<{}>", arg.get_id()),
    };
    for alias in arg.get_all_aliases().unwrap_or_default() {
        let _ = write!(line, " alias --{alias}");
    }
    for alias in arg.get_all_short_aliases().unwrap_or_default() {
        let _ = write!(line, " alias -{alias}");
    }
    if arg.get_action().takes_values() {
        let values = arg.get_num_args().map(|range| range.to_string()).unwrap_or_default();
        let _ = write!(line, " values {values}");
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(line, " env {}", variable.to_string_lossy());
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !defaults.is_empty() {
        let _ = write!(line, " default {}", defaults.join(" "));
    }
    let possible: Vec<String> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if !possible.is_empty() {
        let _ = write!(line, " one of {}", possible.join(" "));
    }
    let _ = write!(line, " ({:?}{})", arg.get_action(), if arg.is_required_set() { ", required" } else { "" });
    line
}

fn list(command: &Command, out: &mut String) {
    let aliases: Vec<&str> = command.get_all_aliases().collect();
    let aliases = if aliases.is_empty() { String::new() } else { format!(" (alias {})", aliases.join(", ")) };
    let _ = writeln!(out, "{}{aliases}", command.get_name());
    let mut flags: Vec<String> = command.get_arguments().map(flag).collect();
    flags.sort();
    flags.iter().for_each(|flag| {
        let _ = writeln!(out, "    {flag}");
    });
    command.get_subcommands().for_each(|verb| list(verb, out));
}

#[test]
fn verbs_and_flags_keep_their_names_values_and_defaults() {
    let mut command = cli::command();
    command.build();
    let mut out = String::new();
    list(&command, &mut out);
    check("command-line.txt", &out);
}
