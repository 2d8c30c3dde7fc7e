//! One file out of an archive of unknown origin, into memory.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::rc::Rc;

use rawzip::{CompressionMethod, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ZipArchive};

use crate::tar_zstd::Metered;
use crate::{ArchiveError, Limits, MAX_ZSTD_WINDOW_LOG};

/// What a tar may be unpacked to on the way to a file in it: a few seconds of work, in proportion to what the archive
/// itself took to send.
const ON_THE_WAY: Limits = Limits {
    entries: 10_000_000,
    bytes: 8 << 30,
    ratio: 1032,
};

/// The content of the regular file `path` in a zip or a Zstandard tar; `None` when there is none. Of several
/// entries with that name the first counts.
///
/// # Errors
///
/// A damaged archive, a file of more than `limit` bytes, or a tar that has to be unpacked to 8 GiB, or to a thousand
/// times its size, before the file is found.
pub fn read_file(
    mut archive: File,
    path: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, ArchiveError> {
    let path = plain(path);
    let mut magic = Vec::with_capacity(4);
    (&archive)
        .take(4)
        .read_to_end(&mut magic)
        .and_then(|_| archive.rewind())
        .map_err(damaged)?;
    if magic == [0x28, 0xb5, 0x2f, 0xfd] {
        from_tar(archive, path, limit)
    } else {
        from_zip(archive, path, limit)
    }
}

fn from_zip(archive: File, path: &str, limit: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
    let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let archive = ZipArchive::from_file(archive, &mut buffer).map_err(damaged)?;
    let mut entries = archive.entries(&mut buffer);
    let mut count = 0;
    while let Some(record) = entries.next_entry().map_err(damaged)? {
        count += 1;
        bound_entries(count)?;
        let raw = record.file_path();
        let regular = matches!(record.mode().value() & 0o170_000, 0 | 0o100_000);
        if record.is_dir() || !regular || plain_bytes(raw.as_bytes()) != path.as_bytes() {
            continue;
        }
        let entry = archive.get_entry(record.wayfinder()).map_err(damaged)?;
        let packed = BufReader::new(entry.reader());
        let unpacked: Box<dyn Read + '_> = match record.compression_method() {
            CompressionMethod::STORE => Box::new(packed),
            CompressionMethod::DEFLATE => Box::new(flate2::bufread::DeflateDecoder::new(packed)),
            CompressionMethod::ZSTD => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(packed).map_err(damaged)?;
                decoder
                    .window_log_max(MAX_ZSTD_WINDOW_LOG)
                    .map_err(damaged)?;
                Box::new(decoder)
            }
            other => {
                return Err(ArchiveError::UnsupportedMethod {
                    name: path.to_owned(),
                    method: other.as_u16(),
                });
            }
        };
        // Length and sum are checked where the entry ends within the limit.
        let announced = record.uncompressed_size_hint();
        bound_bytes(announced, limit)?;
        let verified = entry.verifying_reader(unpacked.take(announced.saturating_add(1)));
        return read_bounded(verified, limit).map(Some);
    }
    Ok(None)
}

fn from_tar(archive: File, path: &str, limit: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
    let packed = archive.metadata().map_err(damaged)?.len();
    let most = ON_THE_WAY.total(packed);
    let mut unpacked = zstd::stream::read::Decoder::new(archive).map_err(damaged)?;
    unpacked
        .window_log_max(MAX_ZSTD_WINDOW_LOG)
        .map_err(damaged)?;
    let left = Rc::new(Cell::new(most));
    let mut archive = tar::Archive::new(Metered {
        input: unpacked,
        left: Rc::clone(&left),
    });
    let found = (|| {
        // Long names are read by `tar` into memory; entries of this kind are looked at raw, and have none.
        for (count, entry) in archive.entries().map_err(damaged)?.raw(true).enumerate() {
            bound_entries(count as u64)?;
            let entry = entry.map_err(damaged)?;
            if entry.header().entry_type() != tar::EntryType::Regular
                || plain_bytes(&entry.path_bytes()) != path.as_bytes()
            {
                continue;
            }
            return read_bounded(entry, limit).map(Some);
        }
        Ok(None)
    })();
    match found {
        Err(ArchiveError::Damaged(_)) if left.get() == 0 => Err(ArchiveError::Limit {
            what: "bytes unpacked",
            limit: most,
        }),
        found => found,
    }
}

fn read_bounded(reader: impl Read, limit: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut content = Vec::new();
    reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(damaged)?;
    bound_bytes(content.len() as u64, limit)?;
    Ok(content)
}

fn bound_bytes(size: u64, limit: u64) -> Result<(), ArchiveError> {
    if size > limit {
        let what = "bytes";
        return Err(ArchiveError::Limit { what, limit });
    }
    Ok(())
}

fn bound_entries(count: u64) -> Result<(), ArchiveError> {
    let limit = Limits::default().entries;
    if count > limit {
        let what = "entries";
        return Err(ArchiveError::Limit { what, limit });
    }
    Ok(())
}

fn plain(path: &str) -> &str {
    let path = path.trim_start_matches('/');
    path.strip_prefix("./").unwrap_or(path)
}

fn plain_bytes(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"./").unwrap_or(path)
}

fn damaged(error: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Damaged(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, Level, Wanted, select, write};

    fn archive(format: Format) -> File {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("generated")).unwrap();
        for (name, content) in [
            ("a.txt", "a"),
            ("generated/child.yml", "job: {script: x}\n"),
        ] {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        std::os::unix::fs::symlink("a.txt", directory.path().join("link")).unwrap();
        let wanted = Wanted {
            paths: &["**/*".into()],
            exclude: &[],
            untracked: None,
        };
        let files = select(directory.path(), wanted).files;
        let mut file = tempfile::tempfile().unwrap();
        write(format, Level::Default, directory.path(), &files, &mut file).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn a_file_is_read_and_what_is_none_is_not() {
        for format in [Format::Zip, Format::ZipZstd, Format::TarZstd] {
            let read = |path: &str, limit: u64| read_file(archive(format), path, limit);
            for path in [
                "generated/child.yml",
                "./generated/child.yml",
                "/generated/child.yml",
            ] {
                let content = read(path, 100).unwrap().expect("there");
                assert_eq!(content, b"job: {script: x}\n", "{format:?} {path}");
            }
            for path in [
                "child.yml",
                "generated",
                "generated/",
                "link",
                "../a.txt",
                "",
            ] {
                assert_eq!(read(path, 100).unwrap(), None, "{format:?} {path}");
            }
            let refused = read("generated/child.yml", 5).unwrap_err();
            assert!(
                matches!(refused, ArchiveError::Limit { limit: 5, .. }),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_file_behind_a_bomb_is_not_waited_for() {
        let file = tempfile::tempfile().unwrap();
        let encoder = zstd::stream::write::Encoder::new(file, 1).unwrap();
        let mut archive = tar::Builder::new(encoder);
        let zeros = 200 << 20;
        for (name, size) in [("zeros", zeros), ("a", 0)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            let content = std::io::repeat(0).take(size);
            archive.append_data(&mut header, name, content).unwrap();
        }
        let mut file = archive.into_inner().unwrap().finish().unwrap();
        let packed = file.metadata().unwrap().len();
        assert!(packed * 1032 < zeros, "{packed} bytes are a bomb");
        file.rewind().unwrap();
        let refused = read_file(file, "a", 100).unwrap_err();
        let limit = Limits::RATIO_FREE;
        let text = format!("archive exceeds the limit of {limit} bytes unpacked");
        assert_eq!(refused.to_string(), text);
    }

    #[test]
    fn what_is_no_archive_is_damaged() {
        for bytes in [&b""[..], b"PK\x03\x04", &[0x28, 0xb5, 0x2f, 0xfd, 1, 2]] {
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, bytes).unwrap();
            file.rewind().unwrap();
            let refused = read_file(file, "a", 100).unwrap_err();
            assert!(matches!(refused, ArchiveError::Damaged(_)), "{refused}");
        }
    }
}
