//! Datasets of each layout from training to masks: channels, classes, sizes, and what is wrong with them.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{TestDir, fails, stderr, stdout, wait_for};

const SMALL: &str = "--base_filters 2 --batch_size 2 --augment --max_steps 2";

/// A PNG of 8 bits: 1 channel or 3.
fn png(path: &Path, [width, height]: [u32; 2], channels: usize, sample: impl Fn(usize, usize, usize) -> u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), width, height);
    encoder.set_color(if channels == 3 { png::ColorType::Rgb } else { png::ColorType::Grayscale });
    let mut bytes = Vec::new();
    for (y, x) in (0..height as usize).flat_map(|y| (0..width as usize).map(move |x| (y, x))) {
        bytes.extend((0..channels).map(|channel| sample(y, x, channel)));
    }
    encoder.write_header().unwrap().write_image_data(&bytes).unwrap();
}

/// Width, height, channels, and samples of a PNG as bytes.
fn read_png(path: &Path) -> ([u32; 2], usize, Vec<u8>) {
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    bytes.truncate(info.buffer_size());
    ([info.width, info.height], info.color_type.samples(), bytes)
}

/// Labelled images of these sizes in `data/images` and `data/masks`; a label's value is that of `values` for its
/// column.
fn folders(dir: &TestDir, sizes: &[[u32; 2]], channels: usize, values: &[u8]) {
    for (index, &size) in sizes.iter().enumerate() {
        let name = format!("{index:02}.png");
        png(&dir.path(&format!("data/images/{name}")), size, channels, |y, x, c| (7 * y + 3 * x + 50 * c) as u8);
        let label = |_: usize, x: usize, _: usize| values[x * values.len() / size[0] as usize];
        png(&dir.path(&format!("data/masks/{name}")), size, 1, label);
    }
}

fn phantom(args: &str) -> TestDir {
    TestDir::phantom(6, 64, args)
}

/// The different bytes of a mask.
fn values_of(path: &Path) -> BTreeSet<u8> {
    read_png(path).2.into_iter().collect()
}

#[test]
fn folders_in_colour_train_and_predict_with_the_names_and_values_that_came_in() {
    let dir = phantom("--layout folders --classes 3 --channels 3");
    let printed =
        stdout(&dir.run(&format!("{SMALL} --exec_mode train_and_evaluate --crossvalidation_idx 1")).success());
    assert!(printed.contains("6 images of 64x64, 3 channels, 4 to train, 2 to validate"), "{printed}");
    assert!(printed.contains("mean_dice") && !printed.contains("v_rand"), "{printed}");
    let scores = dir.json("model/eval.json");
    assert_eq!(scores["classes"].as_array().unwrap().len(), 3);
    let pixels: u64 = scores["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(pixels, 2 * 64 * 64);
    assert!(dir.path("model/confusion.png").exists() && dir.path("model/confusion.csv").exists());
    let config = dir.json("model/config.json");
    assert_eq!(config["channels"], 3);
    assert_eq!(config["label_map"]["classes"].as_array().unwrap().len(), 3);

    dir.run("--exec_mode predict --overwrite").success();
    let tests: Vec<String> = dir.files("data/test");
    assert_eq!(tests.len(), 6);
    for name in tests {
        let ([width, height], channels, _) = read_png(&dir.path(&format!("model/pred/{name}")));
        assert_eq!((width, height, channels), (64, 64, 1));
        assert!(values_of(&dir.path(&format!("model/pred/{name}"))).iter().all(|value| *value < 3));
    }
}

#[test]
fn nnunet_data_train_by_their_own_folds() {
    let dir = phantom("--layout nnunet --classes 3 --channels 2");
    let names: Vec<String> = (0..6).map(|index| format!("phantom_{index:03}")).collect();
    let folds = serde_json::json!([{"train": names[2..], "val": names[..2]}, {"train": names[..1], "val": names[1..]}]);
    fs::write(dir.path("data/splits_final.json"), folds.to_string()).unwrap();
    let printed =
        stdout(&dir.run(&format!("{SMALL} --exec_mode train_and_evaluate --crossvalidation_idx 1")).success());
    assert!(printed.contains("1 to train, 5 to validate") && printed.contains("2 channels"), "{printed}");
    let run = dir.run(&format!("{SMALL} --exec_mode train_and_evaluate --crossvalidation_idx 2 --overwrite"));
    fails(run, 1, &["--crossvalidation_idx 2", "folds 0 to 1"]);
    let description = String::from_utf8(dir.read("data/dataset.json")).unwrap();
    let names = description.find("\"1\":").unwrap();
    let more = format!("{}\"2\": \"third\", {}", &description[..names], &description[names..]);
    fs::write(dir.path("data/dataset.json"), more).unwrap();
    fails(dir.run(&format!("{SMALL} --overwrite")), 1, &["names 3 channels, the images have 2"]);
    fs::write(dir.path("data/dataset.json"), description).unwrap();
    dir.run("--exec_mode predict --overwrite --save_probabilities").success();
    assert!(dir.path("model/pred/phantom_005.png").exists());
    let code =
        "import sys, tifffile, numpy\np = tifffile.imread(sys.argv[1])\nprint(p.shape, abs(p.sum(0) - 1).max() < 1e-5)";
    let path = dir.path("model/pred/phantom_005-probabilities.tif");
    if let Some(printed) = common::python(code, &[&path]) {
        assert_eq!(printed.trim(), "(3, 64, 64) True");
    }
}

#[test]
fn masks_of_single_objects_are_merged() {
    let dir = TestDir::empty();
    for index in 0..5usize {
        let folder = format!("data/id{index}");
        png(&dir.path(&format!("{folder}/images/id{index}.png")), [48, 32], 3, |y, x, c| (y * x + c) as u8);
        for object in 0..2 {
            let path = dir.path(&format!("{folder}/masks/{object}.png"));
            png(&path, [48, 32], 1, |_, x, _| if x / 8 == 2 * object + index % 2 { 255 } else { 0 });
        }
    }
    let printed = stdout(&dir.unet(&["inspect", "--data_dir", "data"]).success());
    // Two objects of 8 columns of 48.
    assert!(printed.contains("background 66.67 %, foreground 33.33 %"), "{printed}");
    assert!(printed.contains("train with: unet --data_dir data"), "{printed}");
    dir.run(&format!("{SMALL} --exec_mode train_and_evaluate --crossvalidation_idx 0")).success();
    assert!(dir.json("model/eval.json")["v_rand_thin"].is_number(), "two classes have the challenge's scores");
    png(&dir.path("data/id1/masks/2.png"), [40, 32], 1, |_, _, _| 255);
    fails(dir.run(&format!("{SMALL} --overwrite")), 1, &["2.png", "32x40", "32x48"]);
}

#[test]
fn a_label_map_joins_values_ignores_others_and_its_first_values_are_written() {
    let dir = TestDir::empty();
    folders(&dir, &[[64, 48]; 5], 1, &[10, 11, 20, 30]);
    let run = dir.run(SMALL);
    fails(run, 1, &["10 (25.00 %), 11 (25.00 %)", "--label_map '10=class_0;"]);
    let map = "--label_map 10,11=a;20=b;30=ignore";
    dir.run(&format!("{SMALL} {map} --class_weights balanced --exec_mode train_and_evaluate --crossvalidation_idx 0"))
        .success();
    let scores = dir.json("model/eval.json");
    assert_eq!(scores["ignored_pixels"], 16 * 48);
    assert_eq!(scores["classes"][0]["support"], 32 * 48);
    // Two classes of which one has twice the pixels of the other.
    assert_eq!(dir.json("model/config.json")["class_weights"], serde_json::json!([0.75, 1.5]));
    // The map is the network's from now on.
    dir.run("--exec_mode evaluate --crossvalidation_idx 0 --overwrite").success();
    let other = dir.run("--exec_mode evaluate --crossvalidation_idx 0 --overwrite --label_map 10=a;11,20,30=b");
    fails(other, 1, &["--label_map says", "trained with 10,11=a;20=b;30=ignore"]);
    let run =
        dir.unet(&["--exec_mode", "predict", "--model_dir", "model", "--input", "data/images", "--output", "out"]);
    run.success();
    assert!(values_of(&dir.path("out/00.png")).iter().all(|value| [10, 20].contains(value)));
    let wrong = dir.run(&format!("{SMALL} {map} --class_weights 1,2,3 --overwrite"));
    fails(wrong, 1, &["3 numbers for 2 classes", "a, b"]);
}

#[test]
fn images_of_several_sizes_train_and_their_masks_have_their_size() {
    let dir = TestDir::empty();
    let sizes = [[64, 48], [30, 90], [200, 17], [64, 48], [33, 33]];
    folders(&dir, &sizes, 1, &[0, 255]);
    let printed = stdout(&dir.run(SMALL).success());
    assert!(printed.contains("5 images of 33x33 to 90x30") || printed.contains("5 images of"), "{printed}");
    dir.unet(&[
        "--exec_mode",
        "predict",
        "--model_dir",
        "model",
        "--input",
        "data/images",
        "--output",
        "out",
        "--batch_size",
        "3",
    ])
    .success();
    for (index, size) in sizes.into_iter().enumerate() {
        let (found, _, _) = read_png(&dir.path(&format!("out/{index:02}.png")));
        assert_eq!(found, size);
    }
}

/// What is decoded when it is needed is what is kept in memory, to the bit; so are masks of one file at a time.
#[test]
fn data_larger_than_memory_give_the_same_bits() {
    let dir = phantom("--layout folders --classes 4 --channels 3");
    let train = "--base_filters 2 --batch_size 2 --augment --max_steps 5 --exec_mode train_and_evaluate \
                 --crossvalidation_idx 0";
    dir.run(train).success();
    let (weights, scores) = (dir.read("model/model.safetensors"), dir.read("model/eval.json"));
    let printed = stdout(&dir.run(&format!("{train} --memory_share 0 --overwrite")).success());
    assert!(printed.contains("not all in memory"), "{printed}");
    assert!(dir.read("model/model.safetensors") == weights);
    assert!(dir.read("model/eval.json") == scores);
}

#[test]
fn one_bad_file_costs_itself_alone_and_is_told() {
    let dir = phantom("--layout folders --classes 3 --channels 1");
    // What is no image to the program is told, in training too.
    fs::write(dir.path("data/images/slice_99.bmp"), "BM").unwrap();
    let printed = stdout(&dir.run(SMALL).success());
    assert!(printed.contains("'data/images': 'slice_99.bmp' left out, no image files"), "{printed}");
    fs::write(dir.path("data/test/slice_99.czi"), "ZISRAWFILE").unwrap();
    let good = dir.read("data/test/slice_02.png");
    fs::write(dir.path("data/test/slice_02.png"), &good[..good.len() / 2]).unwrap();
    png(&dir.path("data/test/slice_03.png"), [64, 64], 3, |y, x, c| (y + x + c) as u8);
    let predict = ["--exec_mode", "predict", "--model_dir", "model", "--input", "data/test", "--output", "out"];
    let run = dir.unet(&predict).code(1);
    let told = stderr(&run);
    assert!(stdout(&run).contains("'data/test': 'slice_99.czi' left out"), "{}", stdout(&run));
    assert!(told.contains("slice_02.png") && told.contains("cut short"), "{told}");
    assert!(told.contains("slice_03.png' has 3 channels, the network takes 1 channel"), "{told}");
    assert!(told.contains("2 of 6 files could not be predicted"), "{told}");
    let masks = |dir: &TestDir| dir.files("out").into_iter().filter(|name| name.starts_with("slice")).count();
    assert_eq!(masks(&dir), 4);
    // Mended, the run goes on where it was.
    fs::write(dir.path("data/test/slice_02.png"), &good).unwrap();
    fs::remove_file(dir.path("data/test/slice_03.png")).unwrap();
    let before = fs::metadata(dir.path("out/slice_00.png")).unwrap().modified().unwrap();
    let printed = stdout(&dir.unet(&predict).success());
    assert!(printed.contains("kept: 4 masks") && printed.contains("masks: 1 in out"), "{printed}");
    assert_eq!(fs::metadata(dir.path("out/slice_00.png")).unwrap().modified().unwrap(), before);
}

#[test]
fn a_prediction_that_is_killed_goes_on_and_ends_with_the_masks_of_an_unbroken_one() {
    let dir = TestDir::empty();
    folders(&dir, &[[40, 40]; 60], 1, &[0, 255]);
    dir.run(&format!("{SMALL} --model_dir model")).success();
    let predict = |out: &str| {
        let mut command = common::program();
        command.args(["--exec_mode", "predict", "--model_dir", "model", "--input", "data/images", "--output", out]);
        command.current_dir(dir.path("")).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command
    };
    assert!(predict("unbroken").status().unwrap().success());
    let done = || dir.files("killed").into_iter().filter(|name| name.ends_with(".png") && name.len() == 6).count();
    let mut run = predict("killed").spawn().unwrap();
    wait_for("mask", || done() >= 5 || run.try_wait().unwrap().is_some());
    run.kill().unwrap();
    run.wait().unwrap();
    assert!((5..60).contains(&done()), "killed half-way: {}", done());
    assert!(predict("killed").status().unwrap().success());
    for name in dir.files("unbroken").into_iter().filter(|name| !is_of_run(name)) {
        assert!(dir.read(&format!("unbroken/{name}")) == dir.read(&format!("killed/{name}")), "{name}");
    }
    assert!(dir.files("killed").iter().all(|name| !name.ends_with(".tmp")));
}

/// Whether a file shows what one run has predicted, and when.
fn is_of_run(name: &str) -> bool {
    ["unet-overview.png", "unet-report.html"].contains(&name)
}

#[test]
fn several_processes_share_the_files_and_make_the_same_masks() {
    let dir = phantom("--layout folders --classes 3 --channels 3");
    dir.run(SMALL).success();
    let predict = |out: &str, more: &[&str]| {
        let args = ["--exec_mode", "predict", "--model_dir", "model", "--input", "data/test", "--output", out];
        dir.unet(&[&args[..], more].concat()).success();
    };
    predict("alone", &[]);
    predict("two", &["--nproc_per_node", "2", "--device", "cpu"]);
    for name in dir.files("alone").into_iter().filter(|name| !is_of_run(name)) {
        assert!(dir.read(&format!("alone/{name}")) == dir.read(&format!("two/{name}")), "{name}");
    }
}

#[test]
fn stacks_of_several_classes_keep_the_stack_layout() {
    let dir = phantom("--layout stacks --classes 4");
    dir.run(&format!("{SMALL} --exec_mode train_and_predict")).success();
    let code = "import sys, tifffile, numpy\nm = tifffile.imread(sys.argv[1])\np = tifffile.imread(sys.argv[2])\n\
                print(m.shape, m.dtype, m.max() < 4, p.shape, bool((p.argmax(1) == m).all()))";
    let paths = [dir.path("model/pred/test-masks.tif"), dir.path("model/pred/test-probabilities.tif")];
    if let Some(printed) = common::python(code, &[&paths[0], &paths[1]]) {
        assert_eq!(printed.trim(), "(6, 64, 64) uint8 True (6, 4, 64, 64) True");
    }
}

#[test]
fn results_are_not_mixed_up_with_inputs_or_with_those_of_other_weights() {
    let dir = phantom("--layout folders --classes 3");
    dir.run(SMALL).success();
    let predict = |args: &[&str]| dir.unet(&[&["--exec_mode", "predict", "--model_dir", "model"], args].concat());
    fails(predict(&["--input", "data/test", "--output", "data/test"]), 1, &["is an input"]);
    fs::create_dir(dir.path("out")).unwrap();
    fs::write(dir.path("out/slice_00.png"), "somebody's").unwrap();
    fails(predict(&["--input", "data/test", "--output", "out"]), 1, &["out/slice_00.png", "--overwrite"]);
    assert_eq!(dir.read("out/slice_00.png"), b"somebody's");
    predict(&["--input", "data/test", "--output", "out", "--overwrite"]).success();
    dir.run(&format!("{SMALL} --seed 5 --overwrite")).success();
    fails(predict(&["--input", "data/test", "--output", "out"]), 1, &["other weights"]);
    for (args, words) in [
        (&["--input", "data/test"][..], "--output"),
        (&["--output", "out"], "--data_dir"),
        (&["--input", "data/test", "--output", "out", "--data_dir", "data"], "takes the place"),
        (&["--input", "data/test", "--output", "out", "--label_map", "0=a;1=b"], "--label_map"),
        (&["--input", "data/test", "--output", "out", "--benchmark"], "--benchmark"),
    ] {
        fails(predict(args), 2, &[words]);
    }
    let run = dir.unet(&["--exec_mode", "train", "--input", "data/test", "--output", "out"]);
    fails(run, 2, &["--exec_mode predict"]);
    fails(predict(&["--input", "nowhere", "--output", "out"]), 1, &["nowhere"]);
}

/// The folder of masks remembers what its network has not made, whatever other networks write there in the meantime.
#[test]
fn masks_of_earlier_weights_are_never_kept_as_those_of_these() {
    let dir = phantom("--layout folders --classes 3");
    let predict = |input: &str, args: &[&str]| {
        let start = ["--exec_mode", "predict", "--model_dir", "model", "--output", "out", "--input", input];
        dir.unet(&[&start[..], args].concat())
    };
    dir.run(SMALL).success();
    predict("data/test", &[]).success();
    let old = dir.read("out/slice_00.png");
    dir.run(&format!("{SMALL} --seed 5 --overwrite")).success();
    // The images are others than those of the masks that are there.
    fs::create_dir(dir.path("others")).unwrap();
    fs::copy(dir.path("data/test/slice_00.png"), dir.path("others/a.png")).unwrap();
    predict("others", &[]).success();
    assert!(dir.read("out/a.png") != old, "the networks differ");
    fails(predict("data/test", &[]), 1, &["out/slice_00.png", "other weights", "--overwrite"]);
    // Some masks are replaced: the run does not come to its end.
    let good = dir.read("data/test/slice_03.png");
    fs::write(dir.path("data/test/slice_03.png"), "nothing").unwrap();
    predict("data/test", &["--overwrite"]).code(1);
    assert!(dir.read("out/slice_00.png") == dir.read("out/a.png"));
    fs::write(dir.path("data/test/slice_03.png"), good).unwrap();
    fails(predict("data/test", &[]), 1, &["other weights"]);
    predict("data/test", &["--overwrite"]).success();
    assert!(stdout(&predict("data/test", &[]).success()).contains("kept: 6 masks"));
    // Probabilities that are asked for later are made, not left out because there is a mask.
    let printed = stdout(&predict("data/test", &["--save_probabilities"]).success());
    assert!(!printed.contains("kept:") && dir.path("out/slice_05-probabilities.tif").is_file(), "{printed}");
    // Somebody's picture is no mask.
    fs::write(dir.path("out/b.png"), "somebody's").unwrap();
    fs::remove_file(dir.path("out/unet-predictions.json")).unwrap();
    fs::rename(dir.path("others/a.png"), dir.path("others/c.png")).unwrap();
    predict("others", &[]).success();
    fs::rename(dir.path("others/c.png"), dir.path("others/b.png")).unwrap();
    fails(predict("others", &[]), 1, &["out/b.png"]);
    assert_eq!(dir.read("out/b.png"), b"somebody's");
}

#[test]
fn a_network_for_other_images_is_refused() {
    let dir = phantom("--layout folders --classes 3 --channels 3");
    dir.run(SMALL).success();
    let grey = phantom("--layout folders --classes 3 --channels 1");
    let run = dir.unet(&[
        "--exec_mode",
        "evaluate",
        "--crossvalidation_idx",
        "0",
        "--model_dir",
        "model",
        "--data_dir",
        grey.path("data").to_str().unwrap(),
    ]);
    fails(run, 1, &["1 channel(s), the network takes 3"]);
    let other = phantom("--layout folders --classes 5 --channels 3");
    let run = dir.unet(&[
        "--exec_mode",
        "evaluate",
        "--crossvalidation_idx",
        "0",
        "--model_dir",
        "model",
        "--data_dir",
        other.path("data").to_str().unwrap(),
    ]);
    fails(run, 1, &["does not know the values 3, 4"]);
}

#[test]
fn every_bad_file_of_a_dataset_is_listed() {
    let dir = TestDir::empty();
    folders(&dir, &[[32, 32]; 6], 1, &[0, 255]);
    let good = dir.read("data/images/01.png");
    fs::write(dir.path("data/images/01.png"), &good[..good.len() - 30]).unwrap();
    png(&dir.path("data/images/02.png"), [32, 32], 3, |y, x, _| (y * x) as u8);
    png(&dir.path("data/masks/03.png"), [16, 32], 1, |_, _, _| 0);
    fs::write(dir.path("data/masks/04.png"), b"GIF89a").unwrap();
    let run = dir.run(SMALL).code(1);
    let told = stderr(&run);
    for words in [
        "4 problem(s)",
        "images/01.png",
        "images/02.png' has 3 channels, most images have 1 channel",
        "masks/03.png' an image of 32x16",
        "masks/04.png' is a GIF",
    ] {
        assert!(told.contains(words), "no '{words}' in {told}");
    }
    assert!(!dir.path("model/config.json").exists());
    let inspected = dir.unet(&["inspect", "--data_dir", "data"]).code(1);
    assert_eq!(stdout(&inspected).matches("problem:").count(), 4, "{}", stdout(&inspected));
}

#[test]
fn labels_that_are_lossy_in_colour_or_of_one_class_are_told() {
    let dir = TestDir::empty();
    folders(&dir, &[[40, 24]; 5], 1, &[0, 0]);
    fails(dir.run(SMALL), 1, &["all labels are of the class 'background'", "--label_map"]);
    png(&dir.path("data/masks/00.png"), [40, 24], 3, |_, x, c| if x < 10 && c == 0 { 200 } else { 0 });
    fails(dir.run(&format!("{SMALL} --overwrite")), 1, &["#c80000", "--label_map"]);
    fs::remove_file(dir.path("data/masks/00.png")).unwrap();
    let jpeg = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images/grey.jpg");
    fs::copy(jpeg, dir.path("data/masks/00.jpg")).unwrap();
    fails(dir.run(&format!("{SMALL} --overwrite")), 1, &["00.jpg", "PNG or TIFF"]);
}

#[test]
fn colour_masks_train_by_a_map_and_come_back_in_colour() {
    let dir = TestDir::empty();
    for index in 0..5 {
        png(&dir.path(&format!("data/images/{index}.png")), [40, 32], 1, |y, x, _| (9 * y + x) as u8);
        let colour = |_: usize, x: usize, c: usize| if x < 15 { [255, 0, 0][c] } else { [0, 0, 128][c] };
        png(&dir.path(&format!("data/masks/{index}.png")), [40, 32], 3, colour);
    }
    let map = "#ff0000=red;#000080=blue";
    let args =
        ["--data_dir", "data", "--model_dir", "model", "--base_filters", "2", "--max_steps", "1", "--label_map", map];
    dir.unet(&args).success();
    dir.unet(&["--exec_mode", "predict", "--model_dir", "model", "--input", "data/images", "--output", "out"])
        .success();
    let (_, channels, bytes) = read_png(&dir.path("out/3.png"));
    assert_eq!(channels, 3);
    assert!(bytes.chunks(3).all(|pixel| pixel == [255, 0, 0] || pixel == [0, 0, 128]));
}

#[test]
fn exports_say_what_the_network_is_for() {
    let dir = phantom("--layout folders --classes 3 --channels 3");
    dir.run(&format!("{SMALL} --label_map 0=wall;1=cell;2=dots")).success();
    for (to, file) in [("onnx", "net.onnx"), ("torchscript", "net.pt")] {
        dir.unet(&["export", "--model_dir", "model", "--to", to, "--out", file, "--height", "188", "--width", "188"])
            .success();
    }
    dir.unet(&["export", "--model_dir", "model", "--to", "onnx", "--out", "own.onnx", "--data_dir", "data"]).success();
    let code = "import sys, onnx\nm = onnx.load(sys.argv[1])\nd = {p.key: p.value for p in m.metadata_props}\n\
                print(d['classes'], d['label_values'], d['channels'],\n\
                [x.dim_value for x in m.graph.input[0].type.tensor_type.shape.dim][1:],\n\
                [x.dim_value for x in m.graph.output[0].type.tensor_type.shape.dim][1:])";
    if let Some(printed) = common::python_with("onnx", code, &[&dir.path("net.onnx")]) {
        assert_eq!(printed.trim(), r#"["wall","cell","dots"] [[0],[1],[2]] 3 [3, 188, 188] [3, 4, 4]"#);
    }
}
