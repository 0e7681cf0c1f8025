//! Checks what a TIFF file says of its pages, before any memory is taken for them.
//!
//! Source: TIFF 6.0 sections 3, 4, 9, 14 and 22. The `tiff` crate reads the same directories when it
//! decodes, and multiplies and allocates by what they say. So nothing reaches it that was not checked
//! here: pages are grey and alike, no directory comes twice, and the strips can hold the samples.
//! Not here: the strips or tiles of a page (`chunks`), samples (`read`).

use std::collections::HashSet;
use std::io::{Read, Seek};

use super::chunks::Chunks;
use super::directory::{Scanner, imagej};
use super::{Fault, Resolution};

/// Upper bound of a stack in memory.
pub const MAX_STACK_BYTES: u64 = 64 << 30;

const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const BITS_PER_SAMPLE: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const FILL_ORDER: u16 = 266;
const SAMPLES_PER_PIXEL: u16 = 277;
const PLANAR_CONFIGURATION: u16 = 284;
const PREDICTOR: u16 = 317;
const EXTRA_SAMPLES: u16 = 338;
const SAMPLE_FORMAT: u16 = 339;
const CHROMA_SUBSAMPLING: u16 = 530;

/// The sample types that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleFormat {
    U8,
    U16,
    F32,
}

impl SampleFormat {
    fn bytes(self) -> u64 {
        match self {
            SampleFormat::U8 => 1,
            SampleFormat::U16 => 2,
            SampleFormat::F32 => 4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            SampleFormat::U8 => "8-bit",
            SampleFormat::U16 => "16-bit",
            SampleFormat::F32 => "32-bit float",
        }
    }
}

/// A checked page; its sizes in samples are above 0.
#[derive(Debug)]
pub struct Page {
    /// Offset of its directory.
    pub directory: u64,
    pub width: u64,
    pub height: u64,
    pub format: SampleFormat,
    pub white_is_zero: bool,
    pub compressed: bool,
    pub chunks: Chunks,
}

impl Page {
    /// Bytes of the decoded page; at most [`MAX_STACK_BYTES`].
    pub fn bytes(&self) -> u64 {
        self.width * self.height * self.format.bytes()
    }

    /// For messages.
    fn kind(&self) -> String {
        let format = self.format.name();
        format!("{} x {} {format} samples", self.width, self.height)
    }
}

/// The checked pages of a file: at least one, and all of one size and type.
#[derive(Debug)]
pub struct Layout {
    pub pages: Vec<Page>,
    pub big_endian: bool,
    /// Number of pages in ImageJ's text, if above 1.
    pub imagej_images: Option<u64>,
    pub resolution: Option<Resolution>,
}

/// Reads and checks all page directories of a file of `length` bytes.
pub fn scan<R: Read + Seek>(reader: &mut R, length: u64) -> Result<Layout, Fault> {
    let (mut scanner, mut next) = Scanner::start(reader, length)?;
    let mut layout =
        Layout { pages: Vec::new(), big_endian: scanner.big_endian, imagej_images: None, resolution: None };
    let mut seen = HashSet::new();
    while next != 0 {
        let directory = next;
        let on_page = |fault: Fault| fault.on_page(layout.pages.len());
        if !seen.insert(directory) {
            let problem = "its directory is that of an earlier page, expected one of its own";
            return Err(on_page(Fault::damaged(problem)));
        }
        next = scanner.directory(directory).map_err(on_page)?;
        let page = page(&mut scanner, directory).map_err(on_page)?;
        match layout.pages.first() {
            None => {
                let text = scanner.description();
                layout.imagej_images = imagej(&text, "images").filter(|&images| images > 1);
                layout.resolution = scanner.resolution(&text);
            }
            Some(first) if first.kind() == page.kind() => {}
            Some(first) => {
                return Err(on_page(Fault::unsupported(
                    format!("{}, expected {} as on page 0", page.kind(), first.kind()),
                    "put pages of different size or type into different files",
                )));
            }
        }
        layout.pages.push(page);
    }
    if layout.pages.is_empty() {
        return Err(Fault::damaged("0 pages, expected at least 1"));
    }
    Ok(layout)
}

/// Checks the directory at byte `directory`, which has been read.
fn page(scanner: &mut Scanner<impl Read + Seek>, directory: u64) -> Result<Page, Fault> {
    let white_is_zero = check_grey(scanner)?;
    let format = check_format(scanner)?;
    if white_is_zero && format == SampleFormat::F32 {
        return Err(Fault::unsupported(
            "white-is-zero float samples, expected black-is-zero",
            "invert the stack and save it as black-is-zero",
        ));
    }
    let ratio = check_compression(scanner, format)?;
    let width = scanner.integer(IMAGE_WIDTH)?.unwrap_or(0);
    let height = scanner.integer(IMAGE_LENGTH)?.unwrap_or(0);
    let samples = width.checked_mul(height);
    let bytes = samples.and_then(|samples| samples.checked_mul(format.bytes()));
    if !bytes.is_some_and(|bytes| (1..=MAX_STACK_BYTES).contains(&bytes)) {
        return Err(Fault::damaged(format!(
            "{width} x {height} samples, expected at least 1 x 1 and at most {MAX_STACK_BYTES} bytes"
        )));
    }
    Ok(Page {
        directory,
        width,
        height,
        format,
        white_is_zero,
        compressed: ratio > 1,
        chunks: Chunks::read(scanner, [width, height], format.bytes(), ratio)?,
    })
}

/// Refuses colour; says whether 0 stands for white.
fn check_grey(scanner: &mut Scanner<impl Read + Seek>) -> Result<bool, Fault> {
    let photometric = scanner.integer(PHOTOMETRIC)?;
    let colour = match photometric {
        Some(0 | 1) => "grey",
        Some(2) => "RGB",
        Some(3) => "palette colour",
        Some(5) => "CMYK",
        Some(6) => "YCbCr",
        Some(_) => "an unknown colour space",
        None => "no colour space",
    };
    let samples = scanner.integer(SAMPLES_PER_PIXEL)?.unwrap_or(1);
    let extra = scanner.count(EXTRA_SAMPLES);
    let problem = match (samples, colour, extra) {
        (1, "grey", 0) => None,
        (1, "grey", _) => Some(format!("{extra} extra samples, expected 0")),
        (1, colour, _) => Some(format!("{colour}, expected grey")),
        (_, colour, _) => Some(format!("{samples} samples per pixel ({colour}), expected 1")),
    };
    if let Some(problem) = problem {
        let advice = "convert the stack to grey without alpha channel";
        return Err(Fault::unsupported(problem, advice));
    }
    // Means nothing for grey, but the `tiff` crate reads it.
    scanner.integers(CHROMA_SUBSAMPLING, 2)?;
    if !matches!(scanner.integer(PLANAR_CONFIGURATION)?, None | Some(1 | 2)) {
        return Err(Fault::damaged("unknown planar configuration, expected 1 or 2"));
    }
    if !matches!(scanner.integer(FILL_ORDER)?, None | Some(1)) {
        return Err(Fault::unsupported(
            "fill order 2 (reversed bits), expected 1",
            "save the stack again with another program",
        ));
    }
    Ok(photometric == Some(0))
}

fn check_format(scanner: &mut Scanner<impl Read + Seek>) -> Result<SampleFormat, Fault> {
    let bits = scanner.integer(BITS_PER_SAMPLE)?.unwrap_or(1);
    let kind = match scanner.integer(SAMPLE_FORMAT)?.unwrap_or(1) {
        1 => "unsigned",
        2 => "signed",
        3 => "float",
        _ => "untyped",
    };
    match (bits, kind) {
        (8, "unsigned") => Ok(SampleFormat::U8),
        (16, "unsigned") => Ok(SampleFormat::U16),
        (32, "float") => Ok(SampleFormat::F32),
        _ => Err(Fault::unsupported(
            format!("{bits}-bit {kind} samples, expected 8-bit or 16-bit unsigned or 32-bit float"),
            "convert the stack to 8-bit grey",
        )),
    }
}

/// How many bytes of samples a stored byte can stand for at most; 1 if nothing is compressed.
fn check_compression(scanner: &mut Scanner<impl Read + Seek>, format: SampleFormat) -> Result<u64, Fault> {
    let compression = scanner.integer(COMPRESSION)?.unwrap_or(1);
    let (name, ratio) = match compression {
        1 => ("none", 1),
        // 12 bits stand for a string of at most 3837 bytes: each table entry adds one byte.
        5 => ("LZW", 2560),
        // 2 bits stand for 258 bytes.
        8 | 32946 => ("Deflate", 1032),
        // 2 bytes stand for 128 bytes.
        32773 => ("PackBits", 64),
        2..=4 => ("fax", 0),
        6 | 7 => ("JPEG", 0),
        50000 => ("Zstandard", 0),
        _ => ("unknown", 0),
    };
    if ratio == 0 {
        return Err(Fault::unsupported(
            format!("compression {compression} ({name}), expected none, PackBits, LZW or Deflate"),
            "save the stack uncompressed or with Deflate",
        ));
    }
    match (scanner.integer(PREDICTOR)?.unwrap_or(1), name) {
        (1, _) | (2, "LZW" | "Deflate") => Ok(ratio),
        (3, "LZW" | "Deflate") if format == SampleFormat::F32 => Ok(ratio),
        (predictor, _) => Err(Fault::unsupported(
            format!("predictor {predictor}, expected 1 for {} samples with compression {name}", format.name()),
            "save the stack without predictor",
        )),
    }
}
