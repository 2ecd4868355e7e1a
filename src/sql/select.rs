//! Selections: which rows of which table are read, and how the partition key, the sharding key and slices choose
//! among them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::expression::Expression;
use super::key::KeyElement;
use super::lex;
use super::quote::{ident, table};
use crate::model::{PartitionValue, TableName};

/// A source table with the target's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The table.
    pub table: TableName,
    /// Names with the expressions that return them, if the target's columns differ from the source's (other types, or
    /// columns that only the target computes). `None`: the table unchanged.
    pub(crate) columns: Option<Vec<(String, String)>>,
    /// The columns of the table that the expressions and the condition may use.
    pub(crate) raw: Vec<String>,
    /// The task's `where_condition`, over the table's own columns.
    pub condition: Option<Expression>,
}

impl Relation {
    /// Returns the relation of an unchanged table.
    pub fn plain(table: TableName) -> Self {
        Self { table, columns: None, raw: Vec::new(), condition: None }
    }

    /// Returns `FROM … [WHERE …]` with more conditions; `table` is a table for FROM, or a function that reads it.
    ///
    /// Replaced columns need two levels of subquery, because a condition sees the aliases of its own level. A
    /// condition that means the same in the innermost level goes there, next to the table: only there an old server
    /// can skip by its index, and send the condition to another server (measured on 18.16).
    fn from(&self, table: &str, conditions: &[String]) -> String {
        let Some(columns) = &self.columns else {
            let all = self.condition.iter().map(|c| format!("({c})")).chain(conditions.iter().cloned());
            return filtered(table, &all.collect::<Vec<_>>());
        };
        let (inner, outer): (Vec<&String>, Vec<&String>) = conditions.iter().partition(|c| self.gives_as_it_is(c));
        let inner: Vec<String> =
            self.condition.iter().map(|c| format!("({c})")).chain(inner.into_iter().cloned()).collect();
        let columns: Vec<String> =
            columns.iter().map(|(name, expression)| format!("{expression} AS {}", ident(name))).collect();
        let raw = super::quote::idents(self.raw.iter().map(String::as_str));
        let rows = format!("(SELECT {} FROM (SELECT {raw} {}))", columns.join(", "), filtered(table, &inner));
        filtered(&rows, &outer.into_iter().cloned().collect::<Vec<_>>())
    }

    /// Returns `FROM …` of named expressions over the table's own columns, for the rows that fulfil the conditions.
    /// The expressions are next to the columns themselves, because they would see an alias of a replaced column.
    fn rows_beside(&self, table: &str, beside: &[(String, String)], conditions: &[String]) -> String {
        let named = |(name, expression): &(String, String)| format!("{expression} AS {}", ident(name));
        let (inner, outer): (Vec<&String>, Vec<&String>) = conditions.iter().partition(|c| self.gives_as_it_is(c));
        let inner: Vec<String> =
            self.condition.iter().map(|c| format!("({c})")).chain(inner.into_iter().cloned()).collect();
        let found = beside.iter().map(named).collect::<Vec<_>>().join(", ");
        let Some(columns) = self.columns.as_ref().filter(|_| !outer.is_empty()) else {
            return format!("FROM (SELECT {found} {})", filtered(table, &inner));
        };
        let raw = super::quote::idents(self.raw.iter().map(String::as_str));
        let rows = format!("(SELECT {raw}, {found} {})", filtered(table, &inner));
        let names = super::quote::idents(beside.iter().map(|(name, _)| name.as_str()));
        let columns = columns.iter().map(named).collect::<Vec<_>>().join(", ");
        let rows = format!("(SELECT {columns}, {names} FROM {rows})");
        filtered(&rows, &outer.into_iter().cloned().collect::<Vec<_>>())
    }

    /// Returns whether a text means the same over the table as over the relation: it contains no name of a replaced
    /// column.
    pub(crate) fn gives_as_it_is(&self, text: &str) -> bool {
        let Some(columns) = &self.columns else { return true };
        let Ok(found) = lex::tokens(text) else { return false };
        let names = |token: &lex::Spanned| matches!(token.token, lex::Token::Word | lex::Token::Quoted);
        let replaced = |written: &str| {
            columns.iter().any(|(name, expression)| {
                let same = *expression == ident(name) && self.raw.contains(name);
                let quoted = written == ident(name) || written == format!("\"{name}\"");
                // The name of a column of a Nested has a dot, and its parts are words of their own.
                !same && (quoted || name.split('.').any(|part| part == written))
            })
        };
        // A quoted name with other escapes than ours could be any column's.
        let odd = |written: &str| written.contains('\\') || written.starts_with('"');
        !found
            .iter()
            .filter(|token| names(token))
            .map(|t| t.text(text))
            .any(|written| replaced(written) || odd(written))
    }
}

fn filtered(from: &str, conditions: &[String]) -> String {
    if conditions.is_empty() {
        return format!("FROM {from}");
    }
    format!("FROM {from} WHERE {}", conditions.join(" AND "))
}

/// A filter for some partitions by the target's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFilter {
    /// The key; no elements if the target is not partitioned.
    pub(crate) elements: Vec<KeyElement>,
    /// The partitions.
    pub values: Vec<PartitionValue>,
}

impl PartitionFilter {
    fn condition(&self) -> Option<String> {
        let tuple =
            |texts: Vec<String>| if texts.len() == 1 { texts.concat() } else { format!("({})", texts.join(", ")) };
        if self.elements.is_empty() {
            return None;
        }
        let key = tuple(self.elements.iter().map(KeyElement::compared).collect());
        let values: Vec<String> = self
            .values
            .iter()
            .map(|value| tuple(self.elements.iter().zip(&value.0).map(|(e, text)| e.literal(text)).collect()))
            .collect();
        match &values[..] {
            [one] if self.elements.len() == 1 => Some(format!("({key}) = {one}")),
            many => Some(format!("{key} IN ({})", many.join(", "))),
        }
    }
}

/// The end of a range of keys: values of the first elements of the sorting key.
pub(crate) type SliceBound = Vec<String>;

/// A part of a partition that is too large for one piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slice {
    /// Rows whose key is at least `from` and below `to`, in the order of the sorting key. A server can skip other
    /// rows by its primary index.
    Range {
        /// The first columns of the sorting key.
        columns: Vec<KeyElement>,
        /// Inclusive; `None` means from the beginning.
        from: Option<SliceBound>,
        /// Exclusive; `None` means to the end.
        to: Option<SliceBound>,
    },
    /// Rows whose hash has this remainder, for keys that cannot be cut.
    Hash {
        /// The expressions to hash.
        #[serde(rename = "of")]
        expressions: Vec<String>,
        /// Number of slices.
        count: u64,
        /// Index of this slice.
        number: u64,
    },
    /// Rows whose hash has one of these remainders, to narrow down a difference. No plan contains it.
    Buckets {
        /// The hash, an expression.
        hash: String,
        /// Number of remainders.
        count: u64,
        /// The remainders of the rows.
        numbers: Vec<u64>,
    },
}

impl Slice {
    fn conditions(&self) -> Vec<String> {
        match self {
            Slice::Range { columns, from, to } => {
                let mut conditions = Vec::new();
                conditions.extend(from.iter().map(|bound| beyond(columns, bound, ">", ">=")));
                conditions.extend(to.iter().map(|bound| beyond(columns, bound, "<", "<")));
                conditions
            }
            Slice::Hash { expressions, count, number } => {
                vec![format!("cityHash64({}) % {count} = {number}", expressions.join(", "))]
            }
            Slice::Buckets { hash, count, numbers } => {
                let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
                vec![format!("({hash}) % {count} IN ({})", numbers.join(", "))]
            }
        }
    }
}

/// Returns `(a, b) >= (x, y)` in a form that an index can use: `a >= x AND (a > x OR (a = x AND b >= y))`.
fn beyond(columns: &[KeyElement], bound: &[String], strict: &str, last: &str) -> String {
    let Some(((column, value), rest)) = columns.iter().zip(bound).next().map(|first| (first, &bound[1..])) else {
        return "1".to_owned();
    };
    let (name, value) = (format!("({})", column.expression), column.literal(value));
    if rest.is_empty() {
        return format!("{name} {last} {value}");
    }
    let inner = beyond(&columns[1..], rest, strict, last);
    let loose = format!("{strict}=");
    format!("{name} {loose} {value} AND ({name} {strict} {value} OR ({name} = {value} AND {inner}))")
}

/// The bits of the unsigned type to which a sharding key is cast before the remainder is taken
/// (docs/clickhouse-behaviour.md, §8): 32 for columns of up to 32 bits, 64 for 64; a constant keeps its own width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotWidth(pub u8);

impl SlotWidth {
    /// Returns the width for an expression's type; `None` if ClickHouse does not accept it as a sharding key.
    pub(crate) fn of(type_name: &str, constant: bool) -> Option<Self> {
        let bits = match type_name {
            "Int8" | "UInt8" => 8,
            "Int16" | "UInt16" => 16,
            "Int32" | "UInt32" => 32,
            "Int64" | "UInt64" => 64,
            other => {
                let inner = other.strip_prefix("LowCardinality(")?.strip_suffix(')')?;
                return Self::of(inner, constant);
            }
        };
        Some(Self(if constant { bits } else { bits.max(32) }))
    }
}

/// The expression that computes a row's slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotKey {
    /// The sharding key.
    pub key: Expression,
    /// How its value is converted to a number.
    pub width: SlotWidth,
    /// The number of slots: the sum of the weights.
    pub total: u64,
}

impl SlotKey {
    /// Returns the key that puts all rows into one slot.
    pub(crate) fn single() -> Self {
        Self { key: Expression::zero(), width: SlotWidth(8), total: 1 }
    }

    /// Returns the slot of a row, as an expression.
    pub(crate) fn slot(&self) -> String {
        format!("toUInt{}({}) % {}", self.width.0, self.key, self.total)
    }
}

/// The rows that belong to one target shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotFilter {
    /// The expression that computes a row's slot.
    pub(crate) key: SlotKey,
    /// The slots of the shard.
    pub(crate) slots: Range<u64>,
}

impl SlotFilter {
    /// Returns the condition for a row of the shard, as an expression.
    pub(crate) fn condition(&self) -> String {
        let Self { key, slots } = self;
        let slot = key.slot();
        if slots.end == slots.start + 1 {
            format!("({slot}) = {}", slots.start)
        } else {
            format!("({slot}) >= {} AND ({slot}) < {}", slots.start, slots.end)
        }
    }
}

/// A selection of rows of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The relation.
    pub relation: Relation,
    /// Only these partitions of the target.
    pub partitions: Option<PartitionFilter>,
    /// Only this slice.
    pub slice: Option<Slice>,
    /// Only this target shard.
    pub(crate) slots: Option<SlotFilter>,
}

impl Selection {
    /// Returns a selection of every row of a relation.
    pub fn all(relation: Relation) -> Self {
        Self { relation, partitions: None, slice: None, slots: None }
    }

    /// Returns the same rows for counting, without unneeded columns. Old servers compute all columns of a subquery,
    /// however much that costs (measured on 18.16).
    pub(crate) fn for_counting(mut self) -> Self {
        if self.partitions.is_none() && self.slice.is_none() && self.slots.is_none() {
            self.relation.columns = None;
        }
        self
    }

    /// Returns whether almost only selected rows are read. Conditions and shards are filtered row by row; partitions
    /// and slices are skipped, as far as the server can.
    pub(crate) fn are_all_that_is_read(&self) -> bool {
        self.relation.condition.is_none() && self.slots.is_none()
    }

    /// Returns the same rows in up to `count` selections of whole partitions; a single partition stays one.
    pub(crate) fn parted(self, count: usize) -> Vec<Self> {
        let Some(filter) = self.partitions.as_ref().filter(|filter| filter.values.len() > 1 && count > 1) else {
            return vec![self];
        };
        let part = |values: &[PartitionValue]| {
            let partitions = Some(PartitionFilter { values: values.to_vec(), ..filter.clone() });
            Self { partitions, ..self.clone() }
        };
        filter.values.chunks(filter.values.len().div_ceil(count)).map(part).collect()
    }

    /// Returns the conditions on the relation's rows, besides its own condition.
    pub(crate) fn conditions(&self) -> Vec<String> {
        let mut conditions: Vec<String> = Vec::new();
        conditions.extend(self.partitions.iter().filter_map(PartitionFilter::condition));
        conditions.extend(self.slice.iter().flat_map(Slice::conditions));
        conditions.extend(self.slots.iter().map(SlotFilter::condition));
        conditions
    }

    /// Returns `SELECT … FROM … WHERE …`; `what` must come from this module's folder.
    pub(super) fn select(&self, what: &str) -> String {
        self.select_from(&table(&self.relation.table), what)
    }

    /// Returns `SELECT … FROM …` over named expressions of the table's own columns, for the selected rows.
    pub(super) fn select_beside(&self, beside: &[(String, String)], what: &str) -> String {
        format!("SELECT {what} {}", self.relation.rows_beside(&table(&self.relation.table), beside, &self.conditions()))
    }

    /// Returns the same over another source of the table's rows; it must come from this module's folder.
    pub(super) fn select_from(&self, from: &str, what: &str) -> String {
        format!("SELECT {what} {}", self.relation.from(from, &self.conditions()))
    }

    /// Returns whether a server that reads the table from another server lets that one filter the rows: then only the
    /// needed rows travel.
    pub(crate) fn filters_at_the_table(&self) -> bool {
        self.conditions().iter().all(|condition| self.relation.gives_as_it_is(condition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(expression: &str, type_name: &str) -> KeyElement {
        KeyElement { expression: expression.into(), type_name: type_name.into() }
    }

    fn selection() -> Selection {
        let mut relation = Relation::plain(TableName::new("d", "t"));
        relation.condition = Some(Expression::parse("x > 1 OR y").unwrap());
        Selection::all(relation)
    }

    #[test]
    fn a_partition_filter_is_a_condition_that_an_index_can_use() {
        let mut one = selection();
        one.partitions = Some(PartitionFilter {
            elements: vec![element("toYYYYMM(d)", "UInt32")],
            values: vec![PartitionValue(vec!["201801".into()])],
        });
        assert_eq!(one.select("count()"), "SELECT count() FROM `d`.`t` WHERE (x > 1 OR y) AND (toYYYYMM(d)) = 201801");
        one.partitions = Some(PartitionFilter {
            elements: vec![element("toMonday(d)", "Date"), element("s", "String")],
            values: vec![
                PartitionValue(vec!["2018-01-01".into(), "it's".into()]),
                PartitionValue(vec!["2018-01-08".into(), "\\".into()]),
            ],
        });
        assert!(one.select("1").ends_with(r"(toMonday(d), s) IN (('2018-01-01', 'it\'s'), ('2018-01-08', '\\'))"));
    }

    #[test]
    fn a_slice_includes_its_lower_bound_and_excludes_its_upper_bound() {
        let columns = vec![element("a", "UInt32"), element("b", "Date")];
        let slice =
            Slice::Range { columns, from: Some(vec!["7".into(), "2018-01-01".into()]), to: Some(vec!["9".into()]) };
        assert_eq!(slice.conditions(), ["(a) >= 7 AND ((a) > 7 OR ((a) = 7 AND (b) >= '2018-01-01'))", "(a) < 9"]);
    }

    #[test]
    fn the_slot_of_a_row_is_computed_as_clickhouse_does() {
        assert_eq!(SlotWidth::of("Int8", false), Some(SlotWidth(32)));
        assert_eq!(SlotWidth::of("Int16", true), Some(SlotWidth(16)));
        assert_eq!(SlotWidth::of("LowCardinality(UInt64)", false), Some(SlotWidth(64)));
        assert_eq!(SlotWidth::of("Nullable(UInt64)", false), None);
        let key = SlotKey { key: Expression::parse("a + 1").unwrap(), width: SlotWidth(32), total: 11 };
        let filter = SlotFilter { key, slots: 5..11 };
        assert_eq!(filter.condition(), "(toUInt32(a + 1) % 11) >= 5 AND (toUInt32(a + 1) % 11) < 11");
    }

    #[test]
    fn replaced_columns_are_selected_through_nested_subqueries() {
        let mut all = selection();
        all.relation.columns = Some(vec![("x".into(), "CAST(`x` AS Date)".into())]);
        all.relation.raw = vec!["x".into(), "y".into()];
        assert_eq!(
            all.select("count()"),
            "SELECT count() FROM (SELECT CAST(`x` AS Date) AS `x` FROM (SELECT `x`, `y` FROM `d`.`t` WHERE (x > 1 OR y)))"
        );
        let beside = [("l".to_owned(), "CAST(`x` AS Date) != `x`".to_owned())];
        assert_eq!(
            all.select_beside(&beside, "countIf(l)"),
            "SELECT countIf(l) FROM (SELECT CAST(`x` AS Date) != `x` AS `l` FROM `d`.`t` WHERE (x > 1 OR y))"
        );
        all.partitions = Some(PartitionFilter {
            elements: vec![element("x", "Date")],
            values: vec![PartitionValue(vec!["2018-01-01".into()])],
        });
        assert_eq!(
            all.select_beside(&beside, "countIf(l)"),
            "SELECT countIf(l) FROM (SELECT CAST(`x` AS Date) AS `x`, `l` FROM (SELECT `x`, `y`, \
             CAST(`x` AS Date) != `x` AS `l` FROM `d`.`t` WHERE (x > 1 OR y))) WHERE (x) = '2018-01-01'"
        );
    }
}
