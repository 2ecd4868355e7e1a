//! Faults on request: late statements and lost replies.

use std::fmt;

use tokio::sync::watch;

use super::MemoryServerClient;

/// A statement that changes something, as it arrives at the double.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The node that gets it.
    pub node: String,
    /// The method of the client, or the transfer: `push`, `pull`, `relay`, `place`, `drop_table`, …
    pub operation: &'static str,
    /// The table that changes, or the database.
    pub subject: String,
    /// The id of the statement, if it has one.
    pub(crate) query_id: String,
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

/// The faults for one statement.
pub(super) struct StatementFaults {
    hold: Option<Hold>,
    pub(crate) loses_reply: bool,
}

impl StatementFaults {
    /// Waits until the statement may arrive.
    pub(crate) async fn arrive(&mut self) {
        if let Some(mut hold) = self.hold.take() {
            hold.arrived.send_replace(true);
            // If the other end was dropped, the statement is released too.
            let _ = hold.released.wait_for(|released| *released).await;
        }
    }
}

impl Faults {
    /// Returns the faults for a statement. Each fault hits one statement.
    pub(crate) fn faults(&mut self, statement: &Statement) -> StatementFaults {
        let hold = self.holds.iter().position(|hold| (hold.matches)(statement)).map(|at| self.holds.remove(at));
        let lost = self.lost.iter().position(|matches| matches(statement)).map(|at| self.lost.remove(at));
        StatementFaults { hold, loses_reply: lost.is_some() }
    }
}

/// A hold on a statement. The statement does not arrive while this lives.
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

    /// Lets the statement arrive, even if its sender is gone.
    pub fn release(self) {
        self.release.send_replace(true);
    }
}

impl MemoryServerClient {
    /// Holds the next statement that matches: it reaches its server only after its release. Until then the server
    /// does not know it, so it cannot be killed, and it arrives even at a server that was cut off or restarted.
    pub fn hold(&self, matches: impl Fn(&Statement) -> bool + Send + 'static) -> Held {
        let (arrived, sent) = watch::channel(false);
        let (release, released) = watch::channel(false);
        self.faults().holds.push(Hold { matches: Box::new(matches), arrived, released });
        Held { sent, release }
    }

    /// Executes the next statement that matches, and returns a network error to its sender.
    pub fn lose_next_reply(&self, matches: impl Fn(&Statement) -> bool + Send + 'static) {
        self.faults().lost.push(Box::new(matches));
    }
}
