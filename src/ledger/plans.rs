//! Plans and the partitions that earlier passes have copied, stored in chunks.

use super::work::processed_bits;
use super::{CHUNK_BYTES, EARLIER, Ledger, LedgerError, encoded, parsed};
use crate::coordinator::{Op, Stored, ensure_path};
use crate::plan::{Earlier, TablePlan};
use crate::protocol::{BatchRecord, PieceRecord, TaskRecord, groups};
use crate::runtime::fault_point::fault_point;

/// The most chunks of a plan, which are gigabytes.
const MAX_CHUNKS: usize = 10_000;

/// Returns the number of nodes that a plan and its records take, and the number of bytes of the plan.
pub(crate) fn footprint(plan: &TablePlan) -> (usize, usize) {
    let pieces_of: Vec<_> = plan.batches.iter().map(|batch| batch.pieces.clone()).collect();
    let bytes = encoded(plan).len();
    (groups(&pieces_of).len() + plan.batches.len() + processed_bits(plan) + bytes.div_ceil(CHUNK_BYTES), bytes)
}

impl Ledger {
    /// Stores the plans of all tables, in their order, with a new record for each of their pieces and batches. A plan exists when its
    /// first chunk exists, so the first chunks are written last.
    pub(crate) async fn store_plans(&self, plans: &[(&TablePlan, Vec<BatchRecord>)]) -> Result<(), LedgerError> {
        // An earlier planner may have died and left nodes.
        for name in ["plan", "pieces", "batches", "processed"] {
            self.delete_children(name, |_| true).await?;
        }
        let (mut ops, mut chunks, mut heads) = (Vec::new(), Vec::new(), Vec::new());
        for (table, (plan, batches)) in plans.iter().enumerate() {
            let pieces_of: Vec<_> = plan.batches.iter().map(|batch| batch.pieces.clone()).collect();
            for (group, pieces) in groups(&pieces_of).into_iter().enumerate() {
                let records = vec![PieceRecord::default(); pieces.len()];
                ops.push(Op::create(self.group_path(table, group), encoded(&records)));
            }
            for (batch, record) in batches.iter().enumerate() {
                ops.push(Op::create(self.batch_path(table, batch), encoded(record)));
            }
            ops.extend((0..processed_bits(plan)).map(|bit| Op::create(self.processed_path(table, bit), Vec::new())));
            let (head, others) = self.chunk_ops(&format!("plan/{table}"), &encoded(*plan));
            heads.push(head);
            chunks.extend(others);
        }
        for step in [ops, chunks, heads] {
            self.commit_all(step).await?;
        }
        Ok(())
    }

    /// Reads the plans of all tables. `tables` is their number.
    pub(crate) async fn plans(&self, tables: usize) -> Result<Vec<TablePlan>, LedgerError> {
        let firsts: Vec<String> = (0..tables).map(|table| self.chunk_path(&format!("plan/{table}"), 0)).collect();
        let found = self.session.get_many(&firsts).await?;
        let mut plans = Vec::new();
        for (table, (path, first)) in firsts.iter().zip(found).enumerate() {
            plans.push(checked(path, self.joined(&format!("plan/{table}"), first).await?)?);
        }
        Ok(plans)
    }

    /// Reads the plan of a table.
    pub(crate) async fn plan(&self, table: usize) -> Result<TablePlan, LedgerError> {
        let path = self.chunk_path(&format!("plan/{table}"), 0);
        checked(&path, self.chunks(&format!("plan/{table}")).await?)
    }

    /// Reads which partitions of a table earlier passes have copied. Returns `None` in the first pass.
    pub(crate) async fn earlier(&self, record: &TaskRecord, table: usize) -> Result<Option<Earlier>, LedgerError> {
        if record.pass == 0 {
            return Ok(None);
        }
        let name = format!("{EARLIER}/{}.{table}", record.pass);
        let text = self.chunks(&name).await?;
        text.map(|text| parsed(&self.chunk_path(&name, 0), &text)).transpose()
    }

    /// Begins the next pass of a finished task. The caller must hold all places, so that no worker needs the old records. Stores the
    /// partitions copied so far for each table, then changes the task's record.
    pub(crate) async fn begin_pass(&self, next: &TaskRecord, earlier: &[Earlier]) -> Result<(), LedgerError> {
        ensure_path(self.session.as_ref(), &self.path(EARLIER)).await?;
        let own = format!("{}.", next.pass);
        // A worker may have died here and left nodes.
        self.delete_children(EARLIER, |child| child.starts_with(&own)).await?;
        for (table, earlier) in earlier.iter().enumerate() {
            self.store_chunks(&format!("{EARLIER}/{}.{table}", next.pass), &encoded(earlier)).await?;
        }
        fault_point("pass-prepared").await;
        self.set_task(|record| {
            if record.finished && record.pass + 1 == next.pass {
                *record = next.clone();
            }
        })
        .await?;
        self.delete_children(EARLIER, |child| !child.starts_with(&own)).await
    }

    /// Deletes the children of a node that match. They must have no children.
    async fn delete_children(&self, name: &str, which: impl Fn(&str) -> bool + Send) -> Result<(), LedgerError> {
        let children = self.session.children(&self.path(name)).await?.unwrap_or_default();
        let ops = children.iter().filter(|child| which(child));
        self.commit_all(ops.map(|child| Op::delete(self.path(&format!("{name}/{child}")), None)).collect()).await
    }

    /// Stores a text that may be too long for one node. It exists when its first chunk exists, so the first chunk is written last.
    async fn store_chunks(&self, name: &str, text: &[u8]) -> Result<(), LedgerError> {
        let (head, others) = self.chunk_ops(name, text);
        self.commit_all(others).await?;
        self.commit_all(vec![head]).await
    }

    /// Returns the operations that store a text: the one for the first chunk, which must come last, and the others.
    fn chunk_ops(&self, name: &str, text: &[u8]) -> (Op, Vec<Op>) {
        let chunks: Vec<&[u8]> = text.chunks(CHUNK_BYTES).collect();
        let others = chunks.iter().enumerate().skip(1);
        let others = others.map(|(n, chunk)| Op::create(self.chunk_path(name, n), *chunk)).collect();
        let first = chunks.first().copied().unwrap_or_default();
        let head = format!("{}\n", chunks.len()).into_bytes();
        (Op::create(self.chunk_path(name, 0), [head.as_slice(), first].concat()), others)
    }

    /// Reads a text that is stored in chunks.
    async fn chunks(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        let first = self.session.get(&self.chunk_path(name, 0)).await?;
        self.joined(name, first).await
    }

    /// Reads the other chunks of a text and joins them with the first one.
    async fn joined(&self, name: &str, first: Option<Stored>) -> Result<Option<Vec<u8>>, LedgerError> {
        let path = self.chunk_path(name, 0);
        let damaged = |why: &str| LedgerError::Damaged { path: path.clone(), why: why.to_owned() };
        let Some(first) = first else { return Ok(None) };
        let newline = first.data.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("it has no head"))?;
        let head = std::str::from_utf8(&first.data[..newline]).ok().and_then(|text| text.parse::<usize>().ok());
        let count = head.ok_or_else(|| damaged("its head is no number"))?;
        if count > MAX_CHUNKS {
            return Err(damaged("its head is too large a number"));
        }
        let mut text = first.data[newline + 1..].to_vec();
        let paths: Vec<String> = (1..count).map(|n| self.chunk_path(name, n)).collect();
        for chunk in self.session.get_many(&paths).await? {
            text.extend(chunk.ok_or_else(|| damaged("a chunk is missing"))?.data);
        }
        Ok(Some(text))
    }

    fn chunk_path(&self, name: &str, chunk: usize) -> String {
        self.path(&format!("{name}.{chunk}"))
    }
}

/// Parses a plan and checks it as a whole.
fn checked(path: &str, text: Option<Vec<u8>>) -> Result<TablePlan, LedgerError> {
    let damaged = |why: String| LedgerError::Damaged { path: path.to_owned(), why };
    let plan: TablePlan = parsed(path, &text.ok_or_else(|| damaged("it is missing".into()))?)?;
    plan.check().map_err(|error| damaged(error.to_string()))?;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::{Coordinator, MemoryCoordinator};
    use crate::plan::{BatchSizing, Found, Reading, ShardSize, assemble, batches};

    fn plan() -> TablePlan {
        let found = [Found {
            value: crate::model::PartitionValue(Vec::new()),
            name: "all".into(),
            id: None,
            shards: vec![ShardSize { rows: 10, bytes: 10 }],
            mark: None,
            renews: false,
        }];
        let sizing = BatchSizing { batch_bytes: 100, splits: 1 };
        let (partitions, batches, pieces) = assemble(&found, &batches(&found, sizing), sizing, |_, _| Vec::new());
        let reading = Reading { columns: None, raw: Vec::new(), values: Vec::new(), condition: None, left: Vec::new() };
        TablePlan { batches, pieces, ..TablePlan::empty(reading, partitions) }
    }

    #[tokio::test]
    async fn a_plan_that_contradicts_itself_is_refused_by_every_read() {
        let good = plan();
        let broken = TablePlan { pieces: Vec::new(), ..good.clone() };
        for (stored, is_good) in [(good, true), (broken, false)] {
            let ledger = Ledger::new(MemoryCoordinator::new().session().await.unwrap(), "/task");
            ensure_path(ledger.session().as_ref(), "/task/plan").await.unwrap();
            let (head, others) = ledger.chunk_ops("plan/0", &encoded(&stored));
            assert!(others.is_empty());
            ledger.commit_all(vec![head]).await.unwrap();
            for read in [ledger.plan(0).await, ledger.plans(1).await.map(|mut plans| plans.remove(0))] {
                match read {
                    Ok(plan) => assert!(is_good && plan == stored),
                    Err(LedgerError::Damaged { why, .. }) => assert!(!is_good && why.contains("pieces"), "{why}"),
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}
