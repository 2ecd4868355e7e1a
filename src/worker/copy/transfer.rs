//! The rows of a piece on their way to its target nodes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use crate::cluster::{Destination, Error, Settings, Transfer};
use crate::model::{Node, Way};
use crate::sql::{Selection, SlotKey};

use super::super::pace::Manner;
use super::super::site::AttemptError;
use super::super::ways::Choice;
use super::Attempt;

/// How often a running transfer is looked at, and how many looks in a row may fail.
const LOOK: Duration = Duration::from_secs(5);
const BAD_LOOKS: u32 = 12;

/// A target node of the piece.
struct Place {
    shard: usize,
    replica: usize,
    node: Arc<Node>,
    choice: Choice,
}

impl Attempt<'_> {
    /// Moves the piece's rows to all target nodes: in one reading where they can be dealt on their way, else to one after the
    /// other.
    pub(super) async fn transfer(&self, source: &Arc<Node>, nodes: &[Vec<Arc<Node>>]) -> Result<(), AttemptError> {
        let mut places = Vec::new();
        for shard in self.plan().target_shards() {
            for (replica, node) in nodes[shard].iter().enumerate() {
                let choice = self.choose(source, node, shard).await?;
                places.push(Place { shard, replica, node: node.clone(), choice });
            }
        }
        let trial = self.try_a_manner(source, &mut places).await?;
        let started = Instant::now();
        let (dealt, alone) = self.dealt(source, places).await?;
        if let Some(key) = &self.plan().sharding {
            self.transfer_to(source, &dealt, Some(key.slot_key()), self.plan().rows_of(self.piece.piece)).await?;
        }
        for place in alone {
            let rows = self.plan().rows_for(self.piece.piece, place.shard);
            self.transfer_to(source, &[place], None, rows).await?;
        }
        if let Some(manner) = trial {
            let rows = self.plan().pieces[self.piece.piece].rows;
            if let Some(news) = self.site.pace.note(self.piece.table, manner, rows, started.elapsed()) {
                tracing::info!("table {}: {news}", self.plan().name);
            }
        }
        Ok(())
    }

    /// Where servers could send the rows to each other, but would read them once for each target shard: a relay may be faster.
    async fn try_a_manner(&self, source: &Node, places: &mut [Place]) -> Result<Option<Manner>, AttemptError> {
        let shards = self.plan().target_shards().count();
        let free = self.site.task().tables[self.piece.table].transfer.is_none();
        let direct = places.iter().all(|place| place.choice.way != Way::Relay);
        if !free || !direct || shards < 2 || !self.site.deals(self.piece.table, source).await? {
            return Ok(None);
        }
        let manner = self.site.pace.next(self.piece.table, self.plan().pieces.len());
        if manner == Manner::Dealt {
            for place in places {
                let since = format!("it reads each row once for {shards} target shards");
                place.choice = Choice { way: Way::Relay, since: Some(since) };
            }
        }
        Ok(Some(manner))
    }

    async fn choose(&self, source: &Arc<Node>, node: &Arc<Node>, shard: usize) -> Result<Choice, AttemptError> {
        let rows = self.plan().rows_for(self.piece.piece, shard);
        let wanted = self.site.task().tables[self.piece.table].transfer;
        Ok(self.site.fleet.way(source, node, wanted, rows.filters_at_the_table()).await?)
    }

    /// Those places that are served in one reading, and the others.
    async fn dealt(&self, source: &Node, places: Vec<Place>) -> Result<(Vec<Place>, Vec<Place>), AttemptError> {
        let (relayed, alone): (Vec<Place>, Vec<Place>) =
            places.into_iter().partition(|place| place.choice.way == Way::Relay);
        let several = relayed.iter().any(|place| place.shard != relayed[0].shard);
        if several && self.site.deals(self.piece.table, source).await? {
            return Ok((relayed, alone));
        }
        Ok((Vec::new(), relayed.into_iter().chain(alone).collect()))
    }

    /// Moves rows to some places, which have the same way; with a key for slots they are dealt.
    async fn transfer_to(
        &self,
        source: &Arc<Node>,
        places: &[Place],
        dealt: Option<SlotKey>,
        rows: Selection,
    ) -> Result<(), AttemptError> {
        let Some(way) = places.first().map(|place| place.choice.way) else { return Ok(()) };
        let (site, plan) = (self.site, self.plan());
        let mut at_source = Settings::new();
        let mut at_target = Vec::new();
        for place in places {
            self.tell_choice(source, place);
            let (first, second) = site.transfer_settings(way, source, &place.node, self.narrow).await?;
            at_source = first;
            at_target.push(second);
        }
        let slots = |shard: usize| match (&plan.sharding, &dealt) {
            (Some(sharding), Some(_)) => sharding.slots[shard].clone(),
            _ => 0..0,
        };
        // What ran out of memory is moved a few partitions at a time.
        for (part, rows) in rows.parted(1 << self.narrow.min(8)).into_iter().enumerate() {
            let destination = |(place, settings): (&Place, &Settings)| Destination {
                node: place.node.clone(),
                slots: slots(place.shard),
                query_id: site.id.query(self.piece, self.number, place.shard, place.replica, part),
                settings: settings.clone(),
            };
            let transfer = Transfer {
                way,
                from: source.clone(),
                to: places.iter().zip(&at_target).map(destination).collect(),
                dealt: dealt.clone(),
                into: self.staging(),
                columns: plan.columns.clone(),
                values: plan.reading.values.clone(),
                rows,
                at_source: at_source.clone(),
                compress: site.task().tables[self.piece.table].relay_compression,
            };
            self.carry(&transfer).await.map_err(|error| self.note_failure(&transfer, error))?;
        }
        Ok(())
    }

    /// Says once which way was taken, and why, unless it is the usual one.
    fn tell_choice(&self, source: &Node, Place { node, choice, .. }: &Place) {
        if let Some(since) = &choice.since {
            let line =
                format!("table {}: transfer: {} from {source} to {node}, since {since}", self.plan().name, choice.way);
            if self.site.fleet.ways.is_news(&line) {
                tracing::info!("{line}");
            }
        }
    }

    /// What is between the nodes is asked anew for the next attempt, which may take another way.
    fn note_failure(&self, transfer: &Transfer, error: Error) -> AttemptError {
        let free = self.site.task().tables[self.piece.table].transfer.is_none();
        let mut another = false;
        for to in &transfer.to {
            another |= self.site.fleet.failed(&transfer.from, &to.node, transfer.way, &error);
        }
        match another && free {
            true => AttemptError::Mismatch(format!("{error}; the next attempt takes another way")),
            false => error.into(),
        }
    }

    /// One transfer, to its end. Where the connection breaks, a server goes on with a push or a pull: its end is awaited then,
    /// and the counts tell what came of it. A transfer that runs may take as long as it needs.
    async fn carry(&self, transfer: &Transfer) -> Result<(), Error> {
        tokio::select! {
            biased;
            done = self.site.fleet.warehouse.transfer(transfer) => match done {
                Err(error) if error.is_unreachable() && transfer.way != Way::Relay => {
                    if self.is_running(transfer).await.is_err() {
                        return Err(error);
                    }
                    tracing::warn!("{error}; the statement may go on: waiting for its end");
                }
                done => return done,
            },
            gone = self.until_gone(transfer) => return gone,
        }
        self.until_gone(transfer).await
    }

    /// Whether a statement of a transfer runs on one of its nodes; all of them must answer.
    async fn is_running(&self, transfer: &Transfer) -> Result<bool, Error> {
        let warehouse = &self.site.fleet.warehouse;
        let looks = transfer.statements().into_iter().map(|(node, id)| warehouse.running(node, id));
        let looks = join_all(looks).await;
        let mut any = false;
        for look in looks {
            any |= !look?.is_empty();
        }
        Ok(any)
    }

    /// Returns when a transfer does not run any more, or a node of it has not answered for a while.
    async fn until_gone(&self, transfer: &Transfer) -> Result<(), Error> {
        let mut silent = 0;
        let mut absent = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            match self.is_running(transfer).await {
                Ok(false) => absent += 1,
                Ok(true) => (silent, absent) = (0, 0),
                Err(error) if silent + 1 == BAD_LOOKS => return Err(error),
                Err(_) => silent += 1,
            }
            // An answer may be on its way when the statement is seen no more.
            if absent == 2 {
                return Ok(());
            }
        }
    }
}
