//! Archives of artifacts and caches: zip, tar, gzip, zstd; globs and file selection; safe extraction.
//!
//! In: a working directory and paths or globs ([`select`]), or an archive file of unknown origin. Out:
//! an archive ([`write()`]), or files below one directory and nowhere else ([`extract()`]). Blocking, no
//! network. What an archive says is never trusted: see [`Limits`] and [`ArchiveError::Outside`].
//! Facts: `runner-build-lifecycle.md` 4.2 to 4.4, 4.7.
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! # std::fs::write(directory.path().join("a.txt"), "hello")?;
//! use courser_archive::{Format, Level, Limits, Wanted, extract, select, write};
//!
//! let wanted = Wanted { paths: &["*.txt".into()], exclude: &[], untracked: None };
//! let files = select(directory.path(), wanted).files;
//! let mut zip = tempfile::tempfile()?;
//! write(Format::Zip, Level::Default, directory.path(), &files, &mut zip)?;
//!
//! let elsewhere = tempfile::tempdir()?;
//! extract(zip, elsewhere.path(), &Limits::default())?;
//! assert_eq!(std::fs::read(elsewhere.path().join("a.txt"))?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod destination;
mod error;
mod format;
mod glob;
mod gzip;
mod in_order;
mod pack;
#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod platform;
mod selection;
mod single;
mod source;
mod tar_zstd;
#[cfg(any(windows, test))]
mod windows_names;
mod zip_reader;
mod zip_writer;

pub use destination::Limits;
pub use error::ArchiveError;
pub use format::{Format, Level, extract, write};
pub use glob::{Glob, GlobError};
pub use selection::{Finding, Selection, Wanted, is_excluded, select};
pub use single::read_file;

/// How far back Zstandard may refer: 32 MiB, the most that gitlab-runner's library writes. The format
/// allows a thousand times that, and a reader has to keep it in memory.
const MAX_ZSTD_WINDOW_LOG: u32 = 25;

/// Threads for one archive: more than four gain little, and each keeps its buffers.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(4))
}
