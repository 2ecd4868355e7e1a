//! Counts and checksums of rows, as both sides give them.

use crate::client::Digest;
use crate::plan::TablePlan;
use crate::sql::{self, TableDefinition, quote};

/// Rows of a table, and the sum of their hashes where it was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measure {
    /// So many rows.
    pub rows: u64,
    /// The sum of their hashes.
    pub sum: u64,
}

impl Measure {
    pub(crate) fn of(digests: &[Digest]) -> Self {
        let nothing = Self { rows: 0, sum: 0 };
        digests.iter().fold(nothing, |all, digest| all.and(Self { rows: digest.rows, sum: digest.sum }))
    }

    /// Of the rows of both.
    pub fn and(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, sum: self.sum.wrapping_add(other.sum) }
    }
}

/// The columns that are compared.
pub(crate) struct Hashes {
    pub columns: Vec<Compared>,
}

pub(crate) struct Compared {
    /// Quoted.
    pub name: String,
    /// Its type in the target.
    pub type_name: String,
    /// The value that was transferred, as an expression over the source.
    pub value: String,
}

impl Hashes {
    /// `None` where the target lacks a column.
    pub(crate) fn of(plan: &TablePlan, target: &TableDefinition) -> Option<Self> {
        let steady = plan.columns.iter().enumerate().filter(|(at, _)| plan.reading.is_steady(*at));
        let compared = |(at, name): (usize, &String)| {
            let type_name = target.column(name)?.type_name.clone();
            Some(Compared { name: quote::ident(name), type_name, value: plan.reading.values[at].clone() })
        };
        steady.map(compared).collect::<Option<_>>().map(|columns| Self { columns })
    }

    /// Over a staging, assembly or target table.
    pub(crate) fn there(&self) -> String {
        sql::values_hash(self.columns.iter().map(|of| (of.name.as_str(), of.type_name.as_str())))
    }

    /// Over the source.
    pub(crate) fn at_source(&self) -> String {
        sql::values_hash(self.columns.iter().map(|of| (of.value.as_str(), of.type_name.as_str())))
    }
}
