//! `init`: writes a first task file from live servers.

use std::path::Path;

use super::super::args::address::servers;
use super::super::args::flags::LogFormat;
use super::super::args::options::InitOptions;
use super::super::exit::failure;
use super::super::output::{print, print_object};
use super::super::process::files;
use super::super::{Exit, Failure, Interrupt, PROGRAM};
use crate::model::{Secret, is_obeyed};
use crate::operations::init::{self, Servers, Side};
use crate::report::proposal::ProposalReport;
use crate::task::{SecretSource, Sketch, SystemSecrets, TaskText};

/// Asks the servers and writes the file. Creates nothing else. The first signal ends it at once.
pub(crate) async fn init(options: InitOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let http = servers(options.config.as_deref())?;
    let servers = Servers { client: http.clone(), inspector: http };
    let mut copy = options.copy;
    read_password("--from-password-env", &mut copy.from)?;
    read_password("--to-password-env", &mut copy.to)?;
    let sketch = tokio::select! {
        sketch = init::init(&servers, &copy) => sketch.map_err(failure)?,
        () = interrupt.finish() => return Ok(Exit::Interrupted),
    };
    write(&sketch, options.output.as_deref(), options.format)
}

/// Reads the password of a side from the environment variable that the side names.
pub(crate) fn read_password(flag: &str, side: &mut Side) -> Result<(), Failure> {
    let Some(variable) = &side.password_env else { return Ok(()) };
    let Some(password) = SystemSecrets.env(variable) else {
        let line = format!("{flag} {variable}: the environment variable is not set");
        return Err(Failure::new(Exit::BadInput, line));
    };
    side.node.password = Secret::new(password);
    Ok(())
}

/// Writes a task file after it is parsed as a check. An existing file is not overwritten. Only the owner may read the
/// file: text that is taken from another task may hold passwords.
pub(crate) fn write(sketch: &Sketch, output: Option<&Path>, format: LogFormat) -> Result<Exit, Failure> {
    let xml = sketch.to_xml();
    // Text that is taken from another task is written unchanged.
    let is_generated = sketch.kept.is_empty();
    if let Some((line, character)) = unwritable(&xml, is_generated || output.is_none()) {
        if output.is_none() && !is_generated && unwritable(&xml, false).is_none() {
            let why = format!(
                "a terminal would act on the character U+{:04X} on line {line} of the task file: write it to a file, by --output",
                u32::from(character)
            );
            return Err(Failure::new(Exit::Failed, why));
        }
        let why = format!(
            "a task file cannot hold the character U+{:04X}, which would stand on line {line} of the task file: {}",
            u32::from(character),
            xml.lines().nth(line - 1).unwrap_or_default().trim().escape_debug()
        );
        return Err(Failure::new(Exit::Failed, why));
    }
    let file = TaskText::new(xml, "the task file that would be written")
        .parse(&SystemSecrets)
        .map_err(|faults| Failure::new(Exit::BadInput, faults))?;
    if let Some(path) = output {
        files::make(path, &file.text, files::Readers::OwnerOnly)?;
    }
    match (format, output) {
        (LogFormat::Json, _) => {
            print_object(&ProposalReport::of(sketch, &file, output))?;
        }
        (LogFormat::Text, None) => print(file.text.trim_end())?,
        (LogFormat::Text, Some(path)) => {
            let shown = path.display();
            print(&format!("{shown} is written. What would go wrong with it: {PROGRAM} check --task-file {shown}"))?;
        }
    }
    Ok(Exit::Done)
}

/// Returns the first character that no XML document may hold, and its line. With `shown` it also finds characters that
/// a terminal obeys. Where such characters are allowed, they are written as references.
fn unwritable(xml: &str, shown: bool) -> Option<(usize, char)> {
    let is_unwritable = |c: &char| {
        (c.is_ascii_control() && !"\t\n\r\u{7f}".contains(*c))
            || "\u{fffe}\u{ffff}".contains(*c)
            || (shown && is_obeyed(*c))
    };
    xml.lines().enumerate().find_map(|(at, line)| line.chars().find(is_unwritable).map(|found| (at + 1, found)))
}

#[cfg(test)]
mod tests {
    use super::unwritable;

    #[test]
    fn control_characters_are_found_with_their_line() {
        assert_eq!(unwritable("<a>\n\t<b>\u{1b}[2J</b>\n</a>", false), Some((2, '\u{1b}')));
        assert_eq!(unwritable("<a>\r\n\tä\u{7f}</a>", false), None);
        assert_eq!(unwritable("<a>\r\n\tä\u{9b}2J</a>", true), Some((2, '\u{9b}')));
    }
}
