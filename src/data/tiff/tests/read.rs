//! Reading of sound files: fixtures against the formulas they were made from, and refusals.

use std::fs;
use std::path::Path;

use super::{ACCEPTED, Samples, Stack, assert_words, fixture, read_stack, refusal};

/// `[page, row, column]` of each sample of a stack of the fixtures.
fn places(stack: &Stack) -> impl Iterator<Item = [u64; 3]> {
    let (height, width) = (stack.height as u64, stack.width as u64);
    (0..stack.pages as u64 * height * width).map(move |i| [i / (height * width), i / width % height, i % width])
}

fn assert_holds_the_formula(name: &str, stack: &Stack) {
    assert_eq!((stack.height, stack.width), (19, 17), "{name}");
    let count = stack.pages * 19 * 17;
    let places = places(stack);
    match &stack.samples {
        Samples::U8(samples) => {
            let expected = places.map(|[p, y, x]| ((37 * p + 11 * y + 3 * x + 5) % 251) as u8);
            assert_eq!(samples, &expected.collect::<Vec<_>>(), "{name}");
            assert_eq!(samples.len(), count, "{name}");
        }
        Samples::U16(samples) => {
            let expected = places.map(|[p, y, x]| ((9973 * p + 257 * y + 31 * x + 7) % 65521) as u16);
            assert_eq!(samples, &expected.collect::<Vec<_>>(), "{name}");
            assert_eq!(samples.len(), count, "{name}");
        }
        Samples::F32(samples) => {
            let expected = places.map(|[p, y, x]| (64 * p + 8 * y + x) as f32 / 16.0 - 3.0);
            assert_eq!(samples, &expected.collect::<Vec<_>>(), "{name}");
            assert_eq!(samples.len(), count, "{name}");
        }
    }
}

#[test]
fn reads_the_exact_samples_of_every_accepted_form() {
    for (name, pages) in ACCEPTED {
        let stack = read_stack(&fixture(name)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(stack.pages, pages, "{name}");
        assert_holds_the_formula(name, &stack);
        let kind = match stack.samples {
            Samples::U8(_) => "u8",
            Samples::U16(_) => "u16",
            Samples::F32(_) => "f32",
        };
        assert_eq!(name.split('-').next(), Some(kind));
    }
}

#[test]
fn inverts_white_is_zero_once_in_an_imagej_stack_with_one_directory() {
    let stack = read_stack(&fixture("u8-imagej-one-directory-white.tif")).unwrap();
    assert_eq!(stack.pages, 3);
    assert_holds_the_formula("white", &stack);
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
        ("bad-rgb.tif", &["page 0 (first is 0)", "3 samples per pixel (RGB), expected 1; convert"]),
        ("bad-palette.tif", &["page 0", "palette colour, expected grey; convert"]),
        ("bad-grey-alpha.tif", &["page 0", "2 samples per pixel (grey), expected 1; convert"]),
        ("bad-1-bit.tif", &["page 0", "1-bit unsigned samples, expected 8-bit", "; convert"]),
        ("bad-uint32.tif", &["32-bit unsigned samples, expected 8-bit"]),
        ("bad-int16.tif", &["16-bit signed samples, expected 8-bit"]),
        ("bad-float64.tif", &["64-bit float samples, expected 8-bit"]),
        ("bad-zstandard.tif", &["compression 50000 (Zstandard), expected none", "; save"]),
        ("bad-jpeg.tif", &["compression 7 (JPEG), expected none"]),
        ("bad-white-is-zero-float.tif", &["white-is-zero float samples, expected black-is-zero"]),
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
