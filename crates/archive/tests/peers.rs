//! Go's `archive/zip` and Python's `zipfile` read ours, and we read theirs: names, kinds, modes, times, links,
//! content. The peers are small programs in `testkit/zip-peers`; gitlab-runner is made of the first one.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use courser_archive::{Format, Level, Limits, Wanted, extract, read_file, select, write};

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/zip-peers");

/// More entries than the end record of a zip without Zip64 can count. Compiled for speed (`cargo xtask drill`): a million.
const MANY: usize = if cfg!(debug_assertions) {
    65_536 + 10
} else {
    1_000_000
};

/// Bytes of a large file. Compiled for speed: more than a zip without Zip64 can tell, of a file or of a place in it.
const LARGE: u64 = if cfg!(debug_assertions) {
    9 << 20
} else {
    (4 << 30) + 4097
};

struct Peer {
    name: &'static str,
    program: Vec<PathBuf>,
    /// Names in archives it makes are any bytes.
    makes_any_name: bool,
    /// Seconds to which it writes times.
    resolution: i64,
}

fn peers(world: &Path) -> [Peer; 2] {
    let go = world.join("go-peer");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&go)
        .arg(".")
        .current_dir(PEERS)
        .env("GOFLAGS", "-mod=mod")
        .status()
        .expect("Go is installed");
    assert!(built.success(), "go build in {PEERS}");
    [
        Peer {
            name: "Go",
            program: vec![go],
            makes_any_name: true,
            resolution: 1,
        },
        Peer {
            name: "Python",
            program: vec!["python3".into(), Path::new(PEERS).join("peer.py")],
            makes_any_name: false,
            // DOS time.
            resolution: 2,
        },
    ]
}

impl Peer {
    fn run(&self, arguments: &[&OsStr]) -> String {
        let answer = Command::new(&self.program[0])
            .args(&self.program[1..])
            .args(arguments)
            .output()
            .expect("the peer runs");
        assert!(answer.status.success(), "{}: {answer:?}", self.name);
        String::from_utf8(answer.stdout).expect("ASCII")
    }
}

/// Files and directories with odd names, modes and times.
fn tree(root: &Path, any_name: bool) {
    let long = "l".repeat(255);
    let mut files: Vec<(&[u8], &[u8], u32)> = vec![
        (b"plain", b"hello", 0o644),
        (b"empty file", b"", 0o600),
        (b"tool", b"#!/bin/sh\n", 0o755),
        (b"read only", b"x", 0o444),
        (b"owner's", b"y", 0o400),
        ("größe/日本語.txt".as_bytes(), "ü".as_bytes(), 0o640),
        (b"back\\slash", b"b", 0o644),
        (b"new\nline", b"n", 0o644),
        (b"-dash", b"d", 0o644),
        (b"star*[x]?{y}", b"s", 0o644),
        (b".hidden/..twice", b"h", 0o644),
        (b"deep/er/and/deep/er", b"d", 0o644),
        (b"e:%41", b"e", 0o644),
        (long.as_bytes(), b"l", 0o644),
    ];
    if any_name {
        files.push((b"latin-1 \xe4\xff", b"a", 0o644));
    }
    for (number, (name, content, mode)) in files.iter().enumerate() {
        let path = root.join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().expect("has one")).expect("directories");
        fs::write(&path, content).expect("file");
        set(&path, number as u64, *mode);
    }
    // Through memory and as a stream; text and noise.
    let noise: Vec<u8> = (0u32..3 << 20)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    fs::write(root.join("noise"), &noise).expect("file");
    fs::write(root.join("big"), noise.repeat(2)).expect("file");
    fs::write(root.join("text"), "all work and no play\n".repeat(9999)).expect("file");
    symlink("deep/er", root.join("link")).expect("link");
    symlink("/nonexistent/größe", root.join("dangling")).expect("link");
    for (number, (name, mode)) in [("void", 0o755), ("void/inner", 0o700), ("deep", 0o775)]
        .into_iter()
        .enumerate()
    {
        fs::create_dir_all(root.join(name)).expect("directory");
        set(&root.join(name), 1000 + number as u64, mode);
    }
}

fn set(path: &Path, number: u64, mode: u32) {
    // From 1980 on, which DOS can tell, with odd and even seconds.
    let time = UNIX_EPOCH + Duration::from_secs(315_532_800 + number * 86_401_001 % 1_500_000_000);
    File::open(path)
        .and_then(|file| file.set_modified(time))
        .expect("time");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
}

fn files_of(root: &Path) -> Vec<PathBuf> {
    let wanted = Wanted {
        paths: &["**".to_owned()],
        exclude: &[],
        untracked: None,
    };
    select(root, wanted).files
}

/// What lies below a directory, as the peers list it; times to so many seconds, of links on demand.
fn picture(root: &Path, resolution: i64, times_of_links: bool) -> BTreeSet<String> {
    let files = files_of(root).into_iter();
    let lines = files.map(|path| {
        let full = root.join(&path);
        let found = full.symlink_metadata().expect("is there");
        let mut name = path.into_os_string().into_encoded_bytes();
        let content = if found.is_symlink() {
            let target = fs::read_link(&full).expect("a link");
            target.into_os_string().into_encoded_bytes()
        } else if found.is_dir() {
            name.push(b'/');
            Vec::new()
        } else {
            fs::read(&full).expect("readable")
        };
        let time = match found.mtime() {
            _ if found.is_symlink() && !times_of_links => 0,
            seconds => seconds - seconds % resolution,
        };
        let sum = crc32fast::hash(&content);
        let length = content.len();
        let mode = found.mode();
        format!("{} {mode:o} {time} {length} {sum:08x}", hex(&name))
    });
    lines.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

fn archive(path: &Path, root: &Path) {
    let mut file = File::create(path).expect("file");
    let (format, level) = (Format::Zip, Level::Default);
    write(format, level, root, &files_of(root), &mut file).expect("writes");
}

fn unpacked(path: &Path) -> tempfile::TempDir {
    let target = tempfile::tempdir().expect("temporary directory");
    let file = File::open(path).expect("an archive");
    extract(file, target.path(), &Limits::default()).expect("extracts");
    target
}

#[test]
fn go_and_python_read_ours_and_we_read_theirs() {
    let world = tempfile::tempdir().expect("temporary directory");
    let ours = world.path().join("ours.zip");
    let theirs = world.path().join("theirs.zip");
    for peer in peers(world.path()) {
        let root = tempfile::tempdir().expect("temporary directory");
        tree(root.path(), true);
        archive(&ours, root.path());
        let listed = peer.run(&["list".as_ref(), ours.as_ref()]);
        let listed: BTreeSet<String> = listed.lines().map(ToOwned::to_owned).collect();
        assert_eq!(listed, picture(root.path(), 1, true), "{}", peer.name);

        let root = tempfile::tempdir().expect("temporary directory");
        tree(root.path(), peer.makes_any_name);
        peer.run(&["make".as_ref(), theirs.as_ref(), root.path().as_ref()]);
        let target = unpacked(&theirs);
        assert_eq!(
            picture(target.path(), 1, false),
            picture(root.path(), peer.resolution, false),
            "{}",
            peer.name
        );
    }
}

#[test]
fn more_entries_than_a_small_zip_can_count() {
    let world = tempfile::tempdir().expect("temporary directory");
    let (theirs, ours) = (
        world.path().join("theirs.zip"),
        world.path().join("ours.zip"),
    );
    for peer in peers(world.path()) {
        let count = MANY.to_string();
        peer.run(&["many".as_ref(), theirs.as_ref(), count.as_ref()]);
        let target = unpacked(&theirs);
        assert!(target.path().join("last").exists(), "{}", peer.name);

        let mut file = File::create(&ours).expect("file");
        let files = vec![PathBuf::from("last"); MANY];
        let (format, level) = (Format::Zip, Level::Default);
        write(format, level, target.path(), &files, &mut file).expect("writes");
        let listed = peer.run(&["list".as_ref(), ours.as_ref()]);
        assert_eq!(listed.lines().count(), MANY, "{}", peer.name);
    }
}

/// An archive that takes no more room on the disk than what is not zero in it.
struct Sparse {
    file: File,
    length: u64,
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.iter().any(|byte| *byte != 0) {
            self.file.write_all_at(bytes, self.length)?;
        }
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)
    }
}

/// Length and sum of a file's content.
fn summed(path: &Path) -> (u64, u32) {
    let mut file = File::open(path).expect("a file");
    let (mut length, mut sum) = (0, crc32fast::Hasher::new());
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).expect("readable") {
            0 => return (length, sum.finalize()),
            count => {
                length += count as u64;
                sum.update(&block[..count]);
            }
        }
    }
}

#[test]
fn files_and_archives_beyond_four_gigabytes() {
    let world = tempfile::tempdir().expect("temporary directory");
    let root = world.path().join("root");
    fs::create_dir(&root).expect("directory");
    let large = File::create(root.join("large")).expect("file");
    large.set_len(LARGE - 3).expect("room for holes");
    large.write_all_at(b"end", LARGE - 3).expect("writes");
    fs::write(root.join("last"), "behind it").expect("file");
    let expected = summed(&root.join("large"));
    assert_eq!(expected.0, LARGE);
    let ours = world.path().join("ours.zip");
    let theirs = world.path().join("theirs.zip");
    let peers = peers(world.path());
    for level in [Level::Fastest, Level::Fast] {
        let file = File::create(&ours).expect("file");
        let mut output = Sparse { file, length: 0 };
        write(Format::Zip, level, &root, &files_of(&root), &mut output).expect("writes");
        output.flush().expect("its length");
        if level == Level::Fastest {
            assert!(
                output.length > LARGE,
                "stored, so that a place is far away too"
            );
        }
        let archive = File::open(&ours).expect("an archive");
        let last = read_file(archive, "last", 100).expect("reads");
        assert_eq!(last.as_deref(), Some(&b"behind it"[..]));
        for peer in &peers {
            let listed = peer.run(&["list".as_ref(), ours.as_ref()]);
            let (length, sum) = expected;
            let mut lines = listed.lines();
            let line = lines.next().unwrap_or_default();
            assert!(
                line.ends_with(&format!(" {length} {sum:08x}")),
                "{}: {line}",
                peer.name
            );
            let line = lines.next().unwrap_or_default();
            let sum = crc32fast::hash(b"behind it");
            assert!(
                line.ends_with(&format!(" 9 {sum:08x}")),
                "{}: {line}",
                peer.name
            );
        }
    }
    for peer in &peers {
        peer.run(&["make".as_ref(), theirs.as_ref(), root.as_ref()]);
        let target = unpacked(&theirs);
        assert_eq!(summed(&target.path().join("large")), expected);
        let last = fs::read(target.path().join("last")).expect("file");
        assert_eq!(last, b"behind it");
    }
}
