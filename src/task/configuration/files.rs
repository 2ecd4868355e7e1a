//! The files of a configuration, their order and their formats.

use std::path::{Path, PathBuf};

use super::super::fault::Problem;
use super::super::xml::{Element, parse_file};
use super::yaml;

/// The default file for `incl` without an `<include_from>`.
pub(super) const DEFAULT_INCLUDE_FROM: &str = "/etc/metrika.xml";

/// The largest number of files of a configuration.
pub(crate) const MOST_FILES: usize = 1000;

/// A file of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigText {
    /// The file's name, for messages. The extension decides whether it is XML or YAML.
    pub path: String,
    /// The file's content.
    pub text: String,
}

impl ConfigText {
    pub(super) fn is_yaml(&self) -> bool {
        match extension(Path::new(&self.path)).as_deref() {
            Some("xml") => false,
            Some("yaml" | "yml") => true,
            // Like ClickHouse.
            _ => {
                let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text).trim_start();
                !text.is_empty() && !text.starts_with('<')
            }
        }
    }

    pub(super) fn parse(&self, index: usize) -> Result<Element, Problem> {
        if self.is_yaml() { yaml::parse(&self.text, index) } else { parse_file(&self.text, index) }
    }
}

/// Returns the folders whose files ClickHouse merges into a configuration file: `config.d` for `config.xml`, and
/// `conf.d`.
pub fn merge_folders(config: &Path) -> Vec<PathBuf> {
    let mut folders = vec![config.with_extension("d"), config.with_file_name("conf.d")];
    folders.sort();
    folders.dedup();
    folders
}

/// Returns whether a file of such a folder is merged, by its name.
pub fn is_piece(path: &Path) -> bool {
    let hidden = path.file_stem().is_none_or(|stem| stem.as_encoded_bytes().starts_with(b"."));
    let known = extension(path).is_some_and(|end| ["xml", "conf", "yaml", "yml"].contains(&end.as_str()));
    known && !hidden
}

/// Sorts pieces into the order of merging: by the bytes of their paths.
pub fn in_order(pieces: &mut [PathBuf]) {
    pieces.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
}

fn extension(path: &Path) -> Option<String> {
    path.extension().map(|end| end.to_string_lossy().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_named_after_the_file_and_conf_are_merged() {
        let folders = |path: &str| -> Vec<String> {
            merge_folders(Path::new(path)).iter().map(|folder| folder.display().to_string()).collect()
        };
        assert_eq!(folders("/etc/ch/config.xml"), ["/etc/ch/conf.d", "/etc/ch/config.d"]);
        assert_eq!(folders("/etc/ch/keeper.xml"), ["/etc/ch/conf.d", "/etc/ch/keeper.d"]);
        assert_eq!(folders("/etc/ch/conf.xml"), ["/etc/ch/conf.d"]);
        assert_eq!(folders("a.b.yaml"), ["a.b.d", "conf.d"]);
        assert_eq!(folders("plain"), ["conf.d", "plain.d"]);
    }

    #[test]
    fn merged_files_are_selected_by_extension_and_sorted_by_name() {
        for (name, expected) in [
            ("a.xml", true),
            ("a.XML", true),
            ("a.b.yml", true),
            ("a.yaml", true),
            ("a.conf", true),
            ("a.xml.bak", false),
            ("a.xml~", false),
            (".a.xml", false),
            (".xml", false),
            ("xml", false),
        ] {
            assert_eq!(is_piece(Path::new("/d").join(name).as_path()), expected, "{name}");
        }
        let mut pieces: Vec<PathBuf> =
            ["/c/config.d/a.xml", "/c/conf.d/b.xml", "/c/conf.d/B.xml"].map(Into::into).to_vec();
        in_order(&mut pieces);
        assert_eq!(pieces, ["/c/conf.d/B.xml", "/c/conf.d/b.xml", "/c/config.d/a.xml"].map(PathBuf::from));
    }
}
