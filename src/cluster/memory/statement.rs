//! How a statement runs: as a task that its sender only watches.

use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::MemoryWarehouse;
use super::faults::Statement;
use super::parts::Row;
use super::table::{Chooser, over};
use super::value::refused;
use super::world::{Query, World, deduplicates, refused_by};
use crate::cluster::{Error, Kind, Transfer};
use crate::model::{Node, Way};

fn killed() -> Kind {
    refused(394, "Query was cancelled")
}

/// A statement that has arrived at its server.
pub(super) struct Arrived {
    memory: MemoryWarehouse,
    node: String,
    number: u64,
}

impl Arrived {
    fn arrive(memory: MemoryWarehouse, statement: &Statement) -> Result<Arrived, Kind> {
        let mut world = memory.world();
        let number = world.number();
        let unknown = || Kind::Network("there is no such node".into());
        let server = world.servers.get_mut(&statement.node).ok_or_else(unknown)?;
        let id = statement.query_id.clone();
        if !id.is_empty() && server.queries.values().any(|query| query.id == id) {
            return Err(refused(216, format!("Query with id = {id} is already running.")));
        }
        server.queries.insert(number, Query { id, since: Instant::now(), rows: 0, killed: false });
        drop(world);
        Ok(Arrived { memory, node: statement.node.clone(), number })
    }

    /// Does something in one step, unless the statement was killed or its server has died.
    pub fn step<T>(&self, work: impl FnOnce(&mut World) -> Result<T, Kind>) -> Result<T, Kind> {
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

impl MemoryWarehouse {
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

    /// A deed of one step.
    pub(super) async fn deed(
        &self,
        node: &Node,
        (deed, of): (&'static str, String),
        doing: String,
        work: impl FnOnce(&mut World, &str) -> Result<(), Kind> + Send + 'static,
    ) -> Result<(), Error> {
        let address = node.address();
        let statement = Statement { node: address.clone(), deed, of, query_id: String::new() };
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
        // Those who wait are told in the order in which they came.
        let mut cut = std::pin::pin!(self.lines.notified());
        let mut fate = self.faults().fate(&statement);
        let loses_reply = fate.loses_reply;
        let (answer, mut answered) = oneshot::channel();
        let memory = self.clone();
        tokio::spawn(async move {
            fate.arrive().await;
            yield_now().await;
            let done = match Arrived::arrive(memory, &statement) {
                Ok(arrived) => {
                    let done = work.work(&arrived, &answer).await;
                    arrived.leave();
                    done
                }
                Err(refusal) => Err(refusal),
            };
            // Nobody may be waiting any more.
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
        let (node, deed) = match transfer.way {
            Way::Push => (&transfer.from, "push"),
            Way::Pull => (&transfer.to, "pull"),
            Way::Relay => (&transfer.to, "relay"),
        };
        let (of, query_id) = (transfer.into.to_string(), transfer.query_id.clone());
        let statement = Statement { node: node.address(), deed, of, query_id };
        let doing = format!(
            "cannot {deed} rows of {} to {of} of {}",
            transfer.rows.relation.table,
            transfer.to,
            of = statement.of
        );
        self.run(statement, doing, Moving(transfer)).await
    }
}

/// Where the answer goes; closed when nobody waits for it.
type Asker = oneshot::Sender<Result<(), Kind>>;

/// What a statement does once it has arrived.
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
    /// Reads all rows at one instant, and writes them block by block. What was written stays when it fails.
    async fn work(self, arrived: &Arrived, asker: &Asker) -> Result<(), Kind> {
        let transfer = &self.0;
        let read = || {
            let of = transfer.rows.relation.table.to_string();
            let (node, query_id) = (transfer.from.address(), transfer.reading_id());
            Arrived::arrive(arrived.memory.clone(), &Statement { node, deed: "read", of, query_id })
        };
        let reading = if transfer.way == Way::Relay { Some(read()?) } else { None };
        let done = self.write(arrived, reading.as_ref(), asker).await;
        if let Some(reading) = reading {
            reading.leave();
        }
        done
    }
}

impl Moving {
    async fn write(&self, arrived: &Arrived, reading: Option<&Arrived>, asker: &Asker) -> Result<(), Kind> {
        let transfer = &self.0;
        let to = transfer.to.address();
        let (rows, block) = arrived.step(|world| {
            if transfer.way == Way::Push {
                world.may_write(&transfer.from.address())?;
            }
            world.may_write(&to)?;
            Ok((selected(world, transfer)?, world.block_rows))
        })?;
        let deduplicate =
            deduplicates(if transfer.way == Way::Push { &transfer.at_source } else { &transfer.at_target });
        for rows in rows.chunks(block) {
            yield_now().await;
            if let Some(reading) = reading {
                reading.step(|_| Ok(()))?;
            }
            arrived.step(|world| {
                connected(world, transfer)?;
                world.insert(&to, &transfer.into, rows.to_vec(), deduplicate)?;
                let server = world.servers.get_mut(&arrived.node);
                if let Some(query) = server.and_then(|server| server.queries.get_mut(&arrived.number)) {
                    query.rows += rows.len() as u64;
                }
                Ok(())
            })?;
            if reading.is_some() && asker.is_closed() {
                return Err(Kind::Network("the sender has gone".into()));
            }
        }
        yield_now().await;
        arrived.step(|_| Ok(()))
    }
}

/// Whether the rows can travel now.
fn connected(world: &mut World, transfer: &Transfer) -> Result<(), Kind> {
    let (from, to) = (transfer.from.address(), transfer.to.address());
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
        Way::Relay => world.server(&from).map(drop).and_then(|()| world.server(&to).map(drop)),
    }
}

/// The rows of a transfer as the target stores them.
fn selected(world: &mut World, transfer: &Transfer) -> Result<Vec<Row>, Kind> {
    connected(world, transfer)?;
    let (from, to) = (transfer.from.address(), transfer.to.address());
    // A server that finds no table at another one tells of attempts to connect (measured on 18.16).
    let source = world.table(&from, &transfer.rows.relation.table);
    let source = if transfer.way == Way::Pull { source.map_err(|_| refused_by(&from))? } else { source? };
    let chooser = Chooser::new(&transfer.rows)?;
    chooser.types(source)?;
    let values = transfer.values.iter().map(|text| super::expression::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let target = world.table(&to, &transfer.into);
    let target = if transfer.way == Way::Push { target.map_err(|_| refused_by(&to))? } else { target? };
    let names: Vec<String> = target.stored().map(|column| column.name.clone()).collect();
    if names.len() != values.len() || (transfer.way != Way::Push && names != transfer.columns) {
        return Err(refused(20, "Number of columns doesn't match"));
    }
    let mut rows = Vec::new();
    for row in world.rows(source) {
        let Some(row) = chooser.choose(source.named(&row)?)? else { continue };
        let given = names.iter().zip(&values).map(|(name, ast)| Ok((name.clone(), over(ast, &row)?)));
        rows.push(target.row(given.collect::<Result<_, Kind>>()?)?);
    }
    Ok(rows)
}
