//! The flags of the subcommands: `unet phantom`, `unet score` and the others.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::native::NativeArgs;
use super::package::PackageArgs;
use super::values::{DeviceChoice, GreyRangeChoice, RecipeChoice, WeightsChoice, grey_range, whole};

#[derive(Debug, Args)]
pub struct PhantomArgs {
    /// Folder for the dataset
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Files to write. stacks: train-volume.tif, train-labels.tif, test-volume.tif and test-labels.tif. folders: a PNG
    /// for each slice in images/, masks/, test/ and test-masks/. nnunet: a raw dataset of nnU-Net v2, with a PNG for
    /// each channel of a slice in imagesTr/ and imagesTs/, class indices in labelsTr/ and labelsTs/, and dataset.json
    #[arg(long, value_name = "LAYOUT", value_enum, default_value_t = PhantomLayout::Stacks)]
    pub layout: PhantomLayout,
    /// Classes: membrane, cell, mitochondrion, vesicle, light cell, synapse, of which the first N. Labels of two are 0
    /// and 255, or 0 and 1 for nnunet; of more they are 0 to N - 1
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = whole(2..=6))]
    pub classes: u64,
    /// Channels: the microscope's picture, stains of membranes and of mitochondria, a gradient, of which the first N.
    /// Three are RGB; folders holds 1 or 3
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole(1..=4))]
    pub channels: u64,
    /// Slices for training, and as many for testing
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = whole(1..=100_000))]
    pub slices: u64,
    /// Height and width of a slice in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 512, value_parser = whole(16..=16_384))]
    pub size: u64,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole(0..=u64::MAX))]
    pub seed: u64,
    /// Replace files that are already there, and no others than those that are written
    #[arg(long)]
    pub overwrite: bool,
}

/// The files that `unet phantom` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PhantomLayout {
    /// Four TIFF stacks, as the ISBI 2012 challenge has them
    Stacks,
    /// A PNG for each slice, in folders of images and of masks
    Folders,
    /// A raw dataset of nnU-Net v2
    Nnunet,
}

// The flags of a dataset to look at. Not a doc comment: clap would make it the description of each command.
#[derive(Debug, Args)]
pub struct DatasetArgs {
    /// Folder of the dataset
    #[arg(long = "data_dir", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Which stored label values are which class, as in training
    #[arg(long = "label_map", value_name = "MAP")]
    pub label_map: Option<String>,
    /// Which stored values become black and white, as in training
    #[arg(
        long = "grey_range", value_name = "RANGE", default_value = "auto", value_parser = grey_range,
        allow_hyphen_values = true
    )]
    pub grey_range: GreyRangeChoice,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    #[command(flatten)]
    pub dataset: DatasetArgs,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PreviewArgs {
    #[command(flatten)]
    pub dataset: DatasetArgs,
    /// Picture to write, a PNG
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace a file that is already there
    #[arg(long)]
    pub overwrite: bool,
    /// Samples to draw: the first of a training on all slices with these flags
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = whole(1..=64))]
    pub samples: u64,
    /// How images become what the network sees, as in training
    #[arg(
        long, value_name = "RECIPE", value_enum, default_value_t = RecipeChoice::Reference, help_heading = "Recipe"
    )]
    pub recipe: RecipeChoice,
    #[command(flatten)]
    pub native: NativeArgs,
    /// Random changes of the samples, as in training
    #[arg(long, help_heading = "Recipe")]
    pub augment: bool,
    /// Seed of the training: order of the slices, windows, augmentation
    #[arg(
        long, value_name = "N", default_value_t = 0, value_parser = whole(0..=u32::MAX as u64),
        help_heading = "Recipe"
    )]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// One per run or fold: captured output, log.json, eval.json, or the model folder of the run
    #[arg(value_name = "LOG", required = true)]
    pub logs: Vec<PathBuf>,
    /// Write a page for browsers too: curves, scores, and the settings that differ, side by side
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Replace a file that is already there
    #[arg(long, requires = "html")]
    pub overwrite: bool,
}

#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// Stack of labels: 0 membrane; 1, 255 or 65535 inside a cell; or 0 to N - 1 for N classes
    #[arg(long, value_name = "TIF")]
    pub labels: PathBuf,
    /// Stack of masks, or of probabilities of being inside a cell: float 0 to 1, 8-bit or 16-bit
    #[arg(long, value_name = "TIF")]
    pub prediction: PathBuf,
    /// Values of the classes in both stacks, value,value=name;value=name, or a JSON file; scores each class
    #[arg(long = "label_map", value_name = "MAP")]
    pub label_map: Option<String>,
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
    /// Weights to export: those of the last step, or the best ones of --keep_best
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = WeightsChoice::Last)]
    pub weights: WeightsChoice,
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
    /// Height of the input in pixels; the output has 184 less [default: 572]
    #[arg(long, value_name = "PIXELS", value_parser = whole(1..=16_384))]
    pub height: Option<u64>,
    /// Width of the input in pixels [default: 572]
    #[arg(long, value_name = "PIXELS", value_parser = whole(1..=16_384))]
    pub width: Option<u64>,
    /// Inputs of any height and width that fit the network; the number of images is free in any case. Packages for
    /// bioimageio are so anyway
    #[arg(long, conflicts_with_all = ["height", "width"])]
    pub dynamic: bool,
    /// Folder with stacks, to check the file on a slice of theirs [default: a synthetic slice]
    #[arg(long = "data_dir", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Replace a file that is already there
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub package: PackageArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// For ONNX Runtime, TensorRT, OpenVINO and others
    Onnx,
    /// For libtorch and PyTorch
    Torchscript,
    /// A package for the BioImage Model Zoo, with both files, their description and test images
    Bioimageio,
}
