//! The weight file that evaluation and prediction use: that of the last step or the best one, or of a stopped run its
//! newest checkpoint.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::checkpoint;
use crate::cli::WeightsChoice;
use crate::cli::config::Config;
use crate::data::layout::missing::explain_folder;
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
    /// intact checkpoint in place of the weights of its last step; so has one that went on from its weights and was
    /// stopped then.
    ///
    /// Errors: a folder that is none; checkpoints of which none can be read, where there are no weights.
    pub fn find(model_dir: &ModelDir, choice: WeightsChoice) -> Result<Self> {
        if let Some(problem) = explain_folder(model_dir.root()) {
            bail!("{problem}; weights are in the folder of a run (--model_dir)");
        }
        let path = written(model_dir, choice);
        let mut warnings = Vec::new();
        let made_at = checkpoint::made_at_step(&path);
        let newest = checkpoint::newest_step(&model_dir.checkpoints())?;
        let has_gone_on = made_at.zip(newest).is_some_and(|(made_at, newest)| newest > made_at);
        if choice == WeightsChoice::Best || (path.exists() && !has_gone_on) {
            return Ok(Self { path, warnings });
        }
        let newest = checkpoint::newest(&model_dir.checkpoints(), |text| warnings.push(text.to_owned()));
        let (why, newest) = match made_at {
            Some(step) => {
                let newest = newest.unwrap_or_else(|error| {
                    warnings.push(format!("{error:#}"));
                    None
                });
                let why = format!("'{}' is of step {step}, and the run has gone on since", path.display());
                (why, newest.filter(|(newest, _)| *newest > step))
            }
            None => {
                let without = || format!("no weights '{}', and of its checkpoints", path.display());
                let why = format!("no weights '{}', as the run has not come to its end", path.display());
                (why, newest.with_context(without)?)
            }
        };
        let Some((step, checkpoint)) = newest else { return Ok(Self { path, warnings }) };
        warnings.push(format!(
            "{why}: using the checkpoint of step {step}, '{}'; --resume_training goes on with the run",
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
