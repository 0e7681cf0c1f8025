//! The folder that masks are written to: names, who may write there, and what made the masks that are there.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::job::{Job, Record, stem};
use super::reader::mask_suffix;
use crate::data::image_file::has_image_suffix;
use crate::data::layout::Case;
use crate::distributed::world::World;
use crate::files::{remove_leftovers, write_json};

/// The record beside the masks.
const RECORD: &str = "unet-predictions.json";
/// How the names of pictures begin that are drawn for people.
const PICTURES: &str = "unet-";

/// The record: what made the images in the folder, but for the others.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    #[serde(flatten)]
    record: Record,
    /// Names of images that something else made: earlier weights, or somebody.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    others: BTreeSet<String>,
}

/// An output folder that is open for this run.
pub struct OutputFolder {
    path: PathBuf,
    has_probabilities: bool,
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
        let folder = Self { path: job.output.clone(), has_probabilities: job.save_probabilities, _lock: None };
        world.on_main("output folder", || {
            lock = Some(folder.prepare(job)?);
            Ok(())
        })?;
        Ok(Self { _lock: lock, ..folder })
    }

    fn prepare(&self, job: &Job<'_>) -> Result<File> {
        let shown = self.path.display();
        if self.path.is_file() {
            bail!("--output '{shown}' is a file, expected a folder for the masks; give another name");
        }
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
        let others = self.others(job)?;
        self.write_record(job, others)?;
        Ok(lock)
    }

    fn read_record(&self) -> Option<Made> {
        serde_json::from_slice(&fs::read(self.path.join(RECORD)).ok()?).ok()
    }

    fn write_record(&self, job: &Job<'_>, others: BTreeSet<String>) -> Result<()> {
        write_json(&self.path.join(RECORD), &Made { record: job.record.clone(), others })
    }

    /// The images in the folder that this network has not made.
    ///
    /// Errors: results of this job among them, which would be taken for its own.
    fn others(&self, job: &Job<'_>) -> Result<BTreeSet<String>> {
        let made = self.read_record();
        let has_record = made.is_some();
        let others = match made {
            Some(made) if made.record == job.record => made.others,
            _ => self.images()?,
        };
        let mut results = job.cases.iter().flat_map(|case| self.results(case));
        let is_other = |path: &PathBuf| others.contains(&name(path)) && path.exists();
        let Some(path) = results.find(is_other).filter(|_| !job.overwrite) else { return Ok(others) };
        let (shown, advice) = (path.display(), "give another --output, or --overwrite to replace it");
        match has_record {
            true => bail!("'{shown}' was made by other weights or in another precision; {advice}"),
            false => bail!("'{shown}' is there already, and '{RECORD}' does not say what made it; {advice}"),
        }
    }

    /// Names of the images in the folder, without the pictures for people.
    fn images(&self) -> Result<BTreeSet<String>> {
        let read = || fs::read_dir(&self.path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
        let paths = read().with_context(|| format!("cannot read the folder '{}'", self.path.display()))?;
        let names = paths.iter().filter(|path| has_image_suffix(path)).map(|path| name(path));
        Ok(names.filter(|name| !name.starts_with(PICTURES)).collect())
    }

    /// Records that all results of the job are there.
    pub fn end(&self, job: &Job<'_>) -> Result<()> {
        let Some(mut made) = self.read_record().filter(|made| !made.others.is_empty()) else { return Ok(()) };
        for path in job.cases.iter().flat_map(|case| self.results(case)) {
            made.others.remove(&name(&path));
        }
        self.write_record(job, made.others)
    }

    /// Whether a case is done.
    pub fn has(&self, case: &Case) -> bool {
        self.results(case).iter().all(|path| path.exists())
    }

    /// What is written of a case.
    fn results(&self, case: &Case) -> Vec<PathBuf> {
        let probabilities = self.has_probabilities.then(|| self.probabilities(case));
        std::iter::once(self.mask(case)).chain(probabilities).collect()
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

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
