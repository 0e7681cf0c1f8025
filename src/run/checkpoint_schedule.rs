//! When checkpoints are written, and what becomes of those that cannot be written.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value};

use crate::checkpoint::{BackgroundWriter, ValidationState};
use crate::cli::config::Config;
use crate::data::spec::DataSpec;
use crate::engine::trainer::Trainer;
use crate::output::logger::Logger;
use crate::output::model_dir::ModelDir;

/// Time between two checkpoints where no number of steps is asked for.
const INTERVAL: Duration = Duration::from_secs(600);

/// Writes checkpoints beside training. One that cannot be written is a warning, for training goes on and the one before
/// it is there; only of the last one it is an error.
pub struct CheckpointSchedule {
    writer: BackgroundWriter,
    settings: Map<String, Value>,
    spec: DataSpec,
    every: Option<u64>,
    last: Instant,
}

impl CheckpointSchedule {
    /// `settings` are kept in each checkpoint, for a resumed run to be compared with, and `spec`, what the network is
    /// for, so that a checkpoint can stand for the weights.
    pub fn new(config: &Config, model_dir: &ModelDir, settings: Map<String, Value>, spec: &DataSpec) -> Self {
        let writer = BackgroundWriter::new(&model_dir.checkpoints(), config.keep_checkpoints);
        Self { writer, settings, spec: spec.clone(), every: config.checkpoint_every, last: Instant::now() }
    }

    /// Begins a checkpoint if one is due; to be called after each step.
    pub fn after_step(&mut self, trainer: &Trainer, validation: Option<&ValidationState>, logger: &Logger) {
        let due = match self.every {
            Some(steps) => trainer.progress.step.is_multiple_of(steps),
            None => self.last.elapsed() >= INTERVAL,
        };
        let before = if due {
            self.last = Instant::now();
            self.writer.save(trainer.snapshot(&self.settings, validation).for_data(&self.spec))
        } else {
            self.writer.poll()
        };
        if let Err(error) = before {
            logger.warn(&format!("{error:#}; training goes on, earlier checkpoints stay"));
        }
    }

    /// The last checkpoint; returns when it is safe on disk.
    pub fn finish(&mut self, trainer: &Trainer, validation: Option<&ValidationState>, logger: &Logger) -> Result<()> {
        if let Err(error) = self.writer.save(trainer.snapshot(&self.settings, validation).for_data(&self.spec)) {
            logger.warn(&format!("{error:#}"));
        }
        self.writer.finish()
    }
}
