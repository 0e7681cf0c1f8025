//! The native recipe, from training to masks, and what steers training: schedule, moving average, initialisation.

mod common;

use std::fs;

use common::{TestDir, fails, python, stdout, wait_for};

const NATIVE: &str = "--recipe native --patch 68 --base_filters 2 --batch_size 2 --augment";

fn phantom(args: &str) -> TestDir {
    TestDir::phantom(6, 96, args)
}

#[test]
fn a_network_of_the_native_recipe_is_used_by_that_recipe() {
    let dir = phantom("--layout folders --classes 3 --channels 3");
    dir.run(&format!("{NATIVE} --max_steps 3 --exec_mode train_and_evaluate --crossvalidation_idx 0")).success();
    let config = dir.json("model/config.json");
    assert_eq!((&config["recipe"]["name"], &config["recipe"]["grey"]), (&"native".into(), &"image".into()));
    assert_eq!(config["patch"], 68);
    // The defaults of the recipe; warm-up is a tenth of three steps, rounded down.
    assert_eq!((&config["schedule"], &config["init"]), (&"cosine".into(), &"he".into()));
    assert_eq!((&config["learning_rate"], &config["lr_warmup_steps"]), (&0.001.into(), &0.into()));
    let scores = dir.read("model/eval.json");
    // The same from the weights alone, whatever the size of the tiles, to rounding.
    dir.run("--exec_mode evaluate --crossvalidation_idx 0 --overwrite").success();
    assert!(dir.read("model/eval.json") == scores);
    let before = dir.json("model/eval.json")["eval_ce_loss"].as_f64().unwrap();
    dir.run("--exec_mode evaluate --crossvalidation_idx 0 --overwrite --tile 30").success();
    let tiled = dir.json("model/eval.json")["eval_ce_loss"].as_f64().unwrap();
    assert!((before - tiled).abs() < 1e-6, "{before} {tiled}");
    let run = dir.run("--exec_mode evaluate --crossvalidation_idx 0 --overwrite --recipe reference");
    fails(run, 1, &["trained by the native recipe"]);
    dir.run("--exec_mode predict --overwrite").success();
    assert_eq!(dir.files("model/pred").iter().filter(|name| name.starts_with("slice")).count(), 6);
    // A network of the reference recipe has no tiles.
    dir.run("--base_filters 2 --max_steps 1 --overwrite").success();
    fails(dir.run("--exec_mode predict --overwrite --tile 100"), 1, &["--tile", "reference recipe"]);
}

#[test]
fn stacks_and_several_processes_predict_by_tiles_too() {
    let dir = phantom("");
    dir.run(&format!("{NATIVE} --max_steps 2 --grey_scaling image --exec_mode train_and_predict")).success();
    let masks = dir.read("model/pred/test-masks.tif");
    dir.run("--exec_mode predict --overwrite --nproc_per_node 2 --batch_size 2").success();
    assert!(dir.read("model/pred/test-masks.tif") == masks);
    let code = "import sys, tifffile\np = tifffile.imread(sys.argv[1])\nprint(p.shape, p.dtype)";
    if let Some(printed) = python(code, &[&dir.path("model/pred/test-probabilities.tif")]) {
        assert_eq!(printed.trim(), "(6, 96, 96) float32");
    }
}

#[test]
fn with_eight_orientations_a_turned_image_gets_the_turned_mask() {
    for train in [NATIVE, "--base_filters 2 --batch_size 2 --augment"] {
        let dir = phantom("");
        dir.run(&format!("{train} --max_steps 2")).success();
        let code = "import sys, tifffile, numpy\na = tifffile.imread(sys.argv[1])[:1]\n\
                    tifffile.imwrite(sys.argv[2], a)\n\
                    tifffile.imwrite(sys.argv[3], numpy.rot90(a, 1, (1, 2))[..., ::-1].copy())";
        let paths = [dir.path("data/test-volume.tif"), dir.path("in/a.tif"), dir.path("in/b.tif")];
        fs::create_dir(dir.path("in")).unwrap();
        if python(code, &[&paths[0], &paths[1], &paths[2]]).is_none() {
            return;
        }
        let predict = |out: &str, more: &[&str]| {
            let args = ["--exec_mode", "predict", "--model_dir", "model", "--input", "in", "--output", out];
            dir.unet(&[&args[..], &["--save_probabilities"], more].concat()).success();
        };
        predict("plain", &[]);
        predict("tta", &["--tta"]);
        let code = "import sys, tifffile, numpy\n\
                    def differ(d):\n    \
                    a, b = (tifffile.imread(f'{d}/{n}-probabilities.tif').squeeze() for n in 'ab')\n    \
                    return abs(numpy.rot90(a, 1)[:, ::-1] - b).max()\n\
                    print(differ(sys.argv[1]) > 1e-5, differ(sys.argv[2]) < 1e-5)";
        assert_eq!(python(code, &[&dir.path("plain"), &dir.path("tta")]).unwrap().trim(), "True True");
    }
}

/// Schedule, warm-up and moving average go on after a kill where they were.
#[test]
fn a_killed_run_with_schedule_and_average_ends_with_the_weights_of_an_unbroken_one() {
    let args = format!(
        "{NATIVE} --max_steps 30 --checkpoint_every 1 --schedule cosine --lr_warmup_steps 4 --ema 0.9 --init he"
    );
    let (unbroken, killed) = (phantom(""), phantom(""));
    unbroken.run(&args).success();
    let checkpoints = || killed.files("model/checkpoints").into_iter().filter(|name| name.starts_with("step")).count();
    let newest = |dir: &TestDir| dir.files("model/checkpoints").into_iter().rfind(|n| n.starts_with("step"));
    for _ in 0..2 {
        let resume = if checkpoints() == 0 { "--overwrite" } else { "--resume_training" };
        let before = newest(&killed);
        let mut run = killed.command(&format!("{args} {resume}")).spawn().unwrap();
        wait_for("checkpoint", || newest(&killed) != before || run.try_wait().unwrap().is_some());
        run.kill().unwrap();
        run.wait().unwrap();
    }
    assert!(!killed.path("model/model.safetensors").exists(), "killed before the end");
    killed.run(&format!("{args} --resume_training")).success();
    assert!(unbroken.read("model/model.safetensors") == killed.read("model/model.safetensors"));
    let name = "model/checkpoints/step-0000000030.safetensors";
    assert!(unbroken.read(name) == killed.read(name), "weights, moments, averages and counters");
    // How far the rate has fallen depends on the last step.
    let run = killed.run(&format!("{args} --max_steps 40 --resume_training")).code(1);
    assert!(common::stderr(&run).contains("schedule"), "{}", common::stderr(&run));
}

/// Each flag has an effect on the weights; the rates themselves are tested by formula (`engine/schedule.rs`).
#[test]
fn schedule_warm_up_average_initialisation_and_dropout_change_the_weights() {
    let dir = phantom("");
    let mut seen = Vec::new();
    let flags = "--schedule cosine,--schedule poly,--lr_warmup_steps 2,--ema 0.5,--init he,--dropout 0,--dropout 0.3";
    for more in [""].into_iter().chain(flags.split(',')) {
        dir.run(&format!("--base_filters 1 --max_steps 4 --learning_rate 0.1 --overwrite {more}")).success();
        let weights = dir.read("model/model.safetensors");
        assert!(!seen.contains(&weights), "{more}");
        seen.push(weights);
    }
    let plain = "--base_filters 1 --max_steps 5 --learning_rate 0.1 --resume_training";
    let run = dir.run(plain).code(1);
    assert!(common::stderr(&run).contains("dropout: 0.3"), "{}", common::stderr(&run));
    dir.run(&format!("{plain} --dropout 0.3")).success();
}

/// The maps and places themselves are tested by formula (`data/border_weights.rs`, `data/emphasis.rs`).
#[test]
fn border_weights_and_rarer_classes_change_the_training_the_same_way_however_the_slices_are_held() {
    let dir = phantom("--layout folders --classes 3");
    let train = |more: &str| {
        let run = dir.run(&format!("{NATIVE} --max_steps 3 --overwrite {more}")).success();
        (dir.read("model/model.safetensors"), common::stderr(&run))
    };
    let settings = || {
        let config = dir.json("model/config.json");
        ["border_weight", "border_sigma", "rare_class_share"].map(|name| config[name].as_f64())
    };
    let (plain, _) = train("");
    assert_eq!(settings(), [None, None, None]);
    let (border, warned) = train("--border_weight 10");
    assert_eq!(settings(), [Some(10.0), Some(5.0), None]);
    assert!(!warned.contains("--border_weight"), "{warned}");
    let (narrow, _) = train("--border_weight 10 --border_sigma 2");
    let (rare, _) = train("--rare_class_share 1");
    assert_eq!(settings(), [None, None, Some(1.0)]);
    let flags = "--border_weight 8 --border_sigma 4 --rare_class_share 0.5";
    let (both, _) = train(flags);
    assert_eq!(settings(), [Some(8.0), Some(4.0), Some(0.5)]);
    let seen = [plain, border, narrow, rare, both];
    for more in ["--memory_share 0", "--xla"] {
        assert!(train(&format!("{flags} {more}")).0 == seen[4], "{more}");
    }
    for (index, weights) in seen.iter().enumerate() {
        assert!(!seen[..index].contains(weights), "each flag has an effect: {index}");
    }
    // A run goes on with the same settings alone.
    let resume = dir.run(&format!("{NATIVE} --max_steps 5 --resume_training --rare_class_share 0.5")).code(1);
    let told = common::stderr(&resume);
    assert!(told.contains("border_weight: 8.0") && !told.contains("rare_class_share"), "{told}");
    let (_, warned) = train("--border_weight 10 --border_sigma 0.1");
    assert!(warned.contains("warning: --border_weight 10 changes nothing"), "{warned}");
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let dir = TestDir::new();
    for (args, words) in [
        ("--patch 68", &["--patch", "--recipe native"][..]),
        ("--tile 68", &["--tile", "--recipe native"]),
        ("--grey_scaling image", &["--grey_scaling", "--recipe native"]),
        ("--recipe native --patch 100", &["--patch 100", "84 and 100"]),
        ("--recipe native --augmentations flips", &["--augmentations", "--augment"]),
        ("--recipe native --augment --augmentations twist", &["twist"]),
        ("--ema 1", &["--ema", "below 1"]),
        ("--border_weight 10", &["--border_weight", "--recipe native"]),
        ("--rare_class_share 0.3", &["--rare_class_share", "--recipe native"]),
        ("--recipe native --border_sigma 3", &["--border_sigma", "add --border_weight"]),
        ("--recipe native --border_weight 0", &["--border_weight", "above 0"]),
        ("--recipe native --border_weight 10 --border_sigma -1", &["--border_sigma", "above 0"]),
        ("--recipe native --rare_class_share 1.5", &["--rare_class_share", "from 0 to 1"]),
    ] {
        if args.contains("--patch 100") {
            // 100 is 4 and six times 16.
            dir.run("--recipe native --patch 100 --base_filters 1 --max_steps 1").success();
            fails(dir.run("--recipe native --patch 101 --overwrite"), 2, &["--patch 101", "100 and 116"]);
            continue;
        }
        fails(dir.run(args), 2, words);
    }
    let printed = stdout(
        &dir.run("--recipe native --benchmark --warmup_steps 1 --max_steps 3 --base_filters 1 --patch 68").success(),
    );
    assert!(printed.contains("throughput_train"), "{printed}");
}
