//! Layouts of one file for each slice: plain folders, and a raw dataset of nnU-Net v2.
//!
//! Source: nnU-Net's documentation/dataset_format.md. Its class 0 must have the name "background".

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ndarray::{ArrayView2, ArrayView3, Axis, s};
use serde_json::{Value, json};

use super::dataset::{Piece, stored_labels};
use super::{classes, stains};
use crate::cli::PhantomLayout;
use crate::files::{create_parent, write_atomically, write_json};

const DATASET_JSON: &str = "dataset.json";

/// What a file holds of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// All channels: grey or RGB.
    Image,
    /// One channel.
    Channel(usize),
    Labels,
}

/// A folder of PNG files.
#[derive(Debug)]
struct Folder {
    name: &'static str,
    /// 0 for training, 1 for testing.
    piece: usize,
    /// How the names of the files of each slice begin.
    contents: Vec<Content>,
}

/// The files of a dataset.
#[derive(Debug)]
pub struct Plan {
    layout: PhantomLayout,
    slices: usize,
    folders: [Folder; 4],
}

/// Plans a layout other than stacks.
pub fn plan(layout: PhantomLayout, slices: usize, channels: usize) -> Plan {
    let is_nnunet = layout == PhantomLayout::Nnunet;
    let names = if is_nnunet {
        ["imagesTr", "labelsTr", "imagesTs", "labelsTs"]
    } else {
        ["images", "masks", "test", "test-masks"]
    };
    let images: Vec<Content> =
        if is_nnunet { (0..channels).map(Content::Channel).collect() } else { vec![Content::Image] };
    let folders = [
        Folder { name: names[0], piece: 0, contents: images.clone() },
        Folder { name: names[1], piece: 0, contents: vec![Content::Labels] },
        Folder { name: names[2], piece: 1, contents: images },
        Folder { name: names[3], piece: 1, contents: vec![Content::Labels] },
    ];
    Plan { layout, slices, folders }
}

impl Plan {
    /// Every file that `write` writes.
    pub fn paths(&self, out: &Path) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for folder in &self.folders {
            for slice in 0..self.slices {
                paths.extend(folder.contents.iter().map(|content| self.path(out, folder, slice, *content)));
            }
        }
        paths.extend(self.is_nnunet().then(|| out.join(DATASET_JSON)));
        paths
    }

    /// Writes the files below `out`; prints each folder with its number of files.
    pub fn write(&self, out: &Path, pieces: [Piece; 2], classes: u8) -> Result<()> {
        let channels = pieces[0].images.dim().3;
        // nnU-Net wants class indices, of two classes too.
        let stored = |piece: Piece| Piece { labels: stored_labels(piece.labels, classes), ..piece };
        let pieces = if self.is_nnunet() { pieces } else { pieces.map(stored) };
        for folder in &self.folders {
            create_parent(&self.path(out, folder, 0, folder.contents[0]))?;
            let piece = &pieces[folder.piece];
            for (slice, (image, labels)) in piece.images.outer_iter().zip(piece.labels.outer_iter()).enumerate() {
                for &content in &folder.contents {
                    let path = self.path(out, folder, slice, content);
                    write_atomically(&path, &content.png(image, labels)?)?;
                }
            }
            println!("{}: {} files", out.join(folder.name).display(), self.slices * folder.contents.len());
        }
        if self.is_nnunet() {
            let path = out.join(DATASET_JSON);
            write_json(&path, &description(self.slices, channels, classes))?;
            println!("{}", path.display());
        }
        Ok(())
    }

    fn is_nnunet(&self) -> bool {
        self.layout == PhantomLayout::Nnunet
    }

    /// Numbers have equally many digits, so that names and slices have one order.
    fn path(&self, out: &Path, folder: &Folder, slice: usize, content: Content) -> PathBuf {
        let digits = self.slices.saturating_sub(1).to_string().len();
        let name = match content {
            Content::Channel(channel) => format!("phantom_{slice:0width$}_{channel:04}.png", width = digits.max(3)),
            Content::Labels if self.is_nnunet() => format!("phantom_{slice:0width$}.png", width = digits.max(3)),
            Content::Image | Content::Labels => format!("slice_{slice:0width$}.png", width = digits.max(2)),
        };
        out.join(folder.name).join(name)
    }
}

impl Content {
    /// The file of a slice, of which `image` is `[size, size, channels]` and `labels` `[size, size]`.
    fn png(self, image: ArrayView3<u8>, labels: ArrayView2<u8>) -> Result<Vec<u8>> {
        match self {
            Self::Labels => grey_png(labels),
            Self::Channel(channel) => grey_png(image.slice(s![.., .., channel])),
            Self::Image if image.dim().2 == 1 => grey_png(image.index_axis(Axis(2), 0)),
            Self::Image => {
                let samples: Vec<u8> = image.iter().copied().collect();
                png(&samples, image.dim().1, image.dim().0, png::ColorType::Rgb)
            }
        }
    }
}

fn grey_png(page: ArrayView2<u8>) -> Result<Vec<u8>> {
    let samples: Vec<u8> = page.iter().copied().collect();
    png(&samples, page.ncols(), page.nrows(), png::ColorType::Grayscale)
}

fn png(samples: &[u8], width: usize, height: usize, colour: png::ColorType) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, u32::try_from(width)?, u32::try_from(height)?);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().context("cannot make a PNG")?;
    writer.write_image_data(samples).context("cannot make a PNG")?;
    writer.finish().context("cannot make a PNG")?;
    Ok(bytes)
}

/// The dataset.json of nnU-Net v2.
fn description(slices: usize, channels: usize, classes: u8) -> Value {
    let named = |(index, name): (usize, &&str)| ((*name).to_owned(), json!(index));
    let labels = ["background"].iter().chain(&classes::NAMES[1..]).take(usize::from(classes)).enumerate().map(named);
    let channel_names = stains::NAMES.iter().take(channels).enumerate().map(|(at, name)| (at.to_string(), json!(name)));
    json!({
        "channel_names": channel_names.collect::<serde_json::Map<_, _>>(),
        "labels": labels.collect::<serde_json::Map<_, _>>(),
        "numTraining": slices,
        "file_ending": ".png",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_equally_many_digits() {
        let first_and_last = |layout, slices| {
            let paths = plan(layout, slices, 1).paths(Path::new("out"));
            [&paths[0], &paths[slices - 1]].map(|path| path.display().to_string())
        };
        let folders = PhantomLayout::Folders;
        assert_eq!(first_and_last(folders, 2), ["out/images/slice_00.png", "out/images/slice_01.png"]);
        assert_eq!(first_and_last(folders, 101), ["out/images/slice_000.png", "out/images/slice_100.png"]);
        let nnunet = first_and_last(PhantomLayout::Nnunet, 1001);
        assert_eq!(nnunet, ["out/imagesTr/phantom_0000_0000.png", "out/imagesTr/phantom_1000_0000.png"]);
    }

    #[test]
    fn dataset_json_is_in_the_form_of_nnunet_v2() {
        let expected = json!({
            "channel_names": { "0": "electron_microscopy", "1": "membrane_stain" },
            "labels": { "background": 0, "cell": 1, "mitochondrion": 2 },
            "numTraining": 7,
            "file_ending": ".png",
        });
        assert_eq!(description(7, 2, 3), expected);
    }
}
