//! Emptying a directory on Windows, type-checked only: there the runner is the user whose jobs it runs.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Removes what is in a directory, which is no link; tells `done` of each file or directory in it, and how that
/// went.
pub(super) fn empty(
    directory: &Path,
    mut done: impl FnMut(PathBuf, io::Result<()>),
) -> io::Result<()> {
    if !fs::symlink_metadata(directory)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let removed = match entry.file_type()? {
            kind if kind.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        done(path, removed);
    }
    Ok(())
}
