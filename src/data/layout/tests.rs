//! Folders of each layout, sound and with each kind of trouble.

use std::fs;

use super::*;
use crate::data::labels::LabelValue;

/// A folder with empty files of these names.
fn folder(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    folder
}

fn names(cases: &[Case]) -> Vec<&str> {
    cases.iter().map(|case| case.name.as_str()).collect()
}

fn assert_problem(layout: &Layout, words: &[&str]) {
    let found = layout.problems.iter().any(|problem| words.iter().all(|word| problem.contains(word)));
    assert!(found, "no problem with {words:?} among {:#?}", layout.problems);
}

#[test]
fn folders_are_paired_by_stem_with_or_without_a_suffix() {
    let folder = folder(&[
        "images/b.png",
        "images/a.TIF",
        "images/c_1.jpg",
        "images/.DS_Store",
        "images/notes.txt",
        "masks/a.png",
        "masks/b_mask.png",
        "masks/c_1_label.tif",
        "test/z.png",
    ]);
    let layout = Layout::find(folder.path()).unwrap();
    assert_eq!(layout.kind, Kind::Folders);
    assert_eq!(names(&layout.training), ["images/a", "images/b", "images/c_1"]);
    assert_eq!(names(&layout.test), ["test/z"]);
    assert!(layout.problems.is_empty(), "{:?}", layout.problems);
    assert!(layout.notes[0].contains("notes.txt") && layout.notes.len() == 1, "{:?}", layout.notes);
    let label = Some(LabelFiles::One(folder.path().join("masks/b_mask.png")));
    assert_eq!(layout.training[1].labels, label);
}

#[test]
fn trouble_with_folders_is_told_file_by_file() {
    let find = |names: &[&str]| Layout::find(folder(names).path()).unwrap();
    assert_problem(&find(&["images/a.png", "masks/b.png"]), &["no pairs"]);
    let unpaired = find(&["images/a.png", "images/b.png", "masks/a.png", "masks/c.png"]);
    assert_problem(&unpaired, &["images/b.png", "no label"]);
    assert_problem(&unpaired, &["masks/c.png", "label of no image"]);
    assert_problem(&find(&["images/a.png", "images/a.tif", "masks/a.png"]), &["a.png", "a.tif", "one stem"]);
    assert_problem(&find(&["images/a.png", "masks/a.png", "masks/a_mask.png"]), &["a.png", "a_mask.png", "one image"]);
    assert_problem(&find(&["images/a.png"]), &["neither 'masks' nor 'labels'"]);
    assert_problem(&find(&["images/a.png", "masks/a.png", "labels/a.png"]), &["both 'masks' and 'labels'"]);
}

#[test]
fn a_folder_per_image_is_found_with_a_mask_for_each_object() {
    let folder = folder(&[
        "x1/images/x1.png",
        "x1/masks/m1.png",
        "x1/masks/m2.png",
        "x2/images/x2.png",
        "x3/images/x3.png",
        "x3/images/again.png",
        "x3/masks/m.png",
        "stage1_solution.csv",
    ]);
    let layout = Layout::find(folder.path()).unwrap();
    assert_eq!(layout.kind, Kind::ObjectMasks);
    assert_eq!((names(&layout.training), names(&layout.test)), (vec!["x1"], vec!["x2"]));
    let Some(LabelFiles::Objects(masks)) = &layout.training[0].labels else { panic!("masks of objects") };
    assert_eq!(masks.len(), 2);
    assert_problem(&layout, &["x3", "2 images"]);
    assert!(layout.notes[0].contains("stage1_solution.csv"));
}

const DESCRIPTION: &str = r#"{"channel_names": {"0": "red", "1": "green"},
    "labels": {"background": 0, "cell": 1, "border": [2, 3], "ignore": 4}, "numTraining": 2, "file_ending": ".png"}"#;

/// The files of a dataset of two cases of two channels.
const NNUNET: [&str; 8] = [
    "imagesTr/a_0000.png",
    "imagesTr/a_0001.png",
    "imagesTr/b_7_0000.png",
    "imagesTr/b_7_0001.png",
    "labelsTr/a.png",
    "labelsTr/b_7.png",
    "imagesTs/t_0000.png",
    "imagesTs/t_0001.png",
];

#[test]
fn nnunet_data_are_found_with_channels_labels_and_folds() {
    let folder = folder(&NNUNET);
    fs::write(folder.path().join("dataset.json"), DESCRIPTION).unwrap();
    fs::write(folder.path().join("splits_final.json"), r#"[{"train": ["a"], "val": ["b_7"]}]"#).unwrap();
    let layout = Layout::find(folder.path()).unwrap();
    assert!(layout.problems.is_empty(), "{:?}", layout.problems);
    assert_eq!((names(&layout.training), names(&layout.test)), (vec!["a", "b_7"], vec!["t"]));
    let files: Vec<_> = layout.training[1].images.iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(files, ["b_7_0000.png", "b_7_0001.png"]);
    let description = layout.description.unwrap();
    assert_eq!(description.channels, ["red", "green"]);
    assert_eq!(description.map.names().collect::<Vec<_>>(), ["background", "cell", "border"]);
    assert_eq!(description.map.classes[2].values, [LabelValue::Grey(2), LabelValue::Grey(3)]);
    assert_eq!(description.map.ignored, [LabelValue::Grey(4)]);
    assert_eq!(description.folds, [[vec!["a".to_owned()], vec!["b_7".to_owned()]]]);
}

#[test]
fn a_description_that_contradicts_its_files_is_told() {
    let find = |names: &[&str], description: &str| {
        let folder = folder(names);
        fs::write(folder.path().join("dataset.json"), description).unwrap();
        Layout::find(folder.path())
    };
    let more = DESCRIPTION.replace("\"numTraining\": 2", "\"numTraining\": 5");
    assert_problem(&find(&NNUNET, &more).unwrap(), &["numTraining 5", "2 pairs"]);
    assert_problem(&find(&NNUNET[1..], DESCRIPTION).unwrap(), &["a_0000"]);
    let without: Vec<&str> = NNUNET.iter().copied().filter(|name| *name != "labelsTr/a.png").collect();
    assert_problem(&find(&without, DESCRIPTION).unwrap(), &["a_0000.png", "no label"]);
    let renamed: Vec<&str> = NNUNET.iter().copied().chain(["imagesTr/c.png", "labelsTr/d.png"]).collect();
    let layout = find(&renamed, DESCRIPTION).unwrap();
    assert_problem(&layout, &["imagesTr/c.png", "channel number"]);
    assert_problem(&layout, &["labelsTr/d.png", "label of no image"]);
    let refused = |description: &str| format!("{:#}", find(&NNUNET, description).unwrap_err());
    assert!(refused(&DESCRIPTION.replace(".png", ".nii.gz")).contains(".nii.gz"));
    assert!(refused("{").contains("dataset.json"));
    assert!(refused(&DESCRIPTION.replace("\"1\": \"green\"", "\"2\": \"green\"")).contains("no \"1\""));
    assert!(refused(&DESCRIPTION.replace("[2, 3]", "[1, 3]")).contains("value 1 twice"));
    assert!(refused(&DESCRIPTION.replace("[2, 3]", "\"two\"")).contains("whole number"));
    assert!(refused(&DESCRIPTION.replace("\"cell\": 1, \"border\": [2, 3], ", "")).contains("1 classes"));
    let folder = folder(&NNUNET);
    assert!(format!("{:#}", Layout::find(folder.path()).unwrap_err()).contains("dataset.json"));
}

#[test]
fn a_folder_of_no_layout_names_those_that_are_known() {
    let message = format!("{:#}", Layout::find(folder(&["a.png"]).path()).unwrap_err());
    for word in ["train-volume.tif", "'masks'", "imagesTr"] {
        assert!(message.contains(word), "{message}");
    }
    // A synthetic set is no answer where there are images.
    assert!(!message.contains("phantom"), "{message}");
    assert!(format!("{:#}", Layout::find(folder(&[]).path()).unwrap_err()).contains("phantom"));
}

#[test]
fn named_files_and_folders_become_cases_and_results_of_one_name_are_refused() {
    let folder = folder(&["in/b.png", "in/a.tif", "in/x.txt", "c.jpg", "other/b.tif", "empty/x.txt"]);
    let find = |names: &[&str]| loose::find(&names.iter().map(|name| folder.path().join(name)).collect::<Vec<_>>());
    let found = find(&["c.jpg", "in"]).unwrap();
    assert_eq!(names(&found.cases), ["c", "a", "b"]);
    assert!(found.notes.len() == 1 && found.notes[0].contains("'x.txt' left out"), "{:?}", found.notes);
    let refused = |names: &[&str]| format!("{:#}", find(names).err().unwrap());
    assert!(refused(&["in", "other"]).contains("one name"));
    assert!(refused(&["empty"]).contains("no image"));
    assert!(refused(&["nothing"]).contains("no file or folder"));
}

/// The hand-made descriptions that fuzzing starts from.
#[test]
fn of_the_fuzzing_seeds_sound_descriptions_are_read() {
    let mut sound = Vec::new();
    for (name, bytes) in crate::testing::fuzz_seeds("dataset_json") {
        let folder = folder(&NNUNET);
        fs::write(folder.path().join("dataset.json"), bytes).unwrap();
        if Layout::find(folder.path()).is_ok() {
            sound.push(name);
        }
    }
    assert_eq!(sound, ["nnunet_v2", "version_1"]);
}

#[test]
fn a_synthetic_dataset_is_proposed_only_to_those_without_images() {
    let folder = tempfile::tempdir().unwrap();
    let text = missing_stack(folder.path(), TRAIN_VOLUME);
    assert!(text.contains("no 'train-volume.tif' in") && text.contains("unet phantom"), "{text}");
    fs::create_dir(folder.path().join("scans")).unwrap();
    fs::write(folder.path().join("scans/a.png"), "").unwrap();
    let text = missing_stack(folder.path(), TRAIN_VOLUME);
    assert!(text.contains("no 'train-volume.tif' in") && !text.contains("phantom"), "{text}");
}
