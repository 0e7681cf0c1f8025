//! Checks what a TIFF file says of its pages, before any memory is taken for them.
//!
//! Source: TIFF 6.0 sections 3 to 5 and 22. The `tiff` crate multiplies and allocates by what a directory says. So it
//! only sees directories that are made of what was checked here (`stand_in`): pages are alike, no directory comes
//! twice, and the strips can hold the samples.
//! Not here: colour and channels (`pixel`), sample types (`format`), compression, the strips or tiles of a page
//! (`chunks`), what texts say of the planes (`description`, `planes`), samples (`read`).

use std::collections::HashSet;
use std::io::{Read, Seek};

use super::Fault;
use super::chunks::Chunks;
use super::compression::Compression;
use super::directory::Scanner;
use super::format::Stored;
use super::pixel::Pixel;
use crate::data::samples::SampleFormat;

/// Upper bound of a stack in memory.
pub const MAX_STACK_BYTES: u64 = 64 << 30;

const SUBFILE_TYPE: u16 = 254;
const OLD_SUBFILE_TYPE: u16 = 255;
const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const IMAGE_DEPTH: u16 = 32997;
const TILE_DEPTH: u16 = 32998;

/// A checked page; its sizes in samples are above 0.
#[derive(Debug)]
pub struct Page {
    pub width: u64,
    pub height: u64,
    pub stored: Stored,
    /// The type as which samples are read.
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

    /// Bytes of the page as stored without compression; at most [`MAX_STACK_BYTES`].
    pub fn stored_bytes(&self) -> u64 {
        let together = self.pixel.samples_together() as u64;
        self.stored.row_bytes(self.width * together) * self.height * (self.pixel.samples as u64 / together)
    }

    /// For messages.
    pub fn kind(&self) -> String {
        let size = format!("{} x {} {} samples", self.width, self.height, self.stored.name());
        match self.pixel.channels() {
            1 => size,
            channels => format!("{size} of {channels} channels"),
        }
    }
}

/// A page with the number of its directory, counted from 0 in the file.
pub struct Numbered {
    pub directory: usize,
    pub page: Page,
}

/// What one directory of a file turned out to be.
enum Found {
    Page(Box<Page>),
    /// Marked as a smaller version of another page, of this height and width.
    Reduced([u64; 2], Result<Box<Page>, Fault>),
    /// A transparency mask.
    Mask,
}

/// Reads and checks all page directories, the first of which is at `next`; shows `visit` each page while its directory
/// is at hand. Gives the pages, and how many directories were left out: versions of another size, and masks.
///
/// A page that is marked as a smaller version, but has the size of the others, is one of them.
pub fn scan<R: Read + Seek>(
    scanner: &mut Scanner<'_, R>,
    mut next: u64,
    mut visit: impl FnMut(&mut Scanner<'_, R>, usize, &Page) -> Result<(), Fault>,
) -> Result<(Vec<Numbered>, usize), Fault> {
    let (mut seen, mut all) = (HashSet::new(), Vec::new());
    while next != 0 {
        let (directory, index) = (next, all.len());
        if !seen.insert(directory) {
            let problem = "its directory is that of an earlier page, expected one of its own";
            return Err(Fault::damaged(problem).on_page(index));
        }
        let found = scanner.directory(directory).and_then(|following| {
            next = following;
            let found = find(scanner)?;
            if let Found::Page(page) | Found::Reduced(_, Ok(page)) = &found {
                visit(scanner, index, page)?;
            }
            Ok(found)
        });
        all.push(found.map_err(|fault| fault.on_page(index))?);
    }
    choose(all)
}

/// The pages among what was found.
fn choose(all: Vec<Found>) -> Result<(Vec<Numbered>, usize), Fault> {
    let directories = all.len();
    let full = all.iter().find_map(|found| match found {
        Found::Page(page) => Some([page.height, page.width]),
        _ => None,
    });
    let mut pages: Vec<Numbered> = Vec::new();
    for (directory, found) in all.into_iter().enumerate() {
        let page = match found {
            Found::Mask => continue,
            Found::Reduced(size, _) if full.is_some_and(|full| full != size) => continue,
            Found::Page(page) | Found::Reduced(_, Ok(page)) => page,
            Found::Reduced(_, Err(fault)) => return Err(fault.on_page(directory)),
        };
        let mut page = *page;
        if let Some(first) = pages.first() {
            check_alike(&first.page, &page).map_err(|fault| fault.on_page(directory))?;
            page.pixel.palette = None;
        }
        pages.push(Numbered { directory, page });
    }
    if pages.is_empty() {
        return Err(Fault::damaged("0 pages, expected at least 1"));
    }
    let left_out = directories - pages.len();
    Ok((pages, left_out))
}

/// What the directory is that has been read.
fn find(scanner: &mut Scanner<impl Read + Seek>) -> Result<Found, Fault> {
    let kind = lenient(scanner, SUBFILE_TYPE);
    if kind & 4 != 0 {
        return Ok(Found::Mask);
    }
    let is_reduced = kind & 1 != 0 || lenient(scanner, OLD_SUBFILE_TYPE) == 2;
    if !is_reduced {
        return page(scanner).map(|page| Found::Page(Box::new(page)));
    }
    let size = [lenient(scanner, IMAGE_LENGTH), lenient(scanner, IMAGE_WIDTH)];
    Ok(Found::Reduced(size, page(scanner).map(Box::new)))
}

/// An integer field of a directory that may be left out; 0 where there is none that can be read.
fn lenient(scanner: &mut Scanner<impl Read + Seek>, tag: u16) -> u64 {
    scanner.integer(tag).ok().flatten().unwrap_or(0)
}

/// Errors: a page of another size, type or palette than the first one.
pub fn check_alike(first: &Page, page: &Page) -> Result<(), Fault> {
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
    check_flat(scanner)?;
    let pixel = Pixel::read(scanner)?;
    let stored = Stored::read(scanner, &pixel)?;
    let compression = Compression::read(scanner, stored, &pixel)?;
    let width = scanner.integer(IMAGE_WIDTH)?.unwrap_or(0);
    let height = scanner.integer(IMAGE_LENGTH)?.unwrap_or(0);
    let (format, together) = (stored.format(), pixel.samples_together() as u64);
    let planes = pixel.samples as u64 / together;
    let samples = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(pixel.samples as u64));
    let sample_bytes = format.bytes().max(stored.bits().div_ceil(8));
    let bytes = samples.and_then(|samples| samples.checked_mul(sample_bytes));
    if !bytes.is_some_and(|bytes| (1..=MAX_STACK_BYTES).contains(&bytes)) {
        return Err(Fault::damaged(format!(
            "{width} x {height} samples, expected at least 1 x 1 and at most {MAX_STACK_BYTES} bytes"
        )));
    }
    let row_bytes = |pixels: u64| stored.row_bytes(pixels.saturating_mul(together));
    let chunks = Chunks::read(scanner, [width, height], row_bytes, planes, compression.ratio)?;
    if chunks.tiled && !(chunks.width * together * stored.bits()).is_multiple_of(8) {
        return Err(Fault::damaged(format!(
            "tiles of {} columns of {} samples, expected a multiple of 16 columns",
            chunks.width,
            stored.name()
        )));
    }
    Ok(Page { width, height, stored, format, pixel, compression, chunks })
}

/// Refuses a volume that is one page: it is sound, but has tiles of three dimensions.
fn check_flat(scanner: &mut Scanner<impl Read + Seek>) -> Result<(), Fault> {
    let (image, tile) = (lenient(scanner, IMAGE_DEPTH), lenient(scanner, TILE_DEPTH));
    if image > 1 || tile > 1 {
        return Err(Fault::unsupported(
            format!(
                "a volume of {image} planes in one page, in tiles of {tile} planes, expected a page for each plane"
            ),
            "save it as a stack of pages (tifffile: without volumetric=True)",
        ));
    }
    Ok(())
}
