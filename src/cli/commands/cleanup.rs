//! `cleanup`: lists what a dead task left, removes it on request, and returns the exit code.

use super::super::args::address::{Coordination, clients_of, own};
use super::super::args::flags::LogFormat;
use super::super::args::options::CleanupOptions;
use super::super::exit::{chain, failure};
use super::super::output::shell_word::shell_word;
use super::super::output::{print, print_object, say};
use super::super::{Exit, Failure, Interrupt, PROGRAM};
use crate::cli::args::input::{name, task_text};
use crate::model::counted;
use crate::operations::cleanup::{Cleaner, Findings, Removal, Request, Standing};
use crate::planning::errors::RunError;
use crate::report::leftovers::CleanupReport;

/// Lists the tables and statements that a dead task left, and removes them on request.
pub(crate) async fn cleanup(options: CleanupOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let clients = clients_of(&options.address)?;
    let description = options.task_file.as_deref().map(task_text).transpose()?;
    let request = Request {
        client: clients.client,
        coordinator: clients.coordinator,
        secrets: options.address.secrets(own(&description)),
        task_path: options.address.task_path().to_owned(),
        description,
        task_id: options.task_id.clone(),
        remove: options.remove,
        host: gethostname::gethostname().to_string_lossy().into_owned(),
    };
    let mut cleaner = Cleaner::open(request).await.map_err(failure)?;
    let outcome = tokio::select! {
        outcome = list_and_remove(&mut cleaner, &options, &interrupt) => outcome.map_err(|error| {
            if error.is_session_lost() {
                tracing::warn!("the session was lost on the way; the same command goes on where this one stopped");
            }
            failure(error)
        }),
        () = interrupt.stop() => Ok(None),
    };
    cleaner.close().await;
    let Some(cleaned) = outcome? else { return Ok(Exit::Interrupted) };
    match options.format {
        LogFormat::Text => print(&cleaned.conclusion(&options))?,
        LogFormat::Json => {
            let report = CleanupReport::of(&cleaned.found, cleaned.removal.as_ref(), cleaned.forgotten);
            print_object(&report)?;
        }
    }
    Ok(cleaned.exit())
}

/// The findings and what was done about them.
struct Cleaned {
    found: Findings,
    removal: Option<Removal>,
    forgotten: bool,
}

async fn list_and_remove(
    cleaner: &mut Cleaner,
    options: &CleanupOptions,
    interrupt: &Interrupt,
) -> Result<Option<Cleaned>, RunError> {
    let found = tokio::select! {
        found = cleaner.find() => found?,
        () = interrupt.finish() => return Ok(None),
    };
    // The list is shown before anything is removed. If it cannot be shown, nothing is removed.
    show(options, found.to_string().trim_end())?;
    let mut cleaned = Cleaned { found, removal: None, forgotten: false };
    if !options.remove {
        return Ok(Some(cleaned));
    }
    let removal = cleaner.remove(&cleaned.found, interrupt).await?;
    if !removal.interrupted {
        show(options, removal.to_string().trim_end())?;
        if removal.given_up > 0 {
            let line =
                format!("{} will be copied again when the task is run again.", counted(removal.given_up, "batch"));
            show(options, &line)?;
        }
    }
    cleaned.removal = Some(removal);
    if options.forget && cleaned.is_complete() {
        cleaner.forget().await?;
        cleaned.forgotten = true;
    }
    Ok(Some(cleaned))
}

fn show(options: &CleanupOptions, line: &str) -> Result<(), RunError> {
    say(options.format, line).map_err(|error| RunError::servers(chain(&error)))
}

impl Cleaned {
    fn is_complete(&self) -> bool {
        self.removal.as_ref().is_some_and(|removal| self.found.are_gone(removal))
    }

    fn exit(&self) -> Exit {
        match &self.removal {
            None if self.found.silent.is_empty() => Exit::Done,
            Some(removal) if removal.interrupted => Exit::Interrupted,
            Some(_) if self.is_complete() => Exit::Done,
            _ => Exit::Partial,
        }
    }

    /// Returns the last text for the user.
    fn conclusion(&self, options: &CleanupOptions) -> String {
        let Some(removal) = &self.removal else { return advice(&self.found, options) };
        if removal.interrupted {
            return "Interrupted: only some of it is removed. The same command goes on.".to_owned();
        }
        if !self.is_complete() {
            let stays = if options.forget { "; the task is not forgotten before" } else { "" };
            return format!("Not everything is removed{stays}: the same command tries again.");
        }
        if !self.forgotten {
            return standing(&self.found).to_owned();
        }
        let gone = format!("The task is gone from {}.", options.address.task_path());
        match self.found.standing {
            Standing::Unfinished { done, begun, .. } if done + begun > 0 => {
                format!("{gone}\nWhat it had published stays in the target tables: a new task finds rows there.")
            }
            _ => gone,
        }
    }
}

/// Returns the advice that follows the list.
fn advice(found: &Findings, options: &CleanupOptions) -> String {
    let removable = found.removable().count();
    if !found.holders.is_empty() {
        let nothing = "Nothing can be removed while somebody is at work.";
        return match options.address.coordinator {
            Coordination::Keeper(_) => format!(
                "{nothing} A worker that was killed counts as alive until its session ends (session_timeout_ms)."
            ),
            Coordination::Local(_) => nothing.to_owned(),
        };
    }
    let removing = format!("  {}", command(options, "--remove"));
    match (removable, found.standing) {
        (0, Standing::Absent) => {
            "Nothing was looked for but tables of others: there is no task here. If one of those tasks is \
                                  dead, --task-id says so."
                .to_owned()
        }
        (0, Standing::Named) => "Nothing of the task is left on the servers that answered.".to_owned(),
        (0, _) => format!("Nothing of the task is left on the servers that answered. {}", standing(found)),
        (count, Standing::Named) => format!("{} may go. To remove them:\n{removing}", counted(count, "thing")),
        (count, _) => format!("{} may go. To remove them:\n{removing}\n{}", counted(count, "thing"), standing(found)),
    }
}

/// Returns what becomes of the task in the coordinator.
fn standing(found: &Findings) -> &'static str {
    match found.standing {
        Standing::Absent if found.has_leftovers_of_unknown_tasks() => {
            "There is no task here. Tables of unknown tasks are on the servers: --task-id says whose may go."
        }
        Standing::Absent => "There is no task here, and nothing of one is on the servers that answered.",
        Standing::Named => "",
        Standing::HalfForgotten => "The task is half removed from the coordinator: --remove --forget removes the rest.",
        Standing::Finished => "The task is finished; its record stays: --remove --forget removes it.",
        Standing::NotPlanned | Standing::Unfinished { .. } => {
            "The task stays in the coordinator and can be run again: it goes on where it stands. --remove --forget removes it \
             there too."
        }
    }
}

fn command(options: &CleanupOptions, action: &str) -> String {
    let mut line = format!("{PROGRAM} cleanup {}", options.address.flags());
    if let Some(file) = &options.task_file {
        line += &format!(" --task-file {}", shell_word(&name(file)));
    }
    if let Some(id) = &options.task_id {
        line += &format!(" --task-id {}", id.0);
    }
    format!("{line} {action}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Cleaned, Findings, Removal, Standing};

    fn cleaned(silent: &[&str], removal: Option<Removal>) -> Cleaned {
        let found = Findings {
            id: None,
            task_path: "/task".into(),
            standing: Standing::Absent,
            holders: Vec::new(),
            leftovers: Vec::new(),
            silent: silent.iter().map(|line| (*line).to_owned()).collect(),
            neighbours: BTreeMap::new(),
        };
        Cleaned { found, removal, forgotten: false }
    }

    #[test]
    fn each_result_of_a_cleanup_has_its_exit_code() {
        let failed = Removal { failed: vec!["that one".into()], ..Removal::default() };
        let interrupted = Removal { interrupted: true, ..Removal::default() };
        for (silent, removal, code) in [
            (&[][..], None, 0),
            (&["no answer"], None, 3),
            (&[], Some(Removal::default()), 0),
            (&["no answer"], Some(Removal::default()), 3),
            (&[], Some(failed), 3),
            (&[], Some(interrupted), 130),
        ] {
            let cleaned = cleaned(silent, removal);
            assert_eq!(cleaned.exit() as u8, code, "{silent:?} {:?}", cleaned.removal);
        }
    }
}
