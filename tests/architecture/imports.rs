//! What a file of the source imports, from its syntax: `use` declarations and paths that begin with `crate`, `super` or `self`.
//! What a `mod.rs` offers of its own children (`pub use child::Item`) is no import. Modules under `#[cfg(test)]` are left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, UseTree, Visibility};

/// A file of the source.
pub struct Source {
    /// The path of the file from the repository's root.
    pub file: String,
    /// The path of its module.
    pub module: Vec<String>,
    /// What stands in it.
    pub text: String,
}

/// A module that uses another one.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: Vec<String>,
    pub to: Vec<String>,
}

/// All files of the library but its front page and files that hold only tests.
pub fn sources() -> Vec<Source> {
    let sources = rust_files(Path::new("src")).into_iter().filter_map(|path| {
        let file = path.to_str().unwrap().to_owned();
        let mut module: Vec<String> =
            file.strip_prefix("src/")?.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
        let last = module.last()?;
        let is_test = last.ends_with("_tests") || module.iter().any(|name| name == "tests");
        if is_test || module == ["lib"] || module == ["main"] {
            return None;
        }
        if last == "mod" {
            module.pop();
        }
        Some(Source { text: fs::read_to_string(&path).unwrap(), file, module })
    });
    sources.collect()
}

/// All Rust files below a folder.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Every import between two of the modules, once.
pub fn imports(sources: &[Source]) -> BTreeSet<Import> {
    let modules: BTreeSet<&[String]> = sources.iter().map(|source| source.module.as_slice()).collect();
    let mut imports = BTreeSet::new();
    for source in sources {
        let syntax = syn::parse_file(&source.text).unwrap_or_else(|error| panic!("{}: {error}", source.file));
        let mut reader = Reader { module: source.module.clone(), paths: Vec::new() };
        reader.visit_file(&syntax);
        for path in reader.paths {
            // The longest beginning that is a module; what follows is an item of it.
            let known = (1..=path.len()).rev().find(|length| modules.contains(&path[..*length]));
            if let Some(length) = known {
                imports.insert(Import { from: source.module.clone(), to: path[..length].to_vec() });
            }
        }
    }
    imports
}

/// Collects the paths of a file, from the root of the crate.
struct Reader {
    module: Vec<String>,
    paths: Vec<Vec<String>>,
}

impl Reader {
    /// Takes a path that begins with `crate`, `super` or `self`.
    fn take(&mut self, segments: &[String]) {
        let mut path = match segments.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super" | "self") => self.module.clone(),
            _ => return,
        };
        for segment in segments.iter().skip_while(|segment| *segment == "crate") {
            match segment.as_str() {
                "super" => drop(path.pop()),
                "self" => {}
                other => path.push(other.to_owned()),
            }
        }
        self.paths.push(path);
    }

    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) => self.take(&with(&name.ident)),
            UseTree::Rename(name) => self.take(&with(&name.ident)),
            UseTree::Glob(_) => self.take(before),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(before, item)),
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

impl<'a> Visit<'a> for Reader {
    fn visit_item_mod(&mut self, item: &'a ItemMod) {
        if is_for_tests(&item.attrs) {
            return;
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.tree(&[], &item.tree);
        }
    }

    /// `pub(super)` imports nothing.
    fn visit_visibility(&mut self, _: &'a Visibility) {}

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.take(&segments);
        visit::visit_path(self, path);
    }
}
