//! The parts that a simulation replaces or controls: the clock, randomness, signals, and the points at which a test stops a worker.

pub(crate) mod bounded;
pub(crate) mod clock;
pub(crate) mod fault_point;
pub mod random;
pub mod signals;
