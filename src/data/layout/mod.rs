//! Which files of a folder belong together: the layouts that datasets come in, found by what the folder holds.
//!
//! Here: names and pairs. Nothing is opened but a dataset's own description (`nnunet`).

use std::path::Path;

use anyhow::{Result, bail};

mod bowl;
mod cases;
mod folders;
pub mod loose;
pub mod missing;
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
        if let Some(problem) = missing::explain_folder(root) {
            bail!("{problem}; --data_dir names the folder of a dataset");
        }
        if !root.is_dir() {
            bail!("no folder '{}'; --data_dir names the folder of a dataset", root.display());
        }
        let has = |name: &str| root.join(name).is_dir();
        if [TRAIN_VOLUME, TRAIN_LABELS, TEST_VOLUME].iter().any(|name| root.join(name).is_file()) {
            require_pair(root)?;
            Ok(stacks(root))
        } else if has("imagesTr") || root.join(nnunet::DESCRIPTION).is_file() {
            nnunet::find(root)
        } else if has("images") {
            folders::find(root)
        } else if let Some(layout) = bowl::find(root)? {
            Ok(layout)
        } else {
            bail!("{}", no_dataset(root))
        }
    }
}

/// Errors: of a training stack and its labels one is there, and something is amiss with the other.
fn require_pair(root: &Path) -> Result<()> {
    let [volume, labels] = [TRAIN_VOLUME, TRAIN_LABELS].map(|name| root.join(name));
    let other = match (volume.is_file(), labels.is_file()) {
        (true, false) => labels,
        (false, true) => volume,
        _ => return Ok(()),
    };
    match missing::explain_file(&other) {
        Some(problem) => bail!("{problem}"),
        None => Ok(()),
    }
}

/// Why `name` is no file in the folder of the challenge's stacks, and what to do.
pub fn missing_stack(root: &Path, name: &str) -> String {
    missing::explain_file(&root.join(name)).unwrap_or_else(|| {
        let named = "the stacks are named as in the ISBI 2012 challenge";
        format!("no '{name}' in '{}'; {named}{}", root.display(), synthetic(root))
    })
}

/// The way to a synthetic dataset, for those who have no images.
fn synthetic(root: &Path) -> &'static str {
    if missing::is_without_images(root) { "; 'unet phantom --out DIR' makes a synthetic set" } else { "" }
}

/// What a folder has of a dataset that is nearly one, or what datasets there are.
fn no_dataset(root: &Path) -> String {
    let stacks = [TRAIN_VOLUME, TRAIN_LABELS, TEST_VOLUME].map(|name| root.join(name));
    let near: Vec<String> = stacks.iter().filter_map(|path| missing::explain_file(path)).collect();
    if !near.is_empty() {
        return near.join("; ");
    }
    if let Some(folder) = missing::folder_with(root, TRAIN_VOLUME) {
        return format!("no dataset in '{}', but in '{folder}'; give that folder to --data_dir", root.display());
    }
    let folders = ["images", "imagesTr"].map(|name| root.join(name));
    if let Some(near) = folders.iter().find_map(|path| missing::explain_folder(path)) {
        return near;
    }
    format!(
        "no dataset in '{}': it has neither '{TRAIN_VOLUME}' (ISBI 2012 stacks), 'images' with 'masks' or 'labels', a \
         folder per image with 'images' and 'masks', nor 'imagesTr' (nnU-Net); see docs/data.md{}",
        root.display(),
        synthetic(root)
    )
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
