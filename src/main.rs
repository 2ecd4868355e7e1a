//! Calls the command line interface of the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    clickhouse_copier::cli::main(std::env::args_os()).into()
}
