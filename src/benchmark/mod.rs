//! `--benchmark`: how many images a second training and prediction do, and how near that is to what the machine can do.
//! Writes nothing to the model folder.
//!
//! A step is timed until the device has finished it, and with it the making of the next batch. On a GPU that goes on meanwhile, as in
//! training, which waits for nothing.

mod limits;
mod profile;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::config::Benchmark;
use crate::data::preprocess::INPUT_SIDE;
use crate::device;
use crate::logger::Step;
use crate::model::architecture::Architecture;
use crate::run::Run;
use profile::Profile;

/// Which figures are measured; names the keys.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    Train,
    Test,
}

/// What is timed: `step` on what `prepare` makes for a step number.
pub struct Benchmarked<P, S> {
    pub work: Work,
    pub architecture: Architecture,
    pub prepare: P,
    pub step: S,
}

/// Times `max_steps` steps, without the first `warmup_steps`, and reports the figures.
pub fn benchmark<B>(
    run: &mut Run<'_>,
    benchmark: &Benchmark,
    timed: Benchmarked<impl FnMut(u64) -> B, impl FnMut(B) -> Result<()>>,
) -> Result<()> {
    let Benchmarked { work, architecture, mut prepare, mut step } = timed;
    let Run { config, device, logger, .. } = run;
    let (device, steps) = (*device, config.recipe.max_steps);
    // Before any work, which a folder that cannot be written would waste. Ranks make the same steps, and the first looks into its own.
    let profile = benchmark.profile.as_ref().filter(|_| run.world.is_main());
    let profile = profile.map(|folder| Profile::begin(folder, work)).transpose()?;
    // Of the process, in which prediction comes after training.
    let is_first = matches!(work, Work::Train) || !config.exec_mode.trains();
    let mut first_step_after = None;
    let mut latencies = Vec::with_capacity((steps - benchmark.warmup_steps) as usize);
    logger.start_bar("benchmark", steps, 0);
    let mut timed_from = Instant::now();
    let mut batch = prepare(0);
    for number in 0..steps {
        if number == benchmark.warmup_steps {
            run.world.barrier()?;
            timed_from = Instant::now();
        }
        let start = Instant::now();
        step(batch)?;
        batch = prepare(number + 1);
        device::synchronize(device);
        if number == 0 && is_first {
            first_step_after = limits::process_age();
        }
        if number >= benchmark.warmup_steps {
            latencies.push(start.elapsed());
        }
        logger.progress(number + 1, format!("{:.1} ms", milliseconds(start.elapsed())));
    }
    run.world.barrier()?;
    let wall = timed_from.elapsed();
    logger.end_bar();

    let images = (latencies.len() * config.batch_size * run.world.size) as f64;
    let images_per_second = images / wall.as_secs_f64();
    let preparing = time_preparing(&mut prepare, device);
    report_times(run, work, latencies, images_per_second, preparing)?;
    if let Some(age) = first_step_after {
        report(run, &[(format!("first_step_after_{}", work.name()), age.as_secs_f64(), "s")])?;
    }
    report_limits(run, work, architecture, images_per_second)?;
    if benchmark.profile.is_none() {
        return Ok(());
    }
    let mut some_steps = || {
        (0..profile::STEPS).try_for_each(|number| step(prepare(number)))?;
        device::synchronize(device);
        Ok(())
    };
    match profile {
        Some(profile) => profile.measure(device, &run.logger, some_steps),
        None => some_steps(),
    }
}

/// The mean time of making a batch by itself. Asked after the timed steps: on a GPU the answer means waiting for it.
fn time_preparing<B>(prepare: &mut impl FnMut(u64) -> B, device: tch::Device) -> Duration {
    const BATCHES: u32 = 10;
    device::synchronize(device);
    let start = Instant::now();
    for number in 0..BATCHES {
        prepare(u64::from(number));
        device::synchronize(device);
    }
    start.elapsed() / BATCHES
}

fn report_times(
    run: &mut Run<'_>,
    work: Work,
    mut latencies: Vec<Duration>,
    images_per_second: f64,
    preparing: Duration,
) -> Result<()> {
    let name = work.name();
    latencies.sort_unstable();
    let mean = milliseconds(latencies.iter().sum::<Duration>()) / latencies.len() as f64;
    let mut figures = vec![
        (format!("throughput_{name}"), images_per_second, "images/s"),
        (format!("latency_{name}_mean"), mean, "ms"),
    ];
    for percent in [50, 90, 95, 99] {
        figures.push((format!("latency_{name}_{percent}"), milliseconds(nearest_rank(&latencies, percent)), "ms"));
    }
    figures.push((format!("data_share_{name}"), 100.0 * milliseconds(preparing) / mean, "%"));
    report(run, &figures)
}

/// Speed and memory, beside the speeds that this device reaches in matrix products of the same dtype and in copying.
fn report_limits(run: &mut Run<'_>, work: Work, architecture: Architecture, images_per_second: f64) -> Result<()> {
    let name = work.name();
    let flops = architecture.flops(INPUT_SIDE, INPUT_SIDE);
    let per_image = match work {
        Work::Train => flops.training,
        Work::Test => flops.forward,
    };
    let reached = images_per_second * per_image as f64;
    // Before the matrices of the ceiling take memory too.
    let memory = [("process", limits::peak_process_bytes()), ("device", limits::peak_device_bytes(run.device)?)];
    let ceiling = limits::matmul_flops_per_second(run.device, run.precision.0);
    let copying = limits::copied_bytes_per_second(run.device);
    let reached_here = reached / run.world.size as f64;
    let (images, element) = (run.config.batch_size as u64, run.precision.0.elt_size_in_bytes() as u64);
    let bytes = architecture.least_bytes(INPUT_SIDE, INPUT_SIDE, images, element, matches!(work, Work::Train));
    let moved_here = bytes as f64 * images_per_second / (images as usize * run.world.size) as f64;
    let mut figures = vec![
        (format!("tflops_{name}"), reached / 1e12, "TFLOP/s"),
        (format!("matmul_tflops_{name}"), ceiling / 1e12, "TFLOP/s"),
        (format!("matmul_share_{name}"), 100.0 * reached_here / ceiling, "%"),
        (format!("traffic_{name}"), moved_here / 1e9, "GB/s"),
        (format!("copy_traffic_{name}"), copying / 1e9, "GB/s"),
        (format!("copy_share_{name}"), 100.0 * moved_here / copying, "%"),
    ];
    for (of, bytes) in memory {
        if let Some(bytes) = bytes {
            figures.push((format!("peak_memory_{of}_{name}"), bytes as f64 / f64::from(1 << 30), "GiB"));
        }
    }
    report(run, &figures)
}

fn report(run: &mut Run<'_>, figures: &[(String, f64, &str)]) -> Result<()> {
    for (key, _, unit) in figures {
        run.logger.unit(key, unit);
    }
    let named: Vec<(&str, f64)> = figures.iter().map(|(key, value, _)| (key.as_str(), *value)).collect();
    run.logger.log(Step::Summary, &named);
    Ok(())
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// The smallest latency that at least `percent` of all are no longer than. `sorted` is not empty.
fn nearest_rank(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let latencies: Vec<Duration> = (1..=20).map(Duration::from_millis).collect();
        assert_eq!(nearest_rank(&latencies, 50), Duration::from_millis(10));
        assert_eq!(nearest_rank(&latencies, 90), Duration::from_millis(18));
        assert_eq!(nearest_rank(&latencies, 95), Duration::from_millis(19));
        assert_eq!(nearest_rank(&latencies, 99), Duration::from_millis(20));
        assert_eq!(nearest_rank(&latencies[..1], 90), Duration::from_millis(1));
    }
}
