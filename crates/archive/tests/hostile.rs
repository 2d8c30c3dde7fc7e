//! Archives that somebody made to do harm: they end in an error or in files below the root, within bounds.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use courser_archive::{ArchiveError, Limits, extract};
use rawzip::path::EntryPath;
use rawzip::{CompressionMethod, ZipArchiveWriter};

/// A root with a neighbour that nothing may reach, and a link to it that an earlier job has left.
struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(directory.path().join("root")).expect("directory");
        fs::create_dir(directory.path().join("outside")).expect("directory");
        symlink("../outside", directory.path().join("root/out")).expect("link");
        Self { directory }
    }

    fn extract(&self, archive: File) -> Result<(), ArchiveError> {
        let result = extract(archive, &self.path(""), &Limits::default());
        let outside = self.directory.path().join("outside");
        assert_eq!(fs::read_dir(outside).expect("readable").count(), 0);
        let beside = fs::read_dir(self.directory.path()).expect("readable");
        assert_eq!(beside.count(), 2);
        result
    }

    fn refused(&self, archive: File) -> String {
        let error = self.extract(archive).expect_err("refused");
        let root = self.path("").display().to_string();
        error.to_string().replace(root.trim_end_matches('/'), "R")
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join("root").join(name)
    }
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(bytes).expect("writes");
    file
}

/// Name, mode, content.
type Entry<'a> = (&'a [u8], u32, &'a [u8]);

/// A good zip with entries exactly as given.
fn zip(entries: &[Entry<'_>]) -> File {
    let mut file = tempfile::tempfile().expect("temporary file");
    let mut archive = ZipArchiveWriter::new(std::io::BufWriter::new(&mut file));
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

/// A record of a central directory that says whatever one likes.
#[derive(Clone, Default)]
struct Record {
    name: Vec<u8>,
    method: u16,
    crc: u32,
    packed: u32,
    size: u32,
    offset: u32,
    extra: Vec<u8>,
}

/// A local header, content, such records, and an end that counts them.
fn crooked(local: &Record, content: &[u8], records: &[Record]) -> Vec<u8> {
    let short = |number: usize| (number as u16).to_le_bytes();
    let mut bytes = Vec::new();
    let fields = |record: &Record| {
        let mut fields = Vec::from([0; 4]);
        fields.extend_from_slice(&record.crc.to_le_bytes());
        fields.extend_from_slice(&record.packed.to_le_bytes());
        fields.extend_from_slice(&record.size.to_le_bytes());
        fields.extend_from_slice(&short(record.name.len()));
        fields.extend_from_slice(&short(record.extra.len()));
        fields
    };
    bytes.extend_from_slice(b"PK\x03\x04\x14\0\0\0");
    bytes.extend_from_slice(&local.method.to_le_bytes());
    bytes.extend_from_slice(&fields(local));
    bytes.extend_from_slice(&local.name);
    bytes.extend_from_slice(&local.extra);
    bytes.extend_from_slice(content);
    let start = bytes.len() as u32;
    for record in records {
        bytes.extend_from_slice(b"PK\x01\x02\x14\x03\x14\0\0\0");
        bytes.extend_from_slice(&record.method.to_le_bytes());
        bytes.extend_from_slice(&fields(record));
        bytes.extend_from_slice(&[0; 6]);
        bytes.extend_from_slice(&(0o100_644_u32 << 16).to_le_bytes());
        bytes.extend_from_slice(&record.offset.to_le_bytes());
        bytes.extend_from_slice(&record.name);
        bytes.extend_from_slice(&record.extra);
    }
    let length = bytes.len() as u32 - start;
    bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    bytes.extend_from_slice(&short(records.len()));
    bytes.extend_from_slice(&short(records.len()));
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&start.to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes
}

/// A tar behind a good frame.
fn tar_zstd(entries: &[(&str, tar::EntryType, &str)]) -> File {
    let encoder = zstd::stream::write::Encoder::new(tempfile::tempfile().expect("file"), 1);
    let mut archive = tar::Builder::new(encoder.expect("encoder"));
    for (name, kind, target) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().expect("GNU").name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o6755);
        header.set_size(0);
        header.set_link_name_literal(target).expect("fits");
        header.set_device_major(1).expect("GNU");
        header.set_device_minor(3).expect("GNU");
        header.set_cksum();
        archive.append(&header, std::io::empty()).expect("writes");
    }
    let encoder = archive.into_inner().expect("writes");
    encoder.finish().expect("writes")
}

#[test]
fn entries_that_share_their_bytes_are_a_bomb() {
    let megabyte = vec![0; 1 << 20];
    let mut packed = vec![0; 1 << 20];
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::best());
    let length = compressor
        .deflate_compress(&megabyte, &mut packed)
        .expect("fits");
    packed.truncate(length);
    let entry = Record {
        name: b"000".to_vec(),
        method: 8,
        crc: crc32fast::hash(&megabyte),
        packed: length as u32,
        size: 1 << 20,
        ..Record::default()
    };
    // Each of them unpacks; a hundred are more than an archive of this size can hold.
    let records: Vec<Record> = (0..100)
        .map(|number| Record {
            name: format!("{number:03}").into_bytes(),
            ..entry.clone()
        })
        .collect();
    let world = World::new();
    let bytes = crooked(&entry, &packed, &records);
    assert!(bytes.len() < 10_000);
    assert_eq!(
        world.refused(file_of(&bytes)),
        "archive exceeds the limit of 67108864 bytes"
    );
}

#[test]
fn sizes_and_places_that_cannot_be_are_refused() {
    let honest = Record {
        name: b"f".to_vec(),
        crc: crc32fast::hash(b"content"),
        packed: 7,
        size: 7,
        ..Record::default()
    };
    let zip64 = |numbers: &[u64]| {
        let mut extra = vec![1, 0, (numbers.len() * 8) as u8, 0];
        numbers
            .iter()
            .for_each(|number| extra.extend_from_slice(&number.to_le_bytes()));
        extra
    };
    let world = World::new();
    let good = crooked(&honest, b"content", std::slice::from_ref(&honest));
    world.extract(file_of(&good)).expect("this one is honest");

    let lies = [
        // More than there is, less than there is, nothing.
        Record {
            size: 8,
            ..honest.clone()
        },
        Record {
            size: 6,
            ..honest.clone()
        },
        Record {
            packed: 6,
            ..honest.clone()
        },
        Record {
            packed: 5000,
            size: 5000,
            ..honest.clone()
        },
        Record {
            packed: 0,
            ..honest.clone()
        },
        Record {
            packed: u32::MAX - 1,
            size: u32::MAX - 1,
            ..honest.clone()
        },
        // Elsewhere: past the end, into the directory, into the content.
        Record {
            offset: u32::MAX - 1,
            ..honest.clone()
        },
        Record {
            offset: 40,
            ..honest.clone()
        },
        Record {
            offset: 31,
            ..honest.clone()
        },
        // Zip64 with everything, with too little, with nothing.
        Record {
            packed: u32::MAX,
            size: u32::MAX,
            offset: u32::MAX,
            extra: zip64(&[u64::MAX, u64::MAX, u64::MAX]),
            ..honest.clone()
        },
        Record {
            packed: u32::MAX,
            size: u32::MAX,
            extra: zip64(&[1 << 62, 1 << 62]),
            ..honest.clone()
        },
        Record {
            size: u32::MAX,
            extra: zip64(&[]),
            ..honest.clone()
        },
        Record {
            size: u32::MAX,
            extra: vec![1, 0, 200, 0, 1],
            ..honest.clone()
        },
        // A method nobody has, deflate that is none, Zstandard that is none.
        Record {
            method: 99,
            ..honest.clone()
        },
        Record {
            method: 8,
            ..honest.clone()
        },
        Record {
            method: 93,
            ..honest.clone()
        },
        Record {
            method: 8,
            size: 5 << 20,
            ..honest.clone()
        },
        Record {
            method: 93,
            size: 5 << 20,
            ..honest.clone()
        },
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let world = World::new();
        let bytes = crooked(&honest, b"content", &[lie]);
        let error = world.refused(file_of(&bytes));
        assert!(!error.is_empty(), "{number}");
        let left = fs::metadata(world.path("f")).map_or(0, |file| file.len());
        assert!(left <= bytes.len() as u64, "{number}: {left} bytes");
    }
}

#[test]
fn ends_that_lie_are_refused() {
    let honest = Record {
        name: b"f".to_vec(),
        crc: crc32fast::hash(b"content"),
        packed: 7,
        size: 7,
        ..Record::default()
    };
    let good = crooked(&honest, b"content", std::slice::from_ref(&honest));
    let end = good.len() - 22;
    // Records, their bytes, their place; and a comment that is not there.
    for (at, width) in [(8, 2), (10, 2), (12, 4), (16, 4), (20, 2)] {
        for value in [0x7f, 0xff] {
            let world = World::new();
            let mut bytes = good.clone();
            bytes[end + at..end + at + width].fill(value);
            // Readers differ about which field counts. Ours may find the entry all the same.
            if world.extract(file_of(&bytes)).is_ok() {
                let content = fs::read(world.path("f")).unwrap_or_default();
                assert!(content.is_empty() || content == b"content");
            }
        }
    }
}

#[test]
fn names_that_no_file_has_are_refused_and_shown_without_their_controls() {
    let too_long = "x/".repeat(2500);
    let table: [(&[u8], &str); 6] = [
        (b"", ": damaged entry: it has no name"),
        (
            b"a\0b",
            "a\\u{0}b: damaged entry: its name holds a zero byte",
        ),
        (
            b"../x\n\x1b[2Jdone",
            "../x\\n\\u{1b}[2Jdone cannot be extracted outside of chroot (R/)",
        ),
        (b"/x", "/x cannot be extracted outside of chroot (R/)"),
        (b"out/x", "out cannot be extracted outside of chroot (R/)"),
        (too_long.as_bytes(), "its name is too long"),
    ];
    for (name, expected) in table {
        let error = World::new().refused(zip(&[(name, 0o100_644, b"x")]));
        assert!(error.ends_with(expected), "{error}");
    }
    // These are odd, but names.
    let world = World::new();
    let odd: [&[u8]; 4] = [b"a\\..\\..\\b", b"c:\\d", b"line\nend", b"...."];
    let entries = odd.map(|name| (name, 0o100_644, &b"x"[..]));
    world.extract(zip(&entries)).expect("extracts");
    for name in ["a\\..\\..\\b", "c:\\d", "line\nend", "...."] {
        assert!(world.path(name).is_file(), "{name:?}");
    }
}

#[test]
fn names_that_differ_by_case_are_different_names() {
    let world = World::new();
    let archive = zip(&[
        (b"README", 0o100_644, b"upper"),
        (b"readme", 0o100_644, b"lower"),
        (b"Out", 0o120_777, b"../outside"),
        (b"OUT/x", 0o100_644, b"x"),
    ]);
    world.extract(archive).expect("extracts");
    assert_eq!(fs::read(world.path("README")).expect("file"), b"upper");
    assert_eq!(fs::read(world.path("OUT/x")).expect("file"), b"x");
}

#[test]
fn a_file_and_a_directory_of_one_name_are_an_error() {
    let orders: [&[Entry<'_>]; 3] = [
        &[(b"a", 0o100_644, b"x"), (b"a/b", 0o100_644, b"y")],
        &[(b"a/b", 0o100_644, b"y"), (b"a", 0o100_644, b"x")],
        &[(b"a/b", 0o100_644, b"y"), (b"a", 0o120_777, b"../outside")],
    ];
    for entries in orders {
        let world = World::new();
        let error = world.extract(zip(entries)).expect_err("both cannot be");
        assert!(matches!(error, ArchiveError::Io { .. }), "{error}");
    }
    // An empty directory gives way, as upstream's does.
    let world = World::new();
    let archive = zip(&[(b"a/", 0o040_755, b""), (b"a", 0o100_644, b"x")]);
    world.extract(archive).expect("extracts");
    assert_eq!(fs::read(world.path("a")).expect("file"), b"x");
}

#[test]
fn many_threads_write_nothing_through_links() {
    // Enough entries for several threads: links first, then files behind each of them.
    let links: Vec<String> = (0..50).map(|number| format!("l{number}")).collect();
    let files: Vec<String> = links.iter().map(|link| format!("{link}/evil")).collect();
    let mut entries: Vec<Entry<'_>> = Vec::new();
    entries.extend(
        links
            .iter()
            .map(|link| (link.as_bytes(), 0o120_777, &b"../outside"[..])),
    );
    entries.extend(
        files
            .iter()
            .map(|file| (file.as_bytes(), 0o100_644, &b"x"[..])),
    );
    World::new()
        .extract(zip(&entries))
        .expect_err("a directory with a file is not replaced by a link");
}

#[test]
fn a_million_entries_take_neither_memory_nor_long() {
    // Devices are passed over; each entry is looked at all the same.
    let mut file = tempfile::tempfile().expect("temporary file");
    let mut archive = ZipArchiveWriter::new(std::io::BufWriter::new(&mut file));
    for _ in 0..1_000_000 {
        archive
            .new_file("d")
            .unix_permissions(0o060_644)
            .start()
            .and_then(|(entry, config)| {
                let (_, descriptor) = config.wrap(std::io::sink()).finish()?;
                entry.finish(descriptor)
            })
            .expect("writes");
    }
    archive.finish().expect("finishes");
    let before = peak();
    World::new().extract(file).expect("nothing to extract");
    let grown = peak() - before;
    assert!(grown < 16 << 20, "{grown} bytes");
}

/// Most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    1024 * kilobytes
        .expect("a number")
        .parse::<u64>()
        .expect("a number")
}

#[test]
fn a_tar_makes_neither_hard_links_nor_devices_nor_set_id_files() {
    use tar::EntryType;

    let world = World::new();
    let archive = tar_zstd(&[
        ("pipe", EntryType::Fifo, ""),
        ("char", EntryType::Char, ""),
        ("block", EntryType::Block, ""),
        ("suid", EntryType::Regular, ""),
    ]);
    world.extract(archive).expect("extracts");
    let mode = fs::metadata(world.path("suid")).expect("file").mode();
    assert_eq!(mode & 0o7777, 0o755);
    for name in ["pipe", "char", "block"] {
        assert!(world.path(name).symlink_metadata().is_err(), "{name}");
    }

    let target = world.directory.path().join("root/suid");
    for target in [target.to_str().expect("UTF-8"), "suid", "/etc/passwd"] {
        let error = World::new().refused(tar_zstd(&[("hard", EntryType::Link, target)]));
        assert_eq!(error, "hard: damaged entry: hard links cannot be extracted");
    }
}

#[test]
fn a_tar_writes_nothing_through_links() {
    use tar::EntryType;

    for entries in [
        &[
            ("l", EntryType::Symlink, "../outside"),
            ("l/x", EntryType::Regular, ""),
        ][..],
        &[("out/x", EntryType::Regular, "")],
        &[("out/d", EntryType::Directory, "")],
        &[("out/l", EntryType::Symlink, "/etc")],
        &[("../outside/x", EntryType::Regular, "")],
        &[("d/../../outside/x", EntryType::Regular, "")],
        &[("/tmp/x", EntryType::Symlink, "y")],
    ] {
        World::new()
            .extract(tar_zstd(entries))
            .expect_err("leads outside");
    }
    // A link of an earlier job is replaced, not followed.
    let world = World::new();
    let archive = tar_zstd(&[("out", EntryType::Regular, "")]);
    world.extract(archive).expect("extracts");
    assert!(is_regular(&world.path("out")));
}

fn is_regular(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file())
}

#[test]
fn a_frame_that_wants_a_gigabyte_of_memory_is_refused() {
    // Magic, a header with a window of 2^30, one raw block that claims to be the last.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x01, 0x00, 0x00];
    let error = World::new().refused(file_of(&frame));
    assert!(error.starts_with("damaged archive: "), "{error}");
}
