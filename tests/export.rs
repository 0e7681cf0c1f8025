//! `unet export`: ONNX Runtime and PyTorch compute with its files what `scripts/bench/pytorch_peer.py` does with the
//! weights.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Place, fails, stdout};

/// Runs Python code after the imports that these tests share, with the peer's network at hand. `None`, with a message, where
/// a module is absent.
fn python(place: &Place, code: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let more = std::env::var("PYTHONPATH").unwrap_or_default();
    let path = format!("{0}/.libtorch/site-packages:{0}/scripts/bench:{more}", root.display());
    let run = |code: &str| {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &path).current_dir(place.path("")).arg("-c").arg(code).output()
    };
    if !run("import onnx, onnxruntime, torch, safetensors").is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: python3 lacks what requirements.txt names; scripts/setup/libtorch.sh fetches them");
        return None;
    }
    let output = run(&format!("{PREAMBLE}\n{code}")).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

const PREAMBLE: &str = r#"
import json, numpy as np, onnx, onnxruntime, torch, pytorch_peer

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
    net, onnx_file, (module, _) = pytorch_peer.load('model/model.safetensors'), session(name + '.onnx'), script(name + '.pt')
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
fn trained() -> Place {
    let place = Place::new();
    place.run("--max_steps 3 --base_filters 4 --learning_rate 0.01").success();
    place
}

/// Exports to `name.onnx` and `name.pt`.
fn export(place: &Place, name: &str, flags: &[&str]) -> [String; 2] {
    [("onnx", "onnx"), ("torchscript", "pt")].map(|(format, suffix)| {
        let out = format!("{name}.{suffix}");
        let args = [&["export", "--model_dir", "model", "--to", format, "--out", &out], flags].concat();
        stdout(&place.unet(&args).success())
    })
}

/// Differences of the ONNX and the TorchScript file from the peer, and the largest output, for each size.
fn differences(place: &Place, name: &str, softmax: bool, sizes: &str) -> Option<Vec<[f64; 3]>> {
    let softmax = if softmax { "True" } else { "False" };
    let printed = python(place, &format!("worst('{name}', {softmax}, {sizes})"))?;
    Some(serde_json::from_str(&printed).unwrap())
}

#[test]
fn onnx_runtime_and_pytorch_compute_what_the_peer_does() {
    let place = trained();
    let cases: [(&str, &[&str], bool, &str); 4] = [
        ("paper", &["--no_softmax"], false, "[(1, 572, 572), (3, 572, 572)]"),
        ("fixed", &["--no_softmax", "--height", "204", "--width", "236"], false, "[(1, 204, 236), (3, 204, 236)]"),
        ("dynamic", &["--no_softmax", "--dynamic"], false, "[(1, 188, 188), (3, 252, 204), (1, 572, 572)]"),
        ("softmax", &["--dynamic", "--data_dir", "data"], true, "[(1, 188, 188), (3, 204, 236)]"),
    ];
    for (name, flags, softmax, sizes) in cases {
        export(&place, name, flags);
        let Some(differences) = differences(&place, name, softmax, sizes) else { return };
        for [onnx, script, largest] in differences {
            assert!(onnx < 1e-4 && script < 1e-4, "{name}: {onnx}, {script}");
            assert!(largest > 0.05, "{name}: nothing to compare");
        }
    }
}

#[test]
fn float16_files_are_half_as_large_and_near_the_peer() {
    let place = trained();
    export(&place, "full", &["--no_softmax", "--dynamic"]);
    let reports = export(&place, "half", &["--no_softmax", "--dynamic", "--amp"]);
    assert!(reports.iter().all(|report| report.contains("float16")), "{reports:?}");
    for suffix in ["onnx", "pt"] {
        let [full, half] = ["full", "half"].map(|name| place.read(&format!("{name}.{suffix}")).len());
        assert!(half < full * 6 / 10, "{suffix}: {half} of {full}");
    }
    let Some(differences) = differences(&place, "half", false, "[(1, 188, 188), (3, 204, 236)]") else { return };
    for [onnx, script, largest] in differences {
        let limit = 1e-2 * largest.max(1.0);
        assert!(onnx < limit && script < limit, "{onnx}, {script} with outputs up to {largest}");
        // Else it was not float16.
        assert!(onnx > 1e-6 && script > 1e-6, "{onnx}, {script}");
    }
    let dtypes = "print(sorted({str(p.dtype) for p in script('half.pt')[0].parameters()}))";
    assert_eq!(python(&place, dtypes).unwrap().trim(), "['torch.float16']");
}

#[test]
fn the_files_say_what_goes_in_and_what_comes_out() {
    let place = trained();
    export(&place, "dynamic", &["--dynamic"]);
    // As after a training on 16-bit stacks.
    let mut record = place.json("model/config.json");
    assert_eq!(record["datasets"][0]["grey_range"]["white"], 255.0);
    record["datasets"][0]["grey_range"]["white"] = 65535.0.into();
    std::fs::write(place.path("model/config.json"), record.to_string()).unwrap();
    export(&place, "fixed", &["--no_softmax", "--width", "588"]);
    let code = "
for name in 'fixed', 'dynamic':
    file = session(name + '.onnx')
    x, y, facts = file.get_inputs()[0], file.get_outputs()[0], file.get_modelmeta().custom_metadata_map
    more = script(name + '.pt')[1]
    assert facts.pop('opset') == '17'
    assert facts == {k: v if isinstance(v, str) else json.dumps(v, separators=(',', ':')) for k, v in more.items()}
    print(json.dumps([x.name, x.shape, y.name, y.shape, more]))";
    let Some(printed) = python(&place, code) else { return };
    let facts: Vec<serde_json::Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [fixed, dynamic] = &facts[..] else { panic!("{printed}") };
    assert_eq!(fixed[0], "images");
    assert_eq!(fixed[1], serde_json::json!(["batch", 1, 572, 588]));
    assert_eq!(fixed[2], "logits");
    assert_eq!(fixed[3], serde_json::json!(["batch", 2, 388, 404]));
    assert_eq!(fixed[4]["input_size"], serde_json::json!([572, 588]));
    assert_eq!(fixed[4]["white"], 65535.0);
    assert_eq!(fixed[4]["output_size"], serde_json::json!([388, 404]));
    assert_eq!(dynamic[1], serde_json::json!(["batch", 1, "height", "width"]));
    assert_eq!(dynamic[2], "probabilities");
    assert_eq!(dynamic[3], serde_json::json!(["batch", 2, "output_height", "output_width"]));
    let facts = &dynamic[4];
    assert_eq!((&facts["input_size"], &facts["sides_that_fit"]), (&"dynamic".into(), &"188 + 16 k".into()));
    assert_eq!(facts["classes"], serde_json::json!(["membrane", "background"]));
    assert_eq!((&facts["black"], &facts["white"]), (&0.0.into(), &255.0.into()));
    assert_eq!(facts["source"], concat!("unet ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn torchscript_keeps_the_parameters_names_and_both_refuse_sides_that_do_not_fit() {
    let place = trained();
    export(&place, "dynamic", &["--dynamic"]);
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
    let Some(printed) = python(&place, code) else { return };
    assert_eq!(printed.lines().count(), 6, "{printed}");
    let refusal = "AssertionError: expected images with sides of 188 pixels or a multiple of 16 more";
    assert_eq!(printed.matches(refusal).count(), 3, "{printed}");
}

#[test]
fn what_cannot_be_exported_is_refused_and_leaves_files_alone() {
    let place = trained();
    let export = |args: &str| {
        let all = format!("export --model_dir model --to onnx --out net.onnx {args}");
        place.unet(&all.split_whitespace().collect::<Vec<_>>())
    };
    // Exit code 2: a command line that cannot be carried out.
    for (args, words) in [
        ("--height 500", &["--height 500", "492", "508"][..]),
        ("--width 100", &["--width 100", "none", "188"]),
        ("--dynamic --height 572", &["--dynamic", "--height"]),
    ] {
        fails(export(args), 2, words);
    }
    fails(place.unet(&["export", "--model_dir", "model", "--to", "pickle", "--out", "x"]), 2, &["--to", "torchscript"]);
    fails(
        place.unet(&["export", "--model_dir", "nothing", "--to", "onnx", "--out", "x"]),
        1,
        &["no weights", "nothing"],
    );
    fails(export("--data_dir nothing"), 1, &["no folder 'nothing'", "--data_dir"]);
    assert!(!place.path("x").exists() && !place.path("net.onnx").exists());

    std::fs::write(place.path("net.onnx"), "mine").unwrap();
    fails(export(""), 1, &["'net.onnx' is there already", "--overwrite"]);
    assert_eq!(place.read("net.onnx"), b"mine");
    export("--overwrite").success();
    assert!(place.read("net.onnx").len() > 1000);
}

/// Weights so large that activations leave the range of float16: the check finds infinities.
#[test]
fn a_network_that_float16_cannot_hold_is_not_written() {
    let place = Place::new();
    place.run("--max_steps 1 --base_filters 4 --learning_rate 0.3").success();
    for format in ["onnx", "torchscript"] {
        let args = ["export", "--model_dir", "model", "--to", format, "--out", "net", "--overwrite"];
        place.unet(&args).success();
        let good = place.read("net");
        fails(
            place.unet(&[&args[..], &["--amp"]].concat()),
            1,
            &["float16 does not suffice", "leave out --amp", "'net'"],
        );
        assert_eq!(place.read("net"), good);
    }
    assert_eq!(place.files(""), place.files("").into_iter().filter(|name| !name.contains(".tmp")).collect::<Vec<_>>());
}

/// The Python of docs/deployment.md as it stands there. Its prediction of a stack is that of the program.
#[test]
fn the_documented_python_runs_and_predicts_as_the_program_does() {
    let place = trained();
    let [onnx, script] = export(&place, "unet", &["--data_dir", "data"]);
    assert!(
        [&onnx, &script].iter().all(|report| report.contains("the first slice of 'data/test-volume.tif'")),
        "{onnx}"
    );
    place.run("--exec_mode predict").success();
    std::fs::rename(place.path("model"), place.path("results")).unwrap();
    let page = include_str!("../docs/deployment.md");
    let blocks: Vec<&str> =
        page.split("```python\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect();
    assert_eq!(blocks.len(), 3);
    let mut printed = String::new();
    for block in blocks {
        let Some(output) = python(&place, block) else { return };
        printed.push_str(&output);
    }
    assert_eq!(
        printed,
        "probabilities: float32 [N, 2, height - 184, width - 184] [1, 2, 388, 388]\n[1, 2, 388, 388]\n"
    );
    let compare = "
import tifffile
ours, theirs = tifffile.imread('results/pred/test-probabilities.tif'), tifffile.imread('probabilities.tif')
assert ours.shape == theirs.shape
print(float(np.abs(ours - theirs).max()), float(np.ptp(ours)))";
    let numbers = python(&place, compare).unwrap();
    let numbers: Vec<f64> = numbers.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert!(numbers[0] < 1e-5 && numbers[1] > 1e-3, "{numbers:?}");
}
