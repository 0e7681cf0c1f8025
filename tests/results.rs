//! What each mode leaves on disk and prints.

mod common;

use std::fs;

use common::{TestDir, python, stderr, stdout};

const TRAIN: &str = "--base_filters 2 --batch_size 2 --augment --seed 7";
const WIDTH_3: &str = "--base_filters 3 --max_steps 1";

#[test]
fn the_same_seed_gives_the_same_weights_to_the_bit() {
    let weights = |args: &str| {
        let dir = TestDir::new();
        dir.run(&format!("{TRAIN} --max_steps 3 {args}")).success();
        dir.read("model/model.safetensors")
    };
    let first = weights("");
    assert!(first == weights(""));
    assert!(first != weights("--seed 8"));
}

#[test]
fn resumed_training_ends_with_the_weights_of_an_unbroken_run() {
    let (unbroken, resumed) = (TestDir::new(), TestDir::new());
    unbroken.run(&format!("{TRAIN} --max_steps 5")).success();
    resumed.run(&format!("{TRAIN} --max_steps 2")).success();
    resumed.run(&format!("{TRAIN} --max_steps 5 --resume_training")).success();
    assert!(unbroken.read("model/model.safetensors") == resumed.read("model/model.safetensors"));
    let checkpoint = "model/checkpoints/step-0000000005.safetensors";
    assert!(unbroken.read(checkpoint) == resumed.read(checkpoint), "moments and counters too");
    // A resumed run at its last step has only the weights left to write.
    fs::remove_file(resumed.path("model/model.safetensors")).unwrap();
    resumed.run(&format!("{TRAIN} --max_steps 5 --resume_training")).success();
    assert!(unbroken.read("model/model.safetensors") == resumed.read("model/model.safetensors"));
    assert!(unbroken.read(checkpoint) == resumed.read(checkpoint));
    let again = stderr(&resumed.run(&format!("{TRAIN} --max_steps 4 --resume_training")).failure());
    assert!(again.contains("5 steps already"), "{again}");
}

/// Each flag of the recipe reaches the optimiser or the data: other values give other weights.
#[test]
fn every_training_flag_takes_effect() {
    let weights = |args: &str| {
        let dir = TestDir::new();
        dir.run(&format!("--max_steps 2 {args}")).success();
        dir.read("model/model.safetensors")
    };
    let base = weights("--base_filters 2");
    for args in [
        "--base_filters 2 --weight_decay 0",
        "--base_filters 2 --learning_rate 0.01",
        "--base_filters 2 --augment",
        "--base_filters 2 --batch_size 2",
        "--base_filters 2 --crossvalidation_idx 1",
        "--base_filters 2 --amp",
        "--base_filters 3",
    ] {
        assert!(base != weights(args), "{args} changed nothing");
    }
}

#[test]
fn training_prints_losses_and_writes_them_as_dllogger_does() {
    let dir = TestDir::new();
    let run = dir.run("--base_filters 2 --max_steps 5 --log_every 2 --log_dir log").success();
    let printed = stdout(&run);
    for step in [2, 4, 5] {
        let line = printed.lines().find(|line| line.starts_with(&format!("step {step} "))).unwrap();
        for key in ["train_ce_loss", "train_dice_loss", "train_total_loss"] {
            assert!(line.contains(key), "{line}");
        }
    }
    assert_eq!(stderr(&run), "", "no progress bar where stderr is no terminal");

    let log = String::from_utf8(dir.read("log/log.json")).unwrap();
    let mut steps = Vec::new();
    for line in log.lines() {
        let record: serde_json::Value = serde_json::from_str(line.strip_prefix("DLLL ").unwrap()).unwrap();
        for key in ["timestamp", "datetime", "elapsedtime", "type"] {
            assert!(record[key].is_string(), "{line}");
        }
        if let Some(step) = record["step"][0].as_u64() {
            let data = &record["data"];
            let sum = data["train_ce_loss"].as_f64().unwrap() + data["train_dice_loss"].as_f64().unwrap();
            assert!((sum - data["train_total_loss"].as_f64().unwrap()).abs() < 1e-9);
            steps.push(step);
        } else if record["step"] == "PARAMETER" {
            assert_eq!(record["data"]["base_filters"], 2);
        }
    }
    assert_eq!(steps, [2, 4, 5]);
}

#[test]
fn a_run_leaves_its_weights_checkpoint_settings_and_scores() {
    let dir = TestDir::new();
    let run =
        dir.run(&format!("{TRAIN} --exec_mode train_and_evaluate --crossvalidation_idx 3 --max_steps 2")).success();
    let files: Vec<String> = dir.files("model").into_iter().filter(|file| !file.contains("tfevents")).collect();
    let curves = ["learning_curves.csv", "learning_curves.png"];
    let expected = [
        "checkpoints/step-0000000002.safetensors",
        "config.json",
        "confusion.csv",
        "confusion.png",
        "eval.json",
        "eval.png",
    ];
    assert_eq!(files, [&expected[..], &curves[..], &["model.safetensors", "report.html"]].concat());

    let config = dir.json("model/config.json");
    assert_eq!(config["seed"], 7);
    assert_eq!(config["base_filters"], 2);
    assert_eq!(config["crossvalidation_idx"], 3);
    assert_eq!(config["libtorch_version"], "2.11.0");
    let slices = |key: &str| -> Vec<u64> {
        config[key].as_array().unwrap().iter().map(|slice| slice.as_u64().unwrap()).collect()
    };
    let mut all = [slices("train_slices"), slices("validation_slices")].concat();
    assert_eq!(slices("validation_slices").len(), 2);
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5]);

    let scores = dir.json("model/eval.json");
    let figure = |key: &str| scores[key].as_f64().unwrap();
    assert!((figure("eval_dice_score") + figure("eval_dice_loss") - 1.0).abs() < 1e-12);
    assert!((figure("eval_ce_loss") + figure("eval_dice_loss") - figure("eval_total_loss")).abs() < 1e-12);
    assert!(stdout(&run).contains(&format!("eval_dice_score {:.4}", figure("eval_dice_score"))));

    // `evaluate` alone gives the same scores from the weights on disk.
    fs::remove_file(dir.path("model/eval.json")).unwrap();
    fs::remove_file(dir.path("model/eval.png")).unwrap();
    fs::remove_file(dir.path("data/test-volume.tif")).unwrap();
    dir.run("--exec_mode evaluate --crossvalidation_idx 3 --seed 7").success();
    assert_eq!(dir.json("model/eval.json"), scores);
}

/// Without --base_filters the checkpoint decides the width, and config.json has it.
#[test]
fn a_resumed_run_records_the_width_of_its_checkpoint() {
    let dir = TestDir::trained(WIDTH_3);
    dir.run("--resume_training --max_steps 2").success();
    assert_eq!(dir.json("model/config.json")["base_filters"], 3);
}

#[test]
fn scoring_slices_that_were_trained_on_is_pointed_out() {
    let dir = TestDir::new();
    let run =
        dir.run("--exec_mode train_and_evaluate --crossvalidation_idx 0 --base_filters 1 --max_steps 1").success();
    assert_eq!(stderr(&run), "");
    let warned = stderr(&dir.run("--exec_mode evaluate --crossvalidation_idx 0 --seed 5 --overwrite").success());
    assert!(warned.contains("validation slices were trained on by 'model'"), "{warned}");
    // Networks that join in, or that training begins with; this one has seen all slices.
    dir.run("--model_dir all --base_filters 1 --max_steps 1").success();
    let warned = stderr(&dir.run("--exec_mode evaluate --crossvalidation_idx 0 --overwrite --ensemble all").success());
    assert!(warned.contains("were trained on by 'all'") && !warned.contains("by 'model'"), "{warned}");
    let fold = "--model_dir third --exec_mode train_and_evaluate --crossvalidation_idx 0 --max_steps 1 --init_from";
    let warned = stderr(&dir.run(&format!("{fold} all/model.safetensors")).success());
    assert!(warned.contains("were trained on by 'all/model.safetensors'"), "{warned}");
    assert_eq!(stderr(&dir.run(&format!("{fold} model --overwrite")).success()), "");
    // Slices of other data have the same numbers and are no others' slices.
    fs::rename(dir.path("data/test-volume.tif"), dir.path("data/train-volume.tif")).unwrap();
    let warned = stderr(&dir.run("--exec_mode evaluate --crossvalidation_idx 0 --seed 5 --overwrite").success());
    assert!(!warned.contains("were trained on"), "{warned}");
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_with_step_and_slices() {
    let dir = TestDir::new();
    // Adam moves each weight by the learning rate: after one step no output of the network is finite.
    let run = dir.run("--base_filters 2 --max_steps 20 --learning_rate 1e30").code(1);
    let message = stderr(&run);
    for words in ["step", "slices [", "1000000000000000000000000000000", "--learning_rate"] {
        assert!(message.contains(words), "no '{words}' in {message}");
    }
    assert!(!dir.path("model/model.safetensors").exists());
}

#[test]
fn the_dataset_hash_is_that_of_the_raw_samples() {
    let dir = TestDir::trained(WIDTH_3);
    let hash = dir.json("model/config.json")["datasets"][0]["sha256"].as_str().unwrap().to_owned();
    let code =
        "import sys, hashlib, tifffile\nprint(hashlib.sha256(tifffile.imread(sys.argv[1]).tobytes()).hexdigest())";
    if let Some(expected) = python(code, &[&dir.path("data/train-volume.tif")]) {
        assert_eq!(hash, expected.trim());
    }
}

#[test]
fn predictions_are_stacks_that_other_programs_read() {
    let dir = TestDir::new();
    dir.run(&format!("{TRAIN} --exec_mode train --max_steps 2")).success();
    fs::remove_file(dir.path("data/train-volume.tif")).unwrap();
    fs::remove_file(dir.path("data/train-labels.tif")).unwrap();
    dir.run("--exec_mode predict --batch_size 4").success();
    let code = r#"
import sys
import numpy, tifffile
from PIL import Image, ImageSequence
def pillow(path):
    return numpy.stack([numpy.array(page) for page in ImageSequence.Iterator(Image.open(path))])
masks, probabilities = (tifffile.imread(path) for path in sys.argv[1:])
assert masks.shape == probabilities.shape == (6, 64, 64), (masks.shape, probabilities.shape)
assert masks.dtype == numpy.uint8 and set(numpy.unique(masks)) <= {0, 255}
assert probabilities.dtype == numpy.float32 and 0 <= probabilities.min() and probabilities.max() <= 1
assert ((probabilities > 0.5) == (masks == 255)).all()
assert (pillow(sys.argv[1]) == masks).all() and (pillow(sys.argv[2]) == probabilities).all()
with tifffile.TiffFile(sys.argv[1]) as file:
    assert file.is_imagej and file.imagej_metadata['slices'] == 6
    assert all(page.compression == 8 for page in file.pages)
assert probabilities.std() > 0
"#;
    python(code, &[&dir.path("model/pred/test-masks.tif"), &dir.path("model/pred/test-probabilities.tif")]);
}

/// Permissions follow the umask; those of a temporary file would keep others from reading.
#[test]
fn results_have_the_permissions_of_new_files() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TestDir::new();
    dir.run("--base_filters 1 --max_steps 1 --exec_mode train_and_predict").success();
    fs::write(dir.path("model/new"), "").unwrap();
    let mode = |name: &str| fs::metadata(dir.path("model").join(name)).unwrap().permissions().mode();
    for name in dir.files("model") {
        assert_eq!(mode(&name), mode("new"), "{name}");
    }
}

#[test]
fn weights_load_into_pytorch_by_name() {
    let dir = TestDir::trained(WIDTH_3);
    let code = r#"
import sys
from safetensors import safe_open
with safe_open(sys.argv[1], 'np') as file:
    names = set(file.keys())
    assert file.get_tensor('encoder.0.conv1.weight').shape == (3, 1, 3, 3)
    assert file.get_tensor('decoder.0.up.weight').shape == (48, 24, 3, 3)
blocks = ['bottleneck'] + [f'encoder.{i}' for i in range(4)]
expected = {f'{block}.{conv}' for block in blocks for conv in ('conv1', 'conv2')}
expected |= {f'decoder.{i}.{conv}' for i in range(4) for conv in ('up', 'conv1', 'conv2')} | {'head'}
assert names == {f'{path}.{kind}' for path in expected for kind in ('weight', 'bias')}, names
"#;
    python(code, &[&dir.path("model/model.safetensors")]);
}

#[test]
fn report_averages_the_folds() {
    let dir = TestDir::new();
    for (name, dice, loss) in [("a", 0.8, 0.3), ("b", 0.9, 0.1)] {
        let text = format!("step 1  train_ce_loss 9\neval_ce_loss {loss}  eval_dice_score {dice}\n");
        fs::write(dir.path(name), text).unwrap();
    }
    let printed = stdout(&dir.unet(&["report", "a", "b"]).success());
    assert!(printed.contains("mean of 2: Dice 0.8500  cross entropy 0.2000"), "{printed}");
    // Each fold is 0.05 and 0.1 from the means; the divisor is n - 1 = 1.
    assert!(printed.contains("standard deviation: Dice 0.0707  cross entropy 0.1414"), "{printed}");
    fs::write(dir.path("c"), "nothing here").unwrap();
    assert!(stderr(&dir.unet(&["report", "a", "c"]).failure()).contains("no eval_dice_score in 'c'"));
}

#[test]
fn inspect_tells_what_a_dataset_holds_and_what_is_wrong() {
    let dir = TestDir::new();
    let printed = stdout(&dir.unet(&["inspect", "--data_dir", "data"]).success());
    for words in ["6 pages of 64x64", "8-bit", "labels: values 0 (", "0 becomes -1, 255 becomes 1", "no problem"] {
        assert!(printed.contains(words), "no '{words}' in {printed}");
    }
    let code = "import sys, tifffile\nprint(f'membrane {100 * (tifffile.imread(sys.argv[1]) == 0).mean():.2f} %')";
    if let Some(share) = python(code, &[&dir.path("data/train-labels.tif")]) {
        assert!(printed.contains(share.trim()), "no '{share}' in {printed}");
    }
    fs::copy(dir.path("data/train-volume.tif"), dir.path("data/train-labels.tif")).unwrap();
    fs::remove_file(dir.path("data/test-volume.tif")).unwrap();
    let run = dir.unet(&["inspect", "--data_dir", "data"]).code(1);
    assert!(stdout(&run).contains("problem: label values"));
    assert!(stdout(&run).contains("test-volume.tif"));
    assert!(stderr(&run).contains("2 problem(s)"), "{}", stderr(&run));
}

#[test]
fn the_phantom_is_not_written_over() {
    let dir = TestDir::new();
    let before = dir.read("data/train-volume.tif");
    let args = ["phantom", "--out", "data", "--slices", "2", "--size", "32", "--seed", "1"];
    assert!(stderr(&dir.unet(&args).code(1)).contains("--overwrite"));
    assert_eq!(dir.read("data/train-volume.tif"), before);
    dir.unet(&[&args[..], &["--overwrite"]].concat()).success();
    assert_ne!(dir.read("data/train-volume.tif"), before);
}
