//! The copy protocol: what is recorded, what it means, and what comes next. Pure: facts go in, values come out.
//!
//! A piece goes `pending → running(attempt, worker) → copied(rows)`, a batch `copying → publishing(attempt, worker) → done(rows)`.
//! Every transition is a compare-and-set of a record in the coordinator, made together with taking or giving back the
//! claim, an ephemeral node, and through the session that holds it. The nodes that hold a batch's staged rows are recorded
//! with a generation: when one of them is lost, others are chosen under the next generation, and what was copied for an
//! older one is void.
//!
//! # Guarantees
//! They hold at every instant, whatever crashes, stands still and goes on, arrives late or is lost. `tests/simulation`
//! checks them after each request of thousands of runs, and misses each guard that is taken away.
//!
//! - **I1** *A target partition holds, of this task, nothing or exactly the selected rows, each once.* Rows come into it by
//!   `REPLACE PARTITION` only, atomic on a node, from a table whose rows were counted and that only one attempt at
//!   publishing has a name for. Doing it again gives the same. (`append`: by `ATTACH`, after what was there was recorded; the
//!   count decides whether it was done, and where it cannot, the task stops and says so.)
//! - **I2** *A partition that held rows of others before is left as it was unless the task says what to do with it.* It is
//!   looked at when the task is planned and again right before its rows would change ([`decide`]). What an earlier pass of
//!   the task has filled is ours: it is looked at when the next pass is planned, and gives way.
//! - **I3** *Nothing is `copied` or `done` that was not counted on the nodes that hold it*, by query, after the last
//!   statement of that attempt has ended or was given up. No answer is never a zero.
//! - **I4** *Staged rows of a recorded attempt exist until the batch is `done`.* Whoever drops tables drops those of
//!   attempts that it knows to be older than the recorded ones ([`BatchTable::is_older`]), or those of a batch that is
//!   recorded as `done` or void. `done` comes first, the drop after it.
//! - **I5** *A statement of an older attempt, arriving at any later time, can only touch tables that only that attempt used.*
//!   Attempts are given out by compare-and-set and never twice; names contain them. An attempt at publishing first renames
//!   the recorded staging tables to names of its own: what an earlier one had in hand is then gone from under its names,
//!   on every node that holds rows of the batch. A publisher also reads the record once more right before rows change.
//! - **I6** *A finished task leaves no table, no statement and no ephemeral node* on any server that answers; what does not
//!   answer is named, and the task is not recorded as finished. What a dead worker's late statement makes after that,
//!   `cleanup` finds by its name ([`judge_table`]).
//! - **I7** *Every row of the source is accounted for.* I1 to I6 speak of rows that were selected. A second account shares nothing with
//!   them: a count of each source shard that reads the rows, before copying, is what the plan lists ([`account::weigh`]); the rows in
//!   the records are what was counted ([`account::judge_source`]); and each partition of each target node holds what was put there
//!   and what stayed ([`account::Expected`]). Where they differ the task is refused, or ends as different, never as finished.
//!
//! # Assumptions
//! - *The coordinator* is linearizable for writes, and a commit of a session that is over does nothing. A claim is a hint, not
//!   a mutex: two workers may believe that they hold the same one. Their attempts differ then, and only one can record.
//! - *A server* does `RENAME TABLE`, and `REPLACE PARTITION … FROM` for each partition, at one instant, and keeps what it has
//!   answered for. On plain MergeTree, parts that REPLACE displaced come back if the server is killed within seconds (docs/clickhouse-behaviour.md,
//! T3): until a batch whose partitions held rows before is `done`, such a partition may hold both. `done` waits
//!   until the displaced parts are gone.
//! - *A node that was given up* and comes back has no newer attempt's renames. What is left there is dropped before the batch
//!   is `done`, if it answers by then. If it does not, a publisher would have to stand still between its last look at the
//!   record and its REPLACE, for as long as the node is away, and find its connection alive afterwards: then the rows of the
//!   older generation, which were counted too, would replace the newer ones on that node.
//! - *The source* holds still while a piece is copied. Where it does not, the counts differ and the piece is copied again;
//!   a change that keeps the count is seen at the end by the blocks of its parts, and the task ends as not accounted for.
//! - *Another task* into the same partitions is somebody else: with `fail`, whoever looks second finds rows and stops. Two that
//!   look in the same instant both find nothing, and the later REPLACE stays.

pub mod account;
mod leftovers;
mod names;
mod order;
mod publish;
mod record;
mod record_check;
mod scheduler;
mod table_records;

pub use leftovers::{Alive, Reason, Verdict, judge_statement, judge_table, to_void};
pub use names::{BatchRef, BatchTable, GroupRef, Job, MadeStatement, MadeTable, PieceRef, TaskId, job_of_claim};
pub use order::Order;
pub use publish::{PartitionFacts, Policy, Step, decide, is_complete};
pub use record::{
    BatchRecord, BatchState, Copied, Failure, PartitionResult, PieceRecord, PieceState, Published, TaskRecord,
};
pub use record_check::{Extent, Misfit};
pub use scheduler::{Preferences, Scheduler, groups};
pub use table_records::{Next, TableRecords};
