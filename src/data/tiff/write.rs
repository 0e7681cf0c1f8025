//! Writes a stack page by page, so it need not fit in memory, and in one step for everyone else: the
//! file takes its name only when it is complete.
//!
//! Pages are compressed by Deflate (8) without predictor, as ImageJ knows predictors with LZW only.
//! Page 0 has ImageJ's `ImageDescription` text, so that the file opens there as a stack.
//! Source: TIFF 6.0; ImageJ's `TiffDecoder` and `FileOpener`. Not here: what the values mean.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{Resolution, TiffError, find_non_finite};
use crate::files::AtomicFile;
use ::tiff::TiffError as CrateError;
use ::tiff::encoder::colortype::{ColorType, Gray8, Gray16, Gray32Float, RGB8};
use ::tiff::encoder::{
    Compression, DeflateLevel, Rational, TiffEncoder, TiffKind, TiffKindBig, TiffKindStandard, TiffValue,
};
use ::tiff::tags::Tag;

/// Offsets of classic TIFF have 32 bits; a stack that may grow larger than this is a BigTIFF.
const MAX_CLASSIC_BYTES: u64 = 3_990 << 20;

/// The pixels that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleKind {
    U8,
    U16,
    F32,
    /// Red, green and blue next to each other, 8 bits each.
    Rgb8,
}

impl SampleKind {
    fn samples_per_pixel(self) -> usize {
        if self == SampleKind::Rgb8 { 3 } else { 1 }
    }

    fn bytes_per_pixel(self) -> u64 {
        match self {
            SampleKind::U8 => 1,
            SampleKind::U16 => 2,
            SampleKind::F32 => 4,
            SampleKind::Rgb8 => 3,
        }
    }
}

/// A stack being written. Dropped before [`StackWriter::finish`], it leaves no file.
pub struct StackWriter {
    path: PathBuf,
    file: AtomicFile,
    /// `None` after an error: what the file then holds cannot be continued.
    encoder: Option<Encoder>,
    kind: SampleKind,
    /// Pages of the file: the channels of a hyperstack are pages each.
    pages: usize,
    /// Channels of a hyperstack, else 1.
    channels: usize,
    height: u32,
    width: u32,
    resolution: Option<Resolution>,
    written: usize,
}

/// Over a plain file: the `tiff` crate has no way to flush a buffered one, or to give it back, so
/// that its last error would be lost. It makes some 100 small writes for a page.
enum Encoder {
    Classic(TiffEncoder<File, TiffKindStandard>),
    Big(TiffEncoder<File, TiffKindBig>),
}

impl StackWriter {
    /// Begins a stack of `pages` pages of `[height, width]` samples, which will replace a file at
    /// `path`. Until then it has another name in the same folder. Above 3.9 GiB it is a BigTIFF,
    /// which ImageJ opens by its Bio-Formats plugin only.
    ///
    /// # Errors
    /// A size of 0, a path that cannot be written.
    pub fn create(
        path: &Path,
        pages: usize,
        height: usize,
        width: usize,
        kind: SampleKind,
        resolution: Option<Resolution>,
    ) -> Result<StackWriter, TiffError> {
        StackWriter::create_hyperstack(path, pages, 1, height, width, kind, resolution)
    }

    /// Begins a stack of `slices` images of `channels` channels, each of them a page: slice after slice, the channels
    /// of a slice next to each other. ImageJ opens it as a hyperstack. Otherwise as [`StackWriter::create`].
    ///
    /// # Errors
    /// As [`StackWriter::create`]; channels of [`SampleKind::Rgb8`].
    pub fn create_hyperstack(
        path: &Path,
        slices: usize,
        channels: usize,
        height: usize,
        width: usize,
        kind: SampleKind,
        resolution: Option<Resolution>,
    ) -> Result<StackWriter, TiffError> {
        if channels > 1 && kind == SampleKind::Rgb8 {
            return Err(TiffError::Page {
                path: path.to_owned(),
                page: None,
                problem: format!("{channels} channels of RGB pages, expected grey pages"),
                advice: "write one page for each channel",
            });
        }
        let pages = slices.saturating_mul(channels);
        let page_bytes = (height as u64).saturating_mul(width as u64).saturating_mul(kind.bytes_per_pixel());
        // Incompressible pages grow a little, and each has a directory.
        let stored = page_bytes.saturating_add(page_bytes / 1000 + 1024);
        let big = (pages as u64).saturating_mul(stored) > MAX_CLASSIC_BYTES;
        StackWriter::begin(path, [slices, channels, height, width], kind, resolution, big)
    }

    pub(super) fn begin(
        path: &Path,
        [slices, channels, height, width]: [usize; 4],
        kind: SampleKind,
        resolution: Option<Resolution>,
        big: bool,
    ) -> Result<StackWriter, TiffError> {
        let pages = slices.saturating_mul(channels);
        let sides = (u32::try_from(height), u32::try_from(width));
        let (Ok(height @ 1..), Ok(width @ 1..), 1..) = (sides.0, sides.1, pages) else {
            return Err(TiffError::Page {
                path: path.to_owned(),
                page: None,
                problem: format!("{pages} pages of {width} x {height} samples, expected at least 1"),
                advice: "give a stack that has samples",
            });
        };
        let write = |cause| TiffError::Write { path: path.to_owned(), cause };
        let file = AtomicFile::create(path).map_err(write)?;
        let copy = file.file().try_clone().map_err(write)?;
        // A better level makes probabilities 3 % smaller and a prediction of the full network a fifth slower.
        let compression = Compression::Deflate(DeflateLevel::Fast);
        let encoder = if big {
            TiffEncoder::new_big(copy).map(|e| Encoder::Big(e.with_compression(compression)))
        } else {
            TiffEncoder::new(copy).map(|e| Encoder::Classic(e.with_compression(compression)))
        };
        Ok(StackWriter {
            path: path.to_owned(),
            file,
            encoder: Some(encoder.map_err(|error| write(cause(error)))?),
            kind,
            pages,
            channels,
            height,
            width,
            resolution,
            written: 0,
        })
    }

    /// Writes the next page: `[height, width]` bytes.
    ///
    /// # Errors
    /// A page too many, or of other size or type than announced; an error of the file system, after
    /// which the stack cannot be continued.
    pub fn write_u8(&mut self, page: &[u8]) -> Result<(), TiffError> {
        self.write::<Gray8>(page, SampleKind::U8)
    }

    /// Writes the next page: `[height, width]` numbers.
    ///
    /// # Errors
    /// As [`StackWriter::write_u8`].
    pub fn write_u16(&mut self, page: &[u16]) -> Result<(), TiffError> {
        self.write::<Gray16>(page, SampleKind::U16)
    }

    /// Writes the next page: `[height, width, 3]` bytes.
    ///
    /// # Errors
    /// As [`StackWriter::write_u8`].
    pub fn write_rgb8(&mut self, page: &[u8]) -> Result<(), TiffError> {
        self.write::<RGB8>(page, SampleKind::Rgb8)
    }

    /// Writes the next page: `[height, width]` floats, which must be finite.
    ///
    /// # Errors
    /// As [`StackWriter::write_u8`]; a NaN or infinity.
    pub fn write_f32(&mut self, page: &[f32]) -> Result<(), TiffError> {
        match find_non_finite(page, self.width as usize, 1) {
            Some(problem) => Err(self.refuse(problem)),
            None => self.write::<Gray32Float>(page, SampleKind::F32),
        }
    }

    fn write<C: ColorType>(&mut self, page: &[C::Inner], kind: SampleKind) -> Result<(), TiffError>
    where
        [C::Inner]: TiffValue,
    {
        let samples = self.height as usize * self.width as usize * self.kind.samples_per_pixel();
        if (kind, page.len()) != (self.kind, samples) {
            let got = page.len();
            let problem = format!("{got} {kind:?} samples, expected {samples} {:?}", self.kind);
            return Err(self.refuse(problem));
        }
        if self.written == self.pages {
            let problem = format!("a page too many, expected {} pages", self.pages);
            return Err(self.refuse(problem));
        }
        let Some(mut encoder) = self.encoder.take() else {
            return Err(self.refuse("an earlier page failed, expected no more pages".into()));
        };
        match &mut encoder {
            Encoder::Classic(encoder) => self.encode::<C, _>(encoder, page),
            Encoder::Big(encoder) => self.encode::<C, _>(encoder, page),
        }
        .map_err(|error| self.failed(cause(error)))?;
        self.encoder = Some(encoder);
        self.written += 1;
        Ok(())
    }

    /// Writes one page and its directory.
    fn encode<C: ColorType, K: TiffKind>(
        &self,
        encoder: &mut TiffEncoder<File, K>,
        page: &[C::Inner],
    ) -> Result<(), CrateError>
    where
        [C::Inner]: TiffValue,
    {
        let mut image = encoder.new_image::<C>(self.width, self.height)?;
        let directory = image.encoder();
        if self.written == 0 {
            directory.write_tag(Tag::ImageDescription, self.description().as_str())?;
        }
        if let Some(resolution) = &self.resolution {
            // The crate's own setters panic where the disk is full.
            let rational = |(n, d)| Rational { n, d };
            directory.write_tag(Tag::XResolution, rational(resolution.x))?;
            directory.write_tag(Tag::YResolution, rational(resolution.y))?;
            directory.write_tag(Tag::ResolutionUnit, resolution.unit)?;
        }
        image.write_data(page)
    }

    /// ImageJ's text for the whole stack; `min` and `max` are what it shows as black and white.
    fn description(&self) -> String {
        let (pages, channels) = (self.pages, self.channels);
        let mut text = match channels {
            1 => format!("ImageJ=1.54f\nimages={pages}\nslices={pages}\n"),
            _ => {
                let slices = pages / channels;
                let sizes = format!("images={pages}\nchannels={channels}\nslices={slices}\n");
                format!("ImageJ=1.54f\n{sizes}hyperstack=true\nmode=grayscale\n")
            }
        };
        let resolution = self.resolution.as_ref();
        if let Some(unit) = resolution.and_then(Resolution::unit_name) {
            text += &format!("unit={unit}\n");
        }
        if let Some(spacing) = resolution.and_then(|r| r.spacing) {
            text += &format!("spacing={spacing}\n");
        }
        text + match self.kind {
            SampleKind::U8 => "loop=false\nmin=0.0\nmax=255.0\n",
            SampleKind::U16 => "loop=false\nmin=0.0\nmax=65535.0\n",
            SampleKind::F32 => "loop=false\nmin=0.0\nmax=1.0\n",
            // ImageJ shows colours as they are.
            SampleKind::Rgb8 => "loop=false\n",
        }
    }

    /// Puts the complete stack in its place, safe from a power cut.
    ///
    /// # Errors
    /// Fewer pages than announced, or an error of the file system; then there is no new file.
    pub fn finish(mut self) -> Result<(), TiffError> {
        if self.encoder.take().is_none() || self.written != self.pages {
            return Err(TiffError::Page {
                path: self.path,
                page: None,
                problem: format!("{} pages were written, expected {}", self.written, self.pages),
                advice: "write all pages before finishing the stack",
            });
        }
        let StackWriter { path, file, .. } = self;
        file.commit().map_err(|cause| TiffError::Write { path, cause })
    }

    fn refuse(&self, problem: String) -> TiffError {
        TiffError::Page {
            path: self.path.clone(),
            page: Some(self.written),
            problem,
            advice: "mend what makes the pages",
        }
    }

    fn failed(&self, cause: io::Error) -> TiffError {
        TiffError::Write { path: self.path.clone(), cause }
    }
}

fn cause(error: CrateError) -> io::Error {
    match error {
        CrateError::IoError(error) => error,
        error => io::Error::other(error),
    }
}
