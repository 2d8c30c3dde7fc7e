//! Any bytes as an archive of a cache or of another job's artifacts: as they are, as a tar behind a good
//! Zstandard frame, and as entries of a zip whose sums and sizes are right.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use courser_archive::{Limits, extract, read_file};
use rawzip::path::EntryPath;
use rawzip::{CompressionMethod, ZipArchiveWriter};

const LIMITS: Limits = Limits {
    entries: 200,
    bytes: 1 << 20,
    ratio: 100,
};

/// Runs one input.
pub(crate) fn check(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let world = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let mut archive = tempfile::tempfile_in("/dev/shm").expect("a file");
    match kind % 3 {
        0 => archive.write_all(rest).expect("writes"),
        1 => zstd::stream::copy_encode(rest, &archive, 1).expect("writes"),
        _ => zip_of(rest, &mut archive),
    }
    let root = world.path().join("root");
    let outside = world.path().join("outside");
    for directory in [&root, &outside] {
        fs::create_dir(directory).expect("a directory");
    }
    // What an earlier job may have left: a way out.
    std::os::unix::fs::symlink(&outside, root.join("out")).expect("a link");
    // Whether it can be read is the archive's affair.
    let same = archive.try_clone().expect("a second handle");
    if let Ok(Some(content)) = read_file(same, "a", LIMITS.bytes) {
        assert!(content.len() as u64 <= LIMITS.bytes);
    }
    drop(extract(archive, &root, &LIMITS));
    let found = fs::read_dir(world.path()).expect("readable").count();
    assert_eq!(found, 2, "nothing beside the root");
    let found = fs::read_dir(&outside).expect("readable").count();
    assert_eq!(found, 0, "nothing behind the link");
    assert!(bytes_below(&root) <= LIMITS.bytes.max(Limits::RATIO_FREE));
}

/// Bytes of all files; no file may be special.
fn bytes_below(directory: &Path) -> u64 {
    let mut sum = 0;
    // The archive may have closed a directory; root reads it all the same.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let found = entry.metadata().expect("is there");
        assert!(found.is_file() || found.is_dir() || found.is_symlink());
        if !found.is_symlink() {
            assert_eq!(found.mode() & 0o7000, 0, "no set-id bits");
        }
        if found.is_dir() {
            sum += bytes_below(&entry.path());
        } else if found.is_file() {
            sum += found.len();
        }
    }
    sum
}

/// Entries of a kind, a name and content each: lengths of one byte, then so many bytes.
fn zip_of(mut rest: &[u8], file: &mut File) {
    let mut archive = ZipArchiveWriter::new(file);
    while let [kind, name, content, after @ ..] = rest {
        let (name, after) = after.split_at(after.len().min(usize::from(*name)));
        let (content, after) = after.split_at(after.len().min(usize::from(*content)));
        rest = after;
        let mode =
            [0o100_644, 0o120_777, 0o040_755, 0o104_755, 0o010_644, 0][usize::from(kind % 6)];
        let entry = archive
            .new_file(EntryPath::verbatim(name))
            .unix_permissions(mode)
            .compression_method(CompressionMethod::STORE)
            .start();
        // A name may be no name.
        let Ok((mut entry, config)) = entry else {
            return;
        };
        let mut writer = config.wrap(&mut entry);
        writer.write_all(content).expect("writes");
        let (_, descriptor) = writer.finish().expect("a descriptor");
        entry.finish(descriptor).expect("writes");
    }
    archive.finish().expect("writes");
}
