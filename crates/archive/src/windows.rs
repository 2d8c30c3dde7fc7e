//! Files and directories on Windows, type-checked only (`cargo xtask check-platforms`): nothing of this has run yet.
//!
//! A directory is opened component by component. One that is a link of any kind (a reparse point) is refused, and the
//! handles of all are kept: while they are open nobody can rename, remove or replace these directories, so that what is
//! done below them by path is done there. Names that mean something else here than text are refused by `windows_names`.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Metadata, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink_dir, symlink_file};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::destination::{Attributes, NotOpened};

pub(crate) use crate::windows_names::{is_separator, unusable};

// `winnt.h` and `winbase.h`.
const FILE_SHARE_READ: u32 = 1;
const FILE_READ_ATTRIBUTES: u32 = 0x80;
const FILE_WRITE_ATTRIBUTES: u32 = 0x100;
const FILE_ATTRIBUTE_REPARSE_POINT: u32 = 0x400;
const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;

/// A name as archives have it.
pub(crate) fn to_name(path: &OsStr) -> Cow<'_, [u8]> {
    let text = path.to_string_lossy().replace('\\', "/");
    Cow::Owned(text.into_bytes())
}

/// A path of a name in an archive.
pub(crate) fn from_name(name: &[u8]) -> Cow<'_, Path> {
    Cow::Owned(PathBuf::from(
        String::from_utf8_lossy(name).replace('/', "\\"),
    ))
}

/// Mode bits as Go makes them up, then user and group, which there are none of.
pub(crate) fn mode_and_owner(metadata: &Metadata) -> (u32, (u32, u32)) {
    let mode = if metadata.is_dir() || metadata.is_symlink() {
        0o777
    } else if metadata.permissions().readonly() {
        0o444
    } else {
        0o666
    };
    (mode, (0, 0))
}

/// Seconds since 1970.
pub(crate) fn modified(metadata: &Metadata) -> i64 {
    let time = metadata.modified().unwrap_or(UNIX_EPOCH);
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => seconds(since),
        Err(before) => -seconds(before.duration()),
    }
}

/// Opens a file for reading. A link is not followed (`None`).
pub(crate) fn open_no_follow(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)?;
    Ok((!is_reparse_point(&file.metadata()?)).then_some(file))
}

/// Reads from a place, whatever other threads read.
pub(crate) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sets times, and whether it can be written, of a file.
pub(crate) fn set_file(file: &File, attributes: Attributes) -> io::Result<()> {
    set_times(file, attributes)?;
    if attributes.mode.is_some_and(|mode| mode & 0o200 == 0) {
        let mut permissions = file.metadata()?.permissions();
        permissions.set_readonly(true);
        file.set_permissions(permissions)?;
    }
    Ok(())
}

/// An open directory, with the handles of those above it up to the root.
pub(crate) struct Directory {
    path: PathBuf,
    handles: Arc<Pinned>,
}

/// A directory that stays where it is.
struct Pinned {
    #[expect(dead_code, reason = "it is held, not used")]
    handle: File,
    #[expect(dead_code, reason = "it is held, not used")]
    above: Option<Arc<Pinned>>,
}

impl Directory {
    /// Opens a directory wherever it lies.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let handle = pin(&path)?;
        Ok(Self {
            path,
            handles: Arc::new(Pinned {
                handle,
                above: None,
            }),
        })
    }

    /// Opens a directory below. No link is followed.
    pub(crate) fn beneath(&self, name: &[u8]) -> Result<Self, NotOpened> {
        let mut found = Self {
            path: self.path.clone(),
            handles: Arc::clone(&self.handles),
        };
        for component in name.split(|byte| *byte == b'/') {
            found.path.push(from_name(component));
            let handle = pin(&found.path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => NotOpened::Missing,
                _ => NotOpened::Other(error),
            })?;
            let metadata = handle.metadata().map_err(NotOpened::Other)?;
            if is_reparse_point(&metadata) {
                return Err(NotOpened::Elsewhere);
            }
            if !metadata.is_dir() {
                return Err(NotOpened::Other(io::ErrorKind::NotADirectory.into()));
            }
            found.handles = Arc::new(Pinned {
                handle,
                above: Some(found.handles),
            });
        }
        Ok(found)
    }

    /// Makes a directory in it; one that is there is kept.
    pub(crate) fn make_directory(&self, base: &[u8]) -> io::Result<()> {
        match fs::create_dir(self.join(base)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    /// Makes a file in it that was not there.
    pub(crate) fn create_new(&self, base: &[u8]) -> io::Result<File> {
        File::create_new(self.join(base))
    }

    /// Makes a symbolic link in it that was not there. Windows has two kinds, by what they lead to.
    pub(crate) fn link(&self, target: &[u8], base: &[u8]) -> io::Result<()> {
        let (target, link) = (from_name(target), self.join(base));
        if self.path.join(&target).is_dir() {
            symlink_dir(target, link)
        } else {
            symlink_file(target, link)
        }
    }

    /// Removes a file, a link or an empty directory.
    pub(crate) fn remove(&self, base: &[u8]) -> io::Result<()> {
        let path = self.join(base);
        if path.symlink_metadata()?.is_dir() {
            return fs::remove_dir(path);
        }
        // A link to a directory is removed as one.
        fs::remove_file(&path).or_else(|error| fs::remove_dir(&path).map_err(|_| error))
    }

    /// Sets its times. A directory that cannot be written is nothing that Windows knows.
    pub(crate) fn set(&self, attributes: Attributes) -> io::Result<()> {
        let handle = OpenOptions::new()
            .access_mode(FILE_READ_ATTRIBUTES | FILE_WRITE_ATTRIBUTES)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)
            .open(&self.path)?;
        set_times(&handle, attributes)
    }

    fn join(&self, base: &[u8]) -> PathBuf {
        self.path.join(from_name(base))
    }
}

/// Opens a directory, or the link itself, so that nobody renames, removes or turns it into a link.
fn pin(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .share_mode(FILE_SHARE_READ)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)
}

/// Links, junctions, mount points, and whatever else is not where its name is.
fn is_reparse_point(metadata: &Metadata) -> bool {
    metadata.file_attributes() & FILE_ATTRIBUTE_REPARSE_POINT != 0
}

fn set_times(file: &File, attributes: Attributes) -> io::Result<()> {
    let Some(seconds) = attributes.modified else {
        return Ok(());
    };
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    // Before 1601 there is no time on Windows.
    let Some(time) = time else { return Ok(()) };
    let times = FileTimes::new()
        .set_accessed(SystemTime::now())
        .set_modified(time);
    file.set_times(times)
}
