//! Reads a stack: which stored planes make a page, all of them in order or one by its index.
//!
//! Memory: one page, one strip or tile, and the tables of strips.
//! Source: ImageJ's hyperstacks. Not here: what is accepted (`page`), where planes are (`planes`, `set`), samples
//! (`decode`).

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use super::decode::{Decode, Source, Target};
use super::description::Channels;
use super::page::MAX_STACK_BYTES;
use super::pixel::MAX_SAMPLES;
use super::sample::zeros;
use super::set::{Opener, Set};
use super::{Fault, Resolution, SampleFormat, Samples, TiffError};
use crate::data::samples::{Palette, SampleBuffer};

/// An image stack in a file, or by its OME-XML in several files of a folder; all directories are read and checked.
///
/// Takes classic TIFF and BigTIFF of either byte order with pages of one size, integers of 1 to 64 bits or floats, grey
/// or RGB with up to 16 samples per pixel, interleaved or in planes, or 8-bit palette images; in strips or tiles,
/// uncompressed or with PackBits, LZW, Deflate or Zstandard, with predictor, or as sequential JPEG; ImageJ's,
/// MetaMorph's and tifffile's stacks with one directory; and hyperstacks of ImageJ, OME or tifffile, where the channels
/// of a slice are planes of the file.
/// White-is-zero integers are inverted, alpha and thumbnails are left out. Integers with a sign or of more than 16 bits
/// become floats, as do floats of other than 32 bits.
pub struct StackReader<R = BufReader<File>> {
    /// For messages.
    path: PathBuf,
    reader: R,
    /// The file of the set that was read last, if it is another one.
    other: Option<(usize, R)>,
    open: Opener<R>,
    set: Set,
    pages: usize,
    /// Planes that make one page, and their distance in the stack.
    planes_per_page: u64,
    stride: u64,
    notes: Vec<String>,
    /// Whole numbers that were rounded so far.
    rounded: u64,
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
        Self::with_others(BufReader::new(file), path, open_other)
    }
}

fn open_other(path: &Path) -> io::Result<BufReader<File>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("no regular file"));
    }
    File::open(path).map(BufReader::new)
}

impl<R: Read + Seek> StackReader<R> {
    /// Reads from anything that is laid out as a file; `path` is for messages only. There are no other files.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[cfg_attr(not(test), allow(dead_code, reason = "for fuzzing and tests"))]
    pub fn new(reader: R, path: &Path) -> Result<Self, TiffError> {
        Self::with_others(reader, path, |_| Err(io::ErrorKind::NotFound.into()))
    }

    fn with_others(reader: R, path: &Path, open: Opener<R>) -> Result<Self, TiffError> {
        Self::scan(reader, path, open).map_err(|fault| fault.in_file(path))
    }

    fn scan(mut reader: R, path: &Path, open: Opener<R>) -> Result<Self, Fault> {
        let set = Set::read(&mut reader, path, open)?;
        let (planes, bytes) = (set.planes, set.first().bytes());
        if planes.saturating_mul(bytes) > MAX_STACK_BYTES {
            return Err(Fault::unsupported(
                format!("{planes} pages of {bytes} bytes, expected at most {MAX_STACK_BYTES} bytes in all"),
                "split the stack into smaller ones",
            ));
        }
        let mut notes = set.files[0].content.notes.clone();
        let samples = set.first().pixel.channels() as u64;
        let (planes_per_page, stride) = match &set.channels {
            Some(channels) if samples == 1 || !channels.of_samples => {
                planes_per_page(channels, planes, samples, &mut notes)?
            }
            _ => (1, 1),
        };
        let pages = (planes / planes_per_page) as usize;
        let path = path.to_owned();
        Ok(Self { path, reader, other: None, open, set, pages, planes_per_page, stride, notes, rounded: 0 })
    }

    /// Pages, height and width; none of them 0.
    pub fn size(&self) -> [usize; 3] {
        let first = self.set.first();
        [self.pages, first.height as usize, first.width as usize]
    }

    /// Channels of all pages without alpha, 1 to 16.
    pub fn channels(&self) -> usize {
        self.set.first().pixel.channels() * self.planes_per_page as usize
    }

    /// Whether a page has alpha, which is left out.
    pub fn dropped_alpha(&self) -> bool {
        self.set.pages().any(|page| page.pixel.has_alpha())
    }

    /// The colours of all pages, if their samples are indices into a palette; then there is one channel.
    pub fn palette(&self) -> Option<&Palette> {
        self.set.first().pixel.palette.as_ref()
    }

    /// The sample format of all pages.
    pub fn format(&self) -> SampleFormat {
        self.set.first().format
    }

    /// What page 0 says of the physical size of a pixel, to be handed on to
    /// [`StackWriter::create`](super::StackWriter).
    pub fn resolution(&self) -> Option<&Resolution> {
        self.set.files[0].content.resolution.as_ref()
    }

    /// What people should know of how the file is read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whole numbers beyond 2^24 among the pages read so far that a 32-bit float does not hold.
    pub fn rounded(&self) -> u64 {
        self.rounded
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

    fn decode_pages<T: Decode>(&mut self, mut visit: impl FnMut(usize, Samples<'_>)) -> Result<(), Fault> {
        let mut page = zeros::<T>(self.page_samples())?;
        for index in 0..self.pages {
            self.decode(index, &mut page).map_err(|fault| fault.on_page(index))?;
            visit(index, T::samples(&page));
        }
        Ok(())
    }

    fn decode_one<T: Decode>(&mut self, index: usize) -> Result<SampleBuffer, Fault> {
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
    fn decode<T: Decode>(&mut self, index: usize, samples: &mut [T]) -> Result<(), Fault> {
        let (width, channels) = (self.size()[2], self.channels());
        let (count, stride, page) = (self.planes_per_page, self.stride, index as u64);
        let in_plane = self.set.first().pixel.channels();
        for channel in 0..count {
            let plane = self.set.plane((page / stride * count + channel) * stride + page % stride);
            let (file, number) = (&self.set.files[plane.file], plane.file);
            let reader = match &mut self.other {
                _ if number == 0 => &mut self.reader,
                Some((open, reader)) if *open == number => reader,
                other => &mut other.insert((number, (self.open)(&file.path)?)).1,
            };
            let shift = plane.behind * plane.page.stored_bytes();
            let mut source = Source { reader, big_endian: file.content.big_endian, shift };
            let mut target = Target { samples: &mut *samples, channels, first: channel as usize * in_plane };
            let decoded = T::decode_page(&mut source, plane.page, &mut target);
            self.rounded += decoded.map_err(|fault| match file.path.file_name() {
                Some(name) if number > 0 => fault.within(&name.to_string_lossy()),
                _ => fault,
            })?;
        }
        T::check(samples, width, channels)
    }
}

/// How many of the `planes` make one page, and their distance; each plane has `samples` channels.
fn planes_per_page(
    channels: &Channels,
    planes: u64,
    samples: u64,
    notes: &mut Vec<String>,
) -> Result<(u64, u64), Fault> {
    let Channels { count, stride, alone, others, .. } = *channels;
    // tifffile calls the slices of a stack channels unless it is told otherwise.
    if count > MAX_SAMPLES && count == planes {
        notes.push(format!("its {planes} \"channels\" are taken for slices, which are more than {MAX_SAMPLES}"));
        return Ok((1, 1));
    }
    if count.saturating_mul(samples) > MAX_SAMPLES {
        return Err(Fault::unsupported(
            format!("{planes} pages of a hyperstack of {count} channels, expected at most {MAX_SAMPLES}"),
            "save the channels that are needed alone",
        ));
    }
    let [slices, frames] = others.unwrap_or([1, 1]);
    let announced = slices.checked_mul(frames).and_then(|pages| pages.checked_mul(count));
    if !planes.is_multiple_of(count.saturating_mul(stride)) || (others.is_some() && announced != Some(planes)) {
        return Err(Fault::unsupported(
            format!(
                "{planes} pages, expected {count} channels x {slices} slices x {frames} frames as its description says"
            ),
            "save the hyperstack again in ImageJ",
        ));
    }
    if alone {
        notes.push(format!(
            "its {planes} pages are taken for the channels of one image, as its description says; if they are slices, \
             save the stack again with them (tifffile: metadata={{'axes': 'ZYX'}})"
        ));
    }
    Ok((count, stride))
}
