//! The definition of a table, as its server describes it.

use super::engine::{Clause, Engine, EngineError};
use super::lex::{self, Token};
use super::{quote, types};
use crate::model::TableName;

/// How a column gets its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultKind {
    /// No expression: it is stored, and inserted.
    None,
    /// Stored; computed when an insert leaves it out.
    Default,
    /// Stored; always computed.
    Materialized,
    /// Not stored; computed when read.
    Alias,
    /// Not stored; available only during an insert (22.x and later).
    Ephemeral,
}

impl DefaultKind {
    /// Returns whether an INSERT contains it.
    pub fn is_inserted(self) -> bool {
        matches!(self, Self::None | Self::Default)
    }
}

/// A column of `system.columns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name of the column.
    pub name: String,
    /// The type of the column as text.
    pub type_name: String,
    /// How the column gets its value.
    pub default_kind: DefaultKind,
    /// The expression of the default, or empty.
    pub default_expression: String,
    /// The comment, or empty.
    pub comment: String,
}

/// A table of `system.tables` with its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDefinition {
    /// The name of the table.
    pub(crate) name: TableName,
    /// The engine of the table with keys and settings.
    pub engine: Engine,
    /// Columns in their order.
    pub columns: Vec<Column>,
    /// `system.tables.sorting_key`, without brackets: `a, intHash32(b)`.
    pub sorting_key: String,
    /// The declarations between the brackets of CREATE TABLE: columns, indices, projections, constraints.
    pub declarations: Vec<String>,
    /// The table's own comment, as the literal in its statement. (`engine_full` does not contain it on any version.)
    pub comment: Option<String>,
    /// The CREATE statement of a view.
    pub(crate) view: Option<String>,
}

/// Why a server's description of a table cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DefinitionError {
    /// The statement has no list of columns.
    #[error("the CREATE statement of {table} has no list of columns that we understand: {why}")]
    Create {
        /// The table.
        table: TableName,
        /// What stood in the way.
        why: String,
    },
    /// A column's type.
    #[error("the type of column {column} of {table} is nested more than {limit} deep")]
    Depth {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
        /// The deepest nesting allowed.
        limit: usize,
    },
    /// The engine.
    #[error("the engine of {table} is not understood: {source}")]
    Engine {
        /// The table.
        table: TableName,
        /// What stood in the way.
        source: EngineError,
    },
}

impl Column {
    /// Returns the value of the column's own expression, cast to its type.
    pub(crate) fn computed(&self) -> String {
        format!("CAST({} AS {})", self.default_expression, self.type_name)
    }
}

impl TableDefinition {
    /// Parses `create_table_query` and `engine_full` of `system.tables` (18.16 … 26.9 have both).
    ///
    /// # Errors
    ///
    /// If one of them has an unknown form. Views without columns have no declarations, which is no error.
    pub(crate) fn read(
        name: TableName,
        engine_full: &str,
        create_query: &str,
        columns: Vec<Column>,
        sorting_key: &str,
    ) -> Result<Self, DefinitionError> {
        if let Some(column) = columns.iter().find(|column| types::is_too_deep(&column.type_name)) {
            return Err(DefinitionError::Depth { table: name, column: column.name.clone(), limit: types::MAX_DEPTH });
        }
        let engine =
            Engine::parse(engine_full).map_err(|source| DefinitionError::Engine { table: name.clone(), source })?;
        let declarations = declarations(create_query)
            .map_err(|why| DefinitionError::Create { table: name.clone(), why: why.to_string() })?;
        let comment = own_comment(create_query);
        let view = engine.name.ends_with("View").then(|| create_query.to_owned());
        Ok(Self { name, engine, columns, sorting_key: sorting_key.to_owned(), declarations, comment, view })
    }

    /// Returns a column by its name.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns the constraints that an INSERT checks: their names, and their expressions as written. `ASSUME`
    /// constraints are not checked and are left out.
    pub(crate) fn constraints(&self) -> Vec<(String, String)> {
        self.declarations.iter().filter_map(|text| check_constraint(text)).collect()
    }

    /// Returns whether its rows expire.
    pub(crate) fn has_ttl(&self) -> bool {
        self.engine.clause(Clause::Ttl).is_some()
            || self.declarations.iter().any(|text| &without_clause(text, "TTL") != text)
    }

    /// Returns the statement that creates a table with these declarations and this comment, and another name and
    /// engine.
    pub fn create(&self, name: &TableName, engine: &Engine) -> String {
        let comment = match &self.comment {
            Some(comment) if engine.clause(Clause::Comment).is_none() => format!(" COMMENT {comment}"),
            _ => String::new(),
        };
        let declarations = self.declarations.join(", ");
        format!("CREATE TABLE IF NOT EXISTS {} ({declarations}) ENGINE = {engine}{comment}", quote::table(name))
    }

    /// Returns declarations of the columns with nothing but their types.
    pub(crate) fn plain_declarations(&self) -> Vec<String> {
        self.columns.iter().map(|column| format!("{} {}", quote::ident(&column.name), column.type_name)).collect()
    }

    /// Returns the statement that creates a staging table for this one. Its columns are the transferred columns in a
    /// given order, each a plain column: every value is given when rows are staged, also for DEFAULT and MATERIALIZED
    /// columns, because an INSERT through `remote()` knows no other way on 18.16. It keeps indices and projections.
    /// It has nothing that removes rows (TTL) and no constraints: the rows have passed the source's constraints, and
    /// rows that would fail the target's were counted before copying. Columns that are not transferred and have an
    /// expression are MATERIALIZED: an INSERT without a list of columns leaves them out, and the server computes
    /// them. Partitions of the staging table can be attached and replaced, because only names and types of stored
    /// columns must agree (docs/clickhouse-behaviour.md, §3).
    ///
    /// Returns `None` if this table lacks one of the columns.
    pub fn create_staging(&self, staging: &TableName, columns: &[String]) -> Option<String> {
        self.create_like(staging, columns, &self.engine.staging())
    }

    /// Returns the statement for a table that parts pass through, at a path in ZooKeeper.
    pub(crate) fn create_passage(
        &self,
        name: &TableName,
        columns: &[String],
        path: &str,
        replica: &str,
    ) -> Option<String> {
        self.create_like(name, columns, &self.engine.passage(path, replica))
    }

    fn create_like(&self, name: &TableName, columns: &[String], engine: &Engine) -> Option<String> {
        let declaration_of = |name: &String| self.declarations.iter().find(|text| declares(text, name));
        let mut kept: Vec<String> =
            columns.iter().map(|name| declaration_of(name).map(|text| as_plain(text))).collect::<Option<_>>()?;
        kept.extend(self.computed_beside(columns));
        let of_the_table = |text: &&String| ["INDEX", "PROJECTION"].iter().any(|word| starts_with_word(text, word));
        kept.extend(self.declarations.iter().filter(of_the_table).cloned());
        Some(format!("CREATE TABLE {} ({}) ENGINE = {engine}", quote::table(name), kept.join(", ")))
    }
}

impl TableDefinition {
    /// Returns declarations of stored columns that the server computes itself, next to the transferred ones, and of
    /// the columns that are not stored, which their expressions may name.
    fn computed_beside(&self, transferred: &[String]) -> Vec<String> {
        let others = self.columns.iter().filter(|column| !transferred.contains(&column.name));
        let others: Vec<&Column> = others.filter(|column| column.default_kind != DefaultKind::None).collect();
        let is_stored = |kind: DefaultKind| matches!(kind, DefaultKind::Default | DefaultKind::Materialized);
        if !others.iter().any(|column| is_stored(column.default_kind)) {
            return Vec::new();
        }
        let declared = |column: &&Column| {
            let text = self.declarations.iter().find(|text| declares(text, &column.name))?;
            Some(if column.default_kind == DefaultKind::Default { as_materialized(text) } else { bare(text) })
        };
        others.iter().filter_map(declared).collect()
    }
}

/// `CONSTRAINT name CHECK expression`.
fn check_constraint(declaration: &str) -> Option<(String, String)> {
    let found = lex::tokens(declaration).ok()?;
    let [constraint, name, check, first, ..] = found.as_slice() else { return None };
    let is_one = constraint.is_word(declaration, "CONSTRAINT") && check.is_word(declaration, "CHECK");
    let name = name.text(declaration).trim_matches('`').to_owned();
    is_one.then(|| (name, declaration[first.start..].trim().to_owned()))
}

/// Returns whether a declaration is that of a column. Columns of a Nested have a dot in their names, which 18.16
/// prints without quotes: `n.x`.
pub(super) fn declares(declaration: &str, column: &str) -> bool {
    let Ok(found) = lex::tokens(declaration) else { return false };
    let name = &declaration[found.first().map_or(0, |t| t.start)..name_end(&found)];
    name == column || name == quote::ident(column)
}

/// Returns where the name of a declared column ends.
fn name_end(found: &[lex::Spanned]) -> usize {
    let mut end = found.first().map_or(0, |t| t.end);
    for pair in found.get(1..).unwrap_or_default().chunks(2) {
        match pair {
            [dot, word] if dot.token == Token::Sign('.') => end = word.end,
            _ => break,
        }
    }
    end
}

fn declarations(create_query: &str) -> Result<Vec<String>, lex::LexError> {
    let found = lex::tokens(create_query)?;
    // The list is the first bracket outside all others, unless ENGINE or AS come first (views, AS other_table).
    let end = found
        .iter()
        .position(|t| t.depth == 0 && (t.is_word(create_query, "ENGINE") || t.is_word(create_query, "AS")))
        .unwrap_or(found.len());
    let Some(open) = found[..end].iter().position(|t| t.token == Token::Sign('(') && t.depth == 0) else {
        return Ok(Vec::new());
    };
    let Some(close) = found[open..].iter().find(|t| t.token == Token::Sign(')') && t.depth == 0) else {
        return Ok(Vec::new());
    };
    lex::split_commas(&create_query[found[open].end..close.start])
}

/// Returns the literal of `… ENGINE = … COMMENT '…'`, which comes last.
fn own_comment(create_query: &str) -> Option<String> {
    let found = lex::tokens(create_query).ok()?;
    let engine = found.iter().position(|t| t.depth == 0 && t.is_word(create_query, "ENGINE"))?;
    let of_comment = |pair: &&[lex::Spanned]| {
        pair[0].depth == 0 && pair[0].is_word(create_query, "COMMENT") && pair[1].token == Token::Text
    };
    let comment = found[engine..].windows(2).find(of_comment)?;
    Some(comment[1].text(create_query).to_owned())
}

pub(super) fn starts_with_word(declaration: &str, word: &str) -> bool {
    lex::tokens(declaration).is_ok_and(|found| found.first().is_some_and(|t| t.is_word(declaration, word)))
}

/// Returns a column's declaration without its TTL and its comment.
fn bare(declaration: &str) -> String {
    without_clause(&without_clause(declaration, "TTL"), "COMMENT")
}

/// Returns the declaration of a DEFAULT column as a MATERIALIZED one.
fn as_materialized(declaration: &str) -> String {
    let bare = bare(declaration);
    let Ok(found) = lex::tokens(&bare) else { return bare };
    // The first token is the column's own name, which may be that very word.
    match found.iter().skip(1).find(|t| t.depth == 0 && t.is_word(&bare, "DEFAULT")) {
        Some(word) => format!("{}MATERIALIZED{}", &bare[..word.start], &bare[word.end..]),
        None => bare,
    }
}

/// Returns a column's declaration with its name, type and codec only.
fn as_plain(declaration: &str) -> String {
    let bare = bare(declaration);
    let Ok(found) = lex::tokens(&bare) else { return bare };
    let is_default = |t: &lex::Spanned| {
        t.depth == 0 && ["DEFAULT", "MATERIALIZED", "ALIAS", "EPHEMERAL"].iter().any(|word| t.is_word(&bare, word))
    };
    let Some(start) = found.iter().skip(1).find(|t| is_default(t)).map(|t| t.start) else { return bare };
    let is_codec = |pair: &[lex::Spanned]| {
        pair[0].start > start
            && pair[0].depth == 0
            && pair[0].is_word(&bare, "CODEC")
            && pair[1].token == Token::Sign('(')
    };
    match found.windows(2).find(|pair| is_codec(pair)) {
        Some(codec) => format!("{}{}", &bare[..start], &bare[codec[0].start..]),
        None => bare[..start].trim_end().to_owned(),
    }
}

/// Returns a column's declaration without its `COMMENT '…'`, its `CODEC(…)` or its `TTL …`.
pub(super) fn without_clause(declaration: &str, clause: &str) -> String {
    let Ok(found) = lex::tokens(declaration) else { return declaration.to_owned() };
    // The first token is the column's own name, which may be that very word.
    let Some(index) =
        found.iter().skip(1).position(|t| t.depth == 0 && t.is_word(declaration, clause)).map(|index| index + 1)
    else {
        return declaration.to_owned();
    };
    let end = match clause {
        "COMMENT" => found.get(index + 1).map_or(declaration.len(), |t| t.end),
        "CODEC" => found[index..]
            .iter()
            .find(|t| t.depth == 0 && t.token == Token::Sign(')'))
            .map_or(declaration.len(), |t| t.end),
        _ => declaration.len(),
    };
    format!("{}{}", &declaration[..found[index].start], &declaration[end..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(create: &str, engine: &str) -> TableDefinition {
        TableDefinition::read(TableName::new("d", "t"), engine, create, Vec::new(), "").unwrap()
    }

    #[test]
    fn a_new_table_keeps_all_declarations_and_a_staging_table_has_no_ttl_or_constraint() {
        let create = "CREATE TABLE d.t ( `d` Date, `s` String DEFAULT 'a,)' CODEC(ZSTD(3)) TTL d + toIntervalDay(1), \
                      comment String COMMENT 'it''s', INDEX i s TYPE minmax GRANULARITY 1, CONSTRAINT c CHECK s != '') \
                      ENGINE = MergeTree PARTITION BY d ORDER BY tuple() TTL d + toIntervalDay(2)";
        let engine =
            "MergeTree PARTITION BY d ORDER BY tuple() TTL d + toIntervalDay(2) SETTINGS index_granularity = 8192";
        let table = definition(create, engine);
        assert_eq!(table.declarations.len(), 5);
        assert_eq!(
            table.create(&TableName::new("x", "y"), &Engine::parse("Log").unwrap()),
            "CREATE TABLE IF NOT EXISTS `x`.`y` (`d` Date, `s` String DEFAULT 'a,)' CODEC(ZSTD(3)) TTL d + toIntervalDay(1), \
             comment String COMMENT 'it''s', INDEX i s TYPE minmax GRANULARITY 1, CONSTRAINT c CHECK s != '') ENGINE = Log"
        );
        assert!(table.has_ttl());
        assert_eq!(table.constraints(), [("c".to_owned(), "s != ''".to_owned())]);
        let columns: Vec<String> = ["comment", "s", "d"].map(str::to_owned).into();
        let staging = table.create_staging(&TableName::new("x", "s"), &columns).unwrap();
        assert!(
            !staging.contains("TTL") && !staging.contains("CONSTRAINT") && staging.contains("INDEX i s"),
            "{staging}"
        );
        assert!(staging.contains("(comment String, `s` String CODEC(ZSTD(3)), `d` Date, INDEX"), "{staging}");
        assert_eq!(table.create_staging(&TableName::new("x", "s"), &["nowhere".to_owned()]), None);
    }

    #[test]
    fn columns_that_are_not_transferred_are_computed_in_the_staging_table() {
        let create = "CREATE TABLE d.t (a Int8, x String DEFAULT dictGet('d', 'DEFAULT', u) CODEC(ZSTD(3)) COMMENT 'c' TTL d, \
                      m Int8 MATERIALIZED a + 1, u Int8 ALIAS a, e Int8 EPHEMERAL 1, n Int8) ENGINE = MergeTree ORDER BY a";
        let kinds = [
            ("a", DefaultKind::None),
            ("x", DefaultKind::Default),
            ("m", DefaultKind::Materialized),
            ("u", DefaultKind::Alias),
            ("e", DefaultKind::Ephemeral),
            ("n", DefaultKind::None),
        ];
        let column = |(name, default_kind): (&str, DefaultKind)| Column {
            name: name.into(),
            type_name: "Int8".into(),
            default_kind,
            default_expression: String::new(),
            comment: String::new(),
        };
        let table = TableDefinition { columns: kinds.map(column).into(), ..definition(create, "MergeTree ORDER BY a") };
        let staging = |columns: &[&str]| {
            let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
            table.create_staging(&TableName::new("x", "s"), &columns).unwrap()
        };
        let all = staging(&["n", "a", "x", "m"]);
        assert!(all.contains("(n Int8, a Int8, x String CODEC(ZSTD(3)), m Int8) ENGINE"), "{all}");
        let without_computed = staging(&["n", "a"]);
        let computed = "(n Int8, a Int8, x String MATERIALIZED dictGet('d', 'DEFAULT', u) CODEC(ZSTD(3)), \
                        m Int8 MATERIALIZED a + 1, u Int8 ALIAS a, e Int8 EPHEMERAL 1) ENGINE";
        assert!(without_computed.contains(computed), "{without_computed}");
    }

    #[test]
    fn nested_columns_are_found_with_and_without_quotes() {
        assert!(declares("n.x Array(UInt8)", "n.x") && declares("`n.x` Array(UInt8)", "n.x"));
        assert!(!declares("n.x Array(UInt8)", "n") && !declares("n Int8", "n.x"));
        assert_eq!(as_plain("n.x Array(UInt8) DEFAULT [1]"), "n.x Array(UInt8)");
    }

    #[test]
    fn the_comment_of_a_table_is_kept_unless_the_engine_has_one() {
        let create = "CREATE TABLE d.t (`comment` String COMMENT 'of a column') ENGINE = MergeTree ORDER BY comment \
                      SETTINGS index_granularity = 8192 COMMENT 'a table; it\\'s'";
        let table = definition(create, "MergeTree ORDER BY comment SETTINGS index_granularity = 8192");
        assert_eq!(table.comment.as_deref(), Some(r"'a table; it\'s'"));
        let created = |engine: &str| table.create(&TableName::new("x", "y"), &Engine::parse(engine).unwrap());
        assert!(created("Log").ends_with(r"ENGINE = Log COMMENT 'a table; it\'s'"), "{}", created("Log"));
        assert!(created("Log COMMENT 'x'").ends_with("ENGINE = Log COMMENT 'x'"), "{}", created("Log COMMENT 'x'"));
        assert_eq!(definition("CREATE TABLE d.t (c String COMMENT 'x') ENGINE = Log", "Log").comment, None);
    }

    #[test]
    fn a_view_has_no_declarations() {
        assert!(definition("CREATE VIEW d.t AS SELECT (1)", "View").declarations.is_empty());
    }
}
