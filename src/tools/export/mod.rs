//! `unet export`: the trained network as a file for other programs, ONNX or TorchScript, in place of the reference's
//! `export.py`.
//!
//! Here: the command, what the file says about itself, and its check before it appears. The formats are in `onnx.rs`
//! and `torchscript.rs`; the operations that both write, in `wiring.rs`. docs/deployment.md shows what to do with the
//! files.
//!
//! Shapes: N images, H, W pixels.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

use super::phantom;
use crate::checkpoint;
use crate::cli::{ExportArgs, ExportFormat};
use crate::data::layout::Layout;
use crate::data::slices::{ReadOptions, Slice, SliceSet};
use crate::data::spec::DataSpec;
use crate::data::values::{GreyChoice, GreyRange};
use crate::error::UsageError;
use crate::files::{AtomicFile, create_parent};
use crate::model::architecture::Architecture;
use crate::model::sides::{fitting_sides, output_side};
use crate::model::unet::UNet;
use crate::output::manifest;
use crate::output::model_dir::ModelDir;
use crate::recipe::preprocessing::{INPUT_SIDE, MARGIN, frame, normalise, resize};
use crate::run::weights::WeightFile;

mod onnx;
mod onnx_messages;
mod spec;
mod torchscript;
mod wiring;

use spec::ExportSpec;

/// Largest difference from our own output that a file in float32 may have, and one in float16; for outputs beyond 1,
/// relative to the largest. Both sides round differently; float16 has 3 digits.
const LIMIT: f64 = 1e-4;
const HALF_LIMIT: f64 = 1e-2;

/// Sides of the phantom that stands in for a real slice.
const SYNTHETIC_SIDE: usize = 512;

/// Writes `args.out`, which appears once it has been read back and computes what our own network does.
///
/// Errors: sides that do not fit, no weights, a file that is there already without `--overwrite`, one that fails its
/// check.
pub fn export(args: &ExportArgs) -> Result<()> {
    let sides = sides(args)?;
    if args.out.exists() && !args.overwrite {
        bail!("'{}' is there already; use --overwrite to replace it, or another --out", args.out.display());
    }
    let model_dir = ModelDir::new(&args.model_dir);
    let WeightFile { path: weights, warnings } = WeightFile::find(&model_dir, args.weights)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let net = checkpoint::load_weights(&weights, None, Device::Cpu)?;
    let data = checkpoint::data_spec(&weights)?;
    let slices = match &args.data_dir {
        Some(data_dir) => Slices::read(data_dir, &data)?,
        None => Slices::synthetic(range_of_training(&data, &model_dir), data.channels),
    };
    let (architecture, range) = (net.architecture, slices.range);
    let spec = ExportSpec { architecture, data, sides, half: args.amp, softmax: !args.no_softmax, range };
    create_parent(&args.out)?;
    let cannot_write = || format!("cannot write '{}'", args.out.display());
    let file = AtomicFile::create(&args.out).with_context(cannot_write)?;
    match args.to {
        ExportFormat::Onnx => onnx::write(&net, &spec, file.file()),
        ExportFormat::Torchscript => torchscript::write(&net, &spec, file.temporary_path()),
    }
    .with_context(cannot_write)?;
    let check = Check::new(net, &spec, &slices, file.temporary_path(), args.to)
        .with_context(|| format!("cannot check '{}', which is therefore not written", args.out.display()))?;
    check.require(&spec, &args.out)?;
    let bytes = file.file().metadata().with_context(cannot_write)?.len();
    file.commit().with_context(cannot_write)?;
    report(args, &spec, &slices, &check, bytes);
    Ok(())
}

/// The values that the network of `model_dir` was trained on: of several sample types those of the smallest. Weights of
/// 0.1.0 do not say it, the record of their run does.
fn range_of_training(data: &DataSpec, model_dir: &ModelDir) -> Option<GreyRange> {
    data.grey_ranges.values().next().copied().or_else(|| manifest::grey_range(model_dir))
}

/// Errors: a side that does not fit the network, with the next ones that do.
fn sides(args: &ExportArgs) -> Result<Option<[i64; 2]>, UsageError> {
    if args.dynamic {
        return Ok(None);
    }
    for (flag, side) in [("--height", args.height), ("--width", args.width)] {
        output_side(side as i64).map_err(|error| UsageError::new(format!("{flag} {side}: {error}")))?;
    }
    Ok(Some([args.height as i64, args.width as i64]))
}

/// The slices that the file is checked with: two, or one twice.
struct Slices {
    slices: [Slice; 2],
    /// In units of the file's samples.
    range: GreyRange,
    name: String,
}

impl Slices {
    /// Slices of the phantom, for a network that was trained on values of `range`: by default 8-bit ones.
    fn synthetic(range: Option<GreyRange>, channels: usize) -> Self {
        let phantom = phantom::generate(1 + channels, SYNTHETIC_SIDE, 0).test_volume;
        let side = SYNTHETIC_SIDE as i64;
        let samples = Tensor::from_slice(&phantom.into_iter().collect::<Vec<u8>>()).view([-1, side, side]);
        let bytes = GreyRange { black: 0.0, white: 255.0 };
        let slice = |first| Slice::unlabelled(samples.narrow(0, first, channels as i64), bytes);
        Self { slices: [slice(0), slice(1)], range: range.unwrap_or(bytes), name: "a synthetic slice".to_owned() }
    }

    /// Two slices of the images to predict in `data_dir`, or where there are none of the training images.
    fn read(data_dir: &Path, data: &DataSpec) -> Result<Self> {
        let layout = Layout::find(data_dir)?;
        let options = ReadOptions {
            device: Device::Cpu,
            budget: 0,
            with_weights: false,
            map: None,
            trained: Some(data),
            grey: GreyChoice::Auto,
            by_image: data.recipe.is_by_image(),
            progress: &|_, _| {},
        };
        let set = match layout.test.is_empty() {
            true => SliceSet::training(&layout, &options)?,
            false => SliceSet::test(&layout, &options)?,
        };
        if set.spec.channels != data.channels {
            let (found, wanted) = (set.spec.channels, data.channels);
            bail!("{} has {found} channel(s), the network takes {wanted}; give other --data_dir", set.name(0));
        }
        set.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        let slices = [set.get(0)?, set.get(set.len() - 1)?];
        Ok(Self { slices, range: set.grey_range(), name: format!("the first slice of {}", set.name(0)) })
    }

    /// The first `count` slices as the network's input, `[N, C, height, width]` f32.
    fn images(&self, count: usize, [height, width]: [i64; 2]) -> Tensor {
        let image = |slice: &Slice| {
            let samples = normalise(&slice.image.unsqueeze(0), slice.range);
            frame(&resize(&samples, height - 2 * MARGIN, width - 2 * MARGIN))
        };
        Tensor::cat(&self.slices[..count].iter().map(image).collect::<Vec<_>>(), 0)
    }
}

/// How far the output of a file is from that of our own network.
struct Check {
    /// Largest absolute difference.
    difference: f64,
    /// Largest absolute output of ours.
    largest: f64,
}

impl Check {
    /// Reads the file at `path` back and runs it: on one slice of the fixed size, or on two sizes of which one is not
    /// square.
    fn new(net: UNet, spec: &ExportSpec, slices: &Slices, path: &Path, format: ExportFormat) -> Result<Self> {
        let (smallest, step) = fitting_sides();
        let images = match spec.sides {
            Some(sides) => vec![slices.images(1, sides)],
            None => vec![slices.images(1, [INPUT_SIDE; 2]), slices.images(2, [smallest, smallest + step])],
        };
        let outputs = match format {
            ExportFormat::Onnx => onnx::run(path, &images)?,
            ExportFormat::Torchscript => torchscript::run(path, &images)?,
        };
        let half = spec.half.then(|| half_logits(&net, slices)).transpose()?;
        let net = net.prepare_for_prediction(Kind::Float)?;
        let mut check = Self { difference: 0.0, largest: 0.0 };
        for (images, output) in images.iter().zip(outputs) {
            check.add(&spec.output(net.forward(images)?), &output)?;
        }
        if let Some((images, logits)) = half {
            check.add(&spec.output(net.forward(&images)?), &spec.output(logits))?;
        }
        Ok(check)
    }

    fn add(&mut self, expected: &Tensor, output: &Tensor) -> Result<()> {
        if output.size() != expected.size() {
            bail!("its output is {:?}, expected {:?}", output.size(), expected.size());
        }
        let largest = |x: Tensor| x.abs().max().double_value(&[]);
        // NaN is the largest of all.
        let worst = |a: f64, b: f64| if a.is_nan() || a > b { a } else { b };
        self.difference = worst(largest(output - expected), self.difference);
        self.largest = worst(largest(expected.shallow_clone()), self.largest);
        Ok(())
    }

    fn limit(&self, spec: &ExportSpec) -> f64 {
        let limit = if spec.half { HALF_LIMIT } else { LIMIT };
        limit * self.largest.max(1.0)
    }

    /// Errors: a difference beyond the limit, or output that is no number.
    fn require(&self, spec: &ExportSpec, out: &Path) -> Result<()> {
        let limit = self.limit(spec);
        if self.difference <= limit {
            return Ok(());
        }
        let advice =
            if spec.half { "float16 does not suffice for these weights, leave out --amp" } else { "report this" };
        bail!(
            "the exported network's output differs from ours by {:.1e}, at most {limit:.1e} is allowed; {advice}; \
             '{}' is not written",
            self.difference,
            out.display()
        )
    }
}

/// An image and our own network's logits for it in float16 arithmetic, which the files do on a GPU alone: where numbers
/// overflow it is found here. The smallest image: float16 is slow on a CPU.
fn half_logits(net: &UNet, slices: &Slices) -> Result<(Tensor, Tensor)> {
    let (smallest, _) = fitting_sides();
    // Without the frame, which would be most of it.
    let first = &slices.slices[0];
    let images = resize(&normalise(&first.image.unsqueeze(0), first.range), smallest, smallest);
    let logits = tch::no_grad(|| net.forward(&images.to_kind(Kind::Half), false))?;
    Ok((images, logits.to_kind(Kind::Float)))
}

fn report(args: &ExportArgs, spec: &ExportSpec, slices: &Slices, check: &Check, bytes: u64) {
    let shape = |channels: i64, sides: Option<[i64; 2]>, free: &str| match sides {
        Some([height, width]) => format!("[N, {channels}, {height}, {width}]"),
        None => format!("[N, {channels}, {free}]"),
    };
    let smaller = format!("H - {0}, W - {0}", 2 * MARGIN);
    let Architecture { channels, classes, .. } = spec.architecture;
    println!("{}: {:.1} MB, {}", args.out.display(), bytes as f64 / 1e6, if spec.half { "float16" } else { "float32" });
    println!("  input   {} {}", ExportSpec::INPUT, shape(channels, spec.sides, "H, W"));
    println!("  output  {} {}", spec.output_name(), shape(classes, spec.output_sides(), &smaller));
    println!(
        "  check   read back, its output differs from ours by {:.1e} at most (limit {:.1e}) on {}",
        check.difference,
        check.limit(spec),
        slices.name
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(half: bool) -> ExportSpec {
        let range = GreyRange { black: 0.0, white: 255.0 };
        let (architecture, data) = (Architecture::for_slices(2), DataSpec::isbi());
        ExportSpec { architecture, data, sides: Some([188, 204]), half, softmax: true, range }
    }

    fn net(seed: u64) -> UNet {
        UNet::with_fresh_weights(Architecture::for_slices(2), seed, Device::Cpu).unwrap()
    }

    #[test]
    fn a_file_with_one_changed_bias_fails_its_check() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net");
        let slices = Slices::synthetic(None, 1);
        for (half, format) in
            [false, true].into_iter().flat_map(|half| [(half, ExportFormat::Onnx), (half, ExportFormat::Torchscript)])
        {
            let spec = spec(half);
            match format {
                ExportFormat::Onnx => onnx::write(&net(0), &spec, std::fs::File::create(&path).unwrap()).unwrap(),
                ExportFormat::Torchscript => torchscript::write(&net(0), &spec, &path).unwrap(),
            }
            let verdict = |net: UNet| Check::new(net, &spec, &slices, &path, format).unwrap().require(&spec, &path);
            verdict(net(0)).unwrap();
            let changed = net(0);
            for (name, tensor) in changed.parameters() {
                if name == "head.bias" {
                    tch::no_grad(|| drop(tensor.get(1).fill_(0.1)));
                }
            }
            let message = verdict(changed).unwrap_err().to_string();
            assert!(message.contains("differs from ours by") && message.contains("is not written"), "{message}");
        }
    }

    #[test]
    fn output_that_is_no_number_fails_the_check() {
        let mut check = Check { difference: 0.0, largest: 0.0 };
        let numbers = Tensor::from_slice(&[1f32, 2.0]);
        check.add(&numbers, &Tensor::from_slice(&[1f32, f32::NAN])).unwrap();
        check.add(&numbers, &numbers).unwrap();
        assert!(check.require(&spec(false), Path::new("net")).is_err());
        assert!(check.add(&numbers, &numbers.view([2, 1])).is_err());
    }
}
