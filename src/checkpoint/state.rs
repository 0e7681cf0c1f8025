//! What files say of themselves besides their tensors.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::data::spec::DataSpec;
use crate::model::architecture::Architecture;

/// The name of the setting that says which kernels compute.
pub const KERNELS: &str = "kernels";

/// Raised when older programs could no longer read the files.
pub const FORMAT: u32 = 1;

/// What a weight file says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WeightsHeader {
    format: u32,
    pub architecture: Architecture,
    /// What the network is for; files of 0.1.0 have none, and are for the ISBI 2012 stacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataSpec>,
    /// The step that has made these weights; files of 0.1.0 do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_at_step: Option<u64>,
    /// Why these weights were kept; `None` for those of the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestScore>,
}

impl WeightsHeader {
    pub fn new(architecture: Architecture, data: DataSpec, step: u64, best: Option<BestScore>) -> Self {
        Self { format: FORMAT, architecture, data: Some(data), made_at_step: Some(step), best }
    }
}

/// What tells a checkpoint from a weight file, and which of its tensors predict.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckpointMark {
    /// `None` in weight files.
    pub step: Option<u64>,
    #[serde(default)]
    pub has_averages: bool,
}

impl CheckpointMark {
    /// What stands before the names of the parameters that predict.
    pub fn prefix(&self) -> &'static str {
        match (self.step, self.has_averages) {
            (None, _) => "",
            (Some(_), false) => "model.",
            (Some(_), true) => "ema.",
        }
    }
}

/// What a checkpoint says of itself: everything that is not a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingState {
    format: u32,
    pub architecture: Architecture,
    #[serde(flatten)]
    pub progress: Progress,
    /// Adam's updates; fewer than `step` where float16 overflowed.
    pub updates: f64,
    pub loss_scale: f64,
    pub growth_tracker: i64,
    /// Whether a moving average of the parameters is kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_averages: bool,
    /// The scores of validation so far; `None` before the first, and where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationState>,
    /// What the network is for; files of 0.1.0 do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataSpec>,
    /// What a run that goes on must have in common with this one.
    pub settings: Map<String, Value>,
}

/// How far training has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Optimiser steps made since the start of training, those before a resume included.
    pub step: u64,
    /// Batches trained on, of all ranks together: what `--max_steps` counts.
    pub batches: u64,
    /// Samples trained on: where the order of samples goes on.
    pub samples: u64,
}

/// What validation has found up to the step of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationState {
    /// The step after which the validation slices were scored last.
    pub last: u64,
    /// Validations since the best one.
    pub since_best: u64,
    /// `None` where no score was a number.
    pub best: Option<BestScore>,
}

/// The best score of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestScore {
    /// The key of the score in eval.json.
    pub metric: String,
    pub score: f64,
    /// The step that has made these weights.
    pub step: u64,
}

impl TrainingState {
    pub fn new(
        architecture: Architecture,
        progress: Progress,
        updates: f64,
        (loss_scale, growth_tracker): (f64, i64),
        settings: Map<String, Value>,
    ) -> Self {
        Self {
            format: FORMAT,
            architecture,
            progress,
            updates,
            loss_scale,
            growth_tracker,
            has_averages: false,
            validation: None,
            data: None,
            settings,
        }
    }

    /// What to tell people where other kernels compute now than before: the run goes on, with results that differ in
    /// their last digits.
    pub fn kernels_warning(&self, settings: &Map<String, Value>) -> Option<String> {
        let (was, now) = (self.settings.get(KERNELS)?.as_str()?, settings.get(KERNELS)?.as_str()?);
        (was != now).then(|| {
            format!(
                "the checkpoint of step {} was computed by {was}, this run computes by {now}: results differ in their \
                 last digits from those of an unbroken run",
                self.progress.step
            )
        })
    }

    /// Refuses to go on with other settings than this state was made with: a line for each difference.
    pub fn require_settings(&self, settings: &Map<String, Value>) -> Result<()> {
        let was = |name: &String| self.settings.get(name).unwrap_or(&Value::Null);
        let differences: Vec<String> = settings
            .iter()
            .filter(|(name, value)| *name != KERNELS && was(name) != *value)
            .map(|(name, value)| format!("\n  {name}: {} in the checkpoint, {value} now", was(name)))
            .collect();
        if !differences.is_empty() {
            bail!(
                "--resume_training: this is not the run that the checkpoint of step {} belongs to; give its flags and \
                 data, or another --model_dir{}",
                self.progress.step,
                differences.concat()
            );
        }
        Ok(())
    }
}
