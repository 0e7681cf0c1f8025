//! `--benchmark` and `--profile`.

use std::fs;
use std::time::Instant;

use common::{Place, stderr, stdout};

mod common;

#[test]
fn benchmarks_print_their_figures_and_write_nothing_to_the_model_dir() {
    let place = Place::new();
    for (mode, name) in [("train", "train"), ("predict", "test")] {
        let args =
            format!("--exec_mode {mode} --benchmark --max_steps 4 --warmup_steps 1 --base_filters 1 --log_dir log");
        let start = Instant::now();
        let printed = stdout(&place.run(&args).success());
        let elapsed = start.elapsed().as_secs_f64();
        let log = String::from_utf8(place.read("log/log.json")).unwrap();
        for key in [
            format!("throughput_{name}"),
            format!("latency_{name}_mean"),
            format!("latency_{name}_50"),
            format!("latency_{name}_90"),
            format!("latency_{name}_95"),
            format!("latency_{name}_99"),
            format!("data_share_{name}"),
            format!("tflops_{name}"),
            format!("matmul_tflops_{name}"),
            format!("matmul_share_{name}"),
            format!("traffic_{name}"),
            format!("copy_traffic_{name}"),
            format!("copy_share_{name}"),
            format!("first_step_after_{name}"),
            format!("peak_memory_process_{name}"),
        ] {
            assert!(printed.contains(&key), "no {key} in {printed}");
            assert!(log.contains(&format!("\"{key}\":")), "no {key} in {log}");
            assert!(log.contains(&format!("\"metric\":\"{key}\"")), "no unit of {key} in {log}");
        }
        let figure = |key: &str| {
            let mut words = printed.split_whitespace().skip_while(|word| *word != format!("{key}_{name}")).skip(1);
            words.next().and_then(|word| word.parse::<f64>().ok()).unwrap_or_else(|| panic!("no {key} in {printed}"))
        };
        let (speed, ceiling, share) = (figure("tflops"), figure("matmul_tflops"), figure("matmul_share"));
        assert!((share - 100.0 * speed / ceiling).abs() < 1.0, "{printed}");
        let (traffic, copying, share) = (figure("traffic"), figure("copy_traffic"), figure("copy_share"));
        assert!((share - 100.0 * traffic / copying).abs() < 1.0, "{printed}");
        let first_step = figure("first_step_after");
        assert!(first_step > 0.0 && first_step <= elapsed, "{first_step} s of {elapsed} s");
        let data = figure("data_share");
        assert!(data > 0.0 && data < 100.0, "{printed}");
    }
    assert!(!place.path("model").exists());
}

#[test]
fn a_prediction_benchmark_without_weights_says_that_they_are_random() {
    let place = Place::new();
    let args = "--exec_mode predict --benchmark --max_steps 2 --warmup_steps 1";
    assert!(stdout(&place.run(&format!("{args} --base_filters 1")).success()).contains("random"));
    place.run("--base_filters 2 --max_steps 1").success();
    let files = place.files("model");
    assert!(!stdout(&place.run(args).success()).contains("random"));
    assert_eq!(place.files("model"), files);
}

/// Rows of `path`, a profile's table, without its header: name, calls and milliseconds a step, percent of a step.
fn profile(place: &Place, path: &str) -> Vec<(String, [f64; 3])> {
    let text = String::from_utf8(place.read(path)).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("name,calls_per_step,ms_per_step,percent"));
    let row = |line: &str| {
        // The name may hold commas, the numbers do not.
        let mut fields = line.rsplitn(4, ',');
        let mut number = || fields.next().unwrap().parse().unwrap();
        let (percent, ms, calls) = (number(), number(), number());
        (fields.next().unwrap().to_owned(), [calls, ms, percent])
    };
    lines.map(row).collect()
}

#[test]
fn a_profile_tells_what_a_step_is_made_of() {
    let place = Place::new();
    let args =
        "--exec_mode train_and_predict --benchmark --max_steps 2 --warmup_steps 1 --base_filters 2 --profile looked";
    let output = place.run(args).success();
    assert_eq!(stderr(&output), "");
    let printed = stdout(&output);
    for (work, expected) in [
        // Of the architecture: 18 convolutions, of which the first passes no gradient down, 4 transposed ones, 4 poolings.
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
        let rows = profile(&place, &table);
        for (name, calls) in expected {
            let found = rows.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name} in {rows:?}"));
            assert_eq!(found.1[0], *calls, "{name}");
        }
        assert!(rows.is_sorted_by(|a, b| a.1[1] >= b.1[1]), "{rows:?}");
        let whole: f64 = rows.iter().map(|(_, [.., percent])| percent).sum();
        assert!((20.0..=101.0).contains(&whole), "operations take {whole} % of a step");
        assert!(printed.contains(&table) && printed.contains(&rows[0].0), "{printed}");
        let trace = place.json(&format!("looked/trace_{work}.json"));
        let events = trace["traceEvents"].as_array().unwrap();
        let convolutions = events.iter().filter(|event| event["name"] == "unet::conv3x3").count();
        // Of 5 steps.
        assert_eq!(convolutions, 90);
    }
}

#[test]
fn a_profile_replaces_none_and_is_refused_before_any_work() {
    let place = Place::new();
    let args = "--exec_mode predict --benchmark --max_steps 2 --warmup_steps 1 --base_filters 1 --profile looked";
    place.run(args).success();
    let table = place.read("looked/profile_test.csv");
    let refused = place.run(args).failure();
    assert!(
        stderr(&refused).contains("looked/profile_test.csv") && stderr(&refused).contains("another folder"),
        "{}",
        stderr(&refused)
    );
    assert!(!stdout(&refused).contains("throughput"));
    assert!(place.read("looked/profile_test.csv") == table);
    fs::write(place.path("file"), "").unwrap();
    let refused = stderr(&place.run(&args.replace("looked", "file/inside")).failure());
    assert!(refused.contains("--profile") && refused.contains("file/inside"), "{refused}");
}

#[test]
fn each_of_several_processes_makes_the_steps_that_are_looked_into() {
    let place = Place::new();
    let args = "--exec_mode train --benchmark --max_steps 2 --warmup_steps 1 --base_filters 1 --nproc_per_node 2 --profile looked";
    place.run(args).success();
    assert!(profile(&place, "looked/profile_train.csv").iter().any(|(name, _)| name == "unet::conv3x3"));
}
