//! The copy protocol: what is recorded, what a record means, and which job comes next. Pure: it takes facts and
//! returns values.
//!
//! A piece goes `pending → running(attempt, worker) → copied(rows)`, a batch `copying → publishing(attempt, worker) →
//! done(rows)`. Every transition is a compare-and-set of a record in the coordinator. The same transaction takes or
//! gives back the claim, an ephemeral node, through the session that holds it. The record of a batch lists the nodes
//! that hold its staged rows, with a generation. If one of these nodes is lost, other nodes are chosen under the next
//! generation, and everything copied for an older generation is void.
//!
//! # Guarantees
//! They hold at every instant, even if workers or servers crash, hang and continue, or messages arrive late or are
//! lost. `tests/simulation` checks them after each request of thousands of runs. It also fails if any one guard is
//! removed.
//!
//! - **I1** *A target partition holds, of this task, nothing or exactly the selected rows, each once.* Rows come into
//!   it only by `REPLACE PARTITION`, which is atomic on a node, from a table whose rows were counted and whose name
//!   only one attempt at publishing knows. Repeating it gives the same result. (`append`: by `ATTACH`, after the rows
//!   present were recorded. The count decides whether it was done; if it cannot decide, the task stops and says so.)
//! - **I2** *A partition that held rows of others before is left as it was unless the task says what to do with it.*
//!   It is checked when the task is planned and again right before its rows would change ([`decide`]). A partition
//!   that an earlier pass of the task filled is ours: it is checked when the next pass is planned, and is replaced.
//! - **I3** *Nothing is `copied` or `done` that was not counted on the nodes that hold it*, by query, after the last
//!   statement of that attempt ended or was given up. A missing answer never counts as zero rows.
//! - **I4** *Staged rows of a recorded attempt exist until the batch is `done`.* A worker drops only tables of
//!   attempts that it knows to be older than the recorded ones ([`BatchTable::is_older`]), and tables of a batch that
//!   is recorded as `done` or void. It records `done` first and drops the tables afterwards.
//! - **I5** *A statement of an older attempt, arriving at any later time, can only touch tables that only that attempt used.*
//!   Attempts are given out by compare-and-set and never twice; names contain them. An attempt at publishing first
//!   renames the recorded staging tables to names of its own. An earlier attempt then no longer finds them under its
//!   names, on every node that holds rows of the batch. A publisher also reads the record once more right before rows
//!   change.
//! - **I6** *A finished task leaves no table, no statement and no ephemeral node* on any server that answers. If a
//!   server does not answer, the task names it and is not recorded as finished. If a late statement of a dead worker
//!   creates a table after that, `cleanup` finds it by its name ([`judge_table`]).
//! - **I7** *Every row of the source is accounted for.* I1 to I6 speak of rows that were selected. A second account
//!   shares nothing with them: before copying, a count that reads the rows of each source shard equals the plan
//!   ([`account::judge_shard`]); the rows in the records equal that count ([`account::judge_source`]); and each partition
//!   of each target node holds the rows that were put there and those that stayed ([`account::Expected`]). If they
//!   differ, the task is refused or ends as different, never as finished.
//!
//! # Assumptions
//! - *The coordinator* is linearizable for writes, and a commit of an ended session does nothing. A claim is a hint,
//!   not a mutex: two workers may both believe that they hold it. Their attempts then differ, and only one of them
//!   can record.
//! - *A server* executes `RENAME TABLE`, and `REPLACE PARTITION … FROM` for each partition, at one instant, and keeps
//!   what it has acknowledged. On plain MergeTree, parts displaced by REPLACE come back if the server is killed
//!   within seconds (docs/clickhouse-behaviour.md, T3): until a batch whose partitions held rows before is `done`,
//!   such a partition may hold both. `done` waits until the displaced parts are gone.
//! - *A node that was given up* and comes back has missed the renames of newer attempts. Its old tables are dropped
//!   before the batch is `done`, if it answers by then. If it does not, rows of the older generation, which were
//!   counted too, can replace the newer ones on that node in one case: a publisher hangs between its last read of the
//!   record and its REPLACE for as long as the node is away, and then finds its connection alive.
//! - *The source* does not change while a piece is copied. If it does, the counts differ and the piece is copied
//!   again. A change that keeps the count shows at the end in the block numbers of the parts, and the task ends as
//!   not accounted for.
//! - *Another task* that writes to the same partitions counts as foreign: with `fail`, the task that checks second
//!   finds rows and stops. If both check at the same instant, both find nothing, and the later REPLACE wins.

pub mod account;
mod claims;
mod leftovers;
mod names;
mod order;
mod publish;
mod record;
mod record_check;
mod scheduler;
mod table_records;

pub use claims::{Claim, HeldClaim, Job, ServerPlace};
pub(crate) use leftovers::{Alive, judge_statement, judge_table, to_void};
pub use leftovers::{LeftoverVerdict, Reason};
pub use names::{BatchRef, MadeStatement, MadeTable, PieceRef, TaskId};
pub(crate) use names::{BatchTable, GroupRef};
pub use order::Order;
pub(crate) use publish::{PartitionFacts, Policy, Refusal, Step, decide, is_complete};
pub(crate) use record::Failure;
pub use record::{BatchRecord, BatchState, Copied, PartitionResult, PieceRecord, PieceState, Published, TaskRecord};
pub(crate) use record_check::Extent;
pub use scheduler::groups;
pub(crate) use scheduler::{PiecePreference, Preferences, Scheduler};
pub(crate) use table_records::Next;
pub use table_records::TableRecords;
