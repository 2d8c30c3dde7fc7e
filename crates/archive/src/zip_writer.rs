//! Writing a zip as upstream's archiver does (`runner-build-lifecycle.md` 4.4).
//!
//! Entries come in sorted order, so the same tree gives the same bytes. Small files are compressed in
//! memory by a few threads (`pack`) and handed over in order; bigger ones pass through as a stream.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rawzip::extra_fields::ExtraFieldId;
use rawzip::path::EntryPath;
use rawzip::time::UtcDateTime;
use rawzip::{CompressionMethod, DataDescriptorOutput, Header, ZipArchiveWriter, ZipFileBuilder};

use crate::in_order::{Bounds, in_order};
use crate::pack::{Method, Packed, Packer};
use crate::source::{Source, SourceKind, open_regular};
use crate::{ArchiveError, Level, processors};

/// Compressed and claimed bytes that wait for their turn at most. Hundreds of usual files, so that a thread that is held
/// up does not hold up the others; memory goes up to this when one is.
const WINDOW: u64 = 6 << 20;

/// What a file counts as until it is packed: more than most come to.
const CLAIM: u64 = 1 << 20;

/// From this many files on, threads are worth their start.
const PARALLEL_FROM: usize = 16;

pub(crate) fn write<W: Write + Send>(
    zstd: bool,
    level: Level,
    root: &Path,
    files: &[PathBuf],
    output: &mut W,
) -> Result<(), ArchiveError> {
    let method = Method::new(zstd, level);
    let mut archive = ZipArchiveWriter::new(io::BufWriter::with_capacity(256 << 10, output));
    let threads = if files.len() < PARALLEL_FROM {
        1
    } else {
        processors()
    };
    let bounds = Bounds {
        claim: CLAIM,
        window: WINDOW,
    };
    in_order(
        threads,
        files.len(),
        bounds,
        || {
            let mut packer = None;
            move |index: usize| {
                let packer = match &mut packer {
                    Some(packer) => packer,
                    none => none.insert(Packer::new(method)?),
                };
                packer.pack(root, &files[index])
            }
        },
        Packed::bytes,
        |packed| append(&mut archive, method, root, packed),
    )?;
    archive.finish().map_err(output_error)?;
    Ok(())
}

/// Adds one entry to the archive.
fn append<W: Write>(
    archive: &mut ZipArchiveWriter<W>,
    method: Method,
    root: &Path,
    packed: Packed,
) -> Result<(), ArchiveError> {
    match packed {
        Packed::Skipped => Ok(()),
        Packed::Directory(source) => {
            let name = source.name();
            let fields = ExtraFields::new(&source);
            archive
                .new_dir(entry_path(&name))
                .last_modified(UtcDateTime::from_unix(source.modified))
                .unix_permissions(0o040_000 | source.mode)
                .extra_field(
                    ExtraFieldId::EXTENDED_TIMESTAMP,
                    &fields.timestamp,
                    Header::LOCAL,
                )
                .and_then(|entry| {
                    entry.extra_field(
                        ExtraFieldId::INFO_ZIP_UNIX_UID_GID,
                        &fields.owner,
                        Header::default(),
                    )
                })
                .and_then(|entry| entry.create())
                .map(|_| ())
                .map_err(output_error)
        }
        Packed::Entry {
            source,
            method,
            content,
            crc,
            size,
        } => {
            let name = source.name();
            let (mut entry, _) = describe(archive.new_file(entry_path(&name)), &source)
                .and_then(|entry| entry.compression_method(method).start())
                .map_err(output_error)?;
            entry.write_all(&content).map_err(ArchiveError::Output)?;
            entry
                .finish(DataDescriptorOutput::new(crc, size))
                .map(|_| ())
                .map_err(output_error)
        }
        Packed::Stream(source) => stream(archive, method, root, &source),
    }
}

fn stream<W: Write>(
    archive: &mut ZipArchiveWriter<W>,
    method: Method,
    root: &Path,
    source: &Source,
) -> Result<(), ArchiveError> {
    let mut file = open_regular(root, &source.path)?;
    let name = source.name();
    let wire = match method {
        Method::Store => CompressionMethod::STORE,
        Method::Deflate(_) => CompressionMethod::DEFLATE,
        Method::Zstd(_) => CompressionMethod::ZSTD,
    };
    let (mut entry, config) = describe(archive.new_file(entry_path(&name)), source)
        .and_then(|builder| builder.compression_method(wire).start())
        .map_err(output_error)?;
    let descriptor = match method {
        Method::Store => {
            let mut content = config.wrap(&mut entry);
            copy(&mut file, &mut content, root, source)?;
            content.finish().map_err(output_error)?.1
        }
        Method::Deflate(level) => {
            let level = flate2::Compression::new(level.into());
            let mut content = config.wrap(flate2::write::DeflateEncoder::new(&mut entry, level));
            copy(&mut file, &mut content, root, source)?;
            let (encoder, descriptor) = content.finish().map_err(output_error)?;
            encoder.finish().map_err(ArchiveError::Output)?;
            descriptor
        }
        Method::Zstd(level) => {
            let encoder = zstd::stream::write::Encoder::new(&mut entry, level)
                .map_err(ArchiveError::Output)?;
            let mut content = config.wrap(encoder);
            copy(&mut file, &mut content, root, source)?;
            let (encoder, descriptor) = content.finish().map_err(output_error)?;
            encoder.finish().map_err(ArchiveError::Output)?;
            descriptor
        }
    };
    entry.finish(descriptor).map(|_| ()).map_err(output_error)
}

/// `io::copy` that knows which side failed.
fn copy(
    file: &mut std::fs::File,
    output: &mut impl Write,
    root: &Path,
    source: &Source,
) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => output
                .write_all(&buffer[..count])
                .map_err(ArchiveError::Output)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::io(root.join(&source.path))(error)),
        }
    }
}

/// Mode, times and owner of a file or link.
fn describe<'a, 'p, W: Write>(
    builder: ZipFileBuilder<'a, 'p, W>,
    source: &Source,
) -> Result<ZipFileBuilder<'a, 'p, W>, rawzip::Error> {
    let kind = match source.kind {
        SourceKind::Link => 0o120_000,
        _ => 0o100_000,
    };
    let fields = ExtraFields::new(source);
    builder
        .last_modified(UtcDateTime::from_unix(source.modified))
        .unix_permissions(kind | source.mode)
        // rawzip adds the central one itself.
        .extra_field(
            ExtraFieldId::EXTENDED_TIMESTAMP,
            &fields.timestamp,
            Header::LOCAL,
        )?
        .extra_field(
            ExtraFieldId::INFO_ZIP_UNIX_UID_GID,
            &fields.owner,
            Header::default(),
        )
}

/// The two Info-ZIP fields: modification time, and user and group as four bytes each.
struct ExtraFields {
    timestamp: [u8; 5],
    owner: [u8; 11],
}

impl ExtraFields {
    fn new(source: &Source) -> Self {
        let seconds = u32::try_from(source.modified.clamp(0, u32::MAX.into())).unwrap_or(0);
        let mut timestamp = [1; 5];
        timestamp[1..].copy_from_slice(&seconds.to_le_bytes());
        let mut owner = [0; 11];
        (owner[0], owner[1], owner[6]) = (1, 4, 4);
        owner[2..6].copy_from_slice(&source.user.to_le_bytes());
        owner[7..].copy_from_slice(&source.group.to_le_bytes());
        Self { timestamp, owner }
    }
}

/// rawzip would turn backslashes and `./` of a text into something else; only names that need the
/// UTF-8 flag and have neither go that way.
fn entry_path(name: &[u8]) -> EntryPath<'_> {
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_ascii() && !text.contains('\\') => EntryPath::conformant(text),
        _ => EntryPath::verbatim(name),
    }
}

fn output_error(error: rawzip::Error) -> ArchiveError {
    ArchiveError::Output(match error.into_kind() {
        rawzip::ErrorKind::IO(error) => error,
        other => io::Error::other(other.to_string()),
    })
}
