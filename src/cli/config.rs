//! The checked configuration of a run: what its flags mean together. Nothing after this file sees a flag.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::native::{Border, Defaults, Native, PATCH};
use super::split::{SplitChoice, check_folds};
use super::validation::{Validation, check_weights};
use super::{
    AmpDtype, ClassWeights, DeviceChoice, ExecMode, GreyRangeChoice, InitChoice, RecipeChoice, RunArgs, ScheduleChoice,
    TRAINING_ONLY, WeightsChoice,
};
use crate::error::UsageError;

/// Everything that the flags say about one run, with all range and cross-flag checks passed.
#[derive(Debug, Clone)]
pub struct Config {
    pub exec_mode: ExecMode,
    pub source: Source,
    /// Whether the probabilities of predicted files are written too.
    pub save_probabilities: bool,
    /// The text of a label map, or the path of one.
    pub label_map: Option<String>,
    /// Which stored values become black and white.
    pub grey_range: GreyRangeChoice,
    /// Share of the free memory that decoded images may take.
    pub memory_share: f64,
    pub model_dir: PathBuf,
    /// Folders of the other networks of an ensemble.
    pub ensemble: Vec<PathBuf>,
    pub log_dir: Option<PathBuf>,
    pub benchmark: Option<Benchmark>,
    pub overwrite: bool,
    pub resume_training: bool,
    /// Whether warnings and final results alone are told.
    pub quiet: bool,
    pub log_every: u64,
    /// `None`: no validation while training goes on.
    pub validation: Option<Validation>,
    /// Which weights evaluation and prediction use.
    pub weights: WeightsChoice,
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
    /// `None`: what the weights were trained with, or the reference's.
    pub recipe: Option<RecipeChoice>,
    pub native: Native,
    /// `None`: pixels between objects weigh as others.
    pub border: Option<Border>,
    /// Whether prediction averages the eight orientations of an image.
    pub tta: bool,
    /// Width of the first level; `None` where the flag was not given.
    pub base_filters: Option<i64>,
    pub training: Training,
    /// Flags that were given but change nothing in this run, each with its reason.
    pub warnings: Vec<String>,
}

/// Where a run's images come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// The folder of a dataset.
    Dataset(PathBuf),
    /// Files and folders to predict, and the folder for their masks.
    Files { input: Vec<PathBuf>, output: PathBuf },
}

impl Source {
    /// For messages and records.
    pub fn path(&self) -> &Path {
        match self {
            Self::Dataset(folder) => folder,
            Self::Files { input, .. } => &input[0],
        }
    }
}

/// What unpadded convolutions take off both sides of an input together.
const CONTEXT: i64 = 184;

/// What decides the weights that training makes, apart from data, width, batch size and device.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    /// Batches of all ranks together.
    pub max_steps: u64,
    pub learning_rate: f64,
    pub schedule: ScheduleChoice,
    pub lr_warmup_steps: u64,
    /// Decay of the moving average of the weights.
    pub ema: Option<f64>,
    /// Share of the bottleneck's outputs that dropout zeroes.
    pub dropout: f64,
    pub init: InitChoice,
    /// The folder of a run, or a weight file, whose weights training begins with.
    pub init_from: Option<PathBuf>,
    pub weight_decay: f64,
    pub augment: bool,
    pub class_weights: Option<ClassWeights>,
    pub seed: u64,
    /// How slices are split; `None`: by the dataset's own folds, or the reference's.
    pub split: Option<SplitChoice>,
    pub folds: usize,
    /// Index of the validation fold, below `folds`; `None` trains on all slices.
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
    /// Whether results go to `model_dir`. Those of `--input` go elsewhere, so that the folder may be read-only and
    /// shared.
    pub fn writes_model_dir(&self) -> bool {
        matches!(self.source, Source::Dataset(_))
    }

    /// Side of the network's input in training.
    pub fn input_side(&self) -> i64 {
        let is_native = self.recipe == Some(RecipeChoice::Native);
        CONTEXT + if is_native { self.native.patch } else { PATCH }
    }

    /// Checks what the flags mean together. `given` names the flags that were on the command line.
    ///
    /// Errors: the first impossible combination, naming the flags and what to change.
    pub fn new(args: RunArgs, given: &[String]) -> Result<Self, UsageError> {
        let mode = args.exec_mode;
        let warnings = warnings(mode, &args, given);
        let refuse = |message: String| Err(UsageError::new(message));
        let source = source(&args)?;
        let native = if mode.trains() {
            Native::of_training(&args.native, args.tile, args.recipe, args.augment)?
        } else {
            Native::new(&args.native, args.tile)?
        };
        let defaults = Defaults::of(args.recipe, args.max_steps);
        let border = if mode.trains() { Border::of_training(&args.border, args.recipe)? } else { None };
        check_folds(&args, given)?;
        let validation = Validation::new(&args)?;
        check_weights(&args)?;
        if mode.evaluates() && args.crossvalidation_idx.is_none() {
            return refuse(format!(
                "--exec_mode {} needs --crossvalidation_idx 0..4: without a fold there are no validation slices",
                mode.name()
            ));
        }
        if !args.ensemble.is_empty() && (mode.trains() || args.benchmark) {
            return refuse(
                "--ensemble averages networks that are trained already; use it with --exec_mode evaluate or predict, \
                 without --benchmark"
                    .to_owned(),
            );
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
            source,
            save_probabilities: args.save_probabilities,
            label_map: args.label_map,
            grey_range: args.grey_range,
            memory_share: args.memory_share,
            model_dir: args.model_dir,
            ensemble: args.ensemble,
            log_dir: args.log_dir,
            benchmark: args.benchmark.then_some(Benchmark { warmup_steps: args.warmup_steps, profile: args.profile }),
            overwrite: args.overwrite,
            resume_training: args.resume_training,
            quiet: args.quiet,
            log_every: args.log_every,
            validation,
            weights: args.weights,
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
            recipe: args.recipe,
            native,
            border,
            tta: args.tta,
            base_filters: args.base_filters.map(|n| n as i64),
            training: Training {
                max_steps: args.max_steps,
                learning_rate: args.learning_rate.unwrap_or(defaults.learning_rate),
                schedule: args.schedule.unwrap_or(defaults.schedule),
                lr_warmup_steps: args.lr_warmup_steps.unwrap_or(defaults.lr_warmup_steps),
                ema: args.ema,
                dropout: args.dropout,
                init: args.init.unwrap_or(defaults.init),
                init_from: args.init_from,
                weight_decay: args.weight_decay,
                augment: args.augment,
                class_weights: args.class_weights,
                seed: args.seed,
                split: args.split.map(SplitChoice::new),
                folds: args.folds as usize,
                crossvalidation_idx: args.crossvalidation_idx.map(|fold| fold as usize),
            },
        })
    }
}

/// Where the images come from.
fn source(args: &RunArgs) -> Result<Source, UsageError> {
    let refuse = |message: &str| Err(UsageError::new(message.to_owned()));
    if args.input.is_empty() {
        if args.output.is_some() {
            return refuse("--output is the folder for the masks of --input; add --input, or leave --output out");
        }
        return match &args.data_dir {
            Some(folder) => Ok(Source::Dataset(folder.clone())),
            None => refuse("--data_dir is missing; name the folder of the dataset, or images to predict with --input"),
        };
    }
    let mode = args.exec_mode;
    if mode != ExecMode::Predict {
        let name = mode.name();
        let message = format!("--input names images to predict, not for --exec_mode {name}; add --exec_mode predict");
        return Err(UsageError::new(message));
    }
    if args.data_dir.is_some() {
        return refuse("--input takes the place of --data_dir; give one of them");
    }
    if args.benchmark {
        return refuse("--benchmark times predictions of a dataset; give --data_dir in place of --input");
    }
    if args.label_map.is_some() {
        return refuse("--label_map does nothing with --input: masks have the values that the network was trained on");
    }
    match &args.output {
        Some(output) => Ok(Source::Files { input: args.input.clone(), output: output.clone() }),
        None => refuse("--input needs --output, the folder for the masks"),
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
    if !mode.predicts() && !mode.evaluates() {
        unused("tta", format!("with --exec_mode {}", mode.name()));
    }
    if benchmark {
        ["tta", "weights", "evaluate_every", "keep_best", "patience"]
            .iter()
            .for_each(|flag| unused(flag, "with --benchmark".to_owned()));
    } else if !mode.predicts() && !mode.evaluates() {
        unused("weights", format!("with --exec_mode {}", mode.name()));
    }
    if !mode.predicts() {
        unused("save_probabilities", format!("with --exec_mode {}", mode.name()));
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
            let Ok(parsed) = cli::parse::try_parse(std::iter::once("unet".into()).chain(words)) else { continue };
            if parsed.cli.command.is_none() && Config::new(parsed.cli.run, &parsed.given).is_ok() {
                accepted.push(name);
            }
        }
        assert_eq!(accepted, ["benchmark", "predict", "train", "workers"]);
    }
}
