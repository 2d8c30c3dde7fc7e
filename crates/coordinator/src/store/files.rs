//! Logs and artifacts: plain files, 0600, in directories 0700.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Durability, StoreError};

/// Layout of the state directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    root: PathBuf,
    durability: Durability,
}

impl StateDir {
    /// Creates what is missing, and removes uploads that a former process did not see the end of.
    pub(crate) fn create(root: &Path, durability: Durability) -> Result<Self, StoreError> {
        let dir = Self {
            root: root.to_owned(),
            durability,
        };
        for path in [
            dir.root.clone(),
            dir.traces(),
            dir.artifacts(),
            dir.releases(),
        ] {
            private_dir(&path)?;
        }
        let artifacts = dir.artifacts();
        remove_partial(&artifacts).map_err(|source| StoreError::Io {
            path: artifacts.display().to_string(),
            source,
        })?;
        Ok(dir)
    }

    /// Returns once the file is on the disk, where that is wanted; one that is not there is fine.
    pub(crate) fn keep(&self, path: &Path) -> io::Result<()> {
        if self.durability == Durability::Scratch {
            return Ok(());
        }
        let sync = |path: &Path| File::open(path)?.sync_all();
        match sync(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => path.parent().map_or(Ok(()), sync),
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("coordinator.sqlite")
    }

    pub(crate) fn traces(&self) -> PathBuf {
        self.root.join("traces")
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    pub(crate) fn releases(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// The record of a job's `release`.
    pub(crate) fn release(&self, job_id: i64) -> PathBuf {
        self.releases().join(format!("{job_id}.json"))
    }

    /// The job's full log.
    pub(crate) fn trace(&self, job_id: i64) -> PathBuf {
        self.traces().join(format!("{job_id}.log"))
    }

    /// A new artifact's file. The runner's file name takes no part in it.
    pub(crate) fn artifact(&self, stored_as: &str) -> PathBuf {
        self.artifacts().join(stored_as)
    }

    /// Takes a file of another state directory in, as a link where the file system can. Returns its size.
    pub(crate) fn adopt(&self, from: &Path, stored_as: &str) -> Result<u64, StoreError> {
        let to = self.artifact(stored_as);
        let linked = std::fs::hard_link(from, &to).or_else(|_| std::fs::copy(from, &to).map(drop));
        linked
            .and_then(|()| Ok(to.metadata()?.len()))
            .map_err(|source| StoreError::Io {
                path: from.display().to_string(),
                source,
            })
    }
}

fn remove_partial(artifacts: &Path) -> io::Result<()> {
    for job in std::fs::read_dir(artifacts)? {
        let job = job?;
        if !job.file_type()?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(job.path())? {
            let path = file?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "part")
            {
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

/// Writes a file for the owner only, in place of a former one.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    private_options()
        .create(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|source| StoreError::Io {
            path: path.display().to_string(),
            source,
        })
}

/// Creates the directory and its parents, new ones for the owner only.
pub(crate) fn private_dir(path: &Path) -> Result<(), StoreError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(0o700);
    builder.create(path).map_err(|source| StoreError::Io {
        path: path.display().to_string(),
        source,
    })
}

/// Creates the file for the owner only, unless it is there.
pub(super) fn create_private(path: &Path) -> Result<(), StoreError> {
    private_options()
        .create(true)
        .open(path)
        .map(drop)
        .map_err(|source| StoreError::Io {
            path: path.display().to_string(),
            source,
        })
}

/// Options that write, and that create for the owner only.
pub(crate) fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    options.mode(0o600);
    options
}

/// What one process does after the other, for as long as this lives.
pub(crate) struct FileLock(File);

impl FileLock {
    /// Waits until nobody else has the lock of this file, which is made.
    pub(crate) fn of(path: &Path) -> Result<Self, StoreError> {
        let file = private_options().create(true).open(path);
        let locked = file.and_then(|file| file.lock().map(|()| Self(file)));
        locked.map_err(|source| StoreError::Io {
            path: path.display().to_string(),
            source,
        })
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // By name: a child that is being started just now may hold the file a moment longer.
        drop(self.0.unlock());
    }
}

/// A job's log while the job runs: the file, its size and its running checksum.
pub(crate) struct TraceFile {
    file: File,
    size: u64,
    checksum: crc32fast::Hasher,
}

/// What became of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TraceAppend {
    /// Written; bytes stored now.
    Stored(u64),
    /// The offset is not the end of what is stored; bytes stored.
    Mismatch(u64),
    /// The log would become larger than allowed.
    TooLarge,
}

impl TraceFile {
    /// Opens the log, empty or as a former process left it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = private_options().read(true).create(true).open(path)?;
        let mut checksum = crc32fast::Hasher::new();
        let mut size = 0;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            checksum.update(&buffer[..read]);
            size += read as u64;
        }
        Ok(Self {
            file,
            size,
            checksum,
        })
    }

    /// Appends `bytes` if they begin where the log ends and it stays within `limit`.
    pub(crate) fn append(
        &mut self,
        start: u64,
        bytes: &[u8],
        limit: u64,
    ) -> io::Result<TraceAppend> {
        if start != self.size {
            return Ok(TraceAppend::Mismatch(self.size));
        }
        let end = self.size + bytes.len() as u64;
        if end > limit {
            return Ok(TraceAppend::TooLarge);
        }
        // At an explicit place: a write that failed half-way is overwritten by the next one.
        self.file.seek(SeekFrom::Start(self.size))?;
        self.file.write_all(bytes)?;
        self.checksum.update(bytes);
        self.size = end;
        Ok(TraceAppend::Stored(end))
    }

    /// Forgets everything stored.
    pub(crate) fn reset(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.size = 0;
        self.checksum = crc32fast::Hasher::new();
        Ok(())
    }

    /// Bytes stored.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// `crc32:` and eight hex digits, as runners send it.
    pub(crate) fn checksum(&self) -> String {
        format!("crc32:{:08x}", self.checksum.clone().finalize())
    }
}
