//! The example scripts run as their usage lines say, from any directory.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{TestDir, free_port, text};

/// An example script with flags that make its run small. The current folder is not the checkout.
fn command(dir: &TestDir, name: &str, args: &[&str]) -> Command {
    let (operands, flags) = args.split_at(args.iter().position(|arg| arg.starts_with("--")).unwrap_or(args.len()));
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name));
    command.args(operands).args(["--base_filters", "1", "--max_steps", "2", "--device", "cpu"]).args(flags);
    // `common::program` has the reason for the second variable.
    command.env("UNET", env!("CARGO_BIN_EXE_unet")).env("OMP_WAIT_POLICY", "passive");
    command.current_dir(dir.path("")).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs an example to its end, without a failure.
fn example(dir: &TestDir, name: &str, args: &[&str]) -> Output {
    succeeded(command(dir, name, args).output().unwrap())
}

fn succeeded(output: Output) -> Output {
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

#[test]
fn training_and_prediction_examples_leave_their_results() {
    let dir = TestDir::new();
    for (train, predict) in [("unet_1GPU.sh", "unet_INFER.sh"), ("unet_AMP_1GPU.sh", "unet_INFER_AMP.sh")] {
        example(&dir, train, &["data", train]);
        example(&dir, predict, &["data", train, "1"]);
        assert!(dir.path(train).join("pred/test-masks.tif").exists());
    }
}

#[test]
fn five_folds_end_with_their_report() {
    let dir = TestDir::new();
    example(&dir, "unet_TRAIN_AMP_1GPU.sh", &["data", "results", "1"]);
    let report = String::from_utf8(dir.read("results/report_AMP_1GPU.txt")).unwrap();
    assert_eq!(report.lines().count(), 7, "{report}");
    assert!(report.contains("mean of 5: Dice 0."), "{report}");
    for fold in 0..5 {
        assert!(dir.path(&format!("results/fold{fold}/eval.json")).exists());
    }
}

#[test]
fn benchmark_examples_print_their_throughput() {
    let dir = TestDir::new();
    let args = ["data", "results", "1", "--warmup_steps", "1"];
    for (name, key) in
        [("unet_TRAIN_BENCHMARK_1GPU.sh", "throughput_train"), ("unet_INFER_BENCHMARK.sh", "throughput_test")]
    {
        let printed = text(&example(&dir, name, &args).stdout);
        assert!(printed.contains(key), "{printed}");
    }
    for (name, key) in
        [("unet_TRAIN_BENCHMARK_AMP_1GPU.sh", "throughput_train"), ("unet_INFER_BENCHMARK_AMP.sh", "throughput_test")]
    {
        // The run is ended there: next it would measure bfloat16 matrix products, which take minutes on a CPU without
        // instructions for them.
        let mut run = command(&dir, name, &args).spawn().unwrap();
        let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
        let found = lines.any(|line| line.unwrap().contains(key));
        run.kill().unwrap();
        let output = run.wait_with_output().unwrap();
        assert!(found, "{}", text(&output.stderr));
    }
}

/// Writes an executable file `name`. Returns a PATH on which its folder comes first.
fn stub(dir: &TestDir, name: &str, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let folder = dir.path("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

#[test]
fn the_example_for_eight_gpus_starts_eight_processes() {
    let dir = TestDir::new();
    // One image for each process is enough.
    let output = example(&dir, "unet_8GPU.sh", &["data", "results", "--max_steps", "8", "--batch_size", "1"]);
    assert!(text(&output.stdout).contains("8 processes"));
    assert_eq!(dir.json("results/config.json")["world_size"], 8);
    assert!(dir.path("results/checkpoints/step-0000000001.safetensors").exists());
}

/// The stand-in for srun starts two tasks with Slurm's variables.
#[test]
fn the_slurm_example_trains_on_the_tasks_of_srun() {
    let dir = TestDir::new();
    let variables = "SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=127.0.0.1 SLURM_JOB_ID=$$ OMP_NUM_THREADS=1";
    let [second, first] = [1, 0].map(|rank| format!("SLURM_PROCID={rank} SLURM_LOCALID={rank} \"$@\""));
    let path = stub(&dir, "srun", &format!("#!/bin/bash\nshift\nexport {variables}\n{second} & {first} && wait $!\n"));
    let mut batch_script = command(&dir, "slurm_2x8GPU.sbatch", &["data", "results", "1", "--max_steps", "4"]);
    succeeded(batch_script.env("PATH", path).output().unwrap());
    assert_eq!(dir.json("results/config.json")["world_size"], 2);
    assert!(dir.path("results/eval.json").exists());
}

/// This machine stands for both.
#[test]
fn the_torchrun_example_trains_on_two_machines() {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join(".libtorch/site-packages");
    if !packages.join("torch/distributed/run.py").exists() {
        return eprintln!("skipped: '{}' has no torch; scripts/setup/libtorch.sh fetches it", packages.display());
    }
    let dir = TestDir::new();
    let path = stub(&dir, "torchrun", "#!/bin/sh\nexec python3 -m torch.distributed.run \"$@\"\n");
    let port = free_port();
    let start = |node: &str| {
        let operands = [node, "127.0.0.1", "data", "results", "1", "--max_steps", "4"];
        let mut command = command(&dir, "torchrun_2nodes.sh", &operands);
        command.envs([("PATH", &path), ("MASTER_PORT", &port.to_string())]);
        command.envs([("PYTHONPATH", packages.to_str().unwrap()), ("NPROC_PER_NODE", "1")]).spawn().unwrap()
    };
    let (second, first) = (start("1"), start("0"));
    for node in [first, second] {
        succeeded(node.wait_with_output().unwrap());
    }
    assert_eq!(dir.json("results/config.json")["world_size"], 2);
}
