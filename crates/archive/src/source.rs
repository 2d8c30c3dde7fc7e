//! Files on their way into an archive.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::{ArchiveError, platform};

/// A file, directory or link as it is on disk. Sockets, pipes and devices have none.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) kind: SourceKind,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) modified: i64,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceKind {
    File,
    Directory,
    Link,
}

impl Source {
    /// Looks at a path below `root` without following it.
    pub(crate) fn look(root: &Path, path: &Path) -> Result<Option<Self>, ArchiveError> {
        let full = root.join(path);
        let metadata = fs::symlink_metadata(&full).map_err(ArchiveError::io(full))?;
        let kind = match metadata.file_type() {
            kind if kind.is_file() => SourceKind::File,
            kind if kind.is_dir() => SourceKind::Directory,
            kind if kind.is_symlink() => SourceKind::Link,
            _ => return Ok(None),
        };
        let (mode, (user, group)) = platform::mode_and_owner(&metadata);
        Ok(Some(Self {
            path: path.to_owned(),
            kind,
            mode,
            modified: platform::modified(&metadata),
            user,
            group,
            size: metadata.len(),
        }))
    }

    /// Name in the archive: directories end in a slash.
    pub(crate) fn name(&self) -> Vec<u8> {
        let mut name = platform::to_name(self.path.as_os_str()).into_owned();
        if self.kind == SourceKind::Directory {
            name.push(b'/');
        }
        name
    }

    /// Where a link points.
    pub(crate) fn target(&self, root: &Path) -> Result<PathBuf, ArchiveError> {
        let full = root.join(&self.path);
        fs::read_link(&full).map_err(ArchiveError::io(full))
    }
}

/// Opens a file that was regular when it was looked at. A link that took its place is not followed, a
/// pipe not waited for.
pub(crate) fn open(root: &Path, path: &Path) -> Result<File, ArchiveError> {
    let full = root.join(path);
    match platform::open_no_follow(&full) {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(ArchiveError::NotRegular(path.to_owned())),
        Err(error) => Err(ArchiveError::io(full)(error)),
    }
}

/// The same for reading without a bound: anything that is no regular file by now is refused.
pub(crate) fn open_regular(root: &Path, path: &Path) -> Result<File, ArchiveError> {
    let file = open(root, path)?;
    let metadata = file.metadata().map_err(ArchiveError::io(root.join(path)))?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(ArchiveError::NotRegular(path.to_owned()))
    }
}
