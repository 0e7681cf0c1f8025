//! Errors that the caller tells apart by exit code. Everything else travels as `anyhow::Error`.

use thiserror::Error;

/// A command line that cannot be carried out as given: exit code 2, nothing touched.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct UsageError {
    message: String,
}

impl UsageError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}
