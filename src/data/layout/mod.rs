//! Which files of a folder belong together: the layouts that datasets come in, found by what the folder holds.
//!
//! Here: names and pairs. Nothing is opened but a dataset's own description (`nnunet`).

use std::path::Path;

use anyhow::{Result, bail};

mod bowl;
mod cases;
mod folders;
pub mod loose;
mod nnunet;
#[cfg(test)]
mod tests;

pub use cases::{Case, Kind, LabelFiles, Layout, fail_with};

pub const TRAIN_VOLUME: &str = "train-volume.tif";
pub const TRAIN_LABELS: &str = "train-labels.tif";
pub const TEST_VOLUME: &str = "test-volume.tif";
/// Not part of the challenge's first release, and never needed.
pub const TEST_LABELS: &str = "test-labels.tif";

impl Layout {
    /// Finds out how `root` is laid out and which files belong together. What is amiss is in `problems`.
    ///
    /// Errors: no such folder, or none of the layouts.
    pub fn find(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            bail!("no folder '{}'; --data_dir names the folder of a dataset", root.display());
        }
        let has = |name: &str| root.join(name).is_dir();
        if [TRAIN_VOLUME, TRAIN_LABELS, TEST_VOLUME].iter().any(|name| root.join(name).exists()) {
            Ok(stacks(root))
        } else if has("imagesTr") || root.join(nnunet::DESCRIPTION).is_file() {
            nnunet::find(root)
        } else if has("images") {
            folders::find(root)
        } else if let Some(layout) = bowl::find(root)? {
            Ok(layout)
        } else {
            bail!(
                "no dataset in '{}': it has neither '{TRAIN_VOLUME}' (ISBI 2012 stacks), 'images' with 'masks' or \
                 'labels', a folder per image with 'images' and 'masks', nor 'imagesTr' (nnU-Net); see docs/data.md; \
                 'unet phantom --out DIR' makes a synthetic set",
                root.display()
            )
        }
    }
}

/// The challenge's stacks. Files that a run needs and that are absent are its errors, not those of the layout.
fn stacks(root: &Path) -> Layout {
    let mut layout = Layout::new(Kind::Stacks, root);
    let case = |image: &str, labels: Option<&str>| Case {
        name: image.trim_end_matches(".tif").to_owned(),
        images: vec![root.join(image)],
        labels: labels.map(|name| LabelFiles::One(root.join(name))),
    };
    if root.join(TRAIN_VOLUME).exists() || root.join(TRAIN_LABELS).exists() {
        layout.training.push(case(TRAIN_VOLUME, Some(TRAIN_LABELS)));
    }
    if root.join(TEST_VOLUME).exists() {
        layout.test.push(case(TEST_VOLUME, None));
    }
    layout
}
