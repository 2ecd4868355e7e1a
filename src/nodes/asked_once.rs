//! Answers of servers that many callers share, so that each question is sent once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use crate::client::Error;

/// Answers by the name of their question. Callers that ask at the same time share one question; after an error the next caller asks again.
pub(crate) struct AskedOnce<T>(Mutex<HashMap<String, Asking<T>>>);

type Asking<T> = Shared<BoxFuture<'static, Result<Arc<T>, Error>>>;

impl<T: Send + Sync + 'static> AskedOnce<T> {
    /// Returns the answer to a question. Asks the question if there is no answer yet.
    pub(crate) async fn get(
        &self,
        question: String,
        ask: impl FnOnce() -> BoxFuture<'static, Result<T, Error>>,
    ) -> Result<Arc<T>, Error> {
        let ask = || ask().map(|answer| answer.map(Arc::new)).boxed().shared();
        let asking = self.all().entry(question.clone()).or_insert_with(ask).clone();
        let answer = asking.clone().await;
        if answer.is_err() {
            let mut all = self.all();
            if all.get(&question).is_some_and(|known| known.ptr_eq(&asking)) {
                all.remove(&question);
            }
        }
        answer
    }

    /// Returns the answer if there is one already. Asks nothing.
    pub(crate) fn known(&self, question: &str) -> Option<Arc<T>> {
        self.all().get(question)?.peek()?.clone().ok()
    }

    /// Forgets an answer. The next caller asks again.
    pub(crate) fn forget(&self, question: &str) {
        self.all().remove(question);
    }

    /// Forgets the answers to all questions that match.
    pub(crate) fn forget_all(&self, matches: impl Fn(&str) -> bool) {
        self.all().retain(|question, _| !matches(question));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Asking<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for AskedOnce<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}
