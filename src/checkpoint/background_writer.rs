//! Writes checkpoints on a thread of its own, one at a time, so that training need not wait for the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};

use super::{Snapshot, checkpoint_path, list, write};

/// Keeps the newest checkpoints of a folder.
pub struct BackgroundWriter {
    folder: PathBuf,
    keep: usize,
    /// The checkpoint that is being written.
    running: Option<JoinHandle<Result<()>>>,
}

impl BackgroundWriter {
    /// `keep` is at least 1.
    pub fn new(folder: &Path, keep: usize) -> Self {
        Self { folder: folder.to_owned(), keep, running: None }
    }

    /// Begins to write `snapshot`, after the one before: never more than one waits in memory besides that of the
    /// caller.
    ///
    /// Errors: what the writing of the one before has met. This one is begun in any case.
    pub fn save(&mut self, snapshot: Snapshot) -> Result<()> {
        let before = self.finish();
        let (folder, keep) = (self.folder.clone(), self.keep);
        self.running = Some(thread::spawn(move || write(&folder, keep, &snapshot)));
        before
    }

    /// The outcome of the last checkpoint if it has been written; does not wait.
    pub fn poll(&mut self) -> Result<()> {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) { self.finish() } else { Ok(()) }
    }

    /// Waits until the last checkpoint is safe on disk.
    pub fn finish(&mut self) -> Result<()> {
        let Some(running) = self.running.take() else { return Ok(()) };
        running.join().unwrap_or_else(|_| Err(anyhow!("the thread that writes checkpoints has panicked")))
    }
}

impl Drop for BackgroundWriter {
    /// A run that fails leaves what it has begun to write whole.
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// Older checkpoints go when the new one is safe, not before.
fn write(folder: &Path, keep: usize, snapshot: &Snapshot) -> Result<()> {
    let step = snapshot.state.progress.step;
    write::write(&checkpoint_path(folder, step), &snapshot.tensors, &snapshot.state)?;
    let mut older: Vec<_> = list(folder)?.into_iter().filter(|(other, _)| *other < step).collect();
    older.truncate(older.len().saturating_sub(keep - 1));
    for (_, path) in older {
        fs::remove_file(&path).with_context(|| format!("cannot remove the old checkpoint '{}'", path.display()))?;
    }
    Ok(())
}
