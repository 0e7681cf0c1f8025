//! Hostile and damaged files, made by hand: each gives an error, or samples, but no panic.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use super::super::{StackReader, TiffError};
use super::{ACCEPTED, Samples, Stack, assert_words, collect, fixture, refusal};
use crate::testing::fuzz_seeds;

fn read_bytes(bytes: &[u8]) -> Result<Stack, TiffError> {
    collect(StackReader::new(Cursor::new(bytes), Path::new("x.tif"))?)
}

/// A field of one value: tag, type and value as stored.
type Field = (u16, u16, u32, u32);

/// A little-endian file of directories, each followed by the next one, and `data` after them all.
fn file(pages: &[Vec<Field>], data: &[u8]) -> Vec<u8> {
    let mut bytes = b"II\x2a\0\x08\0\0\0".to_vec();
    for (index, fields) in pages.iter().enumerate() {
        bytes.extend((fields.len() as u16).to_le_bytes());
        for (tag, kind, count, value) in fields {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(count.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        let last = index + 1 == pages.len();
        let next = if last { 0 } else { bytes.len() as u32 + 4 };
        bytes.extend(next.to_le_bytes());
    }
    bytes.extend(data);
    bytes
}

/// An 8-bit page of 9 fields with one strip of `count` bytes at `offset`; 114 bytes as a directory.
fn page([height, width]: [u32; 2], compression: u32, offset: u32, count: u32) -> Vec<Field> {
    vec![
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, 1, offset),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, count),
    ]
}

/// The page with one field replaced, or added.
fn with(mut page: Vec<Field>, field: Field) -> Vec<Field> {
    page.retain(|(tag, ..)| *tag != field.0);
    page.push(field);
    page
}

const DATA: u32 = 8 + 114;

#[test]
fn reads_the_hand_made_page_and_odd_but_sound_variants() {
    let sound = || page([2, 3], 1, DATA, 6);
    let longer = || page([2, 3], 1, DATA + 12, 6);
    let variants = [
        sound(),
        // One strip that could be longer than the page, and a count that is.
        with(sound(), (278, 4, 1, u32::MAX)),
        page([2, 3], 1, DATA, 7),
        // Planes apart, of which grey has one; subsampling, which grey has not.
        with(longer(), (284, 3, 1, 2)),
        with(longer(), (530, 3, 2, 0x0002_0002)),
        // A field of unknown type does not replace the one of known type.
        [longer(), vec![(256, 99, 1, 77)]].concat(),
    ];
    for variant in variants {
        let stack = read_bytes(&file(&[variant], &[9, 8, 7, 6, 5, 4, 0])).unwrap();
        assert_eq!((stack.pages, stack.height, stack.width), (1, 2, 3));
        assert_eq!(stack.samples, Samples::U8(vec![9, 8, 7, 6, 5, 4]));
    }
}

#[test]
fn refuses_a_field_of_unknown_type_in_a_bigtiff() {
    let mut bytes = fs::read(fixture("u8-bigtiff.tif")).unwrap();
    // The directory begins at byte 16 with an 8-byte count; its first field with tag and type.
    bytes[26..28].copy_from_slice(&99u16.to_le_bytes());
    assert_words(&refusal(read_bytes(&bytes)), &["page 0", "is of unknown type 99; save"]);
}

#[test]
fn refuses_directories_that_loop_or_overlap() {
    // Page 1 names page 0 as the next page; then page 0 itself.
    let mut bytes = file(&[page([1, 1], 1, 8, 1), page([1, 1], 1, 9, 1)], &[]);
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&8u32.to_le_bytes());
    assert_words(&refusal(read_bytes(&bytes)), &["page 2", "earlier page"]);
    let mut bytes = file(&[page([1, 1], 1, 8, 1)], &[]);
    bytes[DATA as usize - 4..].copy_from_slice(&8u32.to_le_bytes());
    assert_words(&refusal(read_bytes(&bytes)), &["page 1", "earlier page"]);
    // 2000 directories of 4096 fields, at every 12th byte of the same 73 KB.
    let fields: Vec<Field> = page([1, 1], 1, 8, 1).into_iter().cycle().take(6096).collect();
    let mut bytes = file(&[fields], &[0; 4096]);
    for start in (8..8 + 12 * 2000).step_by(12) {
        bytes[start..start + 2].copy_from_slice(&4096u16.to_le_bytes());
        let end = start + 2 + 12 * 4096;
        bytes[end..end + 4].copy_from_slice(&(start as u32 + 12).to_le_bytes());
    }
    assert_words(&refusal(read_bytes(&bytes)), &["directory data overlap"]);
}

#[test]
fn refuses_sizes_that_the_file_cannot_hold() {
    let huge = u32::MAX;
    let sound = || page([2, 3], 1, DATA, 6);
    let kilobyte = |side, compression| page([side, side], compression, DATA, 1000);
    let cases: [(Vec<Field>, &[&str]); 22] = [
        (page([huge, huge], 1, DATA, 6), &["4294967295 x 4294967295 samples", "at most"]),
        (page([huge, 1], 8, DATA, 6), &["expected at least"]),
        (page([0, 3], 1, DATA, 6), &["3 x 0 samples, expected at least 1 x 1"]),
        (kilobyte(65536, 8), &["4294967296 bytes of samples, expected at least 4161791"]),
        (kilobyte(65536, 5), &["bytes of samples, expected at least 1677722"]),
        (kilobyte(65536, 32773), &["bytes of samples, expected at least 67108864"]),
        (kilobyte(32, 1), &["1024 bytes of samples, expected at least 1024"]),
        (page([2, 3], 1, DATA + 2000, 6), &["strip or tile 0", "expected within the 1122 bytes"]),
        (page([2, 3], 8, DATA, huge), &["strip or tile 0 of 4294967295 bytes at byte 122"]),
        (page([2, 3], 1, DATA, 5), &["of 5 bytes for 6 bytes of samples"]),
        (page([2, 3], 8, DATA, 0), &["of 0 bytes for 6 bytes of samples, expected at least 1"]),
        (with(sound(), (278, 4, 1, 1)), &["field 273 has 1 values, expected 2"]),
        (with(sound(), (273, 4, huge, 8)), &["field 273 has 4294967295 values, expected 1"]),
        (with(sound(), (278, 4, 1, 0)), &["strips or tiles of 3 x 0 samples"]),
        (with(sound(), (277, 3, 1, 65535)), &["65535 samples per pixel"]),
        (with(sound(), (258, 3, huge, 8)), &["field 258 has 4294967295 values, expected 1"]),
        (with(sound(), (530, 2, huge, 8)), &["field 530 is of type 2"]),
        (with(sound(), (338, 3, huge, 8)), &["4294967295 extra samples, expected 0"]),
        (with(sound(), (317, 3, 1, 3)), &["predictor 3, expected 1"]),
        (with(sound(), (324, 4, 1, 8)), &["no offsets and lengths of strips or tiles"]),
        (with(page([1 << 21, 3], 8, DATA, 900), (278, 4, 1, 1)), &["2097152 strips or tiles, expected at most"]),
        (Vec::new(), &["no colour space, expected grey"]),
    ];
    for (page, words) in cases {
        let bytes = file(&[page], &[0; 1000]);
        assert_words(&refusal(read_bytes(&bytes)), words);
    }
}

#[test]
fn refuses_tiles_that_the_file_cannot_hold() {
    for (width, length) in [(0, 16), (u32::MAX, u32::MAX), (1 << 20, 16)] {
        let strips = [273, 278, 279];
        let mut fields = page([2, 3], 8, DATA, 6);
        fields.retain(|(tag, ..)| !strips.contains(tag));
        fields.extend([(322, 4, 1, width), (323, 4, 1, length), (324, 4, 1, DATA), (325, 4, 1, 900)]);
        assert_words(&refusal(read_bytes(&file(&[fields], &[0; 1000]))), &["page 0", "tile"]);
    }
}

#[test]
fn refuses_pages_that_share_samples_and_lying_headers() {
    // 100 directories of 114 bytes claim the same 200 bytes: more than the file has in all.
    let pages: Vec<_> = (0..100).map(|_| page([10, 20], 1, 8, 200)).collect();
    assert_words(&refusal(read_bytes(&file(&pages, &[]))), &["page 57", "overlaps others"]);
    assert_words(&refusal(read_bytes(b"II\x2a\0\0\0\0\0")), &["0 pages, expected at least 1"]);
    assert_words(&refusal(read_bytes(b"II\x2a\0\xff\xff\xff\xff")), &["page 0", "8 bytes"]);
    assert_words(&refusal(read_bytes(b"II\x2a\0")), &["the file ends in its header"]);
    assert_words(&refusal(read_bytes(b"II\x2c\0\x08\0\0\0")), &["TIFF version 44"]);
    let many = b"II\x2a\0\x08\0\0\0\xff\xff";
    assert_words(&refusal(read_bytes(many)), &["65535 fields, expected at most 4096"]);
    let mut big = b"II\x2b\0\x08\0\0\0\x10\0\0\0\0\0\0\0".to_vec();
    big.extend([0xff; 8]);
    assert_words(&refusal(read_bytes(&big)), &["18446744073709551615 fields"]);
    big[8..16].fill(0xff);
    assert_words(&refusal(read_bytes(&big)), &["at byte 18446744073709551615"]);
}

#[test]
fn reads_only_as_much_of_a_strip_as_the_page_has() {
    // 1 MiB of zeros in 1 KB, for a page of 6 samples.
    let zeros = fs::read(fixture("zeros-1-mib.zlib")).unwrap();
    let bytes = file(&[page([2, 3], 8, DATA, zeros.len() as u32)], &zeros);
    assert_eq!(read_bytes(&bytes).unwrap().samples, Samples::U8(vec![0; 6]));
    // A count that ends inside of the stream is an end of the strip.
    let short = file(&[page([1024, 1024], 8, DATA, zeros.len() as u32 - 20)], &zeros);
    let message = refusal(read_bytes(&short));
    assert_words(&message, &["page 0", "strip or tile 0", "its data"]);
}

/// The hand-made cases that fuzzing starts from, and what it has found: `fuzz/seeds`.
#[test]
fn of_the_fuzzing_seeds_only_the_sound_ones_are_read() {
    let mut read = Vec::new();
    for (name, bytes) in fuzz_seeds("tiff") {
        if read_bytes(&bytes).is_ok() {
            read.push(name);
        }
    }
    assert_eq!(read, ["1-mib-of-zeros-in-a-kilobyte.tif", "imagej.tif", "sound.tif", "tiles.tif"]);
}

/// Numbers to change fixtures by: the constants of Knuth's MMIX generator.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

#[test]
fn never_panics_on_a_cut_or_changed_file() {
    let mut state = 1;
    for (name, _) in ACCEPTED {
        let sound = fs::read(fixture(name)).unwrap();
        for length in (0..sound.len()).step_by(13) {
            let _ = read_bytes(&sound[..length]);
        }
        for _ in 0..200 {
            let mut changed = sound.clone();
            for _ in 0..1 + random(&mut state) % 4 {
                let at = random(&mut state) % changed.len();
                changed[at] = [0, 1, 0x7f, 0xff, random(&mut state) as u8][random(&mut state) % 5];
            }
            if let Ok(stack) = read_bytes(&changed) {
                let count = stack.pages * stack.height * stack.width;
                assert!(count <= 2560 * changed.len());
            }
        }
    }
}
