//! Walks the tree of elements, tracks the path, and collects faults and warnings.

use std::cell::RefCell;

use super::configuration;
use super::elements::{Element, ElementPath};
use super::fault::{Fault, Faults, Notice, Problem, Warning};
use super::secrets::{Reference, SecretSource, Trust};
use super::xml::{self, trim};
use crate::task::fault::line_of;

/// The state of a walk.
pub(super) struct Context<'c> {
    secrets: &'c dyn SecretSource,
    /// The trust in the text, which decides about its references.
    trust: Trust,
    /// Names of the files of a merged configuration.
    files: &'c [String],
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Warning>>,
}

/// An element with its path.
#[derive(Clone)]
pub(super) struct Scope<'c> {
    pub(crate) cx: &'c Context<'c>,
    pub(crate) element: &'c xml::Element,
    pub(crate) path: String,
}

/// A text with its location.
#[derive(Clone)]
pub(super) struct Text<'c> {
    pub(crate) scope: Scope<'c>,
    /// The text as written, including blanks.
    pub(crate) raw: String,
    /// The environment variable that it came from.
    pub(crate) variable: Option<String>,
}

/// Parses a document, checks its root and lets `read` walk it. Returns all faults, or the value and the warnings.
pub(super) fn document<T>(
    file: &str,
    text: &str,
    secrets: &dyn SecretSource,
    read: impl FnOnce(&Scope<'_>) -> Option<T>,
) -> Result<(T, Vec<Warning>), Faults> {
    let whole = |path: String, line, problem| Faults::new(file, vec![Fault { path, line, file: None, problem }]);
    let root = xml::parse(text).map_err(|problem| whole(String::new(), line_of(&problem), problem))?;
    if !["clickhouse", "yandex"].contains(&root.name.as_str()) {
        return Err(whole(format!("/{}", root.name), root.line, Problem::WrongRoot));
    }
    let trust = secrets.trust(text);
    let (value, faults, warnings) = walked(&root, &[], secrets, trust, read);
    match value {
        Some(value) if faults.is_empty() => Ok((value, warnings)),
        _ => Err(Faults::new(file, faults)),
    }
}

/// Lets `read` walk a tree. `files` are those of a merged configuration; empty if `from_env` is not replaced yet.
pub(super) fn walked<T>(
    root: &xml::Element,
    files: &[String],
    secrets: &dyn SecretSource,
    trust: Trust,
    read: impl FnOnce(&Scope<'_>) -> Option<T>,
) -> (Option<T>, Vec<Fault>, Vec<Warning>) {
    let cx = Context { secrets, trust, files, faults: RefCell::default(), warnings: RefCell::default() };
    let value = read(&Scope { cx: &cx, element: root, path: format!("/{}", root.name) });
    let mut warnings = cx.warnings.into_inner();
    warnings.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    (value, cx.faults.into_inner(), warnings)
}

/// The largest number of faults, and of warnings, reported for a file.
const MOST_TOLD: usize = 1000;

impl Context<'_> {
    /// Returns whether the document is a merged configuration.
    fn is_merged(&self) -> bool {
        !self.files.is_empty()
    }

    fn file_of(&self, element: &xml::Element) -> Option<String> {
        (element.file > 0).then(|| self.files.get(element.file).cloned()).flatten()
    }

    pub(crate) fn has_faults(&self) -> bool {
        !self.faults.borrow().is_empty()
    }
}

impl<'c> Scope<'c> {
    pub(crate) fn name(&self) -> &'c str {
        &self.element.name
    }

    pub(crate) fn fault(&self, problem: Problem) {
        let file = self.cx.file_of(self.element);
        let mut faults = self.cx.faults.borrow_mut();
        if faults.len() < MOST_TOLD {
            faults.push(Fault { path: self.path.clone(), line: self.element.line, file, problem });
        }
    }

    pub(crate) fn warn(&self, notice: Notice) {
        let file = self.cx.file_of(self.element);
        let warning = Warning { path: self.path.clone(), line: self.element.line, file, notice };
        let mut warnings = self.cx.warnings.borrow_mut();
        // An element that is read twice causes one warning.
        if warnings.len() < MOST_TOLD && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// Returns all inner elements, in order. If several have the same name, their paths contain their numbers.
    pub(crate) fn children(&self) -> Vec<Scope<'c>> {
        let all = || self.element.children();
        let mut counts = std::collections::HashMap::<&str, (usize, usize)>::new();
        for child in all() {
            counts.entry(&child.name).or_default().0 += 1;
        }
        all()
            .map(|child| {
                let number = counts.get_mut(child.name.as_str()).map_or(String::new(), |(total, seen)| {
                    *seen += 1;
                    if *total > 1 { format!("[{seen}]") } else { String::new() }
                });
                let path = format!("{}/{}{number}", self.path, child.name);
                Scope { cx: self.cx, element: child, path }
            })
            .collect()
    }

    /// Returns the first element of this name; warns if there are more.
    pub(crate) fn child(&self, name: &str) -> Option<Scope<'c>> {
        let mut found = self.element.children().filter(|child| child.name == name);
        let element = found.next()?;
        let scope = Scope { cx: self.cx, element, path: format!("{}/{name}", self.path) };
        if let Some(second) = found.next() {
            scope.warn(Notice::Repeated(second.line));
        }
        Some(scope)
    }

    /// Warns about all elements that do not belong to this parent, and about text between the elements.
    pub(crate) fn only(&self, place: ElementPath) {
        self.no_text();
        self.attributes(place.attributes());
        self.known(place, &self.children());
    }

    /// Warns about children that do not belong to this parent.
    pub(crate) fn known(&self, place: ElementPath, children: &[Scope<'_>]) {
        let known = Element::names(place);
        for child in children {
            let name = child.name();
            if let Some(why) = Element::no_effect(place, name) {
                child.warn(Notice::NoEffect(why));
            } else if !known.contains(&name) {
                child.warn(Notice::Unknown(closest(name, &known)));
            }
        }
    }

    /// Warns about attributes other than these.
    pub(crate) fn attributes(&self, known: &[&str]) {
        for (name, _) in &self.element.attributes {
            let of_merging = self.cx.is_merged() && configuration::MERGING.contains(&name.as_str());
            if !known.contains(&name.as_str()) && !of_merging {
                let suggestion = closest(name, known);
                self.warn(Notice::UnknownAttribute { name: name.clone(), suggestion });
            }
        }
    }

    /// Warns about text between the elements.
    pub(crate) fn no_text(&self) {
        if !trim(&self.element.text()).is_empty() {
            self.warn(Notice::StrayText);
        }
    }

    /// Returns this element's text, from its source. `None` after a fault.
    pub(crate) fn own_text(&self) -> Option<Text<'c>> {
        self.text_beside(&["from_env"])
    }

    /// Returns [`Self::own_text`] of an element that has attributes of its own, including `from_env`.
    pub(crate) fn text_beside(&self, attributes: &[&str]) -> Option<Text<'c>> {
        self.attributes(attributes);
        if self.element.children().next().is_some() {
            self.fault(Problem::NotText);
            return None;
        }
        if self.cx.is_merged() {
            // Substitutions are replaced before. If one could not be replaced, it is already reported as a fault.
            let unfilled = configuration::SUBSTITUTIONS.iter().any(|name| self.element.attribute(name).is_some());
            let variable = self.element.variable.as_deref().map(str::to_owned);
            let raw = self.element.text();
            return (!unfilled || !trim(&raw).is_empty()).then(|| Text { scope: self.clone(), raw, variable });
        }
        let Some(variable) = self.element.attribute("from_env") else {
            return Some(Text { scope: self.clone(), raw: self.element.text(), variable: None });
        };
        if !trim(&self.element.text()).is_empty() {
            self.fault(Problem::TwoSources("from_env"));
            return None;
        }
        if !self.may_refer_to(Reference::Variable(variable)) {
            self.fault(Problem::VariableNotAllowed(variable.to_owned()));
            return None;
        }
        match self.cx.secrets.env(variable) {
            Some(raw) => Some(Text { scope: self.clone(), raw, variable: Some(variable.to_owned()) }),
            None => {
                self.fault(Problem::NoVariable(variable.to_owned()));
                None
            }
        }
    }

    /// Returns the content of a file that this element names. `None` after a fault.
    pub(crate) fn file(&self, path: &str) -> Option<String> {
        if !self.may_refer_to(Reference::File(path)) {
            self.fault(Problem::FileNotAllowed(path.to_owned()));
            return None;
        }
        match self.cx.secrets.read_file(path) {
            Ok(content) => Some(content),
            Err(error) => {
                self.fault(Problem::Unreadable { path: path.to_owned(), why: error.to_string() });
                None
            }
        }
    }

    fn may_refer_to(&self, reference: Reference<'_>) -> bool {
        match self.cx.trust {
            Trust::Full => true,
            Trust::SameServers if self.path.split('/').nth(2) == Some("remote_servers") => true,
            Trust::SameServers | Trust::Limited => self.cx.secrets.allows(reference),
        }
    }

    /// Returns the text of the first element of this name; `None` if there is none or after a fault.
    pub(crate) fn text(&self, name: &str) -> Option<Text<'c>> {
        self.child(name)?.own_text()
    }

    /// Returns the trimmed text of an optional element; an empty one counts as missing.
    pub(crate) fn optional(&self, name: &str) -> Option<String> {
        self.text(name).map(|text| text.trimmed().to_owned()).filter(|text| !text.is_empty())
    }

    /// Returns the text of a required element; `None` after a fault.
    pub(crate) fn required(&self, name: &'static str) -> Option<Text<'c>> {
        let Some(child) = self.child(name) else {
            self.fault(Problem::Missing(name));
            return None;
        };
        let text = child.own_text()?;
        if text.trimmed().is_empty() {
            child.fault(Problem::Empty);
            return None;
        }
        Some(text)
    }
}

impl Text<'_> {
    pub(crate) fn trimmed(&self) -> &str {
        trim(&self.raw)
    }

    pub(crate) fn fault(&self, problem: Problem) {
        self.scope.fault(problem);
    }

    /// Returns the text for a message. A value from the environment is not shown, because it may be a secret.
    pub(crate) fn shown(&self) -> String {
        match (&self.variable, self.trimmed()) {
            (Some(variable), _) => format!("not (environment variable {variable})"),
            (None, "") => "empty".to_owned(),
            (None, text) => format!("'{}'", shorten(text)),
        }
    }
}

/// Returns a text as one short line.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut line: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

/// Returns the similar known name that was probably meant.
pub(super) fn closest(name: &str, known: &[&str]) -> Option<String> {
    const LONGEST: usize = 100;
    if name.len() > LONGEST {
        return None;
    }
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&name.to_lowercase(), &word.to_lowercase()), *word))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word.to_owned())
}
