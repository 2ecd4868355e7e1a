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
pub mod required_settings;
mod select;
mod statements;
mod steadiness;
mod syntax;
mod time_zone;
mod transfers;
pub(crate) mod types;

pub use catalog::*;
pub use checksum::{is_hashed_by_text, row_hash, values_hash};
pub use conversions::{LossTest, loss_test, losses};
pub use definition::{Column, DefaultKind, DefinitionError, TableDefinition};
pub use engine::{Clause, Engine, EngineError};
pub use expression::{Expression, ExpressionError, names_column, names_dictionary};
pub use grants::{Privilege, gives};
pub use identity::*;
pub use inspection::*;
pub use key::{KeyElement, key_elements};
pub use parts::*;
pub use reads::{Beneath, Reads};
pub use remote::{remote, remote_dealt};
pub use select::{PartitionFilter, Relation, Selection, Slice, SliceBound, SlotFilter, SlotKey, SlotWidth};
pub use statements::*;
pub use steadiness::{Names, Unsteady, UnsteadyKind, unsteadiness};
pub use syntax::Syntax;
pub use time_zone::{
    TimedColumn, TimedColumns, canonical_zone, columns_without_zone, conversion_depends_on_zone, zone_dependence,
};
pub use transfers::*;

/// Returns the elements of a literal (`202001`, `'a'`) or of a tuple of literals, without their quotes; an error is a
/// sentence.
pub fn unquoted_elements(text: &str) -> Result<Vec<String>, String> {
    lex::unquoted_elements(text).map_err(|error| error.to_string())
}
