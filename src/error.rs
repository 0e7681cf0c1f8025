//! Errors that the caller tells apart, their exit codes, and failures of libraries as errors. Everything else travels
//! as `anyhow::Error`.

use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use thiserror::Error;

/// The work could not be done.
pub const EXIT_FAILURE: u8 = 1;
/// The command line asks for something impossible; nothing was done.
pub const EXIT_USAGE: u8 = 2;
/// Another process of the run went away; it has the error.
pub const EXIT_LOST_RANKS: u8 = 3;

/// Prints the error that ends the program. The result is the exit code.
pub fn report(error: &anyhow::Error) -> u8 {
    // Not `eprintln!`, which panics where stderr is closed.
    let _ = writeln!(io::stderr(), "error: {error:#}");
    match error {
        _ if error.is::<UsageError>() => EXIT_USAGE,
        _ if error.is::<LostRanks>() => EXIT_LOST_RANKS,
        _ => EXIT_FAILURE,
    }
}

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

/// What `work` returns, or its panic as an error: `tch` reports most failures of libtorch by panicking.
pub fn catch<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let report = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&report);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("unknown cause");
        let place = info.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
        if let Ok(mut seen) = seen.lock() {
            // The first is the cause.
            seen.get_or_insert(format!("{text}{place}"));
        }
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(hook);
    result.unwrap_or_else(|_| {
        let text = report.lock().ok().and_then(|mut text| text.take()).unwrap_or_default();
        Err(anyhow!("{text}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_names_its_place() {
        let error = catch(|| -> Result<()> { panic!("no {}", "luck") }).unwrap_err().to_string();
        assert!(error.contains("no luck") && error.contains("error.rs:"), "{error}");
        assert_eq!(catch(|| Ok(3)).unwrap(), 3);
    }
}
