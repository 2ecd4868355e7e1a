//! Names of tables.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `database.table`, unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// Names a table.
    pub fn new(database: impl Into<String>, table: impl Into<String>) -> Self {
        Self { database: database.into(), table: table.into() }
    }

    /// Returns the name of another table in the same database.
    pub fn beside(&self, table: impl Into<String>) -> Self {
        Self::new(self.database.clone(), table)
    }
}

/// For messages only. Statements use `sql::quote`.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}
