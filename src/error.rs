//! Errors that the caller tells apart by exit code. Everything else travels as `anyhow::Error`.

use thiserror::Error;

/// A command line that cannot be carried out as given: exit code 2, nothing touched.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct UsageError {
    message: String,
}

impl UsageError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// Other ranks went away, which have an error of their own: exit code 3.
#[derive(Debug, Error)]
#[error("rank {rank} of {size} lost the others; see which of them ended first, and why")]
pub struct LostRanks {
    pub rank: usize,
    pub size: usize,
}
