//! Table engines as text: `ReplicatedMergeTree('/path', '{replica}') PARTITION BY … ORDER BY …`, old syntax or new.

mod clause;
mod parse;
mod settings;
mod staging;
mod ttl;

#[cfg(test)]
mod tests;

use std::fmt;

use super::lex;

pub(crate) use clause::Clause;
pub(crate) use parse::EngineError;

/// The parts of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// `ReplicatedMergeTree`
    pub name: String,
    /// The arguments as written; `None` without parentheses.
    pub(crate) arguments: Option<Vec<String>>,
    /// The clauses in the order written.
    pub(crate) clauses: Vec<(Clause, String)>,
}

impl Engine {
    /// Returns the text of a clause.
    pub(crate) fn clause(&self, wanted: Clause) -> Option<&str> {
        self.clauses.iter().find(|(clause, _)| *clause == wanted).map(|(_, text)| text.as_str())
    }

    /// Returns whether its partitions can be attached and replaced.
    pub fn is_merge_tree(&self) -> bool {
        self.name.ends_with("MergeTree")
    }

    /// Returns whether its replicas fetch parts from each other.
    pub(crate) fn is_replicated(&self) -> bool {
        self.name.starts_with("Replicated")
    }

    /// Returns whether this is `MergeTree(date, [sampling,] (key), granularity, …)`.
    pub(crate) fn is_old_syntax(&self) -> bool {
        self.is_merge_tree()
            && !self.clauses.iter().any(|(clause, _)| matches!(clause, Clause::OrderBy | Clause::PartitionBy))
            && self.granularity_argument().is_some()
    }

    /// Returns the path in ZooKeeper and the name of the replica as they are written (with macros), where they are written.
    pub(crate) fn replica_arguments(&self) -> Option<(&str, &str)> {
        match self.arguments.as_deref() {
            Some([path, replica, ..])
                if self.is_replicated() && path.starts_with('\'') && replica.starts_with('\'') =>
            {
                Some((path, replica))
            }
            _ => None,
        }
    }

    /// Returns the arguments of the engine without those of replication.
    pub(super) fn own_arguments(&self) -> &[String] {
        let all = self.arguments.as_deref().unwrap_or_default();
        if self.replica_arguments().is_some() { &all[2..] } else { all }
    }

    /// Returns the index of the granularity among the own arguments, in the old syntax. It is the first number after the date and
    /// the key.
    fn granularity_argument(&self) -> Option<usize> {
        let own = self.own_arguments();
        let index = own.iter().position(|text| text.parse::<u64>().is_ok())?;
        (index >= 2).then_some(index)
    }

    /// Returns the partition key, or `None` when the table has none.
    pub(crate) fn partition_key(&self) -> Option<String> {
        if self.is_old_syntax() {
            return self.own_arguments().first().map(|date| format!("toYYYYMM({date})"));
        }
        self.clause(Clause::PartitionBy).map(str::to_owned)
    }

    /// Returns every expression that must be computable from the columns, with the name of its clause or argument.
    pub fn expressions(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = self
            .clauses
            .iter()
            .filter(|(clause, _)| !matches!(clause, Clause::Settings | Clause::Comment | Clause::Ttl))
            .map(|(clause, text)| (clause.words(), lex::without_directions(text)))
            .collect();
        let own = self.own_arguments();
        let columns = if self.is_old_syntax() {
            own.iter().filter(|text| text.parse::<u64>().is_err()).collect::<Vec<_>>()
        } else {
            own.iter().filter(|text| !text.starts_with('\'') && text.parse::<u64>().is_err()).collect()
        };
        found.extend(columns.into_iter().map(|text| (format!("argument of {}", self.name), text.clone())));
        found
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(arguments) = &self.arguments {
            write!(f, "({})", arguments.join(", "))?;
        }
        let mut clauses = self.clauses.clone();
        clauses.sort_by_key(|(clause, _)| *clause);
        for (clause, text) in clauses {
            write!(f, " {} {text}", clause.words())?;
        }
        Ok(())
    }
}
