//! The command line as a contract: names, defaults, refusals before any work.

mod common;

use std::collections::BTreeSet;

use common::{TestDir, fails, free_port, stderr, stdout};

/// Every argument of the program, whose name here is empty, and of its subcommands. A line has the names of a flag
/// (`--help` does not show the kebab-case ones), the name of its value, and its default, values and aliases.
/// Adding or renaming a flag is a conscious act: it changes this list, the README and the CHANGELOG.
const ARGUMENTS: [(&str, &[&str]); 11] = [
    (
        "",
        &[
            "-h, --help",
            "-V, --version",
            "--exec_mode, --exec-mode <MODE> [default: train] \
             [possible values: train, train_and_predict, predict, evaluate, train_and_evaluate]",
            "--benchmark",
            "--warmup_steps, --warmup-steps <N> [default: 200]",
            "--profile <DIR>",
            "--quiet",
            "--data_dir, --data-dir <DIR>",
            "--input <PATH>...",
            "--output <DIR>",
            "--save_probabilities, --save-probabilities",
            "--model_dir, --model-dir <DIR> [default: /results]",
            "--ensemble <DIR>...",
            "--log_dir, --log-dir <DIR>",
            "--overwrite",
            "--resume_training, --resume-training",
            "--checkpoint_every, --checkpoint-every <N> [default: as many as 10 minutes take]",
            "--keep_checkpoints, --keep-checkpoints <N> [default: 3]",
            "--label_map, --label-map <MAP> [default: 0 and one of 1, 255, 65535, or 0 to N - 1]",
            "--grey_range, --grey-range <RANGE> [default: auto]",
            "--class_weights, --class-weights <WEIGHTS>",
            "--memory_share, --memory-share <SHARE> [default: 0.5]",
            "--split <SPLIT> [default: the dataset's own folds, or reference]",
            "--folds <N> [default: 5]",
            "--recipe <RECIPE> [default: reference, or what the weights were trained with] \
             [possible values: reference, native]",
            "--patch <PIXELS> [default: 388]",
            "--grey_scaling, --grey-scaling <BY> [default: image] [possible values: range, image]",
            "--augmentations <LIST> [default: flips,rotation,scale,elastic,grey] \
             [possible values: flips, rotation, scale, elastic, grey]",
            "--border_weight, --border-weight <WEIGHT>",
            "--border_sigma, --border-sigma <PIXELS> [default: 5]",
            "--rare_class_share, --rare-class-share <SHARE> [default: 0]",
            "--tile <PIXELS> [default: 1028, or less where memory is short]",
            "--tta",
            "--crossvalidation_idx, --crossvalidation-idx <FOLD>",
            "--max_steps, --max-steps <N> [default: 1000]",
            "--batch_size, --batch-size <N> [default: 1]",
            "--learning_rate, --learning-rate <RATE> [default: 0.0001; native recipe: 0.001]",
            "--schedule <DECAY> [default: constant; native recipe: cosine] [possible values: constant, cosine, poly]",
            "--lr_warmup_steps, --lr-warmup-steps <N> [default: 0; native recipe: 50, or a tenth of all steps if that \
             is less]",
            "--ema <DECAY>",
            "--dropout <SHARE> [default: 0.5]",
            "--init <INIT> [default: glorot; native recipe: he] [possible values: glorot, he]",
            "--init_from, --init-from <MODEL>",
            "--weight_decay, --weight-decay <COEFFICIENT> [default: 0.0005]",
            "--augment",
            "--seed <N> [default: 0]",
            "--base_filters, --base-filters <N> [default: 64, or what the checkpoint holds]",
            "--evaluate_every, --evaluate-every <N>",
            "--keep_best, --keep-best <METRIC> [possible values: eval_total_loss, eval_ce_loss, eval_dice_loss, \
             eval_dice_score, v_rand_thin, v_info_thin, rand_error_2012, pixel_error_2012, dice, iou, mean_dice, \
             mean_iou, accuracy]",
            "--patience <N>",
            "--weights <WHICH> [default: last] [possible values: last, best]",
            "--log_every, --log-every <N> [default: 100]",
            "--device <DEVICE> [default: auto] [possible values: auto, cpu, cuda]",
            "--amp, --use-amp [alias: --use_amp]",
            "--amp_dtype, --amp-dtype <DTYPE> [default: float16 on a GPU, bfloat16 on the CPU] \
             [possible values: float16, bfloat16]",
            "--no_tf32, --no-tf32",
            "--deterministic",
            "--xla, --use-xla [alias: --use_xla]",
            "--nproc_per_node, --nproc-per-node <N>",
            "--dist_timeout, --dist-timeout <SECONDS> [default: 600]",
        ],
    ),
    (
        "phantom",
        &[
            "-h, --help",
            "--out <DIR>",
            "--layout <LAYOUT> [default: stacks] [possible values: stacks, folders, nnunet]",
            "--classes <N> [default: 2]",
            "--channels <N> [default: 1]",
            "--slices <N> [default: 30]",
            "--size <PIXELS> [default: 512]",
            "--seed <N> [default: 0]",
            "--overwrite",
        ],
    ),
    (
        "inspect",
        &[
            "-h, --help",
            "--data_dir, --data-dir <DIR>",
            "--label_map, --label-map <MAP>",
            "--grey_range, --grey-range <RANGE> [default: auto]",
            "--json",
        ],
    ),
    (
        "preview",
        &[
            "-h, --help",
            "--data_dir, --data-dir <DIR>",
            "--out <FILE>",
            "--overwrite",
            "--samples <N> [default: 8]",
            "--label_map, --label-map <MAP>",
            "--grey_range, --grey-range <RANGE> [default: auto]",
            "--recipe <RECIPE> [default: reference] [possible values: reference, native]",
            "--patch <PIXELS> [default: 388]",
            "--grey_scaling, --grey-scaling <BY> [default: image] [possible values: range, image]",
            "--augmentations <LIST> [default: flips,rotation,scale,elastic,grey] \
             [possible values: flips, rotation, scale, elastic, grey]",
            "--rare_class_share, --rare-class-share <SHARE> [default: 0]",
            "--augment",
            "--seed <N> [default: 0]",
        ],
    ),
    ("report", &["-h, --help", "<LOG>...", "--html <FILE>", "--overwrite"]),
    ("score", &["-h, --help", "--labels <TIF>", "--prediction <TIF>", "--label_map, --label-map <MAP>", "--json"]),
    (
        "check",
        &[
            "-h, --help",
            "--device <DEVICE> [default: auto] [possible values: auto, cpu, cuda]",
            "--base_filters, --base-filters <N> [default: 16]",
            "--json",
        ],
    ),
    (
        "layers",
        &[
            "-h, --help",
            "--batch_size, --batch-size <N> [default: 1]",
            "--base_filters, --base-filters <N> [default: 64]",
            "--amp",
            "--training",
            "--repeats <N> [default: 5]",
            "--json",
        ],
    ),
    (
        "export",
        &[
            "-h, --help",
            "--model_dir, --model-dir <DIR>",
            "--weights <WHICH> [default: last] [possible values: last, best]",
            "--to <FORMAT> [possible values: onnx, torchscript, bioimageio]",
            "--out <FILE>",
            "--amp, --use-amp [alias: --use_amp]",
            "--no_softmax, --no-softmax",
            "--height <PIXELS> [default: 572]",
            "--width <PIXELS> [default: 572]",
            "--dynamic",
            "--data_dir, --data-dir <DIR> [default: a synthetic slice]",
            "--overwrite",
            "--name <TEXT> [default: U-Net for its classes]",
            "--description <TEXT> [default: its classes and its recipe]",
            "--author <AUTHOR>",
            "--cite <WORK>",
            "--license <SPDX>",
            "--same_size, --same-size",
        ],
    ),
    ("completions", &["-h, --help", "<SHELL> [possible values: bash, zsh, fish]"]),
    ("man", &["-h, --help", "[COMMAND]"]),
];

fn help(command: &str) -> String {
    let args: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
    stdout(&TestDir::new().unet(&args).success())
}

/// The arguments that a help text lists: `--seed <N> [default: 0]`.
fn listed_arguments(help: &str) -> BTreeSet<String> {
    // An argument begins at column 2 or, without a short name, at column 6; its explanation goes on further right.
    let mut entries: Vec<String> = Vec::new();
    let mut is_argument = false;
    for line in help.lines() {
        let text = line.trim_start();
        if matches!(line.len() - text.len(), 0..=6) {
            is_argument = line.starts_with("  ") && text.starts_with(['-', '<', '[']);
            entries.extend(is_argument.then(String::new));
        }
        if is_argument {
            let entry = entries.last_mut().unwrap();
            entry.push_str(text);
            entry.push(' ');
        }
    }
    let essence = |entry: &String| {
        let (names, explanation) = entry.split_once("  ").unwrap_or((entry, ""));
        let brackets = explanation.split('[').skip(1).map(|part| format!(" [{}]", part.split(']').next().unwrap()));
        format!("{}{}", names.trim_end(), brackets.collect::<String>())
    };
    entries.iter().map(essence).collect()
}

/// The names of an argument: `--exec_mode` and `--exec-mode`.
fn names(argument: &str) -> Vec<&str> {
    let words = argument.split_whitespace().map(|word| word.trim_matches([',', ']']));
    words.filter(|word| word.starts_with('-')).collect()
}

fn kebab_case(name: &str) -> String {
    name.replace('_', "-")
}

#[test]
fn help_lists_exactly_these_arguments_of_each_command() {
    for (command, arguments) in ARGUMENTS {
        let shown = |argument: &&str| {
            let snake_case = names(argument).into_iter().map(|name| (name.contains('_'), kebab_case(name)));
            let hidden: Vec<String> = snake_case.filter(|(is_snake, _)| *is_snake).map(|(_, kebab)| kebab).collect();
            let found: Vec<&str> =
                names(argument).into_iter().filter(|name| hidden.iter().any(|kebab| kebab == name)).collect();
            assert_eq!(found, hidden, "kebab-case names of {argument}");
            found.iter().fold((*argument).to_owned(), |shown, name| shown.replace(&format!(", {name}"), ""))
        };
        let expected: BTreeSet<String> = arguments.iter().map(shown).collect();
        assert_eq!(listed_arguments(&help(command)), expected, "unet {command}");
    }
    let help = help("");
    let commands = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(commands, ARGUMENTS[1..].iter().map(|(command, _)| *command).collect::<Vec<_>>());
    for heading in ["Task:", "Files:", "Training:", "Device and precision:", "Several GPUs:"] {
        assert!(help.lines().any(|line| line == heading), "{help}");
    }
}

/// The rows of docs/flags.md that name a flag, under the heading of a command; that of the program is all before.
fn documented_flags(command: &str) -> BTreeSet<String> {
    let page = include_str!("../docs/flags.md");
    let (program, commands) = page.split_once("\n## Commands").unwrap();
    let section = match command {
        "" => program,
        command => {
            let mut sections = commands.split("\n### ").skip(1);
            let of_command = |section: &&str| {
                let heading = section.lines().next().unwrap();
                heading.split(", ").any(|name| name == format!("unet {command}"))
            };
            sections.find(of_command).unwrap_or_else(|| panic!("docs/flags.md has no section of unet {command}"))
        }
    };
    // The last command's section ends at the next heading of the page.
    let rows = if command.is_empty() { section } else { section.split("\n## ").next().unwrap_or(section) };
    rows.lines()
        .filter_map(|line| line.strip_prefix("| `--"))
        .map(|rest| format!("--{}", rest.split('`').next().unwrap()))
        .collect()
}

#[test]
fn docs_flags_has_a_row_for_each_flag_and_no_other() {
    for (command, arguments) in ARGUMENTS {
        let flags =
            arguments.iter().filter_map(|argument| names(argument).into_iter().find(|name| name.starts_with("--")));
        let flags: BTreeSet<String> =
            flags.filter(|name| !["--help", "--version"].contains(name)).map(str::to_owned).collect();
        let documented: BTreeSet<String> =
            documented_flags(command).into_iter().filter(|name| !["--help", "--version"].contains(&&**name)).collect();
        assert_eq!(documented, flags, "unet {command}");
    }
}

/// A command line, and for each of its snake_case flags a text that shows that the flag was obeyed.
struct Spelling {
    args: &'static str,
    shows: &'static [(&'static str, &'static str)],
}

const SPELLINGS: [Spelling; 20] = [
    Spelling {
        args: "--data_dir data --model_dir made --log_dir log --exec_mode train_and_evaluate --crossvalidation_idx 2 \
               --max_steps 6 --batch_size 2 --learning_rate 0.01 --weight_decay 0.1 --base_filters 1 --log_every 7 \
               --checkpoint_every 1 --keep_checkpoints 2 --use_amp --no_tf32 --use_xla --nproc_per_node 2 --device cpu",
        shows: &[
            ("--data_dir", r#""data_dir": "data""#),
            ("--model_dir", "made/model.safetensors\n"),
            ("--log_dir", "log/log.json\n"),
            ("--exec_mode", r#""exec_mode": "train_and_evaluate""#),
            ("--crossvalidation_idx", r#""crossvalidation_idx": 2"#),
            ("--max_steps", r#""max_steps": 6"#),
            ("--batch_size", r#""batch_size": 2"#),
            ("--learning_rate", r#""learning_rate": 0.01"#),
            ("--weight_decay", r#""weight_decay": 0.1"#),
            ("--base_filters", r#""base_filters": 1"#),
            ("--log_every", r#""log_every": 7"#),
            // Six batches are three steps of two processes.
            ("--checkpoint_every", "step-0000000002.safetensors\nmade/checkpoints/step-0000000003.safetensors\n"),
            (
                "--keep_checkpoints",
                "data/train-volume.tif\nlog/log.json\nmade/checkpoints/step-0000000002.safetensors\n",
            ),
            ("--use_amp", r#""precision": "bfloat16""#),
            ("--no_tf32", "warning: --no_tf32 changes nothing with --amp"),
            ("--use_xla", r#""xla": true"#),
            ("--nproc_per_node", r#""world_size": 2"#),
        ],
    },
    Spelling {
        args: "--data_dir data --device cpu --amp --amp_dtype float16",
        shows: &[("--amp_dtype", "--amp_dtype float16 needs a GPU")],
    },
    Spelling {
        args: "--data_dir data --benchmark --max_steps 5 --warmup_steps 7",
        shows: &[("--warmup_steps", "--warmup_steps 7 leaves nothing of --max_steps 5")],
    },
    Spelling {
        args: "--data_dir data --overwrite --resume_training",
        shows: &[("--resume_training", "--resume_training goes on with a run")],
    },
    // Here the environment says that there is another process.
    Spelling {
        args: "--data_dir data --model_dir made --device cpu --dist_timeout 1",
        shows: &[("--dist_timeout", "--dist_timeout 1 s")],
    },
    Spelling {
        args: "--data_dir data --model_dir made --device cpu --max_steps 1 --base_filters 1 --label_map 0=a;255=b \
               --class_weights 1,4",
        shows: &[("--label_map", r#""name": "a""#), ("--class_weights", r#""class_weights": ["#)],
    },
    Spelling {
        args: "--data_dir data --model_dir made --device cpu --max_steps 1 --base_filters 1 --recipe native --patch 20 \
               --grey_scaling image --lr_warmup_steps 3 --border_weight 7 --border_sigma 4 --rare_class_share 0.25",
        shows: &[
            ("--grey_scaling", r#""grey": "image""#),
            ("--lr_warmup_steps", r#""lr_warmup_steps": 3"#),
            ("--border_weight", r#""border_weight": 7.0"#),
            ("--border_sigma", r#""border_sigma": 4.0"#),
            ("--rare_class_share", r#""rare_class_share": 0.25"#),
        ],
    },
    Spelling {
        args: "--data_dir data --model_dir made --device cpu --max_steps 1 --base_filters 1 --crossvalidation_idx 0 \
               --evaluate_every 1 --keep_best accuracy",
        shows: &[("--evaluate_every", "made/best.safetensors\n"), ("--keep_best", r#"\"metric\":\"accuracy\""#)],
    },
    Spelling {
        args: "--data_dir data --model_dir made --device cpu --max_steps 1 --init_from model",
        shows: &[("--init_from", r#""init_from": "model""#)],
    },
    Spelling {
        args: "--data_dir data --model_dir made --device cpu --max_steps 1 --base_filters 1 --grey_range 3,200",
        shows: &[("--grey_range", r#""grey_range": "3,200""#)],
    },
    Spelling {
        args: "--data_dir data --memory_share 2",
        shows: &[("--memory_share", "invalid value '2' for '--memory_share <SHARE>'")],
    },
    Spelling {
        args: "--exec_mode predict --model_dir model --device cpu --input data/test-volume.tif --output out \
               --save_probabilities",
        shows: &[("--save_probabilities", "out/test-volume-probabilities.tif\n")],
    },
    Spelling {
        args: "score --labels data/train-labels.tif --prediction data/train-labels.tif --label_map 0=wall;255=cell",
        shows: &[("--label_map", "0=wall;255=cell")],
    },
    Spelling {
        args: "inspect --data_dir data --label_map 0=wall;255=cell --grey_range 3,200",
        shows: &[
            ("--data_dir", "6 pages of 64x64"),
            ("--label_map", "mapping: 0=wall;255=cell"),
            ("--grey_range", "mapping: 3 becomes -1, 200 becomes 1"),
        ],
    },
    Spelling {
        args: "preview --data_dir data --out p.png --samples 1 --label_map 0=wall;255=cell --recipe native --patch 20 \
               --grey_scaling image --rare_class_share 0.5 --grey_range 3,200",
        shows: &[
            ("--grey_range", "grey levels: 3 becomes black and 200 white"),
            ("--data_dir", "data: 6 pages of 64x64"),
            ("--rare_class_share", "50 % of the windows around rarer classes"),
            ("--label_map", "classes of these samples: wall"),
            ("--grey_scaling", "grey levels by image"),
        ],
    },
    Spelling {
        args: "check --device cpu --base_filters 0",
        shows: &[("--base_filters", "invalid value '0' for '--base_filters <N>'")],
    },
    Spelling {
        args: "layers --base_filters 0",
        shows: &[("--base_filters", "invalid value '0' for '--base_filters <N>'")],
    },
    Spelling { args: "layers --batch_size 0", shows: &[("--batch_size", "invalid value '0' for '--batch_size <N>'")] },
    Spelling {
        args: "export --model_dir model --data_dir data --use_amp --no_softmax --to onnx --out net.onnx",
        shows: &[
            ("--model_dir", "net.onnx\n"),
            ("--data_dir", "first slice of 'data/test-volume.tif'"),
            ("--use_amp", "float16"),
            ("--no_softmax", "output  logits"),
        ],
    },
    Spelling {
        args: "export --model_dir model --to bioimageio --out net.zip --author A --license MIT --same_size",
        shows: &[("--same_size", "output  probabilities [N, 2, H, W]")],
    },
];

/// What a command leaves that is the same whenever it runs: exit code, messages, files, settings and weights.
fn outcome(dir: &TestDir, args: &[String], variables: &[(&str, String)]) -> String {
    let mut command = common::program();
    let output = command.args(args).envs(variables.iter().cloned()).current_dir(dir.path("")).output().unwrap();
    let is_subcommand = !args[0].starts_with('-');
    let files = dir.files("").into_iter().filter(|name| !name.contains("tfevents"));
    let errors = common::text(&output.stderr);
    // Lines of libtorch's own log have times.
    let errors = errors.lines().filter(|line| line.starts_with("error: ") || line.starts_with("warning: "));
    let mut outcome = format!("{:?}\n{}\n", output.status.code(), errors.collect::<Vec<_>>().join("\n"));
    // The output of a run has its speed too.
    outcome += &if is_subcommand { common::text(&output.stdout) } else { String::new() };
    outcome += &files.map(|name| format!("{name}\n")).collect::<String>();
    for name in ["made/config.json", "made/eval.json", "made/model.safetensors", "made/best.safetensors", "net.onnx"] {
        outcome += &common::text(&std::fs::read(dir.path(name)).unwrap_or_default());
    }
    outcome
}

/// The kebab-case name of each flag does what its snake_case name does. The table shows that each has an effect.
#[test]
fn both_spellings_of_a_flag_have_the_same_effect() {
    let mut tried = BTreeSet::new();
    for Spelling { args, shows } in &SPELLINGS {
        let snake_case: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let kebab_case = |word: &String| if word.starts_with("--") { kebab_case(word) } else { word.clone() };
        let kebab_case: Vec<String> = snake_case.iter().map(kebab_case).collect();
        let port = free_port().to_string();
        let rank_1_of_2 = [("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1"), ("MASTER_ADDR", "127.0.0.1")];
        let variables: Vec<(&str, String)> = if args.contains("--dist_timeout") {
            rank_1_of_2
                .map(|(name, value)| (name, value.to_owned()))
                .into_iter()
                .chain([("MASTER_PORT", port)])
                .collect()
        } else {
            Vec::new()
        };
        let dirs = [(); 2].map(|()| TestDir::trained("--max_steps 1 --base_filters 1"));
        let [expected, found] =
            [(&dirs[0], &snake_case), (&dirs[1], &kebab_case)].map(|(dir, args)| outcome(dir, args, &variables));
        assert!(expected == found, "{snake_case:?}:\n{expected}\n{kebab_case:?}:\n{found}");
        let command = if snake_case[0].starts_with('-') { "" } else { &snake_case[0] };
        for (flag, text) in *shows {
            assert!(snake_case.iter().any(|word| word == flag), "{flag} is not among {args}");
            assert!(found.contains(text), "no '{text}' for {flag} in {found}");
            tried.insert((command.to_owned(), (*flag).to_owned()));
        }
    }
    let is_snake_case = |name: &str| name.starts_with("--") && name.contains('_');
    let listed = ARGUMENTS.iter().flat_map(|(command, arguments)| {
        let names = arguments.iter().flat_map(|argument| names(argument)).filter(|name| is_snake_case(name));
        names.map(|name| ((*command).to_owned(), name.to_owned()))
    });
    assert_eq!(tried, listed.collect());
}

#[test]
fn the_last_of_a_repeated_flag_counts() {
    let dir = TestDir::new();
    dir.run("--base-filters 3 --max_steps 7 --amp --use-amp --base_filters 1 --max-steps 1").success();
    assert_eq!(dir.json("model/config.json")["base_filters"], 1);
    assert_eq!(dir.files("model/checkpoints"), ["step-0000000001.safetensors"]);
}

#[test]
fn bad_values_and_combinations_fail_with_one_line_and_code_2() {
    let dir = TestDir::new();
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
        ("--dropout 1", &["--dropout", "below 1"]),
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
        fails(dir.run(args), 2, words);
    }
    assert!(!dir.path("model").exists(), "a refused command line must leave nothing");
    fails(dir.unet(&["--exec_mode", "train"]), 2, &["--data_dir"]);
    fails(dir.unet(&["phantom"]), 2, &["--out"]);
    for (args, words) in [
        ("--classes 1", ["--classes", "2 to 6"]),
        ("--channels 5", ["--channels", "1 to 4"]),
        ("--layout folders --channels 2", ["--layout folders, which takes 1 or 3", "nnunet"]),
    ] {
        let args: Vec<&str> = ["phantom", "--out", "made"].into_iter().chain(args.split(' ')).collect();
        fails(dir.unet(&args), 2, &words);
    }
    assert!(!dir.path("made").exists(), "a refused command line must leave nothing");
    fails(dir.unet(&["report"]), 2, &["LOG"]);
    fails(dir.unet(&["layers", "--repeats", "0"]), 2, &["--repeats", "1 to 10000"]);
    fails(dir.unet(&["layers", "--base_filters", "0"]), 2, &["--base_filters"]);
}

/// A command line of no words has nothing to refuse: a newcomer is told what the program does. A script that has lost
/// its flags gets the exit code of a bad command line, as before.
#[test]
fn the_program_alone_introduces_itself_in_six_lines() {
    let dir = TestDir::new();
    let answer = dir.unet(&[]).code(2);
    assert_eq!(stdout(&answer), "");
    let told = stderr(&answer);
    assert_eq!(told.lines().count(), 6, "{told}");
    assert!(told.lines().all(|line| line.len() <= 120), "{told}");
    for word in
        ["unet inspect --data_dir", "unet --data_dir", "--exec_mode predict", "unet --help", "unet man", "docs/"]
    {
        assert!(told.contains(word), "no '{word}' in: {told}");
    }
    // What it proposes is taken: each command fails for want of data, not for its flags.
    let proposals: Vec<&str> = told.lines().filter(|line| line.contains(":  ")).collect();
    assert_eq!(proposals.len(), 3, "{told}");
    for line in proposals {
        let command = line.split_once(": ").unwrap().1.split("    ").find(|part| part.contains("unet")).unwrap();
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        let message = stderr(&dir.unet(&words).code(1));
        assert!(message.starts_with("error: ") && message.contains("no "), "{words:?}: {message}");
    }
}

#[test]
fn config_json_records_the_precision() {
    let dir = TestDir::new();
    dir.run("--max_steps 1 --base_filters 1 --amp --amp_dtype bf16").success();
    assert_eq!(dir.json("model/config.json")["precision"], "bfloat16");
    let both = stderr(&dir.run("--max_steps 1 --base_filters 1 --amp --no_tf32 --overwrite").success());
    assert!(both.contains("--no_tf32 changes nothing with --amp"), "{both}");
    let run = dir.run("--max_steps 1 --base_filters 1 --no_tf32 --overwrite").success();
    assert_eq!(stderr(&run), "warning: --no_tf32 changes nothing on the CPU, which multiplies float32 in full\n");
    assert_eq!(dir.json("model/config.json")["precision"], "float32");
    assert_eq!(dir.json("model/config.json")["tf32"], false);
}

#[test]
fn flags_that_change_nothing_in_a_mode_are_named() {
    let dir = TestDir::trained("--max_steps 1 --base_filters 1");
    let warned =
        stderr(&dir.run("--exec_mode predict --augment --learning_rate 0.1 --warmup_steps 3 --seed 1").success());
    for flag in ["--augment", "--learning_rate", "--warmup_steps", "--seed"] {
        assert!(warned.contains(&format!("warning: {flag} changes nothing")), "{warned}");
    }
    assert_eq!(warned.lines().count(), 4, "{warned}");
}

#[test]
fn check_tells_how_far_the_device_is_from_float64() {
    let check = ["check", "--device", "cpu", "--base_filters", "2", "--json"];
    let report: serde_json::Value = serde_json::from_str(&stdout(&TestDir::new().unet(&check).success())).unwrap();
    assert_eq!(report["passed"], true);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 10);
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
        let report: serde_json::Value = serde_json::from_str(&stdout(&TestDir::new().unet(&args).success())).unwrap();
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
