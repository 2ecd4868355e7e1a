//! Runs a statement as a task that its sender only watches.

use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::super::{Destination, Error, Kind, Origin, Running, Transfer, codes};
use super::MemoryServerClient;
use super::faults::Statement;
use super::parts::Row;
use super::refused::refused;
use super::table::{Chooser, over};
use super::world::{Query, Server, World, deduplicates, refused_by};
use crate::model::{Node, Way};

fn killed() -> Kind {
    refused(codes::QUERY_WAS_CANCELLED, "Query was cancelled")
}

/// A statement that has arrived at its server.
pub(super) struct Arrived {
    memory: MemoryServerClient,
    node: String,
    number: u64,
}

impl Arrived {
    fn arrive(memory: MemoryServerClient, statement: &Statement) -> Result<Arrived, Kind> {
        let mut world = memory.world();
        let number = world.number();
        let unknown = || Kind::Network("there is no such node".into());
        let server = world.servers.get_mut(&statement.node).ok_or_else(unknown)?;
        let id = statement.query_id.clone();
        if !id.is_empty() && server.queries.values().any(|query| query.id == id) {
            return Err(refused(
                codes::QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
                format!("Query with id = {id} is already running."),
            ));
        }
        server.queries.insert(number, Query { id, since: Instant::now(), rows: 0, killed: false });
        drop(world);
        Ok(Arrived { memory, node: statement.node.clone(), number })
    }

    /// Executes a step, unless the statement was killed or its server has died.
    pub(crate) fn step<T>(&self, work: impl FnOnce(&mut World) -> Result<T, Kind>) -> Result<T, Kind> {
        let mut world = self.memory.world();
        let query = world.servers.get(&self.node).and_then(|server| server.queries.get(&self.number));
        if query.is_none_or(|query| query.killed) { Err(killed()) } else { work(&mut world) }
    }

    fn leave(&self) {
        if let Some(server) = self.memory.world().servers.get_mut(&self.node) {
            server.queries.remove(&self.number);
        }
    }
}

/// Returns the running statements of a server whose ids begin with a prefix.
pub(super) fn running(server: &Server, prefix: &str) -> Vec<Running> {
    let queries = server.queries.values().filter(|query| !query.id.is_empty() && query.id.starts_with(prefix));
    let running = queries.map(|query| Running {
        query_id: query.id.clone(),
        elapsed: query.since.elapsed().as_secs_f64(),
        read_rows: query.rows,
        written_rows: query.rows,
        moved: 0,
    });
    running.collect()
}

/// Ends the running statements of a server whose ids begin with a prefix.
pub(super) fn kill(world: &mut World, node: &str, prefix: &str) {
    let queries = world.servers.get_mut(node).into_iter().flat_map(|server| server.queries.values_mut());
    for query in queries.filter(|query| !query.id.is_empty() && query.id.starts_with(prefix)) {
        query.killed = true;
    }
}

impl MemoryServerClient {
    /// Asks a node, in one step.
    pub(super) async fn question<T>(
        &self,
        node: &Node,
        doing: String,
        ask: impl FnOnce(&mut World, &str) -> Result<T, Kind>,
    ) -> Result<T, Error> {
        yield_now().await;
        let address = node.address();
        let mut world = self.world();
        let answer = world.server(&address).map(drop).and_then(|()| ask(&mut world, &address));
        answer.map_err(|kind| Error { node: address, doing, kind })
    }

    /// Runs a statement of one step.
    pub(super) async fn perform(
        &self,
        node: &Node,
        operation: &'static str,
        subject: String,
        doing: String,
        work: impl FnOnce(&mut World, &str) -> Result<(), Kind> + Send + 'static,
    ) -> Result<(), Error> {
        let address = node.address();
        let statement = Statement { node: address.clone(), operation, subject, query_id: String::new() };
        self.run(statement, doing, OneStep(move |world: &mut World| work(world, &address))).await
    }

    /// Sends a statement and waits for its end. The statement is a task: dropping this future does not end it.
    async fn run<F>(&self, statement: Statement, doing: String, work: F) -> Result<(), Error>
    where
        F: AsyncWork + Send + 'static,
    {
        let node = statement.node.clone();
        let failed = |kind| Error { node: node.clone(), doing: doing.clone(), kind };
        yield_now().await;
        let life = self.world().server(&node).map_err(failed)?.life;
        // Waiting callers are woken in the order in which they came.
        let mut cut = std::pin::pin!(self.lines.notified());
        let mut faults = self.faults().faults(&statement);
        let loses_reply = faults.loses_reply;
        let (answer, mut answered) = oneshot::channel();
        let memory = self.clone();
        tokio::spawn(async move {
            faults.arrive().await;
            yield_now().await;
            let done = match Arrived::arrive(memory, &statement) {
                Ok(arrived) => {
                    let done = work.work(&arrived, &answer).await;
                    arrived.leave();
                    done
                }
                Err(refusal) => Err(refusal),
            };
            // The caller may be gone.
            let _ = answer.send(done);
        });
        loop {
            tokio::select! {
                biased;
                done = &mut answered => {
                    let done = done.unwrap_or_else(|_| Err(Kind::Network("the connection broke".into())));
                    if loses_reply {
                        return Err(failed(Kind::Network("the reply was lost".into())));
                    }
                    return done.map_err(failed);
                }
                () = &mut cut => {
                    cut.set(self.lines.notified());
                    let now = self.world().server(&node).map(|server| server.life);
                    if now.map_err(failed)? != life {
                        return Err(failed(Kind::Network("the connection broke".into())));
                    }
                }
            }
        }
    }

    pub(super) async fn send(&self, transfer: Transfer) -> Result<(), Error> {
        let (Some(source), Some(first)) = (transfer.from.first(), transfer.to.first()) else { return Ok(()) };
        let (node, operation) = match transfer.way {
            Way::Push => (&source.node, "push"),
            Way::Pull => (&first.node, "pull"),
            Way::Relay | Way::Clone => (&first.node, "relay"),
        };
        let (subject, query_id) = (transfer.into.to_string(), transfer.query_id().to_owned());
        let statement = Statement { node: node.address(), operation, subject, query_id };
        self.run(statement, transfer.doing(), Moving(transfer)).await
    }
}

/// The channel for the answer; closed when nobody waits for it.
type Asker = oneshot::Sender<Result<(), Kind>>;

/// The work of a statement after it has arrived.
pub(super) trait AsyncWork {
    fn work(self, arrived: &Arrived, asker: &Asker) -> impl Future<Output = Result<(), Kind>> + Send;
}

struct OneStep<F>(F);

impl<F: FnOnce(&mut World) -> Result<(), Kind> + Send> AsyncWork for OneStep<F> {
    async fn work(self, arrived: &Arrived, _: &Asker) -> Result<(), Kind> {
        arrived.step(self.0)
    }
}

struct Moving(Transfer);

impl AsyncWork for Moving {
    /// Reads all rows at one instant, and writes them block by block, to one target after the other. If it fails, the
    /// written rows stay.
    async fn work(self, arrived: &Arrived, asker: &Asker) -> Result<(), Kind> {
        // A relay has a statement on each of its nodes.
        let mut others = Vec::new();
        let arrive = |node: &Node, operation, query_id: &str| {
            let subject = self.0.rows.relation.table.to_string();
            let statement = Statement { node: node.address(), operation, subject, query_id: query_id.to_owned() };
            Arrived::arrive(arrived.memory.clone(), &statement)
        };
        let mut done = Ok(());
        if self.0.way == Way::Relay {
            let targets = self.0.to.iter().skip(1).map(|to| arrive(&to.node, "relay", &to.query_id));
            let sources = self.0.from.iter().enumerate();
            let sources = sources.map(|(number, from)| arrive(&from.node, "read", &self.0.reading_id(number)));
            for other in targets.chain(sources) {
                match other {
                    Ok(other) => others.push(other),
                    Err(refusal) => done = Err(refusal),
                }
            }
        }
        if done.is_ok() {
            done = self.write(arrived, &others, asker).await;
        }
        others.iter().for_each(Arrived::leave);
        done
    }
}

impl Moving {
    async fn write(&self, arrived: &Arrived, others: &[Arrived], asker: &Asker) -> Result<(), Kind> {
        let transfer = &self.0;
        let (rows, block) = arrived.step(|world| {
            if transfer.way == Way::Push {
                transfer.from.iter().try_for_each(|from| world.may_write(&from.node.address()))?;
            }
            let mut rows = Vec::new();
            for to in &transfer.to {
                world.may_write(&to.node.address())?;
                let mut all = Vec::new();
                for from in &transfer.from {
                    all.extend(selected(world, transfer, from, to)?);
                }
                rows.push((to, all));
            }
            Ok((rows, world.block_rows))
        })?;
        let most = rows.iter().map(|(_, rows)| rows.len()).max().unwrap_or(0);
        for begin in (0..most).step_by(block) {
            for (to, rows) in rows.iter().filter(|(_, rows)| begin < rows.len()) {
                yield_now().await;
                others.iter().try_for_each(|other| other.step(|_| Ok(())))?;
                let rows = &rows[begin..rows.len().min(begin + block)];
                arrived.step(|world| self.insert(world, to, rows, arrived))?;
                if transfer.way == Way::Relay && asker.is_closed() {
                    return Err(Kind::Network("the sender has gone".into()));
                }
            }
        }
        yield_now().await;
        others.iter().chain([arrived]).try_for_each(|one| one.step(|_| Ok(())))
    }

    fn insert(&self, world: &mut World, to: &Destination, rows: &[Row], arrived: &Arrived) -> Result<(), Kind> {
        let source = self.0.from.first().filter(|_| self.0.way == Way::Push);
        let settings = source.map_or(&to.settings, |from| &from.settings);
        self.0.from.iter().try_for_each(|from| connected(world, &self.0, from, to))?;
        world.insert(&to.node.address(), &self.0.into, rows.to_vec(), deduplicates(settings))?;
        let server = world.servers.get_mut(&arrived.node);
        if let Some(query) = server.and_then(|server| server.queries.get_mut(&arrived.number)) {
            query.rows += rows.len() as u64;
        }
        Ok(())
    }
}

/// Returns an error unless the rows can travel now.
fn connected(world: &mut World, transfer: &Transfer, from: &Origin, to: &Destination) -> Result<(), Kind> {
    let (from, to) = (from.node.address(), to.node.address());
    match transfer.way {
        Way::Push => {
            // A sender that is cut off reaches nobody.
            world.server(&from).map(drop).map_err(|_| refused_by(&to))?;
            world.speaks(&from, &to)
        }
        Way::Pull => {
            world.server(&to).map(drop).map_err(|_| refused_by(&from))?;
            world.speaks(&to, &from)
        }
        Way::Relay | Way::Clone => world.server(&from).map(drop).and_then(|()| world.server(&to).map(drop)),
    }
}

/// Returns the rows of a transfer for one target, in its stored form.
fn selected(world: &mut World, transfer: &Transfer, from: &Origin, to: &Destination) -> Result<Vec<Row>, Kind> {
    connected(world, transfer, from, to)?;
    let chooser = Chooser::new(&transfer.rows_for(to))?;
    let (from, to) = (from.node.address(), to.node.address());
    // A server that finds no table on another server reports connection attempts (measured on 18.16).
    let source = world.table(&from, &transfer.rows.relation.table);
    let source = if transfer.way == Way::Pull { source.map_err(|_| refused_by(&from))? } else { source? };
    chooser.types(source)?;
    let values = transfer.values.iter().map(|text| super::expression::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let target = world.table(&to, &transfer.into);
    let target = if transfer.way == Way::Push { target.map_err(|_| refused_by(&to))? } else { target? };
    let names: Vec<String> = target.stored().map(|column| column.name.clone()).collect();
    if names.len() != values.len() || (transfer.way != Way::Push && names != transfer.columns) {
        return Err(refused(codes::NUMBER_OF_COLUMNS_DOESNT_MATCH, "Number of columns doesn't match"));
    }
    let mut rows = Vec::new();
    for row in world.rows(source) {
        let Some(row) = chooser.choose(source.named(&row)?)? else { continue };
        let given = names.iter().zip(&values).map(|(name, ast)| Ok((name.clone(), over(ast, &row)?)));
        rows.push(target.row(given.collect::<Result<_, Kind>>()?)?);
    }
    Ok(rows)
}
