//! The values that flags take: choices by name, and numbers in a range.

use std::ops::RangeInclusive;
use std::path::{Component, PathBuf};

use clap::ValueEnum;

/// Which stored values become black and white.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GreyRangeChoice {
    /// The values that the training images use.
    Auto,
    /// The range of the sample type.
    Type,
    /// Black and white.
    Given(f64, f64),
}

impl GreyRangeChoice {
    /// The spelling of the flag's value.
    pub fn name(self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Type => "type".to_owned(),
            Self::Given(black, white) => format!("{black},{white}"),
        }
    }
}

/// Parses `auto`, `type`, or two numbers between a comma, the second above the first.
pub(super) fn grey_range(text: &str) -> Result<GreyRangeChoice, String> {
    match text {
        "auto" => return Ok(GreyRangeChoice::Auto),
        "type" => return Ok(GreyRangeChoice::Type),
        _ => {}
    }
    let number = |word: &str| word.trim().parse::<f64>().ok().filter(|value| value.is_finite());
    let pair = text.split_once(',').and_then(|(black, white)| Some((number(black)?, number(white)?)));
    match pair {
        Some((black, white)) if white > black => Ok(GreyRangeChoice::Given(black, white)),
        _ => Err("expected auto, type, or the values that are black and white, such as 0,4095".to_owned()),
    }
}

/// Fails for a path that begins with what a shell replaces, and has not: no folder of that name is to be made.
pub(super) fn path(path: PathBuf) -> Result<PathBuf, String> {
    let first = match path.components().next() {
        Some(Component::Normal(name)) => name.to_string_lossy(),
        _ => return Ok(path),
    };
    let example = match first.strip_prefix('$') {
        Some("") | None if first != "~" => return Ok(path),
        Some(_) => "write it without quotes",
        None => "write $HOME in its place",
    };
    Err(format!("the shell has not replaced '{first}'; {example}, or ./{first} if a folder is called so"))
}

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum ExecMode {
    Train,
    TrainAndPredict,
    Predict,
    Evaluate,
    TrainAndEvaluate,
}

/// Where a run computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// The first GPU, or the CPU where there is none
    Auto,
    Cpu,
    Cuda,
}

/// The dtype of mixed precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum AmpDtype {
    /// Needs loss scaling, which --amp then does; GPUs only
    #[value(alias = "fp16")]
    Float16,
    /// The range of float32 with fewer digits
    #[value(alias = "bf16")]
    Bfloat16,
}

/// How images become what the network sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum RecipeChoice {
    Reference,
    Native,
}

/// What grey levels are scaled by in the native recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum GreyScalingChoice {
    /// The range of the sample type becomes -1 to 1
    Range,
    /// Mean and deviation of each image become 0 and 1
    Image,
}

impl GreyScalingChoice {
    /// The spelling of the flag's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::Image => "image",
        }
    }
}

/// A kind of random change in the training of the native recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum AugmentationChoice {
    /// Mirror images and quarter turns
    Flips,
    /// Any angle, in a fifth of the samples
    Rotation,
    /// 0.7 to 1.4 times as large, in a fifth of the samples
    Scale,
    /// Smooth random displacement, about 10 pixels
    Elastic,
    /// Brightness, contrast, gamma, noise and blur
    Grey,
}

impl AugmentationChoice {
    /// The spelling of the flag's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flips => "flips",
            Self::Rotation => "rotation",
            Self::Scale => "scale",
            Self::Elastic => "elastic",
            Self::Grey => "grey",
        }
    }
}

/// How the learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum ScheduleChoice {
    Constant,
    Cosine,
    Poly,
}

impl ScheduleChoice {
    /// The spelling of the flag's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Cosine => "cosine",
            Self::Poly => "poly",
        }
    }
}

/// How fresh weights are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum InitChoice {
    Glorot,
    He,
}

impl InitChoice {
    /// The spelling of the flag's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Glorot => "glorot",
            Self::He => "he",
        }
    }
}

/// Which weights of a run are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum WeightsChoice {
    /// Weights after the last step
    Last,
    /// Weights that scored best in validation
    Best,
}

/// A score of validation, by its key in eval.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Metric {
    EvalTotalLoss,
    EvalCeLoss,
    EvalDiceLoss,
    EvalDiceScore,
    VRandThin,
    VInfoThin,
    #[value(name = "rand_error_2012")]
    RandError2012,
    #[value(name = "pixel_error_2012")]
    PixelError2012,
    Dice,
    Iou,
    MeanDice,
    MeanIou,
    Accuracy,
}

impl Metric {
    /// The key in eval.json, which is the spelling of the flag's value.
    pub fn key(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether a higher score is better.
    pub fn is_higher_better(self) -> bool {
        use Metric::{EvalCeLoss, EvalDiceLoss, EvalTotalLoss, PixelError2012, RandError2012};
        !matches!(self, EvalTotalLoss | EvalCeLoss | EvalDiceLoss | RandError2012 | PixelError2012)
    }

    /// Whether only data of two classes without ignored pixels has it.
    pub fn is_of_challenge(self) -> bool {
        use Metric::{Dice, Iou, PixelError2012, RandError2012, VInfoThin, VRandThin};
        matches!(self, VRandThin | VInfoThin | RandError2012 | PixelError2012 | Dice | Iou)
    }
}

/// How much each class counts in the cross entropy.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub enum ClassWeights {
    /// The inverse of its share of the labels.
    Balanced,
    /// In the order of the class indices.
    Given(Vec<f64>),
}

impl ExecMode {
    pub fn trains(self) -> bool {
        matches!(self, Self::Train | Self::TrainAndPredict | Self::TrainAndEvaluate)
    }

    pub fn evaluates(self) -> bool {
        matches!(self, Self::Evaluate | Self::TrainAndEvaluate)
    }

    pub fn predicts(self) -> bool {
        matches!(self, Self::Predict | Self::TrainAndPredict)
    }

    /// The spelling of the flag's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::TrainAndPredict => "train_and_predict",
            Self::Predict => "predict",
            Self::Evaluate => "evaluate",
            Self::TrainAndEvaluate => "train_and_evaluate",
        }
    }
}

/// Parses a whole number in `range`.
pub(super) fn whole(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse::<u64>() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(format!("expected a whole number from {} to {}", range.start(), range.end())),
    }
}

/// Parses a finite number above 0.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number above 0".to_owned()),
    }
}

/// Parses a finite number of 0 or more.
pub(super) fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number of 0 or more".to_owned()),
    }
}

/// Parses `balanced`, or numbers of 0 or more between commas.
pub(super) fn class_weights(text: &str) -> Result<ClassWeights, String> {
    if text == "balanced" {
        return Ok(ClassWeights::Balanced);
    }
    let weights: Result<Vec<f64>, String> = text.split(',').map(|word| not_negative(word.trim())).collect();
    match weights {
        Ok(weights) if weights.iter().any(|&weight| weight > 0.0) => Ok(ClassWeights::Given(weights)),
        _ => Err("expected 'balanced', or a number of 0 or more for each class, such as 1,5,2".to_owned()),
    }
}

/// Parses a number of 0 or more, below 1.
pub(super) fn below_one(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..1.0).contains(&value) => Ok(value),
        _ => Err("expected a number of 0 or more, below 1".to_owned()),
    }
}

/// Parses a number from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}
