//! Several processes on the CPU: their results are those of one process, and a failure ends all of them with its cause.

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{TestDir, fails, free_port, python_command, send, stderr, stdout, text};

const TRAIN: &str = "--base_filters 2 --batch_size 1 --augment --seed 7 --log_every 1";

/// A process of a run, with the variables of a launcher.
fn rank(dir: &TestDir, rank: usize, size: usize, port: u16, args: &str) -> Command {
    let mut command = dir.command(args);
    let variables = [("RANK", rank), ("WORLD_SIZE", size), ("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", size)];
    command.envs(variables.map(|(name, value)| (name, value.to_string())));
    command.envs([("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", &port.to_string()), ("OMP_NUM_THREADS", "1")]);
    command
}

/// Waits for the end of a process, for `seconds` at most.
fn finish(mut process: Child, seconds: u64) -> Output {
    let start = Instant::now();
    while process.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(seconds) {
            process.kill().unwrap();
            let output = process.wait_with_output().unwrap();
            panic!("still running after {seconds} s: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    process.wait_with_output().unwrap()
}

/// Process ids of the workers of a launcher, by rank.
fn workers(launcher: u32, count: usize) -> Vec<u32> {
    let start = Instant::now();
    loop {
        let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap_or_default();
        let mut found: Vec<(String, u32)> = children
            .split_whitespace()
            .filter_map(|pid| {
                let environment = text(&fs::read(format!("/proc/{pid}/environ")).ok()?);
                let rank = environment.split('\0').find_map(|variable| variable.strip_prefix("RANK="))?;
                Some((rank.to_owned(), pid.parse().ok()?))
            })
            .collect();
        if found.len() == count {
            found.sort();
            return found.into_iter().map(|(_, pid)| pid).collect();
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{found:?} of {count} workers were started");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process runs and is no zombie.
fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

fn wait_until_gone(pids: &[u32]) {
    let start = Instant::now();
    while pids.iter().any(|&pid| is_alive(pid)) {
        assert!(start.elapsed() < Duration::from_secs(10), "workers live on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts a run, which would take minutes, and waits for its first step. Returns the launcher and its workers.
fn training(dir: &TestDir, count: usize) -> (Child, Vec<u32>) {
    let args = format!("{TRAIN} --max_steps 20000 --log_dir logs --nproc_per_node {count} --dist_timeout 60");
    let mut launcher = dir.command(&args).stdout(Stdio::null()).spawn().unwrap();
    let pids = workers(launcher.id(), count);
    let start = Instant::now();
    while !fs::read_to_string(dir.path("logs/log.json")).unwrap_or_default().contains("train_ce_loss") {
        assert!(launcher.try_wait().unwrap().is_none(), "the run ended early");
        assert!(start.elapsed() < Duration::from_secs(60), "no step after a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
    (launcher, pids)
}

/// Numbers of slices and batches do not divide evenly among the ranks; results are those of one process to the bit.
#[test]
fn shared_evaluation_and_prediction_give_the_results_of_one_process() {
    let dir = TestDir::trained("--base_filters 2 --max_steps 2 --crossvalidation_idx 0");
    let results = |mode: &str, files: &[&str], args: &str| {
        let args = format!("--exec_mode {mode} --overwrite --crossvalidation_idx 0 {args}");
        // The order of sums depends on the number of threads.
        let run = dir.command(&args).env("OMP_NUM_THREADS", "1").output().unwrap();
        assert!(run.status.success(), "{}", text(&run.stderr));
        files.iter().map(|file| dir.read(&format!("model/{file}"))).collect::<Vec<_>>()
    };
    // Two slices are evaluated, six predicted: as six batches, or as one of four and one of two.
    let predicted = ["pred/test-masks.tif", "pred/test-probabilities.tif"];
    for (mode, files, batch_size, ranks) in [
        ("evaluate", &["eval.json"][..], 1, &[2, 3][..]),
        ("predict", &predicted, 1, &[2]),
        ("predict", &predicted, 4, &[2, 3]),
    ] {
        let alone = results(mode, files, &format!("--batch_size {batch_size}"));
        for ranks in ranks {
            let shared = results(mode, files, &format!("--batch_size {batch_size} --nproc_per_node {ranks}"));
            assert!(alone == shared, "{mode}: {ranks} ranks, batches of {batch_size}");
        }
    }
}

#[test]
fn rank_0_alone_prints_and_writes() {
    let dir = TestDir::new();
    let args = "--max_steps 4 --exec_mode train_and_predict --log_dir logs --nproc_per_node 2";
    let run = dir.run(&format!("{TRAIN} {args}")).success();
    assert_eq!(stderr(&run), "");
    let printed = stdout(&run);
    // Four batches are two steps of two ranks.
    let steps: Vec<&str> = printed.lines().filter(|line| line.starts_with("step ")).collect();
    assert!(steps.len() == 2 && steps[0].starts_with("step 1 ") && steps[1].starts_with("step 2 "), "{printed}");
    assert!(printed.contains("2 processes"), "{printed}");
    assert_eq!(printed.matches("weights: ").count(), 1, "{printed}");
    assert_eq!(text(&dir.read("logs/log.json")).matches("train_total_loss").count(), 2);
    assert_eq!(dir.json("model/config.json")["world_size"], 2);
    assert!(dir.path("model/checkpoints/step-0000000002.safetensors").is_file());
}

#[test]
fn a_run_may_go_on_with_another_number_of_processes() {
    let weights = |dir: &TestDir| dir.read("model/model.safetensors");
    let step = |dir: &TestDir, args: &str| {
        dir.run(&format!("{TRAIN} {args}")).success();
    };
    let (unbroken, resumed, other) = (TestDir::new(), TestDir::new(), TestDir::new());
    step(&unbroken, "--nproc_per_node 2 --max_steps 8");
    step(&resumed, "--nproc_per_node 2 --max_steps 4");
    step(&resumed, "--nproc_per_node 2 --max_steps 8 --resume_training");
    assert!(weights(&unbroken) == weights(&resumed), "the same number of processes: the same bits");
    // Four batches by one process are four steps, the other four by two processes two more.
    step(&other, "--max_steps 4");
    step(&other, "--nproc_per_node 2 --max_steps 8 --resume_training");
    assert!(other.path("model/checkpoints/step-0000000006.safetensors").is_file());
    // A resumed run at its last step writes the weights again.
    let before = weights(&other);
    step(&other, "--nproc_per_node 2 --max_steps 8 --resume_training");
    assert!(weights(&other) == before);
    let again = other.run(&format!("{TRAIN} --nproc_per_node 2 --max_steps 6 --resume_training")).failure();
    assert!(stderr(&again).contains("8 steps already"), "{}", stderr(&again));
}

#[test]
fn too_few_batches_for_the_ranks_are_refused() {
    let dir = TestDir::new();
    let run = dir.run("--base_filters 2 --max_steps 2 --nproc_per_node 3").failure();
    assert!(stderr(&run).contains("leaves 2 batches, less than one for each of 3"), "{}", stderr(&run));
}

#[test]
fn a_killed_worker_ends_the_others_and_is_named() {
    let dir = TestDir::new();
    let (launcher, pids) = training(&dir, 3);
    send("-KILL", pids[1]);
    let output = finish(launcher, 20);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(128 + 9), "{message}");
    assert!(message.contains("rank 1 was ended by signal 9 (SIGKILL)"), "{message}");
    wait_until_gone(&pids);
    let comes_from_steps =
        |file: &String| file == "learning_curves.csv" || file.contains("tfevents") || file == "config.json";
    assert!(dir.files("model").iter().all(comes_from_steps), "{:?}", dir.files("model"));
}

#[test]
fn signals_reach_the_workers() {
    for (signal, code) in [("-TERM", 128 + 15), ("-INT", 128 + 2)] {
        let dir = TestDir::new();
        let (launcher, pids) = training(&dir, 2);
        send(signal, launcher.id());
        let output = finish(launcher, 20);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("stopped by SIG"), "{}", text(&output.stderr));
        wait_until_gone(&pids);
        assert_eq!(dir.files("model/checkpoints").len(), 1, "{}", text(&output.stderr));
    }
}

#[test]
fn workers_do_not_outlive_a_killed_launcher() {
    let dir = TestDir::new();
    let (mut launcher, pids) = training(&dir, 2);
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    wait_until_gone(&pids);
}

/// Under mpirun, for example, no launcher of ours watches the ranks: the one that is left reports the loss.
#[test]
fn a_rank_that_loses_the_others_says_so() {
    let dir = TestDir::new();
    let port = free_port();
    let start = |number| rank(&dir, number, 2, port, &format!("{TRAIN} --max_steps 20000")).spawn().unwrap();
    let (first, mut second) = (start(0), start(1));
    let start = Instant::now();
    while !dir.path("model/config.json").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "training did not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    second.kill().unwrap();
    second.wait().unwrap();
    let output = finish(first, 20);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("rank 0 of 2 lost the others"), "{}", text(&output.stderr));
}

#[test]
fn a_rank_that_never_comes_is_waited_for_no_longer_than_the_timeout() {
    let dir = TestDir::new();
    for number in [0, 1] {
        let port = free_port();
        let args = format!("{TRAIN} --max_steps 2 --dist_timeout 3");
        let start = Instant::now();
        let output = finish(rank(&dir, number, 2, port, &args).spawn().unwrap(), 30);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(start.elapsed() >= Duration::from_secs(3), "{message}");
        for words in [&format!("rank {number} of 2 cannot meet the others"), "--dist_timeout 3 s", &port.to_string()] {
            assert!(message.contains(words), "no '{words}' in: {message}");
        }
    }
}

#[test]
fn a_port_in_use_is_named() {
    let dir = TestDir::new();
    let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let output = finish(rank(&dir, 0, 2, port, "--base_filters 2 --max_steps 2").spawn().unwrap(), 30);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains(&format!("port {port} of this machine is in use")), "{message}");
}

#[test]
fn ranks_with_other_settings_or_data_are_refused() {
    let (dir, other) = (TestDir::new(), TestDir::new());
    other.unet(&["phantom", "--out", "data", "--slices", "6", "--size", "64", "--seed", "1", "--overwrite"]).success();
    let differing = |second: &TestDir, args: &str, words: &str| {
        let port = free_port();
        let first = rank(&dir, 0, 2, port, &format!("{TRAIN} --max_steps 4 --overwrite")).spawn().unwrap();
        let second = rank(second, 1, 2, port, &format!("{TRAIN} --max_steps 4 {args}")).spawn().unwrap();
        let message = text(&finish(second, 30).stderr);
        assert!(message.contains(words) && message.contains("the same flags, data and program"), "{message}");
        assert!(!finish(first, 30).status.success());
    };
    differing(&dir, "--batch_size 2", "rank 1 has batch_size 2, rank 0 has 1");
    differing(&other, "", "rank 1 has training data");
}

#[test]
fn contradicting_launchers_are_refused() {
    let dir = TestDir::new();
    let run = |variables: &[(&str, &str)], args: &str| {
        let mut command = assert_cmd::Command::from_std(dir.command(&format!("{TRAIN} {args}")));
        command.envs(variables.iter().copied()).assert()
    };
    fails(run(&[("WORLD_SIZE", "2")], ""), 2, &["WORLD_SIZE is 2", "RANK"]);
    let torchrun = [
        ("RANK", "0"),
        ("WORLD_SIZE", "2"),
        ("LOCAL_RANK", "0"),
        ("LOCAL_WORLD_SIZE", "2"),
        ("MASTER_ADDR", "127.0.0.1"),
    ];
    fails(run(&torchrun, "--nproc_per_node 8"), 2, &["--nproc_per_node 8", "torchrun"]);
}

/// `torchrun --no-python` of the PyTorch wheel starts the ranks; its agent serves the store.
#[test]
fn torchrun_starts_the_workers_too() {
    let dir = TestDir::new();
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join(".libtorch/site-packages");
    if !packages.join("torch/distributed/run.py").exists() {
        return eprintln!("skipped: python3 has no torch; scripts/setup/libtorch.sh fetches it");
    }
    dir.run(&format!("{TRAIN} --max_steps 4 --nproc_per_node 2")).success();
    let ours = dir.read("model/model.safetensors");
    let flags = format!("--data_dir data --model_dir model --device cpu {TRAIN} --max_steps 4 --overwrite");
    let launch = ["-m", "torch.distributed.run", "--no-python", "--standalone", "--nproc_per_node", "2"];
    let args: Vec<&str> =
        launch.into_iter().chain([env!("CARGO_BIN_EXE_unet")]).chain(flags.split_whitespace()).collect();
    let output = python_command().args(&args).current_dir(dir.path("")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(ours == dir.read("model/model.safetensors"));
}

/// Network namespaces stand for machines. The script prints why where it skips a part.
#[test]
fn two_hosts_train_together() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/two_hosts.sh");
    let output = Command::new(script).arg(env!("CARGO_BIN_EXE_unet")).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    println!("{}", text(&output.stdout));
}
