//! Decides which rows a SELECT from a table returns: the table's own, those of other tables of its server, or any.

use super::definition::TableDefinition;
use super::engine::Engine;
use super::lex::{self, Spanned, Token};
use crate::model::TableName;

/// The rows that a SELECT from a table returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Rows of its own, which no other server returns.
    Own,
    /// The rows of other tables of the same server.
    Tables(Vec<Beneath>),
    /// Rows that other servers may return as well.
    Shared,
    /// No rows that could be copied, for this reason.
    Nothing(&'static str),
}

/// A table, or several, that another table reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Beneath {
    /// This table.
    Table(TableName),
    /// Tables of a database that match a regular expression.
    Matching {
        /// The database.
        database: String,
        /// The regular expression.
        pattern: String,
    },
}

/// The table whose rows a Distributed table returns, on one replica of each shard of a cluster that the server knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The name of the cluster.
    pub(crate) cluster: String,
    /// The table.
    pub(crate) table: TableName,
}

/// Engines whose tables have rows of their own, besides the MergeTree family.
const OWN: [&str; 7] = ["Log", "TinyLog", "StripeLog", "Memory", "Join", "File", "EmbeddedRocksDB"];
/// Engines that cannot be copied from.
const NOTHING: [(&str, &str); 11] = [
    ("Set", "ClickHouse cannot read it"),
    ("Null", "it keeps no rows"),
    ("Kafka", CONSUMES),
    ("RabbitMQ", CONSUMES),
    ("NATS", CONSUMES),
    ("FileLog", CONSUMES),
    ("S3Queue", CONSUMES),
    ("AzureQueue", CONSUMES),
    ("GenerateRandom", INVENTS),
    ("FuzzJSON", INVENTS),
    ("FuzzQuery", INVENTS),
];
const CONSUMES: &str = "reading it takes its rows away";
const INVENTS: &str = "it gives other rows each time it is read";

impl TableDefinition {
    /// Returns the origin of the rows that a SELECT from this table returns.
    pub(crate) fn reads(&self) -> Reads {
        let name = self.engine.name.as_str();
        if let Some((_, why)) = NOTHING.iter().find(|(engine, _)| *engine == name) {
            return Reads::Nothing(why);
        }
        let beneath = match name {
            _ if is_own(&self.engine) => return Reads::Own,
            "Buffer" => self.destination(),
            "Merge" => self.matching(),
            "MaterializedView" => return self.view.as_deref().map_or(Reads::Shared, |text| self.materialized(text)),
            "View" => self.view.as_deref().and_then(|text| tables_read(text, &self.name.database)),
            _ => None,
        };
        beneath.map_or(Reads::Shared, Reads::Tables)
    }

    /// Returns whether the statement creates a view or a dictionary, so that the columns of `CREATE` are not those of
    /// a table.
    pub(crate) fn is_no_table(&self) -> bool {
        self.engine.name.ends_with("View") || self.engine.name == "Dictionary"
    }

    /// Returns the table behind a Distributed table. `None` for other engines, and where the database is that of the account on the
    /// other servers.
    pub(crate) fn behind(&self) -> Option<Behind> {
        let [cluster, database, table, ..] = self.engine.arguments.as_deref()? else { return None };
        let behind =
            Behind { cluster: argument(cluster)?, table: TableName::new(argument(database)?, argument(table)?) };
        (self.engine.name == "Distributed" && !behind.table.database.is_empty()).then_some(behind)
    }

    fn destination(&self) -> Option<Vec<Beneath>> {
        let [database, table, ..] = self.engine.arguments.as_deref()? else { return None };
        let table = TableName::new(argument(database)?, argument(table)?);
        Some(if table.table.is_empty() { Vec::new() } else { vec![Beneath::Table(table)] })
    }

    fn matching(&self) -> Option<Vec<Beneath>> {
        let [database, pattern] = self.engine.arguments.as_deref()? else { return None };
        Some(vec![Beneath::Matching { database: argument(database)?, pattern: argument(pattern)? }])
    }

    /// Returns the table that a materialized view reads, from its CREATE statement: the table after TO, or else one
    /// of its own.
    fn materialized(&self, create: &str) -> Reads {
        let Ok(found) = lex::tokens(create) else { return Reads::Shared };
        let word = |word: &str| found.iter().position(|t| t.depth == 0 && t.is_word(create, word));
        let end = word("AS").unwrap_or(found.len());
        if let Some(index) = word("TO").filter(|index| *index < end) {
            let table = name_at(create, &found, index + 1, &self.name.database);
            return table.map_or(Reads::Shared, |(table, _)| Reads::Tables(vec![Beneath::Table(table)]));
        }
        let engine = word("ENGINE").filter(|index| *index < end).and_then(|index| found.get(index + 2));
        let engine = engine.and_then(|name| Engine::parse(name.text(create)).ok());
        if engine.is_some_and(|engine| is_own(&engine)) { Reads::Own } else { Reads::Shared }
    }
}

fn is_own(engine: &Engine) -> bool {
    engine.is_merge_tree() || OWN.contains(&engine.name.as_str())
}

/// Returns an argument of an engine that is a name or a literal; `None` for an expression.
fn argument(text: &str) -> Option<String> {
    let found = lex::tokens(text).ok()?;
    match found.as_slice() {
        [one] => Some(name(text, one)),
        _ => None,
    }
}

fn name(sql: &str, token: &Spanned) -> String {
    let text = token.text(sql);
    match token.token {
        // Escapes in names are those of literals.
        Token::Quoted => lex::unquote(&format!("'{}'", &text[1..text.len() - 1])),
        _ => lex::unquote(text),
    }
}

/// Returns the tables that the SELECT of a view reads; `None` if they cannot be determined.
fn tables_read(create: &str, database: &str) -> Option<Vec<Beneath>> {
    let found = lex::tokens(create).ok()?;
    let is = |index: usize, word: &str| found.get(index).is_some_and(|t| t.is_word(create, word));
    let sign = |index: usize, sign: char| found.get(index).is_some_and(|t| t.token == Token::Sign(sign));
    let start = (0..found.len()).find(|index| found[*index].depth == 0 && is(*index, "AS"))?;
    // WITH name AS (SELECT …)
    let is_named = |index: &usize| is(*index + 1, "AS") && sign(*index + 2, '(');
    let named: Vec<String> =
        (start + 1..found.len()).filter(is_named).map(|index| name(create, &found[index])).collect();
    let mut tables = Vec::new();
    for index in start + 1..found.len() {
        let is_join = is(index, "JOIN") && !is(index - 1, "ARRAY");
        if !is(index, "FROM") && !is_join {
            continue;
        }
        let mut next = index + 1;
        loop {
            if sign(next, '(') {
                let depth = found[next].depth;
                let close = (next + 1..found.len()).find(|index| sign(*index, ')') && found[*index].depth == depth)?;
                next = close + 1;
            } else {
                let (table, end) = table_at(create, &found, next, database)?;
                let is_bare = end == next + 1;
                if !(is_bare && named.contains(&table.table)) {
                    tables.push(Beneath::Table(table));
                }
                next = end;
            }
            // An alias, and clauses that say how to read the table, up to a comma or the end of the list.
            let depth = found.get(next - 1).map(|t| t.depth);
            while found.get(next).is_some_and(|t| matches!(t.token, Token::Word | Token::Quoted))
                && !ends_list(create, &found[next])
            {
                next += 1;
            }
            if !(sign(next, ',') && found.get(next).map(|t| t.depth) == depth) {
                break;
            }
            next += 1;
        }
    }
    Some(tables)
}

/// Returns whether a word begins the clause after a list of tables.
fn ends_list(sql: &str, token: &Spanned) -> bool {
    const CLAUSES: [&str; 16] = [
        "WHERE",
        "PREWHERE",
        "GROUP",
        "ORDER",
        "HAVING",
        "LIMIT",
        "UNION",
        "JOIN",
        "ARRAY",
        "SETTINGS",
        "WITH",
        "WINDOW",
        "QUALIFY",
        "OFFSET",
        "INTERSECT",
        "EXCEPT",
    ];
    CLAUSES.iter().any(|word| token.is_word(sql, word))
}

/// Returns the table whose name begins at a token, and the position after it; `None` for a function or anything else.
fn table_at(sql: &str, found: &[Spanned], index: usize, database: &str) -> Option<(TableName, usize)> {
    let (table, end) = name_at(sql, found, index, database)?;
    let next = found.get(end).map(|t| t.token);
    (!matches!(next, Some(Token::Sign('(' | '.')))).then_some((table, end))
}

/// Returns the name of a table that begins at a token, whatever follows it.
fn name_at(sql: &str, found: &[Spanned], index: usize, database: &str) -> Option<(TableName, usize)> {
    let is_name = |token: &Spanned| matches!(token.token, Token::Word | Token::Quoted);
    let dot = found.get(index + 1).is_some_and(|t| t.token == Token::Sign('.'));
    let first = found.get(index).filter(|t| is_name(t))?;
    Some(match found.get(index + 2).filter(|t| is_name(t) && dot) {
        Some(second) => (TableName::new(name(sql, first), name(sql, second)), index + 3),
        None => (TableName::new(database, name(sql, first)), index + 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(engine: &str, create: &str) -> Reads {
        let name = TableName::new("d", "t");
        TableDefinition::read(name, engine, create, Vec::new(), "").unwrap().reads()
    }

    fn tables(names: &[(&str, &str)]) -> Reads {
        Reads::Tables(names.iter().map(|(database, table)| Beneath::Table(TableName::new(*database, *table))).collect())
    }

    #[test]
    fn an_engine_stores_rows_or_reads_those_of_other_tables() {
        for engine in
            ["MergeTree ORDER BY a", "SharedReplacingMergeTree(v) ORDER BY a", "Log", "Memory", "Join(ANY, LEFT, a)"]
        {
            assert_eq!(reads(engine, "CREATE TABLE d.t (a Int8)"), Reads::Own, "{engine}");
        }
        for engine in
            ["Distributed(c, d, x)", "MySQL('h', 'd', 't', 'u', '')", "Merge(REGEXP('a'), 'b')", "Dictionary", "View"]
        {
            assert_eq!(reads(engine, "CREATE TABLE d.t (a Int8)"), Reads::Shared, "{engine}");
        }
        assert_eq!(reads("Buffer(e, `b c`, 1)", "CREATE TABLE d.t (a Int8)"), tables(&[("e", "b c")]));
        assert_eq!(reads("Buffer('', '', 1)", "CREATE TABLE d.t (a Int8)"), tables(&[]));
        let matching = vec![Beneath::Matching { database: "e".into(), pattern: "^a$".into() }];
        assert_eq!(reads("Merge('e', '^a$')", "CREATE TABLE d.t (a Int8)"), Reads::Tables(matching));
        assert!(matches!(reads("`Null`", "CREATE TABLE d.t (a Int8)"), Reads::Nothing(_)));
        assert!(matches!(reads("Kafka", "CREATE TABLE d.t (a Int8)"), Reads::Nothing(_)));
    }

    #[test]
    fn a_view_reads_the_tables_of_its_select() {
        let view = |select: &str| reads("View", &format!("CREATE VIEW d.t (`a` Int8) AS {select}"));
        for (select, read) in [
            ("SELECT a FROM e.x WHERE a < 5", vec![("e", "x")]),
            ("SELECT a FROM x AS y, z final, `d 2`.`w`", vec![("d", "x"), ("d", "z"), ("d 2", "w")]),
            ("SELECT a FROM (SELECT a FROM e.x) AS q, e.y", vec![("e", "y"), ("e", "x")]),
            ("SELECT a FROM e.x ANY LEFT JOIN e.y USING a ARRAY JOIN arr AS b", vec![("e", "x"), ("e", "y")]),
            (
                "WITH q AS (SELECT a FROM e.x) SELECT a, (SELECT max(a) FROM e.m), 1 FROM q",
                vec![("e", "x"), ("e", "m")],
            ),
            ("SELECT a FROM e.x UNION ALL SELECT a FROM e.y", vec![("e", "x"), ("e", "y")]),
            ("SELECT 1 AS a", vec![]),
        ] {
            let (mut found, mut wanted) = (view(select), tables(&read));
            if let (Reads::Tables(found), Reads::Tables(wanted)) = (&mut found, &mut wanted) {
                found.sort_by_key(|beneath| format!("{beneath:?}"));
                wanted.sort_by_key(|beneath| format!("{beneath:?}"));
            }
            assert_eq!(found, wanted, "{select}");
        }
        for select in
            ["SELECT a FROM remote('h', e, x)", "SELECT a FROM e.x, cluster(c, e.y)", "SELECT a FROM numbers(5)"]
        {
            assert_eq!(view(select), Reads::Shared, "{select}");
        }
    }

    #[test]
    fn a_materialized_view_reads_its_target_table() {
        let view = |text: &str| {
            reads("MaterializedView", &format!("CREATE MATERIALIZED VIEW d.t {text} AS SELECT a FROM e.x"))
        };
        assert_eq!(view("TO e.y (`a` Int8)"), tables(&[("e", "y")]));
        assert_eq!(view("(`a` Int8) ENGINE = MergeTree ORDER BY a"), Reads::Own);
        assert_eq!(view("(`a` Int8) ENGINE = Distributed(c, e, x)"), Reads::Shared);
    }
}
