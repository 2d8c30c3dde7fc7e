//! Files of other places in directories of this machine.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;

use courser_pipeline::{Component, ComponentAddress, Files, OtherProject, Unavailable};
use serde::{Deserialize, Serialize};

use super::{goes_down, version};
use crate::failure::Failure;
use crate::repository::{Repository, RepositoryError, read_bounded};

/// `GROUP/PROJECT[@REF]=DIR`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mapping {
    project: String,
    reference: Option<String>,
    directory: PathBuf,
}

impl FromStr for Mapping {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write it as GROUP/PROJECT=DIR or GROUP/PROJECT@REF=DIR";
        let (name, directory) = text.split_once('=').ok_or(wrong)?;
        let (project, reference) = match name.split_once('@') {
            Some((project, reference)) => (project, Some(reference)),
            None => (name, None),
        };
        let project = project.trim_matches('/');
        if !project.contains('/') || directory.is_empty() || reference == Some("") {
            return Err(wrong);
        }
        Ok(Self {
            project: project.to_owned(),
            reference: reference.map(str::to_owned),
            directory: directory.into(),
        })
    }
}

impl Mapping {
    /// With the directory seen from another one.
    pub(super) fn below(&self, directory: &Path) -> Self {
        Self {
            directory: directory.join(&self.directory),
            ..self.clone()
        }
    }
}

/// All that were named.
#[derive(Debug, Clone, Default)]
pub(super) struct Directories {
    root: Option<PathBuf>,
    mappings: Vec<Mapping>,
}

impl Directories {
    /// # Errors
    ///
    /// One is not there.
    pub(super) fn new(root: Option<PathBuf>, mappings: Vec<Mapping>) -> Result<Self, Failure> {
        let directories = mappings.iter().map(|mapping| &mapping.directory);
        if let Some(missing) = root.iter().chain(directories).find(|path| !path.is_dir()) {
            let text = format!("{} is no directory", missing.display());
            return Err(
                Failure::invalid(text).hint("--include-root and --include-map take directories")
            );
        }
        Ok(Self { root, mappings })
    }

    /// A project at a ref; `None` when no directory is meant for it.
    pub(super) fn project(
        &self,
        path: &str,
        reference: Option<&str>,
    ) -> Option<Result<Checkout, Unavailable>> {
        let (directory, pinned) = self.directory(path, reference)?;
        Some(if pinned {
            Ok(Checkout::as_it_lies(&directory))
        } else {
            Checkout::open(path, &directory, reference)
        })
    }

    /// The directory of a project, and whether it stands for this very ref.
    pub(super) fn directory(&self, path: &str, reference: Option<&str>) -> Option<(PathBuf, bool)> {
        let of_project = || {
            let mappings = self.mappings.iter();
            mappings.filter(|mapping| mapping.project.eq_ignore_ascii_case(path))
        };
        let pinned = of_project().find(|mapping| {
            mapping.reference.is_some() && mapping.reference.as_deref() == reference
        });
        if let Some(mapping) = pinned {
            return Some((mapping.directory.clone(), true));
        }
        if let Some(mapping) = of_project().find(|mapping| mapping.reference.is_none()) {
            return Some((mapping.directory.clone(), false));
        }
        let projects = self.root.as_ref()?.join("projects");
        if !goes_down(path) {
            return None;
        }
        let pinned = reference
            .filter(|reference| goes_down(reference))
            .map(|reference| projects.join(format!("{path}@{reference}")))
            .filter(|directory| directory.is_dir());
        if let Some(directory) = pinned {
            return Some((directory, true));
        }
        let directory = projects.join(path);
        directory.is_dir().then_some((directory, false))
    }

    /// The text that stands for a URL.
    pub(super) fn remote(&self, url: &str) -> Option<String> {
        let (_, location) = url.split_once("://")?;
        let location = location.split('#').next().unwrap_or_default();
        let (plain, _) = location.split_once('?').unwrap_or((location, ""));
        [location, plain]
            .into_iter()
            .find_map(|location| self.text("remote", location))
    }

    /// The text of a template.
    pub(super) fn template(&self, name: &str) -> Option<String> {
        self.text("templates", name)
    }

    /// A component: a file of its own, or one of its project's; `None` when no directory is meant for it.
    pub(super) fn component(
        &self,
        address: &ComponentAddress<'_>,
    ) -> Option<Result<Component, Unavailable>> {
        let (project, name) = address.path.rsplit_once('/')?;
        let versioned = format!("{}/{}@{}", address.host, address.path, address.version);
        for file in [
            format!("{versioned}.yml"),
            format!("{versioned}/template.yml"),
        ] {
            let Some(content) = self.text("components", &file) else {
                continue;
            };
            let directory = self.root.as_ref()?.join("components").join(&versioned);
            return Some(Ok(Component {
                content,
                file: format!("components/{file}"),
                project: Rc::new(Checkout::as_it_lies(&directory)),
                name: name.to_owned(),
                sha: String::new(),
                version: address.version.to_owned(),
            }));
        }
        let (directory, pinned) = self.directory(project, Some(address.version))?;
        if !pinned && directory.join(".git").exists() {
            let repository = Repository::of_directory(&directory);
            return Some(match repository {
                Ok(repository) => version::component(project, name, address, repository),
                Err(error) => Err(not_readable(project, &error)),
            });
        }
        let files = Checkout::as_it_lies(&directory);
        Some(version::of_files(
            project,
            name,
            address,
            Rc::new(files),
            "",
        ))
    }

    fn text(&self, kind: &str, path: &str) -> Option<String> {
        let root = self.root.as_ref().filter(|_| goes_down(path))?;
        read_bounded(&root.join(kind).join(path))
    }
}

/// Files of a project on this machine.
#[derive(Debug)]
pub(super) struct Checkout {
    repository: Repository,
}

impl Checkout {
    /// A directory whatever Git knows of it.
    fn as_it_lies(directory: &Path) -> Self {
        Self {
            repository: Repository::without_git(directory),
        }
    }

    /// A directory: with a ref the commit of that name where the directory is a Git checkout; one
    /// without Git stands for every ref.
    fn open(path: &str, directory: &Path, reference: Option<&str>) -> Result<Self, Unavailable> {
        let is_checkout = directory.join(".git").exists();
        match reference.filter(|_| is_checkout) {
            None => Ok(Self::as_it_lies(directory)),
            Some(_) => {
                let repository = Repository::of_directory(directory)
                    .map_err(|error| not_readable(path, &error))?;
                Self::of_commit(path, repository, reference)
            }
        }
    }

    /// A commit of a repository: that of the ref, else of the default branch.
    pub(super) fn of_commit(
        path: &str,
        repository: Repository,
        reference: Option<&str>,
    ) -> Result<Self, Unavailable> {
        let missing = |reference: &str| {
            Unavailable(format!(
                "Project `{path}` reference `{reference}` does not exist!"
            ))
        };
        let default = repository
            .git
            .as_ref()
            .map(|git| git.default_branch.clone());
        let name = reference.map(str::to_owned).or(default).unwrap_or_default();
        let found = repository
            .find_ref(&name, false)
            .ok_or_else(|| missing(&name))?;
        let at = repository
            .at(&found.sha)
            .map_err(|error| not_readable(path, &error))?;
        Ok(Self {
            repository: at.ok_or_else(|| missing(&name))?,
        })
    }
}

fn not_readable(path: &str, error: &RepositoryError) -> Unavailable {
    Unavailable(format!("Project `{path}` cannot be read: {error}"))
}

impl OtherProject for Checkout {
    fn read(&self, path: &str) -> Result<Option<String>, Unavailable> {
        Ok(Files::read(&self.repository, path))
    }

    fn list(&self) -> Result<Vec<String>, Unavailable> {
        Ok(Files::list(&self.repository))
    }
}
