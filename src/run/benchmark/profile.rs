//! `--profile`: where the time of a step goes, by the name of what ran. On a GPU these are its kernels and copies, on
//! the CPU libtorch's operations and the program's own layers, without what they call.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tch::Device;

use super::work::{Work, milliseconds};
use crate::engine::device;
use crate::files::write_atomically;
use crate::native::profiler::{Event, profile};
use crate::output::logger::Logger;

/// Enough to see that they are alike; a trace of more is slow to open.
pub const STEPS: u64 = 5;
/// Rows that are printed; the table in the file has all.
const PRINTED_ROWS: usize = 15;
/// Names of kernels are those of C++ templates, and go on for hundreds of letters.
const PRINTED_NAME: usize = 90;

/// The files of one profile.
pub struct Profile {
    table: PathBuf,
    trace: PathBuf,
}

/// What ran under one name.
#[derive(Debug, Serialize, PartialEq)]
struct ProfileRow {
    name: String,
    calls_per_step: f64,
    ms_per_step: f64,
    /// Share of the time of a step.
    percent: f64,
}

impl Profile {
    /// Makes the folder.
    ///
    /// Errors: one that cannot be written to, or that holds such a profile already.
    pub fn begin(folder: &Path, work: Work) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("--profile: cannot make '{}'", folder.display()))?;
        let name = work.name();
        let [table, trace] =
            [format!("profile_{name}.csv"), format!("trace_{name}.json")].map(|name| folder.join(name));
        for path in [&table, &trace] {
            if path.exists() {
                bail!("'{}' is there already; name another folder for --profile, or remove it", path.display());
            }
        }
        tempfile::tempfile_in(folder).with_context(|| format!("--profile: cannot write to '{}'", folder.display()))?;
        Ok(Self { table, trace })
    }

    /// Looks into `steps`, which makes `STEPS` steps, and writes and prints what it finds.
    pub fn measure(self, device: Device, logger: &Logger, steps: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut wall = Duration::ZERO;
        let events = profile(device.is_cuda(), &self.trace, || {
            device::synchronize(device);
            let start = Instant::now();
            steps()?;
            wall = start.elapsed();
            Ok(())
        })?;
        // The profiler itself tells nobody.
        if fs::metadata(&self.trace).map_or(0, |file| file.len()) == 0 {
            bail!("cannot write the profile '{}'; is the disk full?", self.trace.display());
        }
        let step = milliseconds(wall) / STEPS as f64;
        let (rows, busy) = if device.is_cuda() {
            let kernels: Vec<&Event> = events.iter().filter(|event| event.on_gpu).collect();
            if kernels.is_empty() {
                logger.warn(
                    "the profiler saw nothing on the GPU; it may not be allowed to look (NVIDIA's ERR_NVGPUCTRPERM), \
                     or something else looks already",
                );
            }
            let busy = 100.0 * covered(&kernels) / wall.as_nanos() as f64;
            (rows(kernels.iter().map(|event| (event.name.as_str(), event.end - event.start)), step), Some(busy))
        } else {
            (rows(own_times(&events).into_iter(), step), None)
        };
        let mut writer = csv::Writer::from_writer(Vec::new());
        rows.iter().try_for_each(|row| writer.serialize(row))?;
        write_atomically(&self.table, &writer.into_inner()?)?;
        self.print(logger, &rows, step, busy);
        Ok(())
    }

    fn print(&self, logger: &Logger, rows: &[ProfileRow], step: f64, busy: Option<f64>) {
        let busy = busy.map_or(String::new(), |percent| format!(", of which the GPU is busy for {percent:.0} %"));
        logger.note(&format!("profile: {step:.2} ms a step while looked at{busy}"));
        logger.note(&format!("{:>8}{:>10}{:>8}  name", "%", "ms", "calls"));
        for ProfileRow { name, calls_per_step, ms_per_step, percent } in rows.iter().take(PRINTED_ROWS) {
            let name: String = name.chars().take(PRINTED_NAME).collect();
            logger.note(&format!("{percent:>8.1}{ms_per_step:>10.3}{calls_per_step:>8.1}  {name}"));
        }
        let (table, trace) = (self.table.display(), self.trace.display());
        logger.note(&format!("all {} rows: '{table}'; trace for ui.perfetto.dev: '{trace}'", rows.len()));
    }
}

/// One row for each name, the longest time first. `times` are nanoseconds in `STEPS` steps of `step` milliseconds each.
fn rows<'a>(times: impl Iterator<Item = (&'a str, u64)>, step: f64) -> Vec<ProfileRow> {
    let mut sums: HashMap<&str, (u64, u64)> = HashMap::new();
    for (name, time) in times {
        let sum = sums.entry(name).or_default();
        *sum = (sum.0 + 1, sum.1 + time);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_unstable_by_key(|(name, (_, time))| (Reverse(*time), *name));
    let row = |(name, (calls, time)): (&str, (u64, u64))| {
        let ms_per_step = time as f64 * 1e-6 / STEPS as f64;
        ProfileRow {
            name: name.to_owned(),
            calls_per_step: calls as f64 / STEPS as f64,
            ms_per_step,
            percent: 100.0 * ms_per_step / step,
        }
    };
    sums.into_iter().map(row).collect()
}

/// Nanoseconds of each event on the CPU without those of the events within it.
fn own_times(events: &[Event]) -> Vec<(&str, u64)> {
    let mut order: Vec<&Event> = events.iter().filter(|event| !event.on_gpu).collect();
    order.sort_by_key(|event| (event.place, event.start, Reverse(event.end)));
    let mut own: Vec<(&str, u64)> = Vec::with_capacity(order.len());
    // Indices of those that the next event may lie within.
    let mut open: Vec<usize> = Vec::new();
    for (index, event) in order.iter().enumerate() {
        let holds = |outer: &Event| outer.place == event.place && event.start < outer.end;
        while open.pop_if(|outer| !holds(order[*outer])).is_some() {}
        let time = event.end - event.start;
        if let Some(outer) = open.last() {
            own[*outer].1 = own[*outer].1.saturating_sub(time);
        }
        own.push((event.name.as_str(), time));
        open.push(index);
    }
    own
}

/// Nanoseconds in which at least one of `events` ran.
fn covered(events: &[&Event]) -> f64 {
    let mut spans: Vec<(u64, u64)> = events.iter().map(|event| (event.start, event.end)).collect();
    spans.sort_unstable();
    let (mut sum, mut until) = (0, 0);
    for (start, end) in spans {
        sum += end.saturating_sub(start.max(until));
        until = until.max(end);
    }
    sum as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, place: u64, start: u64, end: u64) -> Event {
        Event { name: name.to_owned(), on_gpu: false, place, start, end }
    }

    #[test]
    fn an_event_s_own_time_is_without_those_within_it() {
        // On thread 1 `a` holds two `b`, the first of which holds `c`; then comes another `a`. Thread 2 has nothing to
        // do with it.
        let events = [
            event("c", 1, 20, 30),
            event("b", 1, 10, 40),
            event("a", 1, 0, 100),
            event("b", 1, 40, 60),
            event("d", 2, 5, 95),
            event("a", 1, 100, 110),
        ];
        let mut own = own_times(&events);
        own.sort_unstable();
        assert_eq!(own, [("a", 10), ("a", 50), ("b", 20), ("b", 20), ("c", 10), ("d", 90)]);
    }

    #[test]
    fn rows_add_up_by_name_with_the_longest_first() {
        let times = [("a", 1_000_000), ("b", 6_000_000), ("a", 4_000_000)];
        let found = rows(times.into_iter(), 2.0);
        let row = |name: &str, calls_per_step, ms_per_step, percent| ProfileRow {
            name: name.to_owned(),
            calls_per_step,
            ms_per_step,
            percent,
        };
        assert_eq!(found, [row("b", 0.2, 1.2, 60.0), row("a", 0.4, 1.0, 50.0)]);
    }

    #[test]
    fn time_in_which_two_run_counts_once() {
        let events = [event("a", 0, 10, 20), event("b", 1, 15, 30), event("c", 0, 40, 45), event("d", 1, 16, 18)];
        assert_eq!(covered(&events.iter().collect::<Vec<_>>()), 25.0);
    }
}
