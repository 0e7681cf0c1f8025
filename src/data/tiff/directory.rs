//! The directories of a TIFF file and the integers in them, read within bounds.
//!
//! Source: TIFF 6.0 section 2, BigTIFF, ImageJ's `ImageDescription`. A sound file has each
//! directory and each table once, so what is read of them is bounded by the length of the file.
//! Not here: what a page must be (`page`), samples (`read`).

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::str::FromStr;

use super::{Fault, Resolution};

/// A page of another program has some 20 fields.
const MAX_FIELDS: u64 = 4096;
/// The part of an ImageDescription that is always read, in bytes; ImageJ's text is a few lines.
const MAX_TEXT: u64 = 4096;
/// The longest OME-XML or JSON that is read; with some 300 bytes a plane it speaks of 200,000 planes.
const MAX_LONG_TEXT: u64 = 64 << 20;

const IMAGE_DESCRIPTION: u16 = 270;
const ORIENTATION: u16 = 274;
const X_RESOLUTION: u16 = 282;
const Y_RESOLUTION: u16 = 283;
const RESOLUTION_UNIT: u16 = 296;

/// One field of a directory: `count` values of TIFF type `kind`, or the offset of them.
#[derive(Clone, Copy)]
struct Field {
    kind: u64,
    count: u64,
    value: [u8; 8],
}

/// Reads directories and tables from a file.
pub struct Scanner<'a, R> {
    reader: &'a mut R,
    /// Length of the file in bytes.
    pub length: u64,
    pub big_endian: bool,
    big_tiff: bool,
    /// Bytes of directories and tables that may still be read.
    budget: u64,
    /// Bytes of the file that are not yet samples of any page.
    pub unclaimed: u64,
    /// The fields of the directory last read, by tag; among several with one tag the last counts, as in
    /// the `tiff` crate.
    fields: BTreeMap<u16, Field>,
}

impl<'a, R: Read + Seek> Scanner<'a, R> {
    /// Reads the file header; gives the offset of the first directory too.
    pub fn start(reader: &'a mut R, length: u64) -> Result<(Scanner<'a, R>, u64), Fault> {
        let mut scanner = Scanner {
            reader,
            length,
            big_endian: false,
            big_tiff: false,
            // Twice the length, for the header and for small tables that two pages share.
            budget: length.saturating_mul(2),
            unclaimed: length,
            fields: BTreeMap::new(),
        };
        let header = scanner.bytes(0, length.min(16))?;
        scanner.big_endian = match header.get(..2) {
            Some(b"II") => false,
            Some(b"MM") => true,
            _ if length == 0 => return Err(not_tiff("the file is empty")),
            _ => return Err(not_tiff("no TIFF signature at its start")),
        };
        let part = |from, to| match header.get(from..to) {
            Some(bytes) => Ok(scanner.number(bytes)),
            None => Err(Fault::damaged("the file ends in its header")),
        };
        let (big_tiff, first) = match part(2, 4)? {
            42 => (false, part(4, 8)?),
            43 if part(4, 6)? == 8 && part(6, 8)? == 0 => (true, part(8, 16)?),
            version => return Err(not_tiff(&format!("TIFF version {version}"))),
        };
        scanner.big_tiff = big_tiff;
        Ok((scanner, first))
    }

    /// An unsigned number of at most 8 bytes in the byte order of the file.
    fn number(&self, bytes: &[u8]) -> u64 {
        let append = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
        if self.big_endian { bytes.iter().fold(0, append) } else { bytes.iter().rev().fold(0, append) }
    }

    /// `count` bytes of the file.
    fn bytes(&mut self, offset: u64, count: u64) -> Result<Vec<u8>, Fault> {
        let end = offset.checked_add(count);
        if end.is_none_or(|end| end > self.length) {
            return Err(Fault::damaged(format!(
                "directory data of {count} bytes at byte {offset}, but the file has {} bytes",
                self.length
            )));
        }
        self.budget = self
            .budget
            .checked_sub(count)
            .ok_or_else(|| Fault::damaged("its directory data overlap those of other pages, expected separate"))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(count as usize).map_err(|_| Fault::memory(count))?;
        bytes.resize(count as usize, 0);
        self.reader.seek(SeekFrom::Start(offset))?;
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Bytes of the value in a field, or of an offset.
    fn word(&self) -> usize {
        if self.big_tiff { 8 } else { 4 }
    }

    /// Reads the directory at `offset`; gives the offset of the next one (0: none).
    pub fn directory(&mut self, offset: u64) -> Result<u64, Fault> {
        let word = self.word();
        // Bytes of the number of fields, and of a field.
        let (head, size) = if self.big_tiff { (8, 20) } else { (2, 12) };
        let count = self.bytes(offset, head)?;
        let count = self.number(&count);
        if count > MAX_FIELDS {
            return Err(Fault::damaged(format!("a directory of {count} fields, expected at most {MAX_FIELDS}")));
        }
        // No overflow: the bytes up to offset + head have just been read.
        let table = self.bytes(offset + head, count * size as u64 + word as u64)?;
        let (entries, next) = table.split_at(table.len() - word);
        self.fields.clear();
        for entry in entries.chunks_exact(size) {
            let tag = self.number(&entry[..2]) as u16;
            let kind = self.number(&entry[2..4]);
            // A field of unknown type is to be passed over (TIFF 6.0 section 2). The `tiff` crate
            // does so too, but in a BigTIFF it then goes on 8 bytes short of the next field.
            if !matches!(kind, 1..=13 | 16..=18) {
                if self.big_tiff {
                    return Err(Fault::unsupported(
                        format!("field {tag} is of unknown type {kind}"),
                        "save the stack again without private fields",
                    ));
                }
                continue;
            }
            let mut value = [0; 8];
            value[..word].copy_from_slice(&entry[size - word..]);
            let count = self.number(&entry[4..size - word]);
            self.fields.insert(tag, Field { kind, count, value });
        }
        Ok(self.number(next))
    }

    /// The stored bytes of the first `count` values, of `size` bytes each, of a field.
    fn values(&mut self, field: Field, count: u64, size: u64) -> Result<Vec<u8>, Fault> {
        let word = self.word();
        let bytes = count.saturating_mul(size);
        if field.count.saturating_mul(size) > word as u64 {
            return self.bytes(self.number(&field.value[..word]), bytes);
        }
        Ok(field.value[..word.min(bytes as usize)].to_vec())
    }

    /// How many values a field of the directory has; 0 if there is no such field.
    pub fn count(&self, tag: u16) -> u64 {
        self.fields.get(&tag).map_or(0, |field| field.count)
    }

    /// The values of an integer field, which must be `count`; `None` if there is no such field.
    pub fn integers(&mut self, tag: u16, count: u64) -> Result<Option<Vec<u64>>, Fault> {
        let Some(&field) = self.fields.get(&tag) else {
            return Ok(None);
        };
        let size = match field.kind {
            1 => 1,
            3 => 2,
            4 => 4,
            16 => 8,
            kind => {
                return Err(Fault::damaged(format!("field {tag} is of type {kind}, expected an unsigned integer")));
            }
        };
        if field.count != count {
            return Err(Fault::damaged(format!("field {tag} has {} values, expected {count}", field.count)));
        }
        let bytes = self.values(field, count, size)?;
        let mut list = Vec::new();
        list.try_reserve_exact(count as usize).map_err(|_| Fault::memory(count.saturating_mul(8)))?;
        list.extend(bytes.chunks_exact(size as usize).map(|b| self.number(b)));
        Ok(Some(list))
    }

    /// The value of an integer field that must have one.
    pub fn integer(&mut self, tag: u16) -> Result<Option<u64>, Fault> {
        let list = self.integers(tag, 1)?;
        Ok(list.and_then(|list| list.first().copied()))
    }

    /// How programs are to turn the image of the directory (TIFF 6.0); `None` where no sound field says so.
    pub fn orientation(&mut self) -> Option<u64> {
        self.integer(ORIENTATION).ok().flatten()
    }

    /// The bytes of a field, at most `most`; empty if there is no such field.
    pub fn raw(&mut self, tag: u16, most: u64) -> Result<Vec<u8>, Fault> {
        let Some(&field) = self.fields.get(&tag) else {
            return Ok(Vec::new());
        };
        if !matches!(field.kind, 1 | 7) || field.count > most {
            return Err(Fault::damaged(format!(
                "field {tag} has {} values of type {}, expected at most {most} bytes",
                field.count, field.kind
            )));
        }
        self.values(field, field.count, 1)
    }

    /// ImageDescription: all of one in XML or JSON, else its start; empty where there is none that can be read.
    ///
    /// Errors: XML or JSON that is too long, or cut.
    pub fn description(&mut self) -> Result<String, Fault> {
        let Some(&field) = self.fields.get(&IMAGE_DESCRIPTION).filter(|field| matches!(field.kind, 1 | 2 | 7)) else {
            return Ok(String::new());
        };
        let mut bytes = self.values(field, field.count.min(MAX_TEXT), 1).unwrap_or_default();
        if field.count > MAX_TEXT && matches!(bytes.trim_ascii_start().first(), Some(b'<' | b'{')) {
            if field.count > MAX_LONG_TEXT {
                return Err(Fault::unsupported(
                    format!("an ImageDescription of {} bytes, expected at most {MAX_LONG_TEXT}", field.count),
                    "save the stack again without it",
                ));
            }
            bytes = self.values(field, field.count, 1)?;
        }
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// ImageDescription where it begins with `start`, else an empty text.
    pub fn description_if(&mut self, start: &str) -> Result<String, Fault> {
        let begin = match self.fields.get(&IMAGE_DESCRIPTION) {
            Some(&field) if field.kind == 2 && field.count > start.len() as u64 => {
                self.values(field, start.len() as u64, 1).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        if begin == start.as_bytes() { self.description() } else { Ok(String::new()) }
    }

    /// The physical pixel size. What is missing or senseless is left out: no sample depends on it.
    pub fn resolution(&mut self, description: &str) -> Option<Resolution> {
        let is_name = |unit: &String| (1..=32).contains(&unit.len()) && unit.bytes().all(|b| b.is_ascii_graphic());
        Some(Resolution {
            x: self.rational(X_RESOLUTION)?,
            y: self.rational(Y_RESOLUTION)?,
            unit: match self.integer(RESOLUTION_UNIT) {
                Ok(Some(1)) => 1,
                Ok(Some(3)) => 3,
                _ => 2,
            },
            imagej_unit: imagej(description, "unit").filter(is_name),
            spacing: imagej(description, "spacing").filter(|s: &f64| s.is_finite() && *s > 0.0),
        })
    }

    fn rational(&mut self, tag: u16) -> Option<(u32, u32)> {
        let &field = self.fields.get(&tag).filter(|f| f.kind == 5 && f.count == 1)?;
        let bytes = self.values(field, 1, 8).ok()?;
        let (n, d) = (self.number(&bytes[..4]), self.number(&bytes[4..]));
        (n > 0 && d > 0).then_some((n as u32, d as u32))
    }
}

fn not_tiff(problem: &str) -> Fault {
    Fault::unsupported(
        format!("{problem}, expected a TIFF stack"),
        "check that this is the right file, or convert it to TIFF",
    )
}

/// How programs are to turn an image, by its EXIF data, which are a TIFF file of their own.
pub fn orientation_of_exif(exif: &[u8]) -> Option<u64> {
    let mut reader = Cursor::new(exif);
    let (mut scanner, first) = Scanner::start(&mut reader, exif.len() as u64).ok()?;
    scanner.directory(first).ok()?;
    scanner.orientation()
}

/// A value from the `key=value` lines that ImageJ writes as ImageDescription.
pub fn imagej<T: FromStr>(description: &str, key: &str) -> Option<T> {
    if !description.starts_with("ImageJ=") {
        return None;
    }
    let mut values = description.lines().filter_map(|line| line.split_once('='));
    let (_, value) = values.find(|(name, _)| *name == key)?;
    value.trim_matches(['\0', ' ']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of one field, in both byte orders.
    #[test]
    fn exif_says_how_its_image_is_to_be_turned() {
        let little = b"II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let big = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        assert_eq!(orientation_of_exif(little), Some(6));
        assert_eq!(orientation_of_exif(big), Some(6));
        assert_eq!(orientation_of_exif(&big[..20]), None);
        assert_eq!(orientation_of_exif(b""), None);
    }
}
