//! Hostile and damaged files, made by hand: each gives an error, or samples, but no panic.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use super::super::{StackReader, TiffError};
use super::{Samples, Stack, assert_words, collect, fixture, refusal, sound_fixtures};
use crate::testing::fuzz_seeds;

fn read_bytes(bytes: &[u8]) -> Result<Stack, TiffError> {
    collect(StackReader::new(Cursor::new(bytes), Path::new("x.tif"))?)
}

/// A field of one value: tag, type and value as stored.
pub(super) type Field = (u16, u16, u32, u32);

/// A little-endian file of directories, each followed by the next one, and `data` after them all.
pub(super) fn file(pages: &[Vec<Field>], data: &[u8]) -> Vec<u8> {
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
pub(super) fn page([height, width]: [u32; 2], compression: u32, offset: u32, count: u32) -> Vec<Field> {
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
pub(super) fn with(mut page: Vec<Field>, field: Field) -> Vec<Field> {
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
        // Subsampling as no program would write it: the decoder does not see it.
        with(longer(), (530, 2, u32::MAX, 8)),
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
        (kilobyte(65536, 50000), &["bytes of samples, expected at least 131072"]),
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
        (with(sound(), (338, 3, huge, 8)), &["4294967295 extra samples among 1 samples per pixel, expected at most 0"]),
        (with(sound(), (317, 3, 1, 3)), &["predictor 3, expected 1"]),
        (with(sound(), (324, 4, 1, 8)), &["no offsets and lengths of strips or tiles"]),
        (with(page([1 << 21, 3], 8, DATA, 900), (278, 4, 1, 1)), &["2097152 strips or tiles, expected at most"]),
        (Vec::new(), &["no colour space, expected grey, RGB"]),
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

/// A page of `samples` samples per pixel with one strip, or one for each plane, of `count` bytes in all; 10 fields. Its
/// strip tables, if there are several, are at the start of the data.
fn page_of_samples(samples: u32, photometric: u32, planar: bool, count: u32) -> Vec<Field> {
    let mut fields = page([2, 3], 1, DATA + 12, count);
    fields.push((284, 3, 1, if planar { 2 } else { 1 }));
    fields = with(with(fields, (262, 3, 1, photometric)), (277, 3, 1, samples));
    if planar {
        let after = DATA + 12;
        fields = with(with(fields, (273, 4, samples, after)), (279, 4, samples, after + 4 * samples));
    }
    fields
}

/// The strip tables of planes of 6 bytes, and the planes: 0, 1, 2 ... The tables are those of `page_of_samples`.
fn planes(samples: u32) -> Vec<u8> {
    let first = DATA + 12 + 8 * samples;
    let offsets = (0..samples).map(|plane| first + 6 * plane);
    let tables = offsets.chain((0..samples).map(|_| 6)).flat_map(u32::to_le_bytes);
    tables.chain(0..6 * samples as u8).collect()
}

#[test]
fn reads_hand_made_planes_and_pixels() {
    let stack = read_bytes(&file(&[page_of_samples(3, 2, true, 6)], &planes(3))).unwrap();
    assert_eq!((stack.pages, stack.height, stack.width, stack.channels), (1, 2, 3, 3));
    let pixels = [0, 6, 12, 1, 7, 13, 2, 8, 14, 3, 9, 15, 4, 10, 16, 5, 11, 17];
    assert_eq!(stack.samples, Samples::U8(pixels.to_vec()));
    // 2 bytes of types for the samples after the first: one channel more, and alpha.
    let fields = with(page_of_samples(3, 1, true, 6), (338, 3, 2, 0x0002_0000));
    let mut planes = planes(3);
    // The tables are 12 bytes behind the place of those of 10 fields, as the page has 11.
    let moved = fields.into_iter().map(|(tag, kind, count, value)| match tag {
        273 | 279 => (tag, kind, count, value + 12),
        _ => (tag, kind, count, value),
    });
    planes[..12].copy_from_slice(&[DATA + 48, DATA + 54, DATA + 60].map(u32::to_le_bytes).concat());
    let stack = read_bytes(&file(&[moved.collect()], &planes)).unwrap();
    assert_eq!((stack.channels, stack.samples), (2, Samples::U8(vec![0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11])));
    let chunky = page_of_samples(3, 2, false, 18);
    let stack = read_bytes(&file(&[chunky], &(0..18).collect::<Vec<u8>>())).unwrap();
    assert_eq!(stack.samples, Samples::U8((0..18).collect()));
}

#[test]
fn refuses_channels_that_the_file_cannot_hold() {
    let huge = u32::MAX;
    let rgb = |planar| page_of_samples(3, 2, planar, 18);
    let cases: [(Vec<Field>, &[&str]); 17] = [
        // A table one plane short, and one with a plane too many.
        (with(rgb(true), (273, 4, 2, DATA + 12)), &["field 273 has 2 values, expected 3"]),
        (with(rgb(true), (279, 4, 4, DATA + 12)), &["field 279 has 4 values, expected 3"]),
        (with(rgb(false), (279, 4, 1, 17)), &["of 17 bytes for 18 bytes of samples"]),
        (with(rgb(true), (277, 3, 1, 4)), &["field 273 has 3 values, expected 4"]),
        (with(rgb(false), (277, 3, 1, 17)), &["17 samples per pixel (RGB), expected 3 to 16"]),
        (with(rgb(false), (277, 3, 1, 65535)), &["65535 samples per pixel"]),
        (with(rgb(true), (277, 4, 1, huge)), &["4294967295 samples per pixel"]),
        (with(rgb(false), (277, 3, 1, 0)), &["0 samples per pixel"]),
        (with(rgb(false), (277, 3, 1, 2)), &["2 samples per pixel (RGB), expected 3 to 16"]),
        (with(rgb(false), (262, 3, 1, 3)), &["3 samples per pixel (palette colour), expected 1"]),
        // At byte 8 is the directory: 10 fields, tag 256.
        (with(rgb(false), (258, 3, 3, 8)), &["sample 1 of a pixel has bits 256, but sample 0 has bits 10"]),
        (with(rgb(false), (258, 3, 2, 0x0008_0008)), &["field 258 has 2 values, expected 3"]),
        (with(rgb(false), (284, 3, 1, 3)), &["planar configuration 3, expected 1 or 2"]),
        (with(rgb(false), (338, 3, 1, 0)), &["1 extra samples among 3 samples per pixel, expected at most 0"]),
        (with(page_of_samples(2, 1, false, 12), (338, 3, 1, 7)), &["sample 1 is of extra type 7"]),
        (with(page_of_samples(1, 3, false, 6), (320, 3, 767, 8)), &["field 320 has 767 values, expected 768"]),
        (page_of_samples(1, 3, false, 6), &["palette colour without a colour map"]),
    ];
    for (page, words) in cases {
        assert_words(&refusal(read_bytes(&file(&[page], &[6; 1000]))), words);
    }
    // 16 samples of 4 bytes count: 2^31 x 1 pixels of them are more than 64 GiB.
    let floats = with(with(page_of_samples(16, 1, false, 900), (258, 3, 1, 32)), (339, 3, 1, 3));
    let wide = with(with(floats, (256, 4, 1, 1 << 31)), (257, 4, 1, 1));
    assert_words(&refusal(read_bytes(&file(&[wide], &[0; 1000]))), &["2147483648 x 1 samples", "at most"]);
    // Planes that are the same bytes: 16 x 64 bytes, which the file has not.
    let mut shared = with(with(page_of_samples(16, 1, true, 0), (256, 4, 1, 8)), (257, 4, 1, 8));
    shared = with(shared, (278, 4, 1, 8));
    let tables = [DATA + 12; 16].into_iter().chain([64; 16]).flat_map(u32::to_le_bytes);
    assert_words(&refusal(read_bytes(&file(&[shared], &tables.collect::<Vec<u8>>()))), &["overlaps others"]);
}

#[test]
fn refuses_jpeg_streams_that_are_not_what_the_page_says() {
    let sound = fs::read(fixture("u8-jpeg.tif")).unwrap();
    let frame = sound.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    let end = sound.windows(2).position(|pair| pair == [0xff, 0xd9]).unwrap();
    // Offsets in the frame: marker 0, length 2, bits 4, rows 5, columns 7, components 9, subsampling 11.
    let cases: [(usize, &[u8], &str); 9] = [
        (frame, &[0xff, 0xc2], "progressive JPEG, expected sequential"),
        (frame, &[0xff, 0xc9], "JPEG marker 0xc9"),
        (frame, &[0xff, 0xe1], "0 frames and 1 scans"),
        (frame + 4, &[12], "1 samples of 12 bits, expected 17 x 8 with 1 of 8 bits"),
        (frame + 5, &[0xff, 0xff], "a JPEG frame of 17 x 65535 pixels"),
        (frame + 7, &[0, 16], "a JPEG frame of 16 x 8 pixels"),
        (frame + 9, &[3], "with 3 samples of 8 bits"),
        (frame + 11, &[0x22], "JPEG with subsampling"),
        (end, &[0, 0], "its JPEG stream ends too soon"),
    ];
    for (at, bytes, words) in cases {
        let mut changed = sound.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        assert_words(&refusal(read_bytes(&changed)), &["page 0", "strip or tile 0", words]);
    }
}

#[test]
fn refuses_a_jpeg_stream_that_repeats_its_scan() {
    let sound = fs::read(fixture("u8-jpeg.tif")).unwrap();
    let start = sound.windows(3).position(|bytes| bytes == [0xff, 0xd8, 0xff]).unwrap();
    let scan = sound.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let end = sound.windows(2).position(|pair| pair == [0xff, 0xd9]).unwrap();
    let twice = [&sound[start..end], &sound[scan..end + 2]].concat();
    // 17 x 8 samples in one strip, as in the fixture.
    let bytes = file(&[page([8, 17], 7, DATA, twice.len() as u32)], &twice);
    assert_words(&refusal(read_bytes(&bytes)), &["page 0", "1 frames and 2 scans in its JPEG stream"]);
    let once = &sound[start..end + 2];
    let bytes = file(&[page([8, 17], 7, DATA, once.len() as u32)], once);
    assert_eq!(read_bytes(&bytes).unwrap().samples.len(), 8 * 17);
}

#[test]
fn refuses_hyperstacks_whose_text_lies() {
    let sound = fs::read(fixture("u8-hyperstack-one-directory.tif")).unwrap();
    // `channels=3`, `slices=2` and `images=6` in the text.
    let cases: [(&[u8], &[u8], &[&str]); 4] = [
        (b"channels=3", b"channels=4", &["6 pages, expected 4 channels x 2 slices x 1 frames"]),
        (b"slices=2\nhyper", b"slices=3\nhyper", &["6 pages, expected 3 channels x 3 slices x 1 frames"]),
        (b"images=6", b"images=7", &["6 of 7 pages, expected all"]),
        (b"images=6", b"images=5", &["5 pages, expected 3 channels x 2 slices"]),
    ];
    for (from, to, words) in cases {
        let mut changed = sound.clone();
        let at = sound.windows(from.len()).position(|window| window == from).unwrap();
        changed[at..at + to.len()].copy_from_slice(to);
        assert_words(&refusal(read_bytes(&changed)), words);
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
    assert_eq!(
        read,
        [
            "1-mib-of-zeros-in-a-kilobyte.tif",
            "fax-2.tif",
            "fax-3-plane.tif",
            "fax-3.tif",
            "fax-4.tif",
            "hyperstack.tif",
            "imagej.tif",
            "ome-channels.tif",
            "one-bit.tif",
            "palette.tif",
            "planes.tif",
            "rgb-and-alpha.tif",
            "shaped.tif",
            "sound.tif",
            "stk.tif",
            "thumbnail.tif",
            "tiles.tif"
        ]
    );
}

/// Numbers to change fixtures by: the constants of Knuth's MMIX generator.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

#[test]
fn never_panics_on_a_cut_or_changed_file() {
    let mut state = 1;
    for name in sound_fixtures() {
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
                // The ratio of Zstandard is the largest; packed samples are up to 8 in a byte.
                assert!(stack.samples.len() <= 8 * 32768 * changed.len());
            }
        }
    }
}
