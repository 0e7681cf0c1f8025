//! The example scripts run as their usage lines say, from any directory.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Place, free_port};

/// Runs an example with flags that make it small. The folder is not the checkout.
fn example(place: &Place, name: &str, args: &[&str]) -> std::process::Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let (operands, flags) = args.split_at(args.iter().position(|arg| arg.starts_with("--")).unwrap_or(args.len()));
    let output = Command::new(script)
        .args(operands)
        .args(["--base_filters", "1", "--max_steps", "2", "--device", "cpu"])
        .args(flags)
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

/// An executable file in a folder that comes first on the PATH.
fn stub(place: &Place, name: &str, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let folder = place.path("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

#[test]
fn the_example_for_eight_gpus_starts_eight_processes() {
    let place = Place::new();
    let output = example(&place, "unet_8GPU.sh", &["data", "results", "--max_steps", "8"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("8 processes"));
    assert_eq!(place.json("results/config.json")["world_size"], 8);
    assert!(place.path("results/checkpoints/step-0000000001.safetensors").exists());
}

/// A stand-in for srun starts two tasks with Slurm's variables.
#[test]
fn the_slurm_example_trains_on_the_tasks_of_srun() {
    let place = Place::new();
    let path = stub(
        &place,
        "srun",
        "#!/bin/bash\nshift\nexport SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=127.0.0.1 SLURM_JOB_ID=$$ OMP_NUM_THREADS=1\n\
         SLURM_PROCID=1 SLURM_LOCALID=1 \"$@\" & SLURM_PROCID=0 SLURM_LOCALID=0 \"$@\" && wait $!\n",
    );
    let small = ["--base_filters", "1", "--max_steps", "4", "--device", "cpu"];
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/slurm_2x8GPU.sbatch"))
        .args(["data", "results", "1"])
        .args(small)
        .env("UNET", env!("CARGO_BIN_EXE_unet"))
        .env("PATH", path)
        .current_dir(place.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(place.json("results/config.json")["world_size"], 2);
    assert!(place.path("results/eval.json").exists());
}

/// Both machines are this one.
#[test]
fn the_torchrun_example_trains_on_two_machines() {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join(".libtorch/site-packages");
    if !packages.join("torch/distributed/run.py").exists() {
        return eprintln!("skipped: '{}' has no torch; scripts/setup/libtorch.sh fetches it", packages.display());
    }
    let place = Place::new();
    let path = stub(&place, "torchrun", "#!/bin/sh\nexec python3 -m torch.distributed.run \"$@\"\n");
    let port = free_port();
    let start = |node: &str| {
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/torchrun_2nodes.sh"))
            .args([node, "127.0.0.1", "data", "results", "1"])
            .args(["--base_filters", "1", "--max_steps", "4", "--device", "cpu"])
            .envs([("UNET", env!("CARGO_BIN_EXE_unet")), ("PATH", &path), ("MASTER_PORT", &port.to_string())])
            .envs([("PYTHONPATH", packages.to_str().unwrap()), ("NPROC_PER_NODE", "1")])
            .current_dir(place.path(""))
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let (second, first) = (start("1"), start("0"));
    for node in [first, second] {
        let output = node.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(place.json("results/config.json")["world_size"], 2);
}
