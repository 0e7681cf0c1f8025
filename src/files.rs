//! Files that appear whole or not at all, JSON files among them, and their folders.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

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

/// Makes a folder under a temporary name beside `path`; it is removed when the result is dropped.
pub fn temporary_folder(path: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).tempdir_in(folder(path))
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

/// Reads a JSON file; `None` where it is absent.
///
/// Errors: a file that cannot be read, or is not JSON.
pub fn read_json(path: &Path) -> Result<Option<Value>> {
    if !path.exists() {
        return Ok(None);
    }
    let unusable = || format!("cannot read '{}'", path.display());
    serde_json::from_slice(&fs::read(path).with_context(unusable)?).map(Some).with_context(unusable)
}

/// Removes the temporary files and folders of killed processes from `folder`, which need not be there.
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
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// The folder that a file lies in: `.` for a name alone.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_and_folders_of_killed_processes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path(".unet-a.tmp"), "part").unwrap();
        fs::create_dir(path(".unet-b.tmp")).unwrap();
        fs::write(path(".unet-b.tmp/part"), "part").unwrap();
        fs::write(path("mine.tmp"), "mine").unwrap();
        remove_leftovers(folder.path()).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["mine.tmp"]);
    }
}
