//! The copy protocol: what is recorded, what it means, and what comes next. Pure: facts go in, values come out.
//!
//! A piece goes `pending → running(attempt, worker) → copied(rows)`, a batch `copying → publishing(attempt, worker) → done(rows)`.
//! Every transition is a compare-and-set of a record in the coordinator, made together with taking or giving back the
//! claim, an ephemeral node.
//!
//! The nodes that hold a batch's staged rows are recorded with a generation. When one of them is lost, others are chosen
//! under the next generation, and what was copied for an older one is void.
//!
//! # Guarantees
//! - **I1** A target partition holds, of this task, nothing or exactly the selected rows, each once: it is filled by one
//!   `REPLACE PARTITION` from a table whose rows were counted. (`append`: by one `ATTACH`, guarded by counts.)
//! - **I2** A partition that held rows of others is left as it was unless the task says what to do with it.
//! - **I3** Nothing is `copied` or `done` that was not counted by query on the nodes that hold it.
//! - **I4** Staged rows of a recorded attempt exist until the batch is `done`: they are dropped after that was recorded.
//! - **I5** A statement of an older attempt can only touch tables that only that attempt used: every attempt has tables
//!   of its own, and a publication first renames the staging tables to names of its own.
//! - **I6** A finished task leaves no table, no statement and no ephemeral node.
//!
//! # Assumptions
//! - A claim is a hint, not a mutex: two workers may believe that they hold the same one. Attempts differ then, and
//!   only one of them can record its result.
//! - `RENAME TABLE` and `REPLACE PARTITION … FROM` are atomic on a node. A publication whose tables were renamed away
//!   fails at its next statement; one `REPLACE` that is already running when that happens has the same rows.
//! - The source holds still while a piece is copied. Where it does not, the counts differ and the piece is copied again.

mod board;
mod leftovers;
mod names;
mod publish;
mod record;

pub use board::{Job, Next, TableBoard, next};
pub use leftovers::{Alive, Reason, Verdict, judge_statement, judge_table, to_void};
pub use names::{BatchRef, BatchTable, MadeStatement, MadeTable, PieceRef, TaskId};
pub use publish::{PartitionFacts, Policy, Step, decide, is_complete};
pub use record::{
    BatchRecord, BatchState, Copied, Failure, PartitionResult, PieceRecord, PieceState, Published, TaskRecord,
};
