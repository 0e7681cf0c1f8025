//! `--benchmark`: how many images a second training and prediction do. Writes nothing to the model folder.
//!
//! A step is timed from the making of its batch until the device has finished it.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::config::Benchmark;
use crate::device;
use crate::logger::{Logger, Step};
use crate::run::Run;

/// Which figures are measured; names the keys.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    Train,
    Test,
}

/// Times `max_steps` calls of `step`, without the first `warmup_steps`, and reports the figures.
pub fn benchmark(
    run: &mut Run<'_>,
    work: Work,
    benchmark: Benchmark,
    mut step: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let Run { config, device, logger, .. } = run;
    let steps = config.recipe.max_steps;
    let mut latencies = Vec::with_capacity((steps - benchmark.warmup_steps) as usize);
    logger.start_bar("benchmark", steps, 0);
    let mut timed_from = Instant::now();
    for number in 0..steps {
        if number == benchmark.warmup_steps {
            timed_from = Instant::now();
        }
        let start = Instant::now();
        step(number)?;
        device::synchronize(*device);
        if number >= benchmark.warmup_steps {
            latencies.push(start.elapsed());
        }
        logger.progress(number + 1, format!("{:.1} ms", milliseconds(start.elapsed())));
    }
    let wall = timed_from.elapsed();
    logger.end_bar();
    report(work, latencies, config.batch_size, wall, logger)
}

fn report(
    work: Work,
    mut latencies: Vec<Duration>,
    batch_size: usize,
    wall: Duration,
    logger: &mut Logger,
) -> Result<()> {
    let name = match work {
        Work::Train => "train",
        Work::Test => "test",
    };
    latencies.sort_unstable();
    let images = (latencies.len() * batch_size) as f64;
    let mean = milliseconds(latencies.iter().sum::<Duration>()) / latencies.len() as f64;
    let percentile = |share| milliseconds(nearest_rank(&latencies, share));
    let throughput = format!("throughput_{name}");
    let latency = [50, 90, 95, 99].map(|percent| (format!("latency_{name}_{percent}"), percentile(percent)));
    let latency_mean = format!("latency_{name}_mean");

    logger.unit(&throughput, "images/s")?;
    for key in latency.iter().map(|(key, _)| key).chain([&latency_mean]) {
        logger.unit(key, "ms")?;
    }
    let mut figures = vec![(throughput.as_str(), images / wall.as_secs_f64()), (latency_mean.as_str(), mean)];
    figures.extend(latency.iter().map(|(key, value)| (key.as_str(), *value)));
    logger.log(Step::Summary, &figures)
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
