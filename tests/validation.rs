//! Validation while training goes on: its scores, the best weights, patience, and runs that are killed in between. And
//! ensembles, which are made of the weights that are kept.

mod common;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use common::{TestDir, fails, python, send, stderr, stdout, wait_for};

const TRAIN: &str = "--base_filters 2 --batch_size 2 --augment --learning_rate 0.003 --crossvalidation_idx 0";

/// Step and value of a column in the table of losses, where it has a value.
fn column(dir: &TestDir, name: &str) -> Vec<(u64, f64)> {
    let table = String::from_utf8(dir.read("model/learning_curves.csv")).unwrap();
    let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let place = header.iter().position(|column| *column == name).unwrap();
    let cells = lines.filter(|cells| !cells[place].is_empty());
    cells.map(|cells| (cells[0].parse().unwrap(), cells[place].parse().unwrap())).collect()
}

#[test]
fn scores_while_training_are_those_of_the_weights_then_and_the_best_weights_are_kept() {
    let dir = TestDir::new();
    let validates = "--evaluate_every 2 --keep_best v_rand_thin";
    let run = dir.run(&format!("{TRAIN} --max_steps 7 --log_every 7 {validates}")).success();
    let validated = column(&dir, "eval_total_loss");
    assert_eq!(validated.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [2, 4, 6, 7]);
    let scores = column(&dir, "v_rand_thin");
    assert_eq!(scores.len(), 4);
    let best = scores.iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best }).unwrap();
    let printed = stdout(&run);
    assert!(printed.contains(&format!("best v_rand_thin so far: {:.4} after step {}", best.1, best.0)), "{printed}");
    assert!(printed.contains("validation: 4 times"), "{printed}");
    // What `evaluate` computes from the files is an independent way to the same figures.
    for (weights, (step, score)) in [("last", scores[3]), ("best", best)] {
        dir.run(&format!("--exec_mode evaluate --crossvalidation_idx 0 --overwrite --weights {weights}")).success();
        let found = dir.json("model/eval.json");
        let loss = validated.iter().find(|(other, _)| *other == step).unwrap().1;
        for (key, expected) in [("v_rand_thin", score), ("eval_total_loss", loss)] {
            let found = found[key].as_f64().unwrap();
            // JSON's reader may be wrong in the last bit.
            assert!((found - expected).abs() < 1e-14, "{weights} {key}: {found}, {expected}");
        }
    }
    // A run of as many steps as the best one ends with its weights.
    let shorter = TestDir::new();
    shorter.run(&format!("{TRAIN} --max_steps {}", best.0)).success();
    let code = "import sys\nfrom safetensors.numpy import load_file\n\
                a, b = (load_file(path) for path in sys.argv[1:])\n\
                print(a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a))";
    let files = [dir.path("model/best.safetensors"), shorter.path("model/model.safetensors")];
    if let Some(printed) = python(code, &files.each_ref().map(|path| path.as_path())) {
        assert_eq!(printed.trim(), "True");
    }
    // Watching changes nothing of what is watched.
    let unwatched = TestDir::new();
    unwatched.run(&format!("{TRAIN} --max_steps 7")).success();
    assert!(unwatched.read("model/model.safetensors") == dir.read("model/model.safetensors"));
}

/// Killed, or stopped by a signal, after any step or within a validation.
#[test]
fn an_interrupted_run_ends_with_the_best_weights_and_scores_of_an_unbroken_one() {
    let native = "--recipe native --patch 68 --base_filters 2 --augment --crossvalidation_idx 1 --learning_rate 0.003";
    let args = format!(
        "{native} --max_steps 40 --log_every 1 --checkpoint_every 3 --ema 0.8 --evaluate_every 2 --keep_best iou \
         --schedule poly"
    );
    let (unbroken, broken) = (TestDir::new(), TestDir::new());
    unbroken.run(&args).success();
    let newest = |dir: &TestDir| dir.files("model/checkpoints").into_iter().rfind(|name| name.starts_with("step"));
    for (turn, signal) in ["-KILL", "-TERM", "-KILL", "-TERM"].into_iter().enumerate() {
        let resume = if newest(&broken).is_none() { "--overwrite" } else { "--resume_training" };
        let before = newest(&broken);
        let mut run = broken.command(&format!("{args} {resume}")).spawn().unwrap();
        wait_for("checkpoint", || newest(&broken) != before || run.try_wait().unwrap().is_some());
        std::thread::sleep(std::time::Duration::from_millis(30 * turn as u64));
        if run.try_wait().unwrap().is_none() {
            send(signal, run.id());
        }
        run.wait().unwrap();
    }
    broken.run(&format!("{args} --resume_training")).success();
    for name in ["model.safetensors", "best.safetensors", "checkpoints/step-0000000040.safetensors"] {
        let name = format!("model/{name}");
        assert!(unbroken.read(&name) == broken.read(&name), "{name}");
    }
    assert_eq!(column(&unbroken, "eval_total_loss").len(), 20);
    assert_eq!(column(&unbroken, "eval_total_loss"), column(&broken, "eval_total_loss"));
    assert_eq!(column(&unbroken, "v_rand_thin"), column(&broken, "v_rand_thin"));
}

/// The score of the last step can be the best one, so that the run is not complete without it.
#[test]
fn a_signal_in_the_last_step_leaves_its_validation_to_the_run_that_goes_on() {
    let args = "--base_filters 16 --crossvalidation_idx 0 --max_steps 1 --evaluate_every 1 --keep_best accuracy";
    let (unbroken, broken) = (TestDir::new(), TestDir::new());
    unbroken.run(args).success();
    let mut run = broken.command(args).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the record of the run", || broken.path("model/config.json").exists());
    send("-TERM", run.id());
    let mut told = String::new();
    run.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(143), "{told}");
    assert!(told.contains("after step 1 of 1") && told.contains("--resume_training"), "{told}");
    assert!(!broken.path("model/best.safetensors").exists());
    broken.run(&format!("{args} --resume_training")).success();
    for name in ["model.safetensors", "best.safetensors", "checkpoints/step-0000000001.safetensors"] {
        let name = format!("model/{name}");
        assert!(unbroken.read(&name) == broken.read(&name), "{name}");
    }
    assert_eq!(column(&unbroken, "eval_total_loss"), column(&broken, "eval_total_loss"));
}

#[test]
fn patience_ends_training_with_weights_that_can_be_used() {
    let dir = TestDir::new();
    // Weights that hardly move have the same classes after each step.
    let args = "--base_filters 1 --learning_rate 1e-12 --crossvalidation_idx 0 --max_steps 50 --evaluate_every 1 \
                --keep_best accuracy --patience 3";
    let run = dir.run(args).success();
    assert!(stdout(&run).contains("training ends: no better accuracy in 3 validations"), "{}", stdout(&run));
    assert_eq!(column(&dir, "eval_ce_loss").iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2, 3, 4]);
    dir.run("--exec_mode predict --weights best").success();
    // It is out of patience still.
    let before = dir.read("model/model.safetensors");
    let run = dir.run(&format!("{args} --resume_training")).success();
    assert!(stdout(&run).contains("training ends"), "{}", stdout(&run));
    assert!(dir.read("model/model.safetensors") == before);
    // More patience lets training go on.
    dir.run(&format!("{args} --patience 5 --resume_training")).success();
    assert_eq!(column(&dir, "eval_ce_loss").last().unwrap().0, 6);
}

#[test]
fn two_processes_validate_as_one() {
    let dir = TestDir::new();
    let args = format!("{TRAIN} --max_steps 8 --evaluate_every 2 --keep_best eval_total_loss --nproc_per_node 2");
    dir.run(&args).success();
    assert_eq!(column(&dir, "v_rand_thin").len(), 2, "8 batches are 4 steps of both");
    let validated = column(&dir, "eval_total_loss");
    let lowest = validated.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
    dir.run("--exec_mode evaluate --crossvalidation_idx 0 --weights best").success();
    let found = dir.json("model/eval.json")["eval_total_loss"].as_f64().unwrap();
    // A process alone has other threads than each of two, and adds up in another order on some CPUs.
    assert!((found - lowest).abs() < 1e-6, "{found} {lowest}");
}

#[test]
fn scores_that_the_data_does_not_have_and_lone_flags_are_refused() {
    let dir = TestDir::new();
    for (args, words) in [
        ("--keep_best dice", &["--keep_best", "--evaluate_every"][..]),
        ("--patience 2", &["--patience", "--evaluate_every"]),
        ("--evaluate_every 2", &["--evaluate_every", "--crossvalidation_idx"]),
        ("--weights best", &["--weights best", "--keep_best"]),
        ("--evaluate_every 2 --crossvalidation_idx 0 --keep_best f1", &["f1", "mean_dice"]),
        ("--ensemble other", &["--ensemble", "--exec_mode evaluate"]),
    ] {
        fails(dir.run(args), 2, words);
    }
    fs::remove_dir_all(dir.path("data")).unwrap();
    dir.unet(&["phantom", "--out", "data", "--classes", "3", "--slices", "6", "--size", "64"]).success();
    let args = "--base_filters 1 --max_steps 2 --crossvalidation_idx 0 --evaluate_every 1 --overwrite --keep_best";
    // A warning tells of a class that the few training slices lack.
    let message = stderr(&dir.run(&format!("{args} v_rand_thin")).code(1));
    for word in ["--keep_best v_rand_thin", "two classes", "mean_dice"] {
        assert!(message.contains(word), "{message}");
    }
    dir.run(&format!("{args} mean_dice")).success();
    assert_eq!(column(&dir, "mean_dice").len(), 2);
    dir.run("--exec_mode evaluate --crossvalidation_idx 0 --weights best").success();
    let plain = TestDir::trained("--base_filters 1 --max_steps 1");
    fails(plain.run("--exec_mode predict --weights best"), 1, &["no best weights", "--keep_best"]);
}

/// Copies the model folder of one test into another.
fn copy_model(from: &TestDir, to: &TestDir, name: &str) {
    fs::create_dir(to.path(name)).unwrap();
    fs::copy(from.path("model/model.safetensors"), to.path(name).join("model.safetensors")).unwrap();
}

#[test]
fn an_ensemble_predicts_the_mean_of_its_networks() {
    for recipe in ["", "--recipe native --patch 68"] {
        let (a, b) = (TestDir::new(), TestDir::new());
        a.run(&format!("{TRAIN} {recipe} --max_steps 4 --seed 1 --exec_mode train_and_predict")).success();
        // Networks of an ensemble may differ in width.
        b.run(&format!("{TRAIN} {recipe} --max_steps 4 --base_filters 3 --exec_mode train_and_predict")).success();
        let both = TestDir::new();
        copy_model(&a, &both, "model");
        copy_model(&b, &both, "second");
        both.run("--exec_mode predict --ensemble second").success();
        let code = "import sys, numpy, tifffile\n\
                    a, b, both = (tifffile.imread(path).astype('f8') for path in sys.argv[1:])\n\
                    print(abs((a + b) / 2 - both).max() < 1e-6, abs(a - b).max() > 1e-3)";
        let files = [&a, &b, &both].map(|dir| dir.path("model/pred/test-probabilities.tif"));
        if let Some(printed) = python(code, &files.each_ref().map(|path| path.as_path() as &Path)) {
            assert_eq!(printed.trim(), "True True");
        }
        both.run("--exec_mode evaluate --crossvalidation_idx 0 --ensemble second").success();
        let input = ["--exec_mode", "predict", "--model_dir", "model", "--input", "data/test-volume.tif"];
        let masks = |more: &[&str]| both.unet(&[&input[..], &["--output", "out", "--device", "cpu"], more].concat());
        masks(&["--ensemble", "second"]).success();
        assert!(both.path("out/test-volume.tif").is_file());
        // Masks of one network are not mixed with those of two.
        let refused = masks(&[]).code(1);
        assert!(stderr(&refused).contains("made by other weights"), "{}", stderr(&refused));
        fails(both.run("--exec_mode predict --ensemble gone --overwrite"), 1, &["no weights 'gone/model.safetensors'"]);
    }
    let (reference, native) = (TestDir::new(), TestDir::new());
    reference.run(&format!("{TRAIN} --max_steps 1")).success();
    native.run(&format!("{TRAIN} --max_steps 1 --recipe native --patch 68")).success();
    copy_model(&native, &reference, "native");
    let run = reference.run("--exec_mode predict --ensemble native");
    fails(run, 1, &["native/model.safetensors", "native recipe", "reference recipe"]);
}

#[test]
fn training_begins_with_the_weights_of_another_run() {
    let dir = TestDir::new();
    dir.run(&format!("{TRAIN} --max_steps 3")).success();
    copy_model(&dir, &dir, "first");
    // Steps that change nothing show what training began with. The width comes from the weights.
    let still = "--learning_rate 1e-30 --weight_decay 0 --max_steps 1 --overwrite --recipe native --patch 68";
    let run = dir.run(&format!("{still} --init_from first")).success();
    assert!(stdout(&run).contains("training begins with 'first/model.safetensors'"), "{}", stdout(&run));
    assert!(stderr(&run).contains("reference recipe"), "{}", stderr(&run));
    dir.unet(&["phantom", "--out", "three", "--classes", "3", "--slices", "6", "--size", "64"]).success();
    let into = |more: &str| dir.run(&format!("{still} --data_dir three --model_dir other {more}"));
    let run = into("--init_from first/model.safetensors").success();
    assert!(stdout(&run).contains("head of 2 classes is replaced by a fresh one of 3"), "{}", stdout(&run));
    let code = "import sys\nfrom safetensors.numpy import load_file\n\
                a, b, c = (load_file(path) for path in sys.argv[1:])\n\
                print(all((a[n] == b[n]).all() for n in a), c['head.weight'].shape[0],\n\
                all((a[n] == c[n]).all() for n in a if not n.startswith('head')))";
    let files = ["first", "model", "other"].map(|name| dir.path(name).join("model.safetensors"));
    if let Some(printed) = python(code, &files.each_ref().map(|path| path.as_path())) {
        assert_eq!(printed.trim(), "True 3 True");
    }
    fails(into("--init_from gone"), 1, &["--init_from", "gone"]);
    fails(into("--init_from first --base_filters 3"), 1, &["2 base filters", "--base_filters says 3"]);
    dir.unet(&["phantom", "--out", "rgb", "--channels", "3", "--layout", "folders", "--slices", "6", "--size", "64"])
        .success();
    fails(
        dir.run(&format!("{still} --data_dir rgb --model_dir other --init_from first")),
        1,
        &["1 channel(s)", "has 3"],
    );
}

/// Both recipes: what `evaluate --tta` scores are the probabilities that `predict --tta` writes.
#[test]
fn evaluation_in_eight_orientations_scores_what_prediction_writes() {
    for recipe in ["", "--recipe native --patch 68"] {
        let dir = TestDir::new();
        // Long enough for both classes to appear.
        dir.run(&format!("{TRAIN} {recipe} --base_filters 4 --init he --max_steps 40 --learning_rate 0.01")).success();
        let scores = |more: &str| {
            dir.run(&format!("--exec_mode evaluate --crossvalidation_idx 0 --overwrite {more}")).success();
            dir.json("model/eval.json")
        };
        let (plain, averaged) = (scores(""), scores("--tta"));
        for key in ["eval_ce_loss", "eval_dice_loss", "dice"] {
            assert_ne!(plain[key], averaged[key], "{recipe}: {key}");
        }
        let args = ["--exec_mode", "predict", "--model_dir", "model", "--input", "data/train-volume.tif"];
        dir.unet(&[&args[..], &["--output", "out", "--tta", "--save_probabilities", "--device", "cpu"]].concat())
            .success();
        let code = "import sys, json, tifffile\nslices = json.load(open(sys.argv[1]))['validation_slices']\n\
                    for at in 2, 3:\n    tifffile.imwrite(sys.argv[at + 2], tifffile.imread(sys.argv[at])[slices])";
        let names =
            ["model/config.json", "data/train-labels.tif", "out/train-volume-probabilities.tif", "l.tif", "p.tif"];
        let paths = names.map(|name| dir.path(name));
        if python(code, &paths.each_ref().map(|path| path.as_path())).is_none() {
            return;
        }
        let found = stdout(&dir.unet(&["score", "--labels", "l.tif", "--prediction", "p.tif", "--json"]).success());
        let found: serde_json::Value = serde_json::from_str(&found).unwrap();
        for key in ["v_rand_thin", "v_info_thin", "dice", "iou"] {
            let (ours, theirs) = (averaged[key].as_f64().unwrap(), found[key].as_f64().unwrap());
            assert!((ours - theirs).abs() < 1e-3, "{recipe}: {key} {ours} {theirs}");
        }
    }
}
