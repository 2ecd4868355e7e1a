//! Joins questions of one kind about many names on one server into one statement.
//!
//! Only one statement of a kind runs at a time. Callers that ask meanwhile wait, and their names go into the next
//! statement. A thousand tables therefore cost a few statements if all callers ask at once, and one table costs one.
//!
//! # Guarantees
//! - An answer is never older than its question: no caller joins a statement that was already sent.
//! - A statement asks about at most [`MOST_NAMES`] names, of [`MOST_BYTES`] together.
//! - A statement continues when its callers are gone, because others may have joined.
//! - An error concerns the whole statement. If the server returned it, one name may be the cause for all: the caller
//!   then asks about its own name alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use super::super::{Error, Kind};
use crate::model::Node;

/// The largest number of names in a statement. The answer about all of them is held in memory.
const MOST_NAMES: usize = 250;
/// The largest number of bytes of all names in a statement. A server accepts statements of 256 KiB.
const MOST_BYTES: usize = 64 << 10;

/// A server's answers by name; names without an answer are left out.
pub(super) type Found<V> = BTreeMap<String, V>;
type Answer<V> = Shared<BoxFuture<'static, Result<Arc<Found<V>>, Error>>>;

/// Questions with answers of one type, by question and server.
pub(super) struct JoinedQuestions<V>(Arc<Mutex<HashMap<String, Arc<Queue<V>>>>>);

/// A queue of questions, of which one is in progress at a time.
struct Queue<V> {
    turn: tokio::sync::Mutex<()>,
    /// The round that is not sent yet.
    next: Mutex<Option<Round<V>>>,
}

/// The callers that get one answer.
struct Round<V> {
    names: Arc<Mutex<Names>>,
    answer: Answer<V>,
}

/// The names of a round.
#[derive(Default)]
struct Names {
    all: BTreeSet<String>,
    bytes: usize,
    is_sent: bool,
}

impl Names {
    /// Adds a name, if there is room for it.
    fn take(&mut self, name: &str) -> bool {
        if self.is_sent {
            return false;
        }
        if self.all.contains(name) {
            return true;
        }
        let fits = self.all.len() < MOST_NAMES && self.bytes + name.len() <= MOST_BYTES;
        if fits || self.all.is_empty() {
            self.bytes += name.len();
            self.all.insert(name.to_owned());
            return true;
        }
        false
    }

    fn send(&mut self) -> Vec<String> {
        self.is_sent = true;
        std::mem::take(&mut self.all).into_iter().collect()
    }
}

impl<V> Default for JoinedQuestions<V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<V> Clone for JoinedQuestions<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V: Clone + Send + Sync + 'static> JoinedQuestions<V> {
    /// Asks a node about a name, by a statement shared with other callers of the same `question`. `ask` sends it for
    /// several names.
    pub(super) async fn ask<F>(
        &self,
        node: &Node,
        question: &str,
        name: &str,
        ask: impl FnOnce(Vec<String>) -> F + Send + 'static,
    ) -> Result<Option<V>, Error>
    where
        F: Future<Output = Result<Found<V>, Error>> + Send + 'static,
    {
        let key = format!("{}@{} {question}", node.user, node.url());
        let queue = locked(&self.0).entry(key).or_default().clone();
        let answer = queue.join(node, name, ask);
        Ok(answer.await?.get(name).cloned())
    }
}

impl<V> Default for Queue<V> {
    fn default() -> Self {
        Self { turn: tokio::sync::Mutex::default(), next: Mutex::default() }
    }
}

impl<V: Send + Sync + 'static> Queue<V> {
    /// Joins the waiting round, or starts one.
    fn join<F>(
        self: &Arc<Self>,
        node: &Node,
        name: &str,
        ask: impl FnOnce(Vec<String>) -> F + Send + 'static,
    ) -> Answer<V>
    where
        F: Future<Output = Result<Found<V>, Error>> + Send + 'static,
    {
        let mut next = locked(&self.next);
        if let Some(round) = next.as_ref().filter(|round| locked(&round.names).take(name)) {
            return round.answer.clone();
        }
        let names = Arc::new(Mutex::new(Names::default()));
        locked(&names).take(name);
        let (queue, asked, node) = (self.clone(), names.clone(), node.to_string());
        let task = tokio::spawn(async move {
            let _turn = queue.turn.lock().await;
            let names = locked(&asked).send();
            // Only the callers that wait for an answer keep it.
            let _sent = locked(&queue.next).take_if(|round| Arc::ptr_eq(&round.names, &asked));
            ask(names).await.map(Arc::new)
        });
        let answer = async move {
            task.await.unwrap_or_else(|stopped| {
                let kind = Kind::Network(stopped.to_string());
                Err(Error { node, doing: "cannot ask".into(), kind })
            })
        };
        let answer = answer.boxed().shared();
        *next = Some(Round { names, answer: answer.clone() });
        answer
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Asks about names on a server that answers as often as it has permits, and records the questions.
    struct Server {
        questions: JoinedQuestions<usize>,
        asked: Arc<Mutex<Vec<Vec<String>>>>,
        answers: Arc<Semaphore>,
    }

    impl Server {
        fn new() -> Self {
            Self { questions: JoinedQuestions::default(), asked: Arc::default(), answers: Arc::new(Semaphore::new(0)) }
        }

        async fn ask(&self, user: &str, name: &str) -> Result<Option<usize>, Error> {
            let (asked, answers) = (self.asked.clone(), self.answers.clone());
            let node = Node { user: user.into(), ..Node::new("h") };
            let ask = move |names: Vec<String>| async move {
                locked(&asked).push(names.clone());
                answers.acquire().await.unwrap().forget();
                if names.iter().any(|name| name == "bad") {
                    let kind = Kind::Server { code: 60, message: "no".into() };
                    return Err(Error { node: "h".into(), doing: "cannot".into(), kind });
                }
                Ok(names.into_iter().filter(|name| name != "absent").map(|name| (name.clone(), name.len())).collect())
            };
            self.questions.ask(&node, "lengths", name, ask).await
        }

        fn asked(&self) -> Vec<usize> {
            locked(&self.asked).iter().map(Vec::len).collect()
        }
    }

    #[tokio::test]
    async fn a_thousand_questions_are_joined_into_few_statements_and_each_gets_its_answer() {
        let server = Server::new();
        server.answers.add_permits(1000);
        let names: Vec<String> = (0..1000).map(|number| "x".repeat(number % 7) + &number.to_string()).collect();
        let answers = join_all(names.iter().map(|name| server.ask("u", name))).await;
        for (name, answer) in names.iter().zip(answers) {
            assert_eq!(answer.unwrap(), Some(name.len()));
        }
        let asked = server.asked();
        assert!(asked.len() <= 5, "{asked:?}");
        assert!(asked.iter().all(|names| *names <= MOST_NAMES) && asked.iter().sum::<usize>() == 1000);
    }

    #[tokio::test]
    async fn a_question_joins_neither_a_sent_statement_nor_one_of_another_account() {
        let server = Server::new();
        let mut first = Box::pin(server.ask("u", "a"));
        while server.asked().is_empty() {
            assert!((&mut first).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        // The same name: its answer may have changed by now.
        let (mut second, mut third) = (Box::pin(server.ask("u", "a")), Box::pin(server.ask("u", "absent")));
        let mut other = Box::pin(server.ask("v", "a"));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        assert!((&mut other).now_or_never().is_none());
        server.answers.add_permits(3);
        assert_eq!(first.await.unwrap(), Some(1));
        assert_eq!((second.await.unwrap(), third.await.unwrap(), other.await.unwrap()), (Some(1), None, Some(1)));
        assert_eq!(server.asked().len(), 3);
    }

    #[tokio::test]
    async fn a_cancelled_question_does_not_block_the_others_of_its_statement() {
        let server = Server::new();
        let mut first = Box::pin(server.ask("u", "a"));
        let mut second = Box::pin(server.ask("u", "bad"));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        drop(first);
        server.answers.add_permits(3);
        assert_eq!(second.await.unwrap_err().code(), Some(60));
        assert_eq!(server.ask("u", "b").await.unwrap(), Some(1));
    }

    #[test]
    fn a_joined_statement_has_a_limited_size() {
        let mut names = Names::default();
        let long = "n".repeat(MOST_BYTES);
        assert!(names.take(&long) && names.take(&long) && !names.take("more"));
        let mut names = Names::default();
        assert!((0..MOST_NAMES).all(|number| names.take(&number.to_string())) && !names.take("more"));
        assert_eq!(names.send().len(), MOST_NAMES);
        assert!(!names.take("1"));
    }
}
