//! The flags of the subcommands: `unet phantom`, `unet score` and the others.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::{DeviceChoice, whole};

#[derive(Debug, Args)]
pub struct PhantomArgs {
    /// Folder for train-volume.tif, train-labels.tif, test-volume.tif and test-labels.tif
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Slices in each stack
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = whole(1..=100_000))]
    pub slices: u64,
    /// Height and width of a slice in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 512, value_parser = whole(16..=16_384))]
    pub size: u64,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole(0..=u64::MAX))]
    pub seed: u64,
    /// Replace stacks that are already there
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Folder with the stacks
    #[arg(long = "data_dir", value_name = "DIR")]
    pub data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// One file per fold: captured output, log.json or eval.json
    #[arg(value_name = "LOG", required = true)]
    pub logs: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// Stack of labels: 0 membrane; 1, 255 or 65535 inside a cell
    #[arg(long, value_name = "TIF")]
    pub labels: PathBuf,
    /// Stack of masks, or of probabilities of being inside a cell: float 0 to 1, 8-bit or 16-bit
    #[arg(long, value_name = "TIF")]
    pub prediction: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// What to check
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Filters of the first level; 64 is the full network, whose float64 takes minutes on a small CPU
    #[arg(long = "base_filters", value_name = "N", default_value_t = 16, value_parser = whole(1..=1024))]
    pub base_filters: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct LayersArgs {
    /// Images in a batch
    #[arg(long = "batch_size", value_name = "N", default_value_t = 1, value_parser = whole(1..=1024))]
    pub batch_size: u64,
    /// Filters of the first level; each level down doubles them
    #[arg(long = "base_filters", value_name = "N", default_value_t = 64, value_parser = whole(1..=1024))]
    pub base_filters: u64,
    /// Mixed precision: bfloat16
    #[arg(long)]
    pub amp: bool,
    /// Forward and backward instead of forward alone
    #[arg(long)]
    pub training: bool,
    /// Timed runs of each layer, of which the median counts; one more comes before them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole(1..=10_000))]
    pub repeats: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that will read the script
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command that the page is about; without it the program as a whole
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Folder with the weights of a run, model.safetensors
    #[arg(long = "model_dir", value_name = "DIR")]
    pub model_dir: PathBuf,
    /// Format of the file
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub to: ExportFormat,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Weights in float16, and the arithmetic too where a GPU does it; input and output stay float32
    #[arg(long, visible_alias = "use_amp")]
    pub amp: bool,
    /// Logits as output, in place of the softmax probabilities that the reference exports
    #[arg(long = "no_softmax")]
    pub no_softmax: bool,
    /// Height of the input in pixels; the output has 184 less
    #[arg(long, value_name = "PIXELS", default_value_t = 572, value_parser = whole(1..=16_384))]
    pub height: u64,
    /// Width of the input in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 572, value_parser = whole(1..=16_384))]
    pub width: u64,
    /// Inputs of any height and width that fit the network; the number of images is free in any case
    #[arg(long, conflicts_with_all = ["height", "width"])]
    pub dynamic: bool,
    /// Folder with stacks, to check the file on a slice of theirs and to write their range of values into it [default:
    /// a synthetic slice, the range of the training]
    #[arg(long = "data_dir", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Replace a file that is already there
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// For ONNX Runtime, TensorRT, OpenVINO and others
    Onnx,
    /// For libtorch and PyTorch
    Torchscript,
}
