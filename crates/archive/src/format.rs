//! The formats, their names on the wire, and how they are told apart.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::{ArchiveError, Limits, gzip, source, tar_zstd, zip_reader, zip_writer};

/// Format of an archive (`artifact_format`, `CACHE_COMPRESSION_FORMAT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Deflate in a zip.
    Zip,
    /// Zstandard in a zip (method 93).
    ZipZstd,
    /// tar in Zstandard.
    TarZstd,
    /// One gzip member per file.
    Gzip,
    /// One file as it is.
    Raw,
}

impl Format {
    /// By its name on the wire; an empty one is zip.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "" | "zip" => Self::Zip,
            "zipzstd" => Self::ZipZstd,
            "tarzstd" => Self::TarZstd,
            "gzip" => Self::Gzip,
            "raw" => Self::Raw,
            _ => return None,
        })
    }

    /// What an artifact's file name ends in.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Zip | Self::ZipZstd => ".zip",
            Self::TarZstd => ".tar.zst",
            Self::Gzip => ".gz",
            Self::Raw => "",
        }
    }
}

/// Compression level as users write it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Level {
    /// No compression in a zip.
    Fastest,
    /// Little.
    Fast,
    /// The default.
    #[default]
    Default,
    /// More.
    Slow,
    /// Most.
    Slowest,
}

impl Level {
    /// By its name; `None` for anything else.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "fastest" => Self::Fastest,
            "fast" => Self::Fast,
            "" | "default" => Self::Default,
            "slow" => Self::Slow,
            "slowest" => Self::Slowest,
            _ => return None,
        })
    }

    /// Level of deflate; `None` stores.
    pub(crate) fn deflate(self) -> Option<u8> {
        match self {
            Self::Fastest => None,
            Self::Fast => Some(1),
            Self::Default => Some(5),
            Self::Slow => Some(7),
            Self::Slowest => Some(9),
        }
    }

    /// Level of Zstandard in a tar: the named speeds of upstream's library.
    pub(crate) fn zstd(self) -> i32 {
        match self {
            Self::Fastest | Self::Fast => 1,
            Self::Default => 3,
            Self::Slow => 7,
            Self::Slowest => 11,
        }
    }

    /// Level of Zstandard in a zip, where "fastest" means the default.
    pub(crate) fn zip_zstd(self) -> i32 {
        match self {
            Self::Fastest => Self::Default.zstd(),
            other => other.zstd(),
        }
    }
}

/// Writes files (sorted paths relative to `root`) as an archive.
pub fn write<W: Write + Send>(
    format: Format,
    level: Level,
    root: &Path,
    files: &[PathBuf],
    output: &mut W,
) -> Result<(), ArchiveError> {
    match format {
        Format::Zip | Format::ZipZstd => {
            zip_writer::write(format == Format::ZipZstd, level, root, files, output)
        }
        Format::TarZstd => tar_zstd::write(level, root, files, output),
        Format::Gzip => gzip::write(root, files, output),
        Format::Raw => raw(root, files, output),
    }
}

fn raw<W: Write>(root: &Path, files: &[PathBuf], output: &mut W) -> Result<(), ArchiveError> {
    let [path] = files else {
        return Err(ArchiveError::RawNeedsOneFile);
    };
    let mut file = source::open_regular(root, path)?;
    io::copy(&mut file, output).map_err(ArchiveError::Output)?;
    Ok(())
}

/// Extracts an archive into an existing directory. The format is found by its first bytes
/// (`runner-build-lifecycle.md` 4.7): Zstandard is a tar, gzip is refused, everything else is a zip.
pub fn extract(mut archive: File, root: &Path, limits: &Limits) -> Result<(), ArchiveError> {
    let mut magic = [0; 4];
    archive
        .rewind()
        .and_then(|()| read_some(&mut archive, &mut magic))
        .and_then(|_| archive.rewind())
        .map_err(|error| ArchiveError::Damaged(error.to_string()))?;
    match magic {
        [0x28, 0xb5, 0x2f, 0xfd] => tar_zstd::extract(archive, root, limits),
        [0x1f, 0x8b, ..] => Err(ArchiveError::UnsupportedFormat("gzip")),
        _ => zip_reader::extract(archive, root, limits),
    }
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read(&mut buffer[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}
