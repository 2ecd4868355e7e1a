//! What is to be copied: how many partitions, on how many source shards, cut into how many pieces.

/// The form of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// Few batches of many pieces: partitions that are cut into 1,000 slices each.
    Slices,
    /// Many batches of few pieces: partitions on two source shards.
    Batches,
    /// Partitions on 100 source shards.
    Shards,
}

/// A task.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Partitions, each a batch of its own.
    pub partitions: u64,
    /// Source shards, each with rows of each partition.
    pub shards: u64,
    /// Pieces of a partition on a shard.
    pub slices: u64,
}

impl Shape {
    /// With at least so many pieces.
    pub fn new(case: Case, pieces: u64) -> Self {
        let (shards, slices) = match case {
            Case::Slices => (1, 1000),
            Case::Batches => (2, 1),
            Case::Shards => (100, 1),
        };
        Self { partitions: pieces.div_ceil(shards * slices), shards, slices }
    }

    /// How many pieces it has.
    pub fn pieces(self) -> u64 {
        self.partitions * self.shards * self.slices
    }

    /// Rows of a partition on a shard: a slice has one.
    pub fn rows_of_partition(self) -> u64 {
        self.slices.max(2)
    }

    /// The task's description.
    pub fn task(self) -> String {
        let node = |host: String| format!("<shard><replica><host>{host}</host></replica></shard>");
        let sources: String = (0..self.shards).map(|shard| node(format!("s{shard}"))).collect();
        let target = node("t".into());
        let splits = self.slices * self.shards;
        // Without splits, partitions that are too large for one batch are alone, and in one piece each: fewer rows than a
        // server reads at once.
        let (splits, bytes) = if self.slices > 1 { (splits, 1 << 30) } else { (1, 1) };
        format!(
            "<clickhouse><remote_servers><src>{sources}</src><dst>{target}</dst></remote_servers><tables><hits>
            <cluster_pull>src</cluster_pull><database_pull>a</database_pull><table_pull>hits</table_pull>
            <cluster_push>dst</cluster_push><database_push>b</database_push><table_push>hits</table_push>
            <number_of_splits>{splits}</number_of_splits><batch_bytes>{bytes}</batch_bytes><transfer>push</transfer>
            </hits></tables></clickhouse>"
        )
    }
}
