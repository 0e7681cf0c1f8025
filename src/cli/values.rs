//! The values that flags take: choices by name, and numbers in a range.

use std::ops::RangeInclusive;

use clap::ValueEnum;

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
