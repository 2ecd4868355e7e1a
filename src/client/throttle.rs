//! A bandwidth limit, in bytes a second.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How much may pass at once after a pause: this time at full rate. It is short enough that a server does not notice
/// it.
const BURST: Duration = Duration::from_millis(100);

/// A bandwidth limit in bytes a second, which can be changed at any time. It delays its callers in the order of
/// arrival.
///
/// It is a token bucket, stored as the instant at which all past bytes are paid for. (`governor` has a fixed rate,
/// and refuses more at once than its burst; here one block of rows may be worth many seconds.)
#[derive(Debug, Default)]
pub struct Throttle {
    state: Mutex<State>,
    /// Notified when the rate changes: waiting callers may then be due.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    rate: Option<NonZeroU64>,
    paid: Option<Instant>,
}

impl State {
    /// Counts some bytes, and returns when they may pass.
    fn take(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        let cost = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        // A pause is worth no more than a burst.
        let least = now.checked_sub(BURST).unwrap_or(now);
        let paid = self.paid.map_or(least, |paid| paid.max(least)) + cost;
        self.paid = Some(paid);
        (paid > now).then_some(paid)
    }

    /// Sets the rate. Bytes that passed at the old rate count as paid.
    fn set(&mut self, rate: Option<NonZeroU64>) -> bool {
        let changed = self.rate != rate;
        if changed {
            *self = Self { rate, paid: self.paid.filter(|_| self.rate.is_some()).map(|_| Instant::now()) };
        }
        changed
    }
}

impl Throttle {
    fn state<T>(&self, ask: impl FnOnce(&mut State) -> T) -> T {
        ask(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the limit in bytes a second; `None` means no limit. Returns whether it differs from the old one.
    pub(crate) fn set_rate(&self, rate: Option<NonZeroU64>) -> bool {
        let changed = self.state(|state| state.set(rate));
        if changed {
            self.changed.notify_waiters();
        }
        changed
    }

    /// Waits until this many bytes may pass. If the rate is changed, waiting callers pass at once.
    ///
    /// Cancellation: the bytes count as passed.
    pub(crate) async fn pass(&self, bytes: usize) {
        // Before the rate is read, so that no change is missed.
        let changed = self.changed.notified();
        let Some(due) = self.state(|state| state.take(bytes, Instant::now())) else { return };
        tokio::select! {
            () = sleep_until(due) => {}
            () = changed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use futures::future::join_all;

    use super::*;

    fn throttle(rate: u64) -> Throttle {
        let throttle = Throttle::default();
        throttle.set_rate(NonZeroU64::new(rate));
        throttle
    }

    #[tokio::test(start_paused = true)]
    async fn all_transfers_share_the_rate() {
        let throttle = throttle(1_000_000);
        let begun = Instant::now();
        join_all([10_000; 3].map(async |bytes| {
            for _ in 0..100 {
                throttle.pass(bytes).await;
            }
        }))
        .await;
        let took = begun.elapsed().as_secs_f64();
        assert!((2.89..2.92).contains(&took), "3 MB at 1 MB/s, less a burst, took {took} s");
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_allows_no_more_than_one_burst() {
        let throttle = throttle(1000);
        throttle.pass(100).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let begun = Instant::now();
        throttle.pass(2000).await;
        assert!(begun.elapsed() >= Duration::from_millis(1899), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_rate_applies_at_once() {
        let throttle = Arc::new(throttle(1));
        let begun = Instant::now();
        let waiting = tokio::spawn({
            let throttle = throttle.clone();
            async move { throttle.pass(1_000_000).await }
        });
        tokio::task::yield_now().await;
        assert!(throttle.set_rate(NonZeroU64::new(1000)) && !throttle.set_rate(NonZeroU64::new(1000)));
        waiting.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        throttle.pass(2000).await;
        assert!((1.9..2.1).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
        throttle.set_rate(None);
        assert!(throttle.pass(usize::MAX).now_or_never().is_some());
    }
}
