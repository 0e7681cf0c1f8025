//! `images/` with `masks/` or `labels/`, paired by stem, and images to predict in `test/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::cases::{Case, Kind, LabelFiles, Layout, images_by_stem, note_others};
use super::missing::explain_folder;

const IMAGES: &str = "images";
const LABELS: [&str; 2] = ["masks", "labels"];
const TEST: &str = "test";
/// What the stem of a label file may have more than that of its image.
const SUFFIXES: [&str; 4] = ["_mask", "_label", "_masks", "_labels"];

pub fn find(root: &Path) -> Result<Layout> {
    let mut layout = Layout::new(Kind::Folders, root);
    let Layout { problems, notes, .. } = &mut layout;
    let (images, others) = images_by_stem(&root.join(IMAGES), problems)?;
    notes.extend(note_others(&root.join(IMAGES), &others));
    let folders: Vec<PathBuf> = LABELS.iter().map(|name| root.join(name)).filter(|path| path.is_dir()).collect();
    let mut labels = BTreeMap::new();
    match &folders[..] {
        [] => problems.push(LABELS.iter().find_map(|name| explain_folder(&root.join(name))).unwrap_or_else(|| {
            format!(
                "neither 'masks' nor 'labels' in '{}'; put the label of each image there, under its name",
                root.display()
            )
        })),
        [folder] => {
            let others;
            (labels, others) = images_by_stem(folder, problems)?;
            notes.extend(note_others(folder, &others));
        }
        _ => problems.push(format!("both 'masks' and 'labels' in '{}'; keep one of them", root.display())),
    }
    let mut labels = by_image(labels, &images, problems);
    let has_labels = !labels.is_empty();
    let mut unpaired = Vec::new();
    for (stem, path) in &images {
        let name = format!("{IMAGES}/{stem}");
        match labels.remove(stem) {
            Some(label) => {
                let labels = Some(LabelFiles::One(label));
                layout.training.push(Case { name, images: vec![path.clone()], labels });
            }
            None => unpaired.push(format!("'{}' has no label; add '{stem}.png' or '{stem}_mask.png'", path.display())),
        }
    }
    unpaired.extend(labels.values().map(|label| format!("'{}' is the label of no image", label.display())));
    if layout.training.is_empty() && folders.len() == 1 {
        let (found, labels) = (images.len(), folders[0].display());
        let hint = if has_labels { "the stems of image and label must be equal" } else { "there are no label files" };
        layout
            .problems
            .push(format!("no pairs: {found} images in '{IMAGES}', and in '{labels}' no label of any; {hint}"));
    }
    layout.problems.extend(unpaired);
    if root.join(TEST).is_dir() {
        let (images, others) = images_by_stem(&root.join(TEST), &mut layout.problems)?;
        layout.notes.extend(note_others(&root.join(TEST), &others));
        layout.test = images
            .into_iter()
            .map(|(stem, path)| Case { name: format!("{TEST}/{stem}"), images: vec![path], labels: None })
            .collect();
    }
    Ok(layout)
}

/// Label files by the stems of their images; those of no image keep their own.
fn by_image(
    labels: BTreeMap<String, PathBuf>,
    images: &BTreeMap<String, PathBuf>,
    problems: &mut Vec<String>,
) -> BTreeMap<String, PathBuf> {
    let mut paired: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (stem, path) in labels {
        let without_suffix = || SUFFIXES.iter().find_map(|suffix| stem.strip_suffix(suffix));
        let image = match images.contains_key(&stem) {
            true => stem.clone(),
            false => without_suffix().filter(|image| images.contains_key(*image)).unwrap_or(&stem).to_owned(),
        };
        if let Some(first) = paired.get(&image) {
            problems.push(format!(
                "'{}' and '{}' are labels of one image; keep one of them",
                first.display(),
                path.display()
            ));
            continue;
        }
        paired.insert(image, path);
    }
    paired
}
