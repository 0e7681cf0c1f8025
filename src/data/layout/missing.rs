//! Why a file or folder is not where it was looked for: a name that is nearly the same, a link that leads nowhere, no
//! permission, a folder in place of a file.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::cases::entries;
use crate::data::image_file::has_image_suffix;

/// Letters that a name may differ in to be taken for a slip of the pen.
const MOST_CHANGES: usize = 2;

/// What keeps `path` from being read as a file, with what to do; `None` where it is one, or where nothing is there that
/// could be meant.
pub fn explain_file(path: &Path) -> Option<String> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(kind) if kind.is_file() => None,
        Ok(kind) if kind.is_dir() => Some(format!("'{shown}' is a folder, expected a file; put the file in its place")),
        Ok(_) => Some(format!("'{shown}' is not a regular file; put a file in its place")),
        Err(error) => explain_error(path, &error).or_else(|| near_name(path)),
    }
}

/// What keeps `path` from being used as a folder, with what to do; `None` as of [`explain_file`].
pub fn explain_folder(path: &Path) -> Option<String> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(kind) if !kind.is_dir() => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Some(format!("'{shown}' is a file, expected a folder; the folder it is in is '{}'", parent.display()))
        }
        Ok(_) => match fs::read_dir(path) {
            Ok(_) => None,
            Err(error) => Some(format!("cannot read the folder '{shown}': {error}; ask its owner for permission")),
        },
        Err(error) => explain_error(path, &error).or_else(|| near_name(path)),
    }
}

fn explain_error(path: &Path, error: &std::io::Error) -> Option<String> {
    let shown = path.display();
    if error.kind() == ErrorKind::PermissionDenied {
        return Some(format!("cannot reach '{shown}': {error}; ask the owner of its folder for permission"));
    }
    match fs::read_link(path) {
        Ok(target) => Some(format!("'{shown}' is a link to '{}': {error}; mend the link", target.display())),
        Err(_) if error.kind() == ErrorKind::NotFound => None,
        Err(_) => Some(format!("cannot reach '{shown}': {error}")),
    }
}

/// An entry of the same folder whose name is nearly that of `path`.
fn near_name(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let wanted = path.file_name()?.to_string_lossy().into_owned();
    let names =
        entries(folder).ok()?.into_iter().filter_map(|entry| Some(entry.file_name()?.to_string_lossy().into_owned()));
    let near = names.min_by_key(|name| changes(&wanted, name)).filter(|name| changes(&wanted, name) <= MOST_CHANGES)?;
    Some(format!("no '{wanted}' in '{}', but '{near}'; if that is meant, rename it or make a link", folder.display()))
}

/// How many letters of two names differ, apart from case, suffixes of TIFF files and signs between words; names that
/// differ in these alone have 0.
fn changes(one: &str, other: &str) -> usize {
    let bare = |name: &str| {
        let mut name = name.to_lowercase();
        while let Some(rest) = [".tif", ".tiff", ".ome"].iter().find_map(|suffix| name.strip_suffix(suffix)) {
            name = rest.to_owned();
        }
        name.chars().filter(|letter| letter.is_alphanumeric()).collect::<Vec<char>>()
    };
    let (one, other) = (bare(one), bare(other));
    // Levenshtein's distance, row by row.
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (y, a) in one.iter().enumerate() {
        let mut corner = row[0];
        row[0] = y + 1;
        for (x, b) in other.iter().enumerate() {
            let replaced = corner + usize::from(a != b);
            corner = row[x + 1];
            row[x + 1] = replaced.min(corner + 1).min(row[x] + 1);
        }
    }
    // A short name has too little that could be nearly the same.
    let found = row[other.len()];
    if found > one.len().min(other.len()) / 3 { usize::MAX } else { found }
}

/// Whether a folder holds no images, in itself or in the folders in it.
pub fn is_without_images(folder: &Path) -> bool {
    let has_image = |folder: &Path| {
        let found = entries(folder).unwrap_or_default();
        (found.iter().any(|path| has_image_suffix(path)), found)
    };
    let (has_own, found) = has_image(folder);
    !has_own && !found.iter().filter(|path| path.is_dir()).any(|path| has_image(path).0)
}

/// A folder in `root` that holds a file of this name.
pub fn folder_with(root: &Path, name: &str) -> Option<String> {
    let found = entries(root).ok()?.into_iter().find(|path| path.join(name).is_file())?;
    Some(found.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_near_by_case_suffix_signs_and_slips() {
        let near =
            ["train-volume.tiff", "Train-Volume.TIF", "train_volume.tif", "train volume.ome.tif", "train-volumes.tif"];
        for name in near {
            assert!(changes("train-volume.tif", name) <= MOST_CHANGES, "{name}");
        }
        for name in ["test-volume.tif", "train-labels.tif", "volume.tif", "notes.txt"] {
            assert!(changes("train-volume.tif", name) > MOST_CHANGES, "{name}");
        }
        assert_eq!(changes("a.tif", "A.tiff"), 0);
        assert_eq!(changes("a.tif", "b.tif"), usize::MAX);
    }

    #[test]
    fn each_cause_has_a_message_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train-volume.tif");
        let says = |word: &str| {
            let text = explain_file(&path).unwrap_or_default();
            assert!(text.contains(word), "no '{word}' in: {text}");
        };
        assert_eq!(explain_file(&path), None);
        fs::write(folder.path().join("Train_Volume.TIFF"), "").unwrap();
        says("but 'Train_Volume.TIFF'");
        std::os::unix::fs::symlink("/nowhere/x.tif", &path).unwrap();
        says("is a link to '/nowhere/x.tif'");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("train-volume.tif", &path).unwrap();
        says("mend the link");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        says("is a folder, expected a file");
        assert!(explain_folder(&folder.path().join("Train_Volume.TIFF")).unwrap().contains("is a file"));
    }
}
