//! Reads a stack: decodes the pages that `page` has checked, one after the other.
//!
//! Memory: one page, one tile, and the tables of strips.
//! Source: TIFF 6.0; ImageJ's `TiffEncoder` for stacks above 4 GiB, which have one directory only.
//! Not here: what is accepted (`page`).

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ::tiff::TiffError as CrateError;
use ::tiff::decoder::{Decoder, DecodingBuffer, Limits};

use super::chunks::Chunk;
use super::page::{self, Layout, MAX_STACK_BYTES, Page, SampleFormat};
use super::{Fault, Resolution, Samples, TiffError, find_non_finite};

/// A grey image stack in a file; all of its directories are read and checked.
///
/// Takes classic TIFF and BigTIFF of either byte order with 8-bit or 16-bit unsigned or 32-bit float
/// grey pages of one size, in strips or tiles, uncompressed or with PackBits, LZW or Deflate, with
/// predictor; and ImageJ stacks with one directory. White-is-zero integers are inverted.
pub struct StackReader<R = BufReader<File>> {
    /// For messages.
    path: PathBuf,
    reader: R,
    length: u64,
    layout: Layout,
    pages: usize,
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
        let pages = in_a_row.unwrap_or(layout.pages.len() as u64);
        // `scan` gives at least one page.
        let bytes = layout.pages[0].bytes();
        if pages.saturating_mul(bytes) > MAX_STACK_BYTES {
            return Err(Fault::unsupported(
                format!("{pages} pages of {bytes} bytes, expected at most {MAX_STACK_BYTES} bytes in all"),
                "split the stack into smaller ones",
            ));
        }
        let (path, pages, in_a_row) = (path.to_owned(), pages as usize, in_a_row.is_some());
        Ok(Self { path, reader, length, layout, pages, in_a_row })
    }

    /// Pages, height and width; none of them 0.
    pub fn size(&self) -> [usize; 3] {
        let first = &self.layout.pages[0];
        [self.pages, first.height as usize, first.width as usize]
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

    /// Decodes one page after the other into the same memory and shows it to `visit`, with its index.
    ///
    /// # Errors
    /// As [`Self::open`]; `visit` has seen the pages before the faulty one.
    pub fn for_each_page(self, visit: impl FnMut(usize, Samples<'_>)) -> Result<(), TiffError> {
        let path = self.path.clone();
        match self.format() {
            SampleFormat::U8 => self.decode_pages::<u8>(visit),
            SampleFormat::U16 => self.decode_pages::<u16>(visit),
            SampleFormat::F32 => self.decode_pages::<f32>(visit),
        }
        .map_err(|fault| fault.in_file(&path))
    }

    fn decode_pages<T: Sample>(self, mut visit: impl FnMut(usize, Samples<'_>)) -> Result<(), Fault> {
        let [pages, height, width] = self.size();
        let mut page = reserve(height * width)?;
        page.resize(height * width, T::default());
        let (layout, length) = (&self.layout, self.length);
        let mut decode: DecodePage<'_, T> = match self.in_a_row {
            true => Box::new(pages_in_a_row(self.reader, layout)?),
            false => Box::new(pages_with_directories(self.reader, layout, length)?),
        };
        for index in 0..pages {
            decode(index, &mut page).and_then(|()| T::check(&page, width)).map_err(|fault| fault.on_page(index))?;
            visit(index, T::samples(&page));
        }
        Ok(())
    }
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

/// Decodes the page of an index, which must come in order.
type DecodePage<'a, T> = Box<dyn FnMut(usize, &mut [T]) -> Result<(), Fault> + 'a>;

/// A sample type.
trait Sample: Copy + Default {
    /// The samples as the `tiff` crate takes them, that is also: as bytes.
    fn buffer(samples: &mut [Self]) -> DecodingBuffer<'_>;

    fn samples(page: &[Self]) -> Samples<'_>;

    /// Refuses a decoded page that has samples nothing can be computed with.
    fn check(_page: &[Self], _width: usize) -> Result<(), Fault> {
        Ok(())
    }
}

impl Sample for u8 {
    fn buffer(samples: &mut [u8]) -> DecodingBuffer<'_> {
        DecodingBuffer::U8(samples)
    }

    fn samples(page: &[u8]) -> Samples<'_> {
        Samples::U8(page)
    }
}

impl Sample for u16 {
    fn buffer(samples: &mut [u16]) -> DecodingBuffer<'_> {
        DecodingBuffer::U16(samples)
    }

    fn samples(page: &[u16]) -> Samples<'_> {
        Samples::U16(page)
    }
}

impl Sample for f32 {
    fn buffer(samples: &mut [f32]) -> DecodingBuffer<'_> {
        DecodingBuffer::F32(samples)
    }

    fn samples(page: &[f32]) -> Samples<'_> {
        Samples::F32(page)
    }

    fn check(page: &[f32], width: usize) -> Result<(), Fault> {
        match find_non_finite(page, width) {
            Some(problem) => Err(Fault::unsupported(problem, "replace the sample, or mend what wrote it")),
            None => Ok(()),
        }
    }
}

/// An empty vector with room for `count` samples.
fn reserve<T>(count: usize) -> Result<Vec<T>, Fault> {
    let mut samples = Vec::new();
    match samples.try_reserve_exact(count) {
        Ok(()) => Ok(samples),
        Err(_) => Err(Fault::memory((count * size_of::<T>()) as u64)),
    }
}

/// Decodes the pages of an ImageJ stack with one directory, in order.
fn pages_in_a_row<T: Sample>(
    mut reader: impl Read + Seek,
    layout: &Layout,
) -> Result<impl FnMut(usize, &mut [T]) -> Result<(), Fault>, Fault> {
    let (white_is_zero, big_endian) = (layout.pages[0].white_is_zero, layout.big_endian);
    reader.seek(SeekFrom::Start(layout.pages[0].chunks.stored[0].offset))?;
    Ok(move |_, samples: &mut [T]| {
        let mut buffer = T::buffer(samples);
        let bytes = buffer.as_bytes_mut();
        reader.read_exact(bytes)?;
        if big_endian != cfg!(target_endian = "big") {
            bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
        }
        if white_is_zero {
            // Integers only; the bits of the sample and those of its bytes are the same.
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
        }
        Ok(())
    })
}

/// Decodes the pages that have a directory each, in order.
fn pages_with_directories<T: Sample>(
    mut reader: impl Read + Seek,
    layout: &Layout,
    length: u64,
) -> Result<impl FnMut(usize, &mut [T]) -> Result<(), Fault>, Fault> {
    reader.rewind()?;
    let window = Window { reader, position: 0, end: length };
    let mut decoder = Decoder::new(window).map_err(|e| fault(e).on_page(0))?;
    let mut limits = Limits::default();
    // What a strip has stored, which is checked and never in memory as a whole. The limit for
    // tables stays; the crate ignores the third.
    limits.intermediate_buffer_size = usize::MAX;
    decoder = decoder.with_limits(limits);
    Ok(move |index, samples: &mut [T]| {
        if index > 0 {
            decoder.inner().end = length;
            decoder.next_image().map_err(fault)?;
        }
        decode_page(&mut decoder, &layout.pages[index], samples)
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
