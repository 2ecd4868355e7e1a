//! The settings of a worker's statements: which settings a statement gets, from the task and from the facts about its servers. Pure.

use crate::client::{ServerFacts, Settings};
use crate::model::{Way, lay_over};
use crate::nodes::settings::{
    RELAY_DEFAULTS, TRANSFER_DEFAULTS, defaults, known_settings, narrower, settings_known_to_both, wanted_for_source,
    wanted_for_target,
};
use crate::task::Task;

/// The first release that chooses the number of reading threads of a transfer itself. On older releases one thread reads.
///
/// On 18.16 several reading threads take turns, so that the rows of a block are in no order and the target must sort them. With one
/// reading thread the same copy took a fifth less time there. The target's INSERT has one thread anyway. Newer servers may read from
/// storage that answers late, and the effect was not measured on them.
const SERVER_CHOOSES_THREADS: (u32, u32) = (20, 1);

/// What the settings of a transfer depend on, beside the task.
pub(super) struct TransferFacts<'a> {
    /// The transfer.
    pub(crate) way: Way,
    /// The source server.
    pub(crate) source: &'a ServerFacts,
    /// The target server.
    pub(crate) target: &'a ServerFacts,
    /// Whether the source sends every row that it reads.
    pub(crate) sends_all_rows: bool,
    /// How often such statements ran out of memory.
    pub(crate) narrow: u32,
}

/// The settings of the statements of a transfer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TransferSettings {
    /// The settings on the source server; empty where only the target server gets a statement.
    pub(crate) source: Settings,
    /// The settings on the target server; empty where only the source server gets a statement.
    pub(crate) target: Settings,
}

/// Returns the settings for a statement that only reads the source.
pub(super) fn for_source(task: &Task, server: &ServerFacts) -> Settings {
    known_settings(server, &wanted_for_source(task))
}

/// Returns the settings for our statements on a target node: the settings of the task, and those that lift limits of the server.
pub(super) fn for_target(task: &Task, server: &ServerFacts) -> Settings {
    known_settings(server, &wanted_for_target(task))
}

/// Returns the settings for the statements of a transfer. One statement that reads and writes has the settings of both sections of the
/// task; where they differ, those for writing.
pub(super) fn for_transfer(task: &Task, transfer: &TransferFacts<'_>) -> TransferSettings {
    let TransferFacts { way, source, target, sends_all_rows, narrow } = *transfer;
    let mut wanted = defaults(TRANSFER_DEFAULTS);
    if way == Way::Relay {
        wanted.extend(defaults(RELAY_DEFAULTS));
        let (mut reading, mut writing) = (wanted.clone(), wanted);
        lay_over(&mut reading, wanted_for_source(task));
        lay_over(&mut writing, task.settings.for_push());
        narrower(&mut reading, narrow);
        narrower(&mut writing, narrow);
        return TransferSettings { source: known_settings(source, &reading), target: known_settings(target, &writing) };
    }
    // A source that filters out most rows should read with all threads.
    if sends_all_rows && source.release() < SERVER_CHOOSES_THREADS {
        wanted.insert("max_threads".to_owned(), "1".to_owned());
    }
    lay_over(&mut wanted, wanted_for_source(task));
    lay_over(&mut wanted, task.settings.for_push());
    narrower(&mut wanted, narrow);
    match way {
        Way::Pull => {
            TransferSettings { source: Settings::new(), target: settings_known_to_both(target, source, &wanted) }
        }
        _ => TransferSettings { source: settings_known_to_both(source, target, &wanted), target: Settings::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::GivenSecrets;

    const TASK: &str = "<clickhouse><settings><max_block_size>1000</max_block_size></settings>\
        <settings_pull><max_threads>8</max_threads></settings_pull>\
        <settings_push><max_insert_block_size>7</max_insert_block_size></settings_push>\
        <remote_servers><s><shard><replica><host>a</host></replica></shard></s></remote_servers><tables><hits>\
        <cluster_pull>s</cluster_pull><database_pull>d</database_pull><table_pull>hits</table_pull>\
        <cluster_push>s</cluster_push><database_push>d</database_push><table_push>copy</table_push>\
        </hits></tables></clickhouse>";

    fn task(without: &str) -> Task {
        Task::parse(&TASK.replace(without, ""), &GivenSecrets::default()).unwrap().task
    }

    fn server(version: &str, settings: &[&str]) -> ServerFacts {
        let settings = settings.iter().map(|name| ((*name).to_owned(), String::new())).collect();
        ServerFacts { version: version.into(), settings, ..ServerFacts::default() }
    }

    fn value<'a>(settings: &'a Settings, wanted: &str) -> Option<&'a str> {
        settings.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    #[test]
    fn an_old_source_that_sends_all_rows_reads_with_one_thread_unless_the_task_sets_max_threads() {
        let own_threads = "<max_threads>8</max_threads>";
        let (old, new) = (server("18.16.1", &["max_threads"]), server("25.8.2", &["max_threads"]));
        let threads = |task: &Task, source: &ServerFacts, sends_all_rows| {
            let facts = TransferFacts { way: Way::Push, source, target: &new, sends_all_rows, narrow: 0 };
            value(&for_transfer(task, &facts).source, "max_threads").map(str::to_owned)
        };
        assert_eq!(threads(&task(own_threads), &old, true).as_deref(), Some("1"));
        assert_eq!(threads(&task(own_threads), &old, false), None);
        assert_eq!(threads(&task(own_threads), &new, true), None);
        assert_eq!(threads(&task(""), &old, true).as_deref(), Some("8"));
    }

    #[test]
    fn the_server_that_gets_the_statement_gets_the_settings_that_both_servers_know() {
        let (source, target) =
            (server("25.8.2", &["max_block_size", "max_threads"]), server("25.8.2", &["max_block_size"]));
        let task = task("");
        let facts = |way| TransferFacts { way, source: &source, target: &target, sends_all_rows: true, narrow: 0 };
        let known = vec![("max_block_size".to_owned(), "1000".to_owned())];
        let none = Settings::new;
        let expected = TransferSettings { source: known.clone(), target: none() };
        assert_eq!(for_transfer(&task, &facts(Way::Push)), expected);
        assert_eq!(for_transfer(&task, &facts(Way::Pull)), TransferSettings { source: none(), target: known });
    }

    #[test]
    fn each_server_of_a_relay_gets_the_settings_of_its_side() {
        let both = server("25.8.2", &["max_block_size", "max_threads", "max_insert_block_size", "async_insert"]);
        let facts = TransferFacts { way: Way::Relay, source: &both, target: &both, sends_all_rows: true, narrow: 2 };
        let relayed = for_transfer(&task(""), &facts);
        assert_eq!(value(&relayed.source, "max_insert_block_size"), None);
        assert_eq!(value(&relayed.target, "max_insert_block_size"), Some("7"));
        assert_eq!(
            (value(&relayed.source, "async_insert"), value(&relayed.target, "async_insert")),
            (Some("0"), Some("0"))
        );
        assert_eq!(value(&relayed.source, "max_threads"), Some("1"), "less memory after two attempts");
        assert_eq!(value(&relayed.source, "max_block_size"), Some("1000"), "the task allows no more");
    }

    #[test]
    fn an_account_that_may_change_no_settings_gets_none() {
        let mut read_only = server("25.8.2", &["max_block_size"]);
        assert_eq!(for_source(&task(""), &read_only).len(), 1);
        read_only.settings.insert("readonly".into(), "1".into());
        assert!(for_source(&task(""), &read_only).is_empty() && for_target(&task(""), &read_only).is_empty());
    }
}
