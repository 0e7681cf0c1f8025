//! The sample types as the decoder takes them.

use ::tiff::decoder::DecodingBuffer;

use super::{Fault, SampleFormat, Samples, find_non_finite};
use crate::data::samples::SampleBuffer;

/// A sample type.
pub trait Sample: Copy + Default {
    const FORMAT: SampleFormat;

    /// The samples as the `tiff` crate takes them, that is also: as bytes.
    fn buffer(samples: &mut [Self]) -> DecodingBuffer<'_>;

    fn samples(page: &[Self]) -> Samples<'_>;

    fn owned(page: Vec<Self>) -> SampleBuffer;

    /// Black for white; floats stay as they are, since none that are white-is-zero are read.
    fn inverted(self) -> Self;

    /// Refuses a decoded page `[H, W, C]` that has samples nothing can be computed with.
    fn check(_page: &[Self], _width: usize, _channels: usize) -> Result<(), Fault> {
        Ok(())
    }
}

impl Sample for u8 {
    const FORMAT: SampleFormat = SampleFormat::U8;

    fn buffer(samples: &mut [u8]) -> DecodingBuffer<'_> {
        DecodingBuffer::U8(samples)
    }

    fn samples(page: &[u8]) -> Samples<'_> {
        Samples::U8(page)
    }

    fn owned(page: Vec<u8>) -> SampleBuffer {
        SampleBuffer::U8(page)
    }

    fn inverted(self) -> u8 {
        !self
    }
}

impl Sample for u16 {
    const FORMAT: SampleFormat = SampleFormat::U16;

    fn buffer(samples: &mut [u16]) -> DecodingBuffer<'_> {
        DecodingBuffer::U16(samples)
    }

    fn samples(page: &[u16]) -> Samples<'_> {
        Samples::U16(page)
    }

    fn owned(page: Vec<u16>) -> SampleBuffer {
        SampleBuffer::U16(page)
    }

    fn inverted(self) -> u16 {
        !self
    }
}

impl Sample for f32 {
    const FORMAT: SampleFormat = SampleFormat::F32;

    fn buffer(samples: &mut [f32]) -> DecodingBuffer<'_> {
        DecodingBuffer::F32(samples)
    }

    fn samples(page: &[f32]) -> Samples<'_> {
        Samples::F32(page)
    }

    fn owned(page: Vec<f32>) -> SampleBuffer {
        SampleBuffer::F32(page)
    }

    fn inverted(self) -> f32 {
        self
    }

    fn check(page: &[f32], width: usize, channels: usize) -> Result<(), Fault> {
        match find_non_finite(page, width, channels) {
            Some(problem) => Err(Fault::unsupported(problem, "replace the sample, or mend what wrote it")),
            None => Ok(()),
        }
    }
}

/// `count` samples of 0.
pub fn zeros<T: Sample>(count: usize) -> Result<Vec<T>, Fault> {
    let mut samples = Vec::new();
    match samples.try_reserve_exact(count) {
        Ok(()) => samples.resize(count, T::default()),
        Err(_) => return Err(Fault::memory(count as u64 * T::FORMAT.bytes())),
    }
    Ok(samples)
}
