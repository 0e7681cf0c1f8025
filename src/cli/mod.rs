//! The command line: flag names, defaults and help, as `UNet_Medical/main.py` has them.
//!
//! Only the shape of each value is checked here; what they mean together is checked in `config.rs`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

pub mod config;
pub mod native;
pub mod package;
pub mod parse;
mod spellings;
pub mod split;
mod subcommands;
pub mod task;
pub mod validation;
mod values;

pub use parse::{Parsed, command, own_command_line, parse};
pub use subcommands::{
    CheckArgs, CompletionsArgs, ExportArgs, ExportFormat, InspectArgs, LayersArgs, ManArgs, PhantomArgs, PhantomLayout,
    PreviewArgs, ReportArgs, ScoreArgs, Shell,
};
pub use values::{
    AmpDtype, AugmentationChoice, ClassWeights, DeviceChoice, ExecMode, GreyRangeChoice, GreyScalingChoice, InitChoice,
    Metric, RecipeChoice, ScheduleChoice, WeightsChoice,
};

use native::{BorderArgs, NativeArgs};
use values::{below_one, class_weights, grey_range, not_negative, positive, share, whole};

/// Dropout of the reference.
pub const REFERENCE_DROPOUT: f64 = 0.5;

/// Trains, evaluates and runs the U-Net for biomedical image segmentation.
#[derive(Debug, Parser)]
#[command(
    name = "unet",
    version,
    about = "Trains, evaluates and runs the U-Net of Ronneberger et al. (2015) for biomedical image segmentation",
    after_help = "Example: unet --data_dir data --model_dir results --exec_mode train_and_evaluate \
                  --crossvalidation_idx 0 --augment\n\
                  Every flag may be spelled with dashes too (--data-dir). Files made and numbers printed: README.md.",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    disable_help_flag = true,
    // As with argparse the last of a repeated flag counts: scripts append to the flags of other scripts.
    args_override_self = true,
    max_term_width = 120
)]
pub struct Cli {
    /// Print this help
    #[arg(short, long, global = true, action = ArgAction::HelpShort)]
    help: (),
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// The subcommands, each a program of its own in `tools/`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a synthetic EM-like dataset, as stacks, in folders or for nnU-Net
    Phantom(PhantomArgs),
    /// Tell what a dataset holds, how it will be mapped, and what is wrong with it
    Inspect(InspectArgs),
    /// Draw training samples as the network sees them, with their labels
    Preview(PreviewArgs),
    /// Mean and deviation of the scores over the folds of a cross-validation
    Report(ReportArgs),
    /// Score a prediction by labels with the measures of the ISBI 2012 challenge
    Score(ScoreArgs),
    /// Check that this machine computes what it should: GPU or CPU against float64
    Check(CheckArgs),
    /// Time each layer of the network on the CPU, beside libtorch's own kernels
    Layers(LayersArgs),
    /// Write the trained network as a file for other programs, and check it
    Export(ExportArgs),
    /// Print a script that completes flags and their values in a shell
    Completions(CompletionsArgs),
    /// Print the man page as roff: unet man | man -l -
    Man(ManArgs),
}

/// `unet --data_dir DIR [flags]`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What to do; the evaluate modes need --crossvalidation_idx
    #[arg(
        long = "exec_mode", value_name = "MODE", value_enum, default_value_t = ExecMode::Train,
        help_heading = "Task"
    )]
    pub exec_mode: ExecMode,
    /// Time the steps of training or prediction; writes nothing to --model_dir
    #[arg(long, help_heading = "Task")]
    pub benchmark: bool,
    /// First steps that --benchmark does not count
    #[arg(
        long = "warmup_steps", value_name = "N", default_value_t = 200,
        value_parser = whole(0..=1_000_000_000), help_heading = "Task"
    )]
    pub warmup_steps: u64,
    /// With --benchmark: look into 5 steps more, and write the time of each kernel and a trace to this folder
    #[arg(long, value_name = "DIR", help_heading = "Task")]
    pub profile: Option<PathBuf>,
    /// No progress and no tables: errors, warnings and final results alone
    #[arg(long, help_heading = "Task")]
    pub quiet: bool,

    /// Folder of the dataset: train-volume.tif, train-labels.tif and test-volume.tif; images/ with masks/; or nnU-Net's
    /// raw data (docs/data.md)
    #[arg(long = "data_dir", value_name = "DIR", required_unless_present = "input", help_heading = "Files")]
    pub data_dir: Option<PathBuf>,
    /// Images to predict, files or folders of them, in place of --data_dir
    #[arg(long, value_name = "PATH", num_args = 1.., action = ArgAction::Append, help_heading = "Files")]
    pub input: Vec<PathBuf>,
    /// Folder for the masks of --input, each under the name of its image. Masks that are there are kept, so that a
    /// stopped run goes on
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    pub output: Option<PathBuf>,
    /// Write the probabilities of the classes too, as TIFF; always done for test-volume.tif
    #[arg(long = "save_probabilities", help_heading = "Files")]
    pub save_probabilities: bool,
    /// Folder for the weights, checkpoints, scores and predictions
    #[arg(long = "model_dir", value_name = "DIR", default_value = "/results", help_heading = "Files")]
    pub model_dir: PathBuf,
    /// Folder for log.json (DLLogger's JSON lines); no log file without it
    #[arg(long = "log_dir", value_name = "DIR", help_heading = "Files")]
    pub log_dir: Option<PathBuf>,
    /// Folders of more trained networks of the same data and recipe: their probabilities are averaged with those of
    /// --model_dir's in evaluation and prediction
    #[arg(long, value_name = "DIR", num_args = 1.., action = ArgAction::Append, help_heading = "Files")]
    pub ensemble: Vec<PathBuf>,
    /// Replace the run, the scores or the predictions that --model_dir already holds
    #[arg(long, help_heading = "Files")]
    pub overwrite: bool,
    /// Go on from the newest checkpoint in --model_dir up to --max_steps
    #[arg(long = "resume_training", help_heading = "Files")]
    pub resume_training: bool,

    /// Steps between two checkpoints [default: as many as 10 minutes take]
    #[arg(long = "checkpoint_every", value_name = "N", value_parser = whole(1..=1_000_000_000), help_heading = "Files")]
    pub checkpoint_every: Option<u64>,
    /// Newest checkpoints that are kept
    #[arg(
        long = "keep_checkpoints", value_name = "N", default_value_t = 3, value_parser = whole(1..=1_000_000),
        help_heading = "Files"
    )]
    pub keep_checkpoints: u64,

    /// Which stored label values are which class, such as '0,32=membrane;255=inside;7=ignore' ('*': all others), or a
    /// JSON file [default: 0 and one of 1, 255, 65535, or 0 to N - 1]
    #[arg(long = "label_map", value_name = "MAP", help_heading = "Data")]
    pub label_map: Option<String>,
    /// Factors of the classes in the cross entropy, such as 1,5,2, or 'balanced' for the inverse of their shares
    #[arg(long = "class_weights", value_name = "WEIGHTS", value_parser = class_weights, help_heading = "Data")]
    pub class_weights: Option<ClassWeights>,
    /// Which stored values become black and white. auto: the bits that the training images use, or their percentiles;
    /// prediction keeps what the weights were trained with. type: the range of the sample type, as in the reference. Or
    /// two numbers, such as 0,4095
    #[arg(
        long = "grey_range", value_name = "RANGE", default_value = "auto", value_parser = grey_range,
        allow_hyphen_values = true, help_heading = "Data"
    )]
    pub grey_range: GreyRangeChoice,
    /// Share of the free memory that decoded images may take; the rest is decoded when needed, with the same results
    #[arg(
        long = "memory_share", value_name = "SHARE", default_value_t = 0.5, value_parser = share, help_heading = "Data"
    )]
    pub memory_share: f64,
    /// How slices are split. reference: NVIDIA's folds, which overlap. disjoint: shuffled, each slice validated once.
    /// blocks: neighbours together, for slices of one volume. Or a JSON file with train and validation [default: the
    /// dataset's own folds, or reference]
    #[arg(long, value_name = "SPLIT", help_heading = "Data")]
    pub split: Option<String>,
    /// Folds of disjoint and of blocks
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole(2..=1000), help_heading = "Data")]
    pub folds: u64,

    /// How images become what the network sees. reference: resized to 388x388 and framed, as NVIDIA's program does it.
    /// native: windows at the stored resolution, mirrored past the edges [default: reference, or what the weights were
    /// trained with]
    #[arg(long, value_name = "RECIPE", value_enum, help_heading = "Recipe")]
    pub recipe: Option<RecipeChoice>,
    #[command(flatten)]
    pub native: NativeArgs,
    #[command(flatten)]
    pub border: BorderArgs,
    /// Largest side of the output of a tile in prediction by the native recipe, in pixels, rounded up to the next that
    /// fits; results do not depend on it [default: 1028, or less where memory is short]
    #[arg(long, value_name = "PIXELS", value_parser = whole(1..=16_388), help_heading = "Recipe")]
    pub tile: Option<u64>,
    /// Predict each image in its eight orientations and average them: better, and eight times as slow
    #[arg(long, help_heading = "Recipe")]
    pub tta: bool,

    /// Fold whose slices are kept for validation, 0 to 4 (one less than --folds); without it all slices are trained on
    #[arg(long = "crossvalidation_idx", value_name = "FOLD", value_parser = whole(0..=999), help_heading = "Training")]
    pub crossvalidation_idx: Option<u64>,
    /// Batches to train on, shared among processes; with --benchmark the steps timed, warm-up included
    #[arg(
        long = "max_steps", value_name = "N", default_value_t = 1000, value_parser = whole(1..=1_000_000_000),
        help_heading = "Training"
    )]
    pub max_steps: u64,
    /// Images per step on each GPU
    #[arg(
        long = "batch_size", value_name = "N", default_value_t = 1, value_parser = whole(1..=65_536),
        help_heading = "Training"
    )]
    pub batch_size: u64,
    /// Adam's learning rate [default: 0.0001; native recipe: 0.001]
    #[arg(long = "learning_rate", value_name = "RATE", value_parser = positive, help_heading = "Training")]
    pub learning_rate: Option<f64>,
    /// How the learning rate falls: constant, half a cosine to 0, or (1 - done)^0.9 [default: constant; native recipe:
    /// cosine]
    #[arg(long, value_name = "DECAY", value_enum, help_heading = "Training")]
    pub schedule: Option<ScheduleChoice>,
    /// First steps, in which the learning rate rises evenly from 0 [default: 0; native recipe: 50, or a tenth of all
    /// steps if that is less]
    #[arg(
        long = "lr_warmup_steps", value_name = "N", value_parser = whole(0..=1_000_000_000), help_heading = "Training"
    )]
    pub lr_warmup_steps: Option<u64>,
    /// Keep a moving average of the weights with this decay, such as 0.999, and use it for everything but training
    #[arg(long, value_name = "DECAY", value_parser = below_one, help_heading = "Training")]
    pub ema: Option<f64>,
    /// Share of the deepest level's outputs that dropout zeroes in training; 0: none
    #[arg(
        long, value_name = "SHARE", default_value_t = REFERENCE_DROPOUT, value_parser = below_one,
        help_heading = "Training"
    )]
    pub dropout: f64,
    /// How fresh weights are drawn: uniform by Glorot, as the reference's, or normal by He [default: glorot; native
    /// recipe: he]
    #[arg(long, value_name = "INIT", value_enum, help_heading = "Training")]
    pub init: Option<InitChoice>,
    /// Begin with the weights of another run: its folder, or a weight file. For another number of classes the last
    /// layer is fresh
    #[arg(long = "init_from", value_name = "MODEL", help_heading = "Training")]
    pub init_from: Option<PathBuf>,
    /// L2 coefficient: this times the weight is added to each gradient
    #[arg(
        long = "weight_decay", value_name = "COEFFICIENT", default_value_t = 5e-4,
        value_parser = not_negative, help_heading = "Training"
    )]
    pub weight_decay: f64,
    /// Random changes of the training images: flips, crops and brightness; in the native recipe those of
    /// --augmentations
    #[arg(long, help_heading = "Training")]
    pub augment: bool,
    /// Seed of everything random: weights, folds, order, augmentation, dropout
    #[arg(
        long, value_name = "N", default_value_t = 0, value_parser = whole(0..=u32::MAX as u64),
        help_heading = "Training"
    )]
    pub seed: u64,
    /// Filters of the first level; each level down doubles them [default: 64, or what the checkpoint holds]
    #[arg(long = "base_filters", value_name = "N", value_parser = whole(1..=1024), help_heading = "Training")]
    pub base_filters: Option<u64>,
    /// Steps between two validations while training goes on, each of all validation slices
    #[arg(
        long = "evaluate_every", value_name = "N", value_parser = whole(1..=1_000_000_000), help_heading = "Training"
    )]
    pub evaluate_every: Option<u64>,
    /// With --evaluate_every: keep the weights that score best in this, as best.safetensors
    #[arg(long = "keep_best", value_name = "METRIC", value_enum, help_heading = "Training")]
    pub keep_best: Option<Metric>,
    /// With --evaluate_every: stop after so many validations in a row without a better score in --keep_best's metric,
    /// or in eval_total_loss
    #[arg(long, value_name = "N", value_parser = whole(1..=1_000_000), help_heading = "Training")]
    pub patience: Option<u64>,
    /// Weights that evaluation and prediction use: those of the last step, or the best ones of --keep_best
    #[arg(
        long, value_name = "WHICH", value_enum, default_value_t = WeightsChoice::Last, help_heading = "Training"
    )]
    pub weights: WeightsChoice,
    /// Steps between two lines of losses
    #[arg(
        long = "log_every", value_name = "N", default_value_t = 100, value_parser = whole(1..=1_000_000_000),
        help_heading = "Training"
    )]
    pub log_every: u64,

    /// Where to compute; auto takes the first GPU, or the CPU where there is none
    #[arg(
        long, value_name = "DEVICE", value_enum, default_value_t = DeviceChoice::Auto,
        help_heading = "Device and precision"
    )]
    pub device: DeviceChoice,
    /// Mixed precision: float16 with loss scaling on a GPU, bfloat16 on the CPU
    #[arg(long, visible_alias = "use_amp", help_heading = "Device and precision")]
    pub amp: bool,
    /// Dtype of --amp [default: float16 on a GPU, bfloat16 on the CPU]
    #[arg(long = "amp_dtype", value_name = "DTYPE", value_enum, help_heading = "Device and precision")]
    pub amp_dtype: Option<AmpDtype>,
    /// Multiply float32 in full on a GPU; by default convolutions round to TF32, as the reference's
    #[arg(long = "no_tf32", help_heading = "Device and precision")]
    pub no_tf32: bool,
    /// The same bits from run to run on a GPU: deterministic cuDNN without autotuning, which is slower. The CPU's are
    /// so anyway
    #[arg(long, help_heading = "Device and precision")]
    pub deterministic: bool,
    /// Plan a step once and replay it: planned memory on the CPU, a CUDA graph on a GPU. Same results. libtorch has no
    /// XLA
    #[arg(long, visible_alias = "use_xla", help_heading = "Device and precision")]
    pub xla: bool,

    /// Processes to start on this machine, one GPU each; on the CPU each gets its share of the threads
    #[arg(long = "nproc_per_node", value_name = "N", value_parser = whole(1..=1024), help_heading = "Several GPUs")]
    pub nproc_per_node: Option<u64>,
    /// Seconds that a process waits for the others, at the start and later
    #[arg(
        long = "dist_timeout", value_name = "SECONDS", default_value_t = 600,
        value_parser = whole(1..=604_800), help_heading = "Several GPUs"
    )]
    pub dist_timeout: u64,
}

/// Flags that only training reads. Given with another mode they get a warning.
pub const TRAINING_ONLY: &[&str] = &[
    "learning_rate",
    "weight_decay",
    "log_every",
    "augment",
    "checkpoint_every",
    "keep_checkpoints",
    "class_weights",
    "patch",
    "grey_scaling",
    "augmentations",
    "border_weight",
    "border_sigma",
    "rare_class_share",
    "schedule",
    "lr_warmup_steps",
    "ema",
    "dropout",
    "init",
    "init_from",
    "evaluate_every",
    "keep_best",
    "patience",
];
