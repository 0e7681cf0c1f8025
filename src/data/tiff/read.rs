//! Reads a stack: decodes the pages that `page` has checked, one after the other, in place.
//!
//! Memory: the stack itself, one tile, and the tables of strips.
//! Source: TIFF 6.0; ImageJ's `TiffEncoder` for stacks above 4 GiB, which have one directory only.
//! Not here: what is accepted (`page`).

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use ::tiff::TiffError as CrateError;
use ::tiff::decoder::{Decoder, DecodingBuffer, Limits};

use super::chunks::Chunk;
use super::page::{self, Format, Layout, MAX_STACK_BYTES, Page};
use super::{Fault, Samples, Stack, TiffError, find_non_finite};

/// Reads a whole stack from a file.
///
/// Takes classic TIFF and BigTIFF of either byte order with 8-bit or 16-bit unsigned or 32-bit float
/// grey pages of one size, in strips or tiles, uncompressed or with PackBits, LZW or Deflate, with
/// predictor; and ImageJ stacks with one directory. White-is-zero integers are inverted.
///
/// # Errors
/// [`TiffError::Open`], or [`TiffError::Read`] with the page and what to do about it. A hostile file
/// gives an error in time and memory proportional to its length.
pub fn read_stack(path: &Path) -> Result<Stack, TiffError> {
    let open = |cause| TiffError::Open { path: path.to_owned(), cause };
    // Before opening: a named pipe would wait for a writer.
    let kind = fs::metadata(path).map_err(open)?;
    if !kind.is_file() {
        let found = if kind.is_dir() { "it is a folder" } else { "it is not a regular file" };
        let fault = Fault::unsupported(format!("{found}, expected a TIFF stack"), "give the path of one file");
        return Err(fault.in_file(path));
    }
    let file = File::open(path).map_err(open)?;
    read_stack_from(BufReader::new(file), path)
}

/// Reads a whole stack from anything that is laid out as a file; `name` is for messages only.
///
/// # Errors
/// As [`read_stack`].
pub fn read_stack_from<R: Read + Seek>(reader: R, name: &Path) -> Result<Stack, TiffError> {
    read(reader).map_err(|fault| fault.in_file(name))
}

fn read<R: Read + Seek>(mut reader: R) -> Result<Stack, Fault> {
    let length = reader.seek(SeekFrom::End(0))?;
    let layout = page::scan(&mut reader, length)?;
    // `scan` gives at least one page.
    let first = &layout.pages[0];
    let in_a_row = contiguous_pages(&layout, length)?;
    let pages = in_a_row.unwrap_or(layout.pages.len() as u64);
    if pages.saturating_mul(first.bytes()) > MAX_STACK_BYTES {
        let bytes = first.bytes();
        return Err(Fault::unsupported(
            format!("{pages} pages of {bytes} bytes, expected at most {MAX_STACK_BYTES} bytes in all"),
            "split the stack into smaller ones",
        ));
    }
    let pages = pages as usize;
    let samples = match (first.format, in_a_row.is_some()) {
        (Format::U8, true) => Samples::U8(contiguous(reader, &layout, pages)?),
        (Format::U16, true) => Samples::U16(contiguous(reader, &layout, pages)?),
        (Format::F32, true) => Samples::F32(contiguous(reader, &layout, pages)?),
        (Format::U8, false) => Samples::U8(decode(reader, &layout, length)?),
        (Format::U16, false) => Samples::U16(decode(reader, &layout, length)?),
        (Format::F32, false) => Samples::F32(decode(reader, &layout, length)?),
    };
    Ok(Stack {
        pages,
        height: first.height as usize,
        width: first.width as usize,
        samples,
        resolution: layout.resolution.clone(),
    })
}

/// The number of pages of an ImageJ stack with one directory, whose pages follow each other.
///
/// A text that announces more pages than are there is refused, since a stack that was cut short, or
/// lost pages in another program, looks like that. With more directories the text does not matter.
fn contiguous_pages(layout: &Layout, length: u64) -> Result<Option<u64>, Fault> {
    let (Some(images), [page]) = (layout.imagej_images, layout.pages.as_slice()) else {
        return Ok(None);
    };
    let strips = &page.chunks.stored;
    let follows = |pair: &[Chunk]| pair[0].offset + pair[0].bytes == pair[1].offset;
    let plain = !page.compressed && !page.chunks.tiled && strips.windows(2).all(follows);
    let held = if plain { (length - strips[0].offset) / page.bytes() } else { 1 };
    if held < images {
        return Err(Fault::damaged(format!(
            "{held} of {images} pages, expected all that its ImageJ description announces"
        )));
    }
    Ok(Some(images))
}

/// A sample type.
trait Sample: Copy + Default {
    /// The samples as the `tiff` crate takes them, that is also: as bytes.
    fn buffer(samples: &mut [Self]) -> DecodingBuffer<'_>;

    /// Refuses a decoded page that has samples nothing can be computed with.
    fn check(_page: &[Self], _width: usize) -> Result<(), Fault> {
        Ok(())
    }
}

impl Sample for u8 {
    fn buffer(samples: &mut [u8]) -> DecodingBuffer<'_> {
        DecodingBuffer::U8(samples)
    }
}

impl Sample for u16 {
    fn buffer(samples: &mut [u16]) -> DecodingBuffer<'_> {
        DecodingBuffer::U16(samples)
    }
}

impl Sample for f32 {
    fn buffer(samples: &mut [f32]) -> DecodingBuffer<'_> {
        DecodingBuffer::F32(samples)
    }

    fn check(page: &[f32], width: usize) -> Result<(), Fault> {
        match find_non_finite(page, width) {
            Some(problem) => Err(Fault::unsupported(problem, "replace the sample, or mend what wrote it")),
            None => Ok(()),
        }
    }
}

/// Fills one page after the other by `fill`, which gets the index of the page.
fn fill_pages<T: Sample>(
    page: &Page,
    pages: usize,
    mut fill: impl FnMut(usize, &mut [T]) -> Result<(), Fault>,
) -> Result<Vec<T>, Fault> {
    let (width, height) = (page.width as usize, page.height as usize);
    let mut samples = reserve(pages * height * width)?;
    for index in 0..pages {
        let start = samples.len();
        samples.resize(start + height * width, T::default());
        let decoded = &mut samples[start..];
        fill(index, decoded).and_then(|()| T::check(decoded, width)).map_err(|fault| fault.on_page(index))?;
    }
    Ok(samples)
}

/// An empty vector with room for `count` samples.
fn reserve<T>(count: usize) -> Result<Vec<T>, Fault> {
    let mut samples = Vec::new();
    match samples.try_reserve_exact(count) {
        Ok(()) => Ok(samples),
        Err(_) => Err(Fault::memory((count * size_of::<T>()) as u64)),
    }
}

/// The pages of an ImageJ stack with one directory.
fn contiguous<T: Sample>(mut reader: impl Read + Seek, layout: &Layout, pages: usize) -> Result<Vec<T>, Fault> {
    let page = &layout.pages[0];
    reader.seek(SeekFrom::Start(page.chunks.stored[0].offset))?;
    fill_pages(page, pages, |_, samples| {
        let mut buffer = T::buffer(samples);
        let bytes = buffer.as_bytes_mut();
        reader.read_exact(bytes)?;
        if layout.big_endian != cfg!(target_endian = "big") {
            bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
        }
        if page.white_is_zero {
            // Integers only; the bits of the sample and those of its bytes are the same.
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
        }
        Ok(())
    })
}

/// The pages that have a directory each.
fn decode<T: Sample>(mut reader: impl Read + Seek, layout: &Layout, length: u64) -> Result<Vec<T>, Fault> {
    reader.rewind()?;
    let window = Window { reader, position: 0, end: length };
    let mut decoder = Decoder::new(window).map_err(|e| fault(e).on_page(0))?;
    let mut limits = Limits::default();
    // Of what a strip has stored, which is checked and never in memory as a whole. The limit for
    // tables stays; the crate ignores the third.
    limits.intermediate_buffer_size = usize::MAX;
    decoder = decoder.with_limits(limits);
    fill_pages(&layout.pages[0], layout.pages.len(), |index, samples| {
        let page = &layout.pages[index];
        if index > 0 {
            decoder.inner().end = length;
            decoder.next_image().map_err(fault)?;
        }
        decode_page(&mut decoder, page, samples)
    })
}

fn decode_page<T: Sample>(
    decoder: &mut Decoder<Window<impl Read + Seek>>,
    page: &Page,
    samples: &mut [T],
) -> Result<(), Fault> {
    let at = decoder.ifd_pointer().map(|pointer| pointer.0);
    if at != Some(page.directory) {
        return Err(Fault::damaged("the file changed while it was read"));
    }
    let (width, height) = (page.width as usize, page.height as usize);
    // A tile can be larger than the page.
    let (chunk_width, chunk_height) =
        (page.chunks.width.min(page.width) as usize, page.chunks.height.min(page.height) as usize);
    let across = width.div_ceil(chunk_width);
    let mut tile = Vec::new();
    for (index, chunk) in page.chunks.stored.iter().enumerate() {
        let (row, column) = (index / across * chunk_height, index % across * chunk_width);
        let rows = chunk_height.min(height - row);
        let columns = chunk_width.min(width - column);
        decoder.inner().end = chunk.offset + chunk.bytes;
        let mut read = |target: &mut [T]| {
            decoder.read_chunk_bytes(index as u32, T::buffer(target).as_bytes_mut()).map_err(|error| {
                let f = fault(error);
                Fault { problem: format!("strip or tile {index}: {}", f.problem), ..f }
            })
        };
        if columns == width {
            read(&mut samples[row * width..][..rows * width])?;
            continue;
        }
        if tile.is_empty() {
            tile = reserve(chunk_width * chunk_height)?;
            tile.resize(chunk_width * chunk_height, T::default());
        }
        // The crate leaves the padding out.
        read(&mut tile[..rows * columns])?;
        for (y, line) in tile.chunks_exact(columns).take(rows).enumerate() {
            samples[(row + y) * width + column..][..columns].copy_from_slice(line);
        }
    }
    Ok(())
}

fn fault(error: CrateError) -> Fault {
    match error {
        CrateError::IoError(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::damaged("its data end too soon"),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Fault::damaged(format!("its data are damaged ({error})"))
            }
            _ => error.into(),
        },
        error => Fault::damaged(error.to_string()),
    }
}

/// A file that ends where the strip or tile ends that is being decoded.
///
/// The decoders of the `tiff` crate read on until they have all samples, whatever the table of
/// strips says; so a small file could make each of a million strips read all of it.
struct Window<R> {
    reader: R,
    position: u64,
    end: u64,
}

impl<R: Read> Read for Window<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.reader.read(&mut buffer[..wanted])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl<R: Seek> Seek for Window<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.reader.seek(to)?;
        Ok(self.position)
    }
}
