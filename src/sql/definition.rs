//! A table as its server describes it.

use crate::model::TableName;

use super::engine::{Clause, Engine, EngineError};
use super::lex::{self, Token};
use super::quote;

/// Where the value of a column comes from.
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
    /// Not stored; only there during an insert (22.x and later).
    Ephemeral,
}

impl DefaultKind {
    /// Whether an INSERT carries it.
    pub fn is_inserted(self) -> bool {
        matches!(self, Self::None | Self::Default)
    }
}

/// A column of `system.columns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as text.
    pub type_name: String,
    /// Where its value comes from.
    pub default_kind: DefaultKind,
    /// The expression of that, or empty.
    pub default_expression: String,
    /// The comment, or empty.
    pub comment: String,
}

/// A table of `system.tables` with its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDefinition {
    /// Its name.
    pub name: TableName,
    /// Its engine with keys and settings.
    pub engine: Engine,
    /// Columns in their order.
    pub columns: Vec<Column>,
    /// `system.tables.sorting_key`, without brackets: `a, intHash32(b)`.
    pub sorting_key: String,
    /// The declarations between the brackets of CREATE TABLE, one each: columns, indices, projections, constraints.
    pub declarations: Vec<String>,
}

/// Why a server's description of a table could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// The statement has no list of columns.
    #[error("the CREATE statement of {table} has no list of columns that we understand: {why}")]
    Create {
        /// The table.
        table: TableName,
        /// What stood in the way.
        why: String,
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

impl TableDefinition {
    /// Reads `create_table_query` and `engine_full` of `system.tables` (18.16 … 26.9 have both).
    ///
    /// # Errors
    /// When one of them has a form that is not known; views without columns have no declarations and are no error.
    pub fn read(
        name: TableName,
        engine_full: &str,
        create_query: &str,
        columns: Vec<Column>,
        sorting_key: &str,
    ) -> Result<Self, DefinitionError> {
        let engine =
            Engine::parse(engine_full).map_err(|source| DefinitionError::Engine { table: name.clone(), source })?;
        let declarations = declarations(create_query)
            .map_err(|why| DefinitionError::Create { table: name.clone(), why: why.to_string() })?;
        Ok(Self { name, engine, columns, sorting_key: sorting_key.to_owned(), declarations })
    }

    /// A column by its name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether rows of it expire.
    pub fn has_ttl(&self) -> bool {
        self.engine.clause(Clause::Ttl).is_some()
            || self.declarations.iter().any(|text| &without_clause(text, "TTL") != text)
    }

    /// The statement that makes a table with these declarations and another name and engine.
    ///
    /// `comments`: 18.16 cannot make a Replicated table whose columns have comments (facts file, T10).
    pub fn create(&self, name: &TableName, engine: &Engine, comments: bool) -> String {
        let declarations: Vec<String> = if comments {
            self.declarations.clone()
        } else {
            self.declarations.iter().map(|text| without_clause(text, "COMMENT")).collect()
        };
        format!("CREATE TABLE IF NOT EXISTS {} ({}) ENGINE = {engine}", quote::table(name), declarations.join(", "))
    }

    /// The statement that makes a staging table for this one: the same columns, indices and projections, but nothing
    /// that removes rows (TTL), and no constraints, since the rows have passed those of the source.
    ///
    /// `with_materialized`: the values of MATERIALIZED columns will be inserted, so they are declared DEFAULT. Partitions can
    /// be attached all the same: only names and types must agree (facts file, §3).
    pub fn create_staging(&self, staging: &TableName, with_materialized: bool) -> String {
        let kept: Vec<String> = self
            .declarations
            .iter()
            .filter(|text| !starts_with_word(text, "CONSTRAINT"))
            .map(|text| without_clause(&without_clause(text, "TTL"), "COMMENT"))
            .map(|text| if with_materialized { materialized_as_default(&text) } else { text })
            .collect();
        let engine = self.engine.staging();
        format!("CREATE TABLE {} ({}) ENGINE = {engine}", quote::table(staging), kept.join(", "))
    }
}

fn declarations(create_query: &str) -> Result<Vec<String>, lex::LexError> {
    let found = lex::tokens(create_query)?;
    // The list is the first bracket that opens outside all others, unless ENGINE or AS come first (views, AS other_table).
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

fn starts_with_word(declaration: &str, word: &str) -> bool {
    lex::tokens(declaration).is_ok_and(|found| found.first().is_some_and(|t| t.is_word(declaration, word)))
}

fn materialized_as_default(declaration: &str) -> String {
    let Ok(found) = lex::tokens(declaration) else { return declaration.to_owned() };
    match found.iter().skip(1).find(|t| t.depth == 0 && t.is_word(declaration, "MATERIALIZED")) {
        Some(word) => format!("{}DEFAULT{}", &declaration[..word.start], &declaration[word.end..]),
        None => declaration.to_owned(),
    }
}

/// A column's declaration without its `COMMENT '…'` or its `TTL …`.
fn without_clause(declaration: &str, clause: &str) -> String {
    let Ok(found) = lex::tokens(declaration) else { return declaration.to_owned() };
    // The first token is the column's own name, which may be that very word.
    let Some(at) = found.iter().skip(1).position(|t| t.depth == 0 && t.is_word(declaration, clause)).map(|at| at + 1)
    else {
        return declaration.to_owned();
    };
    let end = match clause {
        "COMMENT" => found.get(at + 1).map_or(declaration.len(), |t| t.end),
        _ => declaration.len(),
    };
    format!("{}{}", &declaration[..found[at].start], &declaration[end..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(create: &str, engine: &str) -> TableDefinition {
        TableDefinition::read(TableName::new("d", "t"), engine, create, Vec::new(), "").unwrap()
    }

    #[test]
    fn columns_are_kept_as_declared_and_staging_loses_what_removes_rows() {
        let create = "CREATE TABLE d.t ( `d` Date, `s` String DEFAULT 'a,)' CODEC(ZSTD(3)) TTL d + toIntervalDay(1), \
                      comment String COMMENT 'it''s', INDEX i s TYPE minmax GRANULARITY 1, CONSTRAINT c CHECK s != '') \
                      ENGINE = MergeTree PARTITION BY d ORDER BY tuple() TTL d + toIntervalDay(2)";
        let engine =
            "MergeTree PARTITION BY d ORDER BY tuple() TTL d + toIntervalDay(2) SETTINGS index_granularity = 8192";
        let table = definition(create, engine);
        assert_eq!(table.declarations.len(), 5);
        assert_eq!(
            table.create(&TableName::new("x", "y"), &Engine::parse("Log").unwrap(), false),
            "CREATE TABLE IF NOT EXISTS `x`.`y` (`d` Date, `s` String DEFAULT 'a,)' CODEC(ZSTD(3)) TTL d + toIntervalDay(1), \
             comment String, INDEX i s TYPE minmax GRANULARITY 1, CONSTRAINT c CHECK s != '') ENGINE = Log"
        );
        assert!(table.has_ttl());
        let staging = table.create_staging(&TableName::new("x", "s"), false);
        assert!(
            !staging.contains("TTL") && !staging.contains("CONSTRAINT") && staging.contains("INDEX i s"),
            "{staging}"
        );
        assert!(staging.contains("CODEC(ZSTD(3)), comment String,"), "{staging}");
    }

    #[test]
    fn a_view_has_no_declarations() {
        assert!(definition("CREATE VIEW d.t AS SELECT (1)", "View").declarations.is_empty());
    }
}
