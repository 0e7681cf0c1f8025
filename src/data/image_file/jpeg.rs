//! JPEG: grey and colour, for images alone, as its samples are rounded.

use std::io::{BufRead, Seek};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::info::{ImageInfo, reader, require_plausible};
use crate::data::samples::{SampleBuffer, SampleFormat, orientation_note};
use crate::data::tiff::orientation_of_exif;

/// Samples that a byte can stand for at most: a block of 64 takes at least two bits, and may be scaled up fourfold; a
/// progressive file skips up to 32,767 blocks by a code.
const MOST_EXPANSION: u64 = 64 * 4 * 4 * 8;

/// What the file says before its samples.
pub struct Header {
    height: usize,
    width: usize,
    channels: usize,
    /// Orientation of EXIF, 1 for an upright image.
    orientation: u64,
}

impl Header {
    pub fn read(path: &Path) -> Result<Self> {
        let (file, length) = reader(path)?;
        let mut decoder = decoder(file, ColorSpace::RGB);
        decoder.decode_headers().map_err(|error| damaged(&error))?;
        let Some(info) = decoder.info() else { bail!("it has no header; copy or export it again") };
        let channels = match decoder.input_colorspace() {
            Some(ColorSpace::Luma) => 1,
            Some(ColorSpace::YCbCr | ColorSpace::RGB) => 3,
            Some(other) => bail!("its colours are {other:?}, expected grey or RGB; save it as RGB"),
            None => bail!("it does not say what its colours are; export it again"),
        };
        let orientation = decoder.exif().and_then(|exif| orientation_of_exif(exif)).unwrap_or(1);
        let (height, width) = (usize::from(info.height), usize::from(info.width));
        let header = Self { height, width, channels, orientation };
        require_plausible([header.height, header.width, channels], 1, length, MOST_EXPANSION)?;
        Ok(header)
    }

    pub fn info(&self) -> ImageInfo {
        ImageInfo {
            pages: 1,
            height: self.height,
            width: self.width,
            channels: self.channels,
            format: SampleFormat::U8,
            has_alpha: false,
            is_lossy: true,
            palette: None,
            resolution: None,
            notes: orientation_note(self.orientation).into_iter().collect(),
        }
    }

    /// `[H, W, C]`.
    pub fn decode(&self, path: &Path) -> Result<SampleBuffer> {
        let (file, _) = reader(path)?;
        let colours = if self.channels == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
        let samples = decoder(file, colours).decode().map_err(|error| damaged(&error))?;
        if samples.len() != self.height * self.width * self.channels {
            bail!("the file changed while it was read");
        }
        Ok(SampleBuffer::U8(samples))
    }
}

fn decoder<R: BufRead + Seek>(file: R, colours: ColorSpace) -> JpegDecoder<R> {
    // A file that ends too soon is an error in place of grey rows.
    let options = DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(colours);
    let sides = options.set_max_width(usize::from(u16::MAX)).set_max_height(usize::from(u16::MAX));
    JpegDecoder::new_with_options(file, sides)
}

fn damaged(error: &zune_jpeg::errors::DecodeErrors) -> anyhow::Error {
    anyhow!("its data are damaged or cut short ({error:?}); copy or export it again")
}
