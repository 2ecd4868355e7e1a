//! Reads files of a launch: task files and configurations.

use std::fs;
use std::path::Path;

use super::super::args::config_files;
use super::super::{Exit, Failure};
use crate::task::{KeeperConfig, SystemSecrets, TaskText};

pub(crate) fn keeper_config(file: &Path) -> Result<KeeperConfig, Failure> {
    let texts = config_files::read(file)?;
    if let [_, pieces @ ..] = texts.as_slice()
        && !pieces.is_empty()
    {
        let list: Vec<&str> = pieces.iter().map(|text| text.path.as_str()).collect();
        tracing::info!("{} is merged with {}", name(file), list.join(", "));
    }
    let (config, warnings) =
        KeeperConfig::of(&texts, &SystemSecrets).map_err(|faults| Failure::new(Exit::BadInput, faults))?;
    for warning in warnings {
        tracing::warn!("{}", warning.in_file(&name(file)));
    }
    Ok(config)
}

pub(crate) fn text(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file)
        .map_err(|error| Failure::new(Exit::BadInput, format!("cannot read {}: {error}", file.display())))
}

/// Reads the text of a task file.
pub(crate) fn task_text(file: &Path) -> Result<TaskText, Failure> {
    Ok(TaskText::new(text(file)?, name(file)))
}

pub(crate) fn name(file: &Path) -> String {
    file.display().to_string()
}
