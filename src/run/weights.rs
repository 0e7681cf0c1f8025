//! The weight file that evaluation and prediction use: that of the last step or the best one, or of a stopped run its
//! newest checkpoint.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::checkpoint;
use crate::cli::WeightsChoice;
use crate::cli::config::Config;
use crate::output::model_dir::ModelDir;

/// A file with the weights in use.
pub struct WeightFile {
    pub path: PathBuf,
    /// What people should know of it.
    pub warnings: Vec<String>,
}

/// Where a run writes the weights of this kind.
fn written(model_dir: &ModelDir, choice: WeightsChoice) -> PathBuf {
    match choice {
        WeightsChoice::Last => model_dir.weights(),
        WeightsChoice::Best => model_dir.best_weights(),
    }
}

impl WeightFile {
    /// The file that `choice` means in a folder of a run; it need not be there. A run that was stopped has its newest
    /// intact checkpoint in place of the weights of its last step.
    ///
    /// Errors: checkpoints of which none can be read.
    pub fn find(model_dir: &ModelDir, choice: WeightsChoice) -> Result<Self> {
        let path = written(model_dir, choice);
        let mut warnings = Vec::new();
        if path.exists() || choice == WeightsChoice::Best {
            return Ok(Self { path, warnings });
        }
        let newest = checkpoint::newest(&model_dir.checkpoints(), |text| warnings.push(text.to_owned()));
        let newest = newest.with_context(|| format!("no weights '{}', and of its checkpoints", path.display()))?;
        let Some((step, checkpoint)) = newest else { return Ok(Self { path, warnings }) };
        warnings.push(format!(
            "no weights '{}', as the run has not come to its end: using the checkpoint of step {step}, '{}'; \
             --resume_training goes on with the run",
            path.display(),
            checkpoint.display()
        ));
        Ok(Self { path: checkpoint, warnings })
    }

    /// The file of this run. Training makes its own, and a benchmark random ones where there are none.
    pub fn of_run(config: &Config, model_dir: &ModelDir) -> Result<Self> {
        if config.exec_mode.trains() || config.benchmark.is_some() {
            return Ok(Self { path: written(model_dir, config.weights), warnings: Vec::new() });
        }
        Self::find(model_dir, config.weights)
    }

    /// Errors: no weights of the kind that is asked for.
    pub fn require(&self, config: &Config, model_dir: &ModelDir) -> Result<()> {
        if config.weights == WeightsChoice::Best && model_dir.weights().is_file() && !self.path.is_file() {
            bail!(
                "no best weights '{}': the run has kept none (--evaluate_every N --keep_best METRIC); leave --weights \
                 out to use those of its last step",
                self.path.display()
            );
        }
        checkpoint::require_weights(&self.path)
    }
}
