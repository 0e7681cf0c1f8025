//! Checks the strips or tiles of a page: each lies in the file, no byte of the file is used twice, and
//! the stored bytes can expand to the samples they stand for.
//!
//! Source: TIFF 6.0 sections 3 and 15. Not here: decoding (`read`).

use std::io::{Read, Seek};

use super::Fault;
use super::directory::Scanner;

/// Upper bound of the strips or tiles of a page; the `tiff` crate takes 48 bytes for each.
const MAX_CHUNKS: u64 = 1 << 20;

const STRIP_OFFSETS: u16 = 273;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_BYTE_COUNTS: u16 = 279;
const TILE_WIDTH: u16 = 322;
const TILE_LENGTH: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTE_COUNTS: u16 = 325;

/// The checked strips or tiles of a page.
#[derive(Debug)]
pub struct Chunks {
    pub tiled: bool,
    /// Height and width of one strip or tile, in samples, at least 1; the last one of a row or column is cut at the
    /// edge of the page, and the only one can be larger than it.
    pub width: u64,
    pub height: u64,
    /// Row after row, of planar pages plane after plane; at least one for each plane, and as many for all planes.
    pub stored: Vec<Chunk>,
}

/// Where the stored bytes of a strip or tile are.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    pub offset: u64,
    pub bytes: u64,
}

impl Chunks {
    /// Reads and checks the strips or tiles of the current directory.
    ///
    /// `width` and `height`: of the page, both above 0. `row_bytes`: of so many pixels next to each other, of the
    /// samples that lie together in each of `planes` planes; a page has a reasonable number of bytes. `ratio`: how many
    /// bytes of samples a stored byte can stand for at most, 1 if the page is not compressed.
    pub fn read(
        scanner: &mut Scanner<impl Read + Seek>,
        [width, height]: [u64; 2],
        row_bytes: impl Fn(u64) -> u64,
        planes: u64,
        ratio: u64,
    ) -> Result<Chunks, Fault> {
        let mut chunks = Chunks::size(scanner, [width, height])?;
        let full = row_bytes(chunks.width).checked_mul(chunks.height).unwrap_or(0);
        if full == 0 {
            return Err(Fault::damaged(format!(
                "strips or tiles of {} x {} samples, expected at least 1 x 1",
                chunks.width, chunks.height
            )));
        }
        // At most as many as the page has samples.
        let in_plane = width.div_ceil(chunks.width) * height.div_ceil(chunks.height);
        let total = in_plane * planes;
        if total > MAX_CHUNKS {
            return Err(Fault::unsupported(
                format!("{total} strips or tiles, expected at most {MAX_CHUNKS}"),
                "save the stack with larger strips",
            ));
        }
        let (offsets, counts) =
            if chunks.tiled { (TILE_OFFSETS, TILE_BYTE_COUNTS) } else { (STRIP_OFFSETS, STRIP_BYTE_COUNTS) };
        let offsets = scanner.integers(offsets, total)?.unwrap_or_default();
        let counts = scanner.integers(counts, total)?.unwrap_or_default();
        let stored = &mut chunks.stored;
        stored.try_reserve_exact(offsets.len()).map_err(|_| Fault::memory(total * 16))?;
        for (index, (offset, count)) in (0..).zip(offsets.into_iter().zip(counts)) {
            // The last strip of a plane is cut at its end, while a tile is always stored whole.
            let before = index % in_plane * full;
            let bytes = if chunks.tiled { full } else { full.min(row_bytes(width) * height - before) };
            let chunk = Chunk::check(scanner, offset, count, bytes, ratio);
            stored.push(
                chunk.map_err(|problem| Fault::damaged(format!("strip or tile {index} of {count} bytes {problem}")))?,
            );
        }
        Ok(chunks)
    }

    /// Strips or tiles, and how large they are.
    fn size(scanner: &mut Scanner<impl Read + Seek>, [width, height]: [u64; 2]) -> Result<Chunks, Fault> {
        let has = |tag| scanner.count(tag) > 0;
        let strips = [has(STRIP_OFFSETS), has(STRIP_BYTE_COUNTS)];
        let tiles = [has(TILE_OFFSETS), has(TILE_BYTE_COUNTS)];
        let (tiled, width, height) = match (strips, tiles) {
            ([true, true], [false, false]) => {
                let rows = scanner.integer(ROWS_PER_STRIP)?.unwrap_or(height);
                (false, width, rows.min(height))
            }
            ([false, false], [true, true]) => {
                let columns = scanner.integer(TILE_WIDTH)?.unwrap_or(0);
                (true, columns, scanner.integer(TILE_LENGTH)?.unwrap_or(0))
            }
            _ => {
                return Err(Fault::damaged("no offsets and lengths of strips or tiles, expected one of the two"));
            }
        };
        Ok(Chunks { tiled, width, height, stored: Vec::new() })
    }
}

impl Chunk {
    /// Checks that `count` stored bytes can stand for `bytes` bytes of samples, are in the file and
    /// belong to no other chunk; an error says what is wrong with the chunk.
    fn check(
        scanner: &mut Scanner<impl Read + Seek>,
        offset: u64,
        count: u64,
        bytes: u64,
        ratio: u64,
    ) -> Result<Chunk, String> {
        let length = scanner.length;
        if offset.checked_add(count).is_none_or(|end| end > length) {
            return Err(format!("at byte {offset}, expected within the {length} bytes of the file"));
        }
        if count.saturating_mul(ratio) < bytes {
            return Err(format!("for {bytes} bytes of samples, expected at least {}", bytes.div_ceil(ratio)));
        }
        // An uncompressed strip may have a count that is too long; its samples are what is read.
        let stored = if ratio == 1 { bytes } else { count };
        scanner.unclaimed =
            scanner.unclaimed.checked_sub(stored).ok_or("overlaps others, expected bytes of its own")?;
        Ok(Chunk { offset, bytes: stored })
    }
}
