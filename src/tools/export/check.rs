//! The check of an exported file before it appears: read back, it must compute what our own network does.
//!
//! Shapes: N images, C channels, H, W pixels.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

use super::slices::Slices;
use super::spec::ExportSpec;
use super::{onnx, torchscript};
use crate::model::sides::fitting_sides;
use crate::model::unet::{Predictor, UNet};
use crate::recipe::preprocessing::{normalise, resize};

/// Largest difference from our own output that a file in float32 may have, and one in float16; for outputs beyond 1,
/// relative to the largest. Both sides round differently; float16 has 3 digits.
const LIMIT: f64 = 1e-4;
const HALF_LIMIT: f64 = 1e-2;

/// A format of files: how one is written, and run.
#[derive(Debug)]
pub struct Format {
    pub name: &'static str,
    pub write: fn(&UNet, &ExportSpec, &Path) -> Result<()>,
    pub run: fn(&Path, &[Tensor]) -> Result<Vec<Tensor>>,
}

pub const ONNX: Format =
    Format { name: "ONNX", write: |net, spec, path| onnx::write(net, spec, File::create(path)?), run: onnx::run };
pub const TORCHSCRIPT: Format = Format { name: "TorchScript", write: torchscript::write, run: torchscript::run };

/// Writes `net` to these paths, each in its format, and checks the files, for a file `out` that messages name.
///
/// Errors: a file that cannot be written or read back, and one that computes something else.
pub fn write_checked(
    net: UNet,
    spec: &ExportSpec,
    slices: &Slices,
    files: &[(&'static Format, &Path)],
    out: &Path,
) -> Result<(Own, Vec<Check>)> {
    for (format, path) in files {
        (format.write)(&net, spec, path).with_context(|| format!("cannot write '{}'", out.display()))?;
    }
    let own = Own::new(net, spec, slices)?;
    let checked = |&(format, path): &(&'static Format, &Path)| {
        let check = Check::new(&own, spec, slices, path, format)
            .with_context(|| format!("cannot check '{}', which is therefore not written", out.display()))?;
        check.require(spec, out).map(|()| check)
    };
    let checks = files.iter().map(checked).collect::<Result<_>>()?;
    Ok((own, checks))
}

/// Our own network, which files are compared with.
pub struct Own {
    pub net: Predictor,
    /// An image, and the logits for it in float16 arithmetic, to check files in float16.
    half: Option<(Tensor, Tensor)>,
}

impl Own {
    pub fn new(net: UNet, spec: &ExportSpec, slices: &Slices) -> Result<Self> {
        let half = spec.half.then(|| half_logits(&net, slices)).transpose()?;
        Ok(Self { net: net.prepare_for_prediction(Kind::Float)?, half })
    }
}

/// How far the output of a file is from that of our own network.
pub struct Check {
    pub format: &'static Format,
    /// Largest absolute difference.
    pub difference: f64,
    /// Largest absolute output of ours.
    largest: f64,
}

impl Check {
    /// Reads the file at `path` back and runs it: on one slice of the fixed size, or on two sizes of which one is not
    /// square.
    pub fn new(own: &Own, spec: &ExportSpec, slices: &Slices, path: &Path, format: &'static Format) -> Result<Self> {
        let (smallest, step) = spec.fitting_sides();
        let images = match spec.sides {
            Some(sides) => vec![slices.images(1, sides, spec)],
            None => {
                // 572 pixels, the input of the paper, where the file does not frame it.
                let large = smallest + 24 * step;
                vec![slices.images(1, [large; 2], spec), slices.images(2, [smallest, smallest + step], spec)]
            }
        };
        let mut check = Self { format, difference: 0.0, largest: 0.0 };
        for (images, output) in images.iter().zip((format.run)(path, &images)?) {
            check.add(&spec.expected(&own.net, images)?, &output)?;
        }
        if let Some((images, logits)) = &own.half {
            check.add(&spec.output(own.net.forward(images)?), &spec.output(logits.shallow_clone()))?;
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

    pub fn limit(&self, spec: &ExportSpec) -> f64 {
        let limit = if spec.half { HALF_LIMIT } else { LIMIT };
        limit * self.largest.max(1.0)
    }

    /// Errors: a difference beyond the limit, or output that is no number.
    pub fn require(&self, spec: &ExportSpec, out: &Path) -> Result<()> {
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
    // The image has no frame, which would be most of it.
    let first = &slices.slices[0];
    let images = resize(&normalise(&first.image.unsqueeze(0), first.range), smallest, smallest);
    let logits = tch::no_grad(|| net.forward(&images.to_kind(Kind::Half), 0.0))?;
    Ok((images, logits.to_kind(Kind::Float)))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::super::spec::Padding;
    use super::*;
    use crate::data::spec::{DataSpec, GreyScaling, Recipe};
    use crate::data::values::GreyRange;
    use crate::model::architecture::Architecture;

    fn spec(half: bool) -> ExportSpec {
        let range = GreyRange { black: 0.0, white: 255.0 };
        let (architecture, data) = (Architecture::for_slices(2), DataSpec::isbi());
        ExportSpec { architecture, data, sides: Some([188, 204]), half, softmax: true, range, padding: None }
    }

    fn net(seed: u64) -> UNet {
        UNet::with_fresh_weights(Architecture::for_slices(2), seed, Device::Cpu).unwrap()
    }

    /// Writes the weights of `net` to `path` in both formats, one after the other; `verdict` gets the format.
    fn for_both(spec: &ExportSpec, path: &Path, verdict: impl Fn(&'static Format)) {
        for format in [&ONNX, &TORCHSCRIPT] {
            (format.write)(&net(0), spec, path).unwrap();
            verdict(format);
        }
    }

    #[test]
    fn a_file_with_one_changed_bias_fails_its_check() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net");
        let slices = Slices::synthetic(None, 1);
        for spec in [false, true].map(spec) {
            for_both(&spec, &path, |format| {
                let verdict = |net: UNet| {
                    let own = Own::new(net, &spec, &slices).unwrap();
                    Check::new(&own, &spec, &slices, &path, format).unwrap().require(&spec, &path)
                };
                verdict(net(0)).unwrap();
                let changed = net(0);
                for (name, tensor) in changed.parameters() {
                    if name == "head.bias" {
                        tch::no_grad(|| drop(tensor.get(1).fill_(0.1)));
                    }
                }
                let message = verdict(changed).unwrap_err().to_string();
                assert!(message.contains("differs from ours by") && message.contains("is not written"), "{message}");
            });
        }
    }

    /// The frame is that of the recipe in both formats. Compared with our own network on an input framed by hand.
    #[test]
    fn files_that_frame_their_input_compute_what_a_framed_input_gives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net");
        tch::manual_seed(3);
        for recipe in [Recipe::Reference, Recipe::Native { grey: GreyScaling::Range }] {
            let padding = Padding::of(recipe);
            let data = DataSpec { recipe, ..DataSpec::isbi() };
            let spec = ExportSpec { data, sides: None, softmax: false, padding: Some(padding), ..spec(false) };
            let (smallest, step) = spec.fitting_sides();
            let images = Tensor::rand([2, 1, smallest + step, smallest], (Kind::Float, Device::Cpu));
            // Pixels are placed one by one, without libtorch's own padding.
            let place = |index: i64, length: i64| match recipe {
                Recipe::Reference => Some(index).filter(|&index| (0..length).contains(&index)),
                // There and back is a period.
                Recipe::Native { .. } => {
                    let place = index.rem_euclid(2 * (length - 1));
                    Some(place.min(2 * (length - 1) - place))
                }
            };
            let framed = along(&along(&images, 2, padding, &place), 3, padding, &place);
            let net_of_program = net(0).prepare_for_prediction(Kind::Float).unwrap();
            let expected = net_of_program.forward(&framed).unwrap();
            let expected = expected.narrow(2, 0, smallest + step).narrow(3, 0, smallest);
            assert!(expected.abs().max().double_value(&[]) > 0.01, "nothing to compare");
            for_both(&spec, &path, |format| {
                let output = (format.run)(&path, &[images.shallow_clone()]).unwrap().remove(0);
                let difference = crate::testing::largest_difference(&output, &expected);
                assert!(difference < 1e-4, "{recipe:?}: {difference}");
            });
        }
    }

    /// `images` with a frame along `axis`; `place` says where each of its pixels is taken from, `None` for 0.
    fn along(images: &Tensor, axis: i64, padding: Padding, place: &dyn Fn(i64, i64) -> Option<i64>) -> Tensor {
        let length = images.size()[axis as usize];
        let pixel = |index: i64| match place(index, length) {
            Some(place) => images.narrow(axis, place, 1),
            None => images.narrow(axis, 0, 1).zeros_like(),
        };
        let pixels: Vec<Tensor> = (-padding.before..length + padding.after).map(pixel).collect();
        Tensor::cat(&pixels, axis)
    }

    #[test]
    fn output_that_is_no_number_fails_the_check() {
        let mut check = Check { format: &ONNX, difference: 0.0, largest: 0.0 };
        let numbers = Tensor::from_slice(&[1f32, 2.0]);
        check.add(&numbers, &Tensor::from_slice(&[1f32, f32::NAN])).unwrap();
        check.add(&numbers, &numbers).unwrap();
        assert!(check.require(&spec(false), Path::new("net")).is_err());
        assert!(check.add(&numbers, &numbers.view([2, 1])).is_err());
    }
}
