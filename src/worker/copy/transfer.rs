//! The rows of a piece on their way to its target nodes.

use crate::nodes::routes::after_failure;
use crate::nodes::routes::way_of;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use tokio::time::Instant;

use crate::client::{Destination, Error, Look, Origin, Running, Transfer, Verdict, Watch, look_every};
use crate::model::{Node, Way};
use crate::sql::{Selection, SlotKey, remote_dealt};

use super::super::context::AttemptError;
use super::super::limits::transfer_trial::Manner;
use super::{Attempt, Source};
use crate::nodes::routes::Choice;

/// How many looks in a row at a running transfer may fail.
const BAD_LOOKS: u32 = 12;

/// A target node of the piece.
#[derive(Clone)]
struct Place {
    shard: usize,
    replica: usize,
    node: Arc<Node>,
}

/// How the rows of a source get to a place.
struct Leg<'a> {
    source: &'a Source,
    place: Place,
    choice: Choice,
}

impl Attempt<'_> {
    /// Moves the piece's rows to all target nodes: in one reading where they can be dealt on their way, else to one after the
    /// other. What is relayed from several sources is one INSERT for each target node.
    pub(super) async fn transfer(&self, sources: &[Source], nodes: &[Vec<Arc<Node>>]) -> Result<(), AttemptError> {
        let mut places = Vec::new();
        for shard in self.plan().target_shards() {
            let replicas = nodes[shard].iter().enumerate();
            places.extend(replicas.map(|(replica, node)| Place { shard, replica, node: node.clone() }));
        }
        let mut legs = Vec::new();
        for source in sources {
            for place in &places {
                let choice = self.choose(&source.node, place).await?;
                legs.push(Leg { source, place: place.clone(), choice });
            }
        }
        let trial = self.try_a_manner(sources, &mut legs).await?;
        let started = Instant::now();
        self.move_along(sources, &places, &legs).await?;
        if let Some(manner) = trial {
            let bytes = self.plan().bytes_of(self.piece.piece);
            if let Some(news) = self.context.trials.note(self.piece.table, manner, bytes, started.elapsed()) {
                tracing::info!("table {}: {news}", self.plan().name);
            }
        }
        Ok(())
    }

    async fn move_along(&self, sources: &[Source], places: &[Place], legs: &[Leg<'_>]) -> Result<(), AttemptError> {
        legs.iter().for_each(|leg| self.tell_choice(leg));
        let all = self.plan().rows_of(self.piece.piece);
        let mut sent = 0;
        if places.len() > 1 && legs.iter().all(|leg| leg.choice.way == Way::Relay) && self.deals(sources).await? {
            return self.send(Way::Relay, sources, places, all, &mut sent).await;
        }
        let legs_of = |source: usize| &legs[source * places.len()..(source + 1) * places.len()];
        let mut rest = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            if self.pushes_dealt(source, legs_of(number)).await? {
                let from = std::slice::from_ref(source);
                self.send(Way::Push, from, places, all.clone(), &mut sent).await?;
            } else {
                rest.push(number);
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        if places.len() > 1 {
            self.tell_filters(sources).await?;
        }
        let legs: Vec<&Leg> = rest.iter().flat_map(|number| legs_of(*number)).collect();
        let sources: Vec<Source> = rest.iter().map(|number| sources[*number].clone()).collect();
        for place in places {
            let rows = self.plan().rows_for(self.piece.piece, place.shard);
            let to = std::slice::from_ref(place);
            let here = |leg: &&&Leg| (leg.place.shard, leg.place.replica) == (place.shard, place.replica);
            if legs.iter().filter(here).all(|leg| leg.choice.way == Way::Relay) {
                self.send(Way::Relay, &sources, to, rows, &mut sent).await?;
                continue;
            }
            for leg in legs.iter().filter(here) {
                let from = std::slice::from_ref(leg.source);
                self.send(leg.choice.way, from, to, rows.clone(), &mut sent).await?;
            }
        }
        Ok(())
    }

    async fn choose(&self, source: &Node, place: &Place) -> Result<Choice, AttemptError> {
        let rows = self.plan().rows_for(self.piece.piece, place.shard);
        let task = self.context.task();
        let job = &task.tables[self.piece.table];
        let columns = self.context.column_routes(self.piece.table, source).await?;
        let between = (source, place.node.as_ref());
        Ok(way_of(&self.context.pool, job, between, rows.filters_at_the_table(), &columns).await?)
    }

    /// Whether a source serves all its places by one push, each row read once.
    async fn pushes_dealt(&self, source: &Source, legs: &[Leg<'_>]) -> Result<bool, AttemptError> {
        let Some(sharding) = &self.plan().sharding else { return Ok(false) };
        let pushed = legs.len() > 1 && legs.iter().all(|leg| leg.choice.way == Way::Push);
        if !pushed || !self.context.pushes_dealt(self.piece.table, &source.node).await? {
            return Ok(false);
        }
        let slots = |leg: &Leg| sharding.slots[leg.place.shard].clone();
        let to: Vec<_> = legs.iter().map(|leg| (leg.place.node.as_ref(), slots(leg))).collect();
        Ok(remote_dealt(&to, &self.staging(), &sharding.slot_key()).is_some())
    }

    /// Whether the worker can deal the rows to several target shards.
    async fn deals(&self, sources: &[Source]) -> Result<bool, AttemptError> {
        let several = self.plan().sharding.is_some() && self.plan().target_shards().count() > 1;
        Ok(several && self.against_dealing(sources).await?.is_none())
    }

    /// Returns what the columns have against dealing.
    async fn against_dealing(&self, sources: &[Source]) -> Result<Option<String>, AttemptError> {
        for source in sources {
            let columns = self.context.column_routes(self.piece.table, &source.node).await?;
            if let Some(why) = columns.against_dealing() {
                return Ok(Some(why.to_owned()));
            }
        }
        Ok(None)
    }

    /// Where servers could send the rows to each other, but would read them once for each target shard: a relay may be faster.
    async fn try_a_manner(&self, sources: &[Source], legs: &mut [Leg<'_>]) -> Result<Option<Manner>, AttemptError> {
        let free = self.context.task().tables[self.piece.table].way_of_rows().is_none();
        let direct = legs.iter().all(|leg| leg.choice.way != Way::Relay);
        if !free || !direct || !self.deals(sources).await? {
            return Ok(None);
        }
        for of_source in legs.chunks((legs.len() / sources.len().max(1)).max(1)) {
            // Rows that are read once without a detour need no relay.
            if self.pushes_dealt(of_source[0].source, of_source).await? {
                return Ok(None);
            }
        }
        let manner = self.context.trials.next(self.piece.table, self.plan().pieces.len());
        if manner == Manner::Dealt {
            let since = format!("it reads each row once for {} target shards", self.plan().target_shards().count());
            for leg in legs {
                leg.choice = Choice { way: Way::Relay, since: Some(since.clone()) };
            }
        }
        Ok(Some(manner))
    }

    /// Sends rows from some sources to some places, by one transfer; to several places they are dealt. `sent` counts the
    /// transfers of the attempt.
    async fn send(
        &self,
        way: Way,
        sources: &[Source],
        places: &[Place],
        rows: Selection,
        sent: &mut usize,
    ) -> Result<(), AttemptError> {
        let (context, plan) = (self.context, self.plan());
        let sharding = plan.sharding.as_ref().filter(|_| places.len() > 1);
        let dealt = match sharding {
            Some(sharding) => Some(sharding.slot_key()),
            None if way == Way::Relay && self.needs_dealing(sources).await? => Some(SlotKey::single()),
            None => None,
        };
        let all_slots = 0..dealt.as_ref().map_or(0, |dealt| dealt.total);
        let (Some(source), Some(place)) = (sources.first(), places.first()) else { return Ok(()) };
        let all = rows.are_all_that_is_read();
        // The settings of one side hang on the other only where there is one of each.
        let settings = |from: Arc<Node>, to: Arc<Node>| async move {
            context.transfer_settings(way, &from, &to, all, self.narrow).await
        };
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for Source { node, .. } in sources {
            let (mut known, _) = settings(node.clone(), place.node.clone()).await?;
            // One push to several targets hands its settings on to all of them.
            for place in places.iter().skip(1).filter(|_| way == Way::Push) {
                let (to_this, _) = settings(node.clone(), place.node.clone()).await?;
                known.retain(|setting| to_this.contains(setting));
            }
            from.push(Origin { node: node.clone(), settings: known });
        }
        for place in places {
            let (_, settings) = settings(source.node.clone(), place.node.clone()).await?;
            let slots = sharding.map_or(all_slots.clone(), |sharding| sharding.slots[place.shard].clone());
            to.push((place, Destination { node: place.node.clone(), slots, query_id: String::new(), settings }));
        }
        // What ran out of memory is moved a few partitions at a time.
        for rows in rows.parted(1 << self.narrow.min(8)) {
            let named = |(place, to): &(&Place, Destination)| Destination {
                query_id: context.id.query(self.piece, self.number, place.shard, place.replica, *sent),
                ..to.clone()
            };
            let transfer = Transfer {
                way,
                from: from.clone(),
                to: to.iter().map(named).collect(),
                dealt: dealt.clone(),
                into: self.staging(),
                columns: plan.columns.clone(),
                values: plan.reading.values.clone(),
                rows,
                compress: context.task().tables[self.piece.table].relay_compression,
                throttles: context.bandwidth.of(self.piece.table),
                course: Arc::default(),
            };
            *sent += 1;
            self.carry(&transfer).await.map_err(|error| self.note_failure(&transfer, error))?;
        }
        Ok(())
    }

    /// Whether a source sends something that a target reads only after the worker has dealt it.
    async fn needs_dealing(&self, sources: &[Source]) -> Result<bool, AttemptError> {
        for source in sources {
            if self.context.needs_dealing(self.piece.table, &source.node).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Says once for the table which way was taken, and why, unless it is the usual one. Other nodes may have other reasons; those
    /// are told at level debug.
    fn tell_choice(&self, Leg { source, place, choice }: &Leg) {
        let Some(since) = &choice.since else { return };
        let (table, way, ways) = (&self.plan().name, choice.way, &self.context.pool.ways);
        let line = format!("table {table}: transfer: {way} from {} to {}, since {since}", source.node, place.node);
        if ways.is_news(&format!("table {table}: {way}")) {
            ways.is_news(&line);
            tracing::info!(node = source.node.address(), "{line}");
        } else if ways.is_news(&line) {
            tracing::debug!(node = source.node.address(), "{line}");
        }
    }

    /// Says once for the table that each row is read for each target shard, where that is on account of its columns.
    async fn tell_filters(&self, sources: &[Source]) -> Result<(), AttemptError> {
        let Some(why) = self.against_dealing(sources).await? else { return Ok(()) };
        let shards = self.plan().target_shards().count();
        let line = format!(
            "table {}: transfer: {shards} target shards are served by a SELECT each, since {why}, whose values only a server \
             can tell apart",
            self.plan().name
        );
        if shards > 1 && self.context.pool.ways.is_news(&line) {
            tracing::info!("{line}");
        }
        Ok(())
    }

    /// What is between the nodes is asked anew for the next attempt, which may take another way.
    fn note_failure(&self, transfer: &Transfer, error: Error) -> AttemptError {
        let free = self.context.task().tables[self.piece.table].way_of_rows().is_none();
        let mut another = false;
        for (from, to) in transfer.pairs() {
            another |= after_failure(&self.context.pool, &from.node, &to.node, transfer.way, &error);
        }
        match another && free {
            true => AttemptError::Mismatch(format!("{error}; the next attempt takes another way")),
            false => error.into(),
        }
    }

    /// One transfer, to its end. Where the connection breaks, a server goes on with a push or a pull: its end is awaited then,
    /// and the counts tell what came of it. A transfer that moves anything may take as long as it needs.
    async fn carry(&self, transfer: &Transfer) -> Result<(), Error> {
        tokio::select! {
            biased;
            done = self.context.pool.client.transfer(transfer) => match done {
                Err(error) if error.is_unreachable() && transfer.way != Way::Relay => {
                    if self.running(transfer).await.is_err() {
                        return Err(error);
                    }
                    tracing::warn!(node = error.node, "{error}; the statement may go on: waiting for its end");
                }
                done => return done,
            },
            gone = self.until_gone(transfer) => return gone,
        }
        self.until_gone(transfer).await
    }

    /// Returns what the statements of a transfer have done so far, by the nodes that answer, and the error of the first that does not.
    async fn look(&self, transfer: &Transfer) -> (BTreeMap<String, Vec<Running>>, Option<Error>) {
        let client = &self.context.pool.client;
        let looks = transfer.statements().into_iter().map(|(node, id)| async move {
            let running = client.running(node, id).await;
            (node.address(), running)
        });
        let (mut statements, mut first) = (BTreeMap::<String, Vec<Running>>::new(), None);
        for (node, running) in join_all(looks).await {
            match running {
                Ok(running) => statements.entry(node).or_default().extend(running),
                Err(error) => first = first.or(Some(error)),
            }
        }
        (statements, first)
    }

    /// Whether a statement of a transfer runs on one of its nodes; all of them must answer.
    async fn running(&self, transfer: &Transfer) -> Result<bool, Error> {
        match self.look(transfer).await {
            (_, Some(error)) => Err(error),
            (statements, None) => Ok(statements.values().any(|running| !running.is_empty())),
        }
    }

    /// Returns when a transfer does not run any more, a node of it has not answered for a while, or nothing of it has moved for too long. A
    /// relay runs as long as its connections do, which its worker holds: servers may have sent all they have, and not have begun to take
    /// any of it in, so that neither of them shows a statement (18.16, where little is sent slowly).
    async fn until_gone(&self, transfer: &Transfer) -> Result<(), Error> {
        let limit = self.context.worker_options.stall_timeout;
        let mut watch = Watch::new(limit, Instant::now());
        let (mut silent, mut absent) = (0, 0);
        loop {
            tokio::time::sleep(look_every(limit)).await;
            let (statements, error) = self.look(transfer).await;
            let waits = transfer.course.waits();
            let is_running = statements.values().any(|running| !running.is_empty());
            let look = Look { statements, bytes: transfer.course.bytes(), waits };
            let verdict = watch.judge(&look, Instant::now());
            match error {
                Some(error) if silent + 1 == BAD_LOOKS => return Err(error),
                Some(_) => silent += 1,
                // What waits for its turn has no statement yet.
                None if waits || is_running => (silent, absent) = (0, 0),
                None if transfer.way == Way::Relay => silent = 0,
                None => absent += 1,
            }
            // An answer may be on its way when the statement is seen no more.
            if absent == 2 {
                return Ok(());
            }
            if let Verdict::Stalled(still) = verdict {
                return Err(transfer.stalled(still));
            }
        }
    }
}
