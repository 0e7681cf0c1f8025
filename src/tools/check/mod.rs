//! `unet check`: whether this machine computes what it should, before days are spent on it. Logits and gradients of the
//! device in each precision against the same network in f64 by libtorch's own operations on the CPU, on a GPU with
//! kernels in a fixed order and with kernels chosen by trial; loss scaling after an overflow that is provoked; captured
//! or planned steps (`--xla`) against ordinary ones; on a GPU augmented samples against those of the CPU. The image is
//! the phantom's.

use std::cell::OnceCell;

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::Map;
use tch::{Device, Kind, Tensor};

use super::phantom;
use crate::checkpoint::{Checkpoint, Progress, TrainingState};
use crate::cli::CheckArgs;
use crate::data::labels::IGNORED;
use crate::data::values::GreyRange;
use crate::distributed::world::World;
use crate::engine::device::{self, GpuOptions};
use crate::engine::grad_scaler::GradScaler;
use crate::engine::loss::{self, LossOptions};
use crate::engine::precision::Precision;
use crate::engine::schedule::Schedule;
use crate::engine::step_runner::StepRunner;
use crate::engine::trainer::{Hyperparameters, Trainer};
use crate::model::architecture::Architecture;
use crate::model::unet::UNet;
use crate::native::cuda;
use crate::recipe::batches::Batch;
use crate::recipe::preprocessing::{self, Targets};
use result::{CheckResult, SEED, border_weights, distance};

mod result;
mod samples;

/// A way to compute, and how far it may be from f64.
struct Arithmetic {
    name: &'static str,
    kind: Kind,
    tf32: bool,
    /// Largest relative error of logits and of gradients, about ten times the CPU's for numbers with as many digits.
    limits: [f64; 2],
}

const FLOAT32: Arithmetic = Arithmetic { name: "float32", kind: Kind::Float, tf32: false, limits: [1e-4, 1e-3] };
const TF32: Arithmetic = Arithmetic { name: "TF32", kind: Kind::Float, tf32: true, limits: [5e-3, 5e-3] };
const FLOAT16: Arithmetic = Arithmetic { name: "float16", kind: Kind::Half, tf32: true, limits: [5e-3, 5e-3] };
const BFLOAT16: Arithmetic = Arithmetic { name: "bfloat16", kind: Kind::BFloat16, tf32: true, limits: [3e-2, 3e-2] };

/// How cuDNN chooses its kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernels {
    /// Kernels that add in a fixed order, as with `--deterministic`.
    Fixed,
    /// The fastest in a trial, as training does by default. These may be others, fused convolutions among them.
    ByTrial,
}

/// Where the loss scale starts in the check of loss scaling: gradients of float16 overflow with it.
const OVERFLOWING_SCALE: f64 = (1u64 << 40) as f64;
/// Steps compared with and without `--xla`; on a GPU the fourth is the first that is replayed.
const STEPS: usize = 6;

#[derive(Debug, Serialize)]
struct CheckReport {
    device: String,
    libtorch: &'static str,
    base_filters: u64,
    rows: Vec<CheckResult>,
    passed: bool,
}

/// Prints a table, or JSON.
///
/// Errors: a check that has not passed.
pub fn run(args: &CheckArgs) -> Result<()> {
    let device = device::select(args.device, None)?;
    // The same kernels in each step, and a stream that can be captured.
    device::prepare(device, GpuOptions { deterministic: true, tf32: true, captures: true })?;
    let rows = rows(device, args.base_filters as i64)?;
    let failed = rows.iter().filter(|row| !row.passed()).count();
    let report = CheckReport {
        device: device::describe(device),
        libtorch: env!("LIBTORCH_VERSION"),
        base_filters: args.base_filters,
        passed: failed == 0,
        rows,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    if failed > 0 {
        bail!(
            "{failed} of {} checks on {} have not passed; do not trust its results",
            report.rows.len(),
            report.device
        );
    }
    Ok(())
}

/// All checks of a device that is prepared for kernels in a fixed order.
fn rows(device: Device, base_filters: i64) -> Result<Vec<CheckResult>> {
    let usual = Checker::new(Architecture::for_slices(base_filters), device);
    // Other kernels serve for three channels and three classes.
    let unusual = Checker::new(Architecture { base_filters, channels: 3, classes: 3 }, device);
    let mut rows = usual.all()?;
    rows.extend(unusual.accuracy(Kernels::Fixed)?);
    if device.is_cuda() {
        rows.extend(samples::compare_with_cpu(device)?);
        device::choose_kernels(false)?;
        for checker in [&usual, &unusual] {
            rows.extend(checker.accuracy(Kernels::ByTrial)?);
        }
        device::choose_kernels(true)?;
    }
    Ok(rows)
}

/// A network and a batch to compute with. With more than two classes these and the pixels between objects have weights,
/// and some pixels are ignored.
struct Checker {
    architecture: Architecture,
    device: Device,
    batch: Batch,
    has_options: bool,
    /// Logits and gradients in f64, once they are known.
    exact: OnceCell<(Tensor, Vec<Tensor>)>,
}

impl Checker {
    fn new(architecture: Architecture, device: Device) -> Self {
        let Architecture { channels, classes, .. } = architecture;
        let phantom = phantom::generate(channels as usize, 512, SEED);
        let stack = |array: &ndarray::Array3<u8>| {
            let values: Vec<u8> = array.iter().copied().collect();
            Tensor::from_slice(&values).view([1, channels, 512, 512]).to_device(device)
        };
        let has_options = classes > 2;
        let images = preprocessing::images(&stack(&phantom.train_volume), GreyRange { black: 0.0, white: 255.0 });
        let mut labels = stack(&phantom.train_labels).select(1, 0).clamp_max(1);
        if has_options {
            // The right third is of the third class, and some rows are of none.
            let _ = labels.narrow(2, 340, 172).fill_(2);
            let _ = labels.narrow(1, 200, 40).fill_(i64::from(IGNORED));
        } else {
            labels = labels.contiguous();
        }
        let targets = Targets { classes: classes as usize, has_ignored: has_options };
        let labels = preprocessing::labels(&labels, targets);
        let weights = has_options.then(|| border_weights(&labels));
        let batch = Batch { weights, ..Batch::new(images, &labels) };
        Self { architecture, device, batch, has_options, exact: OnceCell::new() }
    }

    /// Which pixels count in the loss.
    fn loss(&self, device: Device) -> LossOptions {
        let weights = || Tensor::from_slice(&[1.0f32, 0.5, 3.0]).to_device(device);
        LossOptions { class_weights: self.has_options.then(weights), has_ignored: self.has_options }
    }

    fn arithmetics(&self) -> &'static [Arithmetic] {
        if self.device.is_cuda() { &[FLOAT32, TF32, FLOAT16, BFLOAT16] } else { &[FLOAT32, BFLOAT16] }
    }

    /// Logits and gradients in f64.
    fn exact(&self) -> Result<&(Tensor, Vec<Tensor>)> {
        if self.exact.get().is_none() {
            let _ = self.exact.set(self.gradients(Device::Cpu, Kind::Double)?);
        }
        Ok(self.exact.get().expect("set above"))
    }

    /// How far logits and gradients are from those in f64.
    fn accuracy(&self, kernels: Kernels) -> Result<Vec<CheckResult>> {
        let reference = self.exact()?;
        let mut rows = Vec::new();
        let what_for = if self.has_options { " (3 channels, 3 classes, border weights)" } else { "" };
        let chosen = if kernels == Kernels::ByTrial { ", kernels by trial" } else { "" };
        for arithmetic in self.arithmetics() {
            if self.device.is_cuda() {
                cuda::allow_tf32(arithmetic.tf32)?;
            }
            let (logits, gradients) = self.gradients(self.device, arithmetic.kind)?;
            let pairs = [
                ("logits", distance(&[logits], std::slice::from_ref(&reference.0))),
                ("gradients", distance(&gradients, &reference.1)),
            ];
            for ((what, value), limit) in pairs.into_iter().zip(arithmetic.limits) {
                let name = format!("{what}{what_for} in {}{chosen}, distance from float64", arithmetic.name);
                rows.push(CheckResult { name, value, limit });
            }
        }
        Ok(rows)
    }

    fn all(&self) -> Result<Vec<CheckResult>> {
        let on_gpu = self.device.is_cuda();
        let mut rows = self.accuracy(Kernels::Fixed)?;
        if on_gpu {
            rows.extend(self.loss_scaling()?);
        }
        for arithmetic in self.arithmetics() {
            if on_gpu {
                cuda::allow_tf32(arithmetic.tf32)?;
            }
            let value = self.replayed_steps(Precision(arithmetic.kind))?;
            rows.push(CheckResult {
                name: format!("weights after {STEPS} steps in {}, with and without --xla", arithmetic.name),
                value,
                limit: 0.0,
            });
        }
        Ok(rows)
    }

    /// Logits without dropout, and the gradients of the loss, scaled on the way where `kind` needs it.
    fn gradients(&self, device: Device, kind: Kind) -> Result<(Tensor, Vec<Tensor>)> {
        let net = UNet::with_fresh_weights(self.architecture, SEED, device)?;
        let parameters: Vec<&Tensor> = net.parameters().into_iter().map(|(_, tensor)| tensor).collect();
        let (images, labels) = (self.batch.images.to_device(device), self.batch.labels.to_device(device));
        let weights = self.batch.weights.as_ref().map(|weights| weights.to_device(device));
        let mut scaler = GradScaler::new(Precision(kind), device);
        let logits = net.forward(&images.to_kind(kind), 0.0)?;
        let losses = loss::weighted_losses(&logits, &labels, weights.as_ref(), &self.loss(device))?;
        let loss = scaler.scale(&losses.total());
        let gradients = Tensor::f_run_backward(&[loss], &parameters, false, false)?;
        let _ = scaler.unscale(&gradients)?;
        Ok((logits.detach(), gradients))
    }

    /// Starts with a scale that float16's gradients overflow with: steps are skipped and halve it until one is made.
    fn loss_scaling(&self) -> Result<[CheckResult; 2]> {
        let state = TrainingState::new(self.architecture, Progress::default(), 0.0, (OVERFLOWING_SCALE, 0), Map::new());
        let checkpoint = Checkpoint::empty(state, self.device)?;
        let (world, runner) = (World::alone(self.device), StepRunner::new(false, self.device)?);
        let mut trainer = Trainer::resume(checkpoint, hyperparameters(), Precision(Kind::Half), runner, &world)?;
        let weights = |trainer: &Trainer| -> Vec<Tensor> {
            trainer.net.parameters().iter().map(|(_, tensor)| tensor.detach().copy()).collect()
        };
        let before = weights(&trainer);
        trainer.step(&self.batch)?;
        let moved = distance(&weights(&trainer), &before);
        let halved = trainer.skipped_steps() == 1 && trainer.loss_scale() == OVERFLOWING_SCALE / 2.0;
        for _ in 0..63 {
            if trainer.skipped_in_row() == 0 {
                break;
            }
            trainer.step(&self.batch)?;
        }
        let after = weights(&trainer);
        let made = trainer.skipped_in_row() == 0 && distance(&after, &before) > 0.0 && after.iter().all(is_finite);
        Ok([
            CheckResult {
                name: "an overflow of float16 moves no weight and halves the loss scale".to_owned(),
                value: if halved { moved } else { f64::INFINITY },
                limit: 0.0,
            },
            CheckResult {
                name: "steps skipped until a loss scale is found".to_owned(),
                value: if made { trainer.skipped_steps() as f64 } else { f64::INFINITY },
                limit: 40.0,
            },
        ])
    }

    /// How far apart the weights are after the same steps, dropout included, with and without `--xla`.
    fn replayed_steps(&self, precision: Precision) -> Result<f64> {
        let train = |xla: bool| -> Result<Vec<Tensor>> {
            let net = UNet::with_fresh_weights(self.architecture, SEED, self.device)?;
            let (world, runner) = (World::alone(self.device), StepRunner::new(xla, self.device)?);
            let mut trainer = Trainer::new(net, hyperparameters(), precision, runner, &world)?;
            for _ in 0..STEPS {
                trainer.step(&self.batch)?;
            }
            Ok(trainer.net.parameters().iter().map(|(_, tensor)| tensor.detach().copy()).collect())
        };
        Ok(distance(&train(true)?, &train(false)?))
    }
}

fn hyperparameters() -> Hyperparameters {
    Hyperparameters { schedule: Schedule::constant(1e-4), ema: None, dropout: 0.5, weight_decay: 5e-4, seed: SEED }
}

fn is_finite(tensor: &Tensor) -> bool {
    tensor.isfinite().all().int64_value(&[]) != 0
}

impl CheckReport {
    fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let mut text = format!("{}, libtorch {}, {} filters\n", self.device, self.libtorch, self.base_filters);
        for row in &self.rows {
            let verdict = if row.passed() { "ok" } else { "NOT PASSED" };
            text +=
                &format!("{:width$}  {:>9}  at most {:>6}  {verdict}\n", row.name, short(row.value), short(row.limit));
        }
        text
    }
}

/// Whole numbers as they are, others with two digits.
fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The weights between objects are part of what is compared: without them the gradients are others.
    #[test]
    fn border_weights_take_part() {
        let mut checker = Checker::new(Architecture { base_filters: 1, channels: 3, classes: 3 }, Device::Cpu);
        assert!(checker.batch.weights.as_ref().unwrap().max().double_value(&[]) > 1.0);
        let with = checker.gradients(Device::Cpu, Kind::Double).unwrap().1;
        checker.batch.weights = None;
        let without = checker.gradients(Device::Cpu, Kind::Double).unwrap().1;
        assert!(distance(&without, &with) > 10.0 * FLOAT32.limits[1]);
    }

    /// What is compared must not be near by itself: another network is far away.
    #[test]
    fn another_network_does_not_pass() {
        let checker = Checker::new(Architecture::for_slices(1), Device::Cpu);
        let exact = [checker.gradients(Device::Cpu, Kind::Double).unwrap().0];
        let other = UNet::with_fresh_weights(Architecture::for_slices(1), SEED + 1, Device::Cpu).unwrap();
        let others = other.forward(&checker.batch.images, 0.0).unwrap();
        assert!(distance(&[others], &exact) > 0.1);
        let coarse = [checker.gradients(Device::Cpu, Kind::BFloat16).unwrap().0];
        let distance = distance(&coarse, &exact);
        assert!(distance > FLOAT32.limits[0] && distance < BFLOAT16.limits[0], "{distance}");
    }
}
