//! The configuration of a server, or the original copier's `keeper.xml`, assembled like ClickHouse does: the named
//! file, the files of the folders next to it, and their includes.
//!
//! - `files`: the files of a configuration, and their formats.
//! - `yaml`: text → tree of elements, like `xml` for XML.
//! - `merge`: merges one file into another.
//! - `include`, `content`: content from another file and from the environment.
//!
//! Releases merge in different ways. The rules of modern servers apply. If a server of 18.16 may read the files, they
//! are merged by its rules as well ([`Rules`]), and files that would then name another ZooKeeper are refused.

mod content;
mod files;
mod include;
mod merge;
mod yaml;

pub(crate) use files::MOST_FILES;
pub use files::{ConfigText, in_order, is_piece, merge_folders};

use include::Includes;

use super::fault::{Fault, Faults, Problem, Warning};
use super::secrets::SecretSource;
use super::xml::{Element, Node, trim};

/// Attributes that name the source of an element's content.
pub(super) const SUBSTITUTIONS: [&str; 3] = ["incl", "from_zk", "from_env"];

/// Attributes that matter only to the merge.
pub(super) const MERGING: [&str; 8] =
    ["incl", "from_zk", "from_env", "replace", "remove", "optional", "merge", "hide_in_preprocessed"];

/// The release whose rules of merging apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// 25.8.
    Modern,
    /// 18.16. It differs for merged elements that have or get a substitution, for marks in added elements, for
    /// `<include>`, and for the root of the included file.
    Old,
}

/// A configuration's merged files, with their includes.
#[derive(Debug)]
pub(super) struct Merged {
    pub(crate) root: Element,
    /// Names of the files that elements refer to.
    pub(crate) files: Vec<String>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) left_out: Vec<Fault>,
}

/// The parsed files of a configuration.
pub(super) struct Documents {
    /// Names of the files, the named one first.
    files: Vec<String>,
    roots: Vec<Element>,
    has_yaml: bool,
}

impl Documents {
    /// Reads the named file and the pieces, in their order.
    pub(crate) fn read(texts: &[ConfigText]) -> Result<Self, Faults> {
        let files: Vec<String> = texts.iter().map(|text| text.path.clone()).collect();
        let mut roots = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let root = text.parse(index).map_err(|problem| at_root(&files, index, problem))?;
            if !["clickhouse", "yandex"].contains(&root.name.as_str()) {
                let fault = Fault {
                    path: format!("/{}", root.name),
                    line: root.line,
                    file: piece(&files, index),
                    problem: Problem::WrongRoot,
                };
                return Err(Faults::new(&files[0], vec![fault]));
            }
            roots.push(root);
        }
        if roots.is_empty() {
            return Err(at_root(&["configuration".to_owned()], 0, Problem::NoRoot));
        }
        Ok(Self { files, roots, has_yaml: texts.iter().any(ConfigText::is_yaml) })
    }

    /// Returns whether a release without `<clickhouse>`, YAML and `<include>` may read these files.
    pub(crate) fn may_be_old(&self) -> bool {
        !self.has_yaml && self.roots.iter().all(|root| root.name == "yandex" && !has_include(root))
    }

    /// Merges the files, and replaces the substitutions: in the elements that the copier reads, or in all
    /// (`everything`).
    pub(crate) fn merged(&self, rules: Rules, secrets: &dyn SecretSource, everything: bool) -> Merged {
        let mut includes = Includes::new(rules, secrets, self.files.clone());
        // There is at least one root; otherwise reading would have failed.
        let mut root = self.roots[0].clone();
        for piece in &self.roots[1..] {
            if let Err(clash) = merge::merge(&mut root, piece.clone(), rules) {
                let file = self::piece(&self.files, clash.file);
                let problem = Problem::RemoveAndReplace(clash.name.clone());
                includes.faults.push(Fault { path: format!("/{}", root.name), line: clash.line, file, problem });
            }
        }
        if !everything {
            for node in &mut root.nodes {
                if let Node::Element(element) = node
                    && !include::matters(&element.name)
                {
                    element.nodes.clear();
                    element.attributes.clear();
                }
            }
        }
        includes.fill(&mut root);
        let Includes { files, faults, warnings, left_out, .. } = includes;
        Merged { root, files, faults, warnings, left_out }
    }
}

/// Returns a server's result for these files, a line for each element with its path, its attributes and its text. A
/// test compares it with the `preprocessed_configs/config.xml` that the server wrote.
///
/// # Errors
///
/// Returns what ClickHouse refuses.
pub fn merged_outline(texts: &[ConfigText], rules: Rules, secrets: &dyn SecretSource) -> Result<Vec<String>, Faults> {
    let merged = Documents::read(texts)?.merged(rules, secrets, true);
    match merged.faults.is_empty() {
        true => Ok(outline(&merged.root)),
        false => Err(Faults::new(&texts[0].path, merged.faults)),
    }
}

/// Returns the outline of an XML document without merging.
///
/// # Errors
///
/// Returns an error if it is no XML.
pub fn outline_of(xml: &str) -> Result<Vec<String>, Faults> {
    super::xml::parse(xml).map(|root| outline(&root)).map_err(|problem| at_root(&["document".to_owned()], 0, problem))
}

fn outline(root: &Element) -> Vec<String> {
    fn add(element: &Element, above: &str, lines: &mut Vec<String>) {
        let path = format!("{above}{}", element.name);
        let mut attributes: Vec<_> =
            element.attributes.iter().map(|(name, value)| format!(" {name}={value:?}")).collect();
        attributes.sort();
        let text = element.text();
        let text = match trim(&text) {
            "" => String::new(),
            text => format!(": {text}"),
        };
        lines.push(format!("{path}{}{text}", attributes.concat()));
        for child in element.children() {
            add(child, &format!("{path}/"), lines);
        }
    }
    let mut lines = Vec::new();
    add(root, "", &mut lines);
    lines
}

fn has_include(element: &Element) -> bool {
    element.children().any(|child| child.name == "include" || has_include(child))
}

/// Returns the name of a file unless it is the named one.
fn piece(files: &[String], index: usize) -> Option<String> {
    (index > 0).then(|| files.get(index).cloned()).flatten()
}

fn at_root(files: &[String], index: usize, problem: Problem) -> Faults {
    let fault =
        Fault { path: String::new(), line: super::fault::line_of(&problem), file: piece(files, index), problem };
    Faults::new(&files[0], vec![fault])
}

#[cfg(test)]
mod tests;
