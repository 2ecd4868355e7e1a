//! Checks a plan read from a file or from the coordinator as a whole. Parts that contradict each other would lose
//! rows or copy them twice.
//!
//! [`Document::changes`](super::Document::changes) checks whether the plan still fits the servers.

use std::collections::HashSet;
use std::ops::Range;

use thiserror::Error;

use super::{BatchPlan, Document, MOST_PARTITIONS, PartitionPlan, PiecePlan, TablePlan};
use crate::sql::{Expression, KeyElement, Slice};

/// A contradiction within a plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the plan contradicts itself: {0}")]
pub(crate) struct Contradiction(String);

type Checked = Result<(), Contradiction>;

fn require(holds: bool, message: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Contradiction(message())) }
}

impl Document {
    /// Checks the plan of each table, and that the numbers of all tables can be added up.
    ///
    /// # Errors
    /// Returns the first contradiction, as a line.
    pub(crate) fn check(&self) -> Result<(), String> {
        for planned in &self.tables {
            planned.plan.check().map_err(|error| format!("table {}: {error}", planned.plan.name))?;
        }
        countable(self.tables.iter().flat_map(|planned| &planned.plan.partitions)).map_err(|error| error.to_string())
    }
}

impl TablePlan {
    /// Checks that batches tile the partitions and pieces tile the batches, that every index is in range, that every partition
    /// with rows has sources, and that numbers of rows add up.
    ///
    /// # Errors
    /// Returns the first contradiction, as a line.
    pub(crate) fn check(&self) -> Checked {
        self.check_reading()?;
        self.check_sharding()?;
        self.check_partitions()?;
        let partitions = self.batches.iter().map(|batch| &batch.partitions);
        tiles("batches", "partitions", partitions, self.partitions.len())?;
        tiles("batches", "pieces", self.batches.iter().map(|batch| &batch.pieces), self.pieces.len())?;
        for (index, batch) in self.batches.iter().enumerate() {
            self.check_batch(index, batch)
                .map_err(|Contradiction(why)| Contradiction(format!("batch {index}: {why}")))?;
        }
        self.check_account()
    }

    /// Checks that the plan is for these numbers of source shards and target shards.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn check_shards(&self, sources: usize, targets: usize) -> Checked {
        let shards = self.pieces.iter().flat_map(|piece| &piece.sources).map(|share| share.shard);
        let last = shards.chain(self.marked_shards()).max();
        require(last.is_none_or(|last| last < sources), || {
            format!("it reads source shard {}, and there are {sources}", last.map_or(0, |last| last.saturating_add(1)))
        })?;
        let counted = self.account.as_ref().map(|account| account.shards.len());
        require(counted.is_none_or(|counted| counted == sources), || {
            format!("rows of {} source shards were counted, and there are {sources}", counted.unwrap_or_default())
        })?;
        require(self.replicated.len() == targets, || {
            format!("it is for {} target shards, and there are {targets}", self.replicated.len())
        })
    }

    fn marked_shards(&self) -> impl Iterator<Item = usize> + '_ {
        self.partitions.iter().flat_map(|partition| &partition.mark).flat_map(|mark| mark.shards())
    }

    fn check_reading(&self) -> Checked {
        let (columns, values) = (self.columns.len(), self.reading.values.len());
        require(columns == values, || format!("{columns} columns are filled from {values} expressions"))?;
        let mut names = HashSet::new();
        let repeated = self.columns.iter().find(|name| !names.insert(name.as_str()));
        require(repeated.is_none(), || format!("the column {} is there twice", repeated.map_or("", String::as_str)))?;
        let condition = self.reading.condition.as_deref();
        require(condition.is_none_or(|text| Expression::parse(text).is_ok()), || {
            "the condition is no expression".into()
        })
    }

    fn check_sharding(&self) -> Checked {
        let Some(sharding) = &self.sharding else { return Ok(()) };
        require(Expression::parse(&sharding.key).is_ok(), || "the sharding key is no expression".into())?;
        require([8, 16, 32, 64].contains(&sharding.width.0), || {
            format!("a sharding key has no width of {} bits", sharding.width.0)
        })?;
        let (slots, shards) = (sharding.slots.len(), self.replicated.len());
        require(slots == shards, || format!("{slots} target shards have slots, and there are {shards}"))?;
        let mut next = 0;
        for (shard, slots) in sharding.slots.iter().enumerate() {
            require(slots.start == next && slots.end >= slots.start, || {
                format!("the slots of target shard {} do not begin where those before end", shard + 1)
            })?;
            next = slots.end;
        }
        require(next == sharding.total && next > 0, || {
            format!("the target shards have {next} slots together, and there are {}", sharding.total)
        })
    }

    fn check_partitions(&self) -> Checked {
        let reads = |text: &str| Expression::parse(text).is_ok();
        let is_whole = |element: &KeyElement| reads(&element.expression) && reads(&element.type_name);
        require(self.key.iter().all(is_whole), || {
            "the partition key has an element that is no expression, or no type".into()
        })?;
        let mut values = HashSet::new();
        for partition in &self.partitions {
            let (elements, key) = (partition.value.0.len(), self.key.len());
            require(elements == key, || {
                format!("partition {} has a value of {elements} elements, and the key has {key}", partition.name)
            })?;
            require(values.insert(&partition.value), || format!("partition {} is there twice", partition.name))?;
        }
        countable(self.partitions.iter())
    }

    fn check_batch(&self, index: usize, batch: &BatchPlan) -> Checked {
        let partitions = &self.partitions[batch.partitions.clone()];
        let pieces = &self.pieces[batch.pieces.clone()];
        require((1..=MOST_PARTITIONS).contains(&partitions.len()), || {
            format!("it has {} partitions, and may have 1 to {MOST_PARTITIONS}", partitions.len())
        })?;
        let rows: u128 = partitions.iter().map(|partition| u128::from(partition.rows)).sum();
        for piece in pieces {
            require(piece.batch == index, || {
                format!("one of its pieces says that it belongs to batch {}", piece.batch)
            })?;
            require(!piece.sources.is_empty(), || "one of its pieces has no source".into())?;
            require(piece.sources.is_sorted_by(|a, b| a.shard < b.shard), || {
                "one of its pieces names its source shards in another order, or twice".into()
            })?;
            require(piece.slice.is_none() || piece.sources.len() == 1, || {
                "one of its pieces is a slice of several source shards".into()
            })?;
        }
        let sliced = pieces.iter().any(|piece| piece.slice.is_some());
        require(!sliced || (partitions.len() == 1 && !self.clones), || {
            "slices are made of a single partition only, and of none that is cloned".into()
        })?;
        let (least, most) = shares(pieces)?;
        require((least..=most).contains(&rows), || format!("its partitions have {rows} rows, and its pieces {least}"))
    }

    fn check_account(&self) -> Checked {
        let Some(account) = &self.account else { return Ok(()) };
        let counted: u128 = account.shards.iter().map(|shard| u128::from(shard.counted)).sum();
        require(counted <= u128::from(u64::MAX), || "more rows were counted than can be".into())?;
        let planned: u128 = self.partitions.iter().map(|partition| u128::from(partition.rows)).sum();
        if account.moved {
            return Ok(());
        }
        match account.beside {
            Some(beside) => require(planned + u128::from(beside) == counted, || {
                format!(
                    "{counted} rows were counted at the source, and its partitions have {planned}, beside {beside} others"
                )
            }),
            None => require(planned <= counted, || {
                format!("{counted} rows were counted at the source, and its partitions have {planned}")
            }),
        }
    }
}

fn countable<'p>(partitions: impl Iterator<Item = &'p PartitionPlan> + Clone) -> Checked {
    let sum = |number: fn(&PartitionPlan) -> u64| partitions.clone().map(number).try_fold(0, u64::checked_add);
    let fits = sum(|partition| partition.rows).is_some() && sum(|partition| partition.bytes).is_some();
    require(fits, || "its partitions have more rows or bytes than can be counted".into())
}

/// Checks that ranges follow each other without a gap, from 0 to a number.
fn tiles<'r>(owner: &str, what: &str, ranges: impl Iterator<Item = &'r Range<usize>>, count: usize) -> Checked {
    let mut next = 0;
    for (index, range) in ranges.enumerate() {
        require(range.start == next && range.end >= range.start && range.end <= count, || {
            format!(
                "the {what} of batch {index} are {} to {}, of {count}, and should begin at {next}",
                range.start, range.end
            )
        })?;
        next = range.end;
    }
    require(next == count, || format!("its {owner} have {next} of {count} {what}"))
}

/// Returns the smallest and the largest number of rows that the pieces of a batch can have, if each source shard is
/// read once.
fn shares(pieces: &[PiecePlan]) -> Result<(u128, u128), Contradiction> {
    let (mut least, mut most) = (0, 0);
    let mut seen = HashSet::new();
    let mut at = 0;
    while let Some(piece) = pieces.get(at) {
        for share in &piece.sources {
            require(seen.insert(share.shard), || {
                format!("source shard {} is read twice", share.shard.saturating_add(1))
            })?;
            require(share.rows > 0 || piece.slice.is_some(), || {
                format!("source shard {} is read for no rows", share.shard.saturating_add(1))
            })?;
        }
        let rows: u128 = piece.sources.iter().map(|share| u128::from(share.rows)).sum();
        if piece.slice.is_none() {
            (least, most) = (least + rows, most + rows);
            at += 1;
            continue;
        }
        // Slices of one source shard follow each other.
        let same = |other: &&PiecePlan| other.slice.is_some() && other.sources == piece.sources;
        let slices: Vec<&Slice> =
            pieces[at..].iter().take_while(same).filter_map(|other| other.slice.as_ref()).collect();
        tile_rows(&slices)?;
        let count = slices.len() as u128;
        // Each slice has an equal share of the counted rows, rounded down.
        (least, most) = (least + rows * count, most + rows * count + count - 1);
        at += slices.len();
    }
    Ok((least, most))
}

/// Checks that slices hold every row exactly once.
fn tile_rows(slices: &[&Slice]) -> Checked {
    match slices.first() {
        Some(Slice::Range { .. }) => tile_ranges(slices),
        Some(Slice::Hash { expressions, .. }) => {
            for (index, slice) in slices.iter().enumerate() {
                let wanted =
                    Slice::Hash { expressions: expressions.clone(), count: slices.len() as u64, number: index as u64 };
                require(**slice == wanted && !expressions.is_empty(), || {
                    format!("slice {index} of {} is another one", slices.len())
                })?;
            }
            Ok(())
        }
        Some(Slice::Buckets { .. }) => Err(Contradiction("a slice of buckets, which no plan has".into())),
        None => Ok(()),
    }
}

fn tile_ranges(slices: &[&Slice]) -> Checked {
    let Some(Slice::Range { columns: first, .. }) = slices.first() else { return Ok(()) };
    let mut edge: Option<&Vec<String>> = None;
    for (index, slice) in slices.iter().enumerate() {
        let Slice::Range { columns, from, to } = slice else {
            return Err(Contradiction("slices of two kinds of one source shard".into()));
        };
        require(columns == first && !columns.is_empty(), || "slices of one source shard by different columns".into())?;
        let bounds = || from.iter().chain(to);
        require(bounds().all(|bound| bound.len() == columns.len()), || {
            "a bound has another number of values than columns".into()
        })?;
        let is_last = index + 1 == slices.len();
        require(from.as_ref() == edge && to.is_none() == is_last, || {
            format!("slice {index} does not begin where the one before ends")
        })?;
        let rises = from.as_ref().zip(to.as_ref()).is_none_or(|(from, to)| !falls(from, to, &columns[0].type_name));
        require(rises, || format!("slice {index} ends before it begins"))?;
        edge = to.as_ref();
    }
    Ok(())
}

/// Returns whether a bound is certainly above the next one. It knows whole numbers only.
fn falls(from: &[String], to: &[String], type_name: &str) -> bool {
    let number = |bound: &[String]| bound.first().and_then(|text| text.parse::<i128>().ok());
    type_name.contains("Int") && number(from).zip(number(to)).is_some_and(|(from, to)| from > to)
}
