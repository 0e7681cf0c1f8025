//! What a layout is made of, and what finding one needs in each kind of folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::data::image_file::has_image_suffix;
use crate::data::labels::{CHALLENGE_CLASSES, LabelMap};

/// How a dataset is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The three stacks of the ISBI 2012 challenge.
    Stacks,
    /// `images/` with `masks/` or `labels/`.
    Folders,
    /// A folder per image, with a mask file per object: the 2018 Data Science Bowl.
    ObjectMasks,
    /// `imagesTr/`, `labelsTr/`, `imagesTs/` and `dataset.json`: nnU-Net's raw data.
    NnUnet,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stacks => "stacks (train-volume.tif, train-labels.tif, test-volume.tif)",
            Self::Folders => "folders (images/ with masks/ or labels/)",
            Self::ObjectMasks => "a folder per image with a mask for each object (2018 Data Science Bowl)",
            Self::NnUnet => "nnU-Net raw data (imagesTr/, labelsTr/, dataset.json)",
        }
    }

    /// Whether these are the challenge's stacks, of which the reference's output is kept as it is.
    pub fn is_challenge(self) -> bool {
        self == Self::Stacks
    }

    /// Names of the classes of labels that are 0 and one other value.
    pub fn names_of_two(self) -> [&'static str; 2] {
        match self {
            Self::Stacks => CHALLENGE_CLASSES,
            _ => ["background", "foreground"],
        }
    }
}

/// An image of one or more pages, with its labels where it has some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The path of its first file below the dataset's folder, without suffix: unique within the dataset.
    pub name: String,
    /// Files whose channels follow each other.
    pub images: Vec<PathBuf>,
    pub labels: Option<LabelFiles>,
}

/// Where the labels of an image are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelFiles {
    /// A file of as many pages as the image.
    One(PathBuf),
    /// A mask for each object; an object is what is not 0.
    Objects(Vec<PathBuf>),
}

/// The files of a dataset.
#[derive(Debug, Clone)]
pub struct Layout {
    pub kind: Kind,
    pub root: PathBuf,
    /// With labels.
    pub training: Vec<Case>,
    /// Without labels.
    pub test: Vec<Case>,
    /// What the dataset's own description says.
    pub description: Option<Description>,
    /// What is amiss: each names its files.
    pub problems: Vec<String>,
    /// What is left out, for people to know.
    pub notes: Vec<String>,
}

/// What a dataset says of itself.
#[derive(Debug, Clone)]
pub struct Description {
    pub map: LabelMap,
    pub channels: Vec<String>,
    /// Names of cases that train and that validate, for each fold.
    pub folds: Vec<[Vec<String>; 2]>,
}

impl Layout {
    /// Errors: all problems, a line each.
    pub fn require(&self) -> Result<()> {
        fail_with(&self.root, &self.problems)
    }

    /// A layout without images.
    pub fn new(kind: Kind, root: &Path) -> Self {
        Self {
            kind,
            root: root.to_owned(),
            training: Vec::new(),
            test: Vec::new(),
            description: None,
            problems: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// Errors: `problems` of the dataset in `root`, a line each, unless there are none.
pub fn fail_with(root: &Path, problems: &[String]) -> Result<()> {
    const MOST_LINES: usize = 50;
    match problems {
        [] => return Ok(()),
        [problem] => bail!("{problem}"),
        _ => {}
    }
    let mut lines: String = problems.iter().take(MOST_LINES).map(|problem| format!("\n  {problem}")).collect();
    if problems.len() > MOST_LINES {
        lines += &format!("\n  and {} more", problems.len() - MOST_LINES);
    }
    let root = root.display();
    bail!("'{root}': {} problem(s); 'unet inspect --data_dir {root}' lists all{lines}", problems.len())
}

/// The image files of a folder by their stems, in order, and the names of other files. Hidden files are left out.
///
/// Errors: a folder that cannot be read. Two files of one stem are problems.
pub fn images_by_stem(folder: &Path, problems: &mut Vec<String>) -> Result<(BTreeMap<String, PathBuf>, Vec<String>)> {
    let mut images: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut others = Vec::new();
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() || !has_image_suffix(&path) {
            others.push(name);
            continue;
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(first) = images.get(&stem) {
            problems.push(format!("'{}' and '{name}' have one stem; keep one of them", first.display()));
            continue;
        }
        images.insert(stem, path);
    }
    Ok((images, others))
}

/// The entries of a folder in the order of their names, without hidden ones.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()
    };
    let mut paths = read().with_context(|| format!("cannot read the folder '{}'", folder.display()))?;
    paths.retain(|path| !path.file_name().unwrap_or_default().to_string_lossy().starts_with('.'));
    paths.sort();
    Ok(paths)
}

/// A note on files that are no images.
pub fn note_others(folder: &Path, others: &[String]) -> Option<String> {
    let first = others.first()?;
    let more = if others.len() > 1 { format!(" and {} more", others.len() - 1) } else { String::new() };
    Some(format!("'{}': '{first}'{more} left out, no image files", folder.display()))
}
