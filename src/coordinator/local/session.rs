//! A session as the worker sees it. Its requests run on a thread of its own, in the order in which they are made.

use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::super::{Change, Error, Op, Session, Stored, check_commit, path};
use super::session_thread::{Call, SessionThread, error};
use super::state_dir::{FileMark, StateDir};
use super::store::{StoreError, session_name};

/// The longest wait for a closing session to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) struct LocalSession {
    place: String,
    id: String,
    /// Requests to the thread. Dropping the sender ends the thread's session.
    calls: Sender<Call>,
    /// Why the session ended, once it has.
    lost: watch::Receiver<Option<Error>>,
}

impl LocalSession {
    /// Begins a session. If the future is dropped, a session that was opened nevertheless is closed.
    pub(crate) async fn begin(
        state_dir: StateDir,
        frozen: Duration,
        known: Option<FileMark>,
        limit: Duration,
    ) -> Result<(Self, FileMark), Error> {
        let place = state_dir.place();
        let unreachable = |why: String| Error::Unreachable { place: place.clone(), why };
        let (calls, requests) = mpsc::channel();
        let (end_sender, lost) = watch::channel(None);
        let (begun, beginning) = oneshot::channel();
        let at = place.clone();
        std::thread::Builder::new()
            .name("coordination".into())
            .spawn(move || {
                let thread = match SessionThread::open(state_dir, frozen, known) {
                    Ok(thread) => thread,
                    Err(error) => return drop(begun.send(Err(error))),
                };
                // An error means that the caller is gone; then no requests come, and the thread ends at once.
                let _ = begun.send(Ok((thread.number(), thread.mark())));
                let end = match thread.work(&requests) {
                    Ok(()) => Error::SessionLost { place: at.clone() },
                    Err(StoreError::Over) => {
                        tracing::warn!("the session in {at} is over: others took this process for frozen or dead");
                        Error::SessionLost { place: at.clone() }
                    }
                    // The caller that waits for the session reports the reason.
                    Err(other) => error(&at, "/", other),
                };
                end_sender.send_replace(Some(end));
            })
            .map_err(|error| unreachable(format!("cannot start a thread: {error}")))?;
        let (number, mark) = match timeout(limit, beginning).await {
            Ok(Ok(begun)) => begun?,
            Ok(Err(_)) => return Err(unreachable("its thread ended".into())),
            Err(_) => return Err(unreachable(format!("not opened within {} s", limit.as_secs()))),
        };
        Ok((Self { place, id: session_name(number), calls, lost }, mark))
    }

    /// Returns why the session ended; for an open session, the error that its end would give.
    fn over(&self) -> Error {
        self.lost.borrow().clone().unwrap_or_else(|| Error::SessionLost { place: self.place.clone() })
    }

    /// Returns the thread's answer. If an error ends the session, the answer is the session's end, once everybody can
    /// see it.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut SessionThread) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Result<T, StoreError>, Error> {
        let (answer, answered) = oneshot::channel();
        let request = move |thread: &mut SessionThread| match ask(thread) {
            Err(end @ (StoreError::Over | StoreError::FileProblem(_))) => Err(end),
            other => {
                // The caller may be gone.
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
        ask: impl FnOnce(&mut SessionThread, &str) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        path::check(&self.place, path)?;
        let asked = path.to_owned();
        self.ask(move |thread| ask(thread, &asked)).await?.map_err(|failure| error(&self.place, path, failure))
    }

    fn change(&self, fired: oneshot::Receiver<()>) -> Change {
        let (lost, place) = (self.lost.clone(), self.place.clone());
        Change::new(async move { if fired.await.is_ok() { Ok(()) } else { Err(ended(lost, place).await) } })
    }
}

/// Waits until a session ends, and returns the reason.
async fn ended(mut lost: watch::Receiver<Option<Error>>, place: String) -> Error {
    // An error means that the thread is gone, so the session has ended too.
    let why = lost.wait_for(Option::is_some).await.map(|why| why.clone());
    why.ok().flatten().unwrap_or(Error::SessionLost { place })
}

#[async_trait]
impl Session for LocalSession {
    fn id(&self) -> String {
        self.id.clone()
    }

    async fn get(&self, path: &str) -> Result<Option<Stored>, Error> {
        self.read(path, SessionThread::get).await
    }

    async fn get_many(&self, paths: &[String]) -> Result<Vec<Option<Stored>>, Error> {
        paths.iter().try_for_each(|path| path::check(&self.place, path))?;
        let asked = paths.to_vec();
        let first = paths.first().map_or("/", String::as_str);
        self.ask(move |thread| thread.get_many(&asked)).await?.map_err(|failure| error(&self.place, first, failure))
    }

    async fn children(&self, path: &str) -> Result<Option<Vec<String>>, Error> {
        self.read(path, SessionThread::children).await
    }

    async fn watch(&self, path: &str) -> Result<(Option<Stored>, Change), Error> {
        let (found, fired) = self.read(path, SessionThread::watch).await?;
        Ok((found, self.change(fired)))
    }

    async fn watch_children(&self, path: &str) -> Result<(Option<Vec<String>>, Change), Error> {
        let (found, fired) = self.read(path, SessionThread::watch_children).await?;
        Ok((found, self.change(fired)))
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<(), Error> {
        check_commit(&self.place, &ops, 0)?;
        if ops.is_empty() {
            return if self.is_lost() { Err(self.over()) } else { Ok(()) };
        }
        let paths: Vec<String> = ops.iter().map(|op| op.path().to_owned()).collect();
        let done = self.ask(move |thread| thread.commit(&ops)).await?;
        done.map_err(|failure| {
            let at = match failure {
                StoreError::Conflict(at, _) | StoreError::Refused(at, _) => at,
                _ => 0,
            };
            error(&self.place, paths.get(at).map_or("/", String::as_str), failure)
        })
    }

    async fn lost(&self) -> Error {
        ended(self.lost.clone(), self.place.clone()).await
    }

    fn is_lost(&self) -> bool {
        self.lost.borrow().is_some() || self.lost.has_changed().is_err()
    }

    async fn close(&self) {
        // An error means that the session has ended already.
        let _ = self.calls.send(Call::Close);
        let _ = timeout(CLOSE_TIMEOUT, self.lost()).await;
    }
}
