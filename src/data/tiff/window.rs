//! The part of a file that the decoder may read. Not here: decoding (`decode`).

use std::io::{self, Cursor, Read, Seek, SeekFrom};

/// What the decoder reads: bytes in memory where there are any, else a file that ends where the strip or tile ends that
/// is being decoded.
///
/// The decoders of the `tiff` crate read on until they have all samples, whatever the table of
/// strips says; so a small file could make each of a million strips read all of it.
pub struct Window<'a, R> {
    pub memory: Option<Cursor<Vec<u8>>>,
    pub reader: &'a mut R,
    pub position: u64,
    pub end: u64,
}

impl<R: Read> Read for Window<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(memory) = &mut self.memory {
            return memory.read(buffer);
        }
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.reader.read(&mut buffer[..wanted])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl<R: Seek> Seek for Window<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if let Some(memory) = &mut self.memory {
            return memory.seek(to);
        }
        self.position = self.reader.seek(to)?;
        Ok(self.position)
    }
}
