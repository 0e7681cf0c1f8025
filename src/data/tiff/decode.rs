//! Decodes one page that `page` has checked, strip by strip or tile by tile, into interleaved channels.
//!
//! The `tiff` crate sees grey images and bytes alone (`stand_in`). So colour, alpha, palettes, planes, inversion,
//! packing and the conversion of sample types are handled here, alike for every compression.
//! Memory: one strip or tile, unless strips are the rows of the page as they are; a JPEG or fax stream as a whole.
//! Zstandard takes up to 128 MiB more if the stream asks for it. Not here: which pages there are (`read`).

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use ::tiff::TiffError as CrateError;
use ::tiff::decoder::{Decoder, DecodingBuffer, Limits};

use super::chunks::Chunk;
use super::compression::JPEG;
use super::fax::Coding;
use super::format::Stored;
use super::page::Page;
use super::sample::{Double, Form, Half, Raw, Same, Sample, Whole, reserve, zeros};
use super::window::Window;
use super::{Fault, jpeg, stand_in};

/// The samples `[H, W, C]` of which a page gives its channels, from channel `first` on.
pub struct Target<'a, T> {
    pub samples: &'a mut [T],
    pub channels: usize,
    pub first: usize,
}

/// Where in the file a page is: its stored bytes are `shift` bytes behind those of the checked page.
pub struct Source<'a, R> {
    pub reader: &'a mut R,
    pub big_endian: bool,
    pub shift: u64,
}

/// A type that pages can be decoded to.
pub trait Decode: Sample {
    /// Decodes a page that is read as this type; gives the number of whole numbers that were rounded.
    fn decode_page<R: Read + Seek>(
        source: &mut Source<'_, R>,
        page: &Page,
        target: &mut Target<'_, Self>,
    ) -> Result<u64, Fault>;
}

macro_rules! decode_as_stored {
    ($($kind:ident),*) => {$(
        impl Decode for $kind {
            fn decode_page<R: Read + Seek>(
                source: &mut Source<'_, R>,
                page: &Page,
                target: &mut Target<'_, $kind>,
            ) -> Result<u64, Fault> {
                decode_form::<Same<$kind>, R>(source, page, target)
            }
        }
    )*};
}

decode_as_stored!(u8, u16);

impl Decode for f32 {
    fn decode_page<R: Read + Seek>(
        source: &mut Source<'_, R>,
        page: &Page,
        target: &mut Target<'_, f32>,
    ) -> Result<u64, Fault> {
        match page.stored {
            Stored::I8 => decode_form::<Whole<i8>, R>(source, page, target),
            Stored::I16 => decode_form::<Whole<i16>, R>(source, page, target),
            Stored::I32 => decode_form::<Whole<i32>, R>(source, page, target),
            Stored::I64 => decode_form::<Whole<i64>, R>(source, page, target),
            Stored::U32 => decode_form::<Whole<u32>, R>(source, page, target),
            Stored::U64 => decode_form::<Whole<u64>, R>(source, page, target),
            Stored::F16 => decode_form::<Half, R>(source, page, target),
            Stored::F64 => decode_form::<Double, R>(source, page, target),
            // Unsigned integers of at most 16 bits are asked for as `u8` or `u16`.
            Stored::F32 | Stored::Bits(_) | Stored::U8 | Stored::U16 => {
                decode_form::<Same<f32>, R>(source, page, target)
            }
        }
    }
}

fn decode_form<F: Form, R: Read + Seek>(
    source: &mut Source<'_, R>,
    page: &Page,
    target: &mut Target<'_, F::Kept>,
) -> Result<u64, Fault> {
    let (stored, shift) = (&page.chunks.stored, source.shift);
    let channels = page.pixel.kept().zip(target.first..);
    if !page.pixel.planar {
        let channels: Vec<_> = channels.collect();
        return Plane { page, chunks: stored, number: 0, shift }.decode::<F, R>(source, &channels, target);
    }
    let in_plane = stored.len() / page.pixel.samples;
    let mut rounded = 0;
    for (sample, channel) in channels {
        let number = sample * in_plane;
        let plane = Plane { page, chunks: &stored[number..][..in_plane], number, shift };
        rounded += plane.decode::<F, R>(source, &[(0, channel)], target)?;
    }
    Ok(rounded)
}

/// The samples of a page that lie together: all of them, or one of each pixel.
struct Plane<'a> {
    page: &'a Page,
    /// Its strips or tiles, and the number of the first one in the page.
    chunks: &'a [Chunk],
    number: usize,
    /// How far its bytes are behind those of the checked page.
    shift: u64,
}

impl Plane<'_> {
    /// Decodes the plane; `channels` has the samples that are wanted, with their channel in the target. Gives how many
    /// whole numbers were rounded.
    fn decode<F: Form, R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        channels: &[(usize, usize)],
        target: &mut Target<'_, F::Kept>,
    ) -> Result<u64, Fault> {
        let page = self.page;
        let together = page.pixel.samples_together();
        let as_stored = channels.len() == together && target.channels == together;
        let (width, height) = (page.width as usize, page.height as usize);
        // A tile can be larger than the page.
        let (chunk_width, chunk_height) =
            (page.chunks.width.min(page.width) as usize, page.chunks.height.min(page.height) as usize);
        let across = width.div_ceil(chunk_width);
        let mut decoder = self.decoder(source)?;
        let (mut buffer, mut rounded) = (Vec::new(), 0);
        for index in 0..self.chunks.len() {
            let (row, column) = (index / across * chunk_height, index % across * chunk_width);
            let rows = chunk_height.min(height - row);
            let columns = chunk_width.min(width - column);
            self.open(decoder.inner(), index, rows).map_err(|fault| self.in_chunk(index, fault))?;
            let mut read = |samples: &mut [F::Raw]| self.read_chunk::<F, R>(&mut decoder, index, columns, samples);
            if as_stored && columns == width {
                let place = &mut target.samples[row * width * together..][..rows * width * together];
                if let Some(samples) = F::in_place(place) {
                    read(samples)?;
                    continue;
                }
            }
            if buffer.is_empty() {
                buffer = zeros(chunk_width * chunk_height * together)?;
            }
            // The crate leaves the padding out.
            let chunk = &mut buffer[..rows * columns * together];
            read(chunk)?;
            rounded += chunk.iter().filter(|&&sample| !F::is_exact(sample)).count() as u64;
            for (y, line) in chunk.chunks_exact(columns * together).enumerate() {
                let start = ((row + y) * width + column) * target.channels;
                let place = &mut target.samples[start..][..columns * target.channels];
                let pixels = line.chunks_exact(together).zip(place.chunks_exact_mut(target.channels));
                for (from, to) in pixels {
                    channels.iter().for_each(|&(sample, channel)| to[channel] = F::keep(from[sample]));
                }
            }
        }
        Ok(rounded)
    }

    fn decoder<'a, R: Read + Seek>(&self, source: &'a mut Source<'_, R>) -> Result<Decoder<Window<'a, R>>, Fault> {
        let directory = stand_in::directory(self.page, self.chunks, self.shift, source.big_endian)?;
        let window = Window { memory: Some(Cursor::new(directory)), reader: &mut *source.reader, position: 0, end: 0 };
        let decoder = Decoder::new(window).map_err(fault)?;
        let mut limits = Limits::default();
        // What a strip has stored, which is checked and never in memory as a whole. The crate ignores the other two
        // from here on.
        limits.intermediate_buffer_size = usize::MAX;
        Ok(decoder.with_limits(limits))
    }

    /// Lets the decoder read strip or tile `index` and nothing behind it.
    fn open<R: Read + Seek>(&self, window: &mut Window<'_, R>, index: usize, rows: usize) -> Result<(), Fault> {
        let (page, chunk) = (self.page, self.chunks[index]);
        window.memory = None;
        window.end = chunk.offset + self.shift + chunk.bytes;
        if page.compression.code == JPEG {
            let frame = jpeg::Frame {
                width: page.chunks.width as usize,
                rows,
                full_rows: page.chunks.height as usize,
                components: page.pixel.samples_together(),
            };
            let stream = self.stream(window.reader, index)?;
            window.memory = Some(Cursor::new(jpeg::join(&page.compression.jpeg_tables, &stream, frame)?));
        }
        Ok(())
    }

    /// The stored bytes of strip or tile `index`.
    fn stream<R: Read + Seek>(&self, reader: &mut R, index: usize) -> Result<Vec<u8>, Fault> {
        let chunk = self.chunks[index];
        let mut stream = reserve(chunk.bytes as usize)?;
        reader.seek(SeekFrom::Start(chunk.offset + self.shift))?;
        reader.take(chunk.bytes).read_to_end(&mut stream)?;
        Ok(stream)
    }

    /// Reads the samples of strip or tile `index`, which is `columns` pixels wide without padding.
    fn read_chunk<F: Form, R: Read + Seek>(
        &self,
        decoder: &mut Decoder<Window<'_, R>>,
        index: usize,
        columns: usize,
        samples: &mut [F::Raw],
    ) -> Result<(), Fault> {
        let in_row = columns * self.page.pixel.samples_together();
        match (self.page.stored, self.page.compression.fax) {
            (_, Some(coding)) => self.read_fax::<F, R>(decoder.inner().reader, coding, index, in_row, samples),
            (Stored::Bits(bits), None) => self.read_packed::<F, R>(decoder, bits, index, in_row, samples),
            _ => read_bytes(decoder, index, F::Raw::buffer(samples)),
        }
        .map_err(|fault| self.in_chunk(index, fault))?;
        if self.page.pixel.white_is_zero {
            // Black for white.
            let bits = self.page.stored.bits() as u32;
            samples.iter_mut().for_each(|sample| *sample = F::inverted(*sample, bits));
        }
        Ok(())
    }

    /// Decodes rows of fax codes, of which the first `columns` pixels are wanted.
    fn read_fax<F: Form, R: Read + Seek>(
        &self,
        reader: &mut R,
        coding: Coding,
        index: usize,
        columns: usize,
        samples: &mut [F::Raw],
    ) -> Result<(), Fault> {
        let mut stream = self.stream(reader, index)?;
        if self.page.compression.reversed {
            stream.iter_mut().for_each(|byte| *byte = byte.reverse_bits());
        }
        let rows = samples.len() / columns;
        samples.fill(F::unpacked(0));
        coding.decode(&stream, self.page.chunks.width as usize, rows, |row, changes| {
            let line = &mut samples[row * columns..][..columns];
            // Black is between a change and the next one.
            for run in changes.chunks(2) {
                let end = run.get(1).copied().unwrap_or(columns).min(columns);
                line[run[0].min(end)..end].fill(F::unpacked(1));
            }
        })
    }

    /// Reads rows of `in_row` integers of `bits` bits each.
    fn read_packed<F: Form, R: Read + Seek>(
        &self,
        decoder: &mut Decoder<Window<'_, R>>,
        bits: u32,
        index: usize,
        in_row: usize,
        samples: &mut [F::Raw],
    ) -> Result<(), Fault> {
        let row_bytes = self.page.stored.row_bytes(in_row as u64) as usize;
        let mut bytes = zeros::<u8>(row_bytes * (samples.len() / in_row))?;
        read_bytes(decoder, index, DecodingBuffer::U8(&mut bytes))?;
        for (row, samples) in bytes.chunks_exact(row_bytes).zip(samples.chunks_exact_mut(in_row)) {
            unpack(row, bits, |at, value| samples[at] = F::unpacked(value), in_row);
        }
        Ok(())
    }

    fn in_chunk(&self, index: usize, fault: Fault) -> Fault {
        Fault { problem: format!("strip or tile {}: {}", self.number + index, fault.problem), ..fault }
    }
}

fn read_bytes<R: Read + Seek>(
    decoder: &mut Decoder<Window<'_, R>>,
    index: usize,
    mut bytes: DecodingBuffer<'_>,
) -> Result<(), Fault> {
    decoder.read_chunk_bytes(index as u32, bytes.as_bytes_mut()).map_err(fault)
}

/// Shows the first `count` integers of `bits` bits, at most 15, of a row: the highest bits come first, in either byte
/// order.
fn unpack(row: &[u8], bits: u32, mut show: impl FnMut(usize, u16), count: usize) {
    let (mut held, mut left, mut bytes) = (0u32, 0, row.iter());
    for at in 0..count {
        while left < bits {
            held = held << 8 | u32::from(bytes.next().copied().unwrap_or(0));
            left += 8;
        }
        left -= bits;
        show(at, (held >> left) as u16 & (u16::MAX >> (16 - bits)));
    }
}

fn fault(error: CrateError) -> Fault {
    match error {
        CrateError::IoError(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::damaged("its data end too soon"),
            // The Zstandard decoder gives `Other` for what it does not understand.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                Fault::damaged(format!("its data are damaged ({error})"))
            }
            _ => error.into(),
        },
        error => Fault::damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_samples_have_their_highest_bits_first() {
        let unpacked = |row: &[u8], bits, count| {
            let mut values = Vec::new();
            unpack(row, bits, |_, value| values.push(value), count);
            values
        };
        assert_eq!(unpacked(&[0b1010_0000, 0b1100_0000], 1, 10), [1, 0, 1, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(unpacked(&[0x1b], 2, 4), [0, 1, 2, 3]);
        assert_eq!(unpacked(&[0xf0, 0x5a], 4, 3), [15, 0, 5]);
        assert_eq!(unpacked(&[0xab, 0xcd, 0xef], 12, 2), [0xabc, 0xdef]);
        assert_eq!(unpacked(&[0xff, 0xff, 0x00, 0x01], 15, 2), [0x7fff, 0x4000]);
    }
}
