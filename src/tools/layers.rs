//! `unet layers`: how long each layer of the network takes on the CPU by itself, beside libtorch's own kernels for it.
//!
//! Layers get random inputs of the sizes that they have in the network at 572x572 pixels, and run as the network runs
//! them. Both sides are timed in turn, so that a machine whose speed drifts favours neither. Memory traffic between
//! layers, the loss and the optimiser are not in here: see `--benchmark`.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::cli::LayersArgs;
use crate::engine::precision::Precision;
use crate::model::architecture::Architecture;
use crate::model::backend::{Backend, Consumer};
use crate::model::convolution::{Convolution, channels_last};
use crate::model::ops::{self, ReluGradient};
use crate::model::shapes::{Layer, Operation};
use crate::native::cpu_layers;
use crate::recipe::preprocessing::INPUT_SIDE;

/// A layer between two convolutions, as most of the network's.
const GRADIENT: ReluGradient = ReluGradient { input_is_relu: true, consumer: Consumer::Convolutions };

/// A layer of the network with what it is timed with.
struct Timed<'a>(&'a Layer);

/// What was measured of one layer, or their sum.
#[derive(Debug, Serialize)]
struct LayerTime {
    name: String,
    inputs: i64,
    outputs: i64,
    side: i64,
    /// Operations of direct convolution, whatever algorithm computes it.
    gflop: f64,
    ms: f64,
    libtorch_ms: f64,
}

#[derive(Debug, Serialize)]
struct LayerReport {
    batch_size: i64,
    base_filters: i64,
    precision: &'static str,
    training: bool,
    threads: i32,
    layers: Vec<LayerTime>,
    sum: LayerTime,
}

/// Times all layers and prints a table, or JSON.
pub fn run(args: &LayersArgs) -> Result<()> {
    let precision = Precision::new(args.amp, None, Device::Cpu)?;
    let (batch_size, base_filters) = (args.batch_size as i64, args.base_filters as i64);
    let mut rows = Vec::new();
    for layer in Architecture::for_slices(base_filters).layers(INPUT_SIDE, INPUT_SIDE) {
        let (ms, libtorch_ms) = Timed(&layer).time(batch_size, precision.0, args.training, args.repeats as usize)?;
        let flops = layer.flops();
        let flops = batch_size as u64 * if args.training { flops.training } else { flops.forward };
        let Layer { name, inputs, outputs, input: [side, _], .. } = layer;
        rows.push(LayerTime { name, inputs, outputs, side, gflop: flops as f64 * 1e-9, ms, libtorch_ms });
    }
    let sum = sum(&rows);
    let threads = tch::get_num_threads();
    let report = LayerReport {
        batch_size,
        base_filters,
        precision: precision.name(),
        training: args.training,
        threads,
        layers: rows,
        sum,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

impl Timed<'_> {
    fn convolution(&self) -> Convolution {
        let Layer { inputs, outputs, operation, .. } = *self.0;
        let size = match operation {
            Operation::Convolution { .. } => [outputs, inputs, 3, 3],
            Operation::Transposed => [inputs, outputs, 3, 3],
            _ => [outputs, inputs, 1, 1],
        };
        let float = (Kind::Float, Device::Cpu);
        let scale = (2.0 / (inputs * size[2] * size[3]) as f64).sqrt();
        Convolution::from_parameters(
            channels_last(&(Tensor::randn(size, float) * scale)).set_requires_grad(true),
            Tensor::zeros([outputs], float).set_requires_grad(true),
        )
    }

    /// Median milliseconds: as the network computes the layer, and in libtorch's operations.
    fn time(&self, batch_size: i64, kind: Kind, training: bool, repeats: usize) -> Result<(f64, f64)> {
        let Layer { operation, inputs, input: [height, width], .. } = *self.0;
        let parts = if operation == (Operation::Convolution { joins: true }) { 2 } else { 1 };
        let size = [batch_size, inputs / parts, height, width];
        // Half of what a ReLU hands on is 0.
        let x = || channels_last(&Tensor::randn(size, (Kind::Float, Device::Cpu)).relu().to_kind(kind));
        let wanted = training && !self.0.reads_image;
        let inputs: Vec<Tensor> = (0..parts).map(|_| x().set_requires_grad(wanted)).collect();
        let backend = Backend::of(&inputs[0])?;
        let mut own = self.convolution();
        let mut plain = self.convolution();
        if !training {
            match operation {
                Operation::Convolution { .. } => own.prepare(backend, &inputs[0], cpu_layers::pack_conv3x3)?,
                Operation::Transposed => own.prepare(backend, &inputs[0], cpu_layers::pack_upconv)?,
                _ => {}
            }
            // Cast once.
            plain.prepare(Backend::Libtorch, &inputs[0], cpu_layers::pack_conv3x3)?;
        }
        let mut times = [Vec::new(), Vec::new()];
        for repeat in 0..=repeats {
            for (side, times) in times.iter_mut().enumerate() {
                let forward =
                    || if side == 0 { self.own(backend, &own, &inputs) } else { self.libtorch(&plain, &inputs) };
                let ms = if training { time_both_ways(forward)? } else { tch::no_grad(|| time_forward(forward))? };
                if repeat > 0 {
                    times.push(ms);
                }
            }
        }
        Ok((median(&mut times[0]), median(&mut times[1])))
    }

    fn own(&self, backend: Backend, convolution: &Convolution, inputs: &[Tensor]) -> Result<Tensor> {
        let x = &inputs[0];
        match self.0.operation {
            Operation::Convolution { .. } => ops::conv3x3_relu(backend, convolution, x, inputs.get(1), GRADIENT),
            Operation::Transposed => ops::upconv_relu(backend, convolution, x, GRADIENT),
            Operation::Pooling => Ok(ops::pool_and_crop(backend, x, self.0.output[0], self.0.output[1])?.0),
            Operation::Head => ops::head(backend, convolution, x),
        }
    }

    fn libtorch(&self, convolution: &Convolution, inputs: &[Tensor]) -> Result<Tensor> {
        let x = &inputs[0];
        Ok(match self.0.operation {
            Operation::Convolution { joins: true } => convolution.forward(&Tensor::cat(inputs, 1))?.relu(),
            Operation::Convolution { joins: false } => convolution.forward(x)?.relu(),
            Operation::Transposed => convolution.forward_transposed(x)?.relu(),
            Operation::Pooling => x.max_pool2d(2, 2, 0, 1, false),
            Operation::Head => convolution.forward(x)?,
        })
    }
}

fn time_forward(forward: impl Fn() -> Result<Tensor>) -> Result<f64> {
    let start = Instant::now();
    drop(forward()?);
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// Forward and backward without the loss between them; its gradient costs backward one pass over the output.
fn time_both_ways(forward: impl Fn() -> Result<Tensor>) -> Result<f64> {
    let above = tch::no_grad(|| forward().map(|y| y.randn_like()))?;
    let start = Instant::now();
    let y = forward()?;
    let mut elapsed = start.elapsed();
    if y.requires_grad() {
        let loss = (y * above).sum(Kind::Float);
        let start = Instant::now();
        loss.backward();
        elapsed += start.elapsed();
    }
    Ok(elapsed.as_secs_f64() * 1e3)
}

/// `values` is not empty.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn sum(rows: &[LayerTime]) -> LayerTime {
    let total = |figure: fn(&LayerTime) -> f64| rows.iter().map(figure).sum();
    LayerTime {
        name: "sum".to_owned(),
        inputs: 1,
        outputs: 2,
        side: INPUT_SIDE,
        gflop: total(|row| row.gflop),
        ms: total(|row| row.ms),
        libtorch_ms: total(|row| row.libtorch_ms),
    }
}

impl LayerReport {
    fn table(&self) -> String {
        let work = if self.training { "forward and backward" } else { "forward" };
        let mut text = format!(
            "{work}, batch {}, {} filters, {}, {} threads; GFLOP/s as of direct convolution\n\
             {:<18}{:>6}{:>6}{:>6}{:>9}{:>10}{:>9}{:>13}{:>9}{:>8}\n",
            self.batch_size,
            self.base_filters,
            self.precision,
            self.threads,
            "layer",
            "in",
            "out",
            "side",
            "GFLOP",
            "unet ms",
            "GFLOP/s",
            "libtorch ms",
            "GFLOP/s",
            "ratio"
        );
        for row in self.layers.iter().chain([&self.sum]) {
            let LayerTime { name, inputs, outputs, side, gflop, ms, libtorch_ms } = row;
            let (rate, libtorch_rate, ratio) = (gflop / ms * 1e3, gflop / libtorch_ms * 1e3, libtorch_ms / ms);
            text += &format!("{name:<18}{inputs:>6}{outputs:>6}{side:>6}{gflop:>9.2}{ms:>10.2}{rate:>9.0}");
            text += &format!("{libtorch_ms:>13.2}{libtorch_rate:>9.0}{ratio:>8.2}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_adds_up_and_the_table_has_a_line_for_each_layer() {
        let row = |ms: f64| LayerTime {
            name: "a".to_owned(),
            inputs: 1,
            outputs: 2,
            side: 3,
            gflop: 1.5,
            ms,
            libtorch_ms: 2.0 * ms,
        };
        let rows = vec![row(1.0), row(3.0)];
        let sum = sum(&rows);
        assert_eq!((sum.gflop, sum.ms, sum.libtorch_ms), (3.0, 4.0, 8.0));
        let report = LayerReport {
            batch_size: 1,
            base_filters: 8,
            precision: "float32",
            training: false,
            threads: 2,
            layers: rows,
            sum,
        };
        let table = report.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 2 + 2 + 1);
        assert!(lines[1..].iter().all(|line| line.len() == lines[1].len()), "{table}");
        assert!(lines[4].starts_with("sum") && lines[4].ends_with("2.00"), "{table}");
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [5.0]), 5.0);
    }
}
