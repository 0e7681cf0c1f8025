//! The sample types: as the decoder takes them, and as they are kept.

use ::tiff::decoder::DecodingBuffer;

use super::{Fault, Samples, find_non_finite};
use crate::data::samples::SampleBuffer;

/// A type that samples are kept as.
pub trait Sample: Copy + Default {
    fn samples(page: &[Self]) -> Samples<'_>;

    fn owned(page: Vec<Self>) -> SampleBuffer;

    /// Refuses a decoded page `[H, W, C]` that has samples nothing can be computed with.
    fn check(_page: &[Self], _width: usize, _channels: usize) -> Result<(), Fault> {
        Ok(())
    }
}

impl Sample for u8 {
    fn samples(page: &[u8]) -> Samples<'_> {
        Samples::U8(page)
    }

    fn owned(page: Vec<u8>) -> SampleBuffer {
        SampleBuffer::U8(page)
    }
}

impl Sample for u16 {
    fn samples(page: &[u16]) -> Samples<'_> {
        Samples::U16(page)
    }

    fn owned(page: Vec<u16>) -> SampleBuffer {
        SampleBuffer::U16(page)
    }
}

impl Sample for f32 {
    fn samples(page: &[f32]) -> Samples<'_> {
        Samples::F32(page)
    }

    fn owned(page: Vec<f32>) -> SampleBuffer {
        SampleBuffer::F32(page)
    }

    fn check(page: &[f32], width: usize, channels: usize) -> Result<(), Fault> {
        match find_non_finite(page, width, channels) {
            Some(problem) => Err(Fault::unsupported(
                problem,
                "give these pixels a number, such as that of their neighbours, or mend what wrote them",
            )),
            None => Ok(()),
        }
    }
}

/// A type that the decoder takes.
pub trait Raw: Copy + Default {
    /// The samples as the `tiff` crate takes them, that is also: as bytes.
    fn buffer(samples: &mut [Self]) -> DecodingBuffer<'_>;
}

macro_rules! raw {
    ($($kind:ident $variant:ident),*) => {$(
        impl Raw for $kind {
            fn buffer(samples: &mut [$kind]) -> DecodingBuffer<'_> {
                DecodingBuffer::$variant(samples)
            }
        }
    )*};
}

raw!(u8 U8, u16 U16, u32 U32, u64 U64, i8 I8, i16 I16, i32 I32, i64 I64, f32 F32, f64 F64);

/// How samples are decoded and what is kept of them.
pub trait Form {
    type Raw: Raw;
    type Kept: Sample;

    fn keep(raw: Self::Raw) -> Self::Kept;

    /// Black for white of unsigned integers of `bits` bits; other forms are never white-is-zero.
    fn inverted(raw: Self::Raw, _bits: u32) -> Self::Raw {
        raw
    }

    /// Whether a whole number stays what it is.
    fn is_exact(_raw: Self::Raw) -> bool {
        true
    }

    /// An unsigned integer of a packed sample.
    fn unpacked(_value: u16) -> Self::Raw {
        Self::Raw::default()
    }

    /// The samples to decode into without a detour, if they are kept as they are.
    fn in_place(_kept: &mut [Self::Kept]) -> Option<&mut [Self::Raw]> {
        None
    }
}

/// Samples that keep their type.
pub struct Same<T>(std::marker::PhantomData<T>);

macro_rules! same {
    ($($kind:ident),*) => {$(
        impl Form for Same<$kind> {
            type Raw = $kind;
            type Kept = $kind;

            fn keep(raw: $kind) -> $kind {
                raw
            }

            fn inverted(raw: $kind, bits: u32) -> $kind {
                !raw & ($kind::MAX >> ($kind::BITS - bits))
            }

            fn unpacked(value: u16) -> $kind {
                value as $kind
            }

            fn in_place(kept: &mut [$kind]) -> Option<&mut [$kind]> {
                Some(kept)
            }
        }
    )*};
}

same!(u8, u16);

impl Form for Same<f32> {
    type Raw = f32;
    type Kept = f32;

    fn keep(raw: f32) -> f32 {
        raw
    }

    fn in_place(kept: &mut [f32]) -> Option<&mut [f32]> {
        Some(kept)
    }
}

/// Integers that become floats, of which those beyond 2^24 lose bits.
pub struct Whole<T>(std::marker::PhantomData<T>);

macro_rules! whole {
    ($($kind:ident),*) => {$(
        impl Form for Whole<$kind> {
            type Raw = $kind;
            type Kept = f32;

            fn keep(raw: $kind) -> f32 {
                raw as f32
            }

            fn is_exact(raw: $kind) -> bool {
                // In 128 bits: a conversion to the type itself would stop at its largest value.
                raw as f32 as i128 == i128::from(raw)
            }
        }
    )*};
}

whole!(u32, u64, i8, i16, i32, i64);

/// Floats of 64 bits. Fractions are rounded; of whole numbers it is told.
pub struct Double;

impl Form for Double {
    type Raw = f64;
    type Kept = f32;

    fn keep(raw: f64) -> f32 {
        raw as f32
    }

    fn is_exact(raw: f64) -> bool {
        raw.fract() != 0.0 || f64::from(raw as f32) == raw
    }
}

/// Floats of 16 bits, which are decoded as words.
pub struct Half;

impl Form for Half {
    type Raw = u16;
    type Kept = f32;

    fn keep(raw: u16) -> f32 {
        let sign = if raw >> 15 == 1 { -1.0 } else { 1.0 };
        let (exponent, fraction) = (i32::from(raw >> 10 & 0x1f), f32::from(raw & 0x3ff));
        match exponent {
            0 => sign * fraction * 2f32.powi(-24),
            31 if fraction == 0.0 => sign * f32::INFINITY,
            31 => f32::NAN,
            exponent => sign * (1024.0 + fraction) * 2f32.powi(exponent - 25),
        }
    }
}

/// An empty vector with room for `count` values.
pub fn reserve<T>(count: usize) -> Result<Vec<T>, Fault> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Fault::memory(count as u64 * size_of::<T>() as u64))?;
    Ok(values)
}

/// `count` samples of 0.
pub fn zeros<T: Copy + Default>(count: usize) -> Result<Vec<T>, Fault> {
    let mut samples = reserve(count)?;
    samples.resize(count, T::default());
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats_have_the_values_of_ieee_754() {
        let cases =
            [(0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (0x0001, 5.960_464_5e-8), (0x3555, 0.333_251_95)];
        for (bits, value) in cases {
            assert_eq!(Half::keep(bits), value, "{bits:#06x}");
        }
        assert_eq!((Half::keep(0), Half::keep(0x7c00)), (0.0, f32::INFINITY));
        assert!(Half::keep(0x7c01).is_nan());
    }

    #[test]
    fn whole_numbers_beyond_24_bits_are_known_to_be_rounded() {
        let (last, next) = (1 << 24, (1 << 24) + 1);
        assert!(Whole::<u32>::is_exact(last) && !Whole::<u32>::is_exact(next));
        assert!(Whole::<i32>::is_exact(-(1 << 24)) && !Whole::<i32>::is_exact(i32::MAX));
        assert!(
            !Whole::<u64>::is_exact(u64::MAX) && !Whole::<i64>::is_exact(i64::MAX) && Whole::<i64>::is_exact(i64::MIN)
        );
        assert!(Double::is_exact(0.1) && Double::is_exact(1e3) && !Double::is_exact(16_777_217.0));
        assert_eq!((Whole::<i16>::keep(-32_768), Whole::<i8>::keep(-1)), (-32_768.0, -1.0));
    }
}
