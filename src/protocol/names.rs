//! The names of tables and statements that a task creates on servers. A name contains its attempt and its piece or
//! batch, and no two attempts share a name. So a statement of an older attempt can touch only what that attempt used
//! (I5).

use serde::{Deserialize, Serialize};

use crate::model::{AttemptNo, PublicationNo};

/// The task's identity, which is part of the name of each of its tables and statements. It is random and made once,
/// when the task is created. A task that is deleted and recreated at the same path therefore shares nothing with the
/// old one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub String);

/// A batch of a table job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchRef {
    /// Index of the table job in the task.
    pub table: usize,
    /// Index of the batch in the table's plan.
    pub index: usize,
}

/// A piece of a table job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PieceRef {
    /// Index of the table job in the task.
    pub table: usize,
    /// Index of the piece in the table's plan.
    pub index: usize,
}

/// A group of pieces of one table job that share one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupRef {
    /// Index of the table job.
    pub(crate) table: usize,
    /// Index of the group.
    pub(crate) group: usize,
}

impl TaskId {
    /// Returns the prefix of the names of all tables of the task.
    pub fn tables(&self) -> String {
        format!("copier_{}_", self.0)
    }

    /// Returns the prefix of the names of all tables of a batch.
    pub fn batch_tables(&self, batch: BatchRef) -> String {
        format!("{}t{}_b{}_", self.tables(), batch.table, batch.index)
    }

    /// Returns the prefix of the names of all staging tables of a piece.
    pub fn piece_tables(&self, batch: BatchRef, piece: PieceRef) -> String {
        format!("{}p{}_", self.batch_tables(batch), piece.index)
    }

    /// Returns the name of the staging table of one attempt at a piece.
    pub fn staging(&self, batch: BatchRef, piece: PieceRef, attempt: AttemptNo) -> String {
        format!("{}a{attempt}", self.piece_tables(batch, piece))
    }

    /// Returns the name of that staging table after an attempt at publishing has taken it.
    pub fn taken(&self, batch: BatchRef, piece: PieceRef, attempt: AttemptNo, publication: PublicationNo) -> String {
        format!("{}_u{publication}", self.staging(batch, piece, attempt))
    }

    /// Returns the name of the table on a source node that holds the parts of one attempt, from which target nodes
    /// fetch them.
    pub fn parts_out(&self, batch: BatchRef, piece: PieceRef, attempt: AttemptNo, source_shard: usize) -> String {
        format!("{}_out{source_shard}", self.staging(batch, piece, attempt))
    }

    /// Returns the name of the table on a target node that fetches these parts.
    pub fn parts_in(&self, batch: BatchRef, piece: PieceRef, attempt: AttemptNo, source_shard: usize) -> String {
        format!("{}_in{source_shard}", self.staging(batch, piece, attempt))
    }

    /// Returns the name of the assembly table of one attempt at publishing.
    pub fn assembly(&self, batch: BatchRef, publication: PublicationNo) -> String {
        format!("{}asm_u{publication}", self.batch_tables(batch))
    }

    /// Returns the prefix of the ids of all statements of the task.
    pub fn queries(&self) -> String {
        format!("copier:{}:", self.0)
    }

    /// Returns the prefix of the ids of all statements of a piece.
    pub fn piece_queries(&self, piece: PieceRef) -> String {
        format!("{}t{}:p{}:", self.queries(), piece.table, piece.index)
    }

    /// Returns the prefix of the ids of the statements of one attempt at a piece. It is never a prefix of another
    /// attempt's.
    pub fn attempt_queries(&self, piece: PieceRef, attempt: AttemptNo) -> String {
        format!("{}a{attempt}:", self.piece_queries(piece))
    }

    /// Returns the attempt at a piece that a statement belongs to.
    pub(crate) fn attempt_of_query(&self, piece: PieceRef, query_id: &str) -> Option<AttemptNo> {
        query_id.strip_prefix(&self.piece_queries(piece))?.strip_prefix('a')?.split(':').next()?.parse().ok()
    }

    /// Returns the id of a statement that moves rows of a piece to one target node. `part` counts the statements if
    /// one would be too large.
    pub fn query(&self, piece: PieceRef, attempt: AttemptNo, shard: usize, replica: usize, part: usize) -> String {
        let part = if part > 0 { format!("n{part}") } else { String::new() };
        format!("{}s{shard}r{replica}{part}", self.attempt_queries(piece, attempt))
    }
}

/// The kind of a batch's table, read from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchTable {
    /// The rows of one attempt at a piece, taken by a publication or not yet.
    Staging {
        /// Index of the piece.
        piece: usize,
        /// The attempt at the piece.
        attempt: AttemptNo,
        /// The publication that took it last.
        publication: Option<PublicationNo>,
    },
    /// Parts of one attempt at a piece, transferred as files.
    Parts {
        /// Index of the piece.
        piece: usize,
        /// The attempt at the piece.
        attempt: AttemptNo,
        /// Index of the source shard whose parts they are.
        source_shard: usize,
        /// Whether the table is on the source node (true) or on the target node (false).
        out: bool,
    },
    /// The assembly table of one attempt at publishing.
    Assembly {
        /// Number of the attempt.
        publication: PublicationNo,
    },
}

impl BatchTable {
    /// Returns whether only older attempts used this table, from the view of a publication of the recorded attempts.
    /// A publisher that was suspended for a while must not touch the tables of a newer one (I4, I5).
    pub(crate) fn is_older(self, publication: PublicationNo, recorded: impl Fn(usize) -> Option<AttemptNo>) -> bool {
        match self {
            Self::Assembly { publication: own } => own < publication,
            Self::Staging { piece, attempt, .. } | Self::Parts { piece, attempt, .. } => {
                recorded(piece).is_some_and(|recorded| attempt < recorded)
            }
        }
    }

    /// Returns whether the table shows that a newer publication, or a newer attempt at a piece, is at work.
    pub(crate) fn is_newer(self, publication: PublicationNo, recorded: impl Fn(usize) -> Option<AttemptNo>) -> bool {
        match self {
            Self::Assembly { publication: own } => own > publication,
            Self::Staging { piece, attempt, publication: taken_by } => {
                taken_by.is_some_and(|taken_by| taken_by > publication)
                    || recorded(piece).is_none_or(|recorded| attempt > recorded)
            }
            Self::Parts { piece, attempt, .. } => recorded(piece).is_none_or(|recorded| attempt > recorded),
        }
    }

    /// Parses a table name without the batch's prefix.
    pub(crate) fn parse(suffix: &str) -> Option<Self> {
        if let Some(publication) = suffix.strip_prefix("asm_u") {
            return Some(Self::Assembly { publication: publication.parse().ok()? });
        }
        let (piece, rest) = suffix.strip_prefix('p')?.split_once("_a")?;
        for (word, out) in [("_out", true), ("_in", false)] {
            if let Some((attempt, source_shard)) = rest.split_once(word) {
                let (attempt, source_shard) = (attempt.parse().ok()?, source_shard.parse().ok()?);
                return Some(Self::Parts { piece: piece.parse().ok()?, attempt, source_shard, out });
            }
        }
        let (attempt, publication) = match rest.split_once("_u") {
            Some((attempt, publication)) => (attempt, Some(publication.parse().ok()?)),
            None => (rest, None),
        };
        Some(Self::Staging { piece: piece.parse().ok()?, attempt: attempt.parse().ok()?, publication })
    }
}

/// A table that a task made, from its whole name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeTable {
    /// The task.
    pub task: TaskId,
    /// The batch.
    pub batch: BatchRef,
    /// Kind of the table.
    pub(crate) table: BatchTable,
}

/// A statement that a task started, from its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeStatement {
    /// The task.
    pub task: TaskId,
    /// The piece.
    pub piece: PieceRef,
    /// The attempt at the piece.
    pub attempt: AttemptNo,
}

impl TaskId {
    /// Prefix of the names of all tables of all tasks.
    pub const ALL_TABLES: &str = "copier_";
    /// Prefix of the ids of all statements of all tasks.
    pub const ALL_QUERIES: &str = "copier:";

    /// Parses a task identity: twelve hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        (text.len() == 12 && text.bytes().all(digit)).then(|| Self(text.to_owned()))
    }
}

impl MadeTable {
    /// Parses a table's name. Returns `None` for every name that no task would choose, so a foreign table whose name
    /// merely begins like ours is never taken for ours.
    pub fn parse(name: &str) -> Option<Self> {
        let (task, rest) = name.strip_prefix(TaskId::ALL_TABLES)?.split_once('_')?;
        let task = TaskId::parse(task)?;
        let (table, rest) = rest.strip_prefix('t')?.split_once("_b")?;
        let (batch, rest) = rest.split_once('_')?;
        let batch = BatchRef { table: table.parse().ok()?, index: batch.parse().ok()? };
        let made = Self { task, batch, table: BatchTable::parse(rest)? };
        // Numbers can be written in other ways than ours (`+1`, `01`).
        (made.name() == name).then_some(made)
    }

    /// Returns the table's name.
    pub fn name(&self) -> String {
        let piece = |piece| PieceRef { table: self.batch.table, index: piece };
        match self.table {
            BatchTable::Staging { piece: index, attempt, publication: None } => {
                self.task.staging(self.batch, piece(index), attempt)
            }
            BatchTable::Staging { piece: index, attempt, publication: Some(publication) } => {
                self.task.taken(self.batch, piece(index), attempt, publication)
            }
            BatchTable::Parts { piece: index, attempt, source_shard, out: true } => {
                self.task.parts_out(self.batch, piece(index), attempt, source_shard)
            }
            BatchTable::Parts { piece: index, attempt, source_shard, out: false } => {
                self.task.parts_in(self.batch, piece(index), attempt, source_shard)
            }
            BatchTable::Assembly { publication } => self.task.assembly(self.batch, publication),
        }
    }
}

impl MadeStatement {
    /// Parses a statement's id; returns `None` for an id that no task would choose.
    pub fn parse(query_id: &str) -> Option<Self> {
        let mut parts = query_id.strip_prefix(TaskId::ALL_QUERIES)?.split(':');
        let task = TaskId::parse(parts.next()?)?;
        let table = parts.next()?.strip_prefix('t')?.parse().ok()?;
        let piece = PieceRef { table, index: parts.next()?.strip_prefix('p')?.parse().ok()? };
        let attempt = task.attempt_of_query(piece, query_id)?;
        Some(Self { task, piece, attempt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_table_name_is_parsed_into_its_task() {
        let id = TaskId("0123456789ab".into());
        let (batch, piece) = (BatchRef { table: 1, index: 2 }, PieceRef { table: 1, index: 34 });
        let parts = [id.parts_out(batch, piece, AttemptNo(5), 0), id.parts_in(batch, piece, AttemptNo(5), 12)];
        let staged = [
            id.staging(batch, piece, AttemptNo(5)),
            id.taken(batch, piece, AttemptNo(5), PublicationNo(6)),
            id.assembly(batch, PublicationNo(7)),
        ];
        for name in staged.into_iter().chain(parts) {
            let parsed = MadeTable::parse(&name);
            assert_eq!(parsed.as_ref().map(|table| (&table.task, table.batch)), Some((&id, batch)), "{name}");
            for other in [format!("{name}_old"), format!("{name}x"), format!(" {name}"), name.replace("t1", "t01")] {
                assert_eq!(MadeTable::parse(&other), None, "{other}");
            }
        }
        for other in ["copier_", "copier_notes", "copier_0123456789ab_mine", "copier_0123456789AB_t1_b2_asm_u7"] {
            assert_eq!(MadeTable::parse(other), None, "{other}");
        }
        let statement = MadeStatement { task: id.clone(), piece, attempt: AttemptNo(5) };
        assert_eq!(MadeStatement::parse(&id.query(piece, AttemptNo(5), 0, 1, 0)), Some(statement));
        assert_eq!(MadeStatement::parse("copier:mine"), None);
    }

    #[test]
    fn a_table_name_contains_the_kind_of_the_table() {
        let id = TaskId("0f".into());
        let (batch, piece) = (BatchRef { table: 1, index: 2 }, PieceRef { table: 1, index: 34 });
        let prefix = id.batch_tables(batch);
        for (name, table) in [
            (
                id.staging(batch, piece, AttemptNo(5)),
                BatchTable::Staging { piece: 34, attempt: AttemptNo(5), publication: None },
            ),
            (
                id.taken(batch, piece, AttemptNo(5), PublicationNo(6)),
                BatchTable::Staging { piece: 34, attempt: AttemptNo(5), publication: Some(PublicationNo(6)) },
            ),
            (id.assembly(batch, PublicationNo(7)), BatchTable::Assembly { publication: PublicationNo(7) }),
            (
                id.parts_out(batch, piece, AttemptNo(5), 2),
                BatchTable::Parts { piece: 34, attempt: AttemptNo(5), source_shard: 2, out: true },
            ),
            (
                id.parts_in(batch, piece, AttemptNo(5), 2),
                BatchTable::Parts { piece: 34, attempt: AttemptNo(5), source_shard: 2, out: false },
            ),
        ] {
            assert_eq!(name.strip_prefix(&prefix).and_then(BatchTable::parse), Some(table), "{name}");
        }
        assert_eq!(BatchTable::parse("something"), None);
    }

    #[test]
    fn tables_of_older_and_newer_attempts_are_distinguished() {
        let recorded = |piece: usize| (piece == 3).then_some(AttemptNo(5));
        let staging = |attempt, publication| BatchTable::Staging { piece: 3, attempt, publication };
        let parts = |attempt| BatchTable::Parts { piece: 3, attempt, source_shard: 0, out: false };
        for (table, older, newer) in [
            (staging(AttemptNo(4), None), true, false),
            (staging(AttemptNo(4), Some(PublicationNo(1))), true, false),
            (staging(AttemptNo(5), Some(PublicationNo(1))), false, false),
            (staging(AttemptNo(5), Some(PublicationNo(3))), false, true),
            (staging(AttemptNo(6), None), false, true),
            (parts(AttemptNo(4)), true, false),
            (parts(AttemptNo(5)), false, false),
            (parts(AttemptNo(6)), false, true),
            (BatchTable::Assembly { publication: PublicationNo(1) }, true, false),
            (BatchTable::Assembly { publication: PublicationNo(3) }, false, true),
        ] {
            assert_eq!(
                (table.is_older(PublicationNo(2), recorded), table.is_newer(PublicationNo(2), recorded)),
                (older, newer),
                "{table:?}"
            );
        }
    }

    #[test]
    fn a_query_id_contains_its_attempt() {
        let (id, piece) = (TaskId("0f".into()), PieceRef { table: 1, index: 2 });
        assert_eq!(id.attempt_of_query(piece, &id.query(piece, AttemptNo(12), 0, 1, 0)), Some(AttemptNo(12)));
        assert_eq!(
            id.attempt_of_query(PieceRef { table: 1, index: 23 }, &id.query(piece, AttemptNo(12), 0, 1, 0)),
            None
        );
        assert!(!id.query(piece, AttemptNo(12), 0, 0, 0).starts_with(&id.attempt_queries(piece, AttemptNo(1))));
    }

    #[test]
    fn no_prefix_of_names_is_the_start_of_another() {
        let id = TaskId("0f".into());
        assert!(
            !id.batch_tables(BatchRef { table: 1, index: 23 })
                .starts_with(&id.batch_tables(BatchRef { table: 1, index: 2 }))
        );
        assert!(
            !id.piece_queries(PieceRef { table: 1, index: 23 })
                .starts_with(&id.piece_queries(PieceRef { table: 1, index: 2 }))
        );
    }
}
