//! The checked configuration of a run: what its flags mean together. Nothing after this file sees a flag.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{AmpDtype, DeviceChoice, ExecMode, RunArgs, TRAINING_ONLY};
use crate::error::UsageError;

/// Everything that the flags say about one run, with all range and cross-flag checks passed.
#[derive(Debug, Clone)]
pub struct Config {
    pub exec_mode: ExecMode,
    pub data_dir: PathBuf,
    pub model_dir: PathBuf,
    pub log_dir: Option<PathBuf>,
    pub benchmark: Option<Benchmark>,
    pub overwrite: bool,
    pub resume_training: bool,
    pub log_every: u64,
    /// Steps between two checkpoints; `None`: every ten minutes.
    pub checkpoint_every: Option<u64>,
    /// Newest checkpoints that stay.
    pub keep_checkpoints: usize,
    pub device: DeviceChoice,
    pub amp: bool,
    /// `None`: the one that suits the device.
    pub amp_dtype: Option<AmpDtype>,
    /// Whether a GPU may round the factors of f32 products to TF32.
    pub tf32: bool,
    pub xla: bool,
    /// Whether a GPU must give the same bits from run to run.
    pub deterministic: bool,
    /// Processes to start on this machine; `None`: this one works itself.
    pub nproc_per_node: Option<usize>,
    /// How long a process waits for the others.
    pub dist_timeout: Duration,
    pub batch_size: usize,
    /// Width of the first level; `None` where the flag was not given.
    pub base_filters: Option<i64>,
    pub training: Training,
    /// Flags that were given but change nothing in this run, each with its reason.
    pub warnings: Vec<String>,
}

/// What decides the weights that training makes, apart from data, width, batch size and device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Training {
    /// Batches of all ranks together.
    pub max_steps: u64,
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub augment: bool,
    pub seed: u64,
    /// Index of the validation fold, 0..5; `None` trains on all slices.
    pub crossvalidation_idx: Option<usize>,
}

/// Steps of a benchmark: `max_steps` are run, the first `warmup_steps` of them not counted.
#[derive(Debug, Clone)]
pub struct Benchmark {
    pub warmup_steps: u64,
    /// Folder for a profile; `None`: none is made.
    pub profile: Option<PathBuf>,
}

impl Config {
    /// Checks what the flags mean together. `given` names the flags that were on the command line.
    ///
    /// Errors: the first impossible combination, naming the flags and what to change.
    pub fn new(args: RunArgs, given: &[String]) -> Result<Self, UsageError> {
        let mode = args.exec_mode;
        let warnings = warnings(mode, &args, given);
        let refuse = |message: String| Err(UsageError::new(message));
        let Some(data_dir) = args.data_dir else {
            return refuse("--data_dir is missing; name the folder with the stacks".to_owned());
        };
        if mode.evaluates() && args.crossvalidation_idx.is_none() {
            return refuse(format!(
                "--exec_mode {} needs --crossvalidation_idx 0..4: without a fold there are no validation slices",
                mode.name()
            ));
        }
        if args.resume_training && !mode.trains() {
            return refuse(format!("--resume_training does nothing with --exec_mode {}; leave it out", mode.name()));
        }
        if args.resume_training && args.overwrite {
            return refuse(
                "--resume_training goes on with a run, --overwrite discards it; give one of them".to_owned(),
            );
        }
        if args.amp_dtype.is_some() && !args.amp {
            return refuse("--amp_dtype chooses the dtype of --amp; add --amp, or leave --amp_dtype out".to_owned());
        }
        if args.profile.is_some() && !args.benchmark {
            return refuse(
                "--profile looks into the steps of --benchmark; add --benchmark, or leave --profile out".to_owned(),
            );
        }
        if args.benchmark {
            check_benchmark(&args.exec_mode, args.warmup_steps, args.max_steps)?;
            if args.resume_training || args.overwrite {
                return refuse(
                    "--benchmark writes nothing to --model_dir; leave out --resume_training and --overwrite".to_owned(),
                );
            }
        }

        Ok(Self {
            warnings,
            exec_mode: mode,
            data_dir,
            model_dir: args.model_dir,
            log_dir: args.log_dir,
            benchmark: args.benchmark.then_some(Benchmark { warmup_steps: args.warmup_steps, profile: args.profile }),
            overwrite: args.overwrite,
            resume_training: args.resume_training,
            log_every: args.log_every,
            checkpoint_every: args.checkpoint_every,
            keep_checkpoints: args.keep_checkpoints as usize,
            device: args.device,
            amp: args.amp,
            amp_dtype: args.amp_dtype,
            tf32: !args.no_tf32,
            xla: args.xla,
            deterministic: args.deterministic,
            nproc_per_node: args.nproc_per_node.map(|n| n as usize),
            dist_timeout: Duration::from_secs(args.dist_timeout),
            batch_size: args.batch_size as usize,
            base_filters: args.base_filters.map(|n| n as i64),
            training: Training {
                max_steps: args.max_steps,
                learning_rate: args.learning_rate,
                weight_decay: args.weight_decay,
                augment: args.augment,
                seed: args.seed,
                crossvalidation_idx: args.crossvalidation_idx.map(|fold| fold as usize),
            },
        })
    }
}

fn check_benchmark(mode: &ExecMode, warmup_steps: u64, max_steps: u64) -> Result<(), UsageError> {
    if mode.evaluates() {
        return Err(UsageError::new(format!(
            "--benchmark times training or prediction, not --exec_mode {}; use train or predict",
            mode.name()
        )));
    }
    if warmup_steps >= max_steps {
        return Err(UsageError::new(format!(
            "--warmup_steps {warmup_steps} leaves nothing of --max_steps {max_steps} to time; raise --max_steps or \
             lower --warmup_steps"
        )));
    }
    Ok(())
}

fn warnings(mode: ExecMode, args: &RunArgs, given: &[String]) -> Vec<String> {
    let benchmark = args.benchmark;
    let mut warnings = Vec::new();
    let mut unused = |flag: &str, why: String| {
        if given.iter().any(|name| name == flag) {
            warnings.push(format!("--{flag} changes nothing {why}"));
        }
    };
    if !mode.trains() {
        for flag in TRAINING_ONLY {
            unused(flag, format!("with --exec_mode {}", mode.name()));
        }
        if !benchmark {
            unused("max_steps", format!("with --exec_mode {}", mode.name()));
        }
    }
    if mode == ExecMode::Evaluate {
        unused("batch_size", "with --exec_mode evaluate, which scores one slice at a time".to_owned());
    }
    if mode == ExecMode::Predict {
        unused("crossvalidation_idx", "with --exec_mode predict".to_owned());
        if !benchmark {
            unused("seed", "with --exec_mode predict".to_owned());
        }
    }
    if !benchmark {
        unused("warmup_steps", "without --benchmark".to_owned());
    }
    if args.amp {
        unused("no_tf32", "with --amp, which multiplies nothing in float32".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::cli;
    use crate::testing::fuzz_seeds;

    /// The hand-made cases that fuzzing starts from, a word a line: `fuzz/seeds`.
    #[test]
    fn of_the_fuzzing_seeds_only_sound_command_lines_become_configurations() {
        let mut accepted = Vec::new();
        for (name, bytes) in fuzz_seeds("command_line") {
            let words = bytes.split(|byte| *byte == b'\n').map(|word| OsStr::from_bytes(word).to_owned());
            let Ok(parsed) = cli::try_parse(std::iter::once("unet".into()).chain(words)) else { continue };
            if parsed.cli.command.is_none() && Config::new(parsed.cli.run, &parsed.given).is_ok() {
                accepted.push(name);
            }
        }
        assert_eq!(accepted, ["benchmark", "predict", "train", "workers"]);
    }
}
