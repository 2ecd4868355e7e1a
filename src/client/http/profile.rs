//! The settings of our account on a server, and the settings that our statements must set because the profile has
//! other values (see [`required_settings`](crate::sql::required_settings)).
//!
//! The question for the settings must itself succeed with any profile: its answer is one row. If that fails, it is
//! asked again with all settings that a copy needs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clickhouse::{Client, Row};
use serde::Deserialize;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::super::codes::{READONLY, SETTING_CONSTRAINT_VIOLATION, UNKNOWN_IDENTIFIER, UNKNOWN_SETTING};
use super::super::{Error, Kind, ServerFacts, Settings};
use super::bound::Bound;
use super::{HttpServerClient, SHORT, with_settings};
use crate::model::Node;
use crate::sql::required_settings::{
    Correction, Matters, REQUIRED_SETTINGS, SKIPS_UNKNOWN_SETTINGS, SettingRule, corrections,
};
use crate::sql::{self, SettingColumns};

/// From this release on, the settings after an INSERT … SELECT apply to the whole statement.
const TRAILING: (u32, u32) = (21, 8);

/// Codes of answers that name a setting which the server does not know, or which the account may not set.
const NOT_SET: [u32; 3] = [UNKNOWN_SETTING, READONLY, SETTING_CONSTRAINT_VIOLATION];
/// Settings that a server consumes, and reports as if they were not set.
const USED_UP: &[&str] = &["limit", "offset", "page", "filter", "select", "sort", "order"];
/// How long the settings of an account are reused if it only matters whether the server answers.
const FRESH: Duration = Duration::from_secs(10);
/// Stands for a current value that the server does not report.
const UNTOLD: &str = "set";

/// The profiles of a task, by account and server.
pub(super) type Profiles = Arc<Mutex<HashMap<String, Arc<OnceCell<Arc<Profile>>>>>>;

/// The settings of our account on a server.
pub(super) struct Profile {
    /// The server, with its settings.
    facts: ServerFacts,
    /// The settings that must be set.
    corrections: Vec<Correction>,
    /// When the server was asked.
    asked: Instant,
    /// Columns of the server's system tables, by table, as far as they were asked for.
    columns: Mutex<HashMap<String, Arc<Vec<String>>>>,
}

#[derive(Row, Deserialize)]
struct ProfileRow {
    version: String,
    names: Vec<String>,
    values: Vec<String>,
    changed: Vec<u8>,
    readonly: Vec<u8>,
    least: Vec<String>,
    largest: Vec<String>,
    disallowed: Vec<String>,
}

impl Profile {
    /// Parses the answer to a question that was sent with some settings. The current values of those settings are
    /// therefore not known. Returns `None` if the answer was cut.
    fn read(rows: Vec<ProfileRow>, sent: &[(&str, &str)]) -> Option<Self> {
        let row = rows.into_iter().next()?;
        let count = row.names.len();
        let lists = [
            row.values.len(),
            row.changed.len(),
            row.readonly.len(),
            row.least.len(),
            row.largest.len(),
            row.disallowed.len(),
        ];
        if lists.iter().any(|len| *len != count) || !row.names.iter().any(|name| name == "readonly") {
            return None;
        }
        let limit = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let rule = |at: usize| SettingRule {
            readonly: row.readonly[at] != 0,
            min: limit(&row.least[at]),
            max: limit(&row.largest[at]),
            disallowed: row.disallowed[at].lines().map(str::to_owned).collect(),
        };
        let rules = (0..count).map(|at| (row.names[at].clone(), rule(at)));
        let mut rules: BTreeMap<_, _> = rules.filter(|(_, rule)| *rule != SettingRule::default()).collect();
        let mut settings: BTreeMap<_, _> = row.names.iter().cloned().zip(row.values).collect();
        let used_up = row
            .names
            .iter()
            .zip(&row.changed)
            .filter(|(name, changed)| **changed != 0 && USED_UP.contains(&name.as_str()));
        settings.extend(used_up.map(|(name, _)| (name.clone(), UNTOLD.to_owned())));
        for (name, _) in sent {
            rules.remove(*name);
            settings.insert((*name).to_owned(), UNTOLD.to_owned());
        }
        let corrections = corrections(&settings, &rules);
        let facts = ServerFacts { version: row.version, settings, setting_rules: rules };
        Some(Self { facts, corrections, asked: Instant::now(), columns: Mutex::default() })
    }

    /// Returns the server, with its settings.
    pub(super) fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    /// Returns the settings of a statement that only this server sees.
    pub(super) fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.corrections.iter().filter(|one| one.allowed).map(|one| (one.name, one.needed))
    }

    /// Returns the settings of a statement that this server passes on to others: in the address of the request, and
    /// after the statement. A setting in the address that already has this value is not passed on (24.8 and later).
    fn settings_with(&self, others: &[Arc<Profile>]) -> (Settings, String) {
        let mut all: BTreeMap<&str, &str> = BTreeMap::new();
        let mut behind: BTreeMap<&str, &str> = BTreeMap::new();
        for profile in others.iter().map(AsRef::as_ref).chain([self]) {
            for one in profile.corrections.iter().filter(|one| one.allowed) {
                let knows = |other: &Profile| other.facts.settings.contains_key(one.name);
                let passes = |other: &Arc<Profile>| {
                    let skips = one.matters != Matters::Passing && other.facts.release() >= SKIPS_UNKNOWN_SETTINGS;
                    skips || knows(other)
                };
                if knows(self) && others.iter().all(passes) {
                    all.insert(one.name, one.needed);
                    if !std::ptr::eq(profile, self) {
                        behind.insert(one.name, one.needed);
                    }
                }
            }
        }
        // 25.8 accepts `limit` and `offset` as numbers only.
        let written = |value: &str| match value.parse::<u64>() {
            Ok(number) => number.to_string(),
            Err(_) => sql::quote::literal(value),
        };
        let behind: Vec<String> = behind.iter().map(|(name, value)| format!("{name} = {}", written(value))).collect();
        let behind = match self.facts.release() >= TRAILING && !behind.is_empty() {
            true => format!(" SETTINGS {}", behind.join(", ")),
            false => String::new(),
        };
        (all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), behind)
    }
}

impl HttpServerClient {
    /// Returns a client for statements that only this node sees, with the settings that its profile makes necessary.
    pub(super) async fn asking(&self, node: &Node, limit: Duration) -> Result<Client, Error> {
        let profile = self.profile(node, limit).await?;
        Ok(with_settings(self.client(node), profile.settings()))
    }

    /// Returns such a client for rows that are passed on as they arrive.
    pub(super) async fn passing(&self, node: &Node) -> Result<Client, Error> {
        let profile = self.profile(node, SHORT).await?;
        Ok(with_settings(self.entered(&self.rows, node), profile.settings()))
    }

    /// Returns the settings for a statement on one node that passes its settings on to others: in its address, and
    /// after it.
    pub(super) async fn settings_between(
        &self,
        node: &Node,
        others: &[&Node],
        limit: Duration,
    ) -> Result<(Settings, String), Error> {
        let profile = self.profile(node, limit).await?;
        let mut profiles = Vec::new();
        for other in others {
            profiles.push(self.profile(other, limit).await?);
        }
        Ok(profile.settings_with(&profiles))
    }

    /// Returns the settings of our account, as of the last question for them.
    pub(super) async fn profile(&self, node: &Node, limit: Duration) -> Result<Arc<Profile>, Error> {
        let cell = self.profiles.lock().unwrap_or_else(PoisonError::into_inner).entry(key(node)).or_default().clone();
        cell.get_or_try_init(|| self.ask_profile(node, limit)).await.cloned()
    }

    /// Returns the column names of a system table; none if the table does not exist.
    pub(super) async fn columns_of(&self, node: &Node, table: &str) -> Result<Arc<Vec<String>>, Error> {
        self.columns_within(node, table, SHORT).await
    }

    /// Returns the column names within a time limit.
    pub(super) async fn columns_within(
        &self,
        node: &Node,
        table: &str,
        limit: Duration,
    ) -> Result<Arc<Vec<String>>, Error> {
        let profile = self.profile(node, limit).await?;
        let known = || profile.columns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(columns) = known().get(table).cloned() {
            return Ok(columns);
        }
        let doing = format!("cannot ask what system.{table} has");
        let columns: Arc<Vec<String>> = Arc::new(self.rows(node, &doing, &sql::system_columns(table), limit).await?);
        known().insert(table.to_owned(), columns.clone());
        Ok(columns)
    }

    /// Returns whether the settings of our account were asked for recently.
    pub(super) fn is_fresh(&self, node: &Node) -> bool {
        let profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        let known = profiles.get(&key(node)).and_then(|cell| cell.get());
        known.is_some_and(|profile| profile.asked.elapsed() < FRESH)
    }

    /// Asks again for the server and its settings.
    pub(super) async fn fresh_facts(&self, node: &Node, limit: Duration) -> Result<ServerFacts, Error> {
        let profile = self.ask_profile(node, limit).await?;
        let cell = Arc::new(OnceCell::new_with(Some(profile.clone())));
        self.profiles.lock().unwrap_or_else(PoisonError::into_inner).insert(key(node), cell);
        Ok(profile.facts.clone())
    }

    /// Asks without settings. If that fails, the profile may be the cause: it asks again with all settings that a
    /// copy needs, except those that the server names in its refusals.
    async fn ask_profile(&self, node: &Node, limit: Duration) -> Result<Arc<Profile>, Error> {
        let first = match self.ask_settings(node, &[], limit).await {
            Ok(rows) => match Profile::read(rows, &[]) {
                Some(profile) => return Ok(Arc::new(profile)),
                None => Error {
                    node: node.to_string(),
                    doing: DOING.to_owned(),
                    kind: Kind::Answer(
                        "system.settings was not read as a whole: does the profile limit results?".into(),
                    ),
                },
            },
            Err(error) if error.code().is_none() || error.is_denied() => return Err(error),
            Err(error) => error,
        };
        // An empty text changes no answer to this question, and 25.8 refuses some settings with an empty text.
        let mut sent: Vec<(&'static str, &str)> = REQUIRED_SETTINGS
            .iter()
            .map(|setting| (setting.name, setting.values[0]))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        loop {
            match self.ask_settings(node, &sent, limit).await {
                Ok(rows) => return Profile::read(rows, &sent).map(Arc::new).ok_or(first),
                Err(error) => {
                    let refused = error.code().is_some_and(|code| NOT_SET.contains(&code));
                    let Some(name) = named(&error.to_string(), &sent).filter(|_| refused) else { return Err(first) };
                    sent.retain(|(other, _)| *other != name);
                }
            }
        }
    }

    /// Asks for the columns that the release has.
    async fn ask_settings(
        &self,
        node: &Node,
        settings: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Vec<ProfileRow>, Error> {
        for columns in [SettingColumns::All, SettingColumns::Limits] {
            match self.ask_columns(node, columns, settings, limit).await {
                Err(error) if error.code() == Some(UNKNOWN_IDENTIFIER) => {}
                answer => return answer,
            }
        }
        self.ask_columns(node, SettingColumns::Values, settings, limit).await
    }

    async fn ask_columns(
        &self,
        node: &Node,
        columns: SettingColumns,
        settings: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Vec<ProfileRow>, Error> {
        let statement = sql::settings(columns);
        let ask = |client: &Client| {
            let query = self.entered(client, node).query_raw(&statement).with_setting("wait_end_of_query", "1");
            let query = settings.iter().fold(query, |query, (name, value)| query.with_setting(*name, *value));
            query.fetch_all::<ProfileRow>()
        };
        self.asked(node, DOING, Bound::Within(limit), ask).await
    }
}

/// Returns the setting that a text names: the one with the longest name.
fn named(text: &str, settings: &[(&'static str, &str)]) -> Option<&'static str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: Vec<&str> = text.split(|c| !is_part(c)).collect();
    let found = settings.iter().map(|(name, _)| *name).filter(|name| words.contains(name));
    found.max_by_key(|name| name.len())
}

const DOING: &str = "cannot ask for the settings of the account";

/// Returns the key of a server and an account, because a server may be used with several accounts.
fn key(node: &Node) -> String {
    format!("{}@{}", node.user, node.url())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(version: &str, settings: &[(&str, &str)]) -> Arc<Profile> {
        let row = ProfileRow {
            version: version.to_owned(),
            names: ["readonly"].into_iter().chain(settings.iter().map(|(name, _)| *name)).map(str::to_owned).collect(),
            values: ["0"].into_iter().chain(settings.iter().map(|(_, value)| *value)).map(str::to_owned).collect(),
            changed: vec![0; settings.len() + 1],
            readonly: vec![0; settings.len() + 1],
            least: vec![String::new(); settings.len() + 1],
            largest: vec![String::new(); settings.len() + 1],
            disallowed: vec![String::new(); settings.len() + 1],
        };
        Arc::new(Profile::read(vec![row], &[]).unwrap())
    }

    fn between(from: &Arc<Profile>, to: &Arc<Profile>) -> (Vec<String>, String) {
        let (address, behind) = from.settings_with(std::slice::from_ref(to));
        (address.into_iter().map(|(name, value)| format!("{name}={value}")).collect(), behind)
    }

    #[test]
    fn a_statement_for_two_servers_sets_what_either_needs_and_both_know() {
        let usual = profile("25.8.2.1", &[("async_insert", "0"), ("limit", "0"), ("max_result_rows", "0")]);
        let late = profile("26.9.1.1", &[("async_insert", "1"), ("limit", "0")]);
        let old = profile("18.16.1", &[("extremes", "0"), ("max_result_rows", "0")]);
        let strict = profile("25.8.2.1", &[("max_result_rows", "10"), ("limit", "3"), ("extremes", "1")]);
        assert_eq!(between(&usual, &usual), (vec![], String::new()));
        // The second server needs it: it also goes after the statement, otherwise it would not be passed on.
        let expected = (vec!["async_insert=0".to_owned()], " SETTINGS async_insert = 0".to_owned());
        assert_eq!(between(&usual, &late), expected);
        assert_eq!(between(&late, &usual), (vec!["async_insert=0".to_owned()], String::new()));
        // An old server refuses names that it does not know.
        assert_eq!(between(&strict, &old).0, ["extremes=0", "max_result_rows=0"]);
        assert_eq!(between(&old, &strict).0, ["extremes=0", "max_result_rows=0"]);
        assert_eq!(between(&old, &strict).1, "");
    }

    #[test]
    fn an_incomplete_answer_gives_no_profile() {
        assert!(Profile::read(Vec::new(), &[]).is_none());
        let row = |names: &[&str]| ProfileRow {
            version: "18.16.1".into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            values: vec![String::new()],
            changed: vec![1],
            readonly: vec![0],
            least: vec![String::new()],
            largest: vec![String::new()],
            disallowed: vec![String::new()],
        };
        assert!(Profile::read(vec![row(&["max_threads"])], &[]).is_none());
        assert!(Profile::read(vec![row(&["readonly", "limit"])], &[]).is_none());
        assert!(Profile::read(vec![row(&["readonly"])], &[]).is_some());
    }

    #[test]
    fn settings_whose_values_an_answer_does_not_show_are_corrected() {
        let row = || ProfileRow {
            version: "25.8.2.1".into(),
            names: ["readonly", "limit", "offset", "extremes"].map(str::to_owned).into(),
            values: ["0", "0", "0", "0"].map(str::to_owned).into(),
            changed: vec![0, 1, 0, 1],
            readonly: vec![0; 4],
            least: vec![String::new(); 4],
            largest: vec![String::new(); 4],
            disallowed: vec![String::new(); 4],
        };
        let corrected = |sent: &[(&str, &str)]| {
            let profile = Profile::read(vec![row()], sent).unwrap();
            profile.settings().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(corrected(&[]), ["limit"]);
        assert_eq!(corrected(&[("extremes", "0")]), ["limit", "extremes"]);
    }

    #[test]
    fn the_setting_in_an_error_message_is_found() {
        let sent = [("limit", "0"), ("select", ""), ("output_format", "")];
        for (text, name) in [
            ("Code: 115. DB::Exception: Unknown setting 'output_format'.", Some("output_format")),
            ("Code: 115, e.displayText() = DB::Exception: Unknown setting select, e.what()", Some("select")),
            ("Code: 452. DB::Exception: Setting limit should not be changed.", Some("limit")),
            ("Code: 452. DB::Exception: Setting limits should not be changed.", None),
        ] {
            assert_eq!(named(text, &sent), name, "{text}");
        }
    }
}
