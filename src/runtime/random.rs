//! All randomness: names, jitter, and the faults of `--copy-fault-probability` and `--move-fault-probability`. A simulation with the
//! same seed gives the same run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A source of randomness. Clones share it.
#[derive(Debug, Clone)]
pub struct Randomness(Arc<Mutex<StdRng>>);

impl Randomness {
    /// Creates a source with a seed of the operating system.
    pub fn fair() -> Self {
        Self::seeded(rand::rng().random())
    }

    /// Creates a source that gives the same values for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Returns a unique text of this number of hexadecimal digits, at most 16.
    pub(crate) fn unique(&self, digits: u32) -> String {
        let bits = 4 * digits.clamp(1, 16);
        let number = self.with_generator(|rng| rng.random::<u64>()) >> (64 - bits);
        format!("{number:0width$x}", width = digits as usize)
    }

    /// Returns a time between a half and the whole of a pause, so that workers that wait for the same thing do not retry together.
    pub(crate) fn jitter(&self, pause: Duration) -> Duration {
        pause.mul_f64(self.with_generator(|rng| rng.random_range(0.5..1.0)))
    }

    /// Decides whether an event of this probability happens.
    pub(crate) fn strikes(&self, probability: f64) -> bool {
        probability > 0.0 && self.with_generator(|rng| rng.random_bool(probability.min(1.0)))
    }

    fn with_generator<T>(&self, action: impl FnOnce(&mut StdRng) -> T) -> T {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_values_and_a_name_has_its_length() {
        let (one, other) = (Randomness::seeded(1), Randomness::seeded(1));
        assert_eq!(one.unique(12), other.unique(12));
        assert_ne!(one.unique(12), one.unique(12));
        assert_eq!((one.unique(4).len(), one.unique(16).len()), (4, 16));
        let pause = one.jitter(Duration::from_secs(10));
        assert!((5..=10).contains(&pause.as_secs()), "{pause:?}");
        assert!(!one.strikes(0.0) && one.strikes(1.0));
    }
}
