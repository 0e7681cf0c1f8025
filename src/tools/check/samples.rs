//! Training samples made on the device against the same samples made on the CPU: both recipes draw from seed and sample
//! number alone, so that only rounding may differ.
//!
//! Shapes: C channels, H, W pixels.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::result::{CheckResult, SEED, border_weights, distance};
use crate::data::emphasis::Emphasis;
use crate::data::random::{Purpose, stream};
use crate::data::slices::Slice;
use crate::data::spec::GreyScaling;
use crate::data::values::GreyRange;
use crate::native::cuda;
use crate::recipe::augmentation::{self, Augmentation};
use crate::recipe::batches::{self, WindowOptions};
use crate::recipe::preprocessing::Targets;
use crate::recipe::windows::Geometry;
use crate::tools::phantom;

/// Samples of each recipe; each change of the native recipe is drawn for some of them.
const SAMPLES: u64 = 24;
const TARGETS: Targets = Targets { classes: 3, has_ignored: true };
/// Everything that the native recipe can draw.
const WINDOWS: WindowOptions = WindowOptions {
    side: 196,
    grey: GreyScaling::Image,
    geometry: Geometry { flips: true, rotation: true, scale: true, elastic: true },
    grey_changes: true,
    rare_class_share: 0.0,
};

/// Largest distance of images and of weights in f32, which both devices compute in full.
const LIMIT: f64 = 1e-4;
/// Largest share of labels that differ: where two classes are equally near, rounding decides.
const LABELS_LIMIT: f64 = 1e-3;

/// How far samples of both recipes on `device` are from those on the CPU.
pub fn compare_with_cpu(device: Device) -> Result<Vec<CheckResult>> {
    // The blur of the native recipe is a convolution.
    if device.is_cuda() {
        cuda::allow_tf32(false)?;
    }
    let (found, expected) = (Samples::make(device, SEED)?, Samples::make(Device::Cpu, SEED)?);
    Ok(found.compare(&expected))
}

/// Samples of both recipes: images, class indices, and weights of the native recipe.
struct Samples {
    reference: [Vec<Tensor>; 2],
    native: [Vec<Tensor>; 3],
}

impl Samples {
    fn make(device: Device, seed: u64) -> Result<Self> {
        let slice = slice().to_device(device);
        let mut native = [Vec::new(), Vec::new(), Vec::new()];
        for sample in 0..SAMPLES {
            let batch = WINDOWS.batch(seed, sample, &slice, TARGETS)?;
            native[0].push(batch.images);
            native[1].push(batch.labels);
            native[2].extend(batch.weights);
        }
        let slices = [slice];
        let images = batches::preprocessed_images(&slices);
        let labels = batches::preprocessed_labels(&slices, TARGETS)?;
        let mut reference = [Vec::new(), Vec::new()];
        for sample in 0..SAMPLES {
            let transform = Augmentation::draw(&mut stream(seed, Purpose::Augmentation, sample));
            let (image, label) = augmentation::apply(&images, &labels, TARGETS, &[transform]);
            reference[0].push(image);
            reference[1].push(label);
        }
        Ok(Self { reference, native })
    }

    fn compare(&self, expected: &Self) -> Vec<CheckResult> {
        let row = |name: &str, value, limit| CheckResult { name: format!("{name}, CPU and device"), value, limit };
        let (own, other) = (&self.reference, &expected.reference);
        let (windows, others) = (&self.native, &expected.native);
        vec![
            row("augmented images", distance(&own[0], &other[0]), LIMIT),
            row("labels of augmented images that differ", share_that_differs(&own[1], &other[1]), LABELS_LIMIT),
            row("images of the native recipe", distance(&windows[0], &others[0]), LIMIT),
            row("labels of the native recipe that differ", share_that_differs(&windows[1], &others[1]), LABELS_LIMIT),
            row("weights of the native recipe", distance(&windows[2], &others[2]), LIMIT),
        ]
    }
}

/// A slice of three channels and three classes, with weights between objects; on the CPU.
fn slice() -> Slice {
    let phantom = phantom::generate(3, 512, SEED);
    let values: Vec<u8> = phantom.train_volume.iter().copied().collect();
    let image = Tensor::from_slice(&values).view([3, 512, 512]);
    let labels: Vec<u8> = phantom.train_labels.iter().take(512 * 512).map(|&label| label.min(1)).collect();
    let classes = Tensor::from_slice(&labels).view([512, 512]);
    let _ = classes.narrow(1, 340, 172).fill_(2);
    let emphasis = Emphasis { weights: Some(border_weights(&classes.unsqueeze(0)).get(0)), rare_pixels: None };
    let range = GreyRange { black: 0.0, white: 255.0 };
    Slice { classes: Some(classes), emphasis, ..Slice::unlabelled(image, range) }
}

/// The share of class indices that are not the same.
fn share_that_differs(found: &[Tensor], expected: &[Tensor]) -> f64 {
    let differ = |(found, expected): (&Tensor, &Tensor)| {
        found.to_device(Device::Cpu).ne_tensor(expected).to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
    };
    found.iter().zip(expected).map(differ).sum::<f64>() / found.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same samples pass; those of another seed are far away in every row.
    #[test]
    fn other_samples_do_not_pass() {
        let expected = Samples::make(Device::Cpu, SEED).unwrap();
        let rows = compare_with_cpu(Device::Cpu).unwrap();
        assert!(rows.iter().all(|row| row.value == 0.0), "{rows:?}");
        let rows = Samples::make(Device::Cpu, SEED + 1).unwrap().compare(&expected);
        assert_eq!(rows.len(), 5);
        assert!(rows.iter().all(|row| row.value > 5.0 * row.limit), "{rows:?}");
    }
}
