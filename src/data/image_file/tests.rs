//! PNG and JPEG files of each kind, sound and damaged. TIFF has tests of its own.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::data::samples::Samples;
use crate::data::samples::{Palette, SampleBuffer};

/// A PNG with these bytes of samples, written by the `png` crate.
fn write_png(path: &Path, [width, height]: [u32; 2], colours: ::png::ColorType, bits: ::png::BitDepth, bytes: &[u8]) {
    let mut encoder = ::png::Encoder::new(fs::File::create(path).unwrap(), width, height);
    encoder.set_color(colours);
    encoder.set_depth(bits);
    if colours == ::png::ColorType::Indexed {
        encoder.set_palette(vec![0, 0, 0, 255, 0, 0, 0, 128, 255]);
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(bytes).unwrap();
}

fn read(path: &Path) -> Result<(ImageInfo, Image)> {
    let mut file = ImageFile::open(path)?;
    Ok((file.info(), file.page(0)?))
}

fn refusal(path: &Path) -> String {
    format!("{:#}", read(path).unwrap_err())
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.png");
    (folder, path)
}

#[test]
fn samples_of_each_png_type_are_those_that_were_stored() {
    use ::png::{BitDepth, ColorType};
    let (_folder, path) = place();
    let case = |colours, bits, bytes: &[u8]| {
        write_png(&path, [3, 2], colours, bits, bytes);
        let (info, image) = read(&path).unwrap();
        assert_eq!((image.height, image.width, info.pages), (2, 3, 1));
        (info.channels, info.has_alpha, image.samples)
    };
    let six = [0u8, 1, 2, 250, 251, 255];
    assert_eq!(case(ColorType::Grayscale, BitDepth::Eight, &six), (1, false, SampleBuffer::U8(six.to_vec())));
    let wide = [0u16, 1, 256, 4095, 40_000, 65_535];
    let bytes: Vec<u8> = wide.iter().flat_map(|value| value.to_be_bytes()).collect();
    assert_eq!(case(ColorType::Grayscale, BitDepth::Sixteen, &bytes), (1, false, SampleBuffer::U16(wide.to_vec())));
    let rgb: Vec<u8> = (0..18).collect();
    assert_eq!(case(ColorType::Rgb, BitDepth::Eight, &rgb), (3, false, SampleBuffer::U8(rgb.clone())));
    // Alpha is every fourth sample, or every second.
    let rgba: Vec<u8> = (0..24).collect();
    let without: Vec<u8> = (0..24).filter(|value| value % 4 != 3).collect();
    assert_eq!(case(ColorType::Rgba, BitDepth::Eight, &rgba), (3, true, SampleBuffer::U8(without)));
    let grey: Vec<u8> = (0..12).filter(|value| value % 2 == 0).collect();
    assert_eq!(case(ColorType::GrayscaleAlpha, BitDepth::Eight, &rgba[..12]), (1, true, SampleBuffer::U8(grey)));
}

/// Rows begin at a byte: three samples of a bit are 1, 0, 1, and then padding.
#[test]
fn samples_below_8_bits_keep_their_values() {
    use ::png::{BitDepth, ColorType};
    let (_folder, path) = place();
    write_png(&path, [3, 2], ColorType::Grayscale, BitDepth::One, &[0b1010_0000, 0b0110_0000]);
    assert_eq!(read(&path).unwrap().1.samples, SampleBuffer::U8(vec![1, 0, 1, 0, 1, 1]));
    write_png(&path, [3, 2], ColorType::Grayscale, BitDepth::Four, &[0x1f, 0x20, 0x03, 0xe0]);
    assert_eq!(read(&path).unwrap().1.samples, SampleBuffer::U8(vec![1, 15, 2, 0, 3, 14]));
    write_png(&path, [3, 2], ColorType::Indexed, BitDepth::Two, &[0b0001_1000, 0b1001_0000]);
    let (info, image) = read(&path).unwrap();
    assert_eq!(image.samples, SampleBuffer::U8(vec![0, 1, 2, 2, 1, 0]));
    assert_eq!(info.palette, Some(Palette(vec![[0, 0, 0], [255, 0, 0], [0, 128, 255]])));
}

#[test]
fn jpeg_images_are_near_the_samples_they_were_made_from() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images");
    for (name, channels) in [("grey", 1), ("colour", 3), ("progressive", 3)] {
        let (info, image) = read(&folder.join(format!("{name}.jpg"))).unwrap();
        assert_eq!((image.height, image.width, info.channels, info.is_lossy), (24, 40, channels, true));
        let SampleBuffer::U8(samples) = image.samples else { panic!("8 bits") };
        for (index, sample) in samples.into_iter().enumerate() {
            let (pixel, channel) = (index / channels, index % channels);
            let expected = 40 + 3 * (pixel / 40) + 2 * (pixel % 40) + 20 * channel;
            assert!((i64::from(sample) - expected as i64).abs() <= 4, "{name} {index}: {sample}, {expected}");
        }
    }
    let message = refusal(&folder.join("bad-cmyk.jpg"));
    assert!(message.contains("bad-cmyk.jpg") && message.contains("RGB"), "{message}");
}

/// Known by its content: the name does not matter.
#[test]
fn a_tiff_is_read_under_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.png");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiff/u8-strips.tif");
    fs::copy(fixture, &path).unwrap();
    let mut file = ImageFile::open(&path).unwrap();
    let info = file.info();
    let mut pages = Vec::new();
    let in_order = StackReader::open(&path).unwrap();
    in_order
        .for_each_page(|_, page| pages.push(if let Samples::U8(values) = page { values.to_vec() } else { panic!() }))
        .unwrap();
    assert_eq!(pages.len(), info.pages);
    // Any order.
    for index in (0..info.pages).rev() {
        assert_eq!(file.page(index).unwrap().samples, SampleBuffer::U8(pages[index].clone()));
    }
}

#[test]
fn damaged_and_foreign_files_are_named_with_what_to_do() {
    let (folder, path) = place();
    write_png(&path, [64, 64], ::png::ColorType::Grayscale, ::png::BitDepth::Eight, &[7; 64 * 64]);
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    // A header that promises 2^31 pixels a side; its checksum is right.
    let mut huge = good.clone();
    huge[16..20].copy_from_slice(&0x7fff_ffffu32.to_be_bytes());
    huge[20..24].copy_from_slice(&0x7fff_ffffu32.to_be_bytes());
    let sum = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&sum.to_be_bytes());
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (good[..good.len() - 20].to_vec(), "cut short"),
        (good[..20].to_vec(), "damaged"),
        (flipped, "damaged"),
        (huge, "damaged"),
        (Vec::new(), "empty"),
        (b"GIF89a...".to_vec(), "GIF"),
        (b"hello there".to_vec(), "neither TIFF, PNG nor JPEG"),
        ([0x1f, 0x8b, 8, 0].to_vec(), "NIfTI"),
    ];
    for (bytes, words) in cases {
        fs::write(&path, bytes).unwrap();
        let message = refusal(&path);
        assert!(message.contains("image.png") && message.contains(words), "{words}: {message}");
    }
    let jpeg = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images/colour.jpg")).unwrap();
    for length in [3, 100, jpeg.len() / 2] {
        fs::write(&path, &jpeg[..length]).unwrap();
        let message = refusal(&path);
        assert!(message.contains("image.png") && message.contains("again"), "{length}: {message}");
    }
    assert!(refusal(folder.path()).contains("a folder"));
    assert!(refusal(&folder.path().join("nothing.png")).contains("nothing.png"));
}

/// The checksum of a PNG chunk, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, &byte: &u8| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// The hand-made cases that fuzzing starts from: those that are sound give as many samples as they say.
#[test]
fn the_fuzzing_seeds_are_read_or_refused() {
    let (_folder, path) = place();
    let mut read_ones = Vec::new();
    for (name, bytes) in crate::testing::fuzz_seeds("image") {
        fs::write(&path, bytes).unwrap();
        if let Ok((info, image)) = read(&path) {
            assert_eq!(image.samples.samples().len(), info.height * info.width * info.channels, "{name}");
            read_ones.push(name);
        }
    }
    let expected = ["bit.png", "colour.jpg", "grey.jpg", "grey.png", "grey16.png", "palette2.png", "progressive.jpg"];
    assert_eq!(read_ones, [&expected[..], &["rgba.png"]].concat());
}
