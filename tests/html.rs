//! `report.html`: it holds what the run has found, needs nothing from elsewhere, and works in a browser.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{TestDir, fails, python_with, stderr, stdout, text};
use serde_json::{Value, json};

const TRAIN: &str = "--base_filters 2 --batch_size 1 --max_steps 8 --log_every 1 --crossvalidation_idx 0";

/// A folder whose run has trained, validated, evaluated and predicted.
fn reported() -> TestDir {
    let dir = TestDir::trained(&format!("{TRAIN} --exec_mode train_and_evaluate --evaluate_every 4"));
    dir.run("--exec_mode predict").success();
    dir
}

/// The JSON that a report draws from.
fn data(dir: &TestDir, name: &str) -> Value {
    let page = String::from_utf8(dir.read(name)).unwrap();
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn a_report_holds_the_scores_settings_curves_and_slices_of_its_run() {
    let dir = TestDir::new();
    let run = dir.run(&format!("{TRAIN} --exec_mode train_and_evaluate")).success();
    assert_eq!(stderr(&run), "");
    assert_eq!(stdout(&run).matches("report: model/report.html").count(), 1, "{}", stdout(&run));
    let report = data(&dir, "model/report.html");
    let own = &report["runs"][0];
    assert_eq!(own["scores"], dir.json("model/eval.json"));
    assert_eq!(own["settings"], dir.json("model/config.json"));
    let table = String::from_utf8(dir.read("model/learning_curves.csv")).unwrap();
    let first: Vec<&str> = table.lines().nth(1).unwrap().split(',').collect();
    assert_eq!(own["curves"]["train_ce_loss"][0], json!([1, first[1].parse::<f64>().unwrap()]));
    assert_eq!(own["curves"]["train_ce_loss"].as_array().unwrap().len(), 8);
    let slices = report["viewers"]["evaluation"]["slices"].as_array().unwrap();
    let validation = dir.json("model/config.json")["validation_slices"].clone();
    let captions: Vec<String> = validation.as_array().unwrap().iter().map(|number| format!("slice {number}")).collect();
    assert_eq!(slices.iter().map(|slice| slice["caption"].as_str().unwrap()).collect::<Vec<_>>(), captions);
    for slice in slices {
        assert_eq!([&slice["size"], &slice["shown"]], [&json!([64, 64]); 2]);
        for layer in ["image", "probability", "mask", "label"] {
            assert!(slice[layer].as_str().unwrap().starts_with("data:image/"), "{layer}: {slice}");
        }
    }
    // All slices are of one size, and Dice of a stack lies between those of its slices.
    let dice = |slice: &Value| slice["dice"].as_f64().unwrap();
    let lowest = slices.iter().map(dice).fold(1.0, f64::min);
    let highest = slices.iter().map(dice).fold(0.0, f64::max);
    let all = own["scores"]["dice"].as_f64().unwrap();
    assert!(lowest <= all && all <= highest, "{lowest} {all} {highest}");

    dir.run("--exec_mode predict").success();
    let later = data(&dir, "model/report.html");
    assert_eq!(later["viewers"]["evaluation"], report["viewers"]["evaluation"], "slices of before are gone");
    let predicted = &later["viewers"]["prediction"];
    assert_eq!(predicted["slices"].as_array().unwrap().len(), 6);
    assert_eq!(predicted["slices"][5]["caption"], "slice 5");
    assert_eq!([&predicted["slices"][0]["label"], &predicted["slices"][0]["dice"]], [&Value::Null; 2]);
    assert_eq!(later["runs"], report["runs"]);
}

/// The mask and the label of the page, beside those that were written and read.
#[test]
fn pictures_of_the_viewer_show_the_mask_and_the_label() {
    let dir = reported();
    let code = r#"
import base64, io, json, sys
import numpy, tifffile
from PIL import Image
page = open(sys.argv[1]).read()
data = json.loads(page.split('id="data">')[1].split('</script>')[0])
def decoded(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(',')[1])))
def painted(uri):
    return numpy.asarray(decoded(uri).convert('RGBA'))[..., 3] > 0
masks, images = tifffile.imread(sys.argv[2]), tifffile.imread(sys.argv[3])
for number, one in enumerate(data['viewers']['prediction']['slices']):
    assert (painted(one['mask']) == (masks[number] > 0)).all(), number
    error = numpy.abs(numpy.asarray(decoded(one['image'])).astype(float) - images[number])
    assert error.mean() < 6, error.mean()
labels = tifffile.imread(sys.argv[4])
for one in data['viewers']['evaluation']['slices']:
    label = labels[int(one['caption'].split()[1])] > 0
    assert (painted(one['label']) == label).all(), one['caption']
    mask = painted(one['mask'])
    dice = 2 * (mask & label).sum() / (mask.sum() + label.sum())
    assert abs(dice - one['dice']) < 1e-12, (dice, one['dice'])
"#;
    let names = ["model/report.html", "model/pred/test-masks.tif", "data/test-volume.tif", "data/train-labels.tif"];
    let paths = names.map(|name| dir.path(name));
    python_with("numpy, tifffile, PIL", code, &paths.each_ref().map(|path| path.as_path()));
}

#[test]
fn a_report_parses_and_names_nothing_outside() {
    let dir = reported();
    let code = r#"
import sys
from html.parser import HTMLParser
VOID = {'meta', 'link', 'input', 'br', 'img'}
class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.places, self.names = [], [], []
    def handle_starttag(self, name, attributes):
        self.names.append(name)
        self.places += [value for key, value in attributes if key in ('src', 'href', 'srcset', 'data', 'action')]
        if name not in VOID:
            self.open.append(name)
    def handle_endtag(self, name):
        assert self.open.pop() == name, name
page = open(sys.argv[1]).read()
reader = Reader()
reader.feed(page)
reader.close()
assert reader.open == [], reader.open
assert reader.places == ['data:,'], reader.places
assert reader.names.count('script') == 2 and 'title' in reader.names, reader.names
# The name of SVG's elements is no place.
rest = page.replace('http://www.w3.org/2000/svg', '')
assert 'http://' not in rest and 'https://' not in rest
"#;
    python_with("html.parser", code, &[&dir.path("model/report.html")]);
}

#[test]
fn training_alone_leaves_curves_and_overwrite_removes_slices_of_before() {
    let dir = reported();
    fails(dir.run(TRAIN), 1, &["already holds a run"]);
    dir.run(&format!("{TRAIN} --overwrite")).success();
    let report = data(&dir, "model/report.html");
    assert_eq!((&report["viewers"], &report["runs"][0]["scores"]), (&json!({}), &Value::Null));
    assert_eq!(report["runs"][0]["curves"]["train_total_loss"].as_array().unwrap().len(), 8);
}

#[test]
fn a_report_that_cannot_be_written_is_a_warning() {
    let dir = TestDir::trained(&format!("{TRAIN} --exec_mode train_and_evaluate --evaluate_every 4"));
    fs::remove_file(dir.path("model/report.html")).unwrap();
    fs::create_dir_all(dir.path("model/report.html/mine")).unwrap();
    let run = dir.run("--exec_mode predict").success();
    let warning = "warning: cannot write 'model/report.html'";
    assert!(stderr(&run).contains(warning) && stderr(&run).contains("all other results are there"), "{}", stderr(&run));
    assert!(dir.path("model/pred/test-masks.tif").is_file());
}

#[test]
fn files_that_are_predicted_elsewhere_get_a_report_there() {
    let dir = TestDir::trained(&format!("{TRAIN} --exec_mode train_and_evaluate --evaluate_every 4"));
    let before = dir.read("model/report.html");
    fs::create_dir(dir.path("in")).unwrap();
    for name in ["a.tif", "<b>&.tif"] {
        fs::copy(dir.path("data/test-volume.tif"), dir.path("in").join(name)).unwrap();
    }
    let args =
        ["--exec_mode", "predict", "--input", "in", "--output", "out", "--model_dir", "model", "--device", "cpu"];
    dir.unet(&args).success();
    assert!(dir.read("model/report.html") == before);
    let report = data(&dir, "out/unet-report.html");
    let slices = report["viewers"]["prediction"]["slices"].as_array().unwrap();
    let captions: Vec<&str> = slices.iter().map(|slice| slice["caption"].as_str().unwrap()).collect();
    assert_eq!(captions.len(), 12);
    assert!(captions.contains(&"a page 5") && captions.contains(&"<b>& page 0"), "{captions:?}");
    assert!(!text(&dir.read("out/unet-report.html")).contains("<b>"));
    assert_eq!(report["runs"][0]["scores"], dir.json("model/eval.json"));
}

#[test]
fn runs_are_shown_side_by_side() {
    let dir = reported();
    let other = format!("{TRAIN} --seed 3 --model_dir other --exec_mode train_and_evaluate");
    dir.run(&other).success();
    let compare = ["report", "model", "other", "--html", "both.html"];
    let printed = stdout(&dir.unet(&compare).success());
    let dice = |name: &str| dir.json(name)["eval_dice_score"].as_f64().unwrap();
    let (first, second) = (dice("model/eval.json"), dice("other/eval.json"));
    assert!(printed.contains(&format!("mean of 2: Dice {:.4}", (first + second) / 2.0)), "{printed}");
    let report = data(&dir, "both.html");
    let scores = report["comparison"]["scores"].as_array().unwrap();
    let row = scores.iter().find(|row| row["key"] == "eval_dice_score").unwrap();
    assert_eq!(row["values"], json!([first, second]));
    // The deviation of two values is their distance by the root of 2.
    let deviation = row["deviation"].as_f64().unwrap();
    assert!((deviation - (first - second).abs() / 2f64.sqrt()).abs() < 1e-12, "{row}");
    let settings = report["comparison"]["settings"].as_array().unwrap();
    let seed = settings.iter().find(|row| row["key"] == "seed").unwrap();
    assert_eq!(seed["values"], json!([0, 3]));
    assert!(settings.iter().all(|row| row["key"] != "base_filters"), "{settings:?}");
    assert_eq!(report["runs"][1]["curves"]["train_ce_loss"].as_array().unwrap().len(), 8);
    let class = |name: &str, at: usize| dir.json(name)["classes"][at]["dice"].as_f64().unwrap();
    let classes = report["comparison"]["classes"].as_array().unwrap();
    let row = classes.iter().find(|row| row["class"] == "inside" && row["key"] == "dice").unwrap();
    assert_eq!(row["values"], json!([class("model/eval.json", 1), class("other/eval.json", 1)]));
    let pages: Vec<&Value> = report["runs"].as_array().unwrap().iter().map(|run| &run["page"]).collect();
    assert_eq!(pages, ["model/report.html", "other/report.html"]);

    fails(dir.unet(&compare), 1, &["'both.html' is there already", "--overwrite"]);
    dir.unet(&[&compare[..], &["--overwrite"]].concat()).success();
    // Files of scores, and a folder, without a page.
    let plain = stdout(&dir.unet(&["report", "model", "other/eval.json"]).success());
    assert!(plain.contains(&format!("mean of 2: Dice {:.4}", (first + second) / 2.0)), "{plain}");
    fails(dir.unet(&["report", "data"]), 1, &["no scores in 'data'", "--exec_mode evaluate"]);
    fails(dir.unet(&["report", "data", "--html", "none.html"]), 1, &["'data'", "--model_dir"]);
}

/// What the page shows while `tests/browser/drive.js` works with it in Chromium, in a window of this width. `None`,
/// with a message, where there is no Chromium.
fn driven(dir: &TestDir, name: &str, width: u32) -> Option<Value> {
    let has_browser = Command::new("chromium").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has_browser {
        eprintln!("skipped: there is no chromium; Debian's package of this name has it");
        return None;
    }
    let page = String::from_utf8(dir.read(name)).unwrap();
    let script = format!("<script>{}</script></body>", include_str!("browser/drive.js"));
    let driven = dir.path("driven.html");
    fs::write(&driven, page.replace("</body>", &script)).unwrap();
    let output = Command::new("timeout")
        .args(["120", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
        .args(["--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--window-size={width},900"))
        .arg(format!("--user-data-dir={}", dir.path("browser").display()))
        .arg(format!("file://{}", driven.display()))
        .output()
        .unwrap();
    let messages = text(&output.stderr);
    let console: Vec<&str> = messages.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.is_empty(), "{console:?}");
    let shown = text(&output.stdout);
    let (_, rest) = shown.rsplit_once("<pre id=\"result\">").unwrap_or_else(|| panic!("no result: {messages}"));
    Some(serde_json::from_str(rest.split_once("</pre>").unwrap().0).unwrap())
}

#[test]
fn slices_layers_and_curves_answer_to_controls_and_keys_in_a_browser() {
    let dir = reported();
    // Headless windows are not narrower than 500 pixels; narrow screens are below 800.
    for width in [1200, 500] {
        let Some(found) = driven(&dir, "model/report.html", width) else { return };
        let report = data(&dir, "model/report.html");
        let slices = report["viewers"]["evaluation"]["slices"].as_array().unwrap();
        let mut worst: Vec<(f64, &str)> =
            slices.iter().map(|one| (one["dice"].as_f64().unwrap(), one["caption"].as_str().unwrap())).collect();
        worst.sort_by(|left, right| left.0.total_cmp(&right.0));
        let count = slices.len();
        let caption =
            |place: usize, (dice, name): (f64, &str)| format!("Slice {} of {count}: {name}, Dice {dice:.4}", place + 1);
        let given = (slices[0]["dice"].as_f64().unwrap(), slices[0]["caption"].as_str().unwrap());
        let ends = [worst[0], worst[count - 1]];
        let expected = [
            caption(0, ends[0]),
            caption(1, worst[1]),
            caption(0, ends[0]),
            caption(count - 1, ends[1]),
            caption(0, given),
        ];
        assert_eq!(found["slices"], json!(expected));
        // Image, probability, mask, label: at first, after each of the keys 1 to 4, after the slider of the mask.
        let opacities = json!([
            ["1", "0", "0.45", "0"],
            ["0", "0", "0.45", "0"],
            ["0", "0.8", "0.45", "0"],
            ["0", "0.8", "0", "0"],
            ["0", "0.8", "0", "0.45"],
            ["0", "0.8", "0.7", "0.45"],
        ]);
        assert_eq!(found["opacities"], opacities);
        let shifts: Vec<&str> = found["shifts"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        assert!(shifts[1].ends_with("scale(1.5)") && shifts[1] == shifts[3], "{shifts:?}");
        assert!([0, 2, 4].iter().all(|&at| shifts[at] == "translate(0px, 0px) scale(1)"), "{shifts:?}");
        let loss = report["runs"][0]["curves"]["train_total_loss"][0][1].as_f64().unwrap();
        let tip = found["tip"].as_str().unwrap();
        assert!(tip.starts_with("step 1") && tip.contains(&format!("training: total {loss:.4}")), "{tip}");
        assert_eq!(found["after_chart"], found["slices"][4], "the keys of a chart turned the slices");
        assert_eq!((&found["predicted"], &found["label_is_hidden"]), (&json!("Slice 1 of 6: slice 0"), &json!(true)));
        assert_eq!(found["pictures"], json!([64, 64, 64]));
        assert_eq!([&found["requests"], &found["violations"]], [&json!([]); 2]);
        assert_eq!(found["unnamed"], 0);
        let side = |part: usize| found["width"][part].as_u64().unwrap();
        assert!(side(1) <= side(0), "the page is wider than its window: {}", found["width"]);
    }
}

/// Names that are markup are shown as they are.
#[test]
fn names_of_users_are_text_in_a_browser() {
    let dir = reported();
    let name = "<img src=x onerror=document.body.remove()> & \"";
    fs::rename(dir.path("model"), dir.path(name)).unwrap();
    dir.unet(&["--exec_mode", "predict", "--model_dir", name, "--data_dir", "data", "--device", "cpu", "--overwrite"])
        .success();
    let page = Path::new(name).join("report.html").display().to_string();
    assert_eq!(data(&dir, &page)["title"], name);
    assert!(!text(&dir.read(&page)).contains("<img"));
    let Some(found) = driven(&dir, &page, 1200) else { return };
    assert_eq!([&found["requests"], &found["violations"]], [&json!([]); 2]);
}
