//! What a pixel consists of: grey or RGB channels, alpha that is left out, or an index into a palette.
//!
//! Source: TIFF 6.0 sections 4 to 6 and 18 (ExtraSamples); the alpha type 999 is Corel's, as libtiff reads it.
//! Not here: sample types and sizes (`page`).

use std::io::{Read, Seek};

use super::Fault;
use super::directory::Scanner;
use crate::data::samples::Palette;

/// Upper bound of the samples of a pixel, alpha included.
pub const MAX_SAMPLES: u64 = 16;

const PHOTOMETRIC: u16 = 262;
const SAMPLES_PER_PIXEL: u16 = 277;
const PLANAR_CONFIGURATION: u16 = 284;
const COLOR_MAP: u16 = 320;
const EXTRA_SAMPLES: u16 = 338;

/// The checked samples of a pixel.
#[derive(Debug)]
pub struct Pixel {
    /// Stored samples, 1 to 16.
    pub samples: usize,
    /// Bit `n` is set if sample `n` is a channel, not alpha; at least one is.
    kept: u16,
    /// Whether each sample has strips or tiles of its own, plane after plane; never with one sample.
    pub planar: bool,
    /// Whether integers are to be inverted.
    pub white_is_zero: bool,
    /// The colours of a palette image.
    pub palette: Option<Palette>,
}

impl Pixel {
    /// Reads and checks what the current directory says of its pixels.
    pub fn read(scanner: &mut Scanner<impl Read + Seek>) -> Result<Pixel, Fault> {
        let photometric = scanner.integer(PHOTOMETRIC)?;
        let (name, colours, most) = match photometric {
            Some(0 | 1) => ("grey", 1, MAX_SAMPLES),
            Some(2) => ("RGB", 3, MAX_SAMPLES),
            Some(3) => ("palette colour", 1, 1),
            other => return Err(other_colour(other)),
        };
        let samples = scanner.integer(SAMPLES_PER_PIXEL)?.unwrap_or(1);
        if !(colours..=most).contains(&samples) {
            let range = if colours == most { format!("{most}") } else { format!("{colours} to {most}") };
            return Err(Fault::unsupported(
                format!("{samples} samples per pixel ({name}), expected {range}"),
                "save the channels that are needed alone",
            ));
        }
        let planar = match scanner.integer(PLANAR_CONFIGURATION)?.unwrap_or(1) {
            1 => false,
            2 => samples > 1,
            other => return Err(Fault::damaged(format!("planar configuration {other}, expected 1 or 2"))),
        };
        Ok(Pixel {
            samples: samples as usize,
            kept: channels(scanner, samples, colours)?,
            planar,
            white_is_zero: photometric == Some(0),
            palette: if photometric == Some(3) { Some(palette(scanner)?) } else { None },
        })
    }

    /// Number of channels, 1 to 16.
    pub fn channels(&self) -> usize {
        self.kept.count_ones() as usize
    }

    pub fn has_alpha(&self) -> bool {
        self.channels() < self.samples
    }

    /// The stored sample of each channel.
    pub fn kept(&self) -> impl Iterator<Item = usize> + Clone {
        let kept = self.kept;
        (0..self.samples).filter(move |&sample| (kept >> sample) & 1 == 1)
    }

    /// Samples of a pixel that are next to each other in a strip or tile.
    pub fn samples_together(&self) -> usize {
        if self.planar { 1 } else { self.samples }
    }
}

/// Which of `samples` samples are channels, as a mask: the first `colours`, and those after them that are not alpha.
/// Samples that ExtraSamples does not describe are channels.
fn channels(scanner: &mut Scanner<impl Read + Seek>, samples: u64, colours: u64) -> Result<u16, Fault> {
    let extra = scanner.count(EXTRA_SAMPLES);
    if extra > samples - colours {
        return Err(Fault::damaged(format!(
            "{extra} extra samples among {samples} samples per pixel, expected at most {}",
            samples - colours
        )));
    }
    let mut kept = u16::MAX >> (16 - samples);
    let kinds = scanner.integers(EXTRA_SAMPLES, extra)?.unwrap_or_default();
    for (sample, kind) in (samples - extra..).zip(kinds) {
        match kind {
            0 => {}
            1 | 2 | 999 => kept &= !(1u16 << sample),
            other => {
                return Err(Fault::unsupported(
                    format!("sample {sample} is of extra type {other}, expected 0 (channel), 1 or 2 (alpha)"),
                    "save the image again with another program",
                ));
            }
        }
    }
    Ok(kept)
}

/// The colours of the 256 values of an 8-bit sample.
fn palette(scanner: &mut Scanner<impl Read + Seek>) -> Result<Palette, Fault> {
    let Some(values) = scanner.integers(COLOR_MAP, 3 * 256)? else {
        return Err(Fault::damaged("palette colour without a colour map, expected 3 x 256 values"));
    };
    // Colours of 16 bits: 257 times those of 8 bits, or 256 times (Pillow); the upper byte is right for both.
    let shift = if values.iter().any(|&value| value > 255) { 8 } else { 0 };
    let colour = |index: usize| [0, 256, 512].map(|plane| (values[plane + index] >> shift).min(255) as u8);
    Ok(Palette((0..256).map(colour).collect()))
}

fn other_colour(photometric: Option<u64>) -> Fault {
    let name = match photometric {
        None => "no colour space".to_string(),
        Some(4) => "a transparency mask".to_string(),
        Some(5) => "CMYK".to_string(),
        Some(6) => "YCbCr".to_string(),
        Some(8..=10) => "CIE L*a*b*".to_string(),
        Some(other) => format!("colour space {other}"),
    };
    Fault::unsupported(format!("{name}, expected grey, RGB or palette colour"), "save the image as RGB, or as grey")
}
