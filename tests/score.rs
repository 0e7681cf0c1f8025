//! `unet score`, and the same scores in `evaluate`.

mod common;

use std::fs;
use std::path::Path;

use common::{TestDir, fails, python, stderr, stdout};
use serde_json::Value;

fn golden(name: &str) -> String {
    format!("{}/tests/golden/isbi_metrics/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn scores(dir: &TestDir, labels: &str, prediction: &str) -> Value {
    let run = dir.unet(&["score", "--labels", labels, "--prediction", prediction, "--json"]).success();
    assert_eq!(stderr(&run), "");
    serde_json::from_str(&stdout(&run)).unwrap()
}

const KEYS: [&str; 10] = [
    "v_rand_thin",
    "v_rand_thin_threshold",
    "v_info_thin",
    "v_info_thin_threshold",
    "rand_error_2012",
    "rand_error_2012_threshold",
    "pixel_error_2012",
    "pixel_error_2012_threshold",
    "dice",
    "iou",
];

#[test]
fn the_golden_stack_scores_as_in_fiji_under_these_keys() {
    let found = scores(&TestDir::new(), &golden("gt.tif"), &golden("prob_f32.tif"));
    let keys: Vec<&str> = found.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, KEYS);
    let expected: Value = serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap();
    let best = &expected["max_over_thresholds"];
    for (key, name, is_error) in [
        ("v_rand_thin", "v_rand_thin", false),
        ("v_info_thin", "v_info_thin", false),
        ("rand_error_2012", "fr_rand_f_2012_pairs", true),
        ("pixel_error_2012", "pixel_f", true),
    ] {
        let fiji = best[name].as_f64().unwrap();
        let fiji = if is_error { 1.0 - fiji } else { fiji };
        assert!((found[key].as_f64().unwrap() - fiji).abs() < 1e-12, "{key}: {found}");
    }
    assert_eq!(found["v_rand_thin_threshold"], 0.5);
    assert_eq!(found["pixel_error_2012_threshold"].as_f64(), Some(0.1 + 0.2));
}

#[test]
fn the_table_has_each_score_with_its_threshold_and_direction() {
    let (labels, prediction) = (golden("gt.tif"), golden("prob_f32.tif"));
    let printed = stdout(&TestDir::new().unet(&["score", "--labels", &labels, "--prediction", &prediction]).success());
    let rows: Vec<Vec<&str>> = printed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["v_rand_thin", "0.931144", "0.5", "higher"]), "{printed}");
    assert!(rows.contains(&vec!["v_info_thin", "0.950442", "0.5", "higher"]), "{printed}");
    assert!(rows.contains(&vec!["rand_error_2012", "0.217486", "0.5", "lower"]), "{printed}");
    assert!(rows.contains(&vec!["pixel_error_2012", "0.095193", "0.3", "lower"]), "{printed}");
    assert!(rows.contains(&vec!["dice", "0.891030", "0.5", "higher"]), "{printed}");
    assert!(printed.contains("2 pages of 48x64") && printed.contains("1 the inside of a cell"), "{printed}");
}

/// The golden probabilities are bytes divided by 255, so that all these files hold the same values.
#[test]
fn sample_types_and_label_values_do_not_matter() {
    let dir = TestDir::new();
    let code = r#"
import sys, numpy, tifffile
labels, probabilities, folder = (tifffile.imread(sys.argv[1]), tifffile.imread(sys.argv[2]), sys.argv[3])
bytes_ = numpy.rint(probabilities * 255).astype('u1')
assert (bytes_.astype('f4') / numpy.float32(255) == probabilities).all()
mask = (probabilities > 0.5).astype('u1')
for name, stack in dict(
    grey8=bytes_, grey16=bytes_.astype('u2') * 257, narrow16=bytes_.astype('u2'),
    mask1=mask, mask255=mask * 255, mask16=mask.astype('u2') * 65535, maskf=mask.astype('f4') * 255,
    labels1=labels // 255, labels16=labels.astype('u2') * 257,
).items():
    tifffile.imwrite(f'{folder}/{name}.tif', stack)
"#;
    let (labels, probabilities) = (golden("gt.tif"), golden("prob_f32.tif"));
    if python(code, &[Path::new(&labels), Path::new(&probabilities), &dir.path("")]).is_none() {
        return;
    }
    let grey = scores(&dir, &labels, &probabilities);
    for name in ["grey8.tif", "grey16.tif", "narrow16.tif"] {
        assert_eq!(scores(&dir, &labels, name), grey, "{name}");
    }
    for name in ["labels1.tif", "labels16.tif"] {
        assert_eq!(scores(&dir, name, &probabilities), grey, "{name}");
    }
    let mask = scores(&dir, &labels, "mask1.tif");
    for name in ["mask255.tif", "mask16.tif", "maskf.tif"] {
        assert_eq!(scores(&dir, &labels, name), mask, "{name}");
    }
    // A mask gives the same scores at all thresholds: those of the probabilities at 0.5.
    assert_eq!((&mask["dice"], &mask["v_rand_thin"]), (&grey["dice"], &grey["v_rand_thin"]));
    assert_eq!(mask["v_rand_thin_threshold"], 0.0);
    assert_eq!(mask["pixel_error_2012"].as_f64().unwrap(), 1.0 - mask["dice"].as_f64().unwrap());
}

#[test]
fn impossible_scores_are_refused_in_one_line() {
    let dir = TestDir::new();
    let (labels, volume) = ("data/test-labels.tif", "data/test-volume.tif");
    let score =
        |labels: &str, prediction: &str| dir.unet(&["score", "--labels", labels, "--prediction", prediction, "--json"]);
    fails(dir.unet(&["score", "--labels", labels]), 2, &["--prediction"]);
    fails(dir.unet(&["score", "--prediction", labels]), 2, &["--labels"]);
    fails(score("no.tif", labels), 1, &["cannot open 'no.tif'"]);
    fails(score(labels, "data"), 1, &["cannot read 'data'", "folder"]);
    fails(score(labels, &golden("prob_f32.tif")), 1, &["6 pages of 64x64", "2 pages of 48x64", labels]);
    fails(score(volume, labels), 1, &[volume, "label values", "expected 0 (membrane)"]);
    let code = r#"
import sys, numpy, tifffile
stack = tifffile.imread(sys.argv[1]).astype('f4') / 255
tifffile.imwrite(sys.argv[2], stack * 8 - 4)
"#;
    if python(code, &[&dir.path(volume), &dir.path("logits.tif")]).is_some() {
        fails(score(labels, "logits.tif"), 1, &["'logits.tif'", "float samples from -4", "0 to 1"]);
    }
}

#[test]
fn labels_and_predictions_that_surprise_are_pointed_out() {
    let dir = TestDir::new();
    let code = r#"
import sys, tifffile
labels = tifffile.imread(sys.argv[1])
tifffile.imwrite(sys.argv[2], 255 - labels)
labels[2], labels[4] = 0, 255
tifffile.imwrite(sys.argv[3], labels)
"#;
    let files = ["data/test-labels.tif", "inverted.tif", "odd.tif"].map(|name| dir.path(name));
    if python(code, &[&files[0], &files[1], &files[2]]).is_none() {
        return;
    }
    let warned = |labels: &str, prediction: &str| {
        stderr(&dir.unet(&["score", "--labels", labels, "--prediction", prediction]).success())
    };
    let inverted = warned("data/test-labels.tif", "inverted.tif");
    assert!(inverted.starts_with("warning: 100 % of the pixels") && inverted.lines().count() == 1, "{inverted}");
    let odd = warned("odd.tif", "data/test-labels.tif");
    assert!(odd.contains("1 of 6 slices (2; the first is 0) have labels without foreground"), "{odd}");
    assert!(odd.contains("1 of 6 slices (4; the first is 0) have labels of a single object"), "{odd}");
    assert_eq!(odd.lines().count(), 2, "{odd}");
}

/// `predict` makes the probabilities, Python takes the validation slices out, `unet score` scores them.
#[test]
fn evaluate_gives_the_scores_of_the_predicted_probabilities() {
    let dir = TestDir::new();
    // Slices are larger than the network's output and not square, so that resizing is part of the test.
    let resize = r#"
import sys, numpy, tifffile
for path in sys.argv[1:]:
    tifffile.imwrite(path, tifffile.imread(path).repeat(7, 1).repeat(8, 2))
"#;
    let stacks = ["data/train-volume.tif", "data/train-labels.tif"].map(|name| dir.path(name));
    if python(resize, &[&stacks[0], &stacks[1]]).is_none() {
        return;
    }
    fs::copy(&stacks[0], dir.path("data/test-volume.tif")).unwrap();
    let train = "--base_filters 4 --max_steps 40 --learning_rate 0.003 --batch_size 2 --crossvalidation_idx 1";
    let printed = stdout(&dir.run(&format!("{train} --exec_mode train_and_evaluate --log_dir log")).success());
    dir.run("--exec_mode predict").success();
    let cut = r#"
import sys, json, tifffile
slices = json.load(open(sys.argv[1]))['validation_slices']
for path in sys.argv[2:]:
    tifffile.imwrite(path + '.cut.tif', tifffile.imread(path)[slices])
"#;
    let probabilities = "model/pred/test-probabilities.tif";
    python(cut, &[&dir.path("model/config.json"), &stacks[1], &dir.path(probabilities)]).unwrap();
    let scores = scores(&dir, "data/train-labels.tif.cut.tif", &format!("{probabilities}.cut.tif"));
    let evaluated = dir.json("model/eval.json");
    let log = String::from_utf8(dir.read("log/log.json")).unwrap();
    for key in KEYS {
        assert_eq!(evaluated[key], scores[key], "{key}: {evaluated}");
        if !key.ends_with("threshold") {
            assert!(printed.contains(&format!("{key} {:.4}", scores[key].as_f64().unwrap())), "{key}: {printed}");
            assert!(log.contains(&format!("\"{key}\":")), "{log}");
        }
    }
    assert!(scores["v_info_thin"].as_f64().unwrap() > 0.0, "the network has learnt nothing: {scores}");
    let report = stdout(&dir.unet(&["report", "model/eval.json", "log/log.json"]).success());
    let mean = format!("mean of 2: Dice {:.4}", evaluated["eval_dice_score"].as_f64().unwrap());
    assert!(report.contains(&mean), "{report}");
    assert!(report.contains(&format!("V_Rand {:.4}", scores["v_rand_thin"].as_f64().unwrap())), "{report}");
}

#[test]
fn report_averages_these_scores_where_all_files_have_them() {
    let dir = TestDir::new();
    let old = "eval_ce_loss 0.2  eval_dice_score 0.8\n";
    let new = |rand: f64| format!("{old}v_rand_thin {rand}  v_info_thin 0.9  rand_error_2012 0.1\n");
    for (name, text) in [("old", old), ("a", &new(0.5)), ("b", &new(0.75))] {
        fs::write(dir.path(name), text).unwrap();
    }
    let printed = stdout(&dir.unet(&["report", "a", "b"]).success());
    let mean = "mean of 2: Dice 0.8000  cross entropy 0.2000  V_Rand 0.6250  V_Info 0.9000";
    assert!(printed.contains(mean), "{printed}");
    let mixed = dir.unet(&["report", "a", "old"]).success();
    assert!(stdout(&mixed).contains("mean of 2: Dice 0.8000  cross entropy 0.2000\n"), "{}", stdout(&mixed));
    assert!(stderr(&mixed).contains("v_rand_thin is in 1 of 2 files"), "{}", stderr(&mixed));
    assert_eq!(stderr(&dir.unet(&["report", "old", "old"]).success()), "");
}
