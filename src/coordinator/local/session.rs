//! One session as the worker sees it: requests go to its desk, on a thread of its own, in the order in which they are made.

use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::super::{Change, Error, Op, Session, Stored, check_commit, path};
use super::desk::{Call, Desk, error};
use super::home::Home;
use super::home::Mark;
use super::store::{Fault, session_name};

/// The longest wait for the end of a session that was closed.
const GOODBYE: Duration = Duration::from_secs(3);

pub(super) struct LocalSession {
    place: String,
    id: String,
    /// Dropped with the session, which tells the desk.
    calls: Sender<Call>,
    /// Why it is over, once it is.
    lost: watch::Receiver<Option<Error>>,
}

impl LocalSession {
    /// Begins a session. Dropping the future gives it back when it was made all the same.
    pub async fn begin(
        home: Home,
        frozen: Duration,
        known: Option<Mark>,
        limit: Duration,
    ) -> Result<(Self, Mark), Error> {
        let place = home.place();
        let unreachable = |why: String| Error::Unreachable { place: place.clone(), why };
        let (calls, requests) = mpsc::channel();
        let (told, lost) = watch::channel(None);
        let (begun, beginning) = oneshot::channel();
        let at = place.clone();
        std::thread::Builder::new()
            .name("coordination".into())
            .spawn(move || {
                let desk = match Desk::open(home, frozen, known) {
                    Ok(desk) => desk,
                    Err(error) => return drop(begun.send(Err(error))),
                };
                // Nobody waits any more: then nobody calls either, and the work ends at once.
                let _ = begun.send(Ok((desk.number(), desk.mark())));
                let end = match desk.work(&requests) {
                    Ok(()) => Error::SessionLost { place: at.clone() },
                    Err(Fault::Over) => {
                        tracing::warn!("the session in {at} is over: others took this process for frozen or dead");
                        Error::SessionLost { place: at.clone() }
                    }
                    // The code that waits for the session reports the reason.
                    Err(other) => error(&at, "/", other),
                };
                told.send_replace(Some(end));
            })
            .map_err(|error| unreachable(format!("cannot start a thread: {error}")))?;
        let (number, mark) = match timeout(limit, beginning).await {
            Ok(Ok(begun)) => begun?,
            Ok(Err(_)) => return Err(unreachable("its thread ended".into())),
            Err(_) => return Err(unreachable(format!("not opened within {} s", limit.as_secs()))),
        };
        Ok((Self { place, id: session_name(number), calls, lost }, mark))
    }

    /// Why it is over; of a session that goes on, what its end would be.
    fn over(&self) -> Error {
        self.lost.borrow().clone().unwrap_or_else(|| Error::SessionLost { place: self.place.clone() })
    }

    /// The desk's answer. A fault that ends the session is told as its end, after which everybody knows it.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Desk) -> Result<T, Fault> + Send + 'static,
    ) -> Result<Result<T, Fault>, Error> {
        let (answer, answered) = oneshot::channel();
        let request = move |desk: &mut Desk| match ask(desk) {
            Err(end @ (Fault::Over | Fault::Broken(_))) => Err(end),
            other => {
                // Whoever asked may have gone.
                let _ = answer.send(other);
                Ok(())
            }
        };
        if self.calls.send(Call::Do(Box::new(request))).is_ok()
            && let Ok(answer) = answered.await
        {
            return Ok(answer);
        }
        Err(self.lost().await)
    }

    async fn read<T: Send + 'static>(
        &self,
        path: &str,
        ask: impl FnOnce(&mut Desk, &str) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        path::check(&self.place, path)?;
        let asked = path.to_owned();
        self.ask(move |desk| ask(desk, &asked)).await?.map_err(|fault| error(&self.place, path, fault))
    }

    fn change(&self, told: oneshot::Receiver<()>) -> Change {
        let (lost, place) = (self.lost.clone(), self.place.clone());
        Change::new(async move { if told.await.is_ok() { Ok(()) } else { Err(ended(lost, place).await) } })
    }
}

/// Waits until a session is over, and says why.
async fn ended(mut lost: watch::Receiver<Option<Error>>, place: String) -> Error {
    // An error means that the thread is gone: over as well.
    let why = lost.wait_for(Option::is_some).await.map(|why| why.clone());
    why.ok().flatten().unwrap_or(Error::SessionLost { place })
}

#[async_trait]
impl Session for LocalSession {
    fn id(&self) -> String {
        self.id.clone()
    }

    async fn get(&self, path: &str) -> Result<Option<Stored>, Error> {
        self.read(path, Desk::get).await
    }

    async fn get_many(&self, paths: &[String]) -> Result<Vec<Option<Stored>>, Error> {
        paths.iter().try_for_each(|path| path::check(&self.place, path))?;
        let asked = paths.to_vec();
        let first = paths.first().map_or("/", String::as_str);
        self.ask(move |desk| desk.get_many(&asked)).await?.map_err(|fault| error(&self.place, first, fault))
    }

    async fn children(&self, path: &str) -> Result<Option<Vec<String>>, Error> {
        self.read(path, Desk::children).await
    }

    async fn watch(&self, path: &str) -> Result<(Option<Stored>, Change), Error> {
        let (found, told) = self.read(path, Desk::watch).await?;
        Ok((found, self.change(told)))
    }

    async fn watch_children(&self, path: &str) -> Result<(Option<Vec<String>>, Change), Error> {
        let (found, told) = self.read(path, Desk::watch_children).await?;
        Ok((found, self.change(told)))
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<(), Error> {
        check_commit(&self.place, &ops, 0)?;
        if ops.is_empty() {
            return if self.is_lost() { Err(self.over()) } else { Ok(()) };
        }
        let paths: Vec<String> = ops.iter().map(|op| op.path().to_owned()).collect();
        let done = self.ask(move |desk| desk.commit(&ops)).await?;
        done.map_err(|fault| {
            let at = match fault {
                Fault::Conflict(at, _) | Fault::Refused(at, _) => at,
                _ => 0,
            };
            error(&self.place, paths.get(at).map_or("/", String::as_str), fault)
        })
    }

    async fn lost(&self) -> Error {
        ended(self.lost.clone(), self.place.clone()).await
    }

    fn is_lost(&self) -> bool {
        self.lost.borrow().is_some() || self.lost.has_changed().is_err()
    }

    async fn close(&self) {
        // An error means that it is over already.
        let _ = self.calls.send(Call::Close);
        let _ = timeout(GOODBYE, self.lost()).await;
    }
}
