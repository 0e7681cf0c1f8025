//! Reading of sound files: fixtures against the formulas they were made from, and refusals.

use std::fs;
use std::path::Path;

use super::super::{StackReader, TiffError};
use super::{ACCEPTED, CHANNELS, JPEG, Samples, Stack, assert_words, fixture, read_stack, refusal, sound_fixtures};
use crate::data::samples::{Palette, SampleBuffer};

/// `[page, row, column, channel]` of each sample of a stack of the fixtures.
fn places(stack: &Stack) -> impl Iterator<Item = [u64; 4]> {
    let [pages, height, width, channels] =
        [stack.pages, stack.height, stack.width, stack.channels].map(|size| size as u64);
    (0..pages * height * width * channels).map(move |index| {
        let pixel = index / channels;
        [pixel / (height * width), pixel / width % height, pixel % width, index % channels]
    })
}

fn u8_formula([p, y, x, c]: [u64; 4]) -> u8 {
    ((37 * p + 11 * y + 3 * x + 5 + 71 * c) % 251) as u8
}

fn assert_holds_the_formula(name: &str, stack: &Stack) {
    assert_eq!((stack.height, stack.width), (19, 17), "{name}");
    assert_eq!(stack.samples.len(), stack.pages * 19 * 17 * stack.channels, "{name}");
    let places = places(stack);
    match &stack.samples {
        Samples::U8(samples) => {
            let expected = places.map(u8_formula);
            assert_eq!(samples, &expected.collect::<Vec<_>>(), "{name}");
        }
        Samples::U16(samples) => {
            let expected = places.map(|[p, y, x, c]| ((9973 * p + 257 * y + 31 * x + 7 + 20011 * c) % 65521) as u16);
            assert_eq!(samples, &expected.collect::<Vec<_>>(), "{name}");
        }
        Samples::F32(samples) => {
            let expected = places.map(|[p, y, x, c]| (64 * p + 8 * y + x) as f32 / 16.0 - 3.0 + 16.0 * c as f32);
            assert_eq!(samples, &expected.collect::<Vec<_>>(), "{name}");
        }
    }
    let kind = match stack.samples {
        Samples::U8(_) => "u8",
        Samples::U16(_) => "u16",
        Samples::F32(_) => "f32",
    };
    assert_eq!(name.split('-').next(), Some(kind));
}

#[test]
fn reads_the_exact_samples_of_every_accepted_form() {
    for (name, pages) in ACCEPTED {
        let stack = read_stack(&fixture(name)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((stack.pages, stack.channels), (pages, 1), "{name}");
        assert_holds_the_formula(name, &stack);
    }
}

#[test]
fn interleaves_channels_whatever_way_they_are_stored_and_leaves_alpha_out() {
    for (name, pages, channels) in CHANNELS {
        let stack = read_stack(&fixture(name)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((stack.pages, stack.channels), (pages, channels), "{name}");
        assert_holds_the_formula(name, &stack);
        let alpha = StackReader::open(&fixture(name)).unwrap().dropped_alpha();
        assert_eq!(alpha, name.contains("rgba") || name.contains("alpha"), "{name}");
    }
}

#[test]
fn reads_jpeg_within_its_error() {
    for (name, channels) in JPEG {
        let stack = read_stack(&fixture(name)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((stack.pages, stack.height, stack.width, stack.channels), (1, 19, 17, channels), "{name}");
        let Samples::U8(samples) = &stack.samples else { panic!("{name}: samples of another type") };
        assert_eq!(samples.len(), 19 * 17 * channels, "{name}");
        for (place, &sample) in places(&stack).zip(samples) {
            // libjpeg is within 1; another inverse transform may round another way.
            assert!(u8_formula(place).abs_diff(sample) <= 2, "{name}: {sample} at {place:?}");
        }
    }
}

#[test]
fn shows_the_colours_of_a_palette_of_16_or_8_bits() {
    let colours = (0..=255u8).map(|index| [255 - index, index.wrapping_mul(7), index]).collect();
    let expected = Palette(colours);
    for name in ["u8-palette.tif", "u8-palette-deflate.tif", "u8-palette-pillow.tif"] {
        let reader = StackReader::open(&fixture(name)).unwrap();
        assert_eq!((reader.palette(), reader.channels()), (Some(&expected), 1), "{name}");
    }
    assert_eq!(StackReader::open(&fixture("u8-strips.tif")).unwrap().palette(), None);
}

#[test]
fn reads_signed_and_wide_samples_as_floats_and_single_bits_as_bytes() {
    let formula = |[_, y, x, _]: [u64; 4]| (8 * y + x) as f32 / 16.0 - 3.0;
    // numpy cuts fractions off.
    for (name, is_whole) in [("i16.tif", true), ("f64.tif", false)] {
        let stack = read_stack(&fixture(name)).unwrap();
        assert_eq!((stack.pages, stack.height, stack.width, stack.channels), (1, 19, 17, 1), "{name}");
        let expected = places(&stack).map(formula).map(|value| if is_whole { value.trunc() } else { value });
        assert_eq!(stack.samples, Samples::F32(expected.collect()), "{name}");
    }
    let stack = read_stack(&fixture("u1-pillow.tif")).unwrap();
    let Samples::U8(bits) = &stack.samples else { panic!("other samples") };
    assert_eq!((stack.height, stack.width, bits.len()), (19, 17, 19 * 17));
    assert!([0, 1].iter().all(|bit| bits.contains(bit)) && bits.iter().all(|&bit| bit < 2));
}

/// The pages in the order of `indices`.
fn pages(reader: &mut StackReader, indices: impl Iterator<Item = usize>) -> Result<Vec<SampleBuffer>, TiffError> {
    indices.map(|index| reader.page(index)).collect()
}

#[test]
fn a_page_read_by_its_index_is_that_of_the_whole_stack() {
    for name in sound_fixtures() {
        let mut reader = StackReader::open(&fixture(name)).unwrap();
        let count = reader.size()[0];
        let mut backwards = pages(&mut reader, (0..count).rev()).unwrap();
        backwards.reverse();
        let mut forwards = Vec::new();
        reader.for_each_page(|_, page| forwards.push(page.to_buffer())).unwrap();
        assert!(backwards == forwards, "{name}");
    }
    let mut reader = StackReader::open(&fixture("u8-hyperstack.tif")).unwrap();
    assert_words(&refusal(reader.page(2)), &["no page 2 (first is 0), the stack has 2 pages"]);
    let mut reader = StackReader::open(&fixture("bad-nan.tif")).unwrap();
    reader.page(0).unwrap();
    assert_words(&refusal(reader.page(1)), &["page 1", "NaN at row 18, column 5, expected"]);
}

#[test]
fn inverts_white_is_zero_once_in_an_imagej_stack_with_one_directory() {
    let stack = read_stack(&fixture("u8-imagej-one-directory-white.tif")).unwrap();
    assert_eq!(stack.pages, 3);
    assert_holds_the_formula("u8-imagej-one-directory-white.tif", &stack);
}

#[test]
fn carries_the_physical_pixel_size_of_page_0() {
    let resolution = read_stack(&fixture("u8-imagej.tif")).unwrap().resolution;
    let resolution = resolution.unwrap();
    assert_eq!((resolution.x, resolution.y), ((250, 1), (125, 1)));
    assert_eq!(resolution.unit, 1);
    assert_eq!(resolution.imagej_unit.as_deref(), Some("nm"));
    assert_eq!(resolution.spacing, Some(50.5));
    let none = read_stack(&fixture("u8-lzw-pillow.tif")).unwrap().resolution;
    assert_eq!(none, None);
}

#[test]
fn refuses_other_stacks_with_page_found_expected_and_advice() {
    let cases: [(&str, &[&str]); 17] = [
        ("bad-ycbcr.tif", &["page 0 (first is 0)", "YCbCr, expected grey, RGB or palette colour; save"]),
        ("bad-cmyk.tif", &["page 0", "CMYK, expected grey, RGB or palette"]),
        ("bad-17-samples.tif", &["page 0", "17 samples per pixel (grey), expected 1 to 16; save"]),
        ("bad-palettes.tif", &["page 1", "its palette is not that of page 0", "; put"]),
        ("bad-hyperstack-17-channels.tif", &["34 pages", "hyperstack of 17 channels, expected at most 16; save"]),
        ("bad-hyperstack-size.tif", &["4 pages, expected 3 channels x 1 slices x 1 frames", "; save"]),
        (
            "bad-page-channels.tif",
            &["page 1", "17 x 19 8-bit samples of 3 channels, expected 17 x 19 8-bit samples as"],
        ),
        ("bad-webp.tif", &["compression 50001 (WebP), expected none", "; save"]),
        ("bad-jpeg-2000.tif", &["compression 34712 (JPEG 2000), expected none"]),
        ("bad-white-is-zero-float.tif", &["white-is-zero 32-bit float samples, expected black-is-zero"]),
        ("bad-page-size.tif", &["page 2", "16 x 19 8-bit samples, expected 17 x 19 8-bit", "page 0"]),
        ("bad-page-type.tif", &["page 1", "17 x 19 16-bit samples, expected 17 x 19 8-bit"]),
        ("bad-nan.tif", &["page 1", "NaN at row 18, column 5, expected a finite number;"]),
        ("bad-infinity.tif", &["page 1", "-inf at row 18, column 5, expected a finite"]),
        ("bad-imagej-too-short.tif", &["3 of 4 pages", "ImageJ description", "copy or export"]),
        ("bad-cut-short.tif", &["page 1", "the file has 496 bytes; the file is damaged or cut short"]),
        ("make.py", &["no TIFF signature", "expected a TIFF stack;"]),
    ];
    for (name, words) in cases {
        let message = refusal(read_stack(&fixture(name)));
        assert_words(&message, &["cannot read '", name]);
        assert_words(&message, words);
    }
}

#[test]
fn refuses_what_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let missing = refusal(read_stack(&folder.path().join("missing.tif")));
    assert_words(&missing, &["cannot open", "missing.tif", "; check the path"]);
    assert_words(&refusal(read_stack(folder.path())), &["it is a folder, expected"]);
    let empty = folder.path().join("empty.tif");
    fs::write(&empty, "").unwrap();
    assert_words(&refusal(read_stack(&empty)), &["the file is empty, expected a TIFF"]);
    assert_words(&refusal(read_stack(Path::new("/dev/zero"))), &["it is not a regular file"]);
}
