//! Every statement that can be sent, as text.
//!
//! Text from a task file or from a server enters a statement in one of three ways only: as an identifier or a literal
//! through [`quote`], or as an [`Expression`], which is balanced and free of comments and so cannot break out of its
//! parentheses.

mod catalog;
mod checksum;
mod conversions;
mod definition;
mod engine;
mod expression;
#[cfg(any(test, feature = "doubles"))]
pub(crate) mod fuzzed;
mod grants;
mod identity;
mod inspection;
mod key;
mod lex;
mod merging;
mod parts;
pub mod quote;
mod reads;
mod remote;
mod replication;
pub(crate) mod required_settings;
mod select;
mod statements;
mod steadiness;
mod syntax;
mod time_zone;
mod transfers;
pub(crate) mod types;

pub use catalog::*;
pub use checksum::row_hash;
pub(crate) use checksum::{is_hashed_by_text, values_hash};
pub use conversions::LossTest;
pub(crate) use conversions::{loss_test, losses};
pub use definition::{Column, DefaultKind, TableDefinition};
pub(crate) use engine::{Clause, Engine};
pub use expression::Expression;
pub(crate) use expression::{names_column, names_dictionary};
pub(crate) use grants::{Privilege, gives};
pub(crate) use identity::*;
pub(crate) use inspection::*;
pub use key::{KeyElement, key_elements};
pub(crate) use parts::*;
pub use reads::Behind;
pub(crate) use reads::{Beneath, Reads};
pub use remote::remote;
pub(crate) use remote::remote_dealt;
pub(crate) use select::{PartitionFilter, SliceBound, SlotFilter};
pub use select::{Relation, Selection, Slice, SlotKey, SlotWidth};
pub use statements::*;
pub(crate) use steadiness::{Names, Unsteady, UnsteadyKind, unsteadiness};
pub(crate) use syntax::Syntax;
pub(crate) use time_zone::{
    TimedColumn, TimedColumns, canonical_zone, columns_without_zone, conversion_depends_on_zone, zone_dependence,
};
pub(crate) use transfers::*;

/// Returns the elements of a literal (`202001`, `'a'`) or of a tuple of literals, without their quotes; an error is a
/// sentence.
pub(crate) fn unquoted_elements(text: &str) -> Result<Vec<String>, String> {
    lex::unquoted_elements(text).map_err(|error| error.to_string())
}
