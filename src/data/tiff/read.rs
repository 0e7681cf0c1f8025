//! Reads a stack: which stored pages make a page, all of them in order or one by its index.
//!
//! Memory: one page, one strip or tile, and the tables of strips.
//! Source: ImageJ's `TiffEncoder` for stacks above 4 GiB, which have one directory only, and its hyperstacks.
//! Not here: what is accepted (`page`), samples (`decode`).

use std::fs::{self, File};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::chunks::Chunk;
use super::decode::{self, Source, Target};
use super::page::{self, ImageJ, Layout, MAX_STACK_BYTES};
use super::pixel::MAX_SAMPLES;
use super::sample::{Sample, zeros};
use super::{Fault, Resolution, SampleFormat, Samples, TiffError};
use crate::data::samples::{Palette, SampleBuffer};

/// An image stack in a file; all of its directories are read and checked.
///
/// Takes classic TIFF and BigTIFF of either byte order with 8-bit or 16-bit unsigned or 32-bit float
/// pages of one size, grey or RGB with up to 16 samples per pixel, interleaved or in planes, or 8-bit palette images;
/// in strips or tiles, uncompressed or with PackBits, LZW, Deflate or Zstandard, with predictor, or as sequential JPEG;
/// and ImageJ's stacks with one directory and its hyperstacks, where the channels of a slice are pages of the file.
/// White-is-zero integers are inverted, alpha is left out.
pub struct StackReader<R = BufReader<File>> {
    /// For messages.
    path: PathBuf,
    reader: R,
    layout: Layout,
    pages: usize,
    /// Pages of the file that make one page: the channels of a hyperstack, else 1.
    stored_per_page: usize,
    /// An ImageJ stack with one directory for all pages.
    in_a_row: bool,
}

impl StackReader {
    /// # Errors
    /// [`TiffError::Open`], or [`TiffError::Read`] with the page and what to do about it. A hostile file
    /// gives an error in time and memory proportional to its length, here or in [`Self::for_each_page`].
    pub fn open(path: &Path) -> Result<Self, TiffError> {
        let open = |cause| TiffError::Open { path: path.to_owned(), cause };
        // Before opening: a named pipe would wait for a writer.
        let kind = fs::metadata(path).map_err(open)?;
        if !kind.is_file() {
            let found = if kind.is_dir() { "it is a folder" } else { "it is not a regular file" };
            let fault = Fault::unsupported(format!("{found}, expected a TIFF stack"), "give the path of one file");
            return Err(fault.in_file(path));
        }
        let file = File::open(path).map_err(open)?;
        Self::new(BufReader::new(file), path)
    }
}

impl<R: Read + Seek> StackReader<R> {
    /// Reads from anything that is laid out as a file; `path` is for messages only.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn new(reader: R, path: &Path) -> Result<Self, TiffError> {
        Self::scan(reader, path).map_err(|fault| fault.in_file(path))
    }

    fn scan(mut reader: R, path: &Path) -> Result<Self, Fault> {
        let length = reader.seek(SeekFrom::End(0))?;
        let layout = page::scan(&mut reader, length)?;
        let in_a_row = contiguous_pages(&layout, length)?;
        let stored = in_a_row.unwrap_or(layout.pages.len() as u64);
        // `scan` gives at least one page.
        let first = &layout.pages[0];
        let bytes = first.bytes();
        if stored.saturating_mul(bytes) > MAX_STACK_BYTES {
            return Err(Fault::unsupported(
                format!("{stored} pages of {bytes} bytes, expected at most {MAX_STACK_BYTES} bytes in all"),
                "split the stack into smaller ones",
            ));
        }
        // With several samples per pixel the text's channels are those.
        let stored_per_page =
            if first.pixel.channels() == 1 { hyperstack_channels(&layout.imagej, stored)? } else { 1 };
        let pages = (stored / stored_per_page) as usize;
        let stored_per_page = stored_per_page as usize;
        Ok(Self { path: path.to_owned(), reader, layout, pages, stored_per_page, in_a_row: in_a_row.is_some() })
    }

    /// Pages, height and width; none of them 0.
    pub fn size(&self) -> [usize; 3] {
        let first = &self.layout.pages[0];
        [self.pages, first.height as usize, first.width as usize]
    }

    /// Channels of all pages without alpha, 1 to 16.
    pub fn channels(&self) -> usize {
        self.layout.pages[0].pixel.channels() * self.stored_per_page
    }

    /// Whether a page has alpha, which is left out.
    pub fn dropped_alpha(&self) -> bool {
        self.layout.pages.iter().any(|page| page.pixel.has_alpha())
    }

    /// The colours of all pages, if their samples are indices into a palette; then there is one channel.
    pub fn palette(&self) -> Option<&Palette> {
        self.layout.pages[0].pixel.palette.as_ref()
    }

    /// The sample format of all pages.
    pub fn format(&self) -> SampleFormat {
        self.layout.pages[0].format
    }

    /// What page 0 says of the physical size of a pixel, to be handed on to
    /// [`StackWriter::create`](super::StackWriter).
    pub fn resolution(&self) -> Option<&Resolution> {
        self.layout.resolution.as_ref()
    }

    /// Decodes one page after the other into the same memory and shows it to `visit`, with its index: `[H, W, C]`.
    ///
    /// # Errors
    /// As [`Self::open`]; `visit` has seen the pages before the faulty one.
    pub fn for_each_page(mut self, visit: impl FnMut(usize, Samples<'_>)) -> Result<(), TiffError> {
        match self.format() {
            SampleFormat::U8 => self.decode_pages::<u8>(visit),
            SampleFormat::U16 => self.decode_pages::<u16>(visit),
            SampleFormat::F32 => self.decode_pages::<f32>(visit),
        }
        .map_err(|fault| fault.in_file(&self.path))
    }

    /// Decodes one page, `[H, W, C]`, and no other.
    ///
    /// # Errors
    /// As [`Self::open`]; an index that is not below the number of pages.
    pub fn page(&mut self, index: usize) -> Result<SampleBuffer, TiffError> {
        match self.format() {
            SampleFormat::U8 => self.decode_one::<u8>(index),
            SampleFormat::U16 => self.decode_one::<u16>(index),
            SampleFormat::F32 => self.decode_one::<f32>(index),
        }
        .map_err(|fault| fault.in_file(&self.path))
    }

    fn decode_pages<T: Sample>(&mut self, mut visit: impl FnMut(usize, Samples<'_>)) -> Result<(), Fault> {
        let mut page = zeros::<T>(self.page_samples())?;
        for index in 0..self.pages {
            self.decode(index, &mut page).map_err(|fault| fault.on_page(index))?;
            visit(index, T::samples(&page));
        }
        Ok(())
    }

    fn decode_one<T: Sample>(&mut self, index: usize) -> Result<SampleBuffer, Fault> {
        if index >= self.pages {
            let problem = format!("no page {index} (first is 0), the stack has {} pages", self.pages);
            return Err(Fault::unsupported(problem, "name a page that it has"));
        }
        let mut page = zeros::<T>(self.page_samples())?;
        self.decode(index, &mut page).map_err(|fault| fault.on_page(index))?;
        Ok(T::owned(page))
    }

    /// Samples of a page.
    fn page_samples(&self) -> usize {
        let [_, height, width] = self.size();
        height * width * self.channels()
    }

    /// Decodes and checks one page.
    fn decode<T: Sample>(&mut self, index: usize, samples: &mut [T]) -> Result<(), Fault> {
        let (width, channels, layout) = (self.size()[2], self.channels(), &self.layout);
        for first in 0..self.stored_per_page {
            let stored = index * self.stored_per_page + first;
            let (page, shift) = match self.in_a_row {
                true => (&layout.pages[0], stored as u64 * layout.pages[0].bytes()),
                false => (&layout.pages[stored], 0),
            };
            let mut source = Source { reader: &mut self.reader, big_endian: layout.big_endian, shift };
            let mut target = Target { samples: &mut *samples, channels, first };
            decode::decode_page(&mut source, page, &mut target)?;
        }
        T::check(samples, width, channels)
    }
}

/// The number of pages of an ImageJ stack with one directory, whose pages follow each other.
///
/// A text that announces more pages than are there is refused, since a stack that was cut short, or
/// lost pages in another program, looks like that. With more directories the text does not matter.
fn contiguous_pages(layout: &Layout, length: u64) -> Result<Option<u64>, Fault> {
    let (Some(images), [page]) = (layout.imagej.images, layout.pages.as_slice()) else {
        return Ok(None);
    };
    let strips = &page.chunks.stored;
    let follows = |pair: &[Chunk]| pair[0].offset + pair[0].bytes == pair[1].offset;
    let plain = page.compression.ratio == 1 && !page.chunks.tiled && strips.windows(2).all(follows);
    let held = if plain { (length - strips[0].offset) / page.bytes() } else { 1 };
    if held < images {
        return Err(Fault::damaged(format!(
            "{held} of {images} pages, expected all that its ImageJ description announces"
        )));
    }
    Ok(Some(images))
}

/// How many of the `stored` pages are the channels of one slice of an ImageJ hyperstack; 1 for other stacks.
fn hyperstack_channels(text: &ImageJ, stored: u64) -> Result<u64, Fault> {
    let Some(channels) = text.channels else { return Ok(1) };
    // tifffile calls the slices of a stack channels unless it is told otherwise.
    if channels > MAX_SAMPLES && channels == stored {
        return Ok(1);
    }
    if channels > MAX_SAMPLES {
        return Err(Fault::unsupported(
            format!("{stored} pages of an ImageJ hyperstack of {channels} channels, expected at most {MAX_SAMPLES}"),
            "save the channels that are needed alone",
        ));
    }
    let (slices, frames) = (text.slices.unwrap_or(1), text.frames.unwrap_or(1));
    let announced = slices.checked_mul(frames).and_then(|pages| pages.checked_mul(channels));
    let sizes_known = text.slices.is_some() || text.frames.is_some();
    if !stored.is_multiple_of(channels) || (sizes_known && announced != Some(stored)) {
        return Err(Fault::unsupported(
            format!(
                "{stored} pages, expected {channels} channels x {slices} slices x {frames} frames as its ImageJ \
                 description says"
            ),
            "save the hyperstack again in ImageJ",
        ));
    }
    Ok(channels)
}
