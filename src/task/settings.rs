//! `<settings>`, `<settings_pull>`, `<settings_push>`: settings of ClickHouse for our statements.

use std::collections::BTreeMap;

use super::elements::{Element, ElementPath};
use super::fault::{Notice, Problem};
use super::walk::Scope;
use crate::model::lay_over;

/// Settings of ClickHouse by name, as written. The server decides which it knows and accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `<settings>`: for statements that read and write.
    pub(crate) common: BTreeMap<String, String>,
    /// `<settings_pull>`: for statements that read from the source. They override `common`.
    pub(crate) pull: BTreeMap<String, String>,
    /// `<settings_push>`: for statements that write to the target. They override `common`.
    pub push: BTreeMap<String, String>,
    /// `readonly` of `<settings_pull>` (or of `<settings>`): the source must not be changed. It is not sent as a
    /// setting, because a `push` is an `INSERT` that runs on the source and changes nothing there.
    pub pull_readonly: bool,
}

impl Settings {
    /// Returns the settings of a statement that reads from the source.
    pub fn for_pull(&self) -> BTreeMap<String, String> {
        overlaid(&self.common, &self.pull)
    }

    /// Returns the settings of a statement that writes to the target.
    pub fn for_push(&self) -> BTreeMap<String, String> {
        overlaid(&self.common, &self.push)
    }
}

fn overlaid(under: &BTreeMap<String, String>, over: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = under.clone();
    lay_over(&mut all, over.clone());
    all
}

pub(super) fn read(root: &Scope<'_>) -> Settings {
    let (common, common_readonly) = section(root, "settings");
    let (pull, pull_readonly) = section(root, "settings_pull");
    let (push, push_readonly) = section(root, "settings_push");
    if let Some((scope, true)) = push_readonly {
        scope.warn(Notice::ReadonlyPush);
    }
    let pull_readonly = pull_readonly.or(common_readonly).is_some_and(|(_, readonly)| readonly);
    Settings { common, pull, push, pull_readonly }
}

type Readonly<'c> = Option<(Scope<'c>, bool)>;

/// Returns a section's settings without `readonly`, which has a meaning of its own.
fn section<'c>(root: &Scope<'c>, name: &str) -> (BTreeMap<String, String>, Readonly<'c>) {
    let Some(section) = root.child(name) else { return (BTreeMap::new(), None) };
    section.attributes(&[]);
    section.no_text();
    let mut settings = BTreeMap::new();
    for setting in section.children() {
        // If a setting is written twice, the first one counts; the path of the second has a number.
        if settings.contains_key(setting.name()) || setting.name() == "readonly" {
            continue;
        }
        if let Some(place) = belongs_elsewhere(setting.name()) {
            setting.fault(Problem::Misplaced(place));
            continue;
        }
        if let Some(text) = section.text(setting.name()) {
            settings.insert(setting.name().to_owned(), text.trimmed().to_owned());
        }
    }
    let readonly = section.child("readonly").and_then(|scope| {
        let readonly = scope.own_text()?.boolean()?;
        Some((scope, readonly))
    });
    (settings, readonly)
}

/// Returns where an element of a task belongs if it is written as a setting. No setting of ClickHouse has such a
/// name.
fn belongs_elsewhere(name: &str) -> Option<&'static str> {
    let knows = |place| Element::names(place).contains(&name);
    match (knows(ElementPath::Root), knows(ElementPath::Table)) {
        (true, true) => Some("at the root, or in a table job"),
        (true, false) => Some("at the root"),
        (false, true) => Some("in a table job, below <tables>"),
        (false, false) => None,
    }
}
