//! The example scripts run as their usage lines say, from any directory.

mod common;

use std::path::Path;
use std::process::Command;

use common::Place;

/// Runs an example with flags that make it small. The folder is not the checkout.
fn example(place: &Place, name: &str, args: &[&str]) -> std::process::Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let output = Command::new(script)
        .args(args)
        .args(["--base_filters", "1", "--max_steps", "2", "--device", "cpu"])
        .env("UNET", env!("CARGO_BIN_EXE_unet"))
        .current_dir(place.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn training_and_prediction_examples_leave_their_results() {
    let place = Place::new();
    for (train, predict) in [("unet_1GPU.sh", "unet_INFER.sh"), ("unet_AMP_1GPU.sh", "unet_INFER_AMP.sh")] {
        example(&place, train, &["data", train]);
        example(&place, predict, &["data", train, "1"]);
        assert!(place.path(train).join("pred/test-masks.tif").exists());
    }
}

#[test]
fn five_folds_end_with_their_report() {
    let place = Place::new();
    example(&place, "unet_TRAIN_AMP_1GPU.sh", &["data", "results", "1"]);
    let report = String::from_utf8(place.read("results/report_AMP_1GPU.txt")).unwrap();
    assert_eq!(report.lines().count(), 7, "{report}");
    assert!(report.contains("mean of 5: Dice 0."), "{report}");
    for fold in 0..5 {
        assert!(place.path(&format!("results/fold{fold}/eval.json")).exists());
    }
}

#[test]
fn benchmark_examples_print_their_throughput() {
    let place = Place::new();
    for (name, key) in [
        ("unet_TRAIN_BENCHMARK_1GPU.sh", "throughput_train"),
        ("unet_TRAIN_BENCHMARK_AMP_1GPU.sh", "throughput_train"),
        ("unet_INFER_BENCHMARK.sh", "throughput_test"),
        ("unet_INFER_BENCHMARK_AMP.sh", "throughput_test"),
    ] {
        let output = example(&place, name, &["data", "results", "1", "--warmup_steps", "1"]);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.contains(key), "{printed}");
    }
}
