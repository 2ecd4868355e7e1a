//! The settings of a table, in the SETTINGS clause of its engine.

use std::collections::BTreeSet;

use super::super::lex;
use super::Engine;
use super::clause::Clause;

impl Engine {
    /// Returns the value of a setting of the table, without quotes.
    pub(crate) fn setting(&self, name: &str) -> Option<String> {
        let all = settings(self.clause(Clause::Settings)?);
        let found = all.iter().find(|setting| setting_name(setting) == name)?;
        let value = found.split_once('=')?.1.trim();
        Some(if value.starts_with('\'') { lex::unquote(value) } else { value.to_owned() })
    }

    /// Returns the engine without the settings that a server does not know, and the names of these settings.
    pub(crate) fn with_settings_among(&self, known: &BTreeSet<String>) -> (Engine, Vec<String>) {
        let mut fitting = self.clone();
        let mut unknown = Vec::new();
        fitting.clauses.retain_mut(|(clause, text)| {
            if *clause != Clause::Settings {
                return true;
            }
            let (kept, others): (Vec<_>, Vec<_>) =
                settings(text).into_iter().partition(|setting| known.contains(setting_name(setting)));
            unknown.extend(others.iter().map(|setting| setting_name(setting).to_owned()));
            *text = kept.join(", ");
            !text.is_empty()
        });
        (fitting, unknown)
    }
}

/// Returns each `name = value` of a SETTINGS clause.
pub(super) fn settings(text: &str) -> Vec<String> {
    lex::split_commas(text).unwrap_or_default()
}

/// Returns the name of `name = value`.
pub(super) fn setting_name(setting: &str) -> &str {
    setting.split('=').next().unwrap_or_default().trim()
}
