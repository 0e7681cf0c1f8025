//! The command line as a contract: names, defaults, refusals before any work.

mod common;

use common::{Place, fails, stderr, stdout};

/// Adding or renaming a flag is a conscious act: it changes this list, the README and the CHANGELOG.
#[test]
fn the_flags_are_these() {
    let help = stdout(&Place::new().unet(&["--help"]).success());
    let mut flags: Vec<&str> = help
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("--"))
        .map(|word| word.trim_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
        .collect();
    flags.sort_unstable();
    flags.dedup();
    let expected = [
        "amp",
        "amp_dtype",
        "augment",
        "base_filters",
        "batch_size",
        "benchmark",
        "checkpoint_every",
        "crossvalidation_idx",
        "data_dir",
        "deterministic",
        "device",
        "dist_timeout",
        "exec_mode",
        "help",
        "keep_checkpoints",
        "learning_rate",
        "log_dir",
        "log_every",
        "max_steps",
        "model_dir",
        "no_tf32",
        "nproc_per_node",
        "overwrite",
        "profile",
        "resume_training",
        "seed",
        "use_amp",
        "use_xla",
        "version",
        "warmup_steps",
        "weight_decay",
        "xla",
    ];
    assert_eq!(flags, expected);
}

#[test]
fn help_groups_the_flags_and_shows_the_defaults() {
    let help = stdout(&Place::new().unet(&["--help"]).success());
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for heading in ["Task:", "Files:", "Training:", "Device and precision:", "Several GPUs:"] {
        assert!(help.contains(heading), "{help}");
    }
    for default in ["default: /results", "default: 0.0005", "default: 0.0001", "default: 1000", "default: 200"] {
        assert!(help.contains(default), "no '{default}' in {help}");
    }
}

#[test]
fn kebab_case_and_the_reference_s_long_names_are_accepted() {
    let place = Place::new();
    place
        .unet(
            &"--data-dir data --model-dir model --exec-mode train --max-steps 1 --base-filters 1 --batch-size 1 \
              --log-every 1 --use-amp --use_xla --device cpu"
                .split_whitespace()
                .collect::<Vec<_>>(),
        )
        .success();
}

#[test]
fn the_last_of_a_repeated_flag_counts() {
    let place = Place::new();
    place.run("--base_filters 3 --max_steps 7 --amp --amp --base_filters 1 --max_steps 1").success();
    assert_eq!(place.json("model/config.json")["base_filters"], 1);
    assert_eq!(place.files("model/checkpoints"), ["step-0000000001.safetensors"]);
}

#[test]
fn bad_values_and_combinations_fail_with_one_line_and_code_2() {
    let place = Place::new();
    let cases: &[(&str, &[&str])] = &[
        ("--crossvalidation_idx 5", &["--crossvalidation_idx", "5", "0 to 4"]),
        ("--batch_size 0", &["--batch_size", "0", "1 to 65536"]),
        ("--batch_size -1", &["--batch_size", "-1", "1 to 65536"]),
        ("--max_steps 0", &["--max_steps"]),
        ("--log_every 0", &["--log_every"]),
        ("--base_filters 0", &["--base_filters"]),
        ("--learning_rate 0", &["--learning_rate", "above 0"]),
        ("--learning_rate nan", &["--learning_rate"]),
        ("--weight_decay -1", &["--weight_decay"]),
        ("--seed 4294967296", &["--seed"]),
        ("--exec_mode test", &["--exec_mode", "train_and_predict"]),
        ("--device tpu", &["--device", "cuda"]),
        ("--no_such_flag", &["--no_such_flag", "--help"]),
        ("--max_step 3", &["--max_step", "--max_steps"]),
        ("--exec_mode evaluate", &["--exec_mode evaluate", "--crossvalidation_idx"]),
        ("--exec_mode train_and_evaluate", &["--crossvalidation_idx"]),
        ("--resume_training --overwrite", &["--resume_training", "--overwrite"]),
        ("--exec_mode predict --resume_training", &["--resume_training", "predict"]),
        ("--benchmark --exec_mode evaluate --crossvalidation_idx 0", &["--benchmark", "evaluate"]),
        ("--benchmark --max_steps 200", &["--warmup_steps 200", "--max_steps 200"]),
        ("--profile looked", &["--profile", "--benchmark"]),
        ("--benchmark --overwrite", &["--benchmark", "--overwrite"]),
        ("--amp_dtype bfloat16", &["--amp_dtype", "add --amp"]),
        ("--amp --amp_dtype float8", &["--amp_dtype", "float16", "bfloat16"]),
        ("--amp --amp_dtype float16", &["--amp_dtype float16", "GPU", "bfloat16"]),
        ("--amp --amp_dtype fp16", &["--amp_dtype float16", "GPU"]),
    ];
    for (args, words) in cases {
        fails(place.run(args), 2, words);
    }
    assert!(!place.path("model").exists(), "a refused command line must leave nothing");
    fails(place.unet(&[]), 2, &["--data_dir"]);
    fails(place.unet(&["phantom"]), 2, &["--out"]);
    fails(place.unet(&["report"]), 2, &["LOG"]);
    fails(place.unet(&["layers", "--repeats", "0"]), 2, &["--repeats", "1 to 10000"]);
    fails(place.unet(&["layers", "--base_filters", "0"]), 2, &["--base_filters"]);
}

#[test]
fn precision_is_recorded() {
    let place = Place::new();
    place.run("--max_steps 1 --base_filters 1 --amp --amp_dtype bf16").success();
    assert_eq!(place.json("model/config.json")["precision"], "bfloat16");
    let both = stderr(&place.run("--max_steps 1 --base_filters 1 --amp --no_tf32 --overwrite").success());
    assert!(both.contains("--no_tf32 changes nothing with --amp"), "{both}");
    let run = place.run("--max_steps 1 --base_filters 1 --no_tf32 --overwrite").success();
    assert_eq!(stderr(&run), "warning: --no_tf32 changes nothing on the CPU, which multiplies float32 in full\n");
    assert_eq!(place.json("model/config.json")["precision"], "float32");
    assert_eq!(place.json("model/config.json")["tf32"], false);
}

#[test]
fn flags_that_change_nothing_in_a_mode_are_named() {
    let place = Place::new();
    place.run("--max_steps 1 --base_filters 1").success();
    let warned =
        stderr(&place.run("--exec_mode predict --augment --learning_rate 0.1 --warmup_steps 3 --seed 1").success());
    for flag in ["--augment", "--learning_rate", "--warmup_steps", "--seed"] {
        assert!(warned.contains(&format!("warning: {flag} changes nothing")), "{warned}");
    }
    assert_eq!(warned.lines().count(), 4, "{warned}");
}

#[test]
fn a_check_tells_how_far_the_device_is_from_float64() {
    let check = ["check", "--device", "cpu", "--base_filters", "2", "--json"];
    let report: serde_json::Value = serde_json::from_str(&stdout(&Place::new().unet(&check).success())).unwrap();
    assert_eq!(report["passed"], true);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let (value, limit) = (row["value"].as_f64().unwrap(), row["limit"].as_f64().unwrap());
        let is_distance = row["name"].as_str().unwrap().ends_with("from float64");
        assert!(value <= limit && (!is_distance || value > 1e-9), "{row}");
    }
}

#[test]
fn layers_are_timed_each_by_itself_in_both_directions_and_precisions() {
    for extra in [&[][..], &["--training"], &["--amp", "--training"], &["--amp"]] {
        let args = [&["layers", "--base_filters", "2", "--repeats", "1", "--json"], extra].concat();
        let report: serde_json::Value = serde_json::from_str(&stdout(&Place::new().unet(&args).success())).unwrap();
        let layers = report["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 27);
        for layer in layers.iter().chain([&report["sum"]]) {
            for key in ["ms", "libtorch_ms"] {
                assert!(layer[key].as_f64().unwrap() > 0.0, "{layer}");
            }
        }
        let total: f64 = layers.iter().map(|layer| layer["ms"].as_f64().unwrap()).sum();
        assert!((total - report["sum"]["ms"].as_f64().unwrap()).abs() < 1e-6);
    }
}
