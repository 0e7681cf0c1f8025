//! The folder that masks are written to: names, who may write there, and what made the masks that are there.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::job::{Job, Record, stem};
use super::reader::mask_suffix;
use crate::data::layout::Case;
use crate::distributed::world::World;
use crate::files::{remove_leftovers, write_json};

/// The record beside the masks.
const RECORD: &str = "unet-predictions.json";

/// An output folder that is open for this run.
pub struct OutputFolder {
    path: PathBuf,
    /// Held as long as this run writes; `None` on other ranks than 0.
    _lock: Option<File>,
}

impl OutputFolder {
    /// Makes the folder, or opens one that is there, before anything is computed.
    ///
    /// Errors: results that would replace the images themselves, another run that writes there, masks of another
    /// network or without a record.
    pub fn open(world: &World, job: &Job<'_>) -> Result<Self> {
        let mut lock = None;
        let folder = Self { path: job.output.clone(), _lock: None };
        world.on_main("output folder", || {
            lock = Some(folder.prepare(job)?);
            Ok(())
        })?;
        Ok(Self { _lock: lock, ..folder })
    }

    fn prepare(&self, job: &Job<'_>) -> Result<File> {
        let shown = self.path.display();
        fs::create_dir_all(&self.path)
            .and_then(|()| tempfile::tempfile_in(&self.path).map(drop))
            .with_context(|| format!("cannot write to --output '{shown}'"))?;
        let here = self.path.canonicalize().with_context(|| format!("cannot open --output '{shown}'"))?;
        for path in job.cases.iter().flat_map(|case| &case.images) {
            let folder =
                path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
            if folder.is_some_and(|folder| folder.canonicalize().is_ok_and(|folder| folder == here)) {
                bail!("--output '{shown}' holds '{}', which is an input; give another folder", path.display());
            }
        }
        let lock = File::open(&self.path).with_context(|| format!("cannot open --output '{shown}'"))?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            bail!("another run is writing to --output '{shown}'; wait for it, stop it, or use another folder");
        }
        remove_leftovers(&self.path).with_context(|| format!("cannot clear '{shown}'"))?;
        self.check_record(job)?;
        write_json(&self.path.join(RECORD), &job.record)?;
        Ok(lock)
    }

    /// Errors: masks that this network has not made, which would be taken for its own.
    fn check_record(&self, job: &Job<'_>) -> Result<()> {
        let Some(case) = job.cases.iter().find(|case| self.has(case)).filter(|_| !job.overwrite) else { return Ok(()) };
        let (shown, advice) = (self.mask(case), "give another --output, or --overwrite to replace it");
        let record = fs::read(self.path.join(RECORD)).ok();
        match record.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok()) {
            Some(record) if record == job.record => Ok(()),
            Some(_) => bail!("'{}' was made by other weights or in another precision; {advice}", shown.display()),
            None => bail!("'{}' is there already, and '{RECORD}' does not say what made it; {advice}", shown.display()),
        }
    }

    /// Whether a case is done.
    pub fn has(&self, case: &Case) -> bool {
        self.mask(case).exists()
    }

    pub fn mask(&self, case: &Case) -> PathBuf {
        self.named(case, &format!(".{}", mask_suffix(&case.images[0])))
    }

    pub fn probabilities(&self, case: &Case) -> PathBuf {
        self.named(case, "-probabilities.tif")
    }

    /// Some images with their masks, as a picture.
    pub fn overview(&self) -> PathBuf {
        self.path.join("unet-overview.png")
    }

    fn named(&self, case: &Case, ending: &str) -> PathBuf {
        let mut name = stem(case).as_os_str().to_owned();
        name.push(ending);
        self.path.join(name)
    }
}
