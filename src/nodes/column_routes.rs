//! The ways that rows can take, as far as their columns tell: whether a worker can deal them, and whether a source can push them. Pure.
//!
//! A relay to several target shards deals rows: it needs types whose values it can tell apart. Where a column has another type
//! (states of aggregate functions, JSON, Variant, Dynamic, types of tomorrow), a SELECT with a filter reads the rows of each
//! target shard, and the worker passes on what it does not understand.
//!
//! 18.16 writes arrays with LowCardinality in them so that no server reads them again where all arrays of a block are empty, over
//! its native protocol and over HTTP alike. A worker that deals rows takes out what is too much, so such rows are relayed, to a
//! single target too.
//!
//! 25.8 does not push a column of type `Tuple()` to several target shards by one statement (code 9, "Size of permutation doesn't
//! match size of column").

use crate::client::{has_dictionary_in_array, is_dealable};
use crate::sql::TableDefinition;

/// The first release whose empty arrays with LowCardinality other servers read (changelog of 19.1; 18.16.1 and 25.8 were measured).
const WRITES_EMPTY_ARRAYS_WELL: (u32, u32) = (19, 1);

/// What the columns of a table allow on the way of its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnRoutes {
    /// The first column whose values the worker cannot tell apart, with its type.
    undealt: Option<String>,
    /// The first column with LowCardinality within arrays, with its type.
    dictionary_in_array: Option<String>,
    /// The first column that the target computes, because only it can.
    computed: Option<String>,
    /// Whether a column has the type `Tuple()`, or one that contains it.
    empty_tuple: bool,
}

impl ColumnRoutes {
    /// Looks at the types of columns, as the source sends them.
    pub fn of<'a>(columns: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut column_routes = Self::default();
        for (name, type_name) in columns {
            column_routes.empty_tuple |= type_name.contains("Tuple()");
            let column = || format!("column {name} has type {type_name}");
            if !is_dealable(type_name) {
                column_routes.undealt.get_or_insert_with(column);
            } else if has_dictionary_in_array(type_name) {
                column_routes.dictionary_in_array.get_or_insert_with(column);
            }
        }
        column_routes
    }

    /// Looks at some columns of a target table: a source sends its values in their types.
    pub fn of_table(table: &TableDefinition, columns: &[String]) -> Self {
        let stored = table.columns.iter().filter(|column| columns.contains(&column.name));
        Self::of(stored.map(|column| (column.name.as_str(), column.type_name.as_str())))
    }

    /// Adds the columns that are not transferred, since the target computes them.
    pub fn leaving(self, columns: &[String]) -> Self {
        Self { computed: columns.first().map(|name| format!("column {name} is computed by the target")), ..self }
    }

    /// Why a source cannot push the rows: a server that sends rows by an INSERT computes what the target's columns lack, 18.16 and 25.8
    /// alike.
    pub fn against_push(&self) -> Option<&str> {
        self.computed.as_deref()
    }

    /// Whether the types matter to the way: with several target shards, or for a source of an old release.
    pub fn matters(release: (u32, u32), several_shards: bool) -> bool {
        several_shards || release < WRITES_EMPTY_ARRAYS_WELL
    }

    /// Whether a server can push the rows to several target shards by one statement, as far as the columns tell.
    pub fn can_be_pushed_by_key(&self) -> bool {
        !self.empty_tuple
    }

    /// Why a worker cannot deal the rows; `None` where it can.
    pub fn against_dealing(&self) -> Option<&str> {
        self.undealt.as_deref()
    }

    /// Why rows of a source of some release must pass through a worker that deals them; `None` where they need not, or cannot.
    pub fn needs_dealing(&self, release: (u32, u32)) -> Option<String> {
        if release >= WRITES_EMPTY_ARRAYS_WELL || self.undealt.is_some() {
            return None;
        }
        let column = self.dictionary_in_array.as_ref()?;
        let (major, minor) = release;
        Some(format!("{column}, whose empty arrays ClickHouse {major}.{minor} sends in a form that no server reads"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_at_fault_is_named_and_old_servers_need_a_relay_for_arrays() {
        let of = |types: &[&'static str]| ColumnRoutes::of(types.iter().map(|type_name| ("c", *type_name)));
        let plain = of(&["UInt8", "LowCardinality(String)"]);
        assert_eq!(plain, ColumnRoutes::default());
        let array = of(&["UInt8", "Array(LowCardinality(String))"]);
        assert_eq!(array.against_dealing(), None);
        assert!(
            array
                .needs_dealing((18, 16))
                .unwrap()
                .starts_with("column c has type Array(LowCardinality(String)), whose")
        );
        assert_eq!(array.needs_dealing((25, 8)), None);
        let empty = of(&["UInt8", "Tuple(a Tuple(), b UInt8)"]);
        assert!(plain.can_be_pushed_by_key() && !empty.can_be_pushed_by_key());
        assert_eq!(plain.against_push(), None);
        let left = plain.clone().leaving(&["x".to_owned()]);
        assert_eq!(left.against_push(), Some("column x is computed by the target"));
        let state = of(&["Array(LowCardinality(String))", "AggregateFunction(uniq, UInt8)", "JSON"]);
        assert_eq!(state.against_dealing(), Some("column c has type AggregateFunction(uniq, UInt8)"));
        assert_eq!(state.needs_dealing((18, 16)), None, "a worker cannot deal them");
        assert!(
            ColumnRoutes::matters((18, 16), false)
                && ColumnRoutes::matters((25, 8), true)
                && !ColumnRoutes::matters((25, 8), false)
        );
    }
}
