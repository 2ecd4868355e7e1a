//! The routes that the columns of a table allow: whether a worker can deal the rows, and whether a source can push them. Pure.
//!
//! A relay to several target shards deals rows. For this the worker must find the boundaries between the values of each type. Where a
//! column has an unknown type (states of aggregate functions, JSON, Variant, Dynamic, future types), a SELECT with a filter reads the
//! rows of each target shard, and the worker passes the bytes on.
//!
//! 18.16 writes arrays of LowCardinality in a form that no server can read where all arrays of a block are empty, over its native
//! protocol and over HTTP. A worker that deals rows removes the surplus bytes. So such rows are relayed, even to a single target.
//!
//! 25.8 does not push a column of type `Tuple()` to several target shards by one statement (code 9, "Size of permutation doesn't
//! match size of column").

use crate::client::{has_dictionary_in_array, is_dealable};
use crate::sql::TableDefinition;

/// The first release whose empty arrays of LowCardinality other servers can read (changelog of 19.1; 18.16.1 and 25.8 were measured).
const WRITES_EMPTY_ARRAYS_WELL: (u32, u32) = (19, 1);

/// The properties of a table's columns that limit the routes of its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ColumnRoutes {
    /// The first column that the worker cannot deal, with its type.
    undealt: Option<String>,
    /// The first column with LowCardinality within arrays, with its type.
    dictionary_in_array: Option<String>,
    /// The first column that the target computes, because only it can.
    computed: Option<String>,
    /// Whether a column has the type `Tuple()`, or one that contains it.
    empty_tuple: bool,
}

impl ColumnRoutes {
    /// Reads the types of columns, as the source sends them.
    pub(crate) fn of<'a>(columns: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
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

    /// Reads the types of some columns of a target table. A source sends its values in these types.
    pub(crate) fn of_table(table: &TableDefinition, columns: &[String]) -> Self {
        let stored = table.columns.iter().filter(|column| columns.contains(&column.name));
        Self::of(stored.map(|column| (column.name.as_str(), column.type_name.as_str())))
    }

    /// Adds the columns that are not transferred, since the target computes them.
    pub(crate) fn leaving(self, columns: &[String]) -> Self {
        Self { computed: columns.first().map(|name| format!("column {name} is computed by the target")), ..self }
    }

    /// Returns why a source cannot push the rows. A server that sends rows by an INSERT computes the missing columns of the target itself
    /// (18.16 and 25.8).
    pub(crate) fn against_push(&self) -> Option<&str> {
        self.computed.as_deref()
    }

    /// Returns whether the types can affect the route: with several target shards, or for a source of an old release.
    pub(crate) fn matters(release: (u32, u32), several_shards: bool) -> bool {
        several_shards || release < WRITES_EMPTY_ARRAYS_WELL
    }

    /// Returns whether the columns let a server push the rows to several target shards by one statement.
    pub(crate) fn can_be_pushed_by_key(&self) -> bool {
        !self.empty_tuple
    }

    /// Returns why a worker cannot deal the rows, or `None` where it can.
    pub(crate) fn against_dealing(&self) -> Option<&str> {
        self.undealt.as_deref()
    }

    /// Returns why rows of a source of this release must pass through a worker that deals them. Returns `None` where they need not, or
    /// cannot.
    pub(crate) fn needs_dealing(&self, release: (u32, u32)) -> Option<String> {
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
    fn a_column_that_excludes_a_transfer_is_named_and_old_servers_need_a_relay_for_arrays() {
        let routes = |types: &[&'static str]| ColumnRoutes::of(types.iter().map(|type_name| ("c", *type_name)));
        let plain = routes(&["UInt8", "LowCardinality(String)"]);
        assert_eq!(plain, ColumnRoutes::default());
        let array = routes(&["UInt8", "Array(LowCardinality(String))"]);
        assert_eq!(array.against_dealing(), None);
        assert!(
            array
                .needs_dealing((18, 16))
                .unwrap()
                .starts_with("column c has type Array(LowCardinality(String)), whose")
        );
        assert_eq!(array.needs_dealing((25, 8)), None);
        let empty = routes(&["UInt8", "Tuple(a Tuple(), b UInt8)"]);
        assert!(plain.can_be_pushed_by_key() && !empty.can_be_pushed_by_key());
        assert_eq!(plain.against_push(), None);
        let left = plain.clone().leaving(&["x".to_owned()]);
        assert_eq!(left.against_push(), Some("column x is computed by the target"));
        let state = routes(&["Array(LowCardinality(String))", "AggregateFunction(uniq, UInt8)", "JSON"]);
        assert_eq!(state.against_dealing(), Some("column c has type AggregateFunction(uniq, UInt8)"));
        assert_eq!(state.needs_dealing((18, 16)), None, "a worker cannot deal them");
        assert!(
            ColumnRoutes::matters((18, 16), false)
                && ColumnRoutes::matters((25, 8), true)
                && !ColumnRoutes::matters((25, 8), false)
        );
    }
}
