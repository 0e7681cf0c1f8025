//! nnU-Net's raw data: `imagesTr/CASE_0000.ext` with a file per channel, `labelsTr/CASE.ext`, `imagesTs/`, and
//! `dataset.json`; folds from `splits_final.json`.
//!
//! Source: nnU-Net v2, documentation/dataset_format.md. `modality` is version 1's name of `channel_names`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::cases::{Case, Description, Kind, LabelFiles, Layout, entries};
use crate::data::image_file::{MOST_CHANNELS, has_image_suffix};
use crate::data::labels::{LabelMap, LabelValue};

pub const DESCRIPTION: &str = "dataset.json";
const FOLDS: &str = "splits_final.json";
const IMAGES: &str = "imagesTr";
const LABELS: &str = "labelsTr";
const TEST: &str = "imagesTs";

#[derive(Debug, Deserialize)]
struct DatasetJson {
    #[serde(alias = "modality")]
    channel_names: Map<String, Value>,
    labels: Map<String, Value>,
    #[serde(rename = "numTraining")]
    num_training: Option<usize>,
    file_ending: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Fold {
    train: Vec<String>,
    val: Vec<String>,
}

pub fn find(root: &Path) -> Result<Layout> {
    let mut layout = Layout::new(Kind::NnUnet, root);
    let path = root.join(DESCRIPTION);
    let bytes = fs::read(&path).with_context(|| {
        format!(
            "cannot read '{}'; nnU-Net's raw data have one, with channel_names, labels and file_ending",
            path.display()
        )
    })?;
    let (description, json) = read(&bytes).with_context(|| format!("cannot use '{}'", path.display()))?;
    let ending = json.file_ending.as_deref();
    if let Some(ending) = ending.filter(|ending| !has_image_suffix(Path::new(&format!("case{ending}")))) {
        bail!("'{}' says file_ending '{ending}'; .tif, .png and .jpg are read, convert the images", path.display());
    }
    let images = cases(&root.join(IMAGES), ending, &mut layout)?;
    let mut labels = label_files(&root.join(LABELS), ending)?;
    for (name, images) in images {
        match labels.remove(&name) {
            Some(label) => layout.training.push(Case { name, images, labels: Some(LabelFiles::One(label)) }),
            None => layout.problems.push(format!(
                "'{}' has no label; add '{LABELS}/{name}{}'",
                images[0].display(),
                ending.unwrap_or(".png")
            )),
        }
    }
    layout.problems.extend(labels.values().map(|label| format!("'{}' is the label of no image", label.display())));
    if root.join(TEST).is_dir() {
        let test = cases(&root.join(TEST), ending, &mut layout)?;
        layout.test = test.into_iter().map(|(name, images)| Case { name, images, labels: None }).collect();
    }
    let found = layout.training.len();
    if let Some(promised) = json.num_training.filter(|&promised| promised != found) {
        let path = path.display();
        layout.problems.push(format!("'{path}' says numTraining {promised}, {found} pairs are there; correct either"));
    }
    let folds = folds(&root.join(FOLDS), &mut layout)?;
    layout.description = Some(Description { folds, ..description });
    Ok(layout)
}

/// Reads `dataset.json`.
///
/// Errors: text that is none, labels that are no whole numbers, and channels that are not numbered from 0.
fn read(bytes: &[u8]) -> Result<(Description, DatasetJson)> {
    let json: DatasetJson = serde_json::from_slice(bytes)?;
    let count = json.channel_names.len();
    ensure!((1..=MOST_CHANNELS).contains(&count), "{count} channel_names, expected 1 to {MOST_CHANNELS}");
    let name = |index: usize| {
        let name = json.channel_names.get(&index.to_string());
        let text = name.map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned));
        text.with_context(|| format!("channel_names has no \"{index}\"; its {count} keys are numbered from \"0\""))
    };
    let channels = (0..count).map(name).collect::<Result<_>>()?;
    let labels = json.labels.iter().map(|(name, values)| Ok((name.clone(), label_values(name, values)?)));
    let map = LabelMap::named(labels.collect::<Result<Vec<_>>>()?)
        .context("its labels are not classes that exclude each other, which are what is trained here")?;
    Ok((Description { map, channels, folds: Vec::new() }, json))
}

fn label_values(name: &str, values: &Value) -> Result<Vec<LabelValue>> {
    let one = |value: &Value| {
        // Version 1 has the name as the value and the number as the key.
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        number.map(LabelValue::Grey).with_context(|| {
            format!("the label '{name}' is {value}, expected a whole number: \"labels\": {{\"{name}\": 1}}")
        })
    };
    match values {
        Value::Array(values) => values.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// The files of each case, in the order of their channels.
fn cases(folder: &Path, ending: Option<&str>, layout: &mut Layout) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut cases: BTreeMap<String, BTreeMap<u32, PathBuf>> = BTreeMap::new();
    for path in files(folder, ending)? {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let number = stem.rsplit_once('_').filter(|(_, digits)| digits.len() == 4);
        let Some((name, channel)) = number.and_then(|(name, digits)| Some((name, digits.parse().ok()?))) else {
            layout.problems.push(format!("'{}' has no channel number; name it '{stem}_0000'", path.display()));
            continue;
        };
        let files = cases.entry(name.to_owned()).or_default();
        if let Some(first) = files.get(&channel) {
            let (first, second) = (first.display(), path.display());
            layout.problems.push(format!("'{first}' and '{second}' have one stem; keep one of them"));
            continue;
        }
        files.insert(channel, path);
    }
    let mut complete = BTreeMap::new();
    for (name, files) in cases {
        if let Some((missing, _)) = (0..).zip(files.keys()).find(|(expected, channel)| expected != *channel) {
            let folder = folder.display();
            layout.problems.push(format!("'{folder}' has no '{name}_{missing:04}', but files of later channels"));
            continue;
        }
        complete.insert(name, files.into_values().collect());
    }
    Ok(complete)
}

fn label_files(folder: &Path, ending: Option<&str>) -> Result<BTreeMap<String, PathBuf>> {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(files(folder, ending)?.into_iter().map(|path| (stem(&path), path)).collect())
}

/// The files of a folder that the dataset's ending is of.
fn files(folder: &Path, ending: Option<&str>) -> Result<Vec<PathBuf>> {
    let suits = |path: &PathBuf| match ending {
        Some(ending) => path.to_string_lossy().ends_with(ending),
        None => has_image_suffix(path),
    };
    Ok(entries(folder)?.into_iter().filter(suits).collect())
}

/// Reads `splits_final.json`, which need not be there.
fn folds(path: &Path, layout: &mut Layout) -> Result<Vec<[Vec<String>; 2]>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let read = || -> Result<Vec<Fold>> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let folds = read().with_context(|| format!("cannot use the folds of '{}'", path.display()))?;
    let known: BTreeSet<&str> = layout.training.iter().map(|case| case.name.as_str()).collect();
    for (index, fold) in folds.iter().enumerate() {
        if let Some(name) = fold.train.iter().chain(&fold.val).find(|name| !known.contains(name.as_str())) {
            let path = path.display();
            layout.problems.push(format!("'{path}' names the case '{name}' in fold {index}, which is not there"));
        }
        if let Some(name) = fold.val.iter().find(|name| fold.train.contains(name)) {
            let path = path.display();
            layout.problems.push(format!("'{path}' has the case '{name}' on both sides of fold {index}"));
        }
    }
    Ok(folds.into_iter().map(|Fold { train, val }| [train, val]).collect())
}
