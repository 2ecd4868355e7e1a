//! Chance, in one place: names, jitter, and the faults that a person wished for. A simulation gives a seed and has the same
//! run twice.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A source of chance. Clones share it.
#[derive(Debug, Clone)]
pub struct Randomness(Arc<Mutex<StdRng>>);

impl Randomness {
    /// As the operating system throws them.
    pub fn fair() -> Self {
        Self::seeded(rand::rng().random())
    }

    /// The same throws for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Something that nobody else gets: so many hexadecimal digits, 16 at the most.
    pub fn unique(&self, digits: u32) -> String {
        let bits = 4 * digits.clamp(1, 16);
        let number = self.throw(|rng| rng.random::<u64>()) >> (64 - bits);
        format!("{number:0width$x}", width = digits as usize)
    }

    /// Between a half and the whole of a pause: several workers that wait for the same thing do not come back together.
    pub fn jitter(&self, pause: Duration) -> Duration {
        pause.mul_f64(self.throw(|rng| rng.random_range(0.5..1.0)))
    }

    /// Whether something of this probability happens.
    pub fn strikes(&self, probability: f64) -> bool {
        probability > 0.0 && self.throw(|rng| rng.random_bool(probability.min(1.0)))
    }

    fn throw<T>(&self, throw: impl FnOnce(&mut StdRng) -> T) -> T {
        throw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_run_and_a_name_has_its_length() {
        let (one, other) = (Randomness::seeded(1), Randomness::seeded(1));
        assert_eq!(one.unique(12), other.unique(12));
        assert_ne!(one.unique(12), one.unique(12));
        assert_eq!((one.unique(4).len(), one.unique(16).len()), (4, 16));
        let pause = one.jitter(Duration::from_secs(10));
        assert!((5..=10).contains(&pause.as_secs()), "{pause:?}");
        assert!(!one.strikes(0.0) && one.strikes(1.0));
    }
}
