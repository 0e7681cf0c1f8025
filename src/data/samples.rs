//! Samples of an image as a file stores them.
//!
//! Shapes: H, W pixels of C channels, `[H, W, C]` row after row.

/// The sample types that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleFormat {
    U8,
    U16,
    F32,
}

impl SampleFormat {
    pub fn bytes(self) -> u64 {
        match self {
            SampleFormat::U8 => 1,
            SampleFormat::U16 => 2,
            SampleFormat::F32 => 4,
        }
    }

    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            SampleFormat::U8 => "8-bit",
            SampleFormat::U16 => "16-bit",
            SampleFormat::F32 => "32-bit float",
        }
    }
}

/// The samples of an image, `[H, W, C]`.
///
/// Integers are black-is-zero; floats are finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Samples<'a> {
    U8(&'a [u8]),
    U16(&'a [u16]),
    F32(&'a [f32]),
}

/// The same, owned.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleBuffer {
    U8(Vec<u8>),
    U16(Vec<u16>),
    F32(Vec<f32>),
}

impl SampleBuffer {
    pub fn samples(&self) -> Samples<'_> {
        match self {
            Self::U8(values) => Samples::U8(values),
            Self::U16(values) => Samples::U16(values),
            Self::F32(values) => Samples::F32(values),
        }
    }
}

impl Samples<'_> {
    pub fn len(self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }
}

#[cfg(test)]
impl Samples<'_> {
    pub fn to_buffer(self) -> SampleBuffer {
        match self {
            Self::U8(values) => SampleBuffer::U8(values.to_vec()),
            Self::U16(values) => SampleBuffer::U16(values.to_vec()),
            Self::F32(values) => SampleBuffer::F32(values.to_vec()),
        }
    }
}

/// A note on an image that programs show turned or mirrored, by its Orientation (TIFF 6.0, EXIF); `None` where it is
/// upright, or says nothing that is known.
pub fn orientation_note(orientation: u64) -> Option<String> {
    matches!(orientation, 2..=8).then(|| {
        format!(
            "other programs show it turned or mirrored (Orientation {orientation}); it is read as it is stored, and \
             its labels must be stored alike"
        )
    })
}

/// The colours of a palette image, whose samples are indices into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Palette(pub Vec<[u8; 3]>);
