//! What a run tells while it works and at its end: bars, `--quiet`, and the command that comes next.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Command;

use common::{TestDir, send, stderr, stdout, text};

const TRAIN: &str = "--base_filters 1 --log_every 1 --learning_rate 0.01";
const FOLD: &str = "--exec_mode train_and_evaluate --crossvalidation_idx 0";

/// The keys of each record of log.json, in order.
fn keys(dir: &TestDir) -> Vec<Vec<String>> {
    let log = text(&dir.read("log/log.json"));
    let records = log.lines().map(|line| serde_json::from_str(line.strip_prefix("DLLL ").unwrap()).unwrap());
    let data = |record: serde_json::Value| match &record["data"] {
        serde_json::Value::Object(data) => data.keys().cloned().collect(),
        _ => vec![record["metric"].to_string()],
    };
    records.map(data).collect()
}

/// Runs a command that a run has proposed in the folder of `dir`: whether it succeeded, and what it printed.
fn shell(dir: &TestDir, command: &str) -> (bool, String) {
    let mut shell = Command::new("sh");
    shell.env("OMP_WAIT_POLICY", "passive").current_dir(dir.path("")).args(["-c", command]);
    let output = shell.output().unwrap();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn quiet_runs_tell_results_and_warnings_alone_and_log_the_same() {
    let [full, quiet] = [(); 2].map(|()| TestDir::new());
    let args = format!("{TRAIN} --max_steps 3 {FOLD} --log_dir log");
    let loud = full.run(&args).success();
    assert!(stdout(&loud).contains("step 3  train_ce_loss"), "{}", stdout(&loud));
    let run = quiet.run(&format!("{args} --quiet")).success();
    assert_eq!(stderr(&run), stderr(&loud));
    let printed = stdout(&run);
    let begins: Vec<&str> = printed.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(begins.first(), Some(&"weights:"), "{printed}");
    assert!(begins[1..].iter().all(|word| *word == "eval_ce_loss" || *word == "v_rand_thin"), "{printed}");
    let score = quiet.json("model/eval.json")["eval_dice_score"].as_f64().unwrap();
    assert!(printed.contains(&format!("eval_dice_score {score:.4}")), "{printed}");
    assert_eq!(keys(&quiet), keys(&full));
    assert_eq!(quiet.read("model/model.safetensors"), full.read("model/model.safetensors"));

    // The place of the masks is told, of a dataset and of files.
    assert_eq!(stdout(&quiet.run("--exec_mode predict --quiet").success()), "masks: model/pred/test-masks.tif\n");
    let files = ["--exec_mode", "predict", "--input", "data/test-volume.tif", "--output", "out", "--quiet"];
    let rest = ["--model_dir", "model", "--device", "cpu"];
    assert_eq!(stdout(&quiet.unet(&[&files[..], &rest].concat()).success()), "masks: 1 in out\n");
    let warned = quiet.run(&format!("{TRAIN} --max_steps 1 --overwrite --quiet --tta")).success();
    assert!(stderr(&warned).starts_with("warning: --tta changes nothing"), "{}", stderr(&warned));
}

#[test]
fn the_last_line_has_the_command_that_predicts() {
    let dir = TestDir::new();
    let told = stdout(&dir.run(&format!("{TRAIN} --max_steps 2 --model_dir 'my")).success());
    let last = told.lines().last().unwrap().to_owned();
    let start = "next: open \"'my/report.html\" in a browser; predict with: ";
    let command = last.strip_prefix(start).unwrap_or_else(|| panic!("{last}"));
    let (is_done, message) = shell(&dir, command);
    assert!(is_done, "{command}: {message}");
    assert!(dir.path("'my/pred/test-masks.tif").is_file());
    assert!(message.contains("\nnext: open \"'my/report.html\" in a browser\n"), "{message}");
    // The proposal names a folder of images where the dataset has none to predict.
    std::fs::remove_file(dir.path("data/test-volume.tif")).unwrap();
    let told = stdout(&dir.run(&format!("{TRAIN} --max_steps 1")).success());
    assert!(told.trim_end().ends_with("--input IMAGES --output MASKS --model_dir model --device cpu"), "{told}");
}

#[test]
fn a_stopped_run_has_the_command_that_goes_on() {
    let dir = TestDir::new();
    dir.run(&format!("{TRAIN} --max_steps 1")).success();
    let mut run = dir.command(&format!("{TRAIN} --max_steps 40 --overwrite")).spawn().unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.starts_with("step 2 ")).unwrap();
    send("-TERM", run.id());
    let last = lines.last().unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(128 + 15), "{last}");
    let command = last.strip_prefix("next: go on with: ").unwrap_or_else(|| panic!("{last}"));
    assert!(command.ends_with("--resume_training") && !command.contains("--overwrite"), "{command}");
    let (is_done, message) = shell(&dir, command);
    assert!(is_done, "{command}: {message}");
    // The run went on, and came to its end.
    assert!(!message.contains("step 2 ") && message.contains("step 40 "), "{message}");
}

/// The terminal is that of util-linux's `script`.
#[test]
fn a_terminal_shows_loss_score_speed_and_time_left() {
    let dir = TestDir::new();
    let program = env!("CARGO_BIN_EXE_unet");
    let args = format!("{TRAIN} --data_dir data --model_dir model --device cpu --max_steps 20 --crossvalidation_idx 0");
    let shown = |more: &str| {
        let mut command = Command::new("script");
        command.env("TERM", "xterm").env("OMP_WAIT_POLICY", "passive").current_dir(dir.path(""));
        command.args(["-qec", &format!("stty cols 120; {program} {args} {more}"), "/dev/null"]);
        let output = command.output().ok()?;
        assert!(output.status.success(), "{}", text(&output.stdout));
        Some(text(&output.stdout))
    };
    let Some(bars) = shown("--evaluate_every 5 --keep_best mean_dice") else {
        eprintln!("skipped: there is no 'script'; util-linux has it");
        return;
    };
    let bar = bars.split(['\r', '\n']).find(|line| line.contains("mean_dice") && line.contains(" left"));
    let bar = bar.unwrap_or_else(|| panic!("{bars}"));
    for word in ["train ", "/20", "loss ", "mean_dice ", " img/s", " s left"] {
        assert!(bar.contains(word), "no '{word}' in: {bar}");
    }
    let quiet = shown("--overwrite --quiet").unwrap();
    assert_eq!(quiet.trim(), "weights: model/model.safetensors");
}
