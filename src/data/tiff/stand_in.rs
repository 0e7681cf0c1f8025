//! The directory that the `tiff` crate sees in place of the file's: a grey image of all samples that lie together, made
//! from a checked page, so that nothing unchecked reaches the crate.
//!
//! Packed samples are bytes to it. Not here: decoding (`decode`).

use super::Fault;
use super::chunks::Chunk;
use super::compression::{JPEG, LZW};
use super::format::Stored;
use super::page::Page;
use super::sample::reserve;

/// A BigTIFF of one directory, whose tables lie behind it. `stored`: the strips or tiles of the samples that lie
/// together, which are `shift` bytes behind those of the checked page.
///
/// Errors: no memory for the tables.
pub fn directory(page: &Page, stored: &[Chunk], shift: u64, big_endian: bool) -> Result<Vec<u8>, Fault> {
    let (chunks, together) = (&page.chunks, page.pixel.samples_together() as u64);
    // Fax codes never reach the crate: what the crate takes them for does not matter.
    let code = if page.compression.fax.is_some() { LZW } else { page.compression.code };
    // Packed samples are bytes of grey to the crate, whose rows are shorter than the page's.
    let (bits, samples) = if let Stored::Bits(_) = page.stored { (8, 1) } else { (page.stored.bits(), together) };
    let columns = |pixels: u64| match page.stored {
        Stored::Bits(_) => page.stored.row_bytes(pixels * together),
        _ => pixels,
    };
    let mut offsets = reserve(stored.len())?;
    let mut counts = reserve(stored.len())?;
    for chunk in stored {
        // The crate gets a JPEG stream from memory.
        let (offset, bytes) = if code == JPEG { (0, u64::from(u32::MAX)) } else { (chunk.offset + shift, chunk.bytes) };
        offsets.push(offset);
        counts.push(bytes);
    }
    let mut fields = vec![
        (256, vec![columns(page.width)]),
        (257, vec![page.height]),
        (258, vec![bits]),
        (259, vec![code]),
        // Black is zero.
        (262, vec![1]),
        (277, vec![samples]),
        (317, vec![page.compression.predictor]),
        (339, vec![page.stored.kind()]),
    ];
    if chunks.tiled {
        fields.extend([(322, vec![columns(chunks.width)]), (323, vec![chunks.height]), (324, offsets), (325, counts)]);
    } else {
        fields.extend([(273, offsets), (278, vec![chunks.height]), (279, counts)]);
    }
    fields.sort_unstable_by_key(|(tag, _)| *tag);
    Ok(big_tiff(&fields, big_endian))
}

/// A file of one directory without samples; all fields are integers.
fn big_tiff(fields: &[(u16, Vec<u64>)], big_endian: bool) -> Vec<u8> {
    const LONG8: u64 = 16;
    let mut bytes = Vec::new();
    let mut tables = Vec::new();
    let put = |to: &mut Vec<u8>, value: u64, size: usize| match big_endian {
        true => to.extend_from_slice(&value.to_be_bytes()[8 - size..]),
        false => to.extend_from_slice(&value.to_le_bytes()[..size]),
    };
    bytes.extend(if big_endian { b"MM" } else { b"II" });
    for (value, size) in [(43, 2), (8, 2), (0, 2), (16, 8), (fields.len() as u64, 8)] {
        put(&mut bytes, value, size);
    }
    let end = bytes.len() + 20 * fields.len() + 8;
    for (tag, values) in fields {
        put(&mut bytes, u64::from(*tag), 2);
        put(&mut bytes, LONG8, 2);
        put(&mut bytes, values.len() as u64, 8);
        if let [value] = values.as_slice() {
            put(&mut bytes, *value, 8);
        } else {
            put(&mut bytes, (end + tables.len()) as u64, 8);
            values.iter().for_each(|&value| put(&mut tables, value, 8));
        }
    }
    // No further directory.
    put(&mut bytes, 0, 8);
    bytes.append(&mut tables);
    bytes
}
