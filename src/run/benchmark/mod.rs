//! `--benchmark`: how many images a second training and prediction do, and how near that is to what the machine can do.
//! Writes nothing to the model folder.
//!
//! A step is timed until the device has finished it, and with it the making of the next batch. On a GPU that goes on
//! meanwhile, as in training, which waits for nothing.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::context::Compute;
use super::inference::{PredictionOptions, SlicePredictor};
use crate::cli::config::{Benchmark, Config};
use crate::data::slices::SliceSet;
use crate::engine::device;
use crate::engine::trainer::Trainer;
use crate::model::architecture::Architecture;
use crate::model::backend::Backend;
use crate::model::unet::UNet;
use crate::output::logger::{Logger, Step};
use crate::recipe::batches::TrainingBatches;
use crate::recipe::preprocessing::MARGIN;
use profile::Profile;
use work::{Work, milliseconds};

mod limits;
mod profile;
mod work;

/// What is measured, on what, and where the figures go.
struct Measured<'a> {
    work: Work,
    architecture: Architecture,
    /// Side of the network's input.
    side: i64,
    batch_size: usize,
    max_steps: u64,
    options: &'a Benchmark,
    compute: &'a Compute,
    logger: &'a mut Logger,
    /// Whether its first step is also the first of this process.
    is_first: bool,
}

/// Times training steps and reports the figures.
pub fn time_training(
    config: &Config,
    options: &Benchmark,
    compute: &Compute,
    logger: &mut Logger,
    mut trainer: Trainer,
    mut batches: TrainingBatches<'_>,
) -> Result<()> {
    let architecture = trainer.net.architecture;
    let (side, batch_size, max_steps) = (config.input_side(), config.batch_size, config.training.max_steps);
    let measured = Measured {
        work: Work::Train,
        architecture,
        side,
        batch_size,
        max_steps,
        options,
        compute,
        logger,
        is_first: true,
    };
    measured.run(|number| batches.batch(number + 1), |batch| trainer.step(&batch).map(drop))
}

/// Times predictions of `stack`'s slices, again and again, and reports the figures. `is_first`: nothing was timed
/// before.
pub fn time_prediction(
    config: &Config,
    options: &Benchmark,
    compute: &Compute,
    logger: &mut Logger,
    net: UNet,
    slices: &SliceSet,
    is_first: bool,
) -> Result<()> {
    let architecture = net.architecture;
    let nets = [net.prepare_for_prediction(compute.precision.0)?];
    let (side, batch_size, max_steps) = (config.input_side(), config.batch_size, config.training.max_steps);
    let prediction = PredictionOptions { tile: side - 2 * MARGIN, tta: false };
    let predictor = SlicePredictor::new(compute, &nets, &slices.spec, batch_size, prediction)?;
    let (count, size) = (slices.len() as u64, batch_size as u64);
    let prepare = |number: u64| {
        let batch = |number: u64| (0..size).map(move |i| ((number * size + i) % count) as usize).collect::<Vec<_>>();
        slices.expect([number, number + 1].into_iter().flat_map(batch));
        Ok(predictor.inputs(&slices.select(&batch(number))?))
    };
    let step = |images| predictor.predict_inputs(&images).map(drop);
    Measured { work: Work::Test, architecture, side, batch_size, max_steps, options, compute, logger, is_first }
        .run(prepare, step)
}

impl Measured<'_> {
    /// Times `max_steps` times `step` on what `prepare` makes for a step number, without the first `warmup_steps`, and
    /// reports the figures.
    fn run<B>(
        mut self,
        mut prepare: impl FnMut(u64) -> Result<B>,
        mut step: impl FnMut(B) -> Result<()>,
    ) -> Result<()> {
        let Compute { device, world, .. } = self.compute;
        let (device, steps, warmup_steps) = (*device, self.max_steps, self.options.warmup_steps);
        // Opened first, so that an unwritable folder fails early. All ranks make the profiled steps; rank 0 looks into
        // its own.
        let folder = self.options.profile.as_ref().filter(|_| world.is_main());
        let profile = folder.map(|folder| Profile::begin(folder, self.work)).transpose()?;
        let mut first_step_after = None;
        let mut latencies = Vec::with_capacity((steps - warmup_steps) as usize);
        self.logger.start_bar("benchmark", steps, 0);
        let mut timed_from = Instant::now();
        let mut batch = prepare(0)?;
        for number in 0..steps {
            if number == warmup_steps {
                world.barrier()?;
                timed_from = Instant::now();
            }
            let start = Instant::now();
            step(batch)?;
            batch = prepare(number + 1)?;
            device::synchronize(device);
            if number == 0 && self.is_first {
                first_step_after = limits::process_age();
            }
            if number >= warmup_steps {
                latencies.push(start.elapsed());
            }
            self.logger.progress(number + 1, format!("{:.1} ms", milliseconds(start.elapsed())));
        }
        world.barrier()?;
        let wall = timed_from.elapsed();
        self.logger.end_bar();

        let images = (latencies.len() * self.batch_size * world.size) as f64;
        let images_per_second = images / wall.as_secs_f64();
        let preparing = time_preparing(&mut prepare, device)?;
        self.report_times(latencies, images_per_second, preparing);
        if let Some(age) = first_step_after {
            self.report(&[(format!("first_step_after_{}", self.work.name()), age.as_secs_f64(), "s")]);
        }
        self.report_limits(images_per_second)?;
        if self.options.profile.is_none() {
            return Ok(());
        }
        let mut some_steps = || {
            (0..profile::STEPS).try_for_each(|number| step(prepare(number)?))?;
            device::synchronize(device);
            Ok(())
        };
        match profile {
            Some(profile) => profile.measure(device, self.logger, some_steps),
            None => some_steps(),
        }
    }

    fn report_times(&mut self, mut latencies: Vec<Duration>, images_per_second: f64, preparing: Duration) {
        let name = self.work.name();
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
        self.report(&figures);
    }

    /// Reports speed and memory, beside the speeds that this device reaches in matrix products of the same dtype and in
    /// copying.
    fn report_limits(&mut self, images_per_second: f64) -> Result<()> {
        let name = self.work.name();
        let Compute { device, precision, world, .. } = self.compute;
        let flops = self.architecture.flops(self.side, self.side);
        let (per_image, trains) = match self.work {
            Work::Train => (flops.training, true),
            Work::Test => (flops.forward, false),
        };
        let reached = images_per_second * per_image as f64;
        // Before the matrices of the ceiling take memory too.
        let memory = [("process", limits::peak_process_bytes()), ("device", limits::peak_device_bytes(*device)?)];
        let arithmetic = Backend::new(*device, precision.0)?.arithmetic(precision.0)?;
        let ceiling = limits::matmul_flops_per_second(*device, arithmetic);
        let copying = limits::copied_bytes_per_second(*device);
        let reached_here = reached / world.size as f64;
        let (images, element) = (self.batch_size as u64, precision.0.elt_size_in_bytes() as u64);
        let bytes = self.architecture.least_bytes(self.side, self.side, images, element, trains);
        let moved_here = bytes as f64 * images_per_second / (images as usize * world.size) as f64;
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
        self.report(&figures);
        Ok(())
    }

    fn report(&mut self, figures: &[(String, f64, &str)]) {
        for (key, _, unit) in figures {
            self.logger.unit(key, unit);
        }
        let named: Vec<(&str, f64)> = figures.iter().map(|(key, value, _)| (key.as_str(), *value)).collect();
        self.logger.log(Step::Summary, &named);
    }
}

/// The mean time of making a batch by itself. Asked after the timed steps: on a GPU the answer means waiting for it.
fn time_preparing<B>(prepare: &mut impl FnMut(u64) -> Result<B>, device: tch::Device) -> Result<Duration> {
    const BATCHES: u32 = 10;
    device::synchronize(device);
    let start = Instant::now();
    for number in 0..BATCHES {
        prepare(u64::from(number))?;
        device::synchronize(device);
    }
    Ok(start.elapsed() / BATCHES)
}

/// The smallest latency that at least `percent` of all are no longer than. `sorted` is not empty.
fn nearest_rank(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
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
