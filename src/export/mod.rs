//! `unet export`: the trained network as a file for other programs, ONNX or TorchScript, in place of the reference's `export.py`.
//!
//! Here: the command, what the file says about itself, and its check before it appears. The formats are in `onnx.rs` and
//! `torchscript.rs`; the operations that both write, in `wiring.rs`. docs/deployment.md shows what to do with the files.
//!
//! Shapes: N images, H, W pixels.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use crate::atomic::AtomicFile;
use crate::checkpoint;
use crate::cli::{ExportArgs, ExportFormat};
use crate::data::phantom;
use crate::data::preprocess::{INPUT_SIDE, MARGIN, frame, normalise, resize};
use crate::data::stack::{ImageStack, TEST_VOLUME, TRAIN_VOLUME, stack_path};
use crate::data::values::GreyRange;
use crate::error::UsageError;
use crate::model::architecture::Architecture;
use crate::model::unet::{UNet, fitting_sides, output_side};
use crate::model_dir::{ModelDir, create_parent};

mod onnx;
mod onnx_messages;
mod torchscript;
mod wiring;

/// Largest difference from our own output that a file in float32 may have, and one in float16; for outputs beyond 1, relative
/// to the largest. Both sides round differently; float16 has 3 digits.
const LIMIT: f64 = 1e-4;
const HALF_LIMIT: f64 = 1e-2;

/// Sides of the phantom that stands in for a real slice.
const SYNTHETIC_SIDE: usize = 512;

/// What the file is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    architecture: Architecture,
    /// Height and width of the input; `None` for any that fit.
    sides: Option<[i64; 2]>,
    /// Parameters and operations in float16; inputs and outputs stay in float32.
    half: bool,
    /// Whether the output is softmax probabilities rather than logits.
    softmax: bool,
    /// Stored values that become -1 and 1.
    range: GreyRange,
}

impl Form {
    /// Name of the input, `[N, 1, H, W]`.
    const INPUT: &str = "images";

    /// Name of the output, `[N, 2, output_side(H), output_side(W)]`.
    fn output_name(&self) -> &'static str {
        if self.softmax { "probabilities" } else { "logits" }
    }

    fn output_sides(&self) -> Option<[i64; 2]> {
        // Those of `sides` were checked to fit.
        self.sides.map(|sides| sides.map(|side| side - 2 * MARGIN))
    }

    /// What the file gives for `logits`.
    fn output(&self, logits: Tensor) -> Tensor {
        if self.softmax { logits.softmax(1, Kind::Float) } else { logits }
    }

    fn kind(&self) -> Kind {
        if self.half { Kind::Half } else { Kind::Float }
    }

    /// What a user of the file must know about it.
    fn metadata(&self) -> Map<String, Value> {
        let (smallest, step) = fitting_sides();
        let sides = |sides: Option<[i64; 2]>| sides.map_or(json!("dynamic"), |sides| json!(sides));
        let metadata = json!({
            "source": concat!("unet ", env!("CARGO_PKG_VERSION")),
            "base_filters": self.architecture.base_filters,
            "input": format!("{}: float32 [N, 1, height, width]", Self::INPUT),
            "output": format!("{}: float32 [N, 2, height - {}, width - {}]", self.output_name(), 2 * MARGIN, 2 * MARGIN),
            "input_size": sides(self.sides),
            "output_size": sides(self.output_sides()),
            "sides_that_fit": format!("{smallest} + {step} k"),
            "classes": ["membrane", "background"],
            "precision": if self.half { "float16" } else { "float32" },
            "resize": "to output_size: bilinear, half-pixel centres, no antialiasing",
            "normalisation": "x = (v - black) / ((white - black) / 2) - 1",
            "black": self.range.black,
            "white": self.range.white,
            "frame": format!("{MARGIN} pixels of 0 on each side, after resizing and normalisation"),
        });
        metadata.as_object().cloned().unwrap_or_default()
    }
}

/// Writes `args.out`, which appears once it has been read back and computes what our own network does.
///
/// Errors: sides that do not fit, no weights, a file that is there already without `--overwrite`, one that fails its check.
pub fn export(args: &ExportArgs) -> Result<()> {
    let sides = sides(args)?;
    if args.out.exists() && !args.overwrite {
        bail!("'{}' is there already; use --overwrite to replace it, or another --out", args.out.display());
    }
    let model_dir = ModelDir::new(&args.model_dir);
    let net = checkpoint::load_weights(&model_dir.weights(), None, Device::Cpu)?;
    let slices = match &args.data_dir {
        Some(data_dir) => Slices::read(data_dir)?,
        None => Slices::synthetic(recorded_range(&model_dir)),
    };
    let (architecture, range) = (net.architecture, slices.range);
    let form = Form { architecture, sides, half: args.amp, softmax: !args.no_softmax, range };
    create_parent(&args.out)?;
    let cannot_write = || format!("cannot write '{}'", args.out.display());
    let file = AtomicFile::create(&args.out).with_context(cannot_write)?;
    match args.to {
        ExportFormat::Onnx => onnx::write(&net, &form, file.file()),
        ExportFormat::Torchscript => torchscript::write(&net, &form, file.temporary_path()),
    }
    .with_context(cannot_write)?;
    let check = Check::new(net, &form, &slices, file.temporary_path(), args.to)
        .with_context(|| format!("cannot check '{}', which is therefore not written", args.out.display()))?;
    check.require(&form, &args.out)?;
    let bytes = file.file().metadata().with_context(cannot_write)?.len();
    file.commit().with_context(cannot_write)?;
    report(args, &form, &slices, &check, bytes);
    Ok(())
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

/// How the images were mapped that the network was trained on, where its folder still says so.
fn recorded_range(model_dir: &ModelDir) -> Option<GreyRange> {
    let record: Value = serde_json::from_slice(&fs::read(model_dir.config()).ok()?).ok()?;
    GreyRange::deserialize(&record["datasets"][0]["grey_range"]).ok()
}

/// The slices that the file is checked with.
struct Slices {
    /// `[P, H, W]` samples, and what they are mapped by.
    samples: Tensor,
    stored_range: GreyRange,
    /// In units of the file's samples.
    range: GreyRange,
    name: String,
}

impl Slices {
    /// Slices of the phantom, for a network that was trained on values of `range`: by default 8-bit ones.
    fn synthetic(range: Option<GreyRange>) -> Self {
        let phantom = phantom::generate(2, SYNTHETIC_SIDE, 0).test_volume;
        let side = SYNTHETIC_SIDE as i64;
        let samples = Tensor::from_slice(&phantom.into_iter().collect::<Vec<u8>>()).view([2, side, side]);
        let bytes = GreyRange { black: 0.0, white: 255.0 };
        Self { samples, stored_range: bytes, range: range.unwrap_or(bytes), name: "a synthetic slice".to_owned() }
    }

    /// Two slices of the test stack in `data_dir`, or where that is absent of the training stack.
    fn read(data_dir: &Path) -> Result<Self> {
        let name = if data_dir.join(TEST_VOLUME).is_file() { TEST_VOLUME } else { TRAIN_VOLUME };
        let path = stack_path(data_dir, name)?;
        let stack = ImageStack::read(&path, Device::Cpu)?;
        let samples = stack.select(&[0, stack.pages() - 1]);
        let name = format!("the first slice of '{}'", path.display());
        Ok(Self { samples, stored_range: stack.stored_range(), range: stack.range, name })
    }

    /// The first `count` slices as the network's input, `[N, 1, height, width]` f32.
    fn images(&self, count: i64, [height, width]: [i64; 2]) -> Tensor {
        let samples = normalise(&self.samples.narrow(0, 0, count), self.stored_range);
        frame(&resize(&samples, height - 2 * MARGIN, width - 2 * MARGIN))
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
    /// Reads the file at `path` back and runs it: on one slice of the fixed size, or on two sizes of which one is not square.
    fn new(net: UNet, form: &Form, slices: &Slices, path: &Path, format: ExportFormat) -> Result<Self> {
        let (smallest, step) = fitting_sides();
        let images = match form.sides {
            Some(sides) => vec![slices.images(1, sides)],
            None => vec![slices.images(1, [INPUT_SIDE; 2]), slices.images(2, [smallest, smallest + step])],
        };
        let outputs = match format {
            ExportFormat::Onnx => onnx::run(path, &images)?,
            ExportFormat::Torchscript => torchscript::run(path, &images)?,
        };
        let half = form.half.then(|| half_logits(&net, slices)).transpose()?;
        let net = net.prepare_for_prediction(Kind::Float)?;
        let mut check = Self { difference: 0.0, largest: 0.0 };
        for (images, output) in images.iter().zip(outputs) {
            check.add(&form.output(net.forward(images)?), &output)?;
        }
        if let Some((images, logits)) = half {
            check.add(&form.output(net.forward(&images)?), &form.output(logits))?;
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

    fn limit(&self, form: &Form) -> f64 {
        let limit = if form.half { HALF_LIMIT } else { LIMIT };
        limit * self.largest.max(1.0)
    }

    /// Errors: a difference beyond the limit, or output that is no number.
    fn require(&self, form: &Form, out: &Path) -> Result<()> {
        let limit = self.limit(form);
        if self.difference <= limit {
            return Ok(());
        }
        let advice =
            if form.half { "float16 does not suffice for these weights, leave out --amp" } else { "report this" };
        bail!(
            "the exported network's output differs from ours by {:.1e}, at most {limit:.1e} is allowed; {advice}; '{}' is not written",
            self.difference,
            out.display()
        )
    }
}

/// An image and our own network's logits for it in float16 arithmetic, which the files do on a GPU alone: where numbers overflow
/// it is found here. Of the smallest size, as that takes a CPU long.
fn half_logits(net: &UNet, slices: &Slices) -> Result<(Tensor, Tensor)> {
    let (smallest, _) = fitting_sides();
    // Without the frame, which would be most of it.
    let images = resize(&normalise(&slices.samples.narrow(0, 0, 1), slices.stored_range), smallest, smallest);
    let logits = tch::no_grad(|| net.forward(&images.to_kind(Kind::Half), false))?;
    Ok((images, logits.to_kind(Kind::Float)))
}

fn report(args: &ExportArgs, form: &Form, slices: &Slices, check: &Check, bytes: u64) {
    let shape = |channels: i64, sides: Option<[i64; 2]>, free: &str| match sides {
        Some([height, width]) => format!("[N, {channels}, {height}, {width}]"),
        None => format!("[N, {channels}, {free}]"),
    };
    let smaller = format!("H - {0}, W - {0}", 2 * MARGIN);
    let Architecture { channels, classes, .. } = form.architecture;
    println!("{}: {:.1} MB, {}", args.out.display(), bytes as f64 / 1e6, if form.half { "float16" } else { "float32" });
    println!("  input   {} {}", Form::INPUT, shape(channels, form.sides, "H, W"));
    println!("  output  {} {}", form.output_name(), shape(classes, form.output_sides(), &smaller));
    println!(
        "  check   read back, its output differs from ours by {:.1e} at most (limit {:.1e}) on {}",
        check.difference,
        check.limit(form),
        slices.name
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(half: bool) -> Form {
        let range = GreyRange { black: 0.0, white: 255.0 };
        Form { architecture: Architecture::for_slices(2), sides: Some([188, 204]), half, softmax: true, range }
    }

    fn net(seed: u64) -> UNet {
        UNet::with_fresh_weights(Architecture::for_slices(2), seed, Device::Cpu).unwrap()
    }

    #[test]
    fn a_file_with_one_changed_bias_fails_its_check() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net");
        let slices = Slices::synthetic(None);
        for (half, format) in
            [false, true].into_iter().flat_map(|half| [(half, ExportFormat::Onnx), (half, ExportFormat::Torchscript)])
        {
            let form = form(half);
            match format {
                ExportFormat::Onnx => onnx::write(&net(0), &form, fs::File::create(&path).unwrap()).unwrap(),
                ExportFormat::Torchscript => torchscript::write(&net(0), &form, &path).unwrap(),
            }
            let verdict = |net: UNet| Check::new(net, &form, &slices, &path, format).unwrap().require(&form, &path);
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
        assert!(check.require(&form(false), Path::new("net")).is_err());
        assert!(check.add(&numbers, &numbers.view([2, 1])).is_err());
    }
}
