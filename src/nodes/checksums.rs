//! Counts and checksums of rows, in the form that both sides return.

use crate::client::Digest;
use crate::plan::TablePlan;
use crate::sql::{self, TableDefinition, quote};

/// The number of rows of a table, and the sum of their hashes where hashes were computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measure {
    /// The number of rows.
    pub rows: u64,
    /// The sum of their hashes, modulo 2^64.
    pub sum: u64,
}

impl Measure {
    /// Adds up digests.
    pub(crate) fn of(digests: &[Digest]) -> Self {
        let nothing = Self { rows: 0, sum: 0 };
        digests.iter().fold(nothing, |all, digest| all.and(Self { rows: digest.rows, sum: digest.sum }))
    }

    /// Returns the measure of the rows of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, sum: self.sum.wrapping_add(other.sum) }
    }
}

/// The columns to compare.
pub(crate) struct Hashes {
    pub(crate) columns: Vec<Compared>,
}

/// A column to compare.
pub(crate) struct Compared {
    /// The quoted name.
    pub(crate) name: String,
    /// The type of the column in the target.
    pub(crate) type_name: String,
    /// The transferred value, as an expression over the source.
    pub(crate) value: String,
}

impl Hashes {
    /// Returns the columns of a plan whose values can be compared, or `None` where the target lacks a column.
    pub(crate) fn of(plan: &TablePlan, target: &TableDefinition) -> Option<Self> {
        let steady = plan.columns.iter().enumerate().filter(|(at, _)| plan.reading.is_steady(*at));
        let compared = |(at, name): (usize, &String)| {
            let type_name = target.column(name)?.type_name.clone();
            Some(Compared { name: quote::ident(name), type_name, value: plan.reading.values[at].clone() })
        };
        steady.map(compared).collect::<Option<_>>().map(|columns| Self { columns })
    }

    /// Returns the hash as an expression over a staging, assembly or target table.
    pub(crate) fn at_target(&self) -> String {
        sql::values_hash(self.columns.iter().map(|column| (column.name.as_str(), column.type_name.as_str())))
    }

    /// Returns the hash as an expression over the source.
    pub(crate) fn at_source(&self) -> String {
        sql::values_hash(self.columns.iter().map(|column| (column.value.as_str(), column.type_name.as_str())))
    }
}
