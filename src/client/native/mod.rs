//! Rows in ClickHouse's Native format, dealt to several receivers as they go by: each row is read once, whatever the number
//! of target shards. Pure but for waiting: bytes come from an [`Inlet`] and go to an [`Outlet`].
//!
//! The format is blocks of columns: number of columns, number of rows, and for each column its name, its type and its values
//! (docs/clickhouse-behaviour.md, §10: the same on 18.16 and 26.9 over HTTP, where no revision is named). The slot of each row is the first
//! column, so that what follows can be passed on while it comes, in memory that does not depend on the size of blocks. Values
//! are not decoded: it is enough to know where each ends, which [`Shape`] tells from the type.

mod deal;
mod dictionary;
pub(crate) mod fuzzed;
mod renumber;
mod shape;
mod streams;
mod values;
mod window;

pub(crate) use deal::Dealer;
#[cfg(test)]
use shape::Shape;
pub use shape::{has_dictionary_in_array, is_dealable};
pub(crate) use streams::{DealError, Inlet, Outlet};

#[cfg(test)]
mod tests;
