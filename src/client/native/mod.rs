//! Deals rows in ClickHouse's Native format to several receivers as they arrive: each row is read once, for any
//! number of target shards. Pure except for waiting: bytes come from an [`Inlet`] and go to an [`Outlet`].
//!
//! The format consists of blocks of columns: number of columns, number of rows, and for each column its name, its
//! type and its values (docs/clickhouse-behaviour.md, §10: the same on 18.16 and 26.9 over HTTP without a revision).
//! The slot of each row is the first column. The rest can therefore be sent on as it arrives, in memory that does not
//! depend on the size of blocks. Values are not decoded: [`Shape`](shape::Shape) finds the end of each value from the type.

mod deal;
mod dictionary;
#[cfg(any(test, feature = "doubles"))]
pub(crate) mod fuzzed;
mod renumber;
mod shape;
mod streams;
mod values;
mod window;

pub(crate) use deal::Dealer;
#[cfg(test)]
use shape::Shape;

pub(crate) use shape::{has_dictionary_in_array, is_dealable};
pub(crate) use streams::{DealError, Inlet, Outlet};

#[cfg(test)]
mod tests;
