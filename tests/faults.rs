//! Files that people have and that are easily misread: what other programs write is read whole, or refused with what is
//! there and what to do. Most are written by tifffile and Pillow; these tests are skipped without Python's modules.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{TestDir, fails, python, stderr, stdout};

/// Replaces files of `data` by Python code that has `train`, `labels` and `test`, arrays `[6, 64, 64]`, and their paths
/// as `paths`. `false` without Python.
fn with_python(dir: &TestDir, code: &str) -> bool {
    let names = ["train-volume.tif", "train-labels.tif", "test-volume.tif"];
    let paths: Vec<_> = names.iter().map(|name| dir.path("data").join(name)).collect();
    let paths: Vec<&Path> = paths.iter().map(|path| path.as_path()).collect();
    let start = "import sys, numpy as np, tifffile\nfrom PIL import Image\npaths = sys.argv[1:]\n\
                 train, labels, test = (tifffile.imread(path) for path in paths)\n\
                 grey = dict(photometric='minisblack', metadata=None)\n";
    python(&format!("{start}{code}"), &paths).is_some()
}

fn inspected(dir: &TestDir) -> String {
    let run = dir.unet(&["inspect", "--data_dir", "data"]);
    assert_eq!(run.get_output().status.code(), Some(0), "{}{}", stdout(&run), stderr(&run));
    stdout(&run)
}

/// What `inspect` says of a dataset with a problem.
fn problems(dir: &TestDir) -> String {
    let run = dir.unet(&["inspect", "--data_dir", "data"]);
    assert_eq!(run.get_output().status.code(), Some(1), "{}", stdout(&run));
    stdout(&run) + &stderr(&run)
}

fn assert_has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
}

/// The lines of `inspect` on the samples: equal where the same samples were read.
fn values(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("values ")).collect()
}

#[test]
fn stacks_with_one_directory_are_read_as_those_with_a_page_each() {
    let dir = TestDir::new();
    let plain = inspected(&dir);
    assert_has(&plain, &["6 pages of 64x64"]);
    let stk = "for path, a in zip(paths, (train, labels, test)):\n\
               \ttifffile.imwrite(path, a, truncate=True, software=None,\n\
               \t\textratags=[(33628, 4, 2, (0, 0), True), (33629, 5, 6, (1, 1) * 6, True)], **grey)\n";
    if !with_python(&dir, stk) {
        return;
    }
    assert_eq!(values(&inspected(&dir)), values(&plain));
    // Read back by tifffile, which knows STK files too, and written as stacks of its own.
    let shaped = "for path, a in zip(paths, (train, labels, test)):\n\
                  \ttifffile.imwrite(path, a, truncate=True, photometric='minisblack')\n";
    assert!(with_python(&dir, shaped));
    assert_eq!(values(&inspected(&dir)), values(&plain));
    let short = "tifffile.imwrite(paths[0], train, truncate=True, photometric='minisblack')\n\
                 data = open(paths[0], 'rb').read()\nopen(paths[0], 'wb').write(data[:-64 * 64])\n";
    assert!(with_python(&dir, short));
    assert_has(&problems(&dir), &["train-volume.tif", "5 of 6 pages", "tifffile description"]);
}

#[test]
fn ome_tiff_is_read_whole_from_one_file_or_several() {
    let dir = TestDir::new();
    let plain = inspected(&dir);
    let one = "for path, a in zip(paths, (train, labels, test)):\n\
               \ttifffile.imwrite(path, a, ome=True, photometric='minisblack', metadata={'axes': 'ZYX'})\n";
    if !with_python(&dir, one) {
        return;
    }
    assert_eq!(values(&inspected(&dir)), values(&plain));
    let several = "places = ''.join(f'<TiffData FirstZ=\"{z}\" IFD=\"0\" PlaneCount=\"3\"><UUID FileName=\"{name}\">'\n\
                   \tf'urn:uuid:{z}</UUID></TiffData>' for z, name in ((0, 'train-volume.tif'), (3, 'rest.ome.tif')))\n\
                   xml = ('<?xml version=\"1.0\"?><OME UUID=\"urn:uuid:0\"><Image ID=\"Image:0\"><Pixels '\n\
                   \t'DimensionOrder=\"XYCZT\" SizeX=\"64\" SizeY=\"64\" SizeC=\"1\" SizeZ=\"6\" SizeT=\"1\">'\n\
                   \t+ places + '</Pixels></Image></OME>')\n\
                   tifffile.imwrite(paths[0], train[:3], description=xml, **grey)\n\
                   tifffile.imwrite(paths[0].replace('train-volume', 'rest.ome'), train[3:], **grey)\n";
    assert!(with_python(&dir, several));
    assert_eq!(values(&inspected(&dir)), values(&plain));
    fs::remove_file(dir.path("data/rest.ome.tif")).unwrap();
    assert_has(&problems(&dir), &["train-volume.tif", "3 of 6 pages", "'rest.ome.tif'"]);
    let more = "xml = '<OME><Image><Pixels SizeC=\"1\" SizeZ=\"9\" SizeT=\"1\"/></Image></OME>'\n\
                tifffile.imwrite(paths[0], np.concatenate([train] * 2)[:6], description=xml, **grey)\n";
    assert!(with_python(&dir, more));
    assert_has(&problems(&dir), &["6 of 9 pages", "OME-XML"]);
}

#[test]
fn channels_that_metadata_name_are_channels() {
    let dir = TestDir::new();
    let two = "two = np.stack([test, 255 - test], 1)\nturned = two.swapaxes(0, 1)\n";
    let writers = [
        "tifffile.imwrite(paths[2], two, imagej=True, metadata={'axes': 'ZCYX'})\n",
        "tifffile.imwrite(paths[2], two, ome=True, photometric='minisblack', metadata={'axes': 'ZCYX'})\n",
        "tifffile.imwrite(paths[2], two, photometric='minisblack', metadata={'axes': 'ZCYX'})\n",
        "tifffile.imwrite(paths[2], turned, photometric='minisblack', metadata={'axes': 'CZYX'})\n",
        "tifffile.imwrite(paths[2], turned, ome=True, photometric='minisblack', metadata={'axes': 'CZYX'})\n",
    ];
    for writer in writers {
        let dir = TestDir::new();
        if !with_python(&dir, &format!("{two}{writer}")) {
            return;
        }
        assert_has(&problems(&dir), &["6 pages of 64x64, 2 channels", "1 channel(s), test images 2"]);
    }
    // Without axes ImageJ's text calls slices channels: told, with what to do.
    assert!(with_python(&dir, "tifffile.imwrite(paths[2], test, imagej=True)\n"));
    assert_has(&problems(&dir), &["note: ", "taken for the channels of one image", "metadata={'axes': 'ZYX'}"]);
    assert!(with_python(&dir, "tifffile.imwrite(paths[1], labels, imagej=True)\n"));
    assert_has(&problems(&dir), &["train-labels.tif", "taken for the channels of one image"]);
}

#[test]
fn slices_that_were_stored_as_colours_are_told() {
    let dir = TestDir::new();
    let code = "tifffile.imwrite(paths[0], train[:3], photometric='rgb', planarconfig='separate')\n\
                tifffile.imwrite(paths[1], labels[:3], **grey)\n";
    if with_python(&dir, code) {
        assert_has(&problems(&dir), &["train-volume.tif", "3 planes of a page are taken for colours", "'minisblack'"]);
    }
}

#[test]
fn masks_of_one_bit_are_read_in_every_compression() {
    let plain = inspected(&TestDir::new());
    let share = |text: &str| {
        let line = text.lines().find(|line| line.contains("classes: ")).unwrap_or_default();
        line.to_owned()
    };
    for compression in ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "tiff_ccitt", "group3", "group4"] {
        let dir = TestDir::new();
        let code = format!(
            "images = [Image.fromarray(page).convert('1') for page in labels]\n\
             images[0].save(paths[1], save_all=True, append_images=images[1:], compression='{compression}')\n"
        );
        if !with_python(&dir, &code) {
            return;
        }
        let text = inspected(&dir);
        assert_has(&text, &["labels: values 0 (", "1 ("]);
        assert_eq!(share(&text), share(&plain), "{compression}");
    }
    let dir = TestDir::new();
    let white = "tifffile.imwrite(paths[1], labels == 0, photometric='miniswhite', metadata=None)\n";
    assert!(with_python(&dir, white));
    assert_eq!(share(&inspected(&dir)), share(&plain));
}

#[test]
fn signed_and_wide_samples_are_read_exactly_as_far_as_floats_hold_them() {
    for kind in ["int16", "uint32", "int32", "int64", "uint64", "float16", "float64"] {
        let dir = TestDir::new();
        let code = format!(
            "for path, a in zip(paths, (train, labels, test)):\n\ttifffile.imwrite(path, a.astype('{kind}'), **grey)\n"
        );
        if !with_python(&dir, &code) {
            return;
        }
        assert_has(&inspected(&dir), &["6 pages of 64x64", "32-bit float samples", "labels: values 0 (", "255 ("]);
    }
    let dir = TestDir::new();
    let large = "tifffile.imwrite(paths[1], labels.astype('uint32') + (2**24 + 2) * (labels > 0), **grey)\n";
    assert!(with_python(&dir, &format!("labels = labels.astype('uint32')\n{large}")));
    assert_has(&problems(&dir), &["train-labels.tif", "label values beyond 16777216", "number the objects"]);
}

#[test]
fn thumbnails_are_left_out_and_volumes_are_named() {
    let dir = TestDir::new();
    let plain = inspected(&dir);
    let code = "with tifffile.TiffWriter(paths[0]) as writer:\n\
                \tfor index, page in enumerate(train):\n\
                \t\twriter.write(page, **grey)\n\
                \t\tif index == 0:\n\
                \t\t\twriter.write(page[::4, ::4], subfiletype=1, **grey)\n";
    if !with_python(&dir, code) {
        return;
    }
    let text = inspected(&dir);
    assert_eq!(values(&text), values(&plain));
    assert_has(&text, &["note: ", "1 page(s) left out"]);
    let volume = "tifffile.imwrite(paths[0], test, volumetric=True, tile=(2, 16, 16), photometric='minisblack')\n";
    assert!(with_python(&dir, volume));
    let text = problems(&dir);
    assert_has(&text, &["a volume of 6 planes in one page", "save it as a stack of pages"]);
    assert!(!text.contains("damaged"), "{text}");
}

#[test]
fn probabilities_that_rounding_takes_past_1_are_scored() {
    let dir = TestDir::new();
    let code = |over: &str| {
        format!(
            "p = (labels > 0).astype('float32') * 0.8 + 0.1\np[0, 0, 0] = {over}\n\
             tifffile.imwrite(paths[2], p, **grey)\n"
        )
    };
    if !with_python(&dir, &code("1.0000001")) {
        return;
    }
    let score = || dir.unet(&["score", "--labels", "data/train-labels.tif", "--prediction", "data/test-volume.tif"]);
    score().success();
    assert!(with_python(&dir, &code("1.01")));
    fails(score(), 1, &["float samples from", "1.00999", "0 to 1"]);
}

const TRAIN: &str = "--max_steps 1 --base_filters 1";

#[test]
fn a_dataset_that_is_not_found_says_why() {
    let names = ["train-volume", "train-labels", "test-volume"];
    let renamed = |ending: &str, upper: bool| {
        let dir = TestDir::new();
        for name in names {
            let other = if upper { name.to_uppercase() } else { name.to_owned() };
            fs::rename(dir.path(&format!("data/{name}.tif")), dir.path(&format!("data/{other}{ending}"))).unwrap();
        }
        dir
    };
    for (ending, upper) in [(".tiff", false), (".TIF", false), (".ome.tif", false), (".tif", true)] {
        let dir = renamed(ending, upper);
        let message = stderr(&dir.run(TRAIN));
        let name = if upper { "TRAIN-VOLUME" } else { "train-volume" };
        assert_has(&message, &["no 'train-volume.tif' in 'data'", &format!("but '{name}{ending}'"), "rename it"]);
        assert!(!message.contains("phantom"), "{message}");
    }
    let dir = TestDir::new();
    let volume = dir.path("data/train-volume.tif");
    fs::remove_file(&volume).unwrap();
    symlink("/nowhere/x.tif", &volume).unwrap();
    fails(dir.run(TRAIN), 1, &["'data/train-volume.tif' is a link to '/nowhere/x.tif'", "mend the link"]);
    fs::remove_file(&volume).unwrap();
    symlink("train-volume.tif", &volume).unwrap();
    fails(dir.run(TRAIN), 1, &["is a link to 'train-volume.tif'", "mend the link"]);
    fs::remove_file(&volume).unwrap();
    fs::create_dir(&volume).unwrap();
    fails(dir.run(TRAIN), 1, &["'data/train-volume.tif' is a folder, expected a file"]);
    fs::remove_dir(&volume).unwrap();
    fs::write(dir.path("data/Train_Volume.tif"), "").unwrap();
    fails(dir.run(TRAIN), 1, &["but 'Train_Volume.tif'", "rename it"]);
}

#[test]
fn a_folder_that_is_no_dataset_says_why() {
    let dir = TestDir::new();
    let run = |folder: &str| dir.unet(&["--data_dir", folder, "--model_dir", "model", "--device", "cpu"]);
    fails(run("data/train-volume.tif"), 1, &["is a file, expected a folder", "is 'data'", "--data_dir"]);
    fails(run("DATA"), 1, &["no 'DATA' in '.', but 'data'", "--data_dir"]);
    fails(run("."), 1, &["no dataset in '.', but in './data'", "--data_dir"]);
    fs::create_dir(dir.path("empty")).unwrap();
    fails(run("empty"), 1, &["no dataset in 'empty'", "unet phantom"]);
    fs::create_dir(dir.path("other")).unwrap();
    fs::copy(dir.path("data/train-volume.tif"), dir.path("other/cells.tif")).unwrap();
    let message = stderr(&run("other"));
    assert_has(&message, &["no dataset in 'other'", "docs/data.md"]);
    assert!(!message.contains("phantom"), "images are there: {message}");
    fs::create_dir_all(dir.path("folders/Images")).unwrap();
    fails(run("folders"), 1, &["no 'images' in 'folders', but 'Images'"]);
}

#[test]
fn switches_in_other_spellings_do_what_they_say() {
    let dir = TestDir::new();
    dir.run(&format!("{TRAIN} --no-augment --use_amp False --xla=false")).success();
    let config = dir.json("model/config.json").to_string();
    assert!(config.contains("\"augment\":false") && config.contains("\"xla\":false"), "{config}");
    dir.run(&format!("{TRAIN} --augment=True --overwrite")).success();
    let config = dir.json("model/config.json").to_string();
    assert!(config.contains("\"augment\":true"), "{config}");
    let run = dir.unet(&["--data_dir", "data", "--no-augmentation"]);
    fails(run, 2, &["--no-augmentation", "leave it out"]);
}

#[test]
fn labels_that_rounding_or_their_type_would_spoil_are_refused() {
    let dir = TestDir::new();
    let floats = "colours = np.repeat((labels > 0)[..., None], 3, -1).astype('f4')\n\
                  tifffile.imwrite(paths[1], colours, photometric='rgb', metadata=None)\n";
    if !with_python(&dir, floats) {
        return;
    }
    assert_has(&problems(&dir), &["train-labels.tif", "3 channels of 32-bit float samples"]);
    // A mask for each object, of which one is a JPEG.
    let objects = "import os, shutil\nfolder = os.path.dirname(paths[0])\n\
                   for index in range(3):\n\
                   \tfor kind in ('images', 'masks'):\n\
                   \t\tos.makedirs(f'{folder}/{index}/{kind}')\n\
                   \tImage.fromarray(train[index]).save(f'{folder}/{index}/images/{index}.png')\n\
                   \tmask = np.zeros((64, 64), 'u1')\n\
                   \tmask[20:33, 17:41] = 255\n\
                   \tImage.fromarray(mask).save(f'{folder}/{index}/masks/a.' + ('jpg' if index == 1 else 'png'))\n\
                   for path in paths:\n\tos.remove(path)\n\
                   os.remove(f'{folder}/test-labels.tif')\n";
    let dir = TestDir::new();
    assert!(with_python(&dir, objects));
    assert_has(&problems(&dir), &["1/masks/a.jpg' is a JPEG", "PNG or TIFF"]);
}

#[test]
fn how_a_file_is_read_is_told_in_prediction_of_files_too() {
    let dir = TestDir::new();
    let files = "import os\nos.makedirs('in')\n\
                 rgba = np.stack([train[0], train[0], train[0], np.full((64, 64), 90, 'u1')], -1)\n\
                 Image.fromarray(rgba).save('in/alpha.png')\n\
                 with tifffile.TiffWriter('in/thumbnail.tif') as file:\n\
                 \tfile.write(np.repeat(train[0][..., None], 3, -1), photometric='rgb', metadata=None)\n\
                 \tfile.write(rgba[::4, ::4, :3], photometric='rgb', subfiletype=1, metadata=None)\n\
                 rgb = lambda a: np.repeat(a[..., None], 3, -1)\n\
                 tifffile.imwrite(paths[0], rgb(train), photometric='rgb', metadata=None)\n\
                 tifffile.imwrite(paths[2], rgb(test), photometric='rgb', metadata=None)\n";
    let files = files.replace("'in", "os.path.dirname(paths[0]) + '/../in");
    if !with_python(&dir, &files) {
        return;
    }
    dir.run("--base_filters 2 --max_steps 1").success();
    let predict = ["--exec_mode", "predict", "--model_dir", "model", "--input", "in", "--output", "out"];
    let told = stderr(&dir.unet(&predict).success());
    assert_has(&told, &["in/alpha.png': its alpha channel is left out", "in/thumbnail.tif': 1 page(s) left out"]);
}

#[test]
fn images_that_are_to_be_shown_turned_are_told() {
    let dir = TestDir::new();
    let turned = "tifffile.imwrite(paths[0], train, extratags=[(274, 3, 1, 6, True)], **grey)\n\
                  import os\nfolder = os.path.dirname(paths[0]) + '/..'\n\
                  for kind in ('images', 'masks'):\n\tos.makedirs(f'{folder}/photos/{kind}')\n\
                  exif = Image.Exif()\nexif[274] = 3\n\
                  for index in range(6):\n\
                  \tImage.fromarray(train[index]).save(f'{folder}/photos/images/{index}.jpg', exif=exif)\n\
                  \tImage.fromarray(labels[index]).save(f'{folder}/photos/masks/{index}.png')\n";
    if !with_python(&dir, turned) {
        return;
    }
    assert_has(&inspected(&dir), &["train-volume.tif': other programs show it turned", "(Orientation 6)"]);
    let photos = stdout(&dir.unet(&["inspect", "--data_dir", "photos"]).success());
    assert_has(&photos, &["images/0.jpg': other programs show it turned or mirrored (Orientation 3)"]);
    // Masks by a palette, in one of which the colours are exchanged.
    let palettes = "import os\nfolder = os.path.dirname(paths[0]) + '/../photos/masks'\n\
                    for index in range(6):\n\
                    \timage = Image.fromarray((labels[index] > 0).astype('u1'), 'P')\n\
                    \tcolours = [255, 0, 0, 0, 0, 255] if index == 4 else [0, 0, 255, 255, 0, 0]\n\
                    \timage.putpalette(colours + [0] * 762)\n\
                    \timage.save(f'{folder}/{index}.png')\n";
    assert!(with_python(&dir, palettes));
    let photos = stdout(&dir.unet(&["inspect", "--data_dir", "photos"]).success());
    assert_has(&photos, &["different palettes: 0 is #0000ff in one and #ff0000 in another", "--label_map of colours"]);
    let args = ["inspect", "--data_dir", "photos", "--label_map", "#0000ff=a;#ff0000=b"];
    assert!(!stdout(&dir.unet(&args).success()).contains("palettes"));
}

#[test]
fn folders_of_runs_and_of_masks_are_told_as_those_of_data() {
    let dir = TestDir::trained("--base_filters 2 --max_steps 1");
    let predict = |model: &str, output: &str| {
        dir.unet(&[
            "--exec_mode",
            "predict",
            "--model_dir",
            model,
            "--input",
            "data/test-volume.tif",
            "--output",
            output,
        ])
    };
    fails(predict("modell", "out"), 1, &["no 'modell' in '.', but 'model'"]);
    fails(
        predict("model/model.safetensors", "out"),
        1,
        &["is a file, expected a folder; the folder it is in is 'model'"],
    );
    fails(predict("nothing", "out"), 1, &["no weights 'nothing/model.safetensors'", "train first"]);
    fails(predict("model", "model/config.json"), 1, &["--output 'model/config.json' is a file"]);
    fails(
        dir.run("--model_dir data/test-volume.tif --max_steps 1"),
        1,
        &["--model_dir 'data/test-volume.tif' is a file"],
    );
    // A folder of datasets is none by itself.
    let folders = ["phantom", "--layout", "folders", "--out", "many/one", "--slices", "2", "--size", "32"];
    dir.unet(&folders).success();
    let printed = stdout(&dir.unet(&["inspect", "--data_dir", "many"]).code(1));
    assert_has(&printed, &["many/one/images' holds 2 images", "give it to --data_dir"]);
}
