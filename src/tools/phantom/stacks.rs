//! The layout of the ISBI 2012 challenge: four TIFF stacks.

use std::path::Path;

use anyhow::Result;
use ndarray::{Array3, Array4, Axis, s};

use super::dataset::{Piece, stored_labels};
use crate::data::layout::{TEST_LABELS, TEST_VOLUME, TRAIN_LABELS, TRAIN_VOLUME};
use crate::data::tiff::{SampleKind, StackWriter};

/// Images and labels of both pieces.
pub const NAMES: [&str; 4] = [TRAIN_VOLUME, TRAIN_LABELS, TEST_VOLUME, TEST_LABELS];

/// Writes the stacks into `out` and prints their paths.
pub fn write(out: &Path, pieces: [Piece; 2], classes: u8) -> Result<()> {
    let paths = NAMES.map(|name| out.join(name));
    for (piece, paths) in pieces.into_iter().zip(paths.chunks(2)) {
        write_images(&paths[0], piece.images)?;
        println!("{}", paths[0].display());
        write_grey(&paths[1], &stored_labels(piece.labels, classes))?;
        println!("{}", paths[1].display());
    }
    Ok(())
}

/// Writes images, `[slices, size, size, channels]`: three channels as RGB pages, two or four as an ImageJ hyperstack.
fn write_images(path: &Path, images: Array4<u8>) -> Result<()> {
    let (slices, height, width, channels) = images.dim();
    match channels {
        1 => write_grey(path, &images.index_axis_move(Axis(3), 0)),
        3 => {
            let mut writer = StackWriter::create(path, slices, height, width, SampleKind::Rgb8, None)?;
            for page in images.outer_iter() {
                writer.write_rgb8(&page.iter().copied().collect::<Vec<u8>>())?;
            }
            Ok(writer.finish()?)
        }
        _ => {
            let kind = SampleKind::U8;
            let mut writer = StackWriter::create_hyperstack(path, slices, channels, height, width, kind, None)?;
            for (slice, channel) in (0..slices).flat_map(|slice| (0..channels).map(move |channel| (slice, channel))) {
                let plane = images.slice(s![slice, .., .., channel]);
                writer.write_u8(&plane.iter().copied().collect::<Vec<u8>>())?;
            }
            Ok(writer.finish()?)
        }
    }
}

fn write_grey(path: &Path, stack: &Array3<u8>) -> Result<()> {
    let (pages, height, width) = stack.dim();
    let mut writer = StackWriter::create(path, pages, height, width, SampleKind::U8, None)?;
    for page in stack.outer_iter() {
        writer.write_u8(&page.iter().copied().collect::<Vec<u8>>())?;
    }
    Ok(writer.finish()?)
}
