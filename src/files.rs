//! Files that appear whole or not at all, JSON files among them, and their folders.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use tempfile::NamedTempFile;

/// How temporary names begin and end: by this the files of killed processes are known.
const PREFIX: &str = ".unet-";
const SUFFIX: &str = ".tmp";

/// A file being written under a temporary name beside its place. Dropped before `commit`, it leaves nothing.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temporary: NamedTempFile,
}

impl AtomicFile {
    /// Begins a file that will be, or replace, `path`.
    pub fn create(path: &Path) -> io::Result<Self> {
        if path.is_dir() || path.file_name().is_none() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let temporary = tempfile::Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            // Less the umask, as any new file.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder(path))?;
        Ok(Self { path: path.to_owned(), temporary })
    }

    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Where it is until `commit`.
    pub fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// Puts the file in its place, safe from a power cut.
    pub fn commit(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist(&self.path).map_err(|error| error.error)?;
        match File::open(folder(&self.path)).and_then(|folder| folder.sync_all()) {
            // Some network file systems cannot do this for a folder; the file is there.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            done => done,
        }
    }
}

/// Writes `path` so that at any moment it holds the old or the new content whole.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let attempt = || {
        let file = AtomicFile::create(path)?;
        file.file().write_all(bytes)?;
        file.commit()
    };
    attempt().with_context(|| format!("cannot write '{}'", path.display()))
}

/// Makes a write beyond the limit of a file's size (`ulimit -f`) an error, as on a full disk, in place of the end of
/// the process.
pub fn fail_beyond_size_limit() -> Result<()> {
    // A handler that does nothing takes the place of the signal's action.
    let handled = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
    handled.map(drop).context("cannot listen for signals")
}

/// Makes the folder that a result lies in.
pub fn create_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot make folder '{}'", folder.display()))
}

/// Writes `value` as indented JSON, atomically.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    write_atomically(path, &text)
}

/// Removes the temporary files of killed processes from `folder`, which need not be there.
pub fn remove_leftovers(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The folder of a file.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
