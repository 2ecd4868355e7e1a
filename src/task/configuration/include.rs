//! Substitutions in a configuration: `incl` from the file that `<include_from>` names, `from_env` from the
//! environment. `from_zk` is refused.

use super::super::elements::ElementPath;
use super::super::fault::{Fault, Notice, Problem, Warning};
use super::super::secrets::SecretSource;
use super::super::xml::{Element, MAX_ELEMENTS, Node, trim};
use super::content::{is_blank, of_variable, size, take_in};
use super::files::{ConfigText, DEFAULT_INCLUDE_FROM};
use super::merge::merge_slots;
use super::{Rules, SUBSTITUTIONS};

/// The deepest nesting of includes. A file that includes itself would never end.
const MAX_NESTING: usize = 16;

/// Whether an element stays.
#[derive(PartialEq, Eq)]
enum Outcome {
    Keep,
    Remove,
}

/// The result of a substitution's lookup.
enum Lookup {
    Found(Element),
    Missing,
    /// It was refused, and the fault is reported.
    Refused,
}

/// The file for `incl`.
enum Source {
    Unread { path: String, line: u32, file: usize },
    Read(Element),
    Nothing,
}

/// Replaces the substitutions of a configuration.
pub(super) struct Includes<'c> {
    rules: Rules,
    secrets: &'c dyn SecretSource,
    source: Source,
    /// How many more elements may be included.
    budget: usize,
    /// Names of the files; that of `<include_from>` is added when it is read.
    pub(crate) files: Vec<String>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<Warning>,
    /// Optional elements that were left out because their source is missing.
    pub(crate) left_out: Vec<Fault>,
}

impl<'c> Includes<'c> {
    pub(crate) fn new(rules: Rules, secrets: &'c dyn SecretSource, files: Vec<String>) -> Self {
        Includes {
            rules,
            secrets,
            source: Source::Nothing,
            budget: MAX_ELEMENTS,
            files,
            faults: Vec::new(),
            warnings: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Determines the file for `incl`, then replaces the substitutions below the root.
    pub(crate) fn fill(&mut self, root: &mut Element) {
        let path = format!("/{}", root.name);
        self.source = self.source_of(root, &path);
        self.children(root, &path, 0);
    }

    fn source_of(&mut self, root: &mut Element, path: &str) -> Source {
        if self.rules == Rules::Old && root.name != "yandex" {
            return Source::Nothing;
        }
        let named = root.nodes.iter_mut().find_map(|node| match node {
            Node::Element(element) if element.name == "include_from" => Some(element),
            _ => None,
        });
        let Some(element) = named else {
            return Source::Unread { path: DEFAULT_INCLUDE_FROM.to_owned(), line: 0, file: 0 };
        };
        self.expand(element, &format!("{path}/include_from"), 0);
        match trim(&element.text()) {
            "" => Source::Nothing,
            path => Source::Unread { path: path.to_owned(), line: element.line, file: element.file },
        }
    }

    fn expand(&mut self, element: &mut Element, path: &str, depth: usize) -> Outcome {
        if element.attribute("encrypted_by").is_some() {
            self.fault(element, path, Problem::Encrypted);
            return Outcome::Keep;
        }
        let lookup = match self.substitution(element, path) {
            Ok(Some(name)) => self.look_up(name, element, path),
            Ok(None) => {
                self.children(element, path, depth);
                return Outcome::Keep;
            }
            Err(()) => return Outcome::Keep,
        };
        match lookup {
            Lookup::Found(_) if depth >= MAX_NESTING => {
                self.fault(element, path, Problem::IncludeDepth(MAX_NESTING));
                Outcome::Keep
            }
            Lookup::Found(included) => {
                take_in(element, included);
                self.expand(element, path, depth + 1)
            }
            Lookup::Missing if element.attribute("optional").is_some() => Outcome::Remove,
            Lookup::Missing => {
                self.children(element, path, depth);
                Outcome::Keep
            }
            Lookup::Refused => Outcome::Keep,
        }
    }

    /// Returns the attribute that names the source of the content, if there is one.
    fn substitution(&mut self, element: &Element, path: &str) -> Result<Option<&'static str>, ()> {
        let mut found = SUBSTITUTIONS.into_iter().filter(|name| element.attribute(name).is_some());
        let first = found.next();
        if found.next().is_some() {
            self.fault(element, path, Problem::TwoSubstitutions);
            return Err(());
        }
        Ok(first)
    }

    fn children(&mut self, parent: &mut Element, path: &str, depth: usize) {
        let mut position = 0;
        while position < parent.nodes.len() {
            let Node::Element(child) = &mut parent.nodes[position] else {
                position += 1;
                continue;
            };
            if child.name == "include" && self.rules == Rules::Modern {
                position = self.include(parent, position, path);
                continue;
            }
            let path = format!("{path}/{}", child.name);
            match self.expand(child, &path, depth) {
                Outcome::Keep => position += 1,
                Outcome::Remove => {
                    parent.nodes.remove(position);
                    // 18.16 skips the node after one that it removes.
                    position += usize::from(self.rules == Rules::Old);
                }
            }
        }
    }

    /// Replaces an `<include>` by the content that it names, or merges the content into its parent. Returns the
    /// position of the next node.
    fn include(&mut self, parent: &mut Element, position: usize, path: &str) -> usize {
        let Node::Element(child) = &parent.nodes[position] else { return position + 1 };
        let child = child.clone();
        let path = format!("{path}/include");
        if !child.nodes.is_empty() {
            self.fault(&child, &path, Problem::IncludeWithContent);
            return position + 1;
        }
        let lookup = match self.substitution(&child, &path) {
            Ok(Some(name)) => self.look_up(name, &child, &path),
            Ok(None) => {
                self.fault(&child, &path, Problem::IncludeOfNothing);
                return position + 1;
            }
            Err(()) => return position + 1,
        };
        let included = match lookup {
            Lookup::Found(included) => included,
            Lookup::Missing => {
                parent.nodes.remove(position);
                return position;
            }
            Lookup::Refused => return position + 1,
        };
        if child.attribute("merge").is_none() {
            let count = included.nodes.len();
            parent.nodes.splice(position..=position, included.nodes);
            return position + count;
        }
        let mut slots: Vec<Option<Node>> = std::mem::take(&mut parent.nodes).into_iter().map(Some).collect();
        // Once for each of its nodes, like the server.
        for _ in 0..included.nodes.len() {
            if !self.pay(&included, &child, &path) {
                break;
            }
            if let Err(clash) = merge_slots(&mut slots, included.nodes.clone(), self.rules) {
                self.fault(&child, &path, Problem::RemoveAndReplace(clash.name));
                break;
            }
        }
        slots[position] = None;
        let next = slots[..position].iter().flatten().count();
        parent.nodes = slots.into_iter().flatten().collect();
        next
    }

    fn look_up(&mut self, substitution: &str, element: &Element, path: &str) -> Lookup {
        let name = element.attribute(substitution).unwrap_or_default().to_owned();
        match substitution {
            "incl" => self.included(&name, element, path),
            "from_env" => self.of_environment(&name, element, path),
            _ => {
                self.fault(element, path, Problem::FromZooKeeper(name));
                Lookup::Refused
            }
        }
    }

    fn included(&mut self, name: &str, element: &Element, path: &str) -> Lookup {
        if name.is_empty() || name.starts_with('/') || name.contains("//") || name.contains(['[', ']', '@', '*']) {
            self.fault(element, path, Problem::IncludeName(name.to_owned()));
            return Lookup::Refused;
        }
        if let Err(problem) = self.read_source() {
            let (problem, line, file) = *problem;
            let file = self.name_of(file);
            self.faults.push(Fault { path: path.to_owned(), line, file, problem });
            return Lookup::Refused;
        }
        let found = match &self.source {
            Source::Read(root) => name
                .split('/')
                .try_fold(root, |element, name| element.children().find(|child| child.name == name))
                .cloned(),
            Source::Unread { .. } | Source::Nothing => None,
        };
        match found {
            Some(found) if self.pay(&found, element, path) => Lookup::Found(found),
            Some(_) => Lookup::Refused,
            None => {
                self.missing(name, element, path);
                Lookup::Missing
            }
        }
    }

    fn missing(&mut self, name: &str, element: &Element, path: &str) {
        let problem = Problem::IncludeMissing(name.to_owned());
        if element.attribute("optional").is_some() {
            let fault = self.located(element, path, problem);
            self.left_out.push(fault);
        } else if element.nodes.iter().all(is_blank) {
            self.fault(element, path, problem);
        } else {
            self.warn(element, path, Notice::IncludeMissing(name.to_owned()));
        }
    }

    /// Reads the file of `<include_from>` when it is first needed.
    fn read_source(&mut self) -> Result<(), Box<(Problem, u32, usize)>> {
        let Source::Unread { path, line, file } = &self.source else { return Ok(()) };
        let (path, line, file) = (path.clone(), *line, *file);
        self.source = Source::Nothing;
        let text = match self.secrets.read_file(&path) {
            Ok(text) => text,
            // The default file may be missing; a named file must exist.
            Err(error) if line == 0 && error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Box::new((Problem::Unreadable { path, why: error.to_string() }, line, file))),
        };
        let index = self.files.len();
        self.files.push(path.clone());
        let root = ConfigText { path, text }.parse(index).map_err(|problem| Box::new((problem, 0, index)))?;
        if self.rules == Rules::Modern || root.name == "yandex" {
            self.source = Source::Read(root);
        }
        Ok(())
    }

    fn of_environment(&mut self, name: &str, element: &Element, path: &str) -> Lookup {
        if !element.nodes.iter().all(is_blank) && element.attribute("replace").is_none() {
            self.fault(element, path, Problem::TwoSources("from_env"));
            return Lookup::Refused;
        }
        let Some(value) = self.secrets.env(name) else {
            if element.attribute("optional").is_some() {
                self.warn(element, path, Notice::NoVariable(name.to_owned()));
                return Lookup::Missing;
            }
            self.fault(element, path, Problem::NoVariable(name.to_owned()));
            return Lookup::Refused;
        };
        match of_variable(&value, name, element) {
            Some(found) => Lookup::Found(found),
            None => {
                self.fault(element, path, Problem::VariableNotXml(name.to_owned()));
                Lookup::Refused
            }
        }
    }

    /// Subtracts included elements from the budget.
    fn pay(&mut self, included: &Element, element: &Element, path: &str) -> bool {
        match self.budget.checked_sub(size(included)) {
            Some(rest) => {
                self.budget = rest;
                true
            }
            None => {
                self.fault(element, path, Problem::TooManyIncluded(MAX_ELEMENTS));
                false
            }
        }
    }

    fn name_of(&self, file: usize) -> Option<String> {
        (file > 0).then(|| self.files.get(file).cloned()).flatten()
    }

    fn located(&self, element: &Element, path: &str, problem: Problem) -> Fault {
        Fault { path: path.to_owned(), line: element.line, file: self.name_of(element.file), problem }
    }

    fn fault(&mut self, element: &Element, path: &str, problem: Problem) {
        let fault = self.located(element, path, problem);
        self.faults.push(fault);
    }

    fn warn(&mut self, element: &Element, path: &str, notice: Notice) {
        let file = self.name_of(element.file);
        self.warnings.push(Warning { path: path.to_owned(), line: element.line, file, notice });
    }
}

/// Returns whether the copier reads a root element, or whether the element may include such elements.
pub(super) fn matters(name: &str) -> bool {
    name == "include"
        || name == "include_from"
        || super::super::elements::Element::names(ElementPath::KeeperRoot).contains(&name)
}
