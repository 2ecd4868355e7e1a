//! Faults on request: statements that arrive late, and replies that are lost.

use std::fmt;

use tokio::sync::watch;

use super::MemoryServerClient;

/// A statement that changes something, as the double sees it come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The node that gets it.
    pub node: String,
    /// The method of the door, or the way of a transfer: `push`, `pull`, `relay`, `place`, `drop_table`, …
    pub deed: &'static str,
    /// What it is about: the table that changes, or the database.
    pub of: String,
    /// Its id, where it has one.
    pub query_id: String,
}

type Matcher = Box<dyn Fn(&Statement) -> bool + Send>;

struct Hold {
    matches: Matcher,
    arrived: watch::Sender<bool>,
    released: watch::Receiver<bool>,
}

#[derive(Default)]
pub(super) struct Faults {
    holds: Vec<Hold>,
    lost: Vec<Matcher>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} holds, {} lost replies", self.holds.len(), self.lost.len())
    }
}

/// What is to happen to a statement.
pub(super) struct Fate {
    hold: Option<Hold>,
    pub loses_reply: bool,
}

impl Fate {
    /// Waits until the statement may arrive.
    pub async fn arrive(&mut self) {
        if let Some(mut hold) = self.hold.take() {
            hold.arrived.send_replace(true);
            // Whoever drops the other end has released it too.
            let _ = hold.released.wait_for(|released| *released).await;
        }
    }
}

impl Faults {
    /// Each fault hits one statement.
    pub fn fate(&mut self, statement: &Statement) -> Fate {
        let hold = self.holds.iter().position(|hold| (hold.matches)(statement)).map(|at| self.holds.remove(at));
        let lost = self.lost.iter().position(|matches| matches(statement)).map(|at| self.lost.remove(at));
        Fate { hold, loses_reply: lost.is_some() }
    }
}

/// A statement that is, or will be, on its way for as long as this lives.
#[derive(Debug)]
pub struct Held {
    sent: watch::Receiver<bool>,
    release: watch::Sender<bool>,
}

impl Held {
    /// Waits until there is a statement to hold. Cancellation is harmless.
    pub async fn sent(&mut self) {
        let _ = self.sent.wait_for(|sent| *sent).await;
    }

    /// Lets it arrive, whatever became of its sender.
    pub fn release(self) {
        self.release.send_replace(true);
    }
}

impl MemoryServerClient {
    /// Holds the next statement that matches until it is released: it reaches its server only then. Meanwhile the server
    /// knows nothing of it, so it cannot be killed, and it arrives even at a server that was cut off or restarted.
    pub fn hold(&self, matches: impl Fn(&Statement) -> bool + Send + 'static) -> Held {
        let (arrived, sent) = watch::channel(false);
        let (release, released) = watch::channel(false);
        self.faults().holds.push(Hold { matches: Box::new(matches), arrived, released });
        Held { sent, release }
    }

    /// The next statement that matches is done, and its sender gets a network error.
    pub fn lose_next_reply(&self, matches: impl Fn(&Statement) -> bool + Send + 'static) {
        self.faults().lost.push(Box::new(matches));
    }
}
