//! Data and runs that look sound and are not: the program says so, or does the right thing. docs/reliability.md has the
//! list.

mod common;

use std::fs;
use std::path::PathBuf;

use common::{TestDir, alter, fails, program, python, stderr, stdout};

const TRAIN: &str = "--base_filters 2 --learning_rate 0.003 --batch_size 2";
const FOLD: &str = "--exec_mode train_and_evaluate --crossvalidation_idx 0";

fn loss(dir: &TestDir) -> f64 {
    dir.json("model/eval.json")["eval_total_loss"].as_f64().unwrap()
}

/// Pixels of the masks of the test stack.
fn masks(dir: &TestDir) -> Vec<u8> {
    dir.read("model/pred/test-masks.tif")
}

#[test]
fn a_small_part_of_a_type_trains_as_a_type_that_is_filled() {
    let args = format!("{TRAIN} {FOLD} --max_steps 12");
    let bytes = TestDir::new();
    bytes.run(&args).success();
    assert_eq!(bytes.json("model/config.json")["datasets"][0]["grey_range"]["white"], 255.0);
    for (change, white) in [
        ("volume = volume.astype('u2') * 4", 1023.0),
        ("volume = volume.astype('u2') * 16", 4095.0),
        ("volume = volume.astype('u2') * 64", 16_383.0),
        ("volume = volume.astype('f4') * 16; volume[2, 3, 4] = 1e9", 4095.0),
        ("volume = volume // 4", 63.0),
        ("volume = volume.astype('u2') * 16; volume[0, 5, 5] = 65535", 4095.0),
    ] {
        let dir = TestDir::new();
        if !alter(&dir, "data", change) {
            return;
        }
        let printed = stdout(&dir.run(&args).success());
        assert!(printed.contains(&format!("grey levels: 0 becomes black and {white} white")), "{change}: {printed}");
        let range = &dir.json("model/config.json")["datasets"][0]["grey_range"];
        assert_eq!((&range["black"], &range["white"]), (&0.0.into(), &white.into()), "{change}");
        assert!((loss(&dir) - loss(&bytes)).abs() < 0.03, "{change}: {} and {}", loss(&dir), loss(&bytes));
    }
}

#[test]
fn narrow_values_are_spread_from_percentile_to_percentile() {
    let dir = TestDir::new();
    if !alter(&dir, "data", "volume = volume.astype('u2') * 2 + 500; volume[1, 1, 1] = 60000") {
        return;
    }
    dir.run(&format!("{TRAIN} --max_steps 1")).success();
    let code = "import sys, numpy, tifffile
values = numpy.sort(tifffile.imread(sys.argv[1]).ravel())
beyond = len(values) // 1000
print(values[beyond], values[-1 - beyond])";
    let percentiles = python(code, &[&dir.path("data/train-volume.tif")]).unwrap();
    let range = &dir.json("model/config.json")["datasets"][0]["grey_range"];
    assert_eq!(percentiles.trim(), format!("{} {}", range["black"], range["white"]).replace(".0", ""));
    // The flag decides otherwise.
    for (flag, white) in [("type", 65_535.0), ("0,1023", 1023.0)] {
        dir.run(&format!("{TRAIN} --max_steps 1 --overwrite --grey_range {flag}")).success();
        assert_eq!(dir.json("model/config.json")["datasets"][0]["grey_range"]["white"], white);
    }
    // What goes on must be mapped as before.
    let resume = dir.run(&format!("{TRAIN} --max_steps 2 --resume_training"));
    assert!(stderr(&resume.failure()).contains("grey ranges"));
    for wrong in ["4,4", "9,3", "a,3", "3", "nan,4", "wide"] {
        fails(dir.run(&format!("{TRAIN} --grey_range {wrong}")), 2, &["--grey_range", "auto, type"]);
    }
}

#[test]
fn prediction_keeps_the_mapping_of_training_or_refuses() {
    let dir = TestDir::new();
    if !alter(&dir, "data", "test[0, 5, 5] = 255") {
        return;
    }
    dir.run(&format!("{TRAIN} --max_steps 10 --exec_mode train_and_predict")).success();
    let expected = masks(&dir);
    let predict = "--exec_mode predict --overwrite";
    // The same values in other types, one of them beyond.
    for change in ["test = test.astype('u2')", "test = test.astype('f4'); test[0, 5, 5] = 256.2"] {
        assert!(alter(&dir, "data", change));
        let told = stderr(&dir.run(predict).success());
        assert!(told.contains("trained on 8-bit ones with 0 to 255"), "{told}");
        assert!(told.contains("% of the samples are clipped"), "{told}");
        assert!(masks(&dir) == expected, "{change}");
    }
    // Values that mean something else.
    for (change, range) in [
        ("test = numpy.minimum(test, 255).astype('u2') * 257", "0,65535"),
        ("test = (test / numpy.float32(257 * 255)).astype('f4')", "0,1"),
    ] {
        assert!(alter(&dir, "data", change));
        fails(dir.run(predict), 1, &["data", "trained on 8-bit ones", &format!("--grey_range {range}")]);
        let told = stderr(&dir.run(&format!("{predict} --grey_range {range}")).success());
        assert!(!told.contains("clipped"), "{told}");
        let differing = masks(&dir).iter().zip(&expected).filter(|(one, other)| one != other).count();
        assert!(differing < expected.len() / 1000, "{change}: {differing} of {}", expected.len());
    }
    // A folder of files: each by itself.
    fs::create_dir(dir.path("in")).unwrap();
    fs::copy(dir.path("data/test-volume.tif"), dir.path("in/unit.tif")).unwrap();
    fs::copy(dir.path("data/train-volume.tif"), dir.path("in/bytes.tif")).unwrap();
    let args =
        ["--exec_mode", "predict", "--model_dir", "model", "--device", "cpu", "--input", "in", "--output", "out"];
    let told = stderr(&dir.unet(&args).code(1));
    assert!(told.contains("in/unit.tif") && told.contains("--grey_range 0,1"), "{told}");
    assert!(dir.path("out/bytes.tif").is_file() && !dir.path("out/unit.tif").exists());
}

#[test]
fn a_test_stack_of_another_kind_is_told_before_training() {
    let dir = TestDir::new();
    if !alter(&dir, "data", "test = test.astype('u2') * 257") {
        return;
    }
    fails(dir.run(&format!("{TRAIN} --exec_mode train_and_predict")), 1, &["16-bit", "trained on 8-bit"]);
    assert!(!dir.path("model/model.safetensors").exists());
    assert!(stdout(&dir.unet(&["inspect", "--data_dir", "data"]).code(1)).contains("problem: 16-bit samples"));
}

#[test]
fn the_newest_checkpoint_stands_for_the_weights_of_a_stopped_run() {
    for ema in ["", "--ema 0.9"] {
        let dir = TestDir::new();
        let args = format!("{TRAIN} {ema} --max_steps 4 --checkpoint_every 2");
        dir.run(&format!("{args} --exec_mode train_and_predict")).success();
        let (weights, expected) = (dir.read("model/model.safetensors"), masks(&dir));
        fs::remove_file(dir.path("model/model.safetensors")).unwrap();
        let told = stderr(&dir.run("--exec_mode predict --overwrite").success());
        assert!(told.contains("checkpoint of step 4") && told.contains("--resume_training"), "{told}");
        assert!(masks(&dir) == expected, "{ema}");
        let told = stderr(&dir.run("--exec_mode evaluate --crossvalidation_idx 0 --seed 3").success());
        assert!(told.contains("checkpoint of step 4"), "{told}");
        let export = ["export", "--model_dir", "model", "--to", "onnx", "--out", "net.onnx"];
        assert!(stderr(&dir.unet(&export).success()).contains("checkpoint of step 4"));
        // Weights of a run that has gone on since, and was stopped, are not those of its newest step.
        fs::write(dir.path("model/model.safetensors"), &weights).unwrap();
        let steps = fs::read(dir.path("model/checkpoints/step-0000000004.safetensors")).unwrap();
        assert!(!stderr(&dir.run("--exec_mode predict --overwrite").success()).contains("checkpoint"));
        let told = stderr(&dir.run(&format!("{args} --resume_training --max_steps 6")).success());
        assert!(told.contains("'model/pred/test-masks.tif' is of earlier weights; --exec_mode predict"), "{told}");
        fs::write(dir.path("model/model.safetensors"), &weights).unwrap();
        let told = stderr(&dir.run("--exec_mode predict --overwrite").success());
        assert!(told.contains("is of step 4, and the run has gone on since: using the checkpoint of step 6"), "{told}");
        fs::write(dir.path("model/checkpoints/step-0000000006.safetensors"), "nothing").unwrap();
        let told = stderr(&dir.run("--exec_mode predict --overwrite").success());
        assert!(told.contains("step-0000000006") && !told.contains("gone on"), "{told}");
        assert!(masks(&dir) == expected, "{ema}");
        fs::remove_file(dir.path("model/checkpoints/step-0000000006.safetensors")).unwrap();
        fs::write(dir.path("model/checkpoints/step-0000000004.safetensors"), steps).unwrap();
        // The end of the run.
        dir.run(&format!("{args} --resume_training")).success();
        assert!(dir.read("model/model.safetensors") == weights);
        // A damaged one gives way to the one before it.
        fs::remove_file(dir.path("model/model.safetensors")).unwrap();
        fs::write(dir.path("model/checkpoints/step-0000000004.safetensors"), "nothing").unwrap();
        let told = stderr(&dir.run("--exec_mode predict --overwrite").success());
        assert!(told.contains("step-0000000004") && told.contains("checkpoint of step 2"), "{told}");
        fs::write(dir.path("model/checkpoints/step-0000000002.safetensors"), "nothing").unwrap();
        fails(dir.run("--exec_mode predict --overwrite"), 1, &["model.safetensors", "no checkpoint can be read"]);
    }
}

#[test]
fn folds_that_are_one_split_are_refused_and_report_finds_equal_runs() {
    let dir = TestDir::new();
    if !alter(&dir, "data", "volume, labels = volume[:4], labels[:4]") {
        return;
    }
    let train = |fold: u32, args: &str| {
        dir.run(&format!("{TRAIN} --max_steps 1 --exec_mode train_and_evaluate --crossvalidation_idx {fold} {args}"))
    };
    let told = stderr(&train(0, "").success());
    assert!(told.contains("folds are all the same split"), "{told}");
    for fold in 1..5 {
        fails(train(fold, "--model_dir other"), 1, &["same split as fold 0", "--split disjoint"]);
    }
    train(1, "--model_dir other --split disjoint --folds 4").success();
    train(0, "--model_dir again --seed 0").success();
    let report = |runs: &[&str]| {
        let files: Vec<String> = runs.iter().map(|run| format!("{run}/eval.json")).collect();
        let files = files.iter().map(String::as_str);
        stderr(&dir.unet(&std::iter::once("report").chain(files).collect::<Vec<_>>()).success())
    };
    assert_eq!(report(&["model", "other"]), "");
    let equal = report(&["model", "other", "again"]);
    assert!(equal.contains("'model/eval.json', 'again/eval.json' validate the same slices"), "{equal}");
    assert!(equal.contains("are of the same weights"), "{equal}");
    let inspected = stdout(&dir.unet(&["inspect", "--data_dir", "data"]).success());
    assert!(inspected.contains("warning: 4 slices"), "{inspected}");
}

#[test]
fn data_of_one_class_or_one_value_are_refused_before_training() {
    for (change, words) in [
        ("labels = labels * 0", "all labels are of the class 'membrane'"),
        ("labels = labels * 0 + 255", "all labels are of the class"),
        ("volume = volume * 0 + 77", "of one value"),
    ] {
        let dir = TestDir::new();
        if !alter(&dir, "data", change) {
            return;
        }
        fails(dir.run(&format!("{TRAIN} --max_steps 1")), 1, &[words, "nothing to learn"]);
        assert!(!dir.path("model/config.json").exists());
        let inspected = stdout(&dir.unet(&["inspect", "--data_dir", "data"]).code(1));
        assert!(inspected.contains("problem: ") && inspected.contains("one value") == words.contains("one value"));
    }
    // One slice without a cell is a warning; a fold whose training slices have one class is none to train on.
    let dir = TestDir::new();
    assert!(alter(&dir, "data", "volume[2] = 9"));
    let told = stderr(&dir.run(&format!("{TRAIN} --max_steps 1")).success());
    assert!(told.contains("warning: 1 of 6 images are of one value"), "{told}");
    assert!(alter(&dir, "data", "labels[1:] = 0"));
    let fold = "--max_steps 1 --overwrite --split blocks --folds 6 --exec_mode train_and_evaluate";
    fails(dir.run(&format!("{TRAIN} {fold} --crossvalidation_idx 0")), 1, &["5 training slices", "'membrane'"]);
    dir.run(&format!("{TRAIN} {fold} --crossvalidation_idx 1")).success();
}

#[test]
fn a_limit_of_file_sizes_is_an_error_and_not_the_end_of_the_process() {
    let dir = TestDir::new();
    let unet = program();
    let script = format!(
        "ulimit -f 100; exec '{}' --data_dir data --model_dir model --device cpu {TRAIN} --max_steps 2",
        unet.get_program().display()
    );
    let mut shell = assert_cmd::Command::new("sh");
    let run = shell.current_dir(dir.path("")).args(["-c", &script]).assert().code(1);
    assert!(stderr(&run).contains("File too large"), "{}", stderr(&run));
}

#[test]
fn a_data_folder_that_cannot_be_written_to_suffices() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TestDir::new();
    let set = |mode: u32| fs::set_permissions(dir.path("data"), fs::Permissions::from_mode(mode)).unwrap();
    let before = dir.files("data");
    set(0o555);
    dir.run(&format!("{TRAIN} --max_steps 1 --exec_mode train_and_predict")).success();
    dir.unet(&["inspect", "--data_dir", "data"]).success();
    set(0o755);
    assert_eq!(dir.files("data"), before);
}

#[test]
fn inspect_tells_all_of_it_as_json() {
    let dir = TestDir::new();
    let inspect = |code: i32| -> serde_json::Value {
        let run = dir.unet(&["inspect", "--data_dir", "data", "--json"]).code(code);
        serde_json::from_str(&stdout(&run)).unwrap()
    };
    let (found, layout) = (inspect(0), "stacks (train-volume.tif, train-labels.tif, test-volume.tif)");
    assert_eq!((&found["layout"], &found["problem_count"]), (&layout.into(), &0.into()));
    let training = &found["training"];
    assert_eq!(training["sizes"], serde_json::json!([{"height": 64, "width": 64, "slices": 6}]));
    assert_eq!(training["grey"][0]["range"], serde_json::json!({"black": 0.0, "white": 255.0}));
    assert_eq!((&training["grey"][0]["is_of_type"], &training["channels"]), (&true.into(), &1.into()));
    let pixels: u64 =
        training["labels"]["classes"].as_array().unwrap().iter().map(|class| class["pixels"].as_u64().unwrap()).sum();
    assert_eq!(pixels, 6 * 64 * 64);
    let labels: PathBuf = dir.path("data/train-labels.tif");
    fs::copy(dir.path("data/train-volume.tif"), labels).unwrap();
    fs::remove_file(dir.path("data/test-volume.tif")).unwrap();
    let found = inspect(1);
    assert_eq!((&found["problem_count"], &found["test"]), (&2.into(), &serde_json::Value::Null));
    assert!(found["training"]["problems"][0].as_str().unwrap().contains("label values"));
}

#[test]
fn a_split_without_slices_on_a_side_is_told_as_that() {
    let dir = TestDir::new();
    let run = |text: &str| {
        fs::write(dir.path("split.json"), text).unwrap();
        dir.run(&format!("{TRAIN} --split split.json {FOLD} --max_steps 1"))
    };
    fails(run("[]"), 1, &["split.json", "no folds"]);
    fails(run(r#"{"train": [], "validation": [1]}"#), 1, &["--split 'split.json'", "no slice that trains"]);
    fails(run(r#"{"train": [1], "validation": []}"#), 1, &["--split 'split.json'", "no slice that validates"]);
}

#[test]
fn membranes_that_have_most_pixels_are_told_to_be_something_else() {
    let dir = TestDir::new();
    let told = || stderr(&dir.run(&format!("{TRAIN} --max_steps 1 --overwrite")).success());
    assert_eq!(told(), "");
    if !alter(&dir, "data", "labels = 255 - labels") {
        return;
    }
    assert!(told().contains("--label_map '255=membrane;0=inside'"), "{}", told());
    assert!(stdout(&dir.unet(&["inspect", "--data_dir", "data"]).success()).contains("warning: most label pixels"));
    let map = "0=background;255=object";
    let args =
        ["--data_dir", "data", "--model_dir", "made", "--base_filters", "2", "--max_steps", "1", "--label_map", map];
    assert_eq!(stderr(&dir.unet(&args).success()), "");
}

#[test]
fn images_that_validate_or_are_predicted_and_train_too_are_told() {
    let dir = TestDir::new();
    let split = |train: &str| fs::write(dir.path("split.json"), format!(r#"{{"train": {train}, "validation": [1]}}"#));
    let run = || stderr(&dir.run(&format!("{TRAIN} --split split.json {FOLD} --max_steps 1 --overwrite")).success());
    split("[0, 2, 3]").unwrap();
    let inspect = || stdout(&dir.unet(&["inspect", "--data_dir", "data"]).success());
    assert!(!run().contains("nothing of new images") && !inspect().contains("nothing of new images"));
    // Blank images are alike and no repetition.
    if !alter(&dir, "data", "volume[1] = volume[0]; test[0] = volume[3]; volume[4] = volume[5] = 7") {
        return;
    }
    let told = run();
    assert!(told.contains("1 of 1 images that validate are among those that train"), "{told}");
    assert!(told.contains("train-volume.tif' page 1, which is 'data/train-volume.tif' page 0"), "{told}");
    split("[2, 3]").unwrap();
    assert!(!run().contains("nothing of new images"));
    let told = stderr(
        &dir.run(&format!(
            "{TRAIN} --split split.json --crossvalidation_idx 0 --max_steps 1 --overwrite \
             --exec_mode train_and_predict"
        ))
        .success(),
    );
    assert!(told.contains("test images are training images too"), "{told}");
    assert!(told.contains("test-volume.tif' page 0, which is 'data/train-volume.tif' page 3"), "{told}");
    let told = inspect();
    assert!(told.contains("warning: 1 of 6 images repeat earlier ones"), "{told}");
    assert!(told.contains("1 of 6 images are training images too"), "{told}");
}

/// A control group that may use one core, for the time of a test; making it needs root.
struct OneCore(PathBuf);

impl OneCore {
    fn new() -> Option<Self> {
        let name = format!("unet-test-{}", std::process::id());
        let (first, second) =
            (PathBuf::from("/sys/fs/cgroup/cpu").join(&name), PathBuf::from("/sys/fs/cgroup").join(name));
        // Version 1 of control groups, and version 2.
        for (folder, limits) in [
            (first, &[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "100000")][..]),
            (second, &[("cpu.max", "100000 100000")][..]),
        ] {
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            let group = Self(folder);
            if limits.iter().all(|(name, value)| fs::write(group.0.join(name), value).is_ok()) {
                return Some(group);
            }
        }
        eprintln!("skipped: cannot make a control group with a limit");
        None
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

#[test]
fn a_container_of_one_core_computes_with_one_thread() {
    let dir = TestDir::new();
    let threads = |script: &str| {
        let mut shell = assert_cmd::Command::new("sh");
        let unet = program();
        let args = format!("--data_dir data --model_dir model --device cpu {TRAIN} --max_steps 1 --overwrite");
        let script = format!("{script}; unset OMP_NUM_THREADS; exec '{}' {args}", unet.get_program().display());
        let printed = stdout(&shell.current_dir(dir.path("")).args(["-c", &script]).assert().success());
        printed
            .lines()
            .find_map(|line| Some(line.strip_prefix("device: cpu, ")?.split(' ').next()?.to_owned()))
            .unwrap()
    };
    let Some(group) = OneCore::new() else { return };
    assert_eq!(threads(&format!("echo $$ > '{}/cgroup.procs'", group.0.display())), "1");
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(cores == 1 || threads(":") != "1", "{cores} cores, and one thread without a limit");
}
