//! The root file system of helper containers: Git, Git LFS, shells and the system's roots, out of Debian packages.
//!
//! `deploy/helper-image/packages` lists them. They are unpacked in memory and never run, so it needs no root; the same
//! packages give the same bytes. The runner imports the file into an engine, with its own program as a second layer
//! (`executor-docker/src/helper_image/`).

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use tar::{EntryType, Header};

/// This file: another recipe makes another file system.
const RECIPE: &str = include_str!("helper_image.rs");

/// Where the runner looks, beside its program.
pub(crate) const DIRECTORY: &str = "helper-images";

/// What it may have unpacked, in bytes: it lies on every host that runs jobs.
const LIMIT: usize = 60_000_000;

/// Nobody needs these in a container that fetches sources and moves archives. `doc` is treated apart: licences stay.
const LEFT_OUT: &[&str] = &[
    "etc/bash_completion.d/",
    "etc/ca-certificates/",
    "usr/lib/git-core/git-daemon",
    "usr/lib/git-core/git-http-backend",
    "usr/lib/git-core/git-http-fetch",
    "usr/lib/git-core/git-http-push",
    "usr/lib/git-core/git-imap-send",
    "usr/lib/git-core/git-shell",
    "usr/lib/git-core/scalar",
    "usr/bin/git-shell",
    "usr/bin/scalar",
    "usr/sbin/update-ca-certificates",
    "usr/share/bash-completion/",
    "usr/share/bug/",
    "usr/share/git-core/contrib/",
    "usr/share/gitweb/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
    "usr/share/menu/",
    "usr/share/perl5/",
    "var/lib/git/",
];

/// Inside the directory of the architecture's libraries.
const LIBRARIES_LEFT_OUT: &[&str] = &[
    "audit/",
    "gconv/",
    "libbrotlienc.",
    "libexpatw.",
    "libmvec.",
];

/// Directories that no package has.
const DIRECTORIES: &[(&str, u32)] = &[
    ("etc/gitlab-runner", 0o755),
    ("etc/gitlab-runner/certs", 0o755),
    ("home", 0o755),
    ("root", 0o700),
    ("tmp", 0o1777),
    ("usr/local/share/ca-certificates", 0o755),
    ("var/tmp", 0o1777),
];

const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
];

/// Makes the file system for this machine's architecture below `target/`, unless it is there; `fresh` makes it in any
/// case, of the packages as they are today.
pub(crate) fn make(root: &Path, fresh: bool) -> Result<PathBuf> {
    let list = root.join("deploy/helper-image/packages");
    let list = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    let (architecture, of_debian) = match std::env::consts::ARCH {
        "x86_64" => ("x86_64", "amd64"),
        "aarch64" => ("arm64", "arm64"),
        other => bail!("no helper image is made for {other}"),
    };
    let directory = root.join("target").join(DIRECTORY);
    let target = directory.join(format!("courser-helper-{architecture}.tar.zst"));
    let stamp = directory.join(format!("courser-helper-{architecture}.made-of"));
    let made_of = format!("{list}\n{RECIPE}");
    if !fresh && target.is_file() && fs::read_to_string(&stamp).is_ok_and(|found| found == made_of)
    {
        return Ok(target);
    }
    println!("helper image: {}", target.display());
    let packages = directory.join("packages");
    make_empty(&packages)?;
    let names: Vec<String> = crate::servers::entries(&list)
        .filter_map(|line| line.split_whitespace().next())
        .map(|name| format!("{name}:{of_debian}"))
        .collect();
    download(&packages, &names)?;
    let mut tree = Tree::default();
    let mut files: Vec<PathBuf> = fs::read_dir(&packages)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    ensure!(
        files.len() == names.len(),
        "{} packages were asked for, {} came",
        names.len(),
        files.len()
    );
    for file in &files {
        tree.add_package(file)
            .with_context(|| file.display().to_string())?;
    }
    tree.complete(&packages)?;
    let archive = tree.into_tar()?;
    ensure!(
        archive.len() <= LIMIT,
        "{} bytes are more than the {LIMIT} that a helper may have",
        archive.len()
    );
    // The size in the frame tells the runner beforehand what it will have to send.
    let mut encoder = zstd::Encoder::new(Vec::new(), 15)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(archive.len() as u64))?;
    encoder.include_contentsize(true)?;
    encoder.write_all(&archive)?;
    let packed = encoder.finish()?;
    // Renamed: a run beside this one may be reading the old file.
    let unfinished = target.with_extension("new");
    fs::write(&unfinished, &packed).with_context(|| unfinished.display().to_string())?;
    fs::rename(&unfinished, &target).with_context(|| target.display().to_string())?;
    fs::write(&stamp, made_of).with_context(|| stamp.display().to_string())?;
    fs::remove_dir_all(&packages).with_context(|| packages.display().to_string())?;
    println!(
        "helper image: {:.1} MB, packed {:.1} MB",
        archive.len() as f64 / 1e6,
        packed.len() as f64 / 1e6
    );
    Ok(target)
}

/// Lets programs that cargo has built find the images: a link in each directory of theirs.
pub(crate) fn lay_beside_programs(root: &Path) -> Result<()> {
    let target = root.join("target");
    let images = target.join(DIRECTORY);
    let directories = |below: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(below).with_context(|| below.display().to_string())?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(paths.filter(|path| path.is_dir()).collect())
    };
    for directory in directories(&target)? {
        for program in directories(&directory)?.into_iter().chain([directory]) {
            let link = program.join(DIRECTORY);
            if program.join("deps").is_dir() && fs::symlink_metadata(&link).is_err() {
                std::os::unix::fs::symlink(&images, &link)
                    .with_context(|| link.display().to_string())?;
            }
        }
    }
    Ok(())
}

fn make_empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}

fn download(directory: &Path, names: &[String]) -> Result<()> {
    ensure!(
        Path::new("/etc/debian_version").exists(),
        "the helper image is made of Debian packages: run this on Debian, or take the file of a release"
    );
    let fetch = || {
        crate::servers::quietly(
            Command::new("apt-get")
                .args(["download", "--quiet"])
                .args(names)
                .current_dir(directory),
        )
    };
    // Package lists of an image are old, or gone; most of the time they are good enough.
    fetch().or_else(|_| {
        crate::servers::quietly(Command::new("apt-get").args(["update", "--quiet"]))?;
        // Versions of the old lists that did come are not to lie beside the new ones.
        make_empty(directory)?;
        fetch()
    })
}

/// A file system by path, without a slash before it.
#[derive(Default)]
struct Tree(BTreeMap<String, Node>);

struct Node {
    mode: u32,
    content: Content,
}

enum Content {
    Directory,
    File(Vec<u8>),
    Link(String),
}

impl Tree {
    fn add_package(&mut self, package: &Path) -> Result<()> {
        let unpacked = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(package)
            .output()
            .context("dpkg-deb")?;
        ensure!(unpacked.status.success(), "dpkg-deb: {}", unpacked.status);
        let mut archive = tar::Archive::new(unpacked.stdout.as_slice());
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let Some(path) = kept(&path) else { continue };
            let mode = entry.header().mode()?;
            let content = match entry.header().entry_type() {
                EntryType::Directory => Content::Directory,
                EntryType::Regular => {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes)?;
                    Content::File(bytes)
                }
                EntryType::Symlink => {
                    let to = entry.link_name()?.context("a link to nothing")?;
                    Content::Link(to.to_string_lossy().into_owned())
                }
                EntryType::Link => {
                    let to = entry.link_name()?.context("a link to nothing")?;
                    let to = kept(&to.to_string_lossy()).context("a link to what is left out")?;
                    Content::Link(format!("/{to}"))
                }
                other => bail!("{path}: entries of type {other:?} are not expected"),
            };
            self.0.insert(path, Node { mode, content });
        }
        Ok(())
    }

    /// What packages make when they are installed, and what makes it a machine of its own.
    fn complete(&mut self, packages: &Path) -> Result<()> {
        let bundle = self.take_certificates()?;
        self.file("etc/ssl/certs/ca-certificates.crt", bundle, 0o644);
        for (path, text) in FILES {
            self.file(path, text.as_bytes().to_vec(), 0o644);
        }
        for (path, mode) in DIRECTORIES {
            let content = Content::Directory;
            self.0.insert(
                (*path).to_owned(),
                Node {
                    mode: *mode,
                    content,
                },
            );
        }
        for name in ["bin", "lib", "lib64", "sbin"] {
            self.link(name, &format!("usr/{name}"));
        }
        self.link("usr/lib/git-core/git", "../../bin/git");
        for applet in self.applets(packages)? {
            let path = format!("usr/bin/{applet}");
            let elsewhere = format!("usr/sbin/{applet}");
            if !self.0.contains_key(&path) && !self.0.contains_key(&elsewhere) {
                self.link(&path, "busybox");
            }
        }
        let parents: Vec<String> = self
            .0
            .keys()
            .flat_map(|path| path.match_indices('/').map(|(at, _)| path[..at].to_owned()))
            .collect();
        for parent in parents {
            self.0.entry(parent).or_insert(Node {
                mode: 0o755,
                content: Content::Directory,
            });
        }
        Ok(())
    }

    /// All certificates of the package as the bundle that its script would make of them.
    fn take_certificates(&mut self) -> Result<Vec<u8>> {
        const BELOW: &str = "usr/share/ca-certificates";
        let (certificates, rest): (BTreeMap<_, _>, _) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(path, _)| path.starts_with(BELOW));
        self.0 = rest;
        let files: Vec<Vec<u8>> = certificates
            .into_values()
            .filter_map(|node| match node.content {
                Content::File(text) => Some(text),
                _ => None,
            })
            .collect();
        ensure!(files.len() > 50, "only {} certificates", files.len());
        let ends = files.iter().all(|text| text.ends_with(b"\n"));
        ensure!(ends, "a certificate has no end of line");
        Ok(files.concat())
    }

    /// Commands that BusyBox has; it tells them itself.
    fn applets(&self, directory: &Path) -> Result<Vec<String>> {
        let Some(Node {
            content: Content::File(program),
            ..
        }) = self.0.get("usr/bin/busybox")
        else {
            bail!("there is no busybox");
        };
        let path = directory.join("busybox");
        fs::write(&path, program)?;
        crate::servers::quietly(Command::new("chmod").arg("0755").arg(&path))?;
        let output = Command::new(&path).arg("--list").output();
        let output = output.with_context(|| path.display().to_string())?;
        ensure!(output.status.success(), "busybox --list: {}", output.status);
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn file(&mut self, path: &str, content: Vec<u8>, mode: u32) {
        let content = Content::File(content);
        self.0.insert(path.to_owned(), Node { mode, content });
    }

    fn link(&mut self, path: &str, to: &str) {
        let content = Content::Link(to.to_owned());
        self.0.insert(
            path.to_owned(),
            Node {
                mode: 0o777,
                content,
            },
        );
    }

    /// In the order of paths, everything root's and as old as time.
    fn into_tar(self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, node) in self.0 {
            let mut header = Header::new_gnu();
            header.set_mode(node.mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(0);
            match node.content {
                Content::Directory => {
                    header.set_entry_type(EntryType::Directory);
                    archive.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                Content::File(bytes) => {
                    header.set_entry_type(EntryType::Regular);
                    header.set_size(bytes.len() as u64);
                    archive.append_data(&mut header, path, bytes.as_slice())?;
                }
                Content::Link(to) => {
                    header.set_entry_type(EntryType::Symlink);
                    archive.append_link(&mut header, path, to)?;
                }
            }
        }
        Ok(archive.into_inner()?)
    }
}

/// The path as it is in the file system, all programs and libraries below `usr`; `None` for what is left out.
fn kept(path: &str) -> Option<String> {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    let top = path.split('/').next().unwrap_or_default();
    let path = match top {
        "bin" | "lib" | "lib64" | "sbin" => format!("usr/{path}"),
        _ => path.to_owned(),
    };
    let mut parts = path.split('/');
    let licence = path.starts_with("usr/share/doc/") && path.ends_with("/copyright");
    let left_out = path.is_empty()
        || (path.starts_with("usr/share/doc/") && !licence)
        || LEFT_OUT.iter().any(|one| matches(&path, one))
        || (path.starts_with("usr/lib/")
            && parts
                .nth(2)
                .is_some_and(|name| name.ends_with("-linux-gnu"))
            && parts.next().is_some_and(|name| {
                let below = format!("{name}/");
                LIBRARIES_LEFT_OUT
                    .iter()
                    .any(|one| name.starts_with(one) || below.starts_with(one))
            }));
    (!left_out).then_some(path)
}

fn matches(path: &str, left_out: &str) -> bool {
    match left_out.strip_suffix('/') {
        Some(directory) => path == directory || path.starts_with(left_out),
        None => path == left_out,
    }
}
