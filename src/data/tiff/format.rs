//! How a file stores samples, and as what they are read.
//!
//! Integers of at most 16 bits without a sign keep their type, so that masks stay exact. All others become 32-bit
//! floats, which hold whole numbers up to 2^24 without loss.
//! Source: TIFF 6.0 section 3 (BitsPerSample) and 19 (SampleFormat).

use std::io::{Read, Seek};

use super::Fault;
use super::directory::Scanner;
use super::pixel::Pixel;
use crate::data::samples::SampleFormat;

const BITS_PER_SAMPLE: u16 = 258;
const SAMPLE_FORMAT: u16 = 339;

/// The stored form of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Unsigned integers of 1 to 15 bits but 8, packed without gaps; a row begins with a byte of its own.
    Bits(u32),
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    F32,
    F64,
}

impl Stored {
    /// Reads and checks the sample type of the current directory.
    pub fn read(scanner: &mut Scanner<impl Read + Seek>, pixel: &Pixel) -> Result<Stored, Fault> {
        let samples = pixel.samples as u64;
        let bits = of_all_samples(scanner, BITS_PER_SAMPLE, samples, "bits")?.unwrap_or(1);
        let kind = match of_all_samples(scanner, SAMPLE_FORMAT, samples, "type")?.unwrap_or(1) {
            // Undefined data are unsigned integers to libtiff.
            1 | 4 => "unsigned",
            2 => "signed",
            3 => "float",
            _ => "complex",
        };
        let stored = match (bits, kind) {
            (8, "unsigned") => Stored::U8,
            (16, "unsigned") => Stored::U16,
            (32, "unsigned") => Stored::U32,
            (64, "unsigned") => Stored::U64,
            (1..16, "unsigned") => Stored::Bits(bits as u32),
            // A sign has no room in one bit: the value is 0 or 1.
            (1, "signed") => Stored::Bits(1),
            (8, "signed") => Stored::I8,
            (16, "signed") => Stored::I16,
            (32, "signed") => Stored::I32,
            (64, "signed") => Stored::I64,
            (16, "float") => Stored::F16,
            (32, "float") => Stored::F32,
            (64, "float") => Stored::F64,
            _ => {
                return Err(Fault::unsupported(
                    format!(
                        "{bits}-bit {kind} samples, expected unsigned integers of 1 to 16, 32 or 64 bits, signed ones \
                         of 8 to 64, or floats of 16 to 64"
                    ),
                    "save the samples in one of these types",
                ));
            }
        };
        stored.check(pixel)
    }

    fn check(self, pixel: &Pixel) -> Result<Stored, Fault> {
        let keeps_type = matches!(self, Stored::Bits(_) | Stored::U8 | Stored::U16);
        if pixel.white_is_zero && !keeps_type {
            return Err(Fault::unsupported(
                format!("white-is-zero {} samples, expected black-is-zero", self.name()),
                "invert the stack and save it as black-is-zero",
            ));
        }
        if pixel.palette.is_some() && self != Stored::U8 {
            return Err(Fault::unsupported(
                format!("palette colour of {} samples, expected 8-bit", self.name()),
                "save the image as RGB",
            ));
        }
        Ok(self)
    }

    /// Bits of a stored sample.
    pub fn bits(self) -> u64 {
        match self {
            Stored::Bits(bits) => bits.into(),
            Stored::U8 | Stored::I8 => 8,
            Stored::U16 | Stored::I16 | Stored::F16 => 16,
            Stored::U32 | Stored::I32 | Stored::F32 => 32,
            Stored::U64 | Stored::I64 | Stored::F64 => 64,
        }
    }

    /// The type as which samples are read.
    pub fn format(self) -> SampleFormat {
        match self {
            Stored::U8 | Stored::Bits(..8) => SampleFormat::U8,
            Stored::U16 | Stored::Bits(_) => SampleFormat::U16,
            _ => SampleFormat::F32,
        }
    }

    /// The SampleFormat under which the decoder gets it. Half floats pass as words, as their bits are.
    pub fn kind(self) -> u64 {
        match self {
            Stored::Bits(_) | Stored::U8 | Stored::U16 | Stored::U32 | Stored::U64 | Stored::F16 => 1,
            Stored::I8 | Stored::I16 | Stored::I32 | Stored::I64 => 2,
            Stored::F32 | Stored::F64 => 3,
        }
    }

    /// Bytes of `samples` samples next to each other, with the rest of the last byte.
    pub fn row_bytes(self, samples: u64) -> u64 {
        match self {
            Stored::Bits(bits) => samples.saturating_mul(bits.into()).div_ceil(8),
            other => samples.saturating_mul(other.bits() / 8),
        }
    }

    /// For messages.
    pub fn name(self) -> String {
        match self {
            Stored::Bits(bits) => format!("{bits}-bit"),
            Stored::U8 | Stored::U16 | Stored::F32 => self.format().name().to_owned(),
            Stored::U32 | Stored::U64 => format!("{}-bit unsigned", self.bits()),
            Stored::I8 | Stored::I16 | Stored::I32 | Stored::I64 => format!("{}-bit signed", self.bits()),
            Stored::F16 | Stored::F64 => format!("{}-bit float", self.bits()),
        }
    }
}

/// The value of a field that has one for each sample, which must be alike, or one for all.
fn of_all_samples(
    scanner: &mut Scanner<impl Read + Seek>,
    tag: u16,
    samples: u64,
    what: &str,
) -> Result<Option<u64>, Fault> {
    let count = if scanner.count(tag) == 1 { 1 } else { samples };
    let Some(values) = scanner.integers(tag, count)? else { return Ok(None) };
    match values.iter().position(|value| *value != values[0]) {
        None => Ok(values.first().copied()),
        Some(sample) => Err(Fault::unsupported(
            format!(
                "sample {sample} of a pixel has {what} {}, but sample 0 has {what} {}, expected the same",
                values[sample], values[0]
            ),
            "save the samples in one type",
        )),
    }
}
