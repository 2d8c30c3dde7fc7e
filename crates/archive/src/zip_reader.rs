//! Extracting a zip of unknown origin (`runner-build-lifecycle.md` 4.7).
//!
//! The central directory is read three times instead of being kept: files and directories, then links
//! (so that no file can be written through a link of the same archive), then what directories look
//! like. Memory does not grow with the number of entries.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use libdeflater::Decompressor;
use rawzip::extra_fields::ExtraFieldId;
use rawzip::time::ZipDateTimeKind;
use rawzip::{
    CompressionMethod, FileReader, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ZipArchive,
    ZipFileHeaderRecord,
};

use crate::destination::{Attributes, Budget, Destination, EntryName, copy_within};
use crate::{ArchiveError, Limits};

/// Entries up to this size, packed and unpacked, are inflated in memory.
const SMALL: u64 = 4 << 20;

/// Longest target of a link (`PATH_MAX`).
const MAX_TARGET: u64 = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Files,
    Links,
    Directories,
}

enum Kind {
    File,
    Link,
    Directory,
    /// Sockets, devices, pipes.
    Special,
}

pub(crate) fn extract(file: File, root: &Path, limits: &Limits) -> Result<(), ArchiveError> {
    let archive_bytes = file
        .metadata()
        .map_err(|error| ArchiveError::Damaged(error.to_string()))?
        .len();
    // The largest record the format allows, so that no name is too long for the buffer.
    let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let archive = ZipArchive::from_file(file, &mut buffer).map_err(damaged)?;
    let mut extraction = Extraction {
        destination: Destination::open(root)?,
        budget: Budget::new(limits.total(archive_bytes)),
        inflate: Decompressor::new(),
        packed: Vec::new(),
        content: Vec::new(),
        root,
    };
    for pass in [Pass::Files, Pass::Links, Pass::Directories] {
        let mut entries = archive.entries(&mut buffer);
        let mut count = 0;
        while let Some(record) = entries.next_entry().map_err(damaged)? {
            count += 1;
            if count > limits.entries {
                return Err(ArchiveError::Limit {
                    what: "entries",
                    limit: limits.entries,
                });
            }
            extraction.entry(&archive, &record, pass)?;
        }
    }
    extraction.destination.finish()
}

struct Extraction<'a> {
    destination: Destination,
    budget: Budget,
    inflate: Decompressor,
    packed: Vec<u8>,
    content: Vec<u8>,
    root: &'a Path,
}

impl Extraction<'_> {
    fn entry(
        &mut self,
        archive: &ZipArchive<FileReader>,
        record: &ZipFileHeaderRecord<'_>,
        pass: Pass,
    ) -> Result<(), ArchiveError> {
        let path = record.file_path();
        let raw = path.as_bytes();
        let name = EntryName::new(raw).ok_or_else(|| self.destination.outside(raw))?;
        match (kind(record), pass) {
            (Kind::Directory, Pass::Files) => self.destination.create_directory(&name),
            (Kind::Directory, Pass::Directories) => {
                self.destination.finish_directory(&name, attributes(record))
            }
            (Kind::File | Kind::Link, _) if name.is_root() => Err(self.destination.outside(raw)),
            (Kind::File, Pass::Files) => {
                self.check_method(raw, record)?;
                let mut file = self.destination.create_file(&name)?;
                self.content(archive, record, raw, &mut file)?;
                self.destination
                    .finish_file(&file, &name, attributes(record))
            }
            (Kind::Link, Pass::Links) => {
                self.check_method(raw, record)?;
                let size = record.uncompressed_size_hint();
                if size == 0 || size > MAX_TARGET || record.compressed_size_hint() > SMALL {
                    return Err(damaged_entry(raw, "no target of a link"));
                }
                self.unpack(archive, record, raw)?;
                let target = std::mem::take(&mut self.content);
                let result = self.destination.create_link(&name, &target);
                self.content = target;
                result
            }
            _ => Ok(()),
        }
    }

    fn check_method(
        &self,
        raw: &[u8],
        record: &ZipFileHeaderRecord<'_>,
    ) -> Result<(), ArchiveError> {
        if record.flags().is_encrypted() {
            return Err(damaged_entry(raw, "encrypted entries cannot be extracted"));
        }
        match record.compression_method() {
            CompressionMethod::STORE | CompressionMethod::DEFLATE | CompressionMethod::ZSTD => {
                Ok(())
            }
            other => Err(ArchiveError::UnsupportedMethod {
                name: String::from_utf8_lossy(raw).into_owned(),
                method: other.as_u16(),
            }),
        }
    }

    fn content(
        &mut self,
        archive: &ZipArchive<FileReader>,
        record: &ZipFileHeaderRecord<'_>,
        raw: &[u8],
        file: &mut File,
    ) -> Result<(), ArchiveError> {
        let shown = self.root.join(&*String::from_utf8_lossy(raw));
        if record.uncompressed_size_hint() <= SMALL && record.compressed_size_hint() <= SMALL {
            self.unpack(archive, record, raw)?;
            return file
                .write_all(&self.content)
                .map_err(ArchiveError::io(shown));
        }
        let entry = archive.get_entry(record.wayfinder()).map_err(damaged)?;
        let packed = std::io::BufReader::with_capacity(128 << 10, entry.reader());
        let unpacked: Box<dyn Read + '_> = match record.compression_method() {
            CompressionMethod::DEFLATE => Box::new(flate2::bufread::DeflateDecoder::new(packed)),
            CompressionMethod::ZSTD => Box::new(
                zstd::stream::read::Decoder::with_buffer(packed)
                    .map_err(|error| damaged_entry(raw, error))?,
            ),
            _ => Box::new(packed),
        };
        // Checks length and sum at the end; more than announced is stopped by `take`.
        let announced = record.uncompressed_size_hint();
        let mut verified = entry.verifying_reader(unpacked.take(announced.saturating_add(1)));
        copy_within(
            &mut self.budget,
            &mut verified,
            file,
            |error| damaged_entry(raw, error),
            ArchiveError::io_again(shown),
        )
    }

    /// Reads a small entry into `self.content` and checks it.
    fn unpack(
        &mut self,
        archive: &ZipArchive<FileReader>,
        record: &ZipFileHeaderRecord<'_>,
        raw: &[u8],
    ) -> Result<(), ArchiveError> {
        let size = record.uncompressed_size_hint();
        self.budget.take(size)?;
        let entry = archive.get_entry(record.wayfinder()).map_err(damaged)?;
        self.packed.clear();
        entry
            .reader()
            .read_to_end(&mut self.packed)
            .map_err(|error| damaged_entry(raw, error))?;
        if self.packed.len() as u64 != record.compressed_size_hint() {
            return Err(damaged_entry(raw, "cut short"));
        }
        self.content.clear();
        self.content.resize(size as usize, 0);
        let length = match record.compression_method() {
            CompressionMethod::DEFLATE => self
                .inflate
                .deflate_decompress(&self.packed, &mut self.content)
                .map_err(|error| damaged_entry(raw, error))?,
            CompressionMethod::ZSTD => {
                zstd::bulk::decompress_to_buffer(&self.packed, &mut self.content)
                    .map_err(|error| damaged_entry(raw, error))?
            }
            _ => {
                std::mem::swap(&mut self.packed, &mut self.content);
                self.content.len()
            }
        };
        if length as u64 != size || self.content.len() as u64 != size {
            return Err(damaged_entry(raw, "not as long as announced"));
        }
        if crc32fast::hash(&self.content) != record.crc32() {
            return Err(damaged_entry(raw, "checksum does not match"));
        }
        Ok(())
    }
}

fn kind(record: &ZipFileHeaderRecord<'_>) -> Kind {
    if record.is_dir() {
        return Kind::Directory;
    }
    match record.mode().value() & 0o170_000 {
        0 | 0o100_000 => Kind::File,
        0o040_000 => Kind::Directory,
        0o120_000 => Kind::Link,
        _ => Kind::Special,
    }
}

fn attributes(record: &ZipFileHeaderRecord<'_>) -> Attributes {
    let modified = match record.last_modified() {
        ZipDateTimeKind::Utc(time) => Some(time.to_unix()),
        // A time without a zone; upstream reads it as UTC too.
        ZipDateTimeKind::Local(time) => rawzip::time::UtcDateTime::from_components(
            time.year(),
            time.month(),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            0,
        )
        .map(|time| time.to_unix()),
    };
    Attributes {
        mode: Some(record.mode().value() & 0o777),
        modified,
        owner: record
            .extra_fields()
            .find(|(id, _)| *id == ExtraFieldId::INFO_ZIP_UNIX_UID_GID)
            .and_then(|(_, data)| owner(data)),
    }
}

/// Version 1, then length and number of user and of group; only four-byte numbers are written by anyone.
fn owner(data: &[u8]) -> Option<(u32, u32)> {
    let [1, 4, rest @ ..] = data else { return None };
    let (user, rest) = rest.split_first_chunk::<4>()?;
    let [4, rest @ ..] = rest else { return None };
    let (group, _) = rest.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*user), u32::from_le_bytes(*group)))
}

fn damaged(error: rawzip::Error) -> ArchiveError {
    ArchiveError::Damaged(error.to_string())
}

fn damaged_entry(raw: &[u8], reason: impl ToString) -> ArchiveError {
    ArchiveError::DamagedEntry {
        name: String::from_utf8_lossy(raw).into_owned(),
        reason: reason.to_string(),
    }
}
