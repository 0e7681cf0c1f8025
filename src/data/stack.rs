//! The ISBI stacks: read from TIFF, checked against each other, kept on the device as stored integers.
//!
//! Shapes: P pages (slices), H, W pixels; `[P, H, W]`. Pages go straight from the file to their place, so that a stack
//! is in memory once. Not here: what values mean (`values`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::tiff::{Resolution, SampleFormat, Samples, StackReader};
use super::values::{GreyRange, GreyValues, LabelValues, classes};
use crate::native::cuda::copy_to_device;

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
        let stack = StackReader::open(path)?;
        let (size, resolution) = (stack.size().map(|side| side as i64), stack.resolution().cloned());
        let kind = match stack.format() {
            SampleFormat::U8 => Kind::Uint8,
            SampleFormat::U16 => Kind::Int16,
            SampleFormat::F32 => Kind::Float,
        };
        let samples = Tensor::f_empty(size, (kind, Device::Cpu))?;
        let (mut hash, mut values) = (Sha256::new(), GreyValues::new(stack.format()));
        stack.for_each_page(|index, page| {
            hash_page(&mut hash, page);
            values.add(page);
            set_page(&samples, index, &stored(page));
        })?;
        let range = values.range().with_context(|| format!("cannot use '{}'", path.display()))?;
        let (path, sha256) = (path.to_owned(), hexadecimal(hash));
        Ok(Self { samples: samples.to_device(device), range, resolution, path, sha256 })
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
        let stack = StackReader::open(path)?;
        let classes = Tensor::f_empty(stack.size().map(|side| side as i64), (Kind::Uint8, Device::Cpu))?;
        let (mut hash, mut values) = (Sha256::new(), LabelValues::default());
        stack.for_each_page(|index, page| {
            hash_page(&mut hash, page);
            values.add(page);
            set_page(&classes, index, &Tensor::from_slice(&self::classes(page)));
        })?;
        values.check().with_context(|| format!("cannot use '{}' as labels", path.display()))?;
        Ok(Self { classes: classes.to_device(device), path: path.to_owned(), sha256: hexadecimal(hash) })
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

fn size(stack: &Tensor) -> [i64; 3] {
    let size = stack.size();
    [size[0], size[1], size[2]]
}

fn select(stack: &Tensor, slices: &[usize]) -> Tensor {
    let index: Vec<i64> = slices.iter().map(|&slice| slice as i64).collect();
    stack.index_select(0, &copy_to_device(Tensor::from_slice(&index), stack.device()))
}

/// A page as it is kept: `[height * width]`.
fn stored(page: Samples<'_>) -> Tensor {
    match page {
        Samples::U8(values) => Tensor::from_slice(values),
        Samples::U16(values) => {
            let biased: Vec<i16> = values.iter().map(|&value| (i32::from(value) - U16_BIAS) as i16).collect();
            Tensor::from_slice(&biased)
        }
        Samples::F32(values) => Tensor::from_slice(values),
    }
}

/// Fills one page of a stack.
fn set_page(stack: &Tensor, index: usize, page: &Tensor) {
    let mut place = stack.get(index as i64);
    place.copy_(&page.view_as(&place));
}

fn hash_page(hash: &mut Sha256, page: Samples<'_>) {
    match page {
        Samples::U8(values) => hash.update(values),
        Samples::U16(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
        Samples::F32(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
    }
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::batches::preprocessed_images;

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
        let normalised = |stack: ImageStack| preprocessed_images(&stack, &[0]);
        let first = normalised(stack(Tensor::from_slice(&bytes), 255.0));
        for other in [stack(Tensor::from_slice(&wide), 65_535.0), stack(Tensor::from_slice(&float), 1.0)] {
            assert!(crate::testing::largest_difference(&first, &normalised(other)) < 1e-6);
        }
    }
}
