//! The clauses of CREATE TABLE that each version supports. No server reports them.

use super::definition::{DefaultKind, TableDefinition, starts_with_word, without_clause};
use super::engine::Clause;

/// The syntax that a version supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Syntax {
    release: (u32, u32),
}

impl Syntax {
    /// Returns the syntax of a version, such as `(18, 16)`.
    pub(crate) fn of(release: (u32, u32)) -> Self {
        Self { release }
    }

    fn since(self, major: u32, minor: u32) -> bool {
        self.release >= (major, minor)
    }
}

impl TableDefinition {
    /// Returns this table without the clauses that a version does not support, and a word for each kind of clause
    /// that was left out. Clauses that hold rows (columns, keys) are never left out: the server refuses those that it
    /// does not know.
    ///
    /// Comments of columns: 18.16 cannot create a Replicated table that has some, and its `ALTER … COMMENT COLUMN` on
    /// one removes the column (measured; docs/clickhouse-behaviour.md, T10).
    pub(crate) fn within(&self, syntax: Syntax) -> (Self, Vec<String>) {
        let mut fitting = self.clone();
        let mut left_out = Vec::new();
        let mut without = |clause: &str, known: bool, what: &str| {
            let before = fitting.declarations.clone();
            if !known {
                for declaration in &mut fitting.declarations {
                    if !OF_THE_TABLE.iter().any(|(word, ..)| starts_with_word(declaration, word)) {
                        *declaration = without_clause(declaration, clause);
                    }
                }
            }
            if fitting.declarations != before {
                left_out.push(what.to_owned());
            }
        };
        without("TTL", syntax.since(19, 6), "TTL of columns");
        without("CODEC", syntax.since(19, 1), "codecs");
        without("COMMENT", syntax.since(19, 0) || !self.engine.is_replicated(), "comments of columns");
        for (word, (major, minor), what) in OF_THE_TABLE {
            let count = fitting.declarations.len();
            if !syntax.since(*major, *minor) {
                fitting.declarations.retain(|declaration| !starts_with_word(declaration, word));
            }
            if fitting.declarations.len() < count {
                left_out.push((*what).to_owned());
            }
        }
        if !syntax.since(22, 5) {
            let is_ephemeral = |column: &&super::Column| column.default_kind == DefaultKind::Ephemeral;
            let names: Vec<String> =
                self.columns.iter().filter(is_ephemeral).map(|column| column.name.clone()).collect();
            fitting.declarations.retain(|text| !names.iter().any(|name| super::definition::declares(text, name)));
            if !names.is_empty() {
                left_out.push("EPHEMERAL columns".into());
            }
        }
        if !syntax.since(21, 8) {
            let in_engine = fitting.engine.clause(Clause::Comment).is_some();
            fitting.engine.clauses.retain(|(clause, _)| *clause != Clause::Comment);
            if fitting.comment.take().is_some() || in_engine {
                left_out.push("the comment of the table".into());
            }
        }
        if !syntax.since(19, 6) && fitting.engine.clause(Clause::Ttl).is_some() {
            fitting.engine.clauses.retain(|(clause, _)| *clause != Clause::Ttl);
            left_out.push("TTL of the table".into());
        }
        (fitting, left_out)
    }
}

/// Declarations other than columns, with the first version that supports them.
const OF_THE_TABLE: &[(&str, (u32, u32), &str)] = &[
    ("INDEX", (19, 6), "skip indices"),
    ("CONSTRAINT", (19, 14), "constraints"),
    ("PROJECTION", (21, 6), "projections"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TableName;
    use crate::sql::Column;

    fn table(engine: &str) -> TableDefinition {
        let create = "CREATE TABLE d.t (`d` Date CODEC(Delta(2), LZ4), `codec` String DEFAULT 'x' COMMENT 'c' CODEC(ZSTD(1)) TTL d + \
                      toIntervalDay(1), `e` String EPHEMERAL, INDEX i codec TYPE minmax GRANULARITY 1, PROJECTION p (SELECT d \
                      ORDER BY codec), CONSTRAINT c CHECK 1) ENGINE = MergeTree ORDER BY d COMMENT 'of the table'";
        let ephemeral = Column {
            name: "e".into(),
            type_name: "String".into(),
            default_kind: DefaultKind::Ephemeral,
            default_expression: String::new(),
            comment: String::new(),
        };
        TableDefinition::read(TableName::new("d", "t"), engine, create, vec![ephemeral], "").unwrap()
    }

    #[test]
    fn an_old_version_gets_a_statement_without_newer_syntax() {
        let (old, left_out) = table("ReplicatedMergeTree('/p', 'r') ORDER BY d TTL d").within(Syntax::of((18, 16)));
        assert_eq!(
            old.create(&old.name, &old.engine),
            "CREATE TABLE IF NOT EXISTS `d`.`t` (`d` Date, `codec` String DEFAULT 'x') ENGINE = ReplicatedMergeTree('/p', 'r') \
             ORDER BY d"
        );
        assert_eq!(left_out.len(), 9, "{left_out:?}");
        let (old, left_out) = table("MergeTree ORDER BY d").within(Syntax::of((18, 16)));
        assert!(old.create(&old.name, &old.engine).contains("COMMENT 'c'") && left_out.len() == 7, "{left_out:?}");
    }

    #[test]
    fn a_current_version_gets_the_whole_statement() {
        let whole = table("ReplicatedMergeTree('/p', 'r') ORDER BY d TTL d");
        assert_eq!(whole.within(Syntax::of((26, 9))), (whole.clone(), Vec::new()));
        let (middle, left_out) = whole.within(Syntax::of((20, 8)));
        assert_eq!(left_out, ["projections", "EPHEMERAL columns", "the comment of the table"]);
        assert!(middle.create(&middle.name, &middle.engine).contains("INDEX i"));
    }
}
