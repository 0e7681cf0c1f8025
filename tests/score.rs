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
    fails(score(volume, labels), 1, &[volume, "label values", "--label_map"]);
    let code = r#"
import sys, numpy, tifffile
stack = tifffile.imread(sys.argv[1]).astype('f4') / 255
tifffile.imwrite(sys.argv[2], stack * 8 - 4)
"#;
    if python(code, &[&dir.path(volume), &dir.path("logits.tif")]).is_some() {
        fails(score(labels, "logits.tif"), 1, &["'logits.tif'", "float samples from -4", "0 to 1"]);
    }
}

/// Stacks of four classes, of which the labels lack 3 and the prediction lacks 2; labels with a 7 that stands for no
/// class, and others. Prints `[dice, iou, precision, recall, support, predicted]` of each class, by sets of pixels, and
/// the accuracy: of all pixels, then of those that are not 7.
const FOUR_CLASSES: &str = r#"
import functools, json, sys, numpy, tifffile
write = functools.partial(tifffile.imwrite, photometric='minisblack')
pages, height, width = numpy.indices((3, 20, 30))
labels = ((pages + height // 3 + width // 4) % 3).astype('u1')
prediction = numpy.where((height * 7 + width * 5 + pages) % 4 == 0, 3, labels)
prediction = numpy.where(prediction == 2, 1, prediction).astype('u1')
holes = numpy.where((height > 15) & (width < 9), 7, labels).astype('u1')
write(sys.argv[1], labels)
write(sys.argv[2], prediction)
write(sys.argv[3], holes)
write(sys.argv[4], numpy.array([30, 2000, 7, 65535], 'u2')[prediction])
write(sys.argv[5], numpy.where(labels == 2, 5, labels).astype('u1'))
def scores(known):
    sets = []
    for c in range(4):
        truth = set(numpy.flatnonzero(known & (labels == c)))
        found = set(numpy.flatnonzero(known & (prediction == c)))
        both, either = len(truth & found), len(truth | found)
        part = lambda a, b: a / b if b else None
        sets.append([part(2 * both, len(truth) + len(found)), part(both, either),
                     part(both, len(found)), part(both, len(truth)), len(truth), len(found)])
    return {'classes': sets, 'accuracy': float((labels == prediction)[known].mean())}
print(json.dumps([scores(labels < 9), scores(holes != 7)]))
"#;

const FILES: [&str; 5] = ["labels.tif", "prediction.tif", "holes.tif", "values.tif", "gap.tif"];

#[test]
fn more_than_two_classes_are_scored_by_class() {
    let dir = TestDir::new();
    let paths = FILES.map(|name| dir.path(name));
    let Some(expected) = python(FOUR_CLASSES, &paths.each_ref().map(|path| path.as_path())) else { return };
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let check = |found: &Value, expected: &Value, names: [&str; 4]| {
        for (class, name) in names.into_iter().enumerate() {
            let (found, expected) = (&found["classes"][class], &expected["classes"][class]);
            assert_eq!(found["name"], name);
            for (index, key) in ["dice", "iou", "precision", "recall", "support", "predicted"].into_iter().enumerate() {
                assert_eq!(found[key], expected[index], "{key} of {name}: {found}");
            }
        }
        let labelled: Vec<f64> = (0..3).map(|class| expected["classes"][class][0].as_f64().unwrap()).collect();
        let mean = labelled.iter().sum::<f64>() / 3.0;
        assert!((found["mean_dice"].as_f64().unwrap() - mean).abs() < 1e-12, "{found}");
        assert!((found["accuracy"].as_f64().unwrap() - expected["accuracy"].as_f64().unwrap()).abs() < 1e-12);
    };
    // Without a map: 0 to 3 are four classes.
    let guessed = scores(&dir, "labels.tif", "prediction.tif");
    check(&guessed, &expected[0], ["class_0", "class_1", "class_2", "class_3"]);
    assert_eq!(guessed["ignored_pixels"], 0);
    // With one: the same by name, less the ignored pixels.
    let named = |labels: &str, prediction: &str, map: &str| -> Value {
        let args = ["score", "--labels", labels, "--prediction", prediction, "--label_map", map, "--json"];
        serde_json::from_str(&stdout(&dir.unet(&args).success())).unwrap()
    };
    let found = named("holes.tif", "prediction.tif", "0=air;1=wall;2=cell;3=dust;7=ignore");
    check(&found, &expected[1], ["air", "wall", "cell", "dust"]);
    assert_eq!(found["ignored_pixels"], 3 * 4 * 9);
    // Values of either stack, from a file.
    let map = r#"{"air": [0, 30], "wall": [1, 2000], "cell": [2, 7], "dust": [3, 65535]}"#;
    fs::write(dir.path("map.json"), map).unwrap();
    let mut wide = named("labels.tif", "values.tif", "map.json");
    check(&wide, &expected[0], ["air", "wall", "cell", "dust"]);
    assert_eq!(wide["confusion"].take(), guessed["confusion"]);
}

#[test]
fn the_table_by_class_has_a_line_for_each_class() {
    let dir = TestDir::new();
    let paths = FILES.map(|name| dir.path(name));
    if python(FOUR_CLASSES, &paths.each_ref().map(|path| path.as_path())).is_none() {
        return;
    }
    let run = dir.unet(&["score", "--labels", "labels.tif", "--prediction", "prediction.tif"]).success();
    let printed = stdout(&run);
    let rows: Vec<Vec<&str>> = printed.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |name: &str| rows.iter().find(|row| row.first() == Some(&name)).unwrap_or_else(|| panic!("{printed}"));
    assert_eq!(row("class")[1..5], ["Dice", "IoU", "precision", "recall"]);
    // Class 2 is in no prediction, class 3 in no label.
    assert_eq!(row("class_2")[1..5], ["0.000000", "0.000000", "-", "0.000000"]);
    assert_eq!(row("class_3")[1..], ["0.000000", "0.000000", "0.000000", "-", "absent"]);
    assert!(printed.contains("3 pages of 20x30") && printed.contains("0=class_0;1=class_1"), "{printed}");
    assert_eq!((row("mean").len() > 2, row("accuracy").len()), (true, 2));
}

#[test]
fn values_of_no_class_are_refused_by_name() {
    let dir = TestDir::new();
    let paths = FILES.map(|name| dir.path(name));
    if python(FOUR_CLASSES, &paths.each_ref().map(|path| path.as_path())).is_none() {
        return;
    }
    let score = |labels: &str, prediction: &str, map: &[&str]| {
        dir.unet(&[&["score", "--labels", labels, "--prediction", prediction][..], map].concat())
    };
    let map = |text| ["--label_map", text];
    let (labels, prediction) = ("labels.tif", "prediction.tif");
    fails(score(labels, prediction, &map("0=a;1=b;2=c")), 1, &["'prediction.tif' as a prediction", "values 3"]);
    fails(score(labels, prediction, &map("0=a;1=b;3=c")), 1, &["'labels.tif' as labels", "values 2"]);
    fails(score(labels, prediction, &map("0=a;1=b;2=c;*=ignore")), 1, &["'prediction.tif'", "ignores"]);
    fails(score(labels, prediction, &map("0=a")), 1, &["1 classes"]);
    fails(score(labels, prediction, &map("no.json")), 1, &["--label_map 'no.json'"]);
    // Without a map: values that leave a gap in the prediction, and in the labels.
    fails(score(labels, "values.tif", &[]), 1, &["'values.tif' by the classes of 'labels.tif'", "--label_map"]);
    fails(
        score("gap.tif", prediction, &[]),
        1,
        &["'gap.tif'", "label values 0 (33.33 %), 1 (33.33 %), 5 (33.33 %)", "--label_map"],
    );
}

#[test]
fn labels_and_predictions_that_surprise_are_pointed_out() {
    let dir = TestDir::new();
    let code = r#"
import sys, tifffile
labels = tifffile.imread(sys.argv[1])
tifffile.imwrite(sys.argv[2], 255 - labels)
weak = labels.astype('u2') * 16
weak[0, 0, 0] = 7
tifffile.imwrite(sys.argv[4], weak)
labels[2], labels[4] = 0, 255
tifffile.imwrite(sys.argv[3], labels)
"#;
    let files = ["data/test-labels.tif", "inverted.tif", "odd.tif", "weak.tif"].map(|name| dir.path(name));
    if python(code, &files.each_ref().map(|path| path.as_path())).is_none() {
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
    // 12 bits in 16, as no probability is stored.
    let weak = warned("data/test-labels.tif", "weak.tif");
    assert!(weak.contains("the largest sample of 'weak.tif' is 4080, and 65535 stands for probability 1"), "{weak}");
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
