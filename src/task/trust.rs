//! Decides what a description from the coordinator may read on this machine.
//!
//! Everybody who can write to the coordinator can put a description there. A worker that read `from_env` and
//! `<password_file>` of any description would send secrets of its machine, as a password, to any host that the
//! description names. So the permitted references depend on who provided the description:
//!
//! - The operator, with `--task-file` on this command line, or through a state directory that only the operator can
//!   write to: everything.
//! - Somebody else: names that the operator allows (`--allow-env`) and files in allowed folders (`--secrets-dir`). If
//!   its `<remote_servers>` equal those of the operator's own task file, also the references there, because the
//!   secrets go to the same servers.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::secrets::{Reference, SecretSource, SystemSecrets, Trust};
use super::xml;

/// The references that the operator allows in descriptions from the coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Names of environment variables.
    pub(crate) variables: BTreeSet<String>,
    /// Folders; files anywhere below them may be read.
    pub(crate) folders: Vec<PathBuf>,
}

/// The environment and file system of this process, for descriptions of the operator and for those from the
/// coordinator.
#[derive(Debug, Clone)]
pub(crate) struct OperatorSecrets {
    allowed: Allowed,
    /// The description from this command line.
    own: Option<String>,
    /// Whether only the operator can write to the coordinator.
    own_coordinator: bool,
}

impl OperatorSecrets {
    /// Returns the secrets for the descriptions of a coordinator. `own` is the description from this command line.
    /// `own_coordinator`: only the operator can write to the coordinator.
    pub(crate) fn new(allowed: Allowed, own: Option<String>, own_coordinator: bool) -> Self {
        Self { allowed, own, own_coordinator }
    }
}

impl SecretSource for OperatorSecrets {
    fn env(&self, name: &str) -> Option<String> {
        SystemSecrets.env(name)
    }

    fn read_file(&self, path: &str) -> io::Result<String> {
        SystemSecrets.read_file(path)
    }

    fn trust(&self, description: &str) -> Trust {
        match &self.own {
            _ if self.own_coordinator => Trust::Full,
            Some(own) if own == description => Trust::Full,
            Some(own) if same_servers(own, description) => Trust::SameServers,
            _ => Trust::Limited,
        }
    }

    fn allows(&self, reference: Reference<'_>) -> bool {
        match reference {
            Reference::Variable(name) => self.allowed.variables.contains(name),
            Reference::File(path) => self.allowed.folders.iter().any(|folder| is_below(Path::new(path), folder)),
        }
    }
}

/// Returns whether a file is below a folder, after following all links. False if the file cannot be read.
fn is_below(path: &Path, folder: &Path) -> bool {
    match (path.canonicalize(), folder.canonicalize()) {
        (Ok(path), Ok(folder)) => path.starts_with(folder),
        _ => false,
    }
}

/// Returns whether two descriptions name the same servers, ports, accounts and references to secrets, in the same
/// order.
fn same_servers(one: &str, other: &str) -> bool {
    let servers = |text: &str| Some(outline(xml::parse(text).ok()?.children().filter(|child| child.name == SERVERS)));
    servers(one).is_some_and(|found| !found.is_empty() && servers(other) == Some(found))
}

/// The element that names the servers of a task.
const SERVERS: &str = "remote_servers";

/// Returns the elements with their attributes and texts, without lines and without blanks around texts.
fn outline<'e>(elements: impl Iterator<Item = &'e xml::Element>) -> Vec<String> {
    let mut lines = Vec::new();
    for element in elements {
        lines.push(format!("<{} {:?}>{:?}", element.name, element.attributes, xml::trim(&element.text())));
        lines.extend(outline(element.children()));
        lines.push("<".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Task;

    fn description(servers: &str, more: &str) -> String {
        format!(
            "<clickhouse><max_workers>2</max_workers><remote_servers><a><shard><replica>{servers}</replica></shard></a>\
             </remote_servers>{more}<tables><t><cluster_pull>a</cluster_pull><database_pull>d</database_pull>\
             <table_pull>t</table_pull><cluster_push>a</cluster_push><database_push>d</database_push><table_push>u</table_push>\
             </t></tables></clickhouse>"
        )
    }

    const SERVER: &str = "<host>h</host><password from_env=\"PATH\"/>";

    /// Returns the faults of a description for a worker that has `own`.
    fn faults(text: &str, own: Option<&str>, allowed: &Allowed) -> String {
        let secrets = OperatorSecrets::new(allowed.clone(), own.map(str::to_owned), false);
        Task::parse(text, &secrets).map_or_else(|faults| faults.to_string(), |_| String::new())
    }

    #[test]
    fn a_description_from_others_reads_only_secrets_that_the_operator_allows() {
        let text = description(SERVER, "");
        let nothing = Allowed::default();
        assert!(faults(&text, None, &nothing).contains("--allow-env PATH"));
        assert_eq!(faults(&text, Some(&text), &nothing), "");
        let named = Allowed { variables: ["PATH".to_owned()].into(), ..Allowed::default() };
        assert_eq!(faults(&text, None, &named), "");
        // Any element may take its text from a variable.
        let host = description("<host from_env=\"HOME\"/>", "");
        assert!(faults(&host, None, &named).contains("--allow-env HOME"));
        let local = OperatorSecrets::new(nothing, None, true);
        assert!(Task::parse(&text, &local).is_ok());
    }

    #[test]
    fn an_edited_description_reads_the_same_secrets_only_for_the_same_servers() {
        let own = description(SERVER, "");
        let nothing = Allowed::default();
        let edited = own.replace(">2<", ">5<").replace("<host>", "\n   <!-- the same --> <host>");
        assert_eq!(faults(&edited, Some(&own), &nothing), "");
        for changed in [
            own.replace("<host>h<", "<host>stranger<"),
            own.replace("</host>", "</host><http_port>81</http_port>"),
            own.replace("PATH", "HOME"),
        ] {
            assert!(faults(&changed, Some(&own), &nothing).contains("--allow-env"), "{changed}");
        }
        // The value would be sent to servers.
        let setting = own.replace("<tables>", "<settings><max_threads from_env=\"PATH\"/></settings><tables>");
        assert!(faults(&setting, Some(&own), &nothing).contains("settings/max_threads"), "{setting}");
    }

    #[test]
    fn secret_files_are_read_only_from_the_folder_of_secrets() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let allowed = Allowed { folders: vec![folder.path().to_owned()], ..Allowed::default() };
        let file = |name: &str, folder: &Path| {
            std::fs::write(folder.join(name), "secret").unwrap();
            folder.join(name).display().to_string()
        };
        let reads = |path: &str| {
            let server = format!("<host>h</host><password_file>{path}</password_file>");
            faults(&description(&server, ""), None, &allowed)
        };
        assert_eq!(reads(&file("good", folder.path())), "");
        let outside = file("other", elsewhere.path());
        let around_the_folder =
            format!("{}/../{}/other", folder.path().display(), elsewhere.path().file_name().unwrap().display());
        std::os::unix::fs::symlink(&outside, folder.path().join("link")).unwrap();
        let link = folder.path().join("link").display().to_string();
        for path in [outside, around_the_folder, link, folder.path().join("missing").display().to_string()] {
            assert!(reads(&path).contains("--secrets-dir"), "{path}");
        }
    }
}
