//! What image files say of their images, and what the readers of PNG and JPEG share.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Result, bail};

use crate::data::samples::{Palette, SampleBuffer, SampleFormat};
use crate::data::tiff::Resolution;

/// The most channels that an image may have.
pub const MOST_CHANNELS: usize = 16;

/// What a file says of its images before their samples are read.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInfo {
    pub pages: usize,
    pub height: usize,
    pub width: usize,
    /// Without the alpha channel, which is not read.
    pub channels: usize,
    pub format: SampleFormat,
    /// Whether the file has an alpha channel.
    pub has_alpha: bool,
    /// Whether samples are rounded by a compression that loses some of the picture.
    pub is_lossy: bool,
    pub palette: Option<Palette>,
    pub resolution: Option<Resolution>,
    /// What people should know of how the file is read.
    pub notes: Vec<String>,
}

/// A page with its samples, `[H, W, C]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub samples: SampleBuffer,
    pub palette: Option<Palette>,
}

/// A buffered reader of a file, and its length.
pub fn reader(path: &Path) -> Result<(BufReader<File>, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((BufReader::new(file), length))
}

/// Errors: an image whose samples take more memory than `ratio` times the `length` of its file, which none does.
pub fn require_plausible([height, width, channels]: [usize; 3], bytes: u64, length: u64, ratio: u64) -> Result<()> {
    let samples = (height as u64).saturating_mul(width as u64).saturating_mul(channels as u64).saturating_mul(bytes);
    if samples == 0 || samples > length.saturating_mul(ratio) {
        bail!("{width} x {height} pixels in a file of {length} bytes; it is damaged, copy or export it again");
    }
    Ok(())
}
