//! Files and folders that the user names, in place of a dataset: each image is a case of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::cases::{Case, entries, note_others};
use super::missing::{explain_file, explain_folder};
use crate::data::image_file::has_image_suffix;

/// Images that were named, and notes on what is left out of the folders among them.
pub struct Found {
    pub cases: Vec<Case>,
    pub notes: Vec<String>,
}

/// The images among `paths`, in their order; those of a folder in the order of their names, without its subfolders.
///
/// Errors: a path that is not there, a folder without images, and two images whose results would have one name.
pub fn find(paths: &[PathBuf]) -> Result<Found> {
    let (mut cases, mut notes) = (Vec::new(), Vec::new());
    for path in paths {
        if path.is_dir() {
            if let Some(problem) = explain_folder(path) {
                bail!("{problem}");
            }
            let (images, others): (Vec<PathBuf>, Vec<PathBuf>) =
                entries(path)?.into_iter().partition(|path| has_image_suffix(path));
            if images.is_empty() {
                bail!("no image in the folder '{}'; name a folder with .tif, .png or .jpg files", path.display());
            }
            let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            notes.extend(note_others(path, &others.iter().map(name).collect::<Vec<_>>()));
            cases.extend(images.into_iter().map(case));
        } else if path.exists() {
            cases.push(case(path.clone()));
        } else if let Some(problem) = explain_file(path) {
            bail!("{problem}");
        } else {
            bail!("no file or folder '{}'; --input names images, or folders of them", path.display());
        }
    }
    let mut by_name: BTreeMap<&str, &Path> = BTreeMap::new();
    for case in &cases {
        if let Some(first) = by_name.insert(&case.name, &case.images[0]) {
            bail!(
                "'{}' and '{}' would have results of one name; predict them into different folders",
                first.display(),
                case.images[0].display()
            );
        }
    }
    Ok(Found { cases, notes })
}

fn case(path: PathBuf) -> Case {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Case { name, images: vec![path], labels: None }
}
