//! Tests of TIFF stacks; this file has what they share. The fixtures are by other writers: see
//! `tests/fixtures/tiff/make.py`.

mod hostile;
mod planes;
mod read;
mod write;

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use super::{Resolution, SampleFormat, StackReader, TiffError};

/// The samples of all pages.
#[derive(Debug, Clone, PartialEq)]
enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
    F32(Vec<f32>),
}

/// A whole stack.
#[derive(Debug, Clone, PartialEq)]
struct Stack {
    pages: usize,
    height: usize,
    width: usize,
    channels: usize,
    samples: Samples,
    resolution: Option<Resolution>,
}

fn read_stack(path: &Path) -> Result<Stack, TiffError> {
    collect(StackReader::open(path)?)
}

fn collect(reader: StackReader<impl Read + Seek>) -> Result<Stack, TiffError> {
    let [pages, height, width] = reader.size();
    let channels = reader.channels();
    let resolution = reader.resolution().cloned();
    let mut samples = match reader.format() {
        SampleFormat::U8 => Samples::U8(Vec::new()),
        SampleFormat::U16 => Samples::U16(Vec::new()),
        SampleFormat::F32 => Samples::F32(Vec::new()),
    };
    let mut seen = 0;
    reader.for_each_page(|index, page| {
        assert_eq!(index, seen);
        seen += 1;
        match (&mut samples, page) {
            (Samples::U8(all), super::Samples::U8(page)) => all.extend(page),
            (Samples::U16(all), super::Samples::U16(page)) => all.extend(page),
            (Samples::F32(all), super::Samples::F32(page)) => all.extend(page),
            _ => panic!("a page of another type than announced"),
        }
    })?;
    assert_eq!(seen, pages);
    Ok(Stack { pages, height, width, channels, samples, resolution })
}

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiff")).join(name)
}

/// The message of a refusal.
fn refusal<T>(result: Result<T, TiffError>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}

fn assert_words(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "no '{word}' in: {message}");
    }
}

impl Samples {
    fn len(&self) -> usize {
        match self {
            Samples::U8(samples) => samples.len(),
            Samples::U16(samples) => samples.len(),
            Samples::F32(samples) => samples.len(),
        }
    }
}

/// Name and number of pages of each fixture of one channel that is stored without loss.
const ACCEPTED: [(&str, usize); 35] = [
    ("u8-strips.tif", 3),
    ("u16-little-endian.tif", 3),
    ("u16-big-endian.tif", 3),
    ("f32-little-endian.tif", 2),
    ("f32-big-endian.tif", 2),
    ("u8-bigtiff.tif", 3),
    ("u16-bigtiff-big-endian.tif", 3),
    ("f32-bigtiff-deflate.tif", 2),
    ("u8-packbits.tif", 3),
    ("u16-packbits-big-endian.tif", 3),
    ("u8-lzw-pillow.tif", 3),
    ("u8-lzw-predictor2.tif", 3),
    ("u16-lzw-predictor2-big-endian.tif", 3),
    ("f32-lzw-predictor3-big-endian.tif", 2),
    ("u8-deflate-old.tif", 3),
    ("u16-deflate-predictor2.tif", 3),
    ("f32-deflate-predictor3.tif", 2),
    ("f32-pillow.tif", 2),
    ("u8-tiles.tif", 3),
    ("u8-tile-larger-than-page.tif", 3),
    ("u16-tiles-lzw-predictor2.tif", 3),
    ("u16-tiles-big-endian-white.tif", 1),
    ("f32-tiles-deflate-predictor3.tif", 2),
    ("u8-white-is-zero.tif", 3),
    ("u16-white-is-zero-lzw.tif", 3),
    ("u8-imagej.tif", 3),
    ("u8-imagej-one-directory.tif", 3),
    ("u16-imagej-one-directory.tif", 3),
    ("f32-imagej-one-directory.tif", 2),
    ("u8-zstd.tif", 3),
    ("u16-zstd-predictor2.tif", 3),
    ("f32-tiles-zstd-predictor3-big-endian.tif", 2),
    ("u8-palette.tif", 1),
    ("u8-palette-deflate.tif", 2),
    ("u8-palette-pillow.tif", 1),
];

/// Name, number of pages and channels of each fixture of several channels or with alpha.
const CHANNELS: [(&str, usize, usize); 21] = [
    ("u8-rgb-strips.tif", 3, 3),
    ("u8-rgb-planar-strips.tif", 3, 3),
    ("u8-rgb-planar-tiles.tif", 1, 3),
    ("u8-rgb-tiles-lzw-predictor2.tif", 1, 3),
    ("u8-rgb-pillow.tif", 3, 3),
    ("u16-rgb-big-endian.tif", 1, 3),
    ("u16-rgb-planar-big-endian-deflate.tif", 1, 3),
    ("f32-rgb-deflate-predictor3.tif", 1, 3),
    ("u8-rgba.tif", 2, 3),
    ("u16-rgba-planar-tiles-zstd.tif", 1, 3),
    ("u16-rgba-lzw-predictor2.tif", 1, 3),
    ("u8-grey-alpha-pillow.tif", 3, 1),
    ("u8-5-channels.tif", 2, 5),
    ("u16-5-channels-planar.tif", 1, 5),
    ("u16-2-channels-white.tif", 1, 2),
    ("f32-5-channels-tiles-deflate-predictor3.tif", 1, 5),
    ("u8-16-channels-zstd.tif", 1, 16),
    ("u8-rgb-and-one.tif", 2, 4),
    ("u8-hyperstack.tif", 2, 3),
    ("u8-hyperstack-one-directory.tif", 2, 3),
    ("u16-hyperstack-of-frames-one-directory.tif", 2, 2),
];

/// Name and channels of each fixture of one page in JPEG, which is within 1 of the formula.
const JPEG: [(&str, usize); 5] = [
    ("u8-jpeg.tif", 1),
    ("u8-jpeg-tiles.tif", 1),
    ("u8-rgb-jpeg.tif", 3),
    ("u8-rgb-planar-jpeg.tif", 3),
    ("u8-rgb-jpeg-tables-pillow.tif", 3),
];

/// The names of all fixtures that can be read.
fn sound_fixtures() -> impl Iterator<Item = &'static str> {
    let one_channel = ACCEPTED.iter().map(|(name, _)| *name);
    let several = CHANNELS.iter().map(|(name, ..)| *name);
    one_channel.chain(several).chain(JPEG.iter().map(|(name, _)| *name))
}
