//! The folder of a run: which file is where, and who may write there.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::tensorboard;
use crate::files;

/// `--model_dir` and the files in it.
#[derive(Debug, Clone)]
pub struct ModelDir {
    root: PathBuf,
}

impl ModelDir {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Final weights.
    pub fn weights(&self) -> PathBuf {
        self.root.join("model.safetensors")
    }

    /// The weights that scored best in validation.
    pub fn best_weights(&self) -> PathBuf {
        self.root.join("best.safetensors")
    }

    /// Settings, versions and data of the run.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.json")
    }

    /// Scores of the validation slices.
    pub fn scores(&self) -> PathBuf {
        self.root.join("eval.json")
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Losses by step, as a table and as a picture.
    pub fn losses(&self) -> PathBuf {
        self.root.join("learning_curves.csv")
    }

    pub fn learning_curves(&self) -> PathBuf {
        self.root.join("learning_curves.png")
    }

    /// Some validation slices as a picture.
    pub fn evaluation_sheet(&self) -> PathBuf {
        self.root.join("eval.png")
    }

    /// Pixels by label and prediction, as a table and as a picture.
    pub fn confusion_table(&self) -> PathBuf {
        self.root.join("confusion.csv")
    }

    pub fn confusion_matrix(&self) -> PathBuf {
        self.root.join("confusion.png")
    }

    /// Settings, curves, scores and slices for a browser.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// The folder of predictions.
    pub fn predictions(&self) -> PathBuf {
        self.root.join("pred")
    }

    pub fn masks(&self) -> PathBuf {
        self.root.join("pred").join("test-masks.tif")
    }

    pub fn probabilities(&self) -> PathBuf {
        self.root.join("pred").join("test-probabilities.tif")
    }

    /// Some test slices as a picture.
    pub fn prediction_sheet(&self) -> PathBuf {
        self.root.join("pred").join("test-overview.png")
    }

    /// Makes the folder and proves that it can be written to, before any work is done.
    ///
    /// Errors: a file in its place, no permission, a full disk.
    pub fn create(&self) -> Result<()> {
        if self.root.is_file() {
            bail!("--model_dir '{}' is a file, expected a folder; give another name", self.root.display());
        }
        fs::create_dir_all(&self.root)
            .and_then(|()| tempfile::tempfile_in(&self.root).map(drop))
            .with_context(|| format!("cannot write to --model_dir '{}'", self.root.display()))
    }

    /// Makes this process the only one that writes here, for as long as it keeps the result, and clears away what
    /// killed ones have left unfinished.
    ///
    /// Errors: another one does.
    pub fn lock(&self) -> Result<File> {
        let unreadable = || format!("cannot open --model_dir '{}'", self.root.display());
        let folder = File::open(&self.root).with_context(unreadable)?;
        match folder.try_lock() {
            Err(TryLockError::WouldBlock) => bail!(
                "another run is writing to --model_dir '{}'; wait for it, stop it, or use another --model_dir",
                self.root.display()
            ),
            // Some network file systems lock no folders. There two runs are not kept apart.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        for folder in [self.root.clone(), self.checkpoints(), self.root.join("pred")] {
            files::remove_leftovers(&folder).with_context(|| format!("cannot clear '{}'", folder.display()))?;
        }
        Ok(folder)
    }

    /// The files and folders that training would replace.
    pub fn run_files(&self) -> Vec<PathBuf> {
        let training = [
            self.config(),
            self.weights(),
            self.best_weights(),
            self.checkpoints(),
            self.losses(),
            self.learning_curves(),
            self.report(),
        ];
        let results = [self.scores(), self.evaluation_sheet(), self.confusion_table(), self.confusion_matrix()];
        let predictions = [self.masks(), self.probabilities(), self.prediction_sheet()];
        let events = tensorboard::event_files(&self.root);
        training.into_iter().chain(results).chain(predictions).filter(|path| path.exists()).chain(events).collect()
    }

    /// Refuses to train where a run is kept already.
    pub fn refuse_existing_run(&self) -> Result<()> {
        if let Some(path) = self.run_files().first() {
            bail!(
                "--model_dir '{}' already holds a run ('{}'); use --resume_training to go on with it, \
                 --overwrite to replace it, or another --model_dir",
                self.root.display(),
                path.strip_prefix(&self.root).unwrap_or(path).display()
            );
        }
        Ok(())
    }

    /// Refuses to replace results unless that was asked for.
    pub fn refuse_existing(&self, results: &[PathBuf]) -> Result<()> {
        if let Some(path) = results.iter().find(|path| path.exists()) {
            bail!("'{}' is there already; use --overwrite to replace it, or move it away", path.display());
        }
        Ok(())
    }
}
