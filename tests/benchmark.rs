//! `--benchmark` prints its figures and writes nothing to the model folder; `--profile` tells what a step is made of.

use std::fs;
use std::time::Instant;

use common::{TestDir, stderr, stdout};

mod common;

/// Runs a benchmark of `mode` and checks the figures that it prints and logs; their keys have `work` in them. Returns
/// what it printed.
fn benchmark(dir: &TestDir, mode: &str, work: &str) -> String {
    let args = format!("--exec_mode {mode} --benchmark --max_steps 4 --warmup_steps 1 --base_filters 1 --log_dir log");
    let start = Instant::now();
    let printed = stdout(&dir.run(&args).success());
    let elapsed = start.elapsed().as_secs_f64();
    let log = String::from_utf8(dir.read("log/log.json")).unwrap();
    for key in [
        format!("throughput_{work}"),
        format!("latency_{work}_mean"),
        format!("latency_{work}_50"),
        format!("latency_{work}_90"),
        format!("latency_{work}_95"),
        format!("latency_{work}_99"),
        format!("data_share_{work}"),
        format!("tflops_{work}"),
        format!("matmul_tflops_{work}"),
        format!("matmul_share_{work}"),
        format!("traffic_{work}"),
        format!("copy_traffic_{work}"),
        format!("copy_share_{work}"),
        format!("first_step_after_{work}"),
        format!("peak_memory_process_{work}"),
    ] {
        assert!(printed.contains(&key), "no {key} in {printed}");
        assert!(log.contains(&format!("\"{key}\":")), "no {key} in {log}");
        assert!(log.contains(&format!("\"metric\":\"{key}\"")), "no unit of {key} in {log}");
    }
    let figure = |key: &str| figure(&printed, &format!("{key}_{work}"));
    let (speed, ceiling, share) = (figure("tflops"), figure("matmul_tflops"), figure("matmul_share"));
    assert!((share - 100.0 * speed / ceiling).abs() < 1.0, "{printed}");
    let (traffic, copying, share) = (figure("traffic"), figure("copy_traffic"), figure("copy_share"));
    assert!((share - 100.0 * traffic / copying).abs() < 1.0, "{printed}");
    let first_step = figure("first_step_after");
    assert!(first_step > 0.0 && first_step <= elapsed, "{first_step} s of {elapsed} s");
    let data = figure("data_share");
    assert!(data > 0.0 && data < 100.0, "{printed}");
    printed
}

/// The number that a benchmark printed after `key`.
fn figure(printed: &str, key: &str) -> f64 {
    let number = printed.split_whitespace().skip_while(|word| *word != key).nth(1);
    number.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {key} in {printed}"))
}

#[test]
fn benchmarks_print_their_figures_and_write_nothing_to_the_model_dir() {
    let dir = TestDir::new();
    benchmark(&dir, "train", "train");
    let predicted = benchmark(&dir, "predict", "test");
    assert!(predicted.contains("random"), "the weights are random where there are none: {predicted}");
    assert!(!dir.path("model").exists());
}

#[test]
fn a_prediction_benchmark_takes_the_weights_that_are_there_and_leaves_them_alone() {
    let dir = TestDir::trained("--base_filters 2 --max_steps 1");
    let before = dir.read_all("model");
    let args = "--exec_mode predict --benchmark --max_steps 2 --warmup_steps 1";
    assert!(!stdout(&dir.run(args).success()).contains("random"));
    assert!(dir.read_all("model") == before);
}

/// Rows of the profile's table `path` without its header: name; calls and milliseconds a step, percent of a step.
fn profile(dir: &TestDir, path: &str) -> Vec<(String, [f64; 3])> {
    let text = String::from_utf8(dir.read(path)).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("name,calls_per_step,ms_per_step,percent"));
    let row = |line: &str| {
        // Names may hold commas; numbers do not.
        let mut fields = line.rsplitn(4, ',');
        let mut number = || fields.next().unwrap().parse().unwrap();
        let (percent, ms, calls) = (number(), number(), number());
        (fields.next().unwrap().to_owned(), [calls, ms, percent])
    };
    lines.map(row).collect()
}

#[test]
fn a_profile_tells_what_a_step_is_made_of() {
    let dir = TestDir::new();
    let args =
        "--exec_mode train_and_predict --benchmark --max_steps 2 --warmup_steps 1 --base_filters 2 --profile looked";
    let output = dir.run(args).success();
    assert_eq!(stderr(&output), "");
    let printed = stdout(&output);
    for (work, expected) in [
        // The architecture has 18 convolutions, 4 transposed convolutions and 4 poolings. The first convolution has no
        // input gradient.
        (
            "train",
            &[
                ("unet::conv3x3", 18.0),
                ("unet::conv3x3 weight gradient", 18.0),
                ("unet::conv3x3 input gradient", 17.0),
                ("unet::upconv", 4.0),
                ("unet::upconv gradients", 4.0),
                ("unet::max_pool", 4.0),
                ("aten::_fused_adam_", 1.0),
            ][..],
        ),
        ("test", &[("unet::conv3x3", 18.0), ("unet::upconv", 4.0), ("unet::max_pool", 4.0)]),
    ] {
        let table = format!("looked/profile_{work}.csv");
        let rows = profile(&dir, &table);
        for (name, calls) in expected {
            let found = rows.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name} in {rows:?}"));
            assert_eq!(found.1[0], *calls, "{name}");
        }
        assert!(rows.is_sorted_by(|a, b| a.1[1] >= b.1[1]), "{rows:?}");
        let whole: f64 = rows.iter().map(|(_, [.., percent])| percent).sum();
        assert!((20.0..=101.0).contains(&whole), "operations take {whole} % of a step");
        assert!(printed.contains(&table) && printed.contains(&rows[0].0), "{printed}");
        let trace = dir.json(&format!("looked/trace_{work}.json"));
        let events = trace["traceEvents"].as_array().unwrap();
        let convolutions = events.iter().filter(|event| event["name"] == "unet::conv3x3").count();
        assert_eq!(convolutions, 5 * 18, "a trace has five steps");
    }
}

#[test]
fn a_profile_replaces_none_and_is_refused_before_any_work() {
    let dir = TestDir::new();
    let args = "--exec_mode predict --benchmark --max_steps 2 --warmup_steps 1 --base_filters 1 --profile looked";
    for name in ["profile_test.csv", "trace_test.json"] {
        fs::create_dir_all(dir.path("looked")).unwrap();
        fs::write(dir.path("looked").join(name), "earlier").unwrap();
        let refused = dir.run(args).failure();
        let message = stderr(&refused);
        assert!(message.contains(&format!("looked/{name}")) && message.contains("another folder"), "{message}");
        assert!(!stdout(&refused).contains("throughput"));
        assert_eq!(dir.files("looked"), [name]);
        assert_eq!(dir.read(&format!("looked/{name}")), b"earlier");
        fs::remove_dir_all(dir.path("looked")).unwrap();
    }
    fs::write(dir.path("file"), "").unwrap();
    let refused = stderr(&dir.run(&args.replace("looked", "file/inside")).failure());
    assert!(refused.contains("--profile") && refused.contains("file/inside"), "{refused}");
}

/// Each process makes the profiled steps: otherwise the first one would wait for the others in vain.
#[test]
fn a_benchmark_of_two_processes_counts_the_images_of_both_and_profiles_the_first() {
    let dir = TestDir::new();
    let args =
        "--exec_mode train_and_predict --base_filters 8 --batch_size 2 --benchmark --warmup_steps 2 --max_steps 8";
    let printed = stdout(&dir.run(&format!("{args} --nproc_per_node 2 --profile looked")).success());
    for work in ["train", "test"] {
        // Images per second times seconds per step: the images of a step, but for the time between steps.
        let [speed, seconds] =
            ["throughput_{}", "latency_{}_mean"].map(|key| figure(&printed, &key.replace("{}", work)));
        let images = speed * seconds / 1e3;
        assert!(images > 0.7 * 4.0 && images < 1.1 * 4.0, "{work}: {images} images a step");
        let rows = profile(&dir, &format!("looked/profile_{work}.csv"));
        assert!(rows.iter().any(|(name, _)| name == "unet::conv3x3"), "{rows:?}");
    }
}
