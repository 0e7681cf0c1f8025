//! `unet phantom`: the files of each layout, read by other programs.

mod common;

use std::fs;
use std::io::Cursor;
use std::path::Path;

use common::{TestDir, fails, python, python_command, stdout, text};

/// Size, colour and samples of a PNG.
struct Picture {
    size: (u32, u32),
    colour: png::ColorType,
    samples: Vec<u8>,
}

fn read_png(bytes: &[u8]) -> Picture {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
    let mut samples = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut samples).unwrap();
    assert_eq!(info.bit_depth, png::BitDepth::Eight);
    Picture { size: (info.width, info.height), colour: info.color_type, samples }
}

/// Runs `unet phantom` on `made` with two slices of 48x48 pixels; what it printed.
fn phantom(dir: &TestDir, args: &str) -> String {
    let args = format!("phantom --out made --slices 2 --size 48 {args}");
    stdout(&dir.unet(&args.split(' ').collect::<Vec<_>>()).success())
}

/// The different values of some samples, in order.
fn values(samples: &[u8]) -> Vec<u8> {
    let mut values = samples.to_vec();
    values.sort_unstable();
    values.dedup();
    values
}

#[test]
fn folders_hold_the_pages_of_the_stacks() {
    let dir = TestDir::new();
    assert_eq!(
        phantom(&dir, "--layout folders"),
        "made/images: 2 files\nmade/masks: 2 files\nmade/test: 2 files\nmade/test-masks: 2 files\n"
    );
    // In the order of the names with their separator.
    let names = ["images", "masks", "test-masks", "test"];
    let expected: Vec<String> =
        names.iter().flat_map(|name| [0, 1].map(|slice| format!("{name}/slice_{slice:02}.png"))).collect();
    assert_eq!(dir.files("made"), expected);
    for name in &expected {
        let picture = read_png(&dir.read(&format!("made/{name}")));
        assert_eq!((picture.size, picture.colour), ((48, 48), png::ColorType::Grayscale), "{name}");
    }
    assert_eq!(values(&read_png(&dir.read("made/masks/slice_00.png")).samples), [0, 255]);

    dir.unet(&["phantom", "--out", "stacks", "--slices", "2", "--size", "48"]).success();
    let code = "import sys, numpy, tifffile\n\
                from PIL import Image\n\
                stacks, made = sys.argv[1:]\n\
                pairs = {'train-volume': 'images', 'train-labels': 'masks', 'test-volume': 'test', \
                'test-labels': 'test-masks'}\n\
                for stack, folder in pairs.items():\n    \
                    pages = [numpy.asarray(Image.open(f'{made}/{folder}/slice_0{z}.png')) for z in (0, 1)]\n    \
                    assert (tifffile.imread(f'{stacks}/{stack}.tif') == numpy.stack(pages)).all(), stack\n";
    python(code, &[&dir.path("stacks"), &dir.path("made")]);
}

#[test]
fn three_channels_are_rgb_in_folders_and_three_files_for_nnunet() {
    let dir = TestDir::new();
    phantom(&dir, "--layout folders --channels 3 --classes 3");
    let rgb = read_png(&dir.read("made/test/slice_01.png"));
    assert_eq!((rgb.size, rgb.colour), ((48, 48), png::ColorType::Rgb));
    let mask = read_png(&dir.read("made/test-masks/slice_01.png")).samples;
    assert!(mask.iter().all(|&class| class < 3) && mask.contains(&0) && mask.contains(&1));

    phantom(&dir, "--layout nnunet --channels 3 --classes 3");
    for channel in 0..3 {
        let grey = read_png(&dir.read(&format!("made/imagesTs/phantom_001_000{channel}.png")));
        assert_eq!(grey.colour, png::ColorType::Grayscale);
        let of_rgb: Vec<u8> = rgb.samples.iter().skip(channel).step_by(3).copied().collect();
        assert_eq!(grey.samples, of_rgb, "channel {channel}");
    }
    assert_eq!(read_png(&dir.read("made/labelsTs/phantom_001.png")).samples, mask);
}

#[test]
fn nnunet_gets_class_indices_and_a_description() {
    let dir = TestDir::new();
    assert_eq!(
        phantom(&dir, "--layout nnunet --channels 2"),
        "made/imagesTr: 4 files\nmade/labelsTr: 2 files\nmade/imagesTs: 4 files\nmade/labelsTs: 2 files\n\
         made/dataset.json\n"
    );
    assert_eq!(
        dir.files("made"),
        [
            "dataset.json",
            "imagesTr/phantom_000_0000.png",
            "imagesTr/phantom_000_0001.png",
            "imagesTr/phantom_001_0000.png",
            "imagesTr/phantom_001_0001.png",
            "imagesTs/phantom_000_0000.png",
            "imagesTs/phantom_000_0001.png",
            "imagesTs/phantom_001_0000.png",
            "imagesTs/phantom_001_0001.png",
            "labelsTr/phantom_000.png",
            "labelsTr/phantom_001.png",
            "labelsTs/phantom_000.png",
            "labelsTs/phantom_001.png",
        ]
    );
    assert_eq!(values(&read_png(&dir.read("made/labelsTr/phantom_000.png")).samples), [0, 1]);
    let description = dir.json("made/dataset.json");
    assert_eq!(description["labels"], serde_json::json!({ "background": 0, "cell": 1 }));
    assert_eq!(description["channel_names"].as_object().unwrap().len(), 2);
    assert_eq!(description["numTraining"], 2);
    assert_eq!(description["file_ending"], ".png");
}

#[test]
fn overwrite_replaces_what_is_written_and_nothing_else() {
    let dir = TestDir::new();
    phantom(&dir, "--layout folders");
    let before = dir.read("made/images/slice_00.png");
    fs::write(dir.path("made/images/slice_07.png"), "mine").unwrap();
    // One file is enough to stop.
    fs::remove_dir_all(dir.path("made/masks")).unwrap();
    let args = ["phantom", "--out", "made", "--slices", "2", "--size", "32", "--layout", "folders"];
    fails(dir.unet(&args), 1, &["made/images/slice_00.png", "--overwrite"]);
    assert!(!dir.path("made/masks").exists());
    assert_eq!(dir.read("made/images/slice_00.png"), before);
    dir.unet(&[&args[..], &["--overwrite"]].concat()).success();
    assert_ne!(dir.read("made/images/slice_00.png"), before);
    assert_eq!(dir.read("made/images/slice_07.png"), b"mine");
}

#[test]
fn stacks_of_six_classes_hold_class_indices() {
    let dir = TestDir::new();
    let args = ["phantom", "--out", "made", "--slices", "1", "--size", "256", "--classes", "6"];
    dir.unet(&args).success();
    let code = "import sys, numpy, tifffile; print(numpy.unique(tifffile.imread(sys.argv[1])).tolist())";
    if let Some(found) = python(code, &[&dir.path("made/train-labels.tif")]) {
        assert_eq!(found.trim(), "[0, 1, 2, 3, 4, 5]");
    }
}

/// Runs a script of scripts/data in the folder of a test; what it printed to stdout, or else its error.
fn script(dir: &TestDir, name: &str, args: &[&str]) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/data").join(name);
    let output = python_command().arg(path).args(args).current_dir(dir.path("")).output().unwrap();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn to_nnunet_keeps_colours_and_renumbers_labels() {
    let dir = TestDir::new();
    if python("", &[]).is_none() {
        return;
    }
    phantom(&dir, "--layout folders --channels 3");
    script(&dir, "to_nnunet.py", &["made", "raw", "--labels", "background,cell"]).unwrap();
    let (image, label) = ("raw/imagesTr/slice_01_0000.png", "raw/labelsTr/slice_01.png");
    let [source, copy] = ["made/images/slice_01.png", image].map(|name| read_png(&dir.read(name)));
    assert_eq!((copy.colour, copy.samples), (png::ColorType::Rgb, source.samples));
    let mask = read_png(&dir.read("made/masks/slice_01.png")).samples;
    let indices: Vec<u8> = mask.iter().map(|&value| u8::from(value == 255)).collect();
    assert_eq!(read_png(&dir.read(label)).samples, indices);
    let expected = serde_json::json!({
        "channel_names": { "0": "R", "1": "G", "2": "B" },
        "labels": { "background": 0, "cell": 1 },
        "numTraining": 2,
        "file_ending": ".png",
    });
    assert_eq!(dir.json("raw/dataset.json"), expected);
    let error = script(&dir, "to_nnunet.py", &["made", "raw", "--labels", "background,cell"]).unwrap_err();
    assert!(error.contains("--overwrite"), "{error}");
    let error = script(&dir, "to_nnunet.py", &["made", "other", "--labels", "background,a,b"]).unwrap_err();
    assert!(error.contains("2 values (0, 255)") && !dir.path("other").exists(), "{error}");
}

#[test]
fn convert_instances_gives_touching_objects_a_border() {
    let dir = TestDir::new();
    // Objects 1 and 300 touch; the edge of the image is no border.
    let code = "import sys, numpy, pathlib\n\
                from PIL import Image\n\
                pathlib.Path(sys.argv[1]).mkdir()\n\
                rows = [[1, 1, 1, 300, 300, 300, 300, 0]] * 3\n\
                Image.fromarray(numpy.array(rows, numpy.uint16)).save(sys.argv[1] + '/a.png')\n";
    if python(code, &[&dir.path("instances")]).is_none() {
        return;
    }
    script(&dir, "convert_instances.py", &["instances", "masks", "--border", "1"]).unwrap();
    let mask = read_png(&dir.read("masks/a.png"));
    assert_eq!(mask.size, (8, 3));
    assert_eq!(mask.samples, [[1, 1, 2, 2, 1, 1, 2, 0]; 3].concat());
}
