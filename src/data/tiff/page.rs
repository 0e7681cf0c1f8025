//! Checks what a TIFF file says of its pages, before any memory is taken for them.
//!
//! Source: TIFF 6.0 sections 3 to 5 and 22. The `tiff` crate multiplies and allocates by what a directory says. So it
//! only sees directories that are made of what was checked here (`decode`): pages are alike, no directory comes twice,
//! and the strips can hold the samples.
//! Not here: colour and channels (`pixel`), compression, the strips or tiles of a page (`chunks`), samples (`read`).

use std::collections::HashSet;
use std::io::{Read, Seek};

use super::chunks::Chunks;
use super::compression::Compression;
use super::directory::{Scanner, imagej};
use super::pixel::Pixel;
use super::{Fault, Resolution};
use crate::data::samples::SampleFormat;

/// Upper bound of a stack in memory.
pub const MAX_STACK_BYTES: u64 = 64 << 30;

const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const BITS_PER_SAMPLE: u16 = 258;
const FILL_ORDER: u16 = 266;
const SAMPLE_FORMAT: u16 = 339;

/// A checked page; its sizes in samples are above 0.
#[derive(Debug)]
pub struct Page {
    pub width: u64,
    pub height: u64,
    pub format: SampleFormat,
    pub pixel: Pixel,
    pub compression: Compression,
    pub chunks: Chunks,
}

impl Page {
    /// Bytes of the decoded page with all of its samples, alpha too; at most [`MAX_STACK_BYTES`].
    pub fn bytes(&self) -> u64 {
        self.width * self.height * self.format.bytes() * self.pixel.samples as u64
    }

    /// For messages.
    fn kind(&self) -> String {
        let format = self.format.name();
        let size = format!("{} x {} {format} samples", self.width, self.height);
        match self.pixel.channels() {
            1 => size,
            channels => format!("{size} of {channels} channels"),
        }
    }
}

/// What ImageJ's text says of a stack; `None` where it says nothing.
#[derive(Debug, Default)]
pub struct ImageJ {
    /// Number of pages, if above 1.
    pub images: Option<u64>,
    /// Number of pages that are the channels of one slice, if above 1.
    pub channels: Option<u64>,
    pub slices: Option<u64>,
    pub frames: Option<u64>,
}

impl ImageJ {
    fn read(description: &str) -> ImageJ {
        let number = |key| imagej::<u64>(description, key);
        ImageJ {
            images: number("images").filter(|&images| images > 1),
            channels: number("channels").filter(|&channels| channels > 1),
            slices: number("slices"),
            frames: number("frames"),
        }
    }
}

/// The checked pages of a file: at least one, and all of one size, type and number of channels.
#[derive(Debug)]
pub struct Layout {
    /// The first page alone keeps the palette, which is that of all.
    pub pages: Vec<Page>,
    pub big_endian: bool,
    pub imagej: ImageJ,
    pub resolution: Option<Resolution>,
}

/// Reads and checks all page directories of a file of `length` bytes.
pub fn scan<R: Read + Seek>(reader: &mut R, length: u64) -> Result<Layout, Fault> {
    let (mut scanner, mut next) = Scanner::start(reader, length)?;
    let mut layout =
        Layout { pages: Vec::new(), big_endian: scanner.big_endian, imagej: ImageJ::default(), resolution: None };
    let mut seen = HashSet::new();
    while next != 0 {
        let directory = next;
        let on_page = |fault: Fault| fault.on_page(layout.pages.len());
        if !seen.insert(directory) {
            let problem = "its directory is that of an earlier page, expected one of its own";
            return Err(on_page(Fault::damaged(problem)));
        }
        next = scanner.directory(directory).map_err(on_page)?;
        let mut page = page(&mut scanner).map_err(on_page)?;
        match layout.pages.first() {
            None => {
                let text = scanner.description();
                layout.imagej = ImageJ::read(&text);
                layout.resolution = scanner.resolution(&text);
            }
            Some(first) => {
                check_alike(first, &page).map_err(on_page)?;
                page.pixel.palette = None;
            }
        }
        layout.pages.push(page);
    }
    if layout.pages.is_empty() {
        return Err(Fault::damaged("0 pages, expected at least 1"));
    }
    Ok(layout)
}

fn check_alike(first: &Page, page: &Page) -> Result<(), Fault> {
    if first.kind() != page.kind() {
        return Err(Fault::unsupported(
            format!("{}, expected {} as on page 0", page.kind(), first.kind()),
            "put pages of different size or type into different files",
        ));
    }
    if first.pixel.palette != page.pixel.palette {
        return Err(Fault::unsupported(
            "its palette is not that of page 0, expected one palette for all pages",
            "put pages of different palettes into different files",
        ));
    }
    Ok(())
}

/// Checks the directory that has been read.
fn page(scanner: &mut Scanner<impl Read + Seek>) -> Result<Page, Fault> {
    if !matches!(scanner.integer(FILL_ORDER)?, None | Some(1)) {
        return Err(Fault::unsupported(
            "fill order 2 (reversed bits), expected 1",
            "save the stack again with another program",
        ));
    }
    let pixel = Pixel::read(scanner)?;
    let format = check_format(scanner, &pixel)?;
    let compression = Compression::read(scanner, format, &pixel)?;
    let width = scanner.integer(IMAGE_WIDTH)?.unwrap_or(0);
    let height = scanner.integer(IMAGE_LENGTH)?.unwrap_or(0);
    let together = pixel.samples_together() as u64;
    let planes = pixel.samples as u64 / together;
    let samples = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(pixel.samples as u64));
    let bytes = samples.and_then(|samples| samples.checked_mul(format.bytes()));
    if !bytes.is_some_and(|bytes| (1..=MAX_STACK_BYTES).contains(&bytes)) {
        return Err(Fault::damaged(format!(
            "{width} x {height} samples, expected at least 1 x 1 and at most {MAX_STACK_BYTES} bytes"
        )));
    }
    let pixel_bytes = together * format.bytes();
    let chunks = Chunks::read(scanner, [width, height], pixel_bytes, planes, compression.ratio)?;
    Ok(Page { width, height, format, pixel, compression, chunks })
}

fn check_format(scanner: &mut Scanner<impl Read + Seek>, pixel: &Pixel) -> Result<SampleFormat, Fault> {
    let samples = pixel.samples as u64;
    let bits = of_all_samples(scanner, BITS_PER_SAMPLE, samples, "bits")?.unwrap_or(1);
    let kind = match of_all_samples(scanner, SAMPLE_FORMAT, samples, "type")?.unwrap_or(1) {
        1 => "unsigned",
        2 => "signed",
        3 => "float",
        _ => "untyped",
    };
    let format = match (bits, kind) {
        (8, "unsigned") => SampleFormat::U8,
        (16, "unsigned") => SampleFormat::U16,
        (32, "float") => SampleFormat::F32,
        _ => {
            return Err(Fault::unsupported(
                format!("{bits}-bit {kind} samples, expected 8-bit or 16-bit unsigned or 32-bit float"),
                "save the samples in one of these types",
            ));
        }
    };
    match format {
        SampleFormat::F32 if pixel.white_is_zero => Err(Fault::unsupported(
            "white-is-zero float samples, expected black-is-zero",
            "invert the stack and save it as black-is-zero",
        )),
        SampleFormat::U16 | SampleFormat::F32 if pixel.palette.is_some() => Err(Fault::unsupported(
            format!("palette colour of {} samples, expected 8-bit", format.name()),
            "save the image as RGB",
        )),
        format => Ok(format),
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
