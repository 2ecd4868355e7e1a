//! Table engines as text: `ReplicatedMergeTree('/path', '{replica}') PARTITION BY … ORDER BY …`, old syntax or new.

use std::collections::BTreeSet;
use std::fmt;

use super::lex::{self, Spanned, Token};

/// The clauses that may follow an engine's name, in the order in which they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clause {
    /// `PARTITION BY`
    PartitionBy,
    /// `PRIMARY KEY`
    PrimaryKey,
    /// `ORDER BY`
    OrderBy,
    /// `SAMPLE BY`
    SampleBy,
    /// `TTL`
    Ttl,
    /// `SETTINGS`
    Settings,
    /// `COMMENT`
    Comment,
}

impl Clause {
    const ALL: [(Clause, &'static [&'static str]); 7] = [
        (Clause::PartitionBy, &["PARTITION", "BY"]),
        (Clause::PrimaryKey, &["PRIMARY", "KEY"]),
        (Clause::OrderBy, &["ORDER", "BY"]),
        (Clause::SampleBy, &["SAMPLE", "BY"]),
        (Clause::Ttl, &["TTL"]),
        (Clause::Settings, &["SETTINGS"]),
        (Clause::Comment, &["COMMENT"]),
    ];

    /// The words of the clause: `ORDER BY`.
    pub fn words(self) -> String {
        Self::ALL.iter().find(|(clause, _)| *clause == self).map(|(_, words)| words.join(" ")).unwrap_or_default()
    }
}

/// An engine taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// `ReplicatedMergeTree`
    pub name: String,
    /// The arguments as written; `None` without parentheses.
    pub arguments: Option<Vec<String>>,
    /// The clauses in the order written.
    pub clauses: Vec<(Clause, String)>,
}

/// Why a text is not an engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Brackets or quotes that do not match.
    #[error("{0}")]
    Unbalanced(String),
    /// It does not start with a name.
    #[error("it does not start with the name of an engine")]
    NoName,
    /// Something that is not a clause.
    #[error("\"{0}\" is not a clause of an engine (PARTITION BY, PRIMARY KEY, ORDER BY, SAMPLE BY, TTL, SETTINGS)")]
    NotAClause(String),
    /// A clause without a value, or twice.
    #[error("{0} is {1}")]
    BadClause(String, &'static str),
}

impl Engine {
    /// Reads `[ENGINE =] Name[(arguments)] [clauses] [;]`.
    pub fn parse(text: &str) -> Result<Self, EngineError> {
        // What was copied from a statement may end like one, as it did for the original.
        let sql = lex::without_comments(lex::without_end(text));
        let sql = sql.map_err(|error| EngineError::Unbalanced(error.to_string()))?;
        let found = lex::tokens(&sql).map_err(|error| EngineError::Unbalanced(error.to_string()))?;
        let mut rest = &found[..];
        if let [engine, equals, tail @ ..] = rest
            && engine.is_word(&sql, "ENGINE")
            && equals.token == Token::Sign('=')
        {
            rest = tail;
        }
        let Some((name, mut rest)) = rest.split_first() else { return Err(EngineError::NoName) };
        // 26.x quotes a name that is also a keyword: ENGINE = `Null`.
        let name_text = match name.token {
            Token::Word => name.text(&sql),
            Token::Quoted => name.text(&sql).trim_matches(['`', '"']),
            _ => return Err(EngineError::NoName),
        };
        let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if name_text.is_empty() || !is_name(name_text) || name_text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(EngineError::NoName);
        }
        let mut arguments = None;
        if let Some(open) = rest.first()
            && open.token == Token::Sign('(')
        {
            let close = rest.iter().position(|t| t.token == Token::Sign(')') && t.depth == 0).unwrap_or(rest.len() - 1);
            let inside = &sql[open.end..rest[close].start];
            let parts = lex::split_commas(inside).map_err(|error| EngineError::Unbalanced(error.to_string()))?;
            arguments = Some(parts);
            rest = &rest[close + 1..];
        }
        let clauses = read_clauses(&sql, rest)?;
        Ok(Self { name: name_text.to_owned(), arguments, clauses })
    }

    /// The text of a clause.
    pub fn clause(&self, wanted: Clause) -> Option<&str> {
        self.clauses.iter().find(|(clause, _)| *clause == wanted).map(|(_, text)| text.as_str())
    }

    /// A setting of the table, without quotes.
    pub fn setting(&self, name: &str) -> Option<String> {
        let all = settings(self.clause(Clause::Settings)?);
        let found = all.iter().find(|setting| setting_name(setting) == name)?;
        let value = found.split_once('=')?.1.trim();
        Some(if value.starts_with('\'') { lex::unquote(value) } else { value.to_owned() })
    }

    /// Conditions that rows meet which the table's TTL removes, as of the day before today. `None`: there is a TTL that cannot
    /// be put so.
    pub fn expired(&self) -> Option<Vec<String>> {
        let Some(text) = self.clause(Clause::Ttl) else { return Some(Vec::new()) };
        let found: Option<Vec<Option<String>>> =
            lex::split_commas(text).ok()?.iter().map(|element| expired(element)).collect();
        found.map(|found| found.into_iter().flatten().collect())
    }

    /// Whether partitions of it can be attached and replaced.
    pub fn is_merge_tree(&self) -> bool {
        self.name.ends_with("MergeTree")
    }

    /// Whether its replicas fetch from each other.
    pub fn is_replicated(&self) -> bool {
        self.name.starts_with("Replicated")
    }

    /// Whether this is `MergeTree(date, [sampling,] (key), granularity, …)`.
    pub fn is_old_syntax(&self) -> bool {
        self.is_merge_tree()
            && !self.clauses.iter().any(|(clause, _)| matches!(clause, Clause::OrderBy | Clause::PartitionBy))
            && self.granularity_argument().is_some()
    }

    /// The path in ZooKeeper and the replica's name, as written (with macros), when they are.
    pub fn replica_arguments(&self) -> Option<(&str, &str)> {
        match self.arguments.as_deref() {
            Some([path, replica, ..])
                if self.is_replicated() && path.starts_with('\'') && replica.starts_with('\'') =>
            {
                Some((path, replica))
            }
            _ => None,
        }
    }

    /// The arguments of the engine without those of replication.
    pub(super) fn own_arguments(&self) -> &[String] {
        let all = self.arguments.as_deref().unwrap_or_default();
        if self.replica_arguments().is_some() { &all[2..] } else { all }
    }

    /// Where the granularity stands among the own arguments, in the old syntax: the first number after the date and key.
    fn granularity_argument(&self) -> Option<usize> {
        let own = self.own_arguments();
        let at = own.iter().position(|text| text.parse::<u64>().is_ok())?;
        (at >= 2).then_some(at)
    }

    /// The partition key: `None` when the table has none.
    pub fn partition_key(&self) -> Option<String> {
        if self.is_old_syntax() {
            return self.own_arguments().first().map(|date| format!("toYYYYMM({date})"));
        }
        self.clause(Clause::PartitionBy).map(str::to_owned)
    }

    /// Every expression that must be computable from the columns, with the name of its place.
    pub fn expressions(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = self
            .clauses
            .iter()
            .filter(|(clause, _)| !matches!(clause, Clause::Settings | Clause::Comment | Clause::Ttl))
            .map(|(clause, text)| (clause.words(), lex::without_directions(text)))
            .collect();
        let own = self.own_arguments();
        let columns = if self.is_old_syntax() {
            own.iter().filter(|text| text.parse::<u64>().is_err()).collect::<Vec<_>>()
        } else {
            own.iter().filter(|text| !text.starts_with('\'') && text.parse::<u64>().is_err()).collect()
        };
        found.extend(columns.into_iter().map(|text| (format!("argument of {}", self.name), text.clone())));
        found
    }

    /// The engine without settings of tables that a server does not know, and the names of those.
    pub fn with_settings_among(&self, known: &BTreeSet<String>) -> (Engine, Vec<String>) {
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

    /// The engine of a staging table for a target table with this engine: plain MergeTree with the same keys,
    /// granularity and disks, nothing that removes rows, and no merges (docs/clickhouse-behaviour.md, §3; docs/design.md, §3).
    ///
    /// The old syntax takes no settings: merges there are stopped by a statement.
    pub fn staging(&self) -> Engine {
        if let Some(at) = self.granularity_argument()
            && self.is_old_syntax()
        {
            let arguments = self.own_arguments()[..=at].to_vec();
            return Engine { name: "MergeTree".into(), arguments: Some(arguments), clauses: Vec::new() };
        }
        let mut clauses: Vec<(Clause, String)> = self
            .clauses
            .iter()
            .filter(|(clause, _)| !matches!(clause, Clause::Ttl | Clause::Settings | Clause::Comment))
            .cloned()
            .collect();
        let kept = self.clause(Clause::Settings).map(kept_settings).unwrap_or_default();
        let settings: Vec<String> =
            kept.into_iter().chain(NO_MERGES.iter().map(|(name, value)| format!("{name} = {value}"))).collect();
        clauses.push((Clause::Settings, settings.join(", ")));
        Engine { name: "MergeTree".into(), arguments: None, clauses }
    }
}

/// Keeps a staging table from merging and from refusing many parts. In the table's own settings, so that a restart of the
/// server does not bring merges back. All are known to 18.16.
const NO_MERGES: &[(&str, &str)] = &[
    ("max_bytes_to_merge_at_max_space_in_pool", "1"),
    ("max_bytes_to_merge_at_min_space_in_pool", "1"),
    ("parts_to_delay_insert", "1000000"),
    ("parts_to_throw_insert", "1000000"),
];

/// The settings of the target that a staging table shares: those that decide how parts look and where they lie.
fn kept_settings(text: &str) -> Vec<String> {
    let kept = |name: &str| {
        name.starts_with("index_granularity")
            || name.starts_with("min_bytes_for_wide")
            || name.starts_with("min_rows_for_wide")
            || name.starts_with("allow_")
            || name.starts_with("add_minmax_index_for_")
            || matches!(
                name,
                "storage_policy"
                    | "disk"
                    | "min_compress_block_size"
                    | "max_compress_block_size"
                    | "ratio_of_defaults_for_sparse_serialization"
                    | "enable_block_number_column"
                    | "enable_block_offset_column"
                    | "enable_mixed_granularity_parts"
                    | "use_minimalistic_part_header_in_zookeeper"
            )
    };
    settings(text).into_iter().filter(|setting| kept(setting_name(setting))).collect()
}

/// `expression [DELETE] [WHERE condition]` of a TTL clause as a condition; nothing for one that moves, recompresses or groups
/// rows. By days: an expression may be a date, and no date beyond the range of DateTime may look like one long ago.
fn expired(element: &str) -> Option<Option<String>> {
    let found = lex::tokens(element).ok()?;
    let at = |word: &str| found.iter().position(|t| t.depth == 0 && t.is_word(element, word));
    if ["TO", "RECOMPRESS"].iter().any(|word| at(word).is_some()) {
        return Some(None);
    }
    if at("GROUP").is_some() {
        return None;
    }
    let (delete, condition) = (at("DELETE"), at("WHERE"));
    let end = delete.or(condition).map_or(element.len(), |at| found[at].start);
    let expired = format!("toDate({}) < today()", element[..end].trim());
    let condition = condition.map(|at| element[found[at].end..].trim());
    Some(Some(condition.map_or(expired.clone(), |condition| format!("{expired} AND ({condition})"))))
}

/// Each `name = value` of a SETTINGS clause.
fn settings(text: &str) -> Vec<String> {
    lex::split_commas(text).unwrap_or_default()
}

fn setting_name(setting: &str) -> &str {
    setting.split('=').next().unwrap_or_default().trim()
}

fn read_clauses(sql: &str, tokens: &[Spanned]) -> Result<Vec<(Clause, String)>, EngineError> {
    let mut starts: Vec<(usize, usize, Clause)> = Vec::new();
    for at in 0..tokens.len() {
        // What comes right after the words of a clause is its value: ORDER BY comment, which 18.16 prints without quotes.
        let is_value = starts.last().is_some_and(|(_, from, _)| at <= *from);
        if tokens[at].depth != 0 || is_value {
            continue;
        }
        let clause = Clause::ALL.iter().find(|(_, words)| {
            words.iter().enumerate().all(|(i, word)| tokens.get(at + i).is_some_and(|t| t.is_word(sql, word)))
        });
        if let Some((clause, words)) = clause {
            starts.push((at, at + words.len(), *clause));
        }
    }
    if let Some(first) = tokens.first()
        && starts.first().is_none_or(|(at, ..)| *at != 0)
    {
        return Err(EngineError::NotAClause(first.text(sql).to_owned()));
    }
    let mut clauses: Vec<(Clause, String)> = Vec::new();
    for (i, (_, from, clause)) in starts.iter().enumerate() {
        let to = starts.get(i + 1).map_or(tokens.len(), |(at, ..)| *at);
        if *from == to {
            return Err(EngineError::BadClause(clause.words(), "empty"));
        }
        if clauses.iter().any(|(seen, _)| seen == clause) {
            return Err(EngineError::BadClause(clause.words(), "there twice"));
        }
        clauses.push((*clause, sql[tokens[*from].start..tokens[to - 1].end].to_owned()));
    }
    Ok(clauses)
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(arguments) = &self.arguments {
            write!(f, "({})", arguments.join(", "))?;
        }
        let mut clauses = self.clauses.clone();
        clauses.sort_by_key(|(clause, _)| *clause);
        for (clause, text) in clauses {
            write!(f, " {} {text}", clause.words())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Engine {
        Engine::parse(text).unwrap()
    }

    #[test]
    fn a_ttl_is_a_condition() {
        let expired = |ttl: &str| parsed(&format!("MergeTree ORDER BY a TTL {ttl} SETTINGS x = 1")).expired();
        assert_eq!(expired("d + toIntervalDay(1)"), Some(vec!["toDate(d + toIntervalDay(1)) < today()".into()]));
        assert_eq!(
            expired("d DELETE WHERE n > 5, d + INTERVAL 1 DAY TO DISK 's', d RECOMPRESS CODEC(ZSTD(9))"),
            Some(vec!["toDate(d) < today() AND (n > 5)".into()])
        );
        assert_eq!(expired("d GROUP BY a SET n = sum(n)"), None);
        assert_eq!(parsed("MergeTree ORDER BY a").expired(), Some(Vec::new()));
    }

    #[test]
    fn an_engine_may_end_like_a_statement() {
        let plain = "MergeTree PARTITION BY d ORDER BY (a, ';') SETTINGS storage_policy = ';'";
        for end in [";", " ;\n ", ";; -- the end\n"] {
            assert_eq!(parsed(&format!("{plain}{end}")), parsed(plain), "{end:?}");
        }
        for wrong in ["MergeTree ORDER BY a; SELECT 1", ";", "MergeTree ORDER BY ';"] {
            assert!(Engine::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_setting_is_found_without_its_quotes() {
        let engine = parsed("MergeTree ORDER BY a SETTINGS index_granularity = 1024, storage_policy = 'hot'");
        assert_eq!(engine.setting("storage_policy").as_deref(), Some("hot"));
        assert_eq!(engine.setting("index_granularity").as_deref(), Some("1024"));
        assert_eq!(engine.setting("disk"), None);
    }

    #[test]
    fn new_syntax_is_taken_apart_and_put_together() {
        let engine = parsed(
            "ENGINE=ReplicatedReplacingMergeTree('/t/{shard}/x', '{replica}', v)\n PARTITION BY (toYYYYMM(d), s)
             ORDER BY (a, intHash32(a)) TTL d + INTERVAL 1 DAY SETTINGS index_granularity = 1024, merge_with_ttl_timeout=1",
        );
        assert_eq!(engine.replica_arguments(), Some(("'/t/{shard}/x'", "'{replica}'")));
        assert_eq!(engine.partition_key().as_deref(), Some("(toYYYYMM(d), s)"));
        assert!(engine.merges_rows() && engine.is_replicated() && !engine.is_old_syntax());
        assert_eq!(
            engine.staging().to_string(),
            "MergeTree PARTITION BY (toYYYYMM(d), s) ORDER BY (a, intHash32(a)) SETTINGS index_granularity = 1024, \
             max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1, \
             parts_to_delay_insert = 1000000, parts_to_throw_insert = 1000000"
        );
    }

    #[test]
    fn old_syntax_keeps_its_keys_and_loses_replication_and_columns_to_sum() {
        let engine = parsed("ReplicatedSummingMergeTree('/p', 'r', d, intHash32(u), (a, intHash32(u)), 8192, (x, y))");
        assert!(engine.is_old_syntax());
        assert_eq!(engine.partition_key().as_deref(), Some("toYYYYMM(d)"));
        assert_eq!(engine.staging().to_string(), "MergeTree(d, intHash32(u), (a, intHash32(u)), 8192)");
    }

    #[test]
    fn settings_that_a_server_does_not_know_are_left_out_by_name() {
        let known = BTreeSet::from(["index_granularity".to_owned()]);
        for (engine, fitting, left_out) in [
            (
                "MergeTree ORDER BY a SETTINGS storage_policy = 'a,b', index_granularity = 1024, ttl_only_drop_parts=1",
                "MergeTree ORDER BY a SETTINGS index_granularity = 1024",
                &["storage_policy", "ttl_only_drop_parts"][..],
            ),
            ("MergeTree ORDER BY a SETTINGS ttl_only_drop_parts = 1", "MergeTree ORDER BY a", &["ttl_only_drop_parts"]),
            ("MergeTree ORDER BY a", "MergeTree ORDER BY a", &[]),
        ] {
            let (found, unknown) = parsed(engine).with_settings_among(&known);
            assert_eq!(
                (found.to_string().as_str(), unknown),
                (fitting, left_out.iter().map(|s| (*s).to_owned()).collect())
            );
        }
    }

    #[test]
    fn an_engine_without_parentheses_or_clauses_is_one() {
        assert_eq!(parsed("Memory").to_string(), "Memory");
        assert_eq!(parsed("`Null`").to_string(), "Null");
        assert_eq!(parsed("MergeTree ORDER BY tuple()").clause(Clause::OrderBy), Some("tuple()"));
        assert_eq!(parsed("MergeTree() ORDER BY a").arguments, Some(vec![]));
        let named = parsed("MergeTree PARTITION BY ttl ORDER BY comment SETTINGS index_granularity = 8192");
        assert_eq!((named.clause(Clause::OrderBy), named.clause(Clause::Comment)), (Some("comment"), None));
        assert_eq!((named.clause(Clause::PartitionBy), named.clause(Clause::Ttl)), (Some("ttl"), None));
    }

    #[test]
    fn what_is_no_engine_says_why() {
        for (text, why) in [
            ("", "it does not start with the name of an engine"),
            ("('a')", "it does not start with the name of an engine"),
            ("`a` b`", "a quote ` is not closed"),
            ("`a b`", "it does not start with the name of an engine"),
            ("MergeTree(", "a bracket ( is not closed"),
            ("MergeTree ORDER BY", "ORDER BY is empty"),
            ("MergeTree ORDER BY a ORDER BY b", "ORDER BY is there twice"),
            (
                "MergeTree rand()",
                "\"rand\" is not a clause of an engine (PARTITION BY, PRIMARY KEY, ORDER BY, SAMPLE BY, TTL, SETTINGS)",
            ),
        ] {
            assert_eq!(Engine::parse(text).unwrap_err().to_string(), why, "{text}");
        }
    }
}
