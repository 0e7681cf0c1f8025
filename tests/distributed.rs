//! Several processes on the CPU: their results are those of one, and failures end all of them with the cause.

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Place, fails, free_port, send, stderr, stdout, text};

const TRAIN: &str = "--base_filters 2 --batch_size 1 --augment --seed 7 --log_every 1";

/// As if a launcher had started it.
fn rank(place: &Place, rank: usize, size: usize, port: u16, args: &str) -> Command {
    let mut command = place.command(args);
    let variables = [("RANK", rank), ("WORLD_SIZE", size), ("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", size)];
    command.envs(variables.map(|(name, value)| (name, value.to_string())));
    command.envs([("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", &port.to_string()), ("OMP_NUM_THREADS", "1")]);
    command
}

/// Waits for the process, for `seconds` at most.
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

/// The workers of a launcher, by rank.
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

/// Running, and not a zombie.
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

/// A run that has taken steps and would take a minute more; the launcher and its workers.
fn training(place: &Place, count: usize) -> (Child, Vec<u32>) {
    let args = format!("{TRAIN} --max_steps 20000 --log_dir logs --nproc_per_node {count} --dist_timeout 60");
    let mut launcher = place.command(&args).stdout(Stdio::null()).spawn().unwrap();
    let pids = workers(launcher.id(), count);
    let start = Instant::now();
    while !fs::read_to_string(place.path("logs/log.json")).unwrap_or_default().contains("train_ce_loss") {
        assert!(launcher.try_wait().unwrap().is_none(), "the run ended early");
        assert!(start.elapsed() < Duration::from_secs(60), "no step after a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
    (launcher, pids)
}

/// Six slices, shared unevenly: results must be those of one process to the bit, the last round of a prediction included.
#[test]
fn evaluation_and_prediction_are_shared_with_equal_results() {
    let place = Place::new();
    place.run("--base_filters 2 --max_steps 2 --crossvalidation_idx 0").success();
    let results = |ranks: &str, batch_size: usize| {
        let common = format!("--overwrite --crossvalidation_idx 0 --batch_size {batch_size} {ranks}");
        for mode in ["evaluate", "predict"] {
            // Sums depend on the number of threads.
            let run =
                place.command(&format!("--exec_mode {mode} {common}")).env("OMP_NUM_THREADS", "1").output().unwrap();
            assert!(run.status.success(), "{}", text(&run.stderr));
        }
        ["eval.json", "pred/test-masks.tif", "pred/test-probabilities.tif"]
            .map(|file| place.read(&format!("model/{file}")))
    };
    for batch_size in [1, 4] {
        let alone = results("", batch_size);
        for ranks in [2, 3] {
            let shared = results(&format!("--nproc_per_node {ranks}"), batch_size);
            assert!(alone == shared, "{ranks} ranks, batches of {batch_size}");
        }
    }
}

#[test]
fn rank_0_alone_prints_and_writes() {
    let place = Place::new();
    let args = "--max_steps 4 --exec_mode train_and_predict --log_dir logs --nproc_per_node 2";
    let run = place.run(&format!("{TRAIN} {args}")).success();
    assert_eq!(stderr(&run), "");
    let printed = stdout(&run);
    // Four batches are two steps of two ranks.
    let steps: Vec<&str> = printed.lines().filter(|line| line.starts_with("step ")).collect();
    assert!(steps.len() == 2 && steps[0].starts_with("step 1 ") && steps[1].starts_with("step 2 "), "{printed}");
    assert!(printed.contains("2 processes"), "{printed}");
    assert_eq!(printed.matches("weights: ").count(), 1, "{printed}");
    assert_eq!(text(&place.read("logs/log.json")).matches("train_total_loss").count(), 2);
    assert_eq!(place.json("model/config.json")["world_size"], 2);
    assert!(place.path("model/checkpoints/step-0000000002.safetensors").is_file());
}

#[test]
fn throughput_is_counted_over_all_ranks() {
    let place = Place::new();
    // Images per second times seconds per step: the images of a step, but for the time between steps.
    let images_per_step = |mode: &str, ranks: usize| -> f64 {
        let args = "--base_filters 8 --batch_size 2 --benchmark --warmup_steps 2 --max_steps 12";
        let printed = stdout(&place.run(&format!("--exec_mode {mode} {args} --nproc_per_node {ranks}")).success());
        let figure = |name: &str| -> f64 {
            let mut words = printed.split_whitespace().skip_while(|word| !word.starts_with(name));
            words.nth(1).unwrap_or_else(|| panic!("no {name} in {printed}")).parse().unwrap()
        };
        let kind = if mode == "train" { "train" } else { "test" };
        figure(&format!("throughput_{kind}")) * figure(&format!("latency_{kind}_mean")) / 1e3
    };
    for mode in ["train", "predict"] {
        for ranks in [1, 2] {
            let images = images_per_step(mode, ranks);
            let expected = 2.0 * ranks as f64;
            assert!(images > 0.7 * expected && images < 1.1 * expected, "{mode}, {ranks} ranks: {images}");
        }
    }
}

#[test]
fn a_run_may_go_on_with_another_number_of_processes() {
    let weights = |place: &Place| place.read("model/model.safetensors");
    let step = |place: &Place, args: &str| {
        place.run(&format!("{TRAIN} {args}")).success();
    };
    let (unbroken, resumed, other) = (Place::new(), Place::new(), Place::new());
    step(&unbroken, "--nproc_per_node 2 --max_steps 8");
    step(&resumed, "--nproc_per_node 2 --max_steps 4");
    step(&resumed, "--nproc_per_node 2 --max_steps 8 --resume_training");
    assert!(weights(&unbroken) == weights(&resumed), "the same number of processes: the same bits");
    // Four batches by one process are four steps, the other four by two processes two more.
    step(&other, "--max_steps 4");
    step(&other, "--nproc_per_node 2 --max_steps 8 --resume_training");
    assert!(other.path("model/checkpoints/step-0000000006.safetensors").is_file());
    let again = other.run(&format!("{TRAIN} --nproc_per_node 2 --max_steps 8 --resume_training")).failure();
    assert!(stderr(&again).contains("8 steps already"), "{}", stderr(&again));
}

#[test]
fn too_few_batches_for_the_ranks_are_refused() {
    let place = Place::new();
    let run = place.run("--base_filters 2 --max_steps 2 --nproc_per_node 3").failure();
    assert!(stderr(&run).contains("leaves 2 batches, less than one for each of 3"), "{}", stderr(&run));
}

#[test]
fn a_killed_worker_ends_the_others_and_is_named() {
    let place = Place::new();
    let (launcher, pids) = training(&place, 3);
    send("-KILL", pids[1]);
    let output = finish(launcher, 20);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(128 + 9), "{message}");
    assert!(message.contains("rank 1 was ended by signal 9 (SIGKILL)"), "{message}");
    wait_until_gone(&pids);
    let of_steps = |file: &String| file == "learning_curves.csv" || file.contains("tfevents") || file == "config.json";
    assert!(place.files("model").iter().all(of_steps), "{:?}", place.files("model"));
}

#[test]
fn signals_reach_the_workers() {
    for (signal, code) in [("-TERM", 128 + 15), ("-INT", 128 + 2)] {
        let place = Place::new();
        let (launcher, pids) = training(&place, 2);
        send(signal, launcher.id());
        let output = finish(launcher, 20);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("stopped by SIG"), "{}", text(&output.stderr));
        wait_until_gone(&pids);
        assert_eq!(place.files("model/checkpoints").len(), 1, "{}", text(&output.stderr));
    }
}

#[test]
fn workers_do_not_outlive_a_killed_launcher() {
    let place = Place::new();
    let (mut launcher, pids) = training(&place, 2);
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    wait_until_gone(&pids);
}

/// Without a launcher of ours, as under mpirun: who is left says that it lost the others.
#[test]
fn a_rank_that_loses_the_others_says_so() {
    let place = Place::new();
    let port = free_port();
    let start = |number| rank(&place, number, 2, port, &format!("{TRAIN} --max_steps 20000")).spawn().unwrap();
    let (first, mut second) = (start(0), start(1));
    let start = Instant::now();
    while !place.path("model/config.json").exists() {
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
    let place = Place::new();
    for number in [0, 1] {
        let port = free_port();
        let args = format!("{TRAIN} --max_steps 2 --dist_timeout 3");
        let start = Instant::now();
        let output = finish(rank(&place, number, 2, port, &args).spawn().unwrap(), 30);
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
    let place = Place::new();
    let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let output = finish(rank(&place, 0, 2, port, "--base_filters 2 --max_steps 2").spawn().unwrap(), 30);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains(&format!("port {port} of this machine is in use")), "{message}");
}

#[test]
fn ranks_with_other_settings_or_data_are_refused() {
    let (place, other) = (Place::new(), Place::new());
    other.unet(&["phantom", "--out", "data", "--slices", "6", "--size", "64", "--seed", "1", "--overwrite"]).success();
    let differing = |second: &Place, args: &str, words: &str| {
        let port = free_port();
        let first = rank(&place, 0, 2, port, &format!("{TRAIN} --max_steps 4 --overwrite")).spawn().unwrap();
        let second = rank(second, 1, 2, port, &format!("{TRAIN} --max_steps 4 {args}")).spawn().unwrap();
        let message = text(&finish(second, 30).stderr);
        assert!(message.contains(words) && message.contains("the same flags, data and program"), "{message}");
        assert!(!finish(first, 30).status.success());
    };
    differing(&place, "--batch_size 2", "rank 1 has batch_size 2, rank 0 has 1");
    differing(&other, "", "rank 1 has training data");
}

#[test]
fn contradicting_launchers_are_refused() {
    let place = Place::new();
    let run = |variables: &[(&str, &str)], args: &str| {
        let mut command = assert_cmd::Command::from_std(place.command(&format!("{TRAIN} {args}")));
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

/// `torchrun --no-python` of the PyTorch wheel, whose agent serves the store.
#[test]
fn torchrun_starts_the_workers_too() {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join(".libtorch/site-packages");
    let python = |args: &[&str], folder: &Path| {
        Command::new("python3").env("PYTHONPATH", &packages).args(args).current_dir(folder).output()
    };
    let place = Place::new();
    if !python(&["-c", "import torch"], &place.path("")).is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: python3 has no torch; scripts/setup/libtorch.sh fetches it");
    }
    place.run(&format!("{TRAIN} --max_steps 4 --nproc_per_node 2")).success();
    let ours = place.read("model/model.safetensors");
    let flags = format!("--data_dir data --model_dir model --device cpu {TRAIN} --max_steps 4 --overwrite");
    let launch = ["-m", "torch.distributed.run", "--no-python", "--standalone", "--nproc_per_node", "2"];
    let args: Vec<&str> =
        launch.into_iter().chain([env!("CARGO_BIN_EXE_unet")]).chain(flags.split_whitespace()).collect();
    let output = python(&args, &place.path("")).unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(ours == place.read("model/model.safetensors"));
}

/// Network namespaces stand for machines; see the script, which says why where it skips.
#[test]
fn two_hosts_train_together() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/two_hosts.sh");
    let output = Command::new(script).arg(env!("CARGO_BIN_EXE_unet")).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    println!("{}", text(&output.stdout));
}
