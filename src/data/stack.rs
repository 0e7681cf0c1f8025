//! The ISBI stacks: read from TIFF, checked against each other, kept on the device as stored integers.
//!
//! Shapes: P pages (slices), H, W pixels; `[P, H, W]`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::preprocess::{BACKGROUND, GreyRange, MEMBRANE};
use super::tiff::{self, Resolution, Samples};
use crate::native::copy_to_device;

pub const TRAIN_VOLUME: &str = "train-volume.tif";
pub const TRAIN_LABELS: &str = "train-labels.tif";
pub const TEST_VOLUME: &str = "test-volume.tif";
/// Not part of the challenge's first release, and never needed.
pub const TEST_LABELS: &str = "test-labels.tif";

/// What is added to a 16-bit sample to store it as i16, the widest integer below 32 bits that libtorch
/// computes with.
const U16_BIAS: i32 = 1 << 15;

/// Grey slices on the device.
#[derive(Debug)]
pub struct ImageStack {
    /// `[P, H, W]`: u8, i16 (the stored value minus 32,768) or f32.
    samples: Tensor,
    /// In units of the file's samples.
    pub range: GreyRange,
    pub resolution: Option<Resolution>,
    pub path: PathBuf,
    /// SHA-256 of the raw samples, little-endian, page by page and row by row.
    pub sha256: String,
}

/// Class indices on the device.
#[derive(Debug)]
pub struct LabelStack {
    /// `[P, H, W]` u8: 0 membrane, 1 background.
    classes: Tensor,
    pub path: PathBuf,
    pub sha256: String,
}

/// Images and labels of the training stacks, with equal pages and sizes.
#[derive(Debug)]
pub struct TrainingStacks {
    pub images: ImageStack,
    pub labels: LabelStack,
}

impl TrainingStacks {
    /// Reads both training stacks from `data_dir`.
    ///
    /// Errors: a stack that is missing or unreadable, or two that do not fit together.
    pub fn read(data_dir: &Path, device: Device) -> Result<Self> {
        let images = ImageStack::read(&stack_path(data_dir, TRAIN_VOLUME)?, device)?;
        let labels = LabelStack::read(&stack_path(data_dir, TRAIN_LABELS)?, device)?;
        let (image_size, label_size) = (images.size(), labels.size());
        if image_size != label_size {
            bail!(
                "'{}' holds {} and '{}' {}; each image needs the label of its own size",
                images.path.display(),
                describe(image_size),
                labels.path.display(),
                describe(label_size)
            );
        }
        Ok(Self { images, labels })
    }
}

impl ImageStack {
    pub fn read(path: &Path, device: Device) -> Result<Self> {
        let stack = tiff::read_stack(path)?;
        let range = grey_range(&stack.samples).with_context(|| format!("cannot use '{}'", path.display()))?;
        let shape = [stack.pages as i64, stack.height as i64, stack.width as i64];
        let samples = match &stack.samples {
            Samples::U8(values) => Tensor::from_slice(values),
            Samples::U16(values) => {
                let biased: Vec<i16> = values.iter().map(|&value| (i32::from(value) - U16_BIAS) as i16).collect();
                Tensor::from_slice(&biased)
            }
            Samples::F32(values) => Tensor::from_slice(values),
        };
        Ok(Self {
            samples: samples.view(shape).to_device(device),
            range,
            resolution: stack.resolution,
            path: path.to_owned(),
            sha256: sha256(&stack.samples),
        })
    }

    /// Pages, height and width.
    pub fn size(&self) -> [i64; 3] {
        size(&self.samples)
    }

    pub fn pages(&self) -> usize {
        self.size()[0] as usize
    }

    /// The stored samples of these slices, `[N, H, W]`.
    pub fn select(&self, slices: &[usize]) -> Tensor {
        select(&self.samples, slices)
    }

    /// The range in units of the samples as they are kept here.
    pub fn stored_range(&self) -> GreyRange {
        let bias = if self.samples.kind() == Kind::Int16 { f64::from(U16_BIAS) } else { 0.0 };
        GreyRange { black: self.range.black - bias, white: self.range.white - bias }
    }
}

impl LabelStack {
    pub fn read(path: &Path, device: Device) -> Result<Self> {
        let stack = tiff::read_stack(path)?;
        let classes = classes(&stack.samples).with_context(|| format!("cannot use '{}' as labels", path.display()))?;
        let shape = [stack.pages as i64, stack.height as i64, stack.width as i64];
        Ok(Self {
            classes: Tensor::from_slice(&classes).view(shape).to_device(device),
            path: path.to_owned(),
            sha256: sha256(&stack.samples),
        })
    }

    /// Pages, height and width.
    pub fn size(&self) -> [i64; 3] {
        size(&self.classes)
    }

    /// The class indices of these slices, `[N, H, W]` u8.
    pub fn select(&self, slices: &[usize]) -> Tensor {
        select(&self.classes, slices)
    }
}

/// The path of a stack in `data_dir`.
///
/// Errors: no such folder, or no such file in it; says which files are looked for.
pub fn stack_path(data_dir: &Path, name: &str) -> Result<PathBuf> {
    if !data_dir.is_dir() {
        bail!(
            "no folder '{}'; --data_dir names the folder with {TRAIN_VOLUME}, {TRAIN_LABELS} and {TEST_VOLUME}",
            data_dir.display()
        );
    }
    let path = data_dir.join(name);
    if !path.is_file() {
        bail!(
            "no '{name}' in '{}'; the stacks are named as in the ISBI 2012 challenge, \
             and 'unet phantom --out DIR' makes a synthetic set",
            data_dir.display()
        );
    }
    Ok(path)
}

/// "30 pages of 512x512" (height x width).
pub fn describe([pages, height, width]: [i64; 3]) -> String {
    format!("{pages} pages of {height}x{width}")
}

/// The values that become -1 and 1: the type's own range for integers; for floats 0 to 1, 255 or
/// 65,535, the smallest of these that holds all values.
///
/// Errors: a float stack with values outside 0..65,535.
pub fn grey_range(samples: &Samples) -> Result<GreyRange> {
    let white = match samples {
        Samples::U8(_) => 255.0,
        Samples::U16(_) => 65_535.0,
        Samples::F32(values) => {
            let (low, high) = values
                .iter()
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
            match [1.0, 255.0, 65_535.0].into_iter().find(|&white| low >= 0.0 && f64::from(high) <= white) {
                Some(white) => white,
                None => {
                    bail!("float samples from {low} to {high}, expected 0..1, 0..255 or 0..65535; rescale the stack")
                }
            }
        }
    };
    Ok(GreyRange { black: 0.0, white })
}

/// Class indices from label samples: 0 is membrane; 1, 255 or 65,535 (one of them) is background.
///
/// Errors: any other value, or two kinds of background; shows the values found.
pub fn classes(samples: &Samples) -> Result<Vec<u8>> {
    let found = label_values(samples);
    let background: Vec<f64> = found.iter().copied().filter(|&value| value != 0.0).collect();
    let plausible = match background[..] {
        [] => true,
        [one] => [1.0, 255.0, 65_535.0].contains(&one),
        _ => false,
    };
    if !plausible {
        let mut shown: Vec<String> = found.iter().take(MOST_VALUES_SHOWN).map(f64::to_string).collect();
        if found.len() > MOST_VALUES_SHOWN {
            shown.push("...".to_owned());
        }
        bail!(
            "label values {}, expected 0 (membrane) and one of 1, 255 or 65535 (inside a cell); map the labels to two values",
            shown.join(", ")
        );
    }
    let class = |membrane: bool| if membrane { MEMBRANE as u8 } else { BACKGROUND as u8 };
    Ok(match samples {
        Samples::U8(values) => values.iter().map(|&value| class(value == 0)).collect(),
        Samples::U16(values) => values.iter().map(|&value| class(value == 0)).collect(),
        Samples::F32(values) => values.iter().map(|&value| class(value == 0.0)).collect(),
    })
}

const MOST_VALUES_SHOWN: usize = 8;

/// The different values of a stack in ascending order; stops looking once there are too many for labels.
pub fn label_values(samples: &Samples) -> Vec<f64> {
    fn collect(values: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut found: Vec<f64> = Vec::new();
        let mut last = f64::NAN;
        for value in values {
            // Labels come in runs: most pixels equal their neighbour.
            if value == last {
                continue;
            }
            last = value;
            if !found.contains(&value) {
                found.push(value);
                if found.len() > MOST_VALUES_SHOWN {
                    break;
                }
            }
        }
        found.sort_by(f64::total_cmp);
        found
    }
    match samples {
        Samples::U8(values) => collect(values.iter().map(|&value| f64::from(value))),
        Samples::U16(values) => collect(values.iter().map(|&value| f64::from(value))),
        Samples::F32(values) => collect(values.iter().map(|&value| f64::from(value))),
    }
}

fn size(stack: &Tensor) -> [i64; 3] {
    let size = stack.size();
    [size[0], size[1], size[2]]
}

fn select(stack: &Tensor, slices: &[usize]) -> Tensor {
    let index: Vec<i64> = slices.iter().map(|&slice| slice as i64).collect();
    stack.index_select(0, &copy_to_device(Tensor::from_slice(&index), stack.device()))
}

fn sha256(samples: &Samples) -> String {
    let mut hash = Sha256::new();
    match samples {
        Samples::U8(values) => hash.update(values),
        Samples::U16(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
        Samples::F32(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_each_accepted_kind_become_the_same_classes() {
        let expected = vec![0, 1, 1, 0];
        assert_eq!(classes(&Samples::U8(vec![0, 255, 255, 0])).unwrap(), expected);
        assert_eq!(classes(&Samples::U8(vec![0, 1, 1, 0])).unwrap(), expected);
        assert_eq!(classes(&Samples::U16(vec![0, 65_535, 65_535, 0])).unwrap(), expected);
        assert_eq!(classes(&Samples::F32(vec![0.0, 1.0, 1.0, 0.0])).unwrap(), expected);
    }

    #[test]
    fn other_labels_are_refused_with_the_values_found() {
        let message = classes(&Samples::U8(vec![0, 255, 128])).unwrap_err().to_string();
        assert!(message.contains("0, 128, 255"), "{message}");
        assert!(classes(&Samples::U8(vec![0, 1, 255])).is_err(), "two kinds of background");
        assert!(classes(&Samples::U8(vec![0, 7])).is_err());
        let many = classes(&Samples::U8((0..=255).collect())).unwrap_err().to_string();
        assert!(many.len() < 300, "{many}");
    }

    #[test]
    fn float_stacks_are_mapped_by_the_smallest_usual_range_that_holds_them() {
        let white = |values: &[f32]| grey_range(&Samples::F32(values.to_vec())).map(|range| range.white);
        assert_eq!(white(&[0.0, 0.7]).unwrap(), 1.0);
        assert_eq!(white(&[0.0, 1.5]).unwrap(), 255.0);
        assert_eq!(white(&[0.0, 300.0]).unwrap(), 65_535.0);
        assert!(white(&[-0.1, 0.5]).is_err());
        assert!(white(&[0.0, 1e6]).is_err());
    }

    /// The same picture in 8 and 16 bits and as floats is the same to the network.
    #[test]
    fn sample_types_agree_after_normalisation() {
        let bytes: Vec<u8> = (0..64).map(|i| (i * 4) as u8).collect();
        let stack = |samples: Tensor, white: f64| ImageStack {
            samples: samples.view([1, 8, 8]),
            range: GreyRange { black: 0.0, white },
            resolution: None,
            path: PathBuf::new(),
            sha256: String::new(),
        };
        let wide: Vec<i16> = bytes.iter().map(|&v| (i32::from(v) * 257 - U16_BIAS) as i16).collect();
        let float: Vec<f32> = bytes.iter().map(|&v| f32::from(v) / 255.0).collect();
        let first = stack(Tensor::from_slice(&bytes), 255.0).preprocessed(&[0]);
        for other in [stack(Tensor::from_slice(&wide), 65_535.0), stack(Tensor::from_slice(&float), 1.0)] {
            assert!(crate::testing::largest_difference(&first, &other.preprocessed(&[0])) < 1e-6);
        }
    }
}
