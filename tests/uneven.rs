//! Images, pages, channels and classes that are unlike the rest of their dataset: training goes on, and the program
//! says what it has found.

mod common;

use std::fs;

use common::{TestDir, alter, python, stderr, stdout};

const TRAIN: &str = "--base_filters 2 --learning_rate 0.003 --batch_size 2";

/// Images that are mapped together, of which one is stored in another way, and channels of different ranges.
#[test]
fn images_and_channels_that_fill_little_of_their_range_are_told() {
    let phantom = |layout: &str| TestDir::phantom(6, 64, &format!("--layout {layout}"));
    let darken = |dir: &TestDir, names: &str, factor: u32| {
        let code = format!(
            "import sys, glob, numpy\nfrom PIL import Image\n\
             for path in glob.glob(f'{{sys.argv[1]}}/{names}'):\n\
             \tImage.fromarray(numpy.array(Image.open(path)) // {factor}).save(path)"
        );
        python(&code, &[&dir.path("data")]).is_some()
    };
    let (one, channels) = (phantom("folders"), phantom("nnunet --channels 2"));
    for (dir, names, words) in [
        (&one, "images/slice_03.png", "1 of 6 images have values in a small part of 0 to 255"),
        (&channels, "images*/*_0001.png", "channel 1 (first is 0) of the 8-bit images"),
    ] {
        let train = |args: &str| stderr(&dir.run(&format!("{TRAIN} --max_steps 1 --overwrite {args}")).success());
        assert!(!train("").contains("a small part of"), "{names}");
        if !darken(dir, names, 20) {
            return;
        }
        let told = train("");
        assert!(told.contains(words), "no '{words}' in {told}");
        assert!(!train("--recipe native --patch 36 --grey_scaling image").contains("a small part of"));
        let inspected = stdout(&dir.unet(&["inspect", "--data_dir", "data"]).success());
        assert!(inspected.contains(&format!("warning: {words}")), "{inspected}");
    }
}

#[test]
fn values_that_stand_for_nothing_and_pages_stored_otherwise_are_told() {
    for (change, words) in [
        ("volume = volume.astype('f4'); volume[:, :, :9] = -9999", "14.06 % of the 32-bit float samples are -9999"),
        ("volume = volume.astype('u2') * 8; volume[:, :7] = 65535", "10.94 % of the 16-bit samples are 65535"),
        (
            "volume[3] //= 20",
            "1 of 6 images have values in a small part of 0 to 255, by which all are mapped, such as \
          'data/train-volume.tif' page 3 (first is 0)",
        ),
        ("labels[:] = 255; labels[0, 3, 3] = 0", "the class membrane has 1 of 24576 label pixels"),
    ] {
        let dir = TestDir::new();
        assert!(!stderr(&dir.run(&format!("{TRAIN} --max_steps 1")).success()).contains(words));
        if !alter(&dir, "data", change) {
            return;
        }
        let told = stderr(&dir.run(&format!("{TRAIN} --max_steps 1 --overwrite")).success());
        assert!(told.contains(words), "{change}: no '{words}' in {told}");
        let inspected = dir.unet(&["inspect", "--data_dir", "data"]);
        assert!(stdout(&inspected).contains(words), "{change}: {}", stdout(&inspected));
    }
    let dir = TestDir::new();
    assert!(alter(&dir, "data", "volume = volume.astype('f4'); volume[:, :, :9] = -9999"));
    let told = stderr(&dir.run(&format!("{TRAIN} --max_steps 1 --grey_range 0,255")).success());
    assert!(!told.contains("-9999"), "{told}");
}

/// The reference recipe resizes images of any size to one; the native one sees pixels as they are stored.
#[test]
fn objects_of_another_size_than_in_training_are_told() {
    let dir = TestDir::new();
    dir.unet(&["phantom", "--out", "large", "--slices", "2", "--size", "128"]).success();
    let predict = |input: &[&str]| {
        let args = ["--exec_mode", "predict", "--model_dir", "model", "--overwrite", "--device", "cpu"];
        stderr(&dir.unet(&[&args, input].concat()).success())
    };
    dir.run(&format!("{TRAIN} --max_steps 1")).success();
    assert!(!predict(&["--data_dir", "data"]).contains("objects are"));
    for input in [&["--data_dir", "large"][..], &["--input", "large/test-volume.tif", "--output", "out"]] {
        let told = predict(input);
        assert!(
            told.contains("objects are 0.50 times as large") && told.contains("128x128, in training 64x64"),
            "{told}"
        );
    }
    // Pixels of 4 nm, and of 8.
    let code = "import sys, tifffile
for path, side in ((sys.argv[1], 0.004), (sys.argv[2], 0.008), (sys.argv[3], 0.0041)):
    stack = tifffile.imread(path)
    metadata = {'unit': 'micron', 'axes': 'ZYX'}
    tifffile.imwrite(path, stack, imagej=True, resolution=(1 / side, 1 / side), metadata=metadata)";
    let paths = ["data/train-volume.tif", "large/test-volume.tif", "data/test-volume.tif"].map(|name| dir.path(name));
    if python(code, &paths.each_ref().map(AsRef::as_ref)).is_none() {
        return;
    }
    dir.run(&format!("{TRAIN} --max_steps 1 --overwrite --recipe native --patch 36")).success();
    assert!(!predict(&["--data_dir", "data"]).contains("objects are"));
    let told = predict(&["--data_dir", "large"]);
    assert!(
        told.contains("objects are 0.50 times as large") && told.contains("pixels of 8.0000 x 8.0000 nm"),
        "{told}"
    );
    fs::copy(dir.path("large/test-volume.tif"), dir.path("data/test-volume.tif")).unwrap();
    let told = stdout(&dir.unet(&["inspect", "--data_dir", "data"]).success());
    assert!(told.contains("warning: objects are 0.50 times as large"), "{told}");
}
