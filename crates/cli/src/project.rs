//! Which directory is the project, and which file describes its pipeline: one rule for `pipeline` and `exec`.

use std::io;
use std::path::{Path, PathBuf};

use courser_pipeline::{Comparison, Elsewhere, Files};

use crate::includes::{Includes, Places};
use crate::repository::{Repository, RepositoryError, read_bounded};

/// The file that makes a directory a project.
pub(crate) const FILE: &str = ".gitlab-ci.yml";

/// Where a project is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    /// Paths in the file are relative to it. Absolute, links resolved.
    pub(crate) root: PathBuf,
    /// The file, as named in messages: relative to the root where it is inside, else absolute.
    pub(crate) file: String,
}

impl Project {
    /// The nearest directory from `start` upwards to the top of the Git working tree that has the file;
    /// without one that top, and without Git `start` itself. A `file` of the usual name makes its own
    /// directory the project; another one belongs to the project of `start` unless it lies outside.
    ///
    /// # Errors
    ///
    /// `start` or the directory of `file` is not there.
    pub(crate) fn find(start: &Path, file: Option<&Path>) -> io::Result<Self> {
        let start = start.canonicalize()?;
        let Some(file) = file else {
            return Ok(Self {
                root: nearest(&start),
                file: FILE.to_owned(),
            });
        };
        let named = start.join(file);
        let name = named.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let folder = named.parent().unwrap_or(&start).canonicalize()?;
        let full = folder.join(name);
        let around = nearest(&start);
        let root = if name != FILE && full.starts_with(&around) {
            around
        } else {
            folder
        };
        let shown = full.strip_prefix(&root).unwrap_or(&full);
        Ok(Self {
            file: shown.to_string_lossy().into_owned(),
            root,
        })
    }

    /// Whether the file is there.
    pub(crate) fn has_file(&self) -> bool {
        self.root.join(&self.file).is_file()
    }

    /// Its files, and what Git knows of them unless that is not wanted.
    pub(crate) fn open(&self, with_git: bool) -> Result<OpenProject, RepositoryError> {
        Ok(OpenProject {
            project: self.clone(),
            repository: if with_git {
                Repository::of_directory(&self.root)?
            } else {
                Repository::without_git(&self.root)
            },
            places: Places::none(),
        })
    }
}

fn nearest(start: &Path) -> PathBuf {
    for directory in start.ancestors() {
        if directory.join(FILE).is_file() {
            return directory.to_owned();
        }
        if directory.join(".git").exists() {
            return directory.to_owned();
        }
    }
    start.to_owned()
}

/// A project whose files can be read.
#[derive(Debug)]
pub(crate) struct OpenProject {
    pub(crate) project: Project,
    pub(crate) repository: Repository,
    /// Where files of other places come from.
    places: Places,
}

impl OpenProject {
    /// `group/project`, as the remote tells.
    pub(crate) fn path(&self) -> Option<String> {
        Some(self.repository.project_path())
    }

    /// The same, with other facts of Git: another commit's.
    pub(crate) fn at(self, repository: Repository) -> Self {
        Self { repository, ..self }
    }

    /// The same, with files of other places.
    pub(crate) fn including(self, includes: &Includes) -> Self {
        let own = self
            .repository
            .git
            .is_some()
            .then(|| (self.repository.project_path(), self.repository.clone()));
        Self {
            places: includes.clone().places(own),
            ..self
        }
    }
}

impl Files for OpenProject {
    fn read(&self, path: &str) -> Option<String> {
        let outside = Path::new(path).is_absolute();
        if path == self.project.file && (outside || !self.repository.is_committed()) {
            // The user named it, so it may be a link to somewhere else.
            return read_bounded(&self.project.root.join(path));
        }
        self.repository.read(path)
    }

    fn list(&self) -> Vec<String> {
        self.repository.list()
    }

    fn changed_since(&self, reference: &str) -> Comparison {
        self.repository.compare_to(reference)
    }

    fn elsewhere(&self) -> &dyn Elsewhere {
        &self.places
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_nearest_file_up_to_the_top_of_the_working_tree_makes_the_project() {
        let world = tempfile::tempdir().unwrap();
        let world = world.path().canonicalize().unwrap();
        for directory in ["work/.git", "work/a/b", "work/plain/c", "loose/d"] {
            fs::create_dir_all(world.join(directory)).unwrap();
        }
        for file in [
            ".gitlab-ci.yml",
            "work/a/.gitlab-ci.yml",
            "work/a/other.yml",
            "work/plain/other.yml",
        ] {
            fs::write(world.join(file), "").unwrap();
        }
        for (start, file, root, shown) in [
            ("work/a/b", None, "work/a", ".gitlab-ci.yml"),
            ("work/a", None, "work/a", ".gitlab-ci.yml"),
            // What lies above the working tree does not count, without Git it does.
            ("work/plain/c", None, "work", ".gitlab-ci.yml"),
            ("loose/d", None, "", ".gitlab-ci.yml"),
            (
                "work/plain",
                Some("../a/.gitlab-ci.yml"),
                "work/a",
                ".gitlab-ci.yml",
            ),
            ("work/a/b", Some("../other.yml"), "work/a", "other.yml"),
            (
                "work/plain/c",
                Some("../other.yml"),
                "work",
                "plain/other.yml",
            ),
            (
                "work/a",
                Some("../plain/other.yml"),
                "work/plain",
                "other.yml",
            ),
        ] {
            let found = Project::find(&world.join(start), file.map(Path::new)).unwrap();
            let expected = Project {
                root: world.join(root).components().collect(),
                file: shown.to_owned(),
            };
            assert_eq!(found, expected, "{start} {file:?}");
        }
        let missing = Project::find(&world, Some(Path::new("nowhere/x.yml")));
        assert!(missing.is_err());
    }
}
