//! Cores that other programs use as well.
//!
//! Threads that wait for each other spin for some milliseconds before they sleep, which is fastest on cores of their
//! own. On shared cores they spin away the time of the threads that they wait for: two runs at once made less than one
//! alone. So a thread watches how long the threads of this process wait for a core, and while that is long, spins are
//! made short (`native::process`). No result depends on it.

use std::collections::HashMap;
use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::native::process;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(250);
/// Cores' worth of waiting from which on cores count as shared; two looks in a row must find it.
const BUSY: f64 = 0.25;
/// Cores' worth of waiting below which cores count as the process's own again; so many looks in a row must find it.
const CALM: f64 = 0.1;
const CALM_LOOKS: u32 = 8;

/// Watches the cores until it is dropped.
pub struct SharedCores {
    stop: Sender<()>,
}

impl SharedCores {
    /// `None` where the user has chosen how threads wait, and where the kernel does not tell how long they do.
    pub fn watch() -> Option<Self> {
        let chosen = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"].iter().any(|name| std::env::var_os(name).is_some());
        if chosen || waits().is_none_or(|waits| waits.is_empty()) {
            return None;
        }
        let (stop, stopped) = mpsc::channel();
        let watch = move || {
            let (mut policy, mut before, mut since) = (Policy::default(), waits().unwrap_or_default(), Instant::now());
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let Some(now) = waits() else { return };
                let share = waited(&before, &now) as f64 / since.elapsed().as_nanos().max(1) as f64;
                // A team that cannot be formed leaves the speed as it was.
                if policy.look(share) && process::shorten_waits(policy.is_short).is_err() {
                    return;
                }
                (before, since) = (now, Instant::now());
            }
        };
        // A run is only slower without this thread.
        thread::Builder::new().name("shared cores".to_owned()).spawn(watch).ok()?;
        Some(Self { stop })
    }
}

impl Drop for SharedCores {
    fn drop(&mut self) {
        // The thread may have ended by itself.
        let _ = self.stop.send(());
    }
}

/// When spins are short.
#[derive(Debug, Default)]
struct Policy {
    is_short: bool,
    /// Looks in a row that spoke for the other state.
    looks: u32,
}

impl Policy {
    /// Takes note of the waiting since the last look, in cores; whether `is_short` has changed.
    fn look(&mut self, share: f64) -> bool {
        let (speaks_for_change, wanted) = if self.is_short { (share < CALM, CALM_LOOKS) } else { (share > BUSY, 2) };
        self.looks = if speaks_for_change { self.looks + 1 } else { 0 };
        let changes = self.looks == wanted;
        if changes {
            *self = Self { is_short: !self.is_short, looks: 0 };
        }
        changes
    }
}

/// Nanoseconds that each thread of this process has waited for a core so far. `None` where the system does not tell.
fn waits() -> Option<HashMap<String, u64>> {
    let threads = fs::read_dir("/proc/self/task").ok()?;
    let wait = |thread: fs::DirEntry| {
        // A thread may end between the list and its file.
        let wait = parse(&fs::read_to_string(thread.path().join("schedstat")).ok()?)?;
        Some((thread.file_name().to_string_lossy().into_owned(), wait))
    };
    Some(threads.flatten().filter_map(wait).collect())
}

/// The second number of `schedstat`: time on the run queue.
fn parse(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

/// What the threads of both lists waited between them.
fn waited(before: &HashMap<String, u64>, now: &HashMap<String, u64>) -> u64 {
    now.iter().filter_map(|(thread, wait)| Some(wait.saturating_sub(*before.get(thread)?))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spins_are_short_after_two_busy_looks_and_long_after_eight_calm_ones() {
        let mut policy = Policy::default();
        assert_eq!([0.3, 0.2, 0.3, 0.3].map(|share| policy.look(share)), [false, false, false, true]);
        assert!(policy.is_short);
        // Between the limits nothing changes, and the calm is counted anew.
        let shares = [[0.05; 7].as_slice(), &[0.2], &[0.0; 8]].concat();
        let changes: Vec<bool> = shares.iter().map(|share| policy.look(*share)).collect();
        assert_eq!(changes.iter().position(|change| *change), Some(15));
        assert!(!policy.is_short);
    }

    #[test]
    fn only_threads_of_both_looks_count() {
        let list = |waits: &[(&str, u64)]| waits.iter().map(|(name, wait)| ((*name).to_owned(), *wait)).collect();
        assert_eq!(waited(&list(&[("1", 5), ("2", 100)]), &list(&[("1", 12), ("3", 900)])), 7);
        assert_eq!(parse("547123 31337 12\n"), Some(31337));
        assert_eq!(parse("547123\n"), None);
    }

    /// Results must not depend on how threads wait, and a change must not hang them.
    #[test]
    fn waits_can_be_shortened_and_lengthened_while_others_compute() {
        // Threads inherit the name of the one that starts them.
        const NAME: &str = "short waits";
        let threads = || {
            let names = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path().join("comm"));
            names.filter(|name| fs::read_to_string(name).is_ok_and(|name| name.trim() == NAME)).count()
        };
        let change = move || {
            let x = tch::Tensor::arange(1 << 20, (tch::Kind::Float, tch::Device::Cpu));
            let expected = (x.shallow_clone() * 2).sum(tch::Kind::Double).double_value(&[]);
            let own = threads();
            for on in [true, true, false, false, true, false] {
                process::shorten_waits(on).unwrap();
                // libgomp shortens waits while it manages idle threads: the owner of their team and its members. They
                // end a little after they are told to.
                let is_there = || if on { threads() >= own + 2 } else { threads() == own };
                let patience = Instant::now();
                while !is_there() && patience.elapsed() < Duration::from_secs(10) {
                    thread::sleep(Duration::from_millis(5));
                }
                assert!(is_there(), "{on}: {own} threads, then {}", threads());
                assert_eq!((&x * 2).sum(tch::Kind::Double).double_value(&[]), expected);
            }
        };
        thread::Builder::new().name(NAME.to_owned()).spawn(change).unwrap().join().unwrap();
    }
}
