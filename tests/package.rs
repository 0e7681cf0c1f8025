//! `unet export --to bioimageio`: the tools of the BioImage Model Zoo accept its packages, and predict by them what the
//! program predicts.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{TestDir, fails, python_command, stdout, text};

/// What every package needs.
const ABOUT: [&str; 4] = ["--author", "A. Nobody; Institute of Cells", "--license", "CC-BY-4.0"];

/// Python with the zoo's tools, beside the modules of the other tests.
///
/// `None`, with a message, where they are absent.
fn zoo(dir: &TestDir, code: &str, args: &[&str]) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let more = std::env::var("PYTHONPATH").unwrap_or_default();
    let path = format!("{0}/.libtorch/bioimageio:{0}/.libtorch/site-packages:{more}", root.display());
    // An exit code of 77 says that a module is absent.
    let code = format!("try:\n    import {NEEDED}\nexcept ImportError:\n    raise SystemExit(77)\n{code}");
    let mut command = python_command();
    // What the tools unpack goes to the test's folder.
    command.env("PYTHONPATH", path).env("BIOIMAGEIO_CACHE_PATH", dir.path("cache"));
    command.current_dir(dir.path("")).arg("-c").arg(code).args(args);
    let output = command.output().ok();
    let Some(output) = output.filter(|output| output.status.code() != Some(77)) else {
        eprintln!("skipped: python3 lacks one of {NEEDED}; scripts/setup/bioimageio.sh installs them");
        return None;
    };
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    Some(text(&output.stdout))
}

const NEEDED: &str = "bioimageio.core, numpy, onnxruntime, tifffile, torch";

/// Prints a line for each package: its status, and how often each format has given the test output.
const TEST: &str = r#"
import sys
from bioimageio.core import test_description
for name in sys.argv[1:]:
    summary = test_description(name)
    passed = [detail.name for detail in summary.details if detail.status == 'passed']
    formats = [sum('eproduce' in one and weights in one for one in passed) for weights in ('onnx', 'torchscript')]
    sizes = sum('inference for inputs' in one for one in passed)
    errors = [error.msg for detail in summary.details for error in detail.errors]
    print(name, summary.status, *formats, sizes, errors)
"#;

/// A network of one step, for a phantom with these channels and classes; its folder is `model-NAME`.
fn train(dir: &TestDir, name: &str, [channels, classes]: [&str; 2], args: &str) {
    let (data, model) = (format!("data-{channels}-{classes}"), format!("model-{name}"));
    if !dir.path(&data).exists() {
        let layout = ["phantom", "--layout", "folders", "--slices", "2", "--size", "64", "--out", &data];
        dir.unet(&[&layout[..], &["--channels", channels, "--classes", classes]].concat()).success();
    }
    let base = "--max_steps 2 --base_filters 2 --learning_rate 0.01 --init he";
    dir.run(&format!("{base} --data_dir {data} --model_dir {model} {args}")).success();
}

/// Exports `model-NAME` to `OUT.zip`. What was printed.
fn export(dir: &TestDir, name: &str, out: &str, args: &[&str]) -> String {
    let (model, out) = (format!("model-{name}"), format!("{out}.zip"));
    let all = ["export", "--to", "bioimageio", "--model_dir", &model, "--out", &out];
    stdout(&dir.unet(&[&all[..], &ABOUT, args].concat()).success())
}

#[test]
fn the_tools_of_the_zoo_accept_packages_of_both_recipes_and_of_any_data() {
    let dir = TestDir::new();
    let mut packages = Vec::new();
    for (recipe, args) in [("reference", ""), ("native", "--recipe native --patch 36 --grey_scaling range")] {
        for [channels, classes] in [["1", "2"], ["1", "5"], ["3", "2"], ["3", "5"]] {
            let name = format!("{recipe}-{channels}-{classes}");
            // The last network scales each image by itself.
            let image = if name == "native-3-5" { "--grey_scaling image" } else { "" };
            train(&dir, &name, [channels, classes], &format!("{args} {image}"));
            let printed = export(&dir, &name, &name, &[]);
            assert_eq!(printed.matches("read back").count(), 2, "{printed}");
            export(&dir, &name, &format!("{name}-same"), &["--same_size"]);
            packages.extend([format!("{name}.zip"), format!("{name}-same.zip")]);
        }
    }
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    let Some(printed) = zoo(&dir, TEST, &names) else { return };
    let lines: Vec<&str> = printed.lines().filter(|line| line.contains(".zip ")).collect();
    // Each format: the test output, and batches of 1 and 2 of three sizes.
    let expected: Vec<String> = names.iter().map(|name| format!("{name} passed 1 1 12 []")).collect();
    assert_eq!(lines, expected);
}

/// The test of the tools compares: a package with another test output is refused.
#[test]
fn the_tools_of_the_zoo_refuse_a_package_that_computes_something_else() {
    let dir = TestDir::new();
    train(&dir, "plain", ["1", "2"], "");
    export(&dir, "plain", "plain", &["--no_softmax"]);
    let code = format!(
        "import hashlib, io, json, zipfile
with zipfile.ZipFile('plain.zip') as old, zipfile.ZipFile('changed.zip', 'w') as new:
    files = {{name: old.read(name) for name in old.namelist()}}
    output = io.BytesIO()
    numpy.save(output, numpy.load(io.BytesIO(files['test_output.npy'])) + 0.05)
    files['test_output.npy'] = output.getvalue()
    description = json.loads(files['rdf.yaml'])
    description['outputs'][0]['test_tensor']['sha256'] = hashlib.sha256(output.getvalue()).hexdigest()
    files['rdf.yaml'] = json.dumps(description).encode()
    for name, content in files.items():
        new.writestr(name, content)
{TEST}"
    );
    let Some(printed) = zoo(&dir, &code, &["plain.zip", "changed.zip"]) else { return };
    assert!(printed.contains("plain.zip passed 1 1 12 []"), "{printed}");
    let refused = printed.lines().find(|line| line.starts_with("changed.zip ")).unwrap();
    assert!(refused.starts_with("changed.zip failed 0 0"), "{refused}");
}

/// Stored images go in, and the probabilities of `--exec_mode predict` come out: preprocessing, frame and softmax are
/// those of the program.
#[test]
fn the_tools_of_the_zoo_predict_by_a_package_what_the_program_predicts() {
    let dir = TestDir::new();
    // The size that the reference's recipe resizes to, and one that the native recipe takes as it is.
    let cases = [
        ("reference", "", "388"),
        ("range", "--recipe native --patch 36 --grey_scaling range", "240"),
        ("image", "--recipe native --patch 36 --grey_scaling image", "240"),
    ];
    for (name, args, size) in cases {
        dir.unet(&["phantom", "--slices", "2", "--size", size, "--out", name]).success();
        let base = "--max_steps 3 --base_filters 2 --learning_rate 0.01 --init he --exec_mode train_and_predict";
        dir.run(&format!("{base} --data_dir {name} --model_dir model-{name} {args}")).success();
        export(&dir, name, name, &["--same_size"]);
    }
    let code = r#"
import sys
from bioimageio.core import create_prediction_pipeline, load_description
from bioimageio.core.digest_spec import create_sample_for_model
for name in sys.argv[1:]:
    model = load_description(name + '.zip')
    images = tifffile.imread(f'{name}/test-volume.tif').astype(numpy.float32)[:, None]
    expected = tifffile.imread(f'model-{name}/pred/test-probabilities.tif')
    for weights in 'onnx', 'torchscript':
        with create_prediction_pipeline(model, weight_format=weights) as pipeline:
            for image, own in zip(images, expected):
                sample = create_sample_for_model(model, inputs={'images': image[None]})
                found = pipeline.predict_sample_without_blocking(
                    sample, skip_input_padding=True, skip_output_cropping=True)
                found = numpy.asarray(found.members['probabilities'].data)
                assert found.shape == (1, 2, *own.shape), found.shape
                print(name, weights, float(numpy.abs(found[0, 1] - own).max()), float(own.std()))
"#;
    let names = cases.map(|(name, ..)| name);
    let probabilities = dir.files("model-range/pred");
    assert!(probabilities.iter().any(|name| name == "test-probabilities.tif"), "{probabilities:?}");
    let Some(printed) = zoo(&dir, code, &names) else { return };
    let lines: Vec<Vec<&str>> = printed.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), 12, "{printed}");
    for line in lines {
        let [difference, deviation] = [2, 3].map(|at| line[at].parse::<f64>().unwrap());
        assert!(difference < 1e-4, "{line:?}");
        assert!(deviation > 1e-3, "nothing to compare: {line:?}");
    }
}

/// The files of an archive, by Python's own reader.
fn unpacked(dir: &TestDir, name: &str) -> Option<PathBuf> {
    let code = "import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as archive:
    assert archive.testzip() is None
    archive.extractall(sys.argv[2])";
    let folder = dir.path(&format!("{name}-files"));
    let done = python_command().arg("-c").arg(code).arg(dir.path(&format!("{name}.zip"))).arg(&folder).status();
    if !done.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no python3");
        return None;
    }
    Some(folder)
}

#[test]
fn a_package_says_what_its_flags_and_its_run_say() {
    let dir = TestDir::trained("--max_steps 3 --base_filters 2 --exec_mode train_and_evaluate --crossvalidation_idx 0");
    fs::rename(dir.path("model"), dir.path("model-a")).unwrap();
    let args = ["--name", "Membranes (EM)", "--description", "Finds membranes.", "--cite", "Ours, 2026; 10.1000/182"];
    export(&dir, "a", "a", &[&args[..], &["--author", "B; 0000-0002-1825-0097"]].concat());
    let Some(folder) = unpacked(&dir, "a") else { return };
    let read = |name: &str| text(&fs::read(folder.join(name)).unwrap());
    let said: serde_json::Value = serde_json::from_str(&read("rdf.yaml")).unwrap();
    assert_eq!((&said["name"], &said["license"]), (&"Membranes (EM)".into(), &"CC-BY-4.0".into()));
    let authors = serde_json::json!([
        {"name": "A. Nobody", "affiliation": "Institute of Cells"}, {"name": "B", "orcid": "0000-0002-1825-0097"},
    ]);
    assert_eq!(said["authors"], authors);
    assert_eq!(said["cite"][1], serde_json::json!({"text": "Ours, 2026", "doi": "10.1000/182"}));
    assert_eq!(said["config"]["unet"]["classes"], serde_json::json!(["membrane", "inside"]));
    assert_eq!(said["outputs"][0]["axes"][2]["size"]["offset"], -184);
    assert!(said["outputs"][0].get("postprocessing").is_none(), "the graph has the softmax already");
    let readme = read("README.md");
    let dice = dir.json("model-a/eval.json")["eval_dice_score"].as_f64().unwrap();
    assert!(readme.contains("## Validation") && readme.contains(&format!("| eval_dice_score | {dice:.4} |")));
    let cover = fs::read(folder.join("cover.png")).unwrap();
    // The header of a PNG has width and height from byte 16 on.
    let side = |at: usize| u32::from_be_bytes(cover[at..at + 4].try_into().unwrap());
    assert_eq!((side(16), side(20)), (800, 400));
    assert!(cover.len() < 500_000);
    // The folder in which the package was made is gone.
    assert!(dir.files("").iter().all(|name| !name.contains(".tmp")), "{:?}", dir.files(""));
}

#[test]
fn flags_of_packages_are_refused_where_they_say_nothing_or_are_missing() {
    let dir = TestDir::trained("--max_steps 1 --base_filters 2");
    let export = |to: &str, args: &[&str]| {
        let all = ["export", "--model_dir", "model", "--out", "net.zip", "--to", to];
        dir.unet(&[&all[..], args].concat())
    };
    fails(export("bioimageio", &[]), 2, &["--author", "needs"]);
    fails(export("bioimageio", &ABOUT[..2]), 2, &["--license", "SPDX"]);
    fails(export("bioimageio", &[&ABOUT[..], &["--height", "572"]].concat()), 2, &["--height", "leave it out"]);
    fails(export("bioimageio", &[&ABOUT[..], &["--amp"]].concat()), 2, &["--amp", "leave it out"]);
    fails(export("bioimageio", &[&ABOUT[..], &["--cite", "Paper"]].concat()), 2, &["--cite", "DOI"]);
    fails(export("bioimageio", &[&ABOUT[..], &["--name", "Net: a"]].concat()), 2, &["--name", "':'"]);
    fails(export("onnx", &["--same_size"]), 2, &["--same_size", "bioimageio"]);
    fails(export("torchscript", &["--license", "MIT"]), 2, &["--license", "bioimageio"]);
    assert!(!dir.path("net.zip").exists());
    fs::write(dir.path("net.zip"), "mine").unwrap();
    fails(export("bioimageio", &ABOUT), 1, &["'net.zip' is there already", "--overwrite"]);
    assert_eq!(dir.read("net.zip"), b"mine");
}
