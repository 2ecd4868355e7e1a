//! Plans, stored in chunks.

use crate::keeper::Op;
use crate::plan::TablePlan;
use crate::protocol::{BatchRecord, PieceRecord, groups};

use super::{CHUNK, Ledger, LedgerError, PROCESSED_BITS, encoded, parsed};

/// How many nodes a plan with its records has, and how many bytes the plan.
pub fn footprint(plan: &TablePlan) -> (usize, usize) {
    let pieces_of: Vec<_> = plan.batches.iter().map(|batch| batch.pieces.clone()).collect();
    let bytes = encoded(plan).len();
    (groups(&pieces_of).len() + plan.batches.len() + PROCESSED_BITS + bytes.div_ceil(CHUNK), bytes)
}

impl Ledger {
    /// Stores the plan of a table with a fresh record for each of its pieces and batches. The plan is there when its first
    /// chunk is: that comes last.
    pub async fn store_plan(&self, table: usize, plan: &TablePlan, batches: &[BatchRecord]) -> Result<(), LedgerError> {
        // What an earlier planner left before it died.
        for name in ["plan", "pieces", "batches", "processed"] {
            let children = self.session.children(&self.path(name)).await?.unwrap_or_default();
            let own = format!("{table}.");
            let ops = children.iter().filter(|child| child.starts_with(&own));
            self.commit_all(ops.map(|child| Op::delete(self.path(&format!("{name}/{child}")), None)).collect()).await?;
        }
        let mut ops = Vec::new();
        let pieces_of: Vec<_> = plan.batches.iter().map(|batch| batch.pieces.clone()).collect();
        for (group, pieces) in groups(&pieces_of).into_iter().enumerate() {
            let records = vec![PieceRecord::default(); pieces.len()];
            ops.push(Op::create(self.group_path(table, group), encoded(&records)));
        }
        for (batch, record) in batches.iter().enumerate() {
            ops.push(Op::create(self.batch_path(table, batch), encoded(record)));
        }
        ops.extend((0..PROCESSED_BITS).map(|bit| Op::create(self.processed_path(table, bit), Vec::new())));
        let text = encoded(plan);
        let chunks: Vec<&[u8]> = text.chunks(CHUNK).collect();
        ops.extend(chunks.iter().enumerate().skip(1).map(|(n, chunk)| Op::create(self.chunk_path(table, n), *chunk)));
        self.commit_all(ops).await?;
        let first = chunks.first().copied().unwrap_or_default();
        let head = format!("{}\n", chunks.len()).into_bytes();
        self.commit_all(vec![Op::create(self.chunk_path(table, 0), [head.as_slice(), first].concat())]).await
    }

    /// The plan of a table.
    pub async fn plan(&self, table: usize) -> Result<TablePlan, LedgerError> {
        let path = self.chunk_path(table, 0);
        let damaged = |why: &str| LedgerError::Damaged { path: path.clone(), why: why.to_owned() };
        let first = self.session.get(&path).await?.ok_or_else(|| damaged("it is missing"))?;
        let newline = first.data.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("it has no head"))?;
        let head = std::str::from_utf8(&first.data[..newline]).ok().and_then(|text| text.parse::<usize>().ok());
        let count = head.ok_or_else(|| damaged("its head is no number"))?;
        let mut text = first.data[newline + 1..].to_vec();
        let paths: Vec<String> = (1..count).map(|n| self.chunk_path(table, n)).collect();
        for chunk in self.session.get_many(&paths).await? {
            text.extend(chunk.ok_or_else(|| damaged("a chunk is missing"))?.data);
        }
        parsed(&path, &text)
    }
}
