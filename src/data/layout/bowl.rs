//! The layout of the 2018 Data Science Bowl: `ID/images/ID.png` with a mask for each object in `ID/masks/`. Images
//! without `masks/` are to be predicted.

use std::path::Path;

use anyhow::Result;

use super::cases::{Case, Kind, LabelFiles, Layout, entries, images_by_stem, note_others};

/// `None` where no folder of `root` has `images/`.
pub fn find(root: &Path) -> Result<Option<Layout>> {
    let mut layout = Layout::new(Kind::ObjectMasks, root);
    let mut others = Vec::new();
    for folder in entries(root)? {
        let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !folder.join("images").is_dir() {
            others.push(id);
            continue;
        }
        let (images, _) = images_by_stem(&folder.join("images"), &mut layout.problems)?;
        let Some(image) = images.values().next().filter(|_| images.len() == 1) else {
            let found = images.len();
            layout.problems.push(format!(
                "'{}' holds {found} images, expected one; if '{}' is a dataset by itself, give it to --data_dir",
                folder.join("images").display(),
                folder.display()
            ));
            continue;
        };
        let case = |labels| Case { name: id.clone(), images: vec![image.clone()], labels };
        let masks = folder.join("masks");
        if !masks.is_dir() {
            layout.test.push(case(None));
            continue;
        }
        let (objects, _) = images_by_stem(&masks, &mut layout.problems)?;
        if objects.is_empty() {
            layout.problems.push(format!("'{}' holds no mask; add one, or take the folder away", masks.display()));
            continue;
        }
        layout.training.push(case(Some(LabelFiles::Objects(objects.into_values().collect()))));
    }
    if layout.training.is_empty() && layout.test.is_empty() && layout.problems.is_empty() {
        return Ok(None);
    }
    layout.notes.extend(note_others(root, &others));
    Ok(Some(layout))
}
