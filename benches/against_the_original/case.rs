//! What is copied where.

/// How the rows lie in partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitions {
    /// By month, over four of them.
    FourMonths,
    /// By month, all in one.
    OneMonth,
    /// By day, over 300 of them.
    ThreeHundredDays,
}

/// How shards go to shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// All to all, by the sharding key: one table job.
    Reshard,
    /// The first to the first, the second to the second. The original always places rows by a sharding key, and no key keeps
    /// them where they are; so its users write a table job for each shard, from a cluster of one shard to a cluster of one
    /// shard. Ours gets the same.
    Straight,
}

/// A copy that is measured.
#[derive(Debug)]
pub struct Case {
    /// As on the command line.
    pub name: &'static str,
    /// For the table.
    pub title: &'static str,
    /// Shards of the source, a server each.
    pub sources: usize,
    /// Shards of the target, a server each.
    pub targets: usize,
    /// How shards go to shards.
    pub route: Route,
    /// How the rows lie.
    pub partitions: Partitions,
    /// Elements of the task's root, for ours only.
    pub elements: &'static str,
    /// The time that ours is to take at most, as a part of the original's.
    pub goal: f64,
}

const RESHARD: Case = Case {
    name: "A",
    title: "reshard, 2 shards to 3",
    sources: 2,
    targets: 3,
    route: Route::Reshard,
    partitions: Partitions::FourMonths,
    elements: "",
    goal: 0.55,
};

/// Ours clones it, if there are rows enough to be worth it (see the planner).
const BACKUP: Case =
    Case { name: "C", title: "backup, 2 shards to 2", targets: 2, route: Route::Straight, goal: 0.2, ..RESHARD };

/// All of them. (What 100,000 pieces cost the coordinator is measured by a benchmark of its own, `coordination`.)
pub const CASES: [Case; 6] = [
    RESHARD,
    Case { name: "B", title: "reshard, 2 shards to 8", targets: 8, goal: 0.6, ..RESHARD },
    BACKUP,
    Case { name: "P", title: "that backup by push", elements: "<transfer>push</transfer>", goal: 0.5, ..BACKUP },
    Case {
        name: "D",
        title: "300 small partitions, 2 shards to 3",
        partitions: Partitions::ThreeHundredDays,
        goal: 0.08,
        ..RESHARD
    },
    Case {
        name: "E",
        title: "one large partition, 1 shard to 1",
        sources: 1,
        targets: 1,
        route: Route::Straight,
        partitions: Partitions::OneMonth,
        goal: 0.5,
        ..RESHARD
    },
];

/// The case in which the cost of verification is measured, and the name of that measurement.
pub const VERIFIED: &Case = &CASES[0];
pub const VERIFICATION: &str = "H";

impl Case {
    /// How many rows this case has when so many are asked for.
    pub fn rows(&self, asked: u64) -> u64 {
        match self.partitions {
            Partitions::FourMonths | Partitions::OneMonth => asked,
            Partitions::ThreeHundredDays => asked.min(DAYS * ROWS_A_DAY),
        }
    }
}

/// Of [`Partitions::ThreeHundredDays`].
pub const DAYS: u64 = 300;
const ROWS_A_DAY: u64 = 2000;
