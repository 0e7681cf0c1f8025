//! What a benchmark measures, and the unit of its times.

use std::time::Duration;

/// Which figures are measured; names their keys.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    Train,
    Test,
}

impl Work {
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// A duration in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
