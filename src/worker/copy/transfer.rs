//! The transfer of a piece's rows to its target nodes by `push`, `pull` or `relay`.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use tokio::time::Instant;

use super::super::errors::{AttemptError, Mismatch};
use super::super::limits::transfer_trial::SplitMethod;
use super::super::statement_settings::{TransferFacts, TransferSettings, for_transfer};
use super::{Attempt, Source};
use crate::client::{
    Destination, Error, Origin, Running, StallVerdict, Transfer, TransferObservation, Watch, observation_pause,
};
use crate::model::{Node, Way};
use crate::nodes::routes::{Route, after_failure, way_of};
use crate::sql::{Selection, SlotKey, remote_dealt};

/// The number of failed checks in a row after which a transfer fails.
const MAX_FAILED_CHECKS: u32 = 12;
/// The number of checks in a row without a statement after which a transfer has ended.
const ABSENT_CHECKS: u32 = 2;
/// The most halvings of the partitions that one statement moves, after attempts ran out of memory.
const MAX_HALVINGS: u32 = 8;

/// A target node of the piece.
#[derive(Clone)]
struct TargetNode {
    shard: usize,
    replica: usize,
    node: Arc<Node>,
}

/// The route of the rows from a source to a target node.
struct Leg<'a> {
    source: &'a Source,
    target: TargetNode,
    route: Route,
}

impl Attempt<'_> {
    /// Moves the piece's rows to all target nodes. Reads them once where they can be dealt to the nodes on the way, otherwise once for
    /// each node. A relay from several sources is one INSERT for each target node.
    pub(super) async fn transfer(&self, sources: &[Source], nodes: &[Vec<Arc<Node>>]) -> Result<(), AttemptError> {
        let mut targets = Vec::new();
        for shard in self.plan().target_shards() {
            let replicas = nodes[shard].iter().enumerate();
            targets.extend(replicas.map(|(replica, node)| TargetNode { shard, replica, node: node.clone() }));
        }
        let mut legs = Vec::new();
        for source in sources {
            for target in &targets {
                let route = self.choose(&source.node, target).await?;
                legs.push(Leg { source, target: target.clone(), route });
            }
        }
        let trial = self.try_split_method(sources, &mut legs).await?;
        let started = Instant::now();
        self.move_along(sources, &targets, &legs).await?;
        if let Some(method) = trial {
            let bytes = self.plan().bytes_of(self.piece.index);
            if let Some(news) = self.context.trials.note(self.piece.table, method, bytes, started.elapsed()) {
                tracing::info!(names_table = true, "table {}: {news}", self.plan().name);
            }
        }
        Ok(())
    }

    /// Sends the rows along their routes.
    async fn move_along(
        &self,
        sources: &[Source],
        targets: &[TargetNode],
        legs: &[Leg<'_>],
    ) -> Result<(), AttemptError> {
        legs.iter().for_each(|leg| self.log_route(leg));
        let all = self.plan().rows_of(self.piece.index);
        let mut sent = 0;
        if targets.len() > 1 && legs.iter().all(|leg| leg.route.way == Way::Relay) && self.deals(sources).await? {
            return self.send(Way::Relay, sources, targets, all, &mut sent).await;
        }
        let legs_of = |source: usize| &legs[source * targets.len()..(source + 1) * targets.len()];
        let mut others = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            if self.pushes_dealt(source, legs_of(number)).await? {
                let from = std::slice::from_ref(source);
                self.send(Way::Push, from, targets, all.clone(), &mut sent).await?;
            } else {
                others.push(number);
            }
        }
        if others.is_empty() {
            return Ok(());
        }
        if targets.len() > 1 {
            self.log_filters(sources).await?;
        }
        let legs: Vec<&Leg> = others.iter().flat_map(|number| legs_of(*number)).collect();
        let sources: Vec<Source> = others.iter().map(|number| sources[*number].clone()).collect();
        for target in targets {
            let rows = self.plan().rows_for(self.piece.index, target.shard);
            let to = std::slice::from_ref(target);
            let to_target = |leg: &&&Leg| (leg.target.shard, leg.target.replica) == (target.shard, target.replica);
            if legs.iter().filter(to_target).all(|leg| leg.route.way == Way::Relay) {
                self.send(Way::Relay, &sources, to, rows, &mut sent).await?;
                continue;
            }
            for leg in legs.iter().filter(to_target) {
                let from = std::slice::from_ref(leg.source);
                self.send(leg.route.way, from, to, rows.clone(), &mut sent).await?;
            }
        }
        Ok(())
    }

    /// Chooses the route from a source to a target node.
    async fn choose(&self, source: &Node, target: &TargetNode) -> Result<Route, AttemptError> {
        let rows = self.plan().rows_for(self.piece.index, target.shard);
        let task = self.context.task();
        let job = &task.tables[self.piece.table];
        let columns = self.context.column_routes(self.piece.table, source).await?;
        let filtered = rows.filters_at_the_table();
        Ok(way_of(&self.context.pool, job, source, &target.node, filtered, &columns).await?)
    }

    /// Returns whether one push of a source serves all target nodes, so that each row is read once.
    async fn pushes_dealt(&self, source: &Source, legs: &[Leg<'_>]) -> Result<bool, AttemptError> {
        let Some(sharding) = &self.plan().sharding else { return Ok(false) };
        let pushed = legs.len() > 1 && legs.iter().all(|leg| leg.route.way == Way::Push);
        if !pushed || !self.can_push_by_key(&source.node).await? {
            return Ok(false);
        }
        let slots = |leg: &Leg| sharding.slots[leg.target.shard].clone();
        let to: Vec<_> = legs.iter().map(|leg| (leg.target.node.as_ref(), slots(leg))).collect();
        Ok(remote_dealt(&to, &self.staging(), &sharding.slot_key()).is_some())
    }

    /// Chooses the split method where the servers could send the rows to each other, but would read them once for each target shard. A
    /// relay may be faster there.
    async fn try_split_method(
        &self,
        sources: &[Source],
        legs: &mut [Leg<'_>],
    ) -> Result<Option<SplitMethod>, AttemptError> {
        let free = self.context.task().tables[self.piece.table].way_of_rows().is_none();
        let direct = legs.iter().all(|leg| leg.route.way != Way::Relay);
        if !free || !direct || !self.deals(sources).await? {
            return Ok(None);
        }
        for legs_of_source in legs.chunks((legs.len() / sources.len().max(1)).max(1)) {
            // Rows that are read once without a detour need no relay.
            if self.pushes_dealt(legs_of_source[0].source, legs_of_source).await? {
                return Ok(None);
            }
        }
        let method = self.context.trials.next(self.piece.table, self.plan().pieces.len());
        if method == SplitMethod::Dealt {
            let reason = format!("it reads each row once for {} target shards", self.plan().target_shards().count());
            for leg in legs {
                leg.route = Route { way: Way::Relay, reason: Some(reason.clone()) };
            }
        }
        Ok(Some(method))
    }

    /// Sends rows from sources to target nodes by one transfer, which deals them where there are several target nodes. `sent` counts
    /// the transfers of the attempt.
    async fn send(
        &self,
        way: Way,
        sources: &[Source],
        targets: &[TargetNode],
        rows: Selection,
        sent: &mut usize,
    ) -> Result<(), AttemptError> {
        let (context, plan) = (self.context, self.plan());
        let sharding = plan.sharding.as_ref().filter(|_| targets.len() > 1);
        let dealt = match sharding {
            Some(sharding) => Some(sharding.slot_key()),
            None if way == Way::Relay && self.needs_dealing(sources).await? => Some(SlotKey::single()),
            None => None,
        };
        let all_slots = 0..dealt.as_ref().map_or(0, |dealt| dealt.total);
        let (Some(source), Some(target)) = (sources.first(), targets.first()) else { return Ok(()) };
        let sends_all_rows = rows.are_all_that_is_read();
        // The settings of one side depend on the other side only where there is one source and one target node.
        let settings = |from: Arc<Node>, to: Arc<Node>| async move {
            self.transfer_settings(way, &from, &to, sends_all_rows).await
        };
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for Source { node, .. } in sources {
            let mut known = settings(node.clone(), target.node.clone()).await?.source;
            // One push to several target nodes sends its settings to all of them.
            for target in targets.iter().skip(1).filter(|_| way == Way::Push) {
                let to_this = settings(node.clone(), target.node.clone()).await?.source;
                known.retain(|setting| to_this.contains(setting));
            }
            from.push(Origin { node: node.clone(), settings: known });
        }
        for target in targets {
            let settings = settings(source.node.clone(), target.node.clone()).await?.target;
            let slots = sharding.map_or(all_slots.clone(), |sharding| sharding.slots[target.shard].clone());
            to.push((target, Destination { node: target.node.clone(), slots, query_id: String::new(), settings }));
        }
        // After attempts ran out of memory, each statement moves fewer partitions.
        for rows in rows.parted(1 << self.narrow.min(MAX_HALVINGS)) {
            let named = |(target, to): &(&TargetNode, Destination)| Destination {
                query_id: context.id.query(self.piece, self.number, target.shard, target.replica, *sent),
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
            self.run_transfer(&transfer).await.map_err(|error| self.note_failure(&transfer, error))?;
        }
        Ok(())
    }

    /// Returns the settings of the statements of a transfer between two nodes.
    async fn transfer_settings(
        &self,
        way: Way,
        from: &Node,
        to: &Node,
        sends_all_rows: bool,
    ) -> Result<TransferSettings, Error> {
        let pool = &self.context.pool;
        let (source, target) = (pool.facts(from).await?, pool.facts(to).await?);
        let facts = TransferFacts { way, source: &source, target: &target, sends_all_rows, narrow: self.narrow };
        Ok(for_transfer(&self.context.task(), &facts))
    }

    /// Logs once for the table which route was chosen and why, unless it is a push. Logs other reasons of other nodes at level debug.
    fn log_route(&self, Leg { source, target, route }: &Leg) {
        let Some(reason) = &route.reason else { return };
        let (table, way, routes) = (&self.plan().name, route.way, &self.context.pool.routes);
        let line = format!("table {table}: transfer: {way} from {} to {}, since {reason}", source.node, target.node);
        if routes.is_news(&format!("table {table}: {way}")) {
            routes.is_news(&line);
            tracing::info!(node = source.node.address(), names_table = true, "{line}");
        } else if routes.is_news(&line) {
            tracing::debug!(node = source.node.address(), names_table = true, "{line}");
        }
    }

    /// Logs once for the table that each target shard needs its own SELECT, where the columns are the reason.
    async fn log_filters(&self, sources: &[Source]) -> Result<(), AttemptError> {
        let Some(why) = self.against_dealing(sources).await? else { return Ok(()) };
        let shards = self.plan().target_shards().count();
        let line = format!(
            "table {}: transfer: {shards} target shards are served by a SELECT each, since {why}, whose values only a server \
             can tell apart",
            self.plan().name
        );
        if shards > 1 && self.context.pool.routes.is_news(&line) {
            tracing::info!(names_table = true, "{line}");
        }
        Ok(())
    }

    /// Forgets the known routes between the nodes, so that the next attempt may take another route. Returns the error of the attempt.
    fn note_failure(&self, transfer: &Transfer, error: Error) -> AttemptError {
        let free = self.context.task().tables[self.piece.table].way_of_rows().is_none();
        let mut another = false;
        for (from, to) in transfer.pairs() {
            another |= after_failure(&self.context.pool, &from.node, &to.node, transfer.way, &error);
        }
        match another && free {
            true => Mismatch::RouteFailed(error).into(),
            false => error.into(),
        }
    }

    /// Performs one transfer to its end. When the connection breaks, the server continues a push or a pull. The worker then waits for the
    /// end of the statement, and the counts tell whether it succeeded. A transfer that moves rows has no time limit.
    async fn run_transfer(&self, transfer: &Transfer) -> Result<(), Error> {
        tokio::select! {
            biased;
            done = self.context.pool.client.transfer(transfer) => match done {
                Err(error) if error.is_unreachable() && transfer.way != Way::Relay => {
                    if self.is_running(transfer).await.is_err() {
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

    /// Returns the running statements of a transfer by node, and the error of the first node that does not answer.
    async fn statements_of(&self, transfer: &Transfer) -> (BTreeMap<String, Vec<Running>>, Option<Error>) {
        let client = &self.context.pool.client;
        let answers = transfer.statements().into_iter().map(|(node, id)| async move {
            let running = client.running(node, id).await;
            (node.address(), running)
        });
        let (mut statements, mut first) = (BTreeMap::<String, Vec<Running>>::new(), None);
        for (node, running) in join_all(answers).await {
            match running {
                Ok(running) => statements.entry(node).or_default().extend(running),
                Err(error) => first = first.or(Some(error)),
            }
        }
        (statements, first)
    }

    /// Returns whether a statement of a transfer runs on one of its nodes. All nodes must answer.
    async fn is_running(&self, transfer: &Transfer) -> Result<bool, Error> {
        match self.statements_of(transfer).await {
            (_, Some(error)) => Err(error),
            (statements, None) => Ok(statements.values().any(|running| !running.is_empty())),
        }
    }

    /// Waits until a transfer has ended, a node has not answered for a while, or no rows have moved for too long. A relay runs as long as
    /// the worker holds its connections. Its servers may show no statement meanwhile: the source has sent all rows, and the target has
    /// not begun to write them (18.16, where few rows are sent slowly).
    async fn until_gone(&self, transfer: &Transfer) -> Result<(), Error> {
        let limit = self.context.worker_options.stall_timeout;
        let mut watch = Watch::new(limit, Instant::now());
        let (mut silent, mut absent) = (0, 0);
        loop {
            tokio::time::sleep(observation_pause(limit)).await;
            let (statements, error) = self.statements_of(transfer).await;
            let waits = transfer.course.waits();
            let is_running = statements.values().any(|running| !running.is_empty());
            let observed = TransferObservation { statements, bytes: transfer.course.bytes(), waits };
            let verdict = watch.judge(&observed, Instant::now());
            match error {
                Some(error) if silent + 1 == MAX_FAILED_CHECKS => return Err(error),
                Some(_) => silent += 1,
                // A transfer that waits for its turn has no statement yet.
                None if waits || is_running => (silent, absent) = (0, 0),
                None if transfer.way == Way::Relay => silent = 0,
                None => absent += 1,
            }
            // The answer may still be under way when the statement has ended.
            if absent == ABSENT_CHECKS {
                return Ok(());
            }
            if let StallVerdict::Stalled(duration) = verdict {
                return Err(transfer.stalled(duration));
            }
        }
    }
}
