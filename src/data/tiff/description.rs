//! What other programs write into a file about its planes: ImageJ's and tifffile's texts, MetaMorph's tags.
//!
//! A promise is a number of planes. It counts for the directories from its own up to the next one with a promise.
//! Source: ImageJ's `FileInfo`, tifffile's `shaped` series, "MetaMorph Stack (STK) Image File Format".
//! Not here: OME-XML (`ome`), whether the promise is kept (`planes`).

use std::io::{Read, Seek};

use serde::Deserialize;

use super::directory::{Scanner, imagej};
use super::page::Page;

/// MetaMorph's tags with a value for each plane: UIC2 (the times), UIC3 (the wavelengths), UIC4.
const PLANE_TAGS: [u16; 3] = [33629, 33630, 33631];

/// A number of planes that a directory speaks of.
#[derive(Debug, Clone, PartialEq)]
pub struct Promise {
    pub planes: u64,
    /// Who says so, for messages.
    pub source: &'static str,
    /// How the planes are ordered, where several are the channels of an image.
    pub channels: Option<Channels>,
}

/// Planes that are the channels of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Channels {
    pub count: u64,
    /// Distance of two channels of an image, in planes.
    pub stride: u64,
    /// Whether nothing but the channels is counted: these could as well be slices.
    pub alone: bool,
    /// Slices and frames, for messages; `None` where the text does not give them.
    pub others: Option<[u64; 2]>,
    /// ImageJ's, which with several samples per pixel are those samples.
    pub of_samples: bool,
}

impl Promise {
    /// What the directory that was read last says; `text` is its ImageDescription.
    pub fn read(scanner: &Scanner<impl Read + Seek>, text: &str, page: &Page) -> Option<Promise> {
        let stk = || {
            let planes = PLANE_TAGS.iter().map(|&tag| scanner.count(tag)).find(|&count| count > 0)?;
            Some(Promise { planes, source: "MetaMorph tags", channels: None })
        };
        Promise::imagej(text).or_else(|| Promise::shape(text, page)).or_else(stk)
    }

    /// The promise of ImageJ's text.
    fn imagej(text: &str) -> Option<Promise> {
        let number = |key| imagej::<u64>(text, key).filter(|&number| number > 0);
        let (slices, frames) = (number("slices"), number("frames"));
        let others = slices.unwrap_or(1).saturating_mul(frames.unwrap_or(1));
        let channels = number("channels").filter(|&channels| channels > 1);
        let images = number("images").or_else(|| Some(others.saturating_mul(channels.unwrap_or(1))))?;
        let channels = channels.map(|count| Channels {
            count,
            stride: 1,
            alone: others == 1 && count == images,
            others: (slices.is_some() || frames.is_some()).then_some([slices.unwrap_or(1), frames.unwrap_or(1)]),
            of_samples: true,
        });
        (images > 1 || channels.is_some()).then_some(Promise { planes: images, source: "ImageJ description", channels })
    }

    /// The promise of tifffile's text, if its shape ends with that of the page.
    fn shape(text: &str, page: &Page) -> Option<Promise> {
        let Shaped { shape, axes } = Shaped::parse(text)?;
        let samples = page.pixel.samples as u64;
        let (height, width) = (page.height, page.width);
        let ends = match (samples, page.pixel.planar) {
            (1, _) => vec![vec![height, width], vec![height, width, 1]],
            (_, false) => vec![vec![height, width, samples]],
            (_, true) => vec![vec![samples, height, width]],
        };
        let end = ends.iter().find(|end| shape.ends_with(end))?;
        let outer = &shape[..shape.len() - end.len()];
        let product = |sides: &[u64]| sides.iter().fold(1u64, |product, &side| product.saturating_mul(side));
        let planes = product(outer);
        let axes = axes.filter(|axes| axes.is_ascii() && axes.len() == shape.len()).unwrap_or_default();
        let channels = axes.get(..outer.len()).unwrap_or_default().find('C').map(|at| {
            let (count, stride) = (outer[at], product(&outer[at + 1..]));
            Channels { count, stride, alone: false, others: None, of_samples: false }
        });
        let channels = channels.filter(|channels| channels.count > 1);
        (planes > 1).then_some(Promise { planes, source: "tifffile description", channels })
    }
}

/// tifffile's text. Other keys are free.
#[derive(Deserialize)]
struct Shaped {
    shape: Vec<u64>,
    #[serde(default)]
    axes: Option<String>,
}

impl Shaped {
    fn parse(text: &str) -> Option<Shaped> {
        serde_json::from_str(text.trim_end_matches('\0')).ok()
    }
}

/// Whether tifffile wrote the colour planes of a page from an array `[3, H, W]`, which may as well have been slices.
pub fn could_be_slices(text: &str, page: &Page) -> bool {
    let is_shape = |shape: &[u64]| shape == [page.pixel.samples as u64, page.height, page.width];
    page.pixel.planar && Shaped::parse(text).is_some_and(|text| text.axes.is_none() && is_shape(&text.shape))
}
