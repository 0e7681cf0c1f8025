//! Image files of any format that is read: TIFF, PNG and JPEG, known by their first bytes and not by their names.
//!
//! Not here: what samples mean (`values`, `labels`), which files belong together (`layout`).

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::tiff::StackReader;

mod info;
mod jpeg;
mod png;

pub use info::{Image, ImageInfo, MOST_CHANNELS};

/// An open file, whose header is read.
pub struct ImageFile {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Tiff(Box<StackReader>),
    Png(png::Header),
    Jpeg(jpeg::Header),
}

impl ImageFile {
    /// Errors: a file that cannot be opened, is of another format, or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let kind = match first_bytes(path)? {
            [0x89, b'P', b'N', b'G', ..] => png::Header::read(path).map(Kind::Png),
            [0xff, 0xd8, 0xff, ..] => jpeg::Header::read(path).map(Kind::Jpeg),
            [b'I', b'I', ..] | [b'M', b'M', ..] => Ok(Kind::Tiff(Box::new(StackReader::open(path)?))),
            bytes => bail!(
                "'{}' is {}; save it as TIFF, PNG or JPEG",
                path.display(),
                foreign_format(&bytes).unwrap_or("neither TIFF, PNG nor JPEG")
            ),
        };
        let kind = kind.with_context(|| format!("cannot read '{}'", path.display()))?;
        Ok(Self { path: path.to_owned(), kind })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn info(&self) -> ImageInfo {
        match &self.kind {
            Kind::Tiff(stack) => {
                let [pages, height, width] = stack.size();
                ImageInfo {
                    pages,
                    height,
                    width,
                    channels: stack.channels(),
                    format: stack.format(),
                    has_alpha: stack.dropped_alpha(),
                    is_lossy: false,
                    palette: stack.palette().cloned(),
                    resolution: stack.resolution().cloned(),
                    notes: stack.notes().to_vec(),
                }
            }
            Kind::Png(header) => header.info(),
            Kind::Jpeg(header) => header.info(),
        }
    }

    /// Samples of the pages decoded so far that were rounded: whole numbers beyond 2^24, which floats do not hold.
    pub fn rounded(&self) -> u64 {
        match &self.kind {
            Kind::Tiff(stack) => stack.rounded(),
            Kind::Png(_) | Kind::Jpeg(_) => 0,
        }
    }

    /// Decodes the page `index` alone.
    pub fn page(&mut self, index: usize) -> Result<Image> {
        let info = self.info();
        let samples = match &mut self.kind {
            Kind::Tiff(stack) => stack.page(index)?,
            Kind::Png(header) => {
                header.decode(&self.path).with_context(|| format!("cannot read '{}'", self.path.display()))?
            }
            Kind::Jpeg(header) => {
                header.decode(&self.path).with_context(|| format!("cannot read '{}'", self.path.display()))?
            }
        };
        let ImageInfo { height, width, channels, palette, .. } = info;
        Ok(Image { height, width, channels, samples, palette })
    }
}

/// Whether a file's name says that it is an image of a format that is read.
pub fn has_image_suffix(path: &Path) -> bool {
    let suffix = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    ["tif", "tiff", "png", "jpg", "jpeg"].contains(&suffix.as_str())
}

/// The first four bytes of a file; fewer become zeros.
fn first_bytes(path: &Path) -> Result<[u8; 4]> {
    let open = || format!("cannot open '{}'; check the path and its permissions", path.display());
    // Before opening: a named pipe would wait for a writer.
    let kind = fs::metadata(path).with_context(open)?;
    if !kind.is_file() {
        let found = if kind.is_dir() { "a folder" } else { "not a regular file" };
        bail!("'{}' is {found}, expected an image; give the path of one file", path.display());
    }
    let mut bytes = Vec::new();
    File::open(path).with_context(open)?.take(4).read_to_end(&mut bytes).with_context(open)?;
    if bytes.is_empty() {
        bail!("'{}' is empty; copy or export it again", path.display());
    }
    bytes.resize(4, 0);
    Ok([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The name of a format that people have and that is not read.
fn foreign_format(bytes: &[u8; 4]) -> Option<&'static str> {
    Some(match bytes {
        [b'B', b'M', ..] => "a BMP image",
        b"GIF8" => "a GIF image",
        b"RIFF" => "a WebP image or another RIFF file",
        [0x1f, 0x8b, ..] => "compressed by gzip (a NIfTI volume, .nii.gz?)",
        b"\x89HDF" => "an HDF5 file",
        [b'P', b'K', ..] => "a zip archive",
        [0x93, b'N', b'U', b'M'] => "a NumPy array",
        b"%PDF" => "a PDF document",
        [b'<', ..] => "a text of markup, such as SVG or a web page",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
