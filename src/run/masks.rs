//! Files of predicted masks, with the values that the labels were stored with, and of probabilities.
//!
//! Shapes: H, W pixels, P planes of probabilities (`inference.rs`).

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use tch::{Device, Tensor};

use crate::data::labels::LabelValue;
use crate::data::tiff::{Resolution, SampleKind, StackWriter};
use crate::files::AtomicFile;

/// How the classes of a mask are stored.
#[derive(Debug, Clone)]
enum Palette {
    Bytes(Vec<u8>),
    Words(Vec<u16>),
    Colours(Vec<[u8; 3]>),
}

impl Palette {
    /// 8 bits where all values fit, else 16; RGB for colours.
    fn new(values: &[LabelValue]) -> Self {
        let colour = |value: &LabelValue| match *value {
            LabelValue::Colour(colour) => colour,
            LabelValue::Grey(value) => [value.min(255) as u8; 3],
        };
        let number = |value: &LabelValue| match *value {
            LabelValue::Grey(value) => Some(value),
            LabelValue::Colour(_) => None,
        };
        match values.iter().map(number).collect::<Option<Vec<u32>>>() {
            None => Self::Colours(values.iter().map(colour).collect()),
            Some(numbers) if numbers.iter().all(|&number| number <= 255) => {
                Self::Bytes(numbers.into_iter().map(|number| number as u8).collect())
            }
            Some(numbers) => Self::Words(numbers.into_iter().map(|number| number.min(65_535) as u16).collect()),
        }
    }
}

/// A TIFF stack of masks that is being written.
pub struct MaskPages {
    writer: StackWriter,
    palette: Palette,
}

impl MaskPages {
    /// `size`: pages, height and width; `values`: the stored value of each class.
    pub fn create(
        path: &Path,
        [pages, height, width]: [usize; 3],
        values: &[LabelValue],
        resolution: Option<&Resolution>,
    ) -> Result<Self> {
        let palette = Palette::new(values);
        let kind = match palette {
            Palette::Bytes(_) => SampleKind::U8,
            Palette::Words(_) => SampleKind::U16,
            Palette::Colours(_) => SampleKind::Rgb8,
        };
        Ok(Self { writer: StackWriter::create(path, pages, height, width, kind, resolution.cloned())?, palette })
    }

    /// Writes a page of class indices, `[H, W]`.
    pub fn write(&mut self, classes: &[u8]) -> Result<()> {
        let index = |class: &u8| usize::from(*class);
        match &self.palette {
            Palette::Bytes(values) => {
                self.writer.write_u8(&classes.iter().map(|class| values[index(class)]).collect::<Vec<_>>())?;
            }
            Palette::Words(values) => {
                self.writer.write_u16(&classes.iter().map(|class| values[index(class)]).collect::<Vec<_>>())?;
            }
            Palette::Colours(values) => {
                self.writer.write_rgb8(&classes.iter().flat_map(|class| values[index(class)]).collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Result<()> {
        Ok(self.writer.finish()?)
    }
}

/// Writes one mask as a PNG, whole or not at all.
pub fn write_png(path: &Path, classes: &[u8], [height, width]: [usize; 2], values: &[LabelValue]) -> Result<()> {
    let index = |class: &u8| usize::from(*class);
    let (colours, depth, bytes) = match Palette::new(values) {
        Palette::Bytes(values) => {
            let bytes = classes.iter().map(|class| values[index(class)]).collect();
            (png::ColorType::Grayscale, png::BitDepth::Eight, bytes)
        }
        Palette::Words(values) => {
            let bytes: Vec<u8> = classes.iter().flat_map(|class| values[index(class)].to_be_bytes()).collect();
            (png::ColorType::Grayscale, png::BitDepth::Sixteen, bytes)
        }
        Palette::Colours(values) => {
            let bytes = classes.iter().flat_map(|class| values[index(class)]).collect();
            (png::ColorType::Rgb, png::BitDepth::Eight, bytes)
        }
    };
    let attempt = || -> Result<()> {
        let file = AtomicFile::create(path)?;
        let mut writer = BufWriter::new(file.file());
        let mut encoder = png::Encoder::new(&mut writer, u32::try_from(width)?, u32::try_from(height)?);
        encoder.set_color(colours);
        encoder.set_depth(depth);
        let mut png = encoder.write_header()?;
        png.write_image_data(&bytes)?;
        png.finish()?;
        writer.flush()?;
        drop(writer);
        Ok(file.commit()?)
    };
    attempt().with_context(|| format!("cannot write '{}'", path.display()))
}

/// A TIFF stack of probabilities that is being written: of the second of two classes, or of each class as a channel.
pub struct ProbabilityPages {
    writer: StackWriter,
}

impl ProbabilityPages {
    /// `size`: pages, height and width.
    pub fn create(
        path: &Path,
        [pages, height, width]: [usize; 3],
        planes: i64,
        resolution: Option<&Resolution>,
    ) -> Result<Self> {
        let (kind, resolution) = (SampleKind::F32, resolution.cloned());
        let writer = match planes {
            1 => StackWriter::create(path, pages, height, width, kind, resolution)?,
            _ => StackWriter::create_hyperstack(path, pages, planes as usize, height, width, kind, resolution)?,
        };
        Ok(Self { writer })
    }

    /// Writes the planes of a page, `[P, H, W]` f32.
    pub fn write(&mut self, planes: &Tensor) -> Result<()> {
        let size = planes.size();
        let pixels = (size[1] * size[2]) as usize;
        let host = planes.to_device(Device::Cpu).contiguous();
        let mut values = vec![0.0f32; pixels];
        for plane in 0..size[0] {
            host.get(plane).copy_data(&mut values, pixels);
            self.writer.write_f32(&values)?;
        }
        Ok(())
    }

    pub fn finish(self) -> Result<()> {
        Ok(self.writer.finish()?)
    }
}
