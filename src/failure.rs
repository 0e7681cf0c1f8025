//! Failures that libraries report by panicking, as errors in one line; and memory that ran out, with what to do about it.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};

use crate::config::Config;
use crate::data::preprocess::INPUT_SIDE;

/// What `work` returns, or its panic as an error: so `tch` reports most failures of libtorch.
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

/// `error` of a run; where memory ran out, with its size and what to lower.
pub fn explain_memory(error: anyhow::Error, config: &Config) -> anyhow::Error {
    let text = format!("{error:#}");
    // libtorch's allocators for GPUs and for the CPU.
    if !["out of memory", "can't allocate memory", "not enough memory", "bad_alloc"]
        .iter()
        .any(|words| text.contains(words))
    {
        return error;
    }
    let element = if config.amp { 2 } else { 4 };
    let architecture = config.architecture();
    let training = config.exec_mode.trains();
    let bytes = architecture.memory(config.batch_size as u64, INPUT_SIDE, element, training);
    let what = if training { "training" } else { "prediction" };
    let amp = if config.amp { "" } else { ", add --amp" };
    anyhow!(
        "out of memory: {what} with --batch_size {} and {} base filters takes about {:.1} GiB, besides the data; lower \
         --batch_size or --base_filters{amp}, or end what else uses this memory ({})",
        config.batch_size,
        architecture.base_filters,
        bytes as f64 / f64::from(1 << 30),
        first_line(&text)
    )
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_names_its_place() {
        let error = catch(|| -> Result<()> { panic!("no {}", "luck") }).unwrap_err().to_string();
        assert!(error.contains("no luck") && error.contains("failure.rs:"), "{error}");
        assert_eq!(catch(|| Ok(3)).unwrap(), 3);
    }
}
