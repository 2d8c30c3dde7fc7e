//! A bare repository made beside the user's: objects of its own, the user's as alternates.
//!
//! The user's repository is only read. Refs such as `refs/pipelines/7` and snapshot commits live here. Submodules
//! are repositories of the same kind, LFS objects are read where the user has them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::{StoreError, private_dir, private_options};

/// What the new repository borrows from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Object directory of the user's repository; `None`: nothing to borrow.
    pub objects: Option<PathBuf>,
    /// Its `shallow` file, where it has one.
    pub shallow: Option<PathBuf>,
    /// `sha1` or `sha256`.
    pub object_format: String,
}

/// A bare repository that jobs fetch from.
#[derive(Debug, Clone)]
pub struct ServedRepository {
    git_dir: PathBuf,
    object_format: String,
    /// Counts changes of refs.
    generation: Arc<AtomicU64>,
    /// What a ref was pointed at last.
    latest: Arc<Mutex<Option<String>>>,
    /// `lfs/objects` of the user's repository.
    lfs_objects: Option<PathBuf>,
    submodules: Arc<[Submodule]>,
}

/// A submodule, at any depth, that jobs of a project get from here instead of from its URL.
#[derive(Debug, Clone)]
pub struct Submodule {
    /// Its URL as Git has it in a job: absolute.
    pub url: String,
    /// What is served in its place.
    pub repository: ServedRepository,
}

/// Directory of kept answers, below the repository's own.
const ANSWERS: &str = "courser-answers";

impl ServedRepository {
    /// Writes the skeleton of a bare repository at `git_dir`; no process is needed for that.
    pub fn create(git_dir: &Path, origin: &Origin) -> Result<Self, StoreError> {
        for dir in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
            private_dir(&git_dir.join(dir))?;
        }
        // Packs of a former process: nobody knows any more what they answer.
        let answers = git_dir.join(ANSWERS);
        match fs::remove_dir_all(&answers) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::Io {
                    path: answers.display().to_string(),
                    source,
                });
            }
            _ => {}
        }
        let sha256 = origin.object_format == "sha256";
        let config = if sha256 {
            "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = sha256\n"
        } else {
            "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
        };
        write(&git_dir.join("config"), config)?;
        write(&git_dir.join("HEAD"), "ref: refs/heads/main\n")?;
        if let Some(objects) = &origin.objects {
            let alternates = git_dir.join("objects/info/alternates");
            write(&alternates, &format!("{}\n", objects.display()))?;
        }
        if let Some(shallow) = &origin.shallow {
            let target = git_dir.join("shallow");
            fs::copy(shallow, &target).map_err(|source| StoreError::Io {
                path: shallow.display().to_string(),
                source,
            })?;
        }
        Ok(Self {
            git_dir: git_dir.to_owned(),
            object_format: if sha256 { "sha256" } else { "sha1" }.to_owned(),
            generation: Arc::default(),
            latest: Arc::default(),
            lfs_objects: None,
            submodules: Arc::default(),
        })
    }

    /// Serves LFS objects that lie below this directory as Git LFS stores them.
    #[must_use]
    pub fn with_lfs_objects(mut self, directory: PathBuf) -> Self {
        self.lfs_objects = Some(directory);
        self
    }

    /// Serves these in the place of their URLs.
    #[must_use]
    pub fn with_submodules(mut self, submodules: Vec<Submodule>) -> Self {
        self.submodules = submodules.into();
        self
    }

    /// The submodules that are served.
    pub(crate) fn submodules(&self) -> &[Submodule] {
        &self.submodules
    }

    /// Where an LFS object would lie. `oid` has been checked.
    pub(crate) fn lfs_object(&self, oid: &str) -> Option<PathBuf> {
        let (first, second) = (oid.get(..2)?, oid.get(2..4)?);
        let objects = self.lfs_objects.as_ref()?;
        Some(objects.join(first).join(second).join(oid))
    }

    /// The commit that a ref was pointed at last.
    pub(crate) fn latest(&self) -> Option<String> {
        let latest = self.latest.lock();
        latest.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where it lies.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// Kept answers of `git upload-pack`.
    pub(crate) fn answers(&self) -> PathBuf {
        self.git_dir.join(ANSWERS)
    }

    /// `sha1` or `sha256`.
    pub fn object_format(&self) -> &str {
        &self.object_format
    }

    /// Points `name` (`refs/heads/main`) at a commit.
    pub fn set_ref(&self, name: &str, commit: &str) -> Result<(), StoreError> {
        let path = self.git_dir.join(name);
        let refused = |reason: &str| StoreError::Io {
            path: name.to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, reason.to_owned()),
        };
        if !is_ref_name(name) {
            return Err(refused("not a ref name"));
        }
        if commit.len() < 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refused("not a commit id"));
        }
        if let Some(parent) = path.parent() {
            self.make_room(name)?;
            private_dir(parent)?;
        }
        // Jobs fetch meanwhile: as Git does it, they see the old commit or the new one.
        let lock = self.git_dir.join(format!("{name}.lock"));
        write(&lock, &format!("{commit}\n"))?;
        fs::rename(&lock, &path).map_err(|source| StoreError::Io {
            path: path.display().to_string(),
            source,
        })?;
        let latest = self.latest.lock();
        *latest.unwrap_or_else(PoisonError::into_inner) = Some(commit.to_owned());
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Takes refs away that exclude a ref of this name: a file that stands where one of its directories belongs,
    /// or a directory in its own place. Branches come and go; the commits of pipelines have refs of their own.
    fn make_room(&self, name: &str) -> Result<(), StoreError> {
        let removed = |path: &Path, done: std::io::Result<()>| match done {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(StoreError::Io {
                path: path.display().to_string(),
                source,
            }),
            _ => Ok(()),
        };
        for (end, _) in name.match_indices('/') {
            let parent = self.git_dir.join(&name[..end]);
            if parent.is_file() {
                removed(&parent, fs::remove_file(&parent))?;
            }
        }
        let path = self.git_dir.join(name);
        if path.is_dir() {
            removed(&path, fs::remove_dir_all(&path))?;
        }
        Ok(())
    }

    /// Grows whenever a ref changes.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// The rules of `git check-ref-format` that keep a name inside `refs/` and readable by Git.
fn is_ref_name(name: &str) -> bool {
    name.starts_with("refs/")
        // `refs/heads` is where branches are.
        && name.split('/').count() > 2
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains(|c: char| c.is_control() || " ~^:?*[\\".contains(c))
        && name.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && !part.ends_with('.')
                && !part.ends_with(".lock")
        })
}

fn write(path: &Path, text: &str) -> Result<(), StoreError> {
    private_options()
        .create(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| StoreError::Io {
            path: path.display().to_string(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_is_whole_while_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let repository = ServedRepository::create(dir.path(), &Origin::default()).unwrap();
        let commits = ["1".repeat(40), "2".repeat(40)];
        repository.set_ref("refs/heads/main", &commits[0]).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for turn in 0..500 {
                    let commit = &commits[turn % 2];
                    repository.set_ref("refs/heads/main", commit).unwrap();
                }
            });
            while !writer.is_finished() {
                let seen = fs::read_to_string(dir.path().join("refs/heads/main")).unwrap();
                assert!(commits.contains(&seen.trim().to_owned()), "{seen:?}");
            }
        });
    }

    #[test]
    fn a_ref_takes_the_place_of_one_that_excludes_it() {
        let dir = tempfile::tempdir().unwrap();
        let repository = ServedRepository::create(dir.path(), &Origin::default()).unwrap();
        let commit = "1".repeat(40);
        for name in ["refs/heads/a", "refs/heads/a/b/c", "refs/heads/a"] {
            repository.set_ref(name, &commit).unwrap();
            let written = fs::read_to_string(dir.path().join(name)).unwrap();
            assert_eq!(written.trim(), commit, "{name}");
        }
        assert!(dir.path().join("refs/tags").is_dir());
        // Names that would take away more than refs of the same kind.
        assert!(repository.set_ref("refs/heads", &commit).is_err());
    }

    #[test]
    fn only_ref_names_that_stay_inside_refs_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let repository = ServedRepository::create(dir.path(), &Origin::default()).unwrap();
        let id = "0123456789abcdef0123456789abcdef01234567";
        for name in ["refs/heads/feature/x", "refs/pipelines/7", "refs/tags/v1.0"] {
            repository.set_ref(name, id).unwrap();
            assert_eq!(
                fs::read_to_string(dir.path().join(name)).unwrap().trim(),
                id
            );
        }
        for name in [
            "HEAD",
            "refs/../config",
            "refs/heads/",
            "refs/heads/a b",
            "refs/heads/.x",
            "refs/a.lock",
        ] {
            assert!(repository.set_ref(name, id).is_err(), "{name}");
        }
        assert!(repository.set_ref("refs/heads/x", "main").is_err());
    }
}
