//! Signals that ask a run to end: the step is finished, all is saved, and the exit code tells which signal it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

/// Ctrl-C, `kill`, what Slurm sends before the time of a job is over (`--signal=USR1`), and a terminal that closes.
const SIGNALS: [i32; 4] = [SIGINT, SIGTERM, SIGUSR1, SIGHUP];

/// Whether a signal has asked the run to end.
#[derive(Debug, Default)]
pub struct StopRequest {
    signal: Arc<AtomicUsize>,
    /// Whether the next signal ends the process.
    asked: Arc<AtomicBool>,
}

impl StopRequest {
    /// From now on the first of these signals is noted, and the second ends the process at once with 128 + its number.
    pub fn listen() -> Result<Self> {
        let request = Self::default();
        for signal in heeded(&SIGNALS) {
            // In this order: the first signal finds the flag down and puts it up.
            flag::register_conditional_shutdown(signal, exit_code(signal).into(), Arc::clone(&request.asked))
                .and_then(|_| flag::register(signal, Arc::clone(&request.asked)))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&request.signal), signal as usize))
                .context("cannot listen for signals")?;
        }
        Ok(request)
    }

    /// The signal that came.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as i32),
        }
    }
}

impl Drop for StopRequest {
    /// Who no longer asks would not see a signal: from now on the first one ends the process.
    fn drop(&mut self) {
        self.asked.store(true, Ordering::Relaxed);
    }
}

/// The signals among `signals` to listen for. SIGHUP is left out where the process was started to outlive its terminal,
/// as by `nohup`.
pub fn heeded(signals: &[i32]) -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let outlives = ignored & (1 << (SIGHUP - 1)) != 0;
    signals.iter().copied().filter(|signal| *signal != SIGHUP || !outlives).collect()
}

/// The exit code of a process that `signal` ended, as shells count it.
pub fn exit_code(signal: i32) -> u8 {
    128u8.saturating_add(signal as u8)
}

/// `SIGTERM` for 15.
pub fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}
