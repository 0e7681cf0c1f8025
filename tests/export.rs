//! `unet export`: ONNX Runtime and PyTorch compute with its files what `scripts/bench/pytorch_peer.py` does with the
//! weights.

mod common;

use std::path::Path;

use common::{TestDir, fails, python_command, stdout, text};

/// Runs Python code after the imports and functions that these tests share. `None`, with a message, where a module is
/// absent.
fn python(dir: &TestDir, code: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let more = std::env::var("PYTHONPATH").unwrap_or_default();
    let path = format!("{0}/.libtorch/site-packages:{0}/scripts/bench:{more}", root.display());
    // An exit code of 77 says that a module is absent.
    let code = format!("try:{}\nexcept ImportError:\n    raise SystemExit(77)\n{PREAMBLE}\n{code}", IMPORTS.trim_end());
    let output = python_command().env("PYTHONPATH", &path).current_dir(dir.path("")).arg("-c").arg(code).output().ok();
    let Some(output) = output.filter(|output| output.status.code() != Some(77)) else {
        eprintln!(
            "skipped: python3 lacks the modules of scripts/setup/requirements.txt; scripts/setup/libtorch.sh has them"
        );
        return None;
    };
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some(text(&output.stdout))
}

const IMPORTS: &str = "
    import json, numpy as np, onnx, onnxruntime, safetensors, torch, pytorch_peer";

const PREAMBLE: &str = r#"
def session(path):
    onnx.checker.check_model(path, full_check=True)
    return onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])

def script(path):
    files = {'unet.json': ''}
    return torch.jit.load(path, _extra_files=files).eval(), json.loads(files['unet.json'])

def images(n, height, width):
    return torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(n)) * 2 - 1

def worst(name, softmax, sizes):
    """The largest difference of both files from the peer, by size; and the largest output."""
    net = pytorch_peer.load('model/model.safetensors')
    onnx_file, (module, _) = session(name + '.onnx'), script(name + '.pt')
    differences = []
    for size in sizes:
        x = images(*size)
        with torch.inference_mode():
            y = net(x)
            y = (torch.softmax(y, 1) if softmax else y).numpy()
            found = [onnx_file.run(None, {'images': x.numpy()})[0], module(x).numpy()]
        for output in found:
            assert output.dtype == np.float32 and output.shape == y.shape, (output.dtype, output.shape)
        differences.append([float(np.abs(output - y).max()) for output in found] + [float(np.abs(y).max())])
    print(json.dumps(differences))
"#;

/// A folder with the weights of a short training.
fn trained() -> TestDir {
    TestDir::trained("--max_steps 3 --base_filters 4 --learning_rate 0.01")
}

/// Exports to `name.onnx` and `name.pt`. Returns what was printed.
fn export(dir: &TestDir, name: &str, flags: &[&str]) -> [String; 2] {
    [("onnx", "onnx"), ("torchscript", "pt")].map(|(format, suffix)| {
        let out = format!("{name}.{suffix}");
        let args = [&["export", "--model_dir", "model", "--to", format, "--out", &out], flags].concat();
        stdout(&dir.unet(&args).success())
    })
}

/// Files `name.onnx` and `name.pt`, and the inputs on which they are compared with the peer.
struct Compared {
    name: &'static str,
    /// Whether the files end with the softmax.
    softmax: bool,
    /// Images, height and width of each input, as Python writes them.
    sizes: &'static str,
}

/// For each size of each file: differences of ONNX and of TorchScript from the peer, and the largest output.
fn differences(dir: &TestDir, files: &[Compared]) -> Option<Vec<Vec<[f64; 3]>>> {
    let call =
        |&Compared { name, softmax, sizes }: &Compared| format!("worst('{name}', {}, {sizes})\n", u8::from(softmax));
    let printed = python(dir, &files.iter().map(call).collect::<String>())?;
    Some(printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn onnx_runtime_and_pytorch_compute_what_the_peer_does() {
    let dir = trained();
    let cases: [(&[&str], Compared); 4] = [
        (&["--no_softmax"], Compared { name: "paper", softmax: false, sizes: "[(1, 572, 572)]" }),
        (
            &["--no_softmax", "--height", "204", "--width", "236"],
            Compared { name: "fixed", softmax: false, sizes: "[(1, 204, 236), (3, 204, 236)]" },
        ),
        (
            &["--no_softmax", "--dynamic"],
            Compared { name: "dynamic", softmax: false, sizes: "[(1, 188, 188), (3, 252, 204), (1, 572, 572)]" },
        ),
        (
            &["--dynamic", "--data_dir", "data"],
            Compared { name: "softmax", softmax: true, sizes: "[(1, 188, 188), (3, 204, 236)]" },
        ),
    ];
    for (flags, Compared { name, .. }) in &cases {
        export(&dir, name, flags);
    }
    let files = cases.map(|(_, file)| file);
    let Some(differences) = differences(&dir, &files) else { return };
    assert_eq!(differences.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 3, 2]);
    for (Compared { name, .. }, found) in files.iter().zip(differences) {
        for [onnx, script, largest] in found {
            assert!(onnx < 1e-4 && script < 1e-4, "{name}: {onnx}, {script}");
            assert!(largest > 0.05, "{name}: nothing to compare");
        }
    }
}

#[test]
fn float16_files_are_half_as_large_and_near_the_peer() {
    let dir = trained();
    export(&dir, "full", &["--no_softmax", "--dynamic"]);
    let reports = export(&dir, "half", &["--no_softmax", "--dynamic", "--amp"]);
    assert!(reports.iter().all(|report| report.contains("float16")), "{reports:?}");
    for suffix in ["onnx", "pt"] {
        let [full, half] = ["full", "half"].map(|name| dir.read(&format!("{name}.{suffix}")).len());
        assert!(half < full * 6 / 10, "{suffix}: {half} of {full}");
    }
    let code = "worst('half', False, [(1, 188, 188), (3, 204, 236)])
print(sorted({str(p.dtype) for p in script('half.pt')[0].parameters()}))";
    let Some(printed) = python(&dir, code) else { return };
    let (differences, dtypes) = printed.trim_end().split_once('\n').unwrap();
    for [onnx, script, largest] in serde_json::from_str::<Vec<[f64; 3]>>(differences).unwrap() {
        let limit = 1e-2 * largest.max(1.0);
        assert!(onnx < limit && script < limit, "{onnx}, {script} with outputs up to {largest}");
        assert!(onnx > 1e-6 && script > 1e-6, "not float16: {onnx}, {script}");
    }
    assert_eq!(dtypes, "['torch.float16']");
}

#[test]
fn the_files_say_what_goes_in_and_what_comes_out() {
    let dir = trained();
    export(&dir, "dynamic", &["--dynamic"]);
    // The weights say what they were trained on, whatever is written into the record of the run.
    let mut record = dir.json("model/config.json");
    assert_eq!(record["datasets"][0]["grey_range"]["white"], 255.0);
    record["datasets"][0]["grey_range"]["white"] = 65535.0.into();
    std::fs::write(dir.path("model/config.json"), record.to_string()).unwrap();
    export(&dir, "fixed", &["--no_softmax", "--width", "588"]);
    let code = "
for name in 'fixed', 'dynamic':
    file = session(name + '.onnx')
    x, y, facts = file.get_inputs()[0], file.get_outputs()[0], file.get_modelmeta().custom_metadata_map
    more = script(name + '.pt')[1]
    assert facts.pop('opset') == '17'
    assert facts == {k: v if isinstance(v, str) else json.dumps(v, separators=(',', ':')) for k, v in more.items()}
    print(json.dumps([x.name, x.shape, y.name, y.shape, more]))";
    let Some(printed) = python(&dir, code) else { return };
    let facts: Vec<serde_json::Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [fixed, dynamic] = &facts[..] else { panic!("{printed}") };
    assert_eq!(fixed[0], "images");
    assert_eq!(fixed[1], serde_json::json!(["batch", 1, 572, 588]));
    assert_eq!(fixed[2], "logits");
    assert_eq!(fixed[3], serde_json::json!(["batch", 2, 388, 404]));
    assert_eq!(fixed[4]["input_size"], serde_json::json!([572, 588]));
    assert_eq!(fixed[4]["white"], 255.0);
    assert_eq!(fixed[4]["output_size"], serde_json::json!([388, 404]));
    assert_eq!(dynamic[1], serde_json::json!(["batch", 1, "height", "width"]));
    assert_eq!(dynamic[2], "probabilities");
    assert_eq!(dynamic[3], serde_json::json!(["batch", 2, "output_height", "output_width"]));
    let facts = &dynamic[4];
    assert_eq!((&facts["input_size"], &facts["sides_that_fit"]), (&"dynamic".into(), &"188 + 16 k".into()));
    assert_eq!(facts["classes"], serde_json::json!(["membrane", "inside"]));
    assert_eq!((&facts["black"], &facts["white"]), (&0.0.into(), &255.0.into()));
    assert_eq!(facts["source"], concat!("unet ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn torchscript_keeps_the_parameters_names_and_both_refuse_sides_that_do_not_fit() {
    let dir = trained();
    export(&dir, "dynamic", &["--dynamic"]);
    let code = "
from safetensors.torch import load_file
module, weights, file = script('dynamic.pt')[0], load_file('model/model.safetensors'), session('dynamic.onnx')
state = module.state_dict()
assert sorted(state) == sorted(weights)
assert all(torch.equal(state[name], weights[name]) for name in weights)
for height, width in (572, 573), (512, 512), (172, 188):
    x = images(1, height, width)
    for run in lambda: module(x), lambda: file.run(None, {'images': x.numpy()}):
        try:
            run()
        except Exception as error:
            print(str(error).replace(chr(10), ' '))
        else:
            raise SystemExit(f'{height}x{width} was taken')";
    let Some(printed) = python(&dir, code) else { return };
    assert_eq!(printed.lines().count(), 6, "{printed}");
    let refusal = "AssertionError: expected images with sides of 188 pixels or a multiple of 16 more";
    assert_eq!(printed.matches(refusal).count(), 3, "{printed}");
}

#[test]
fn an_impossible_export_is_refused_and_leaves_files_alone() {
    let dir = trained();
    let export = |args: &str| {
        let all = format!("export --model_dir model --to onnx --out net.onnx {args}");
        dir.unet(&all.split_whitespace().collect::<Vec<_>>())
    };
    // Exit code 2 is for a command line that cannot be carried out.
    for (args, words) in [
        ("--height 500", &["--height 500", "492", "508"][..]),
        ("--width 100", &["--width 100", "none", "188"]),
        ("--dynamic --height 572", &["--dynamic", "--height"]),
    ] {
        fails(export(args), 2, words);
    }
    fails(dir.unet(&["export", "--model_dir", "model", "--to", "pickle", "--out", "x"]), 2, &["--to", "torchscript"]);
    fails(dir.unet(&["export", "--model_dir", "nothing", "--to", "onnx", "--out", "x"]), 1, &["no weights", "nothing"]);
    fails(export("--data_dir nothing"), 1, &["no folder 'nothing'", "--data_dir"]);
    assert!(!dir.path("x").exists() && !dir.path("net.onnx").exists());

    std::fs::write(dir.path("net.onnx"), "mine").unwrap();
    fails(export(""), 1, &["'net.onnx' is there already", "--overwrite"]);
    assert_eq!(dir.read("net.onnx"), b"mine");
    export("--overwrite").success();
    assert!(dir.read("net.onnx").len() > 1000);
}

/// The weights are so large that activations leave the range of float16: the check finds infinities.
#[test]
fn a_network_that_float16_cannot_hold_is_not_written() {
    let dir = TestDir::new();
    dir.run("--max_steps 1 --base_filters 4 --learning_rate 0.3").success();
    for format in ["onnx", "torchscript"] {
        let args = ["export", "--model_dir", "model", "--to", format, "--out", "net", "--overwrite"];
        dir.unet(&args).success();
        let good = dir.read("net");
        fails(
            dir.unet(&[&args[..], &["--amp"]].concat()),
            1,
            &["float16 does not suffice", "leave out --amp", "'net'"],
        );
        assert_eq!(dir.read("net"), good);
    }
    assert_eq!(dir.files(""), dir.files("").into_iter().filter(|name| !name.contains(".tmp")).collect::<Vec<_>>());
}

/// The Python of docs/deployment.md runs as it stands there, and predicts a stack as the program does.
#[test]
fn the_documented_python_runs_and_predicts_as_the_program_does() {
    let dir = trained();
    let [onnx, script] = export(&dir, "unet", &["--data_dir", "data"]);
    assert!(
        [&onnx, &script].iter().all(|report| report.contains("the first slice of 'data/test-volume.tif'")),
        "{onnx}"
    );
    let Some(printed) = documented_python(&dir, 3) else { return };
    let (shapes, numbers) = printed.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(shapes, "probabilities: float32 [N, 2, height - 184, width - 184] [1, 2, 388, 388]\n[1, 2, 388, 388]");
    let numbers: Vec<f64> = numbers.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert!(numbers[0] < 1e-5 && numbers[1] > 1e-3, "{numbers:?}");
}

/// The same for networks of the native recipe, with images of more than one tile and of less.
#[test]
fn the_documented_python_predicts_by_the_native_recipe_too() {
    for (size, more) in [(420, "--grey_scaling image"), (70, "--grey_scaling range")] {
        let dir = TestDir::new();
        let size = size.to_string();
        dir.unet(&["phantom", "--out", "data", "--slices", "2", "--size", &size, "--overwrite"]).success();
        dir.run(&format!("--base_filters 2 --max_steps 2 --recipe native --patch 68 --init he {more}")).success();
        export(&dir, "unet", &[]);
        let Some(printed) = documented_python(&dir, 1) else { return };
        let numbers: Vec<f64> = printed.split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert!(numbers[0] < 1e-5 && numbers[1] > 1e-3, "{size}: {numbers:?}");
    }
}

/// What the first blocks of the page print, and the largest difference of their probabilities from the program's, and
/// the range of those.
fn documented_python(dir: &TestDir, blocks: usize) -> Option<String> {
    dir.run("--exec_mode predict").success();
    std::fs::rename(dir.path("model"), dir.path("results")).unwrap();
    let page = include_str!("../docs/deployment.md");
    let found: Vec<&str> =
        page.split("```python\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect();
    assert_eq!(found.len(), 3);
    // Each block has a namespace of its own, as if an interpreter of its own ran it.
    let mut code: String =
        found[..blocks].iter().map(|block| format!("exec({}, {{}})\n", serde_json::json!(block))).collect();
    code += "
import tifffile
ours, theirs = tifffile.imread('results/pred/test-probabilities.tif'), tifffile.imread('probabilities.tif')
assert ours.shape == theirs.shape
print(float(np.abs(ours - theirs).max()), float(np.ptp(ours)))";
    python(dir, &code)
}
