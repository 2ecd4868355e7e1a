//! The errors of attempts, as data. `Display` of these types is the only place that turns them into text.

use std::time::Duration;

use crate::client::{Error, Remedy};
use crate::ledger::LedgerError;
use crate::model::{PartitionId, PartitionValue, TableName};
use crate::protocol::{Failure, Refusal};

/// The error of a failed attempt. The worker reacts to each cause as follows:
///
/// | cause | reaction |
/// | --- | --- |
/// | a temporary failure of a server ([`Remedy::Retry`]) | another attempt, after a pause of up to a minute that differs for each worker |
/// | an overloaded server ([`Error::is_overload`]) | the same; for some hours the attempt does not count as a failure |
/// | a server runs out of memory ([`Remedy::Smaller`]) | another attempt that moves fewer rows at once |
/// | damaged data of one replica ([`Remedy::Elsewhere`]), or a source replica that does not answer | another attempt, on another replica |
/// | a target node, or its staged rows, are lost | the worker chooses other nodes and copies the batch again |
/// | another writer adds rows to a target node at the same time | another attempt, which counts the rows of the node again |
/// | the coordinator | the worker drops its current work, opens a new session and reads all records again |
/// | any other answer of a server ([`Remedy::GiveUp`]) | no further attempt: the partition has failed, all other work continues |
/// | an unreadable record | the run ends |
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AttemptError {
    /// A server answered with an error, or did not answer.
    #[error(transparent)]
    Server(#[from] Error),
    /// The coordinator failed.
    #[error(transparent)]
    Coordinator(#[from] LedgerError),
    /// The answers of the servers contradict each other.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// Some or all of the recorded staged rows are missing on their node.
    #[error(transparent)]
    StagingGone(#[from] StagingGone),
    /// Another writer added rows to target nodes after their numbers of rows were recorded. The nodes hold no rows of this attempt yet,
    /// so the worker records the numbers again.
    #[error("{}: partition {partition} of {table}: somebody else adds rows to it", first(.nodes))]
    Overtaken {
        /// The addresses of the nodes.
        nodes: Vec<String>,
        /// The partition that got rows on the first of them.
        partition: PartitionId,
        /// The target table.
        table: TableName,
    },
    /// An error that no further attempt can remove.
    #[error(transparent)]
    Final(#[from] FinalError),
}

/// A failed attempt at a piece or at a publication.
#[derive(Debug)]
pub(crate) struct FailedAttempt {
    /// The number of the attempt.
    pub(crate) number: u32,
    /// Why it failed.
    pub(crate) error: AttemptError,
}

/// A contradiction between answers of servers. Another attempt may end it. Nodes are named by their addresses.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Mismatch {
    /// A fault that the user asked for, to test a deployment.
    #[error("a fault was wished for by {flag}")]
    WantedFault {
        /// The flag of the command line.
        flag: &'static str,
    },
    /// The target table does not exist any more.
    #[error("{node}: table {table} is gone")]
    TableGone {
        /// The target node.
        node: String,
        /// The target table.
        table: TableName,
    },
    /// Another number of rows is staged than the sources have.
    #[error("{} has {selected} rows to copy now, and {staged} arrived: did the source change meanwhile?", .sources.join(", "))]
    OtherRows {
        /// The source nodes.
        sources: Vec<String>,
        /// The rows that the sources have.
        selected: u64,
        /// The rows that are staged.
        staged: u64,
    },
    /// The staged rows have another checksum than those of the sources.
    #[error(
        "{} has {rows} rows to copy with checksum {selected:016x}, and as many arrived with {staged:016x}{}: did the source \
         change meanwhile?", .sources.join(", "), differing(.column.as_deref())
    )]
    OtherChecksum {
        /// The source nodes.
        sources: Vec<String>,
        /// The rows on both sides.
        rows: u64,
        /// The checksum of the rows of the sources.
        selected: u64,
        /// The checksum of the staged rows.
        staged: u64,
        /// The first column that differs, if one was found.
        column: Option<String>,
    },
    /// A source node has fewer rows than planned. Another replica may have all.
    #[error("{node} has {found} rows, but {planned} were seen when the task was planned: trying another replica")]
    FewerThanPlanned {
        /// The source node.
        node: String,
        /// The rows that it has.
        found: u64,
        /// The planned rows.
        planned: u64,
    },
    /// Two nodes of a target shard got different rows.
    #[error(
        "{first} got {first_rows} rows and {second} {second_rows}{}, but both are to hold the same",
        if .first_rows == .second_rows { " with another checksum" } else { "" }
    )]
    UnequalReplicas {
        /// One node.
        first: String,
        /// The rows that are staged on the first node.
        first_rows: u64,
        /// The other node.
        second: String,
        /// The rows that are staged on the second node.
        second_rows: u64,
    },
    /// Two nodes of a target shard hold rows with different checksums.
    #[error("{first} and {second} are to hold the same rows in {table}, but their checksums differ")]
    UnequalContents {
        /// One node.
        first: String,
        /// The other node.
        second: String,
        /// The table.
        table: TableName,
    },
    /// The target has as many rows as were copied, but with other contents.
    #[error("{} of {table} has as many rows as were copied, but with other contents", named(.partition.as_deref()))]
    OtherContents {
        /// The name of the partition, if it is known.
        partition: Option<String>,
        /// The target table.
        table: TableName,
    },
    /// A replica has not fetched all rows of the other replicas.
    #[error(
        "{node}: {table} has not fetched everything from its other replicas within {} s: it cannot be told whether rows were \
         added there", .within.as_secs()
    )]
    NotCaughtUp {
        /// The replica.
        node: String,
        /// The target table.
        table: TableName,
        /// How long the worker waited.
        within: Duration,
    },
    /// Parts that were replaced still exist.
    #[error(
        "{node}: {left} replaced parts of {table} are still there after {} s; they would come back if the server restarted",
        .after.as_secs()
    )]
    ReplacedPartsLeft {
        /// The target node.
        node: String,
        /// The target table.
        table: TableName,
        /// The number of parts.
        left: u64,
        /// How long the worker waited.
        after: Duration,
    },
    /// A target partition has another number of rows than it must have.
    #[error("{node}: partition {partition} of {table} holds {counted} rows after {staged} were put in place")]
    WrongCount {
        /// The target node.
        node: String,
        /// The partition.
        partition: PartitionId,
        /// The target table.
        table: TableName,
        /// The rows that it has.
        counted: u64,
        /// The rows that were put in place.
        staged: u64,
    },
    /// A replica holds another number of rows than the node that got them.
    #[error(
        "replica {replica} holds {found} rows of partition {partition} of {table}, and {node} holds {expected}: do both have the \
         same zookeeper_path in system.replicas?"
    )]
    ReplicaDiffers {
        /// The replica.
        replica: String,
        /// The rows that it has.
        found: u64,
        /// The partition.
        partition: PartitionId,
        /// The target table.
        table: TableName,
        /// The node that got the rows.
        node: String,
        /// The rows that this node has.
        expected: u64,
    },
    /// The node that got the rows was lost before a replica had them.
    #[error("{error}: the rows were put in place there, and replica {replica} of {table} does not have them yet")]
    LostBeforeReplication {
        /// The error of the lost node.
        error: Box<Error>,
        /// The replica.
        replica: String,
        /// The target table.
        table: TableName,
    },
    /// A transfer failed, and the next attempt takes another route.
    #[error("{0}; the next attempt takes another way")]
    RouteFailed(Error),
}

/// Recorded staged rows that are not on their node any more. Nodes are named by their addresses.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StagingGone {
    /// The staging table of a piece is missing.
    #[error("{node}: the staged rows of piece {piece} are gone (table {table})")]
    Table {
        /// The target node.
        node: String,
        /// The index of the piece.
        piece: usize,
        /// The staging table.
        table: TableName,
    },
    /// Another number of rows is staged than was recorded.
    #[error("{node}: {expected} rows were staged for this batch, and {found} are there")]
    Rows {
        /// The target node.
        node: String,
        /// The recorded rows.
        expected: u64,
        /// The rows that are there.
        found: u64,
    },
    /// The staged rows have another checksum than the copied rows.
    #[error("the staged rows of {} are not those that were copied: their checksum differs", named(.partition.as_deref()))]
    Contents {
        /// The name of the partition, if it is known.
        partition: Option<String>,
    },
}

/// An error that no further attempt can remove. Nodes are named by their addresses.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum FinalError {
    /// Another worker has claimed the job.
    #[error("another worker has taken over")]
    TakenOver,
    /// The only replica of a source shard has damaged data.
    #[error("{0}")]
    DamagedSource(Error),
    /// The task names no replica of a source shard.
    #[error("the source shard has no replica")]
    NoReplica,
    /// The task was changed, and does not name a target node of the batch any more.
    #[error("the task names target node {node} no more")]
    NodeNotInTask {
        /// The target node.
        node: String,
    },
    /// A target table lacks planned columns.
    #[error("{node}: {table} lacks one of the columns {}", .columns.join(", "))]
    LacksColumns {
        /// The target node.
        node: String,
        /// The target table.
        table: TableName,
        /// The planned columns.
        columns: Vec<String>,
    },
    /// The source gives rows of another partition than it was asked for.
    #[error("{node}: the source gives rows of partition {:?}, which was not asked for", .partition.0)]
    ForeignPartition {
        /// The source node.
        node: String,
        /// The partition of the rows.
        partition: PartitionValue,
    },
    /// The task demands the transfer `clone`, which is not possible.
    #[error("clone does not work: {why}. Without <transfer> the worker looks for another way")]
    CannotClone {
        /// The reason.
        why: String,
    },
    /// The target partition holds rows that the task does not allow.
    #[error("{node}: partition {partition} of {table}: {refusal}")]
    Refused {
        /// The target node.
        node: String,
        /// The partition.
        partition: PartitionId,
        /// The target table.
        table: TableName,
        /// The reason.
        refusal: Refusal,
    },
    /// A table of a newer attempt exists.
    #[error("{node}: a newer attempt is at work ({table})")]
    NewerAttempt {
        /// The target node.
        node: String,
        /// The name of the table, without its database.
        table: String,
    },
    /// Rows are staged in a partition that was not selected.
    #[error(
        "{node}: {rows} rows were staged in partition {partition} of {table}, which is none of those that were selected: the \
         partition key has another value there than at the source"
    )]
    UnselectedPartition {
        /// The target node.
        node: String,
        /// The staged rows of the partition.
        rows: u64,
        /// The partition.
        partition: PartitionId,
        /// The target table.
        table: TableName,
    },
    /// Another number of rows of a partition is staged than was selected.
    #[error("partition {partition}: {selected} rows were selected at the source, and {staged} were staged")]
    UnequalPartition {
        /// The name of the partition.
        partition: String,
        /// The rows that were selected.
        selected: u64,
        /// The rows that were staged.
        staged: u64,
    },
}

/// Returns the first of the nodes.
fn first(nodes: &[String]) -> &str {
    nodes.first().map_or("", String::as_str)
}

/// Returns a partition for a message. Its name may be unknown.
fn named(partition: Option<&str>) -> String {
    partition.map_or_else(|| "a partition".to_owned(), |name| format!("partition {name}"))
}

/// Returns the remark on a column that differs, if one was found.
fn differing(column: Option<&str>) -> String {
    column.map(|name| format!(" (column {name} differs)")).unwrap_or_default()
}

impl AttemptError {
    /// Returns whether another attempt can help.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Server(error) => error.remedy() != Remedy::GiveUp,
            Self::Coordinator(_) | Self::Mismatch(_) | Self::Overtaken { .. } => true,
            Self::StagingGone(_) | Self::Final(_) => false,
        }
    }

    /// Returns whether a server is overloaded.
    pub(crate) fn is_overload(&self) -> bool {
        matches!(self, Self::Server(error) if error.is_overload())
    }

    /// Returns the server that reported the error, if a server did.
    pub(crate) fn node(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.node),
            _ => None,
        }
    }

    /// Returns the form in which the error is recorded.
    pub(crate) fn failure(&self) -> Failure {
        let too_large = matches!(self, Self::Server(error) if error.remedy() == Remedy::Smaller);
        Failure { error: self.to_string(), transient: self.is_transient(), too_large, overload: self.is_overload() }
    }
}
