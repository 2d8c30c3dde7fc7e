//! A directory of an image as values: out of the archive that the engine gives, into the archive that it is given.
//!
//! Directories, files, links, their modes and owners are kept; devices and the like are not, in a directory of
//! certificates nobody misses them.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Component, Path};

use bytes::Bytes;
use tar::{Archive, Builder, EntryType, Header};

/// The archive of one directory may have this many bytes; the largest honest one has some three million.
pub(super) const MOST_BYTES: usize = 16 * 1024 * 1024;
const MOST_ENTRIES: usize = 20_000;

/// Why a directory was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DirectoryError {
    #[error("it holds more than {} MiB", MOST_BYTES / 1024 / 1024)]
    TooLarge,
    #[error("it holds more than {MOST_ENTRIES} files")]
    TooMany,
    #[error("its archive cannot be read: {0}")]
    Archive(String),
}

impl From<io::Error> for DirectoryError {
    fn from(error: io::Error) -> Self {
        Self::Archive(error.to_string())
    }
}

/// What something in a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Directory,
    File(Bytes),
    /// A symbolic link as it is written.
    Link(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) content: Content,
    mode: u32,
    uid: u64,
    gid: u64,
    /// Seconds since 1970.
    modified: u64,
}

impl Entry {
    /// Root's, for everybody to read, without a date: the same bytes each time.
    pub(super) fn new(content: Content) -> Self {
        let mode = match content {
            Content::Directory => 0o755,
            Content::File(_) => 0o644,
            Content::Link(_) => 0o777,
        };
        Self {
            content,
            mode,
            uid: 0,
            gid: 0,
            modified: 0,
        }
    }
}

/// A directory with all that is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directory {
    /// Absolute, with no link on the way.
    pub(super) path: String,
    /// By their paths below it; the directory itself is the empty path.
    entries: BTreeMap<String, Entry>,
}

impl Directory {
    /// One that the image does not have.
    pub(super) fn absent(path: &str) -> Self {
        let root = (String::new(), Entry::new(Content::Directory));
        Self {
            path: path.to_owned(),
            entries: BTreeMap::from([root]),
        }
    }

    /// Out of the archive of it.
    pub(super) fn read(path: &str, archive: &Bytes) -> Result<Self, DirectoryError> {
        let mut directory = Self::absent(path);
        let mut reader = Archive::new(&archive[..]);
        // Names of one file in the archive are files of their own in what is made of it.
        let mut left = MOST_BYTES;
        for (number, entry) in reader.entries()?.enumerate() {
            if number >= MOST_ENTRIES {
                return Err(DirectoryError::TooMany);
            }
            let mut entry = entry?;
            let name = entry.path()?.into_owned();
            let Some(name) = below_first(&name) else {
                continue;
            };
            let header = entry.header();
            let kind = header.entry_type();
            // An archive without them has root's.
            let (uid, gid) = (header.uid().unwrap_or(0), header.gid().unwrap_or(0));
            let (mode, modified) = (header.mode()? & 0o7777, header.mtime().unwrap_or(0));
            let content = match kind {
                EntryType::Directory => Content::Directory,
                EntryType::Regular | EntryType::Continuous => {
                    // Small files in one archive of a bounded size: a copy each lets the archive go.
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes)?;
                    Content::File(bytes.into())
                }
                EntryType::Symlink => match entry.link_name()?.as_deref().and_then(Path::to_str) {
                    Some(target) => Content::Link(target.to_owned()),
                    None => continue,
                },
                EntryType::Link => {
                    let target = entry.link_name()?;
                    let target = target.as_deref().and_then(below_first);
                    match target.and_then(|target| directory.entries.get(&target)) {
                        Some(Entry {
                            content: Content::File(bytes),
                            ..
                        }) => {
                            let rest = left.checked_sub(bytes.len());
                            left = rest.ok_or(DirectoryError::TooLarge)?;
                            Content::File(bytes.clone())
                        }
                        _ => continue,
                    }
                }
                _ => continue,
            };
            let entry = Entry {
                content,
                mode,
                uid,
                gid,
                modified,
            };
            directory.entries.insert(name, entry);
        }
        Ok(directory)
    }

    /// What is there, by its path below the directory. Links are not followed.
    pub(super) fn get(&self, name: &str) -> Option<&Content> {
        self.entries.get(name).map(|entry| &entry.content)
    }

    /// The file of that name, also behind links that stay beside it.
    pub(super) fn file(&self, name: &str) -> Option<&Bytes> {
        let mut name = name.to_owned();
        for _ in 0..8 {
            match self.get(&name)? {
                Content::File(bytes) => return Some(bytes),
                Content::Directory => return None,
                Content::Link(target) if target.contains('/') => return None,
                Content::Link(target) => {
                    name = match name.rsplit_once('/') {
                        Some((parent, _)) => format!("{parent}/{target}"),
                        None => target.clone(),
                    };
                }
            }
        }
        None
    }

    /// The link in the same directory that a link names, if that one leads out of it.
    fn link_beside(&self, name: &str) -> Option<String> {
        let Content::Link(target) = self.get(name)? else {
            return None;
        };
        if target.contains('/') {
            return None;
        }
        let beside = match name.rsplit_once('/') {
            Some((parent, _)) => format!("{parent}/{target}"),
            None => target.clone(),
        };
        match self.get(&beside)? {
            Content::Link(out) if out.contains('/') => Some(beside),
            _ => None,
        }
    }

    /// Names directly in a directory below this one (the empty path: in this one).
    pub(super) fn names_in<'a>(&'a self, below: &'a str) -> impl Iterator<Item = &'a str> {
        self.entries.keys().filter_map(move |path| {
            let rest = match below {
                "" => path.as_str(),
                below => path.strip_prefix(below)?.strip_prefix('/')?,
            };
            (!rest.is_empty() && !rest.contains('/')).then_some(rest)
        })
    }

    /// Puts new content in, with mode and owner of what was there.
    pub(super) fn put(&mut self, name: &str, content: Content) {
        for (slash, _) in name.match_indices('/') {
            let parent = name[..slash].to_owned();
            let directory = || Entry::new(Content::Directory);
            self.entries.entry(parent).or_insert_with(directory);
        }
        let new = Entry::new(content);
        match self.entries.get_mut(name) {
            Some(entry) if matches!(entry.content, Content::File(_)) => entry.content = new.content,
            _ => {
                self.entries.insert(name.to_owned(), new);
            }
        }
    }

    /// How much memory it holds, about.
    pub(super) fn weight(&self) -> usize {
        let weigh = |(path, entry): (&String, &Entry)| {
            let content = match &entry.content {
                Content::File(bytes) => bytes.len(),
                Content::Link(target) => target.len(),
                Content::Directory => 0,
            };
            path.len() + content + 128
        };
        self.entries.iter().map(weigh).sum()
    }

    /// Adds all to an archive, with `prefix` before each path, but nothing that lies at or below a path for which
    /// `hidden` is true.
    pub(super) fn write(
        &self,
        archive: &mut Builder<Vec<u8>>,
        prefix: &str,
        hidden: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        let is_hidden = |name: &str| match name {
            "" => hidden(&self.path),
            name => hidden(&format!("{}/{name}", self.path)),
        };
        let path = |name: &str| match (prefix, name) {
            ("", "") => ".".to_owned(),
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}/{name}"),
        };
        let shown = self.entries.iter().filter(|(name, _)| !is_hidden(name));
        // A link to a link beside it becomes another name of that: directories of hashes have hundreds, and what takes
        // an Engine time is making files. A name has to come after what it names.
        let (again, first): (Vec<_>, Vec<_>) = shown
            .map(|(name, entry)| {
                (
                    name,
                    entry,
                    self.link_beside(name).filter(|to| !is_hidden(to)),
                )
            })
            .partition(|(_, _, beside)| beside.is_some());
        for (name, entry, beside) in first.into_iter().chain(again) {
            let mut header = Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(entry.uid);
            header.set_gid(entry.gid);
            header.set_mtime(entry.modified);
            header.set_size(0);
            match (&entry.content, beside) {
                (_, Some(beside)) => {
                    header.set_entry_type(EntryType::Link);
                    archive.append_link(&mut header, path(name), path(&beside))?;
                }
                (Content::Directory, None) => {
                    header.set_entry_type(EntryType::Directory);
                    archive.append_data(&mut header, path(name), io::empty())?;
                }
                (Content::File(bytes), None) => {
                    header.set_entry_type(EntryType::Regular);
                    header.set_size(bytes.len() as u64);
                    archive.append_data(&mut header, path(name), &bytes[..])?;
                }
                (Content::Link(target), None) => {
                    header.set_entry_type(EntryType::Symlink);
                    archive.append_link(&mut header, path(name), target)?;
                }
            }
        }
        Ok(())
    }
}

/// A path of an archive without its first component, which is the directory's own name; `None` when it leads elsewhere.
fn below_first(path: &Path) -> Option<String> {
    let mut components = path
        .components()
        .filter(|component| *component != Component::CurDir);
    components.next()?;
    let mut parts = Vec::new();
    for component in components {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            _ => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, EntryType, &str)]) -> Bytes {
        let mut builder = Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o640);
            header.set_uid(7);
            header.set_gid(8);
            header.set_mtime(9);
            header.set_size(0);
            // As written: the builder would refuse what hostile archives have.
            let name = &mut header.as_gnu_mut().expect("GNU").name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            let mut data: &[u8] = b"";
            match kind {
                EntryType::Symlink | EntryType::Link => {
                    header.set_link_name_literal(content).expect("fits");
                }
                _ => {
                    header.set_size(content.len() as u64);
                    data = content.as_bytes();
                }
            }
            header.set_cksum();
            builder.append(&header, data).expect("appended");
        }
        builder.into_inner().expect("an archive").into()
    }

    #[test]
    fn a_directory_comes_out_as_it_went_in() {
        use EntryType::{Directory as Folder, Link, Regular, Symlink};
        let before = archive(&[
            ("certs/", Folder, ""),
            ("certs/a.pem", Regular, "A"),
            ("certs/hash.0", Symlink, "a.pem"),
            ("certs/0ut.0", Symlink, "out.pem"),
            ("certs/out.pem", Symlink, "/usr/share/x"),
            ("certs/same", Link, "certs/a.pem"),
            ("certs/sub/", Folder, ""),
            ("certs/sub/b", Regular, "B"),
        ]);
        let directory = Directory::read("/etc/ssl/certs", &before).expect("readable");
        assert_eq!(
            directory.file("hash.0").map(|bytes| &bytes[..]),
            Some(&b"A"[..])
        );
        assert_eq!(
            directory.file("same").map(|bytes| &bytes[..]),
            Some(&b"A"[..])
        );
        assert_eq!(directory.file("out.pem"), None);
        assert_eq!(directory.names_in("sub").collect::<Vec<_>>(), ["b"]);
        assert_eq!(directory.names_in("").count(), 6);
        let mut builder = Builder::new(Vec::new());
        directory
            .write(&mut builder, "etc/ssl/certs", |path| {
                path == "/etc/ssl/certs/sub/b"
            })
            .expect("written");
        let after: Bytes = builder.into_inner().expect("an archive").into();
        let mut names = Vec::new();
        for entry in Archive::new(&after[..]).entries().expect("entries") {
            let entry = entry.expect("an entry");
            let header = entry.header();
            assert_eq!((header.uid().ok(), header.mtime().ok()), (Some(7), Some(9)));
            assert_eq!(header.mode().ok(), Some(0o640));
            let path = entry.path().expect("a path").to_string_lossy().into_owned();
            let link = entry.link_name().expect("a name");
            names.push(match link {
                Some(link) => format!("{path} {:?} {}", header.entry_type(), link.display()),
                None => path,
            });
        }
        assert_eq!(
            names,
            [
                "",
                "/a.pem",
                "/hash.0 Symlink a.pem",
                "/out.pem Symlink /usr/share/x",
                "/same",
                "/sub",
                "/0ut.0 Link etc/ssl/certs/out.pem",
            ]
            .map(|name| format!("etc/ssl/certs{name}"))
        );
    }

    #[test]
    fn what_leads_out_or_never_ends_is_not_taken() {
        use EntryType::{Fifo, Regular, Symlink};
        let hostile = archive(&[
            ("certs/../../etc/passwd", Regular, "x"),
            ("certs/fifo", Fifo, ""),
            ("certs/loop", Symlink, "loop"),
            ("certs/up", Symlink, "../../x"),
        ]);
        let directory = Directory::read("/c", &hostile).expect("readable");
        assert_eq!(directory.names_in("").collect::<Vec<_>>(), ["loop", "up"]);
        assert_eq!(directory.file("loop"), None);
        assert_eq!(directory.file("up"), None);
        let cut = archive(&[("certs/a", Regular, "content")]).slice(..600);
        assert!(Directory::read("/c", &cut).is_err());
        let big = "x".repeat(MOST_BYTES / 8);
        let mut bomb = vec![("certs/a", Regular, big.as_str())];
        bomb.extend([("certs/b", EntryType::Link, "certs/a"); 9]);
        assert_eq!(
            Directory::read("/c", &archive(&bomb)),
            Err(DirectoryError::TooLarge)
        );
        let many: Vec<_> = (0..=MOST_ENTRIES)
            .map(|_| ("certs/a", Regular, ""))
            .collect();
        assert_eq!(
            Directory::read("/c", &archive(&many)),
            Err(DirectoryError::TooMany)
        );
    }
}
