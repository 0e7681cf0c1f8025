//! PNG: all colour types and bit depths. Samples of fewer than 8 bits keep their values, so that a mask of 1 bit
//! holds 0 and 1.

use std::path::Path;

use ::png::{BitDepth, ColorType, Decoder, Limits, Transformations};
use anyhow::{Context, Result, bail};

use super::info::{ImageInfo, reader, require_plausible};
use crate::data::samples::{Palette, SampleBuffer, SampleFormat};

/// Deflate expands a byte to at most this many, and a sample has at least an eighth of one.
const MOST_EXPANSION: u64 = 1032 * 8;

/// What the file says before its samples.
pub struct Header {
    height: usize,
    width: usize,
    colours: ColorType,
    depth: BitDepth,
    palette: Option<Palette>,
}

impl Header {
    pub fn read(path: &Path) -> Result<Self> {
        let (file, length) = reader(path)?;
        let png = decoder(file, length).read_info().context("its header is damaged; copy or export it again")?;
        let info = png.info();
        let palette = info.palette.as_deref().map(|colours| Palette(colours.as_chunks::<3>().0.to_vec()));
        let header = Self {
            height: info.height as usize,
            width: info.width as usize,
            colours: info.color_type,
            depth: info.bit_depth,
            palette: palette.filter(|_| info.color_type == ColorType::Indexed),
        };
        if header.colours == ColorType::Indexed && header.palette.is_none() {
            bail!("it has no palette for its indices; export it again");
        }
        let size = [header.height, header.width, header.stored_channels()];
        require_plausible(size, header.format().bytes(), length, MOST_EXPANSION)?;
        Ok(header)
    }

    pub fn info(&self) -> ImageInfo {
        let stored = self.stored_channels();
        let has_alpha = matches!(self.colours, ColorType::GrayscaleAlpha | ColorType::Rgba);
        ImageInfo {
            pages: 1,
            height: self.height,
            width: self.width,
            channels: stored - usize::from(has_alpha),
            format: self.format(),
            has_alpha,
            is_lossy: false,
            palette: self.palette.clone(),
            resolution: None,
            notes: Vec::new(),
        }
    }

    fn stored_channels(&self) -> usize {
        self.colours.samples()
    }

    fn format(&self) -> SampleFormat {
        if self.depth == BitDepth::Sixteen { SampleFormat::U16 } else { SampleFormat::U8 }
    }

    /// `[H, W, C]` without alpha.
    pub fn decode(&self, path: &Path) -> Result<SampleBuffer> {
        const DAMAGED: &str = "its data are damaged or cut short; copy or export it again";
        let (file, length) = reader(path)?;
        let mut png = decoder(file, length).read_info().context(DAMAGED)?;
        if (png.info().height as usize, png.info().width as usize) != (self.height, self.width) {
            bail!("the file changed while it was read");
        }
        let size = png.output_buffer_size().context("it is too large")?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).with_context(|| format!("no memory for its {size} bytes"))?;
        bytes.resize(size, 0);
        let frame = png.next_frame(&mut bytes).context(DAMAGED)?;
        let (stored, kept) = (self.stored_channels(), self.info().channels);
        if self.depth == BitDepth::Sixteen {
            let samples = bytes.as_chunks::<2>().0.iter().map(|&pair| u16::from_be_bytes(pair)).collect();
            return Ok(SampleBuffer::U16(keep(samples, stored, kept)));
        }
        let samples = match self.depth as usize {
            8 => bytes,
            bits => unpack(&bytes, frame.line_size, self.width * stored, bits),
        };
        Ok(SampleBuffer::U8(keep(samples, stored, kept)))
    }
}

fn decoder<R: std::io::BufRead + std::io::Seek>(file: R, length: u64) -> Decoder<R> {
    // Text and colour profiles are not needed; what they may take is bounded by the file.
    let bytes = usize::try_from(length.saturating_mul(2)).unwrap_or(usize::MAX).max(1 << 20);
    let mut decoder = Decoder::new_with_limits(file, Limits { bytes });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder
}

/// The first `kept` of `stored` channels.
fn keep<T: Copy>(samples: Vec<T>, stored: usize, kept: usize) -> Vec<T> {
    if kept == stored {
        return samples;
    }
    samples.chunks_exact(stored).flat_map(|pixel| &pixel[..kept]).copied().collect()
}

/// Samples of `bits` bits, of which a row has `width` in `line` bytes, the highest bits first.
fn unpack(bytes: &[u8], line: usize, width: usize, bits: usize) -> Vec<u8> {
    let mask = (1u8 << bits) - 1;
    let sample = |row: &[u8], x: usize| {
        let bit = x * bits;
        row[bit / 8] >> (8 - bits - bit % 8) & mask
    };
    bytes.chunks_exact(line).flat_map(|row| (0..width).map(move |x| sample(row, x))).collect()
}
