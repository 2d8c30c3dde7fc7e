//! Files on Windows, type-checked only (`cargo xtask check-platforms`): nothing of this has run yet.
//!
//! There are no modes: who may read a file follows from the directory that it is in, and a user's own directories are
//! that user's only.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Makes new files; the mode is nothing that Windows knows.
pub(crate) fn new_file(_mode: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    options
}

/// Makes directories, with those above.
pub(crate) fn private_directories() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    builder
}

/// The mode is nothing that Windows knows.
pub(crate) fn set_mode(_file: &File, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// No mode keeps the user out of a directory.
pub(crate) fn open_up(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// A path as Git writes it: UTF-8.
pub(crate) fn path_of(name: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(name).into_owned())
}

/// An open file always has its name.
pub(crate) fn nameless(_file: &File) -> Option<PathBuf> {
    None
}
