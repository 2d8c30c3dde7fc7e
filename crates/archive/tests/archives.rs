//! Archives as a whole: what is written comes back, and what is hostile stays inside.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use courser_archive::{ArchiveError, Format, Level, Limits, Wanted, extract, select, write};
use proptest::prelude::*;
use rawzip::path::EntryPath;
use rawzip::{CompressionMethod, DataDescriptorOutput, ZipArchiveWriter};

fn files_of(root: &Path) -> Vec<PathBuf> {
    let wanted = Wanted {
        paths: &["**".to_owned()],
        exclude: &[],
        untracked: None,
    };
    select(root, wanted).files
}

fn packed(format: Format, level: Level, root: &Path) -> File {
    let mut archive = tempfile::tempfile().expect("temporary file");
    write(format, level, root, &files_of(root), &mut archive).expect("writes");
    archive
}

/// Path, kind and mode, time, content or target of everything below a directory.
fn picture(root: &Path) -> Vec<(PathBuf, u32, i64, Vec<u8>)> {
    files_of(root)
        .into_iter()
        .map(|path| {
            let full = root.join(&path);
            let metadata = full.symlink_metadata().expect("is there");
            let content = if metadata.is_symlink() {
                fs::read_link(&full)
                    .expect("a link")
                    .into_os_string()
                    .into_encoded_bytes()
            } else if metadata.is_file() {
                fs::read(&full).expect("readable")
            } else {
                Vec::new()
            };
            let time = if metadata.is_symlink() {
                0
            } else {
                metadata.mtime()
            };
            (path, metadata.mode(), time, content)
        })
        .collect()
}

fn sample() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("temporary directory");
    let path = root.path();
    fs::create_dir_all(path.join("deep/er")).expect("directories");
    fs::write(path.join("deep/er/text"), "hello ".repeat(10_000)).expect("file");
    fs::write(path.join("empty"), "").expect("file");
    fs::write(path.join("größe"), "not ASCII").expect("file");
    fs::write(path.join("back\\slash"), "b").expect("file");
    // Above the size that is kept in memory, and not to be compressed.
    let noise: Vec<u8> = (0u32..5 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    fs::write(path.join("big"), noise).expect("file");
    for number in 0..40 {
        fs::write(path.join(format!("n{number}")), number.to_string()).expect("file");
    }
    fs::write(path.join("tool"), "#!/bin/sh").expect("file");
    fs::set_permissions(path.join("tool"), fs::Permissions::from_mode(0o750)).expect("mode");
    symlink("deep/er/text", path.join("link")).expect("link");
    symlink("/nonexistent/target", path.join("dangling")).expect("link");
    fs::create_dir(path.join("sealed")).expect("directory");
    fs::write(path.join("sealed/inside"), "x").expect("file");
    fs::set_permissions(path.join("sealed"), fs::Permissions::from_mode(0o555)).expect("mode");
    let old = File::open(path.join("tool")).expect("opens");
    old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_891))
        .expect("time");
    root
}

#[test]
fn every_format_with_directories_gives_back_the_same_tree() {
    let root = sample();
    let table = [
        (Format::Zip, Level::Default),
        (Format::Zip, Level::Fastest),
        (Format::Zip, Level::Slowest),
        (Format::ZipZstd, Level::Default),
        (Format::TarZstd, Level::Fast),
    ];
    for (format, level) in table {
        let target = tempfile::tempdir().expect("temporary directory");
        extract(
            packed(format, level, root.path()),
            target.path(),
            &Limits::default(),
        )
        .expect("extracts");
        assert_eq!(
            picture(target.path()),
            picture(root.path()),
            "{format:?} {level:?}"
        );
    }
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let root = sample();
    let read = |mut file: File| {
        let mut bytes = Vec::new();
        file.rewind().expect("rewinds");
        std::io::Read::read_to_end(&mut file, &mut bytes).expect("reads");
        bytes
    };
    let first = read(packed(Format::Zip, Level::Default, root.path()));
    for _ in 0..3 {
        assert!(first == read(packed(Format::Zip, Level::Default, root.path())));
    }
}

#[test]
fn extraction_replaces_files_and_links_but_keeps_directories() {
    let root = tempfile::tempdir().expect("temporary directory");
    fs::create_dir(root.path().join("d")).expect("directory");
    fs::write(root.path().join("d/f"), "new").expect("file");
    symlink("new target", root.path().join("l")).expect("link");
    let archive = packed(Format::Zip, Level::Default, root.path());

    let target = tempfile::tempdir().expect("temporary directory");
    let outside = target.path().with_extension("outside");
    fs::write(&outside, "untouched").expect("file");
    fs::create_dir(target.path().join("d")).expect("directory");
    fs::write(target.path().join("d/other"), "kept").expect("file");
    symlink(&outside, target.path().join("d/f")).expect("link");
    symlink("old target", target.path().join("l")).expect("link");
    extract(archive, target.path(), &Limits::default()).expect("extracts");

    assert_eq!(fs::read(target.path().join("d/f")).expect("file"), b"new");
    assert_eq!(
        fs::read(target.path().join("d/other")).expect("file"),
        b"kept"
    );
    assert_eq!(fs::read(&outside).expect("file"), b"untouched");
    assert_eq!(
        fs::read_link(target.path().join("l")).expect("link"),
        PathBuf::from("new target")
    );
    fs::remove_file(outside).expect("cleans up");
}

/// A zip with entries exactly as given: name, mode, content.
fn handmade(entries: &[(&[u8], u32, &[u8])]) -> File {
    let mut file = tempfile::tempfile().expect("temporary file");
    let mut archive = ZipArchiveWriter::new(&mut file);
    for (name, mode, content) in entries {
        let (mut entry, config) = archive
            .new_file(EntryPath::verbatim(*name))
            .unix_permissions(*mode)
            .compression_method(CompressionMethod::STORE)
            .start()
            .expect("starts");
        let mut writer = config.wrap(&mut entry);
        writer.write_all(content).expect("writes");
        let (_, descriptor) = writer.finish().expect("finishes");
        entry.finish(descriptor).expect("finishes");
    }
    archive.finish().expect("finishes");
    file
}

#[test]
fn hostile_names_are_refused() {
    for name in ["../evil", "/tmp/evil", "a/../../evil", ".."] {
        let root = tempfile::tempdir().expect("temporary directory");
        let archive = handmade(&[(name.as_bytes(), 0o100_644, b"x")]);
        let error =
            extract(archive, root.path(), &Limits::default()).expect_err("an entry outside");
        assert_eq!(
            error.to_string(),
            format!(
                "{name} cannot be extracted outside of chroot ({})",
                root.path().display()
            )
        );
    }
}

#[test]
fn a_link_of_the_same_archive_is_not_written_through() {
    let world = tempfile::tempdir().expect("temporary directory");
    let root = world.path().join("root");
    fs::create_dir(&root).expect("directory");
    // The link comes first in the archive, and once more under the name of its own parent.
    let archive = handmade(&[
        (b"out", 0o120_777, b".."),
        (b"out/evil", 0o100_644, b"x"),
        (b"up", 0o120_777, b".."),
        (b"up/evil-link", 0o120_777, b"/etc/passwd"),
    ]);
    let error = extract(archive, &root, &Limits::default()).expect_err("ends at the second link");
    assert!(!world.path().join("evil").exists());
    assert!(world.path().join("evil-link").symlink_metadata().is_err());
    assert!(
        matches!(
            error,
            ArchiveError::Outside { .. } | ArchiveError::Io { .. }
        ),
        "{error}"
    );
}

#[test]
fn of_two_entries_with_one_name_the_last_one_stays() {
    let root = tempfile::tempdir().expect("temporary directory");
    let archive = handmade(&[(b"f", 0o100_644, b"first"), (b"f", 0o100_600, b"second")]);
    extract(archive, root.path(), &Limits::default()).expect("extracts");
    assert_eq!(fs::read(root.path().join("f")).expect("file"), b"second");
}

#[test]
fn set_id_bits_are_dropped_and_devices_skipped() {
    let root = tempfile::tempdir().expect("temporary directory");
    let archive = handmade(&[(b"suid", 0o104_755, b"x"), (b"dev", 0o020_644, b"")]);
    extract(archive, root.path(), &Limits::default()).expect("extracts");
    let mode = fs::metadata(root.path().join("suid")).expect("file").mode();
    assert_eq!(mode & 0o7777, 0o755);
    assert!(!root.path().join("dev").exists());
}

#[test]
fn bombs_hit_their_limits() {
    let zeros = vec![0; 3 << 20];
    let source = tempfile::tempdir().expect("temporary directory");
    for number in 0..30 {
        fs::write(source.path().join(number.to_string()), &zeros).expect("file");
    }
    let table = [
        (
            Limits {
                entries: 5,
                ..Limits::default()
            },
            "5 entries",
        ),
        (
            Limits {
                bytes: 1 << 20,
                ..Limits::default()
            },
            "1048576 bytes",
        ),
        (
            Limits {
                ratio: 2,
                ..Limits::default()
            },
            "67108864 bytes",
        ),
    ];
    for (limits, expected) in table {
        let root = tempfile::tempdir().expect("temporary directory");
        let archive = packed(Format::Zip, Level::Default, source.path());
        let error = extract(archive, root.path(), &limits).expect_err("too big");
        assert_eq!(
            error.to_string(),
            format!("archive exceeds the limit of {expected}")
        );
    }
    let tar = packed(Format::TarZstd, Level::Default, source.path());
    let root = tempfile::tempdir().expect("temporary directory");
    let limits = Limits {
        bytes: 1 << 20,
        ..Limits::default()
    };
    extract(tar, root.path(), &limits).expect_err("too big");
}

#[test]
fn entries_that_lie_about_their_content_are_refused() {
    let root = tempfile::tempdir().expect("temporary directory");
    let mut file = tempfile::tempfile().expect("temporary file");
    let mut archive = ZipArchiveWriter::new(&mut file);
    let (mut entry, _) = archive
        .new_file("f")
        .compression_method(CompressionMethod::STORE)
        .start()
        .expect("starts");
    entry.write_all(b"content").expect("writes");
    entry
        .finish(DataDescriptorOutput::new(1, 7))
        .expect("finishes");
    archive.finish().expect("finishes");
    let error = extract(file, root.path(), &Limits::default()).expect_err("wrong checksum");
    assert_eq!(
        error.to_string(),
        "f: damaged entry: checksum does not match"
    );
}

#[test]
fn an_archive_cut_short_is_damaged_at_every_length() {
    let source = tempfile::tempdir().expect("temporary directory");
    fs::write(source.path().join("f"), "content".repeat(100)).expect("file");
    for format in [Format::Zip, Format::TarZstd] {
        let mut whole = Vec::new();
        write(
            format,
            Level::Default,
            source.path(),
            &[PathBuf::from("f")],
            &mut whole,
        )
        .expect("writes");
        for length in 0..whole.len() {
            let root = tempfile::tempdir().expect("temporary directory");
            let mut file = tempfile::tempfile().expect("temporary file");
            file.write_all(&whole[..length]).expect("writes");
            extract(file, root.path(), &Limits::default()).expect_err("cut short");
        }
    }
}

#[test]
fn gzip_cannot_be_extracted() {
    let root = tempfile::tempdir().expect("temporary directory");
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(&[0x1f, 0x8b, 8, 0, 0, 0]).expect("writes");
    let error = extract(file, root.path(), &Limits::default()).expect_err("unsupported");
    assert_eq!(
        error.to_string(),
        r#""gzip" format: unsupported archive format"#
    );
}

#[test]
fn raw_is_one_file() {
    let root = sample();
    let mut output = Vec::new();
    let one = [PathBuf::from("tool")];
    write(Format::Raw, Level::Default, root.path(), &one, &mut output).expect("writes");
    assert_eq!(output, b"#!/bin/sh");
    let two = [PathBuf::from("tool"), PathBuf::from("n1")];
    let error = write(Format::Raw, Level::Default, root.path(), &two, &mut output)
        .expect_err("more than one");
    assert_eq!(error.to_string(), "only one file can be sent as raw");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_content_survives(contents in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..2000), 1..30)
    ) {
        let root = tempfile::tempdir().expect("temporary directory");
        for (number, content) in contents.iter().enumerate() {
            fs::write(root.path().join(number.to_string()), content).expect("file");
        }
        let target = tempfile::tempdir().expect("temporary directory");
        let archive = packed(Format::Zip, Level::Default, root.path());
        extract(archive, target.path(), &Limits::default()).expect("extracts");
        prop_assert_eq!(picture(target.path()), picture(root.path()));
    }

    #[test]
    fn no_bytes_panic_the_reader_or_leave_the_root(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        zip in any::<bool>(),
    ) {
        let world = tempfile::tempdir().expect("temporary directory");
        let root = world.path().join("root");
        fs::create_dir(&root).expect("directory");
        let mut bytes = Vec::new();
        let format = if zip { Format::Zip } else { Format::TarZstd };
        let source = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(source.path().join("d")).expect("directory");
        fs::write(source.path().join("d/f"), "content ".repeat(20)).expect("file");
        symlink("d/f", source.path().join("l")).expect("link");
        write(format, Level::Default, source.path(), &files_of(source.path()), &mut bytes)
            .expect("writes");
        for (index, value) in damage {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(&bytes).expect("writes");
        // Whether it still extracts does not matter here.
        extract(file, &root, &Limits::default()).ok();
        prop_assert_eq!(fs::read_dir(world.path()).expect("readable").count(), 1);
    }
}

/// Content of one extension entry, then a file.
fn tar_with(kind: tar::EntryType, content: &[u8]) -> File {
    let encoder = zstd::stream::write::Encoder::new(tempfile::tempfile().expect("file"), 1);
    let mut archive = tar::Builder::new(encoder.expect("encoder"));
    let mut entry = |kind, name, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, content)
            .expect("writes");
    };
    entry(kind, "extension", content);
    entry(tar::EntryType::Regular, "file", b"text");
    let encoder = archive.into_inner().expect("writes");
    encoder.finish().expect("writes")
}

#[test]
fn long_headers_of_a_tar_do_not_fill_the_memory() {
    use tar::EntryType;

    let huge = vec![b'a'; 3 << 20];
    let kinds = [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
    ];
    for kind in kinds {
        let root = tempfile::tempdir().expect("temporary directory");
        let archive = tar_with(kind, &huge);
        let error = extract(archive, root.path(), &Limits::default()).expect_err("too long");
        assert_eq!(
            error.to_string(),
            "archive exceeds the limit of 1048576 bytes of headers of one entry",
            "{kind:?}"
        );
    }
    // What is not kept may be long, within the budget of the archive.
    for kind in [EntryType::XGlobalHeader, EntryType::Fifo] {
        let root = tempfile::tempdir().expect("temporary directory");
        let archive = tar_with(kind, &huge);
        extract(archive, root.path(), &Limits::default()).expect("extracts");
        assert_eq!(fs::read(root.path().join("file")).expect("file"), b"text");
        let limits = Limits {
            bytes: 1 << 20,
            ..Limits::default()
        };
        extract(tar_with(kind, &huge), root.path(), &limits).expect_err("too big");
    }
    let root = tempfile::tempdir().expect("temporary directory");
    let archive = tar_with(EntryType::GNULongName, b"renamed\0");
    extract(archive, root.path(), &Limits::default()).expect("extracts");
    assert_eq!(
        fs::read(root.path().join("renamed")).expect("file"),
        b"text"
    );
}

/// Set in the process that can start no thread.
const ALONE: &str = "COURSER_TEST_WITHOUT_THREADS";

/// As in a container that has as many processes as it may have: there, the test runs once more.
#[test]
fn without_more_threads_one_does_all_the_work() {
    #[expect(
        clippy::disallowed_methods,
        reason = "tells the process what it is there for"
    )]
    if std::env::var_os(ALONE).is_none() {
        let this_test = std::env::current_exe().expect("this test");
        let played = std::process::Command::new(this_test)
            .args(["--exact", "without_more_threads_one_does_all_the_work"])
            .args(["--test-threads", "1", "--nocapture"])
            .env(ALONE, "1")
            // More than there is: a thread cannot be started.
            .env("RUST_MIN_STACK", (1_u64 << 46).to_string())
            .output()
            .expect("it starts");
        assert!(played.status.success(), "{played:?}");
        return;
    }
    assert!(std::thread::Builder::new().spawn(|| ()).is_err());
    let world = tempfile::tempdir().expect("temporary directory");
    for number in 0..100 {
        let name = world.path().join(format!("file {number}"));
        fs::write(name, number.to_string()).expect("writable");
    }
    for format in [Format::Zip, Format::TarZstd] {
        let archive = packed(format, Level::Default, world.path());
        let target = tempfile::tempdir().expect("temporary directory");
        extract(archive, target.path(), &Limits::default()).expect("extracts");
        assert_eq!(picture(target.path()), picture(world.path()));
    }
}
