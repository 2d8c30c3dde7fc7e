//! What can go wrong with an archive.

use std::io;
use std::path::PathBuf;

/// A failure to write, read or extract an archive. Every variant names the entry or file it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// A file, directory or link could not be read, made or changed.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The archive itself could not be written.
    #[error("writing the archive: {0}")]
    Output(#[source] io::Error),
    /// The archive is damaged, cut short or not an archive.
    #[error("damaged archive: {0}")]
    Damaged(String),
    /// An entry is damaged.
    #[error("{name}: damaged entry: {reason}")]
    DamagedEntry {
        /// Name of the entry.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// An entry would land outside of the directory (`runner-build-lifecycle.md` 4.7).
    #[error("{name} cannot be extracted outside of chroot ({})", root.display())]
    Outside {
        /// Name of the entry.
        name: String,
        /// Where extraction takes place.
        root: PathBuf,
    },
    /// The archive is bigger than [`Limits`](crate::Limits) allow.
    #[error("archive exceeds the limit of {limit} {what}")]
    Limit {
        /// `entries`, `bytes`, …
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A format or compression method that is known but not built.
    #[error("{0:?} format: unsupported archive format")]
    UnsupportedFormat(&'static str),
    /// A zip compression method that cannot be read.
    #[error("{name}: unsupported compression method {method}")]
    UnsupportedMethod {
        /// Name of the entry.
        name: String,
        /// Number of the method.
        method: u16,
    },
    /// gzip and raw artifacts hold regular files only.
    #[error("the {0:?} is not a regular file")]
    NotRegular(PathBuf),
    /// A raw artifact is exactly one file.
    #[error("only one file can be sent as raw")]
    RawNeedsOneFile,
}

impl ArchiveError {
    /// For `map_err` beside file operations.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// The same for more than one failure.
    pub(crate) fn io_again(path: PathBuf) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io {
            path: path.clone(),
            source,
        }
    }
}

/// A name from an archive as texts show it: control characters cannot pretend to be lines of a log.
pub(crate) fn shown(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    for character in String::from_utf8_lossy(raw).chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}
