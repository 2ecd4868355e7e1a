//! What one worker takes next: kept up with each record that it sees, so that a choice costs as much among 100,000 pieces as
//! among ten.
//!
//! # The order
//! 1. A batch whose pieces are all copied is published: that frees the disks of the targets.
//! 2. Pieces of the group *at hand*. A group is what one node of the coordinator records ([`groups`]): whole small batches, or
//!    a part of a large one. A worker stays in its group, where nobody else changes the record before it does, and so finishes
//!    one batch before it begins the next.
//! 3. Another group, nobody else's if there is one: of a large batch that is begun, so that few batches hold disk space twice;
//!    else of the largest batch, so that nothing large is left for the end, when nothing is beside it. Sizes count as equal within a factor of two, and among equals each worker begins somewhere else.
//! 4. When only groups are left that others have been seen in, those: they have left something, or need help.
//!
//! What others did is learned when a group is looked at, and only then; a look at the claims comes with it. Whatever is not
//! copied and not claimed, as far as is known, is tried: that our knowledge was old shows then. So a worker waits only for claims
//! that are there, and a watch on them is enough to wake it. Who copied the last piece of a large batch may not know it: after
//! each of its pieces, when no group of that batch is free, a worker looks at those that were open when it saw them last. The
//! last one to record sees all of them copied.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use super::board::{Job, Next, TableBoard};
use super::names::{BatchRef, PieceRef};
use super::record::{BatchState, PieceState};

/// So many pieces share a node at the most. Each change of one of them writes all of them.
const MOST: usize = 16;
/// A small task is cut into so many groups, that its workers do not stand in each other's way.
const FEW: usize = 256;
/// So many groups are looked at together.
const TOGETHER: usize = 64;

/// Pieces that are recorded together, of one table job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupRef {
    /// Index of the table job.
    pub table: usize,
    /// Index of the group.
    pub group: usize,
}

/// Which pieces are recorded together: those of consecutive batches, as long as they fit, and those of a batch that is too
/// large for that in groups of its own. `pieces_of` has the pieces of each batch.
pub fn groups(pieces_of: &[Range<usize>]) -> Vec<Range<usize>> {
    let size = (pieces_of.last().map_or(0, |range| range.end) / FEW).clamp(2, MOST);
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut room = 0;
    for pieces in pieces_of.iter().filter(|pieces| !pieces.is_empty()) {
        match groups.last_mut() {
            Some(last) if pieces.len() <= room => {
                last.end = pieces.end;
                room -= pieces.len();
            }
            _ if pieces.len() <= size => {
                groups.push(pieces.clone());
                room = size - pieces.len();
            }
            _ => {
                groups.extend(pieces.clone().step_by(size).map(|first| first..pieces.end.min(first + size)));
                room = 0;
            }
        }
    }
    groups
}

/// What a worker likes, of one table job.
#[derive(Debug, Clone, Default)]
pub struct Liking {
    /// Bytes of each batch.
    pub bytes: Vec<u64>,
    /// Of each piece whether its source is on the worker's own host, and its rows.
    pub pieces: Vec<(bool, u64)>,
}

/// What one worker would take next. Told of every record and claim that it sees.
#[derive(Debug, Default)]
pub struct Outlook {
    tables: Vec<Table>,
    /// What is claimed, by anybody.
    busy: HashSet<Job>,
    /// Groups that this worker takes from.
    at_hand: Vec<GroupRef>,
    /// Groups with something to take that nobody was seen in.
    fresh: BTreeSet<(Rank, GroupRef)>,
    /// Groups with something to take, perhaps, that others were seen in.
    met: BTreeSet<(Rank, GroupRef)>,
    /// Large batches of which something is done.
    begun: BTreeSet<BatchRef>,
    /// Large batches of which this worker has copied something since it looked at all of them.
    due: BTreeSet<BatchRef>,
    /// How many groups to look at: more each time that nothing was found.
    reach: usize,
    worker: String,
    spread: u64,
}

/// The largest batches first, table by table; of a large batch all groups together; each worker begins somewhere else.
type Rank = (Reverse<u32>, (usize, usize), u64);

#[derive(Debug)]
struct Table {
    groups: Vec<Group>,
    /// By piece: its group.
    group_of: Vec<usize>,
    /// By batch: the group of its first piece.
    first_of: Vec<usize>,
    /// By piece: whether its rows wait for their batch to be published.
    copied: Vec<bool>,
    /// By batch: how many of its pieces do not.
    missing: Vec<usize>,
    /// By batch.
    generation: Vec<u32>,
    /// Batches to be published.
    ready: BTreeSet<usize>,
}

#[derive(Debug)]
struct Group {
    pieces: Range<usize>,
    /// The batch that it is only a part of.
    large: Option<usize>,
    rank: Rank,
    /// Its pieces, as this worker would take them.
    order: Vec<usize>,
}

/// What can be done with a piece, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Copied,
    Busy,
    Failed,
    /// Somebody knows of newer target nodes than we do.
    Newer,
    Free,
}

impl Outlook {
    /// Of a worker that has seen these records. `likings` are by table job.
    pub fn new(boards: &[TableBoard], likings: &[Liking], worker: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        worker.hash(&mut hasher);
        let spread = hasher.finish();
        let tables = boards.iter().zip(likings).enumerate();
        let tables = tables.map(|(table, (board, liking))| Table::new(table, board, liking, spread)).collect();
        let mut outlook = Self { tables, worker: worker.to_owned(), spread, reach: 1, ..Self::default() };
        for (table, board) in boards.iter().enumerate() {
            (0..board.batches.len()).for_each(|batch| outlook.saw_batch(boards, BatchRef { table, batch }));
            for group in 0..outlook.tables[table].groups.len() {
                let group = GroupRef { table, group };
                outlook.saw_group(boards, group);
                outlook.met.remove(&outlook.ranked(group));
                if outlook.has_something(boards, group) {
                    outlook.fresh.insert(outlook.ranked(group));
                }
            }
        }
        outlook
    }

    /// Takes note of the records of a group.
    pub fn saw_group(&mut self, boards: &[TableBoard], group: GroupRef) {
        let Some(table) = self.tables.get_mut(group.table) else { return };
        let board = &boards[group.table];
        for piece in table.groups[group.group].pieces.clone() {
            table.saw_piece(board, piece);
        }
        if let Some(batch) = table.groups[group.group].large
            && table.groups[group.group].pieces.clone().any(|piece| board.pieces[piece].attempt > 0)
            && table.missing[batch] > 0
        {
            self.begun.insert(BatchRef { table: group.table, batch });
        }
        // Two who came at once: one of them goes where nobody is.
        if !self.fresh.is_empty() && self.gives_way(board, group) {
            self.at_hand.retain(|held| *held != group);
        }
        self.keep(boards, group);
    }

    /// Whether somebody else is at work in a group who is not to give way to this worker.
    fn gives_way(&self, board: &TableBoard, group: GroupRef) -> bool {
        let pieces = self.tables[group.table].groups[group.group].pieces.clone();
        board.pieces[pieces]
            .iter()
            .any(|record| matches!(&record.state, PieceState::Running { worker } if *worker < self.worker))
    }

    /// Takes note of the record of a batch.
    pub fn saw_batch(&mut self, boards: &[TableBoard], batch: BatchRef) {
        let Some(table) = self.tables.get_mut(batch.table) else { return };
        let board = &boards[batch.table];
        let generation = board.batches[batch.batch].generation;
        let moved = std::mem::replace(&mut table.generation[batch.batch], generation) != generation;
        table.saw_state(board, batch.batch);
        if !moved {
            return;
        }
        let pieces = board.pieces_of[batch.batch].clone();
        pieces.clone().for_each(|piece| table.saw_piece(board, piece));
        let groups: BTreeSet<usize> = pieces.map(|piece| table.group_of[piece]).collect();
        groups.into_iter().for_each(|group| self.keep(boards, GroupRef { table: batch.table, group }));
    }

    /// Takes note of all claims.
    pub fn saw_claims(&mut self, boards: &[TableBoard], claims: HashSet<Job>) {
        let before = std::mem::replace(&mut self.busy, claims);
        let gone: Vec<Job> = before.difference(&self.busy).copied().collect();
        for job in gone {
            // What became of it is not known.
            if let Some(group) = self.group_of(job)
                && !self.is_closed(group, job)
            {
                self.meet(group);
            }
        }
        let others: Vec<GroupRef> = self.busy.iter().filter_map(|job| self.group_of(*job)).collect();
        for group in others {
            let ranked = self.ranked(group);
            if self.fresh.remove(&ranked) {
                self.met.insert(ranked);
            }
            if let Some(batch) = self.tables[group.table].groups[group.group].large
                && boards[group.table].batches[batch].state == BatchState::Copying
            {
                self.begun.insert(BatchRef { table: group.table, batch });
            }
        }
    }

    /// Takes note of a claim, ours or somebody's.
    pub fn claimed(&mut self, job: Job) {
        self.busy.insert(job);
    }

    /// Takes note that a claim of ours is given back.
    pub fn released(&mut self, boards: &[TableBoard], job: Job) {
        self.busy.remove(&job);
        let Some(group) = self.group_of(job) else { return };
        if let (Job::Copy(_), Some(batch)) = (job, self.tables[group.table].groups[group.group].large) {
            self.due.insert(BatchRef { table: group.table, batch });
        }
        self.keep(boards, group);
    }

    /// Takes note that these groups were looked at just now, with their batches and with all claims: the best of them is at
    /// hand now, if there is something to take.
    pub fn looked(&mut self, boards: &[TableBoard], groups: &[GroupRef]) {
        let mut found: Vec<GroupRef> = Vec::new();
        for group in groups {
            let ranked = self.ranked(*group);
            if self.has_something(boards, *group) {
                found.push(*group);
            } else {
                self.fresh.remove(&ranked);
                self.met.remove(&ranked);
            }
        }
        self.reach = if found.is_empty() { (self.reach * 2).min(TOGETHER) } else { 1 };
        let count = found.len();
        let best = (0..count)
            .map(|n| found[(n + self.spread as usize % count) % count])
            .min_by_key(|group| (self.others_in(*group), self.ranked(*group).0.0));
        // Two in one group are in each other's way: only where there is nothing else to do.
        if let Some(group) = best.filter(|group| self.fresh.is_empty() || self.others_in(*group) == 0) {
            let ranked = self.ranked(group);
            self.fresh.remove(&ranked);
            self.met.remove(&ranked);
            self.at_hand.push(group);
        }
    }

    /// What to do now.
    pub fn next(&mut self, boards: &[TableBoard]) -> Next {
        for (table, of) in self.tables.iter().enumerate() {
            let mut jobs = of.ready.iter().map(|batch| Job::Publish(BatchRef { table, batch: *batch }));
            if let Some(job) = jobs.find(|job| !self.busy.contains(job)) {
                return Next::Claim(job);
            }
        }
        while let Some(group) = self.at_hand.first().copied() {
            if let Some(piece) = self.free_piece(boards, group) {
                return Next::Claim(Job::Copy(piece));
            }
            self.at_hand.remove(0);
            if self.has_something(boards, group) {
                self.meet(group);
            }
        }
        match self.another() {
            groups if groups.is_empty() => self.verdict(boards),
            groups => Next::Look(groups),
        }
    }

    /// Groups to look at: one that seems free, or several where something may be left.
    fn another(&mut self) -> Vec<GroupRef> {
        while let Some(batch) = self.due.first().copied() {
            let fresh = self.fresh_of(batch);
            if !fresh.is_empty() {
                return fresh;
            }
            self.due.remove(&batch);
            let open = self.open_groups(batch);
            if !open.is_empty() {
                return open;
            }
        }
        while let Some(batch) = self.begun.first().copied() {
            let fresh = self.fresh_of(batch);
            if !fresh.is_empty() {
                return fresh;
            }
            self.begun.remove(&batch);
        }
        let some = if self.fresh.is_empty() { &self.met } else { &self.fresh };
        let reach = if self.fresh.is_empty() { TOGETHER } else { self.reach };
        some.iter().take(reach).map(|(_, group)| *group).collect()
    }

    /// When nothing can be taken.
    fn verdict(&self, boards: &[TableBoard]) -> Next {
        let (mut waiting, mut failed) = (false, false);
        for (table, board) in boards.iter().enumerate() {
            for (batch, record) in board.batches.iter().enumerate().filter(|(_, record)| !record.is_done()) {
                failed |= matches!(record.state, BatchState::Failed { .. });
                waiting |= self.tables[table].ready.contains(&batch);
                for piece in board.pieces_of[batch].clone() {
                    match self.standing(boards, PieceRef { table, piece }) {
                        Standing::Copied => {}
                        Standing::Failed => failed = true,
                        Standing::Busy | Standing::Newer | Standing::Free => waiting = true,
                    }
                }
            }
        }
        match (waiting, failed) {
            (true, _) => Next::Wait,
            (false, true) => Next::Stuck,
            (false, false) => Next::Finished,
        }
    }

    fn standing(&self, boards: &[TableBoard], piece: PieceRef) -> Standing {
        let (board, record) = (&boards[piece.table], &boards[piece.table].pieces[piece.piece]);
        if self.tables[piece.table].copied[piece.piece] {
            return Standing::Copied;
        }
        if record.generation > board.generation_of(piece.piece) {
            return Standing::Newer;
        }
        if self.busy.contains(&Job::Copy(piece)) {
            return Standing::Busy;
        }
        match record.state {
            PieceState::Failed { .. } if !board.is_void(piece.piece) => Standing::Failed,
            _ => Standing::Free,
        }
    }

    fn pieces(&self, group: GroupRef) -> impl Iterator<Item = PieceRef> + '_ {
        let order = &self.tables[group.table].groups[group.group].order;
        order.iter().map(move |piece| PieceRef { table: group.table, piece: *piece })
    }

    fn free_piece(&self, boards: &[TableBoard], group: GroupRef) -> Option<PieceRef> {
        self.pieces(group).find(|piece| self.standing(boards, *piece) == Standing::Free)
    }

    fn has_something(&self, boards: &[TableBoard], group: GroupRef) -> bool {
        self.pieces(group).any(|piece| matches!(self.standing(boards, piece), Standing::Free | Standing::Newer))
    }

    fn others_in(&self, group: GroupRef) -> usize {
        self.pieces(group).filter(|piece| self.busy.contains(&Job::Copy(*piece))).count()
    }

    fn ranked(&self, group: GroupRef) -> (Rank, GroupRef) {
        (self.tables[group.table].groups[group.group].rank, group)
    }

    fn group_of(&self, job: Job) -> Option<GroupRef> {
        let (table, group) = match job {
            Job::Copy(piece) => (piece.table, *self.tables.get(piece.table)?.group_of.get(piece.piece)?),
            Job::Publish(batch) => (batch.table, *self.tables.get(batch.table)?.first_of.get(batch.batch)?),
        };
        (group < self.tables[table].groups.len()).then_some(GroupRef { table, group })
    }

    /// Whether a claim that is gone has nothing to tell: its record can change no more, as far as is known.
    fn is_closed(&self, group: GroupRef, job: Job) -> bool {
        match job {
            Job::Copy(piece) => self.tables[group.table].copied[piece.piece],
            Job::Publish(batch) => !self.tables[group.table].ready.contains(&batch.batch),
        }
    }

    fn meet(&mut self, group: GroupRef) {
        let ranked = self.ranked(group);
        if !self.at_hand.contains(&group) && !self.fresh.contains(&ranked) {
            self.met.insert(ranked);
        }
    }

    /// A group with something to take is never forgotten.
    fn keep(&mut self, boards: &[TableBoard], group: GroupRef) {
        if self.has_something(boards, group) {
            self.meet(group);
        }
    }

    /// The next groups of a large batch that nobody was seen in.
    fn fresh_of(&self, batch: BatchRef) -> Vec<GroupRef> {
        let Some(first) = self.group_of(Job::Publish(batch)) else { return Vec::new() };
        let (size, line, _) = self.ranked(first).0;
        let from = ((size, line, 0), GroupRef { table: 0, group: 0 });
        let of_batch = self.fresh.range(from..).take_while(|((_, of, _), _)| *of == line);
        of_batch.take(self.reach).map(|(_, group)| *group).collect()
    }

    /// The groups of a large batch of which something was not copied when they were seen last.
    fn open_groups(&self, batch: BatchRef) -> Vec<GroupRef> {
        let table = &self.tables[batch.table];
        let Some(GroupRef { group: first, .. }) = self.group_of(Job::Publish(batch)) else { return Vec::new() };
        let of_batch = (first..table.groups.len()).take_while(|group| table.groups[*group].large == Some(batch.batch));
        let is_open = |group: &usize| table.groups[*group].pieces.clone().any(|piece| !table.copied[piece]);
        of_batch.filter(is_open).map(|group| GroupRef { table: batch.table, group }).collect()
    }
}

impl Table {
    fn new(table: usize, board: &TableBoard, liking: &Liking, spread: u64) -> Self {
        let ranges = groups(&board.pieces_of);
        let bytes = |batch: usize| liking.bytes.get(batch).copied().unwrap_or(0);
        let size = |batch: usize| Reverse(u64::BITS - bytes(batch).leading_zeros());
        let group = |(at, pieces): (usize, Range<usize>)| {
            let first = board.batch_of[pieces.start];
            let large = (board.pieces_of[first].len() > pieces.len()).then_some(first);
            let mut order: Vec<usize> = pieces.clone().collect();
            let liked = |piece: &usize| liking.pieces.get(*piece).copied().unwrap_or_default();
            order.sort_by_key(|piece| {
                let (batch, (near, rows)) = (board.batch_of[*piece], liked(piece));
                (size(batch), batch, !near, Reverse(rows))
            });
            let largest = order.first().map_or(Reverse(0), |piece| size(board.batch_of[*piece]));
            // All groups of a large batch stand together. The rest is chance, another one for each worker.
            let line = (table, large.unwrap_or(usize::MAX));
            let turn = (at as u64 ^ spread).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Group { pieces, large, rank: (largest, line, turn), order }
        };
        let groups: Vec<Group> = ranges.into_iter().enumerate().map(group).collect();
        let mut group_of = vec![0; board.pieces.len()];
        for (at, group) in groups.iter().enumerate() {
            group_of[group.pieces.clone()].fill(at);
        }
        let first_of = board.pieces_of.iter().map(|pieces| group_of.get(pieces.start).copied().unwrap_or(0)).collect();
        Self {
            groups,
            group_of,
            first_of,
            copied: vec![false; board.pieces.len()],
            missing: board.pieces_of.iter().map(ExactSizeIterator::len).collect(),
            generation: board.batches.iter().map(|batch| batch.generation).collect(),
            ready: BTreeSet::new(),
        }
    }

    fn saw_piece(&mut self, board: &TableBoard, piece: usize) {
        let (batch, record) = (board.batch_of[piece], &board.pieces[piece]);
        let copied = record.generation == self.generation[batch] && record.copied().is_some();
        if std::mem::replace(&mut self.copied[piece], copied) != copied {
            if copied {
                self.missing[batch] -= 1;
            } else {
                self.missing[batch] += 1;
            }
            self.saw_state(board, batch);
        }
    }

    fn saw_state(&mut self, board: &TableBoard, batch: usize) {
        let over = matches!(board.batches[batch].state, BatchState::Done(_) | BatchState::Failed { .. });
        if self.missing[batch] == 0 && !over {
            self.ready.insert(batch);
        } else {
            self.ready.remove(&batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{BatchRecord, Copied, PieceRecord, Published};
    use super::*;

    /// Batches of so many pieces, none of them begun.
    fn board(sizes: &[usize]) -> TableBoard {
        let mut board = TableBoard::default();
        for (batch, size) in sizes.iter().enumerate() {
            let first = board.pieces.len();
            board.pieces_of.push(first..first + size);
            board.batches.push(BatchRecord::new(vec![]));
            board.pieces.extend(vec![PieceRecord::default(); *size]);
            board.batch_of.extend(vec![batch; *size]);
        }
        board
    }

    fn outlook(board: &TableBoard) -> Outlook {
        sized(board, vec![1; board.batches.len()])
    }

    fn sized(board: &TableBoard, bytes: Vec<u64>) -> Outlook {
        Outlook::new(std::slice::from_ref(board), &[Liking { bytes, pieces: Vec::new() }], "w")
    }

    fn copied() -> PieceState {
        PieceState::Copied(Copied::default())
    }

    fn piece(piece: usize) -> Job {
        Job::Copy(PieceRef { table: 0, piece })
    }

    fn batch(batch: usize) -> Job {
        Job::Publish(BatchRef { table: 0, batch })
    }

    fn group(group: usize) -> GroupRef {
        GroupRef { table: 0, group }
    }

    /// What is next when all looks show what is there.
    fn next(outlook: &mut Outlook, board: &TableBoard) -> Next {
        let boards = std::slice::from_ref(board);
        for _ in 0..1000 {
            match outlook.next(boards) {
                Next::Look(groups) => {
                    for batch in 0..board.batches.len() {
                        outlook.saw_batch(boards, BatchRef { table: 0, batch });
                    }
                    groups.iter().for_each(|group| outlook.saw_group(boards, *group));
                    let claims = outlook.busy.clone();
                    outlook.saw_claims(boards, claims);
                    outlook.looked(boards, &groups);
                }
                other => return other,
            }
        }
        panic!("it looks for ever: {outlook:?}");
    }

    /// The order in which one worker, alone, does everything.
    fn all(board: &mut TableBoard, outlook: &mut Outlook) -> Vec<Job> {
        let mut order = Vec::new();
        loop {
            let job = match next(outlook, board) {
                Next::Claim(job) => job,
                Next::Finished => return order,
                other => panic!("{other:?} after {order:?}"),
            };
            match job {
                Job::Copy(of) => board.pieces[of.piece].state = copied(),
                Job::Publish(of) => board.batches[of.batch].state = BatchState::Done(Published::default()),
            }
            let boards = std::slice::from_ref(&*board);
            match job {
                Job::Copy(of) => outlook.saw_group(boards, outlook.group_of(Job::Copy(of)).unwrap()),
                Job::Publish(of) => outlook.saw_batch(boards, of),
            }
            outlook.released(boards, job);
            order.push(job);
        }
    }

    #[test]
    fn a_batch_is_published_when_every_piece_of_it_is_copied_and_not_before() {
        let mut half = board(&[2]);
        half.pieces[0].state = copied();
        assert_eq!(next(&mut outlook(&half), &half), Next::Claim(piece(1)));
        half.pieces[1].state = copied();
        let mut whole = outlook(&half);
        assert_eq!(next(&mut whole, &half), Next::Claim(batch(0)));
        whole.claimed(batch(0));
        assert_eq!(next(&mut whole, &half), Next::Wait);
    }

    #[test]
    fn what_a_dead_worker_left_is_taken_over() {
        let mut left = board(&[1]);
        left.pieces[0].state = PieceState::Running { worker: "gone".into() };
        let mut outlook = outlook(&left);
        outlook.saw_claims(std::slice::from_ref(&left), HashSet::from([piece(0)]));
        assert_eq!(next(&mut outlook, &left), Next::Wait);
        outlook.saw_claims(std::slice::from_ref(&left), HashSet::new());
        assert_eq!(next(&mut outlook, &left), Next::Claim(piece(0)));
    }

    #[test]
    fn what_was_copied_for_lost_nodes_is_copied_again() {
        let mut moved = board(&[2]);
        moved.pieces.iter_mut().for_each(|piece| (piece.state, piece.attempt) = (copied(), 1));
        let mut outlook = outlook(&moved);
        moved.batches[0].generation = 1;
        outlook.saw_batch(std::slice::from_ref(&moved), BatchRef { table: 0, batch: 0 });
        assert_eq!(next(&mut outlook, &moved), Next::Claim(piece(0)));
        moved.pieces.iter_mut().for_each(|piece| piece.generation = 1);
        outlook.saw_group(std::slice::from_ref(&moved), group(0));
        assert_eq!(next(&mut outlook, &moved), Next::Claim(batch(0)));
    }

    #[test]
    fn who_knows_of_newer_target_nodes_is_asked_which() {
        let mut old = board(&[1]);
        old.pieces[0].generation = 1;
        assert_eq!(outlook(&old).next(std::slice::from_ref(&old)), Next::Look(vec![group(0)]));
    }

    #[test]
    fn a_failed_piece_keeps_its_batch_from_being_published_and_the_task_from_being_finished() {
        let mut failed = board(&[2]);
        failed.pieces[0].state = PieceState::Failed { error: "e".into(), transient: true };
        failed.pieces[1].state = copied();
        assert_eq!(next(&mut outlook(&failed), &failed), Next::Stuck);
        failed.batches[0].state = BatchState::Done(Published::default());
        failed.pieces[0].state = copied();
        assert_eq!(next(&mut outlook(&failed), &failed), Next::Finished);
    }

    #[test]
    fn the_largest_batch_comes_first_and_each_is_finished_before_the_next_begins() {
        let mut three = board(&[5, 5, 5]);
        let mut outlook = sized(&three, vec![10, 1000, 100]);
        let order = all(&mut three, &mut outlook);
        let batch_of = |job: &Job| match job {
            Job::Copy(of) => three.batch_of[of.piece],
            Job::Publish(of) => of.batch,
        };
        let batches: Vec<usize> = order.iter().map(batch_of).collect();
        assert_eq!(batches, [[1; 6], [2; 6], [0; 6]].concat());
    }

    #[test]
    fn a_worker_goes_where_nobody_is_and_helps_others_in_the_end() {
        let three = board(&[2, 2, 2]);
        let mut outlook = outlook(&three);
        let boards = std::slice::from_ref(&three);
        outlook.saw_claims(boards, HashSet::from([piece(0), piece(4)]));
        assert_eq!(outlook.next(boards), Next::Look(vec![group(1)]));
        assert_eq!(next(&mut outlook, &three), Next::Claim(piece(2)));
        outlook.claimed(piece(2));
        outlook.claimed(piece(3));
        let Next::Claim(helped) = next(&mut outlook, &three) else { panic!("{outlook:?}") };
        assert!(helped == piece(1) || helped == piece(5), "{helped:?}");
    }

    #[test]
    fn who_copies_the_last_piece_of_a_large_batch_finds_it_copied() {
        let mut large = board(&[6]);
        let mut outlook = outlook(&large);
        // Others have copied the rest, unseen.
        let Next::Claim(Job::Copy(own)) = next(&mut outlook, &large) else { panic!("{outlook:?}") };
        outlook.claimed(Job::Copy(own));
        let boards = std::slice::from_ref(&large);
        outlook.saw_claims(boards, (0..6).map(piece).collect());
        large.pieces.iter_mut().for_each(|piece| piece.state = copied());
        let boards = std::slice::from_ref(&large);
        outlook.saw_group(boards, outlook.group_of(Job::Copy(own)).unwrap());
        outlook.released(boards, Job::Copy(own));
        assert_eq!(next(&mut outlook, &large), Next::Claim(batch(0)));
    }

    #[test]
    fn groups_hold_whole_small_batches_or_a_part_of_a_large_one() {
        let of = |sizes: &[usize]| groups(&board(sizes).pieces_of);
        assert_eq!(of(&[1, 1, 1, 5, 2]), [0..2, 2..3, 3..5, 5..7, 7..8, 8..10]);
        let many = of(&[100; 3000]);
        assert_eq!(many.len(), 3000 * 7);
        assert!(many.iter().all(|group| group.len() <= MOST));
    }
}
