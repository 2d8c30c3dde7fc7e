//! Files from outside of the repository that `include` names: from directories of this machine, and, when
//! somebody asks for it, from a GitLab server or a URL (`gitlab-ci-yaml.md` 3.1).
//!
//! [`IncludeOptions`] is what the command line says, [`Includes`] what came of it, [`Places`] answers one
//! evaluation. Nothing goes over the network unless `--include-server` or `--include-remote` is given.

mod directories;
mod server;
mod version;

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use courser_pipeline::{Component, ComponentAddress, Elsewhere, OtherProject, Unavailable};
use courser_protocol::Secret;
use serde::{Deserialize, Serialize};

use self::directories::{Checkout, Directories, Mapping};
use self::server::{Clock, Remote, Server};
use crate::environment::ProcessEnvironment;
use crate::failure::{Code, Failure};
use crate::private_file;
use crate::repository::Repository;

/// Bytes of a file with a token.
const LARGEST_TOKEN: u64 = 64 * 1024;

/// Where `include` finds files of other places.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Included files of other places")]
pub(crate) struct IncludeOptions {
    /// Directory with the files of other places: projects/GROUP/PROJECT/ (or .../PROJECT@REF/),
    /// remote/HOST/PATH, templates/NAME, components/HOST/GROUP/PROJECT/NAME@VERSION.yml
    /// [env: COURSER_INCLUDE_ROOT]
    #[arg(long, value_name = "DIR")]
    include_root: Option<PathBuf>,
    /// The files of a project are in this directory: at any ref, in a Git checkout at the ref that is
    /// asked for; with @REF the directory as it lies stands for that ref
    #[arg(long = "include-map", value_name = "GROUP/PROJECT[@REF]=DIR")]
    include_maps: Vec<Mapping>,
    /// GitLab server to fetch projects, components and templates from; its token is that of
    /// --include-token-file, else of the variable GITLAB_TOKEN [env: COURSER_INCLUDE_SERVER]
    #[arg(long, value_name = "URL")]
    include_server: Option<String>,
    /// File with the token for that server, which only you can read
    #[arg(long, value_name = "FILE")]
    include_token_file: Option<PathBuf>,
    /// Certificates of authorities to trust for server and URLs, besides those of the system
    #[arg(long, value_name = "FILE")]
    include_ca_file: Option<PathBuf>,
    /// Fetch the URLs of include:remote
    #[arg(long)]
    include_remote: bool,
}

/// Options and environment, looked at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Includes {
    directories: Directories,
    server: Option<Server>,
    remote: Option<Remote>,
}

impl IncludeOptions {
    /// Looks at the options and the environment.
    ///
    /// # Errors
    ///
    /// A directory that is not there, a token that others can read, a URL that is none.
    pub(crate) fn settle(&self, environment: &ProcessEnvironment) -> Result<Includes, Failure> {
        let variable = |name: &str| {
            environment
                .variables
                .get(name)
                .filter(|text| !text.is_empty())
        };
        let directory = &environment.working_directory;
        let root = self.include_root.clone();
        let root = root.or_else(|| variable("COURSER_INCLUDE_ROOT").map(PathBuf::from));
        let directories = Directories::new(
            root.map(|root| directory.join(root)),
            self.include_maps
                .iter()
                .map(|mapping| mapping.below(directory))
                .collect(),
        )?;
        let url = self.include_server.as_deref();
        let url = url.or_else(|| variable("COURSER_INCLUDE_SERVER"));
        if url.is_none() && self.include_token_file.is_some() {
            return Err(Failure::new(
                Code::Usage,
                "--include-token-file is for --include-server",
            ));
        }
        let ca_file = self
            .include_ca_file
            .as_ref()
            .map(|file| directory.join(file));
        if let Some(file) = ca_file.as_ref().filter(|file| !file.is_file()) {
            return Err(Failure::invalid(format!(
                "{} does not exist",
                file.display()
            )));
        }
        if url.is_none() && !self.include_remote {
            return Ok(Includes {
                directories,
                server: None,
                remote: None,
            });
        }
        let remote = Remote::new(environment, ca_file.as_deref());
        let server = url
            .map(|url| {
                let token = match &self.include_token_file {
                    Some(file) => {
                        let text =
                            private_file::read(&directory.join(file), "token file", LARGEST_TOKEN)?;
                        Some(Secret::new(text.trim()))
                    }
                    None => variable("GITLAB_TOKEN").map(Into::into),
                };
                Server::new(remote.clone(), url, token)
            })
            .transpose()?;
        Ok(Includes {
            directories,
            server,
            remote: self.include_remote.then_some(remote),
        })
    }
}

/// Where a project that a pipeline names lies on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalProject {
    pub(crate) directory: PathBuf,
    /// Whether a ref means a commit of it. If not, the directory as it lies stands for the ref.
    pub(crate) by_ref: bool,
}

impl Includes {
    /// The directory that was named for a project; `None` when there is none.
    pub(crate) fn local_project(
        &self,
        path: &str,
        reference: Option<&str>,
    ) -> Option<LocalProject> {
        let (directory, pinned) = self.directories.directory(path, reference)?;
        let by_ref = !pinned && directory.join(".git").exists();
        Some(LocalProject { directory, by_ref })
    }

    /// The places for one evaluation; `own` is the repository with its own path, which knows its other
    /// refs by itself. Where a server is asked, the evaluation must run on a thread that may wait.
    pub(crate) fn places(mut self, own: Option<(String, Repository)>) -> Places {
        let clock = Clock::default();
        if let Some(server) = &mut self.server {
            server.restart(clock.clone());
        }
        if let Some(remote) = &mut self.remote {
            remote.restart(clock);
        }
        Places {
            includes: self,
            own,
        }
    }
}

/// Answers what one evaluation asks.
pub(crate) struct Places {
    includes: Includes,
    own: Option<(String, Repository)>,
}

impl Places {
    /// Knows nothing.
    pub(crate) fn none() -> Self {
        Includes::default().places(None)
    }

    fn own(&self, path: &str, reference: Option<&str>) -> Option<Result<Checkout, Unavailable>> {
        let (own, repository) = self.own.as_ref()?;
        own.eq_ignore_ascii_case(path)
            .then(|| Checkout::of_commit(path, repository.clone(), reference))
    }
}

/// Clients have no text form of their own.
impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places")
            .field("includes", &self.includes)
            .field("own", &self.own.as_ref().map(|(path, _)| path))
            .finish()
    }
}

impl Elsewhere for Places {
    fn project(
        &self,
        path: &str,
        reference: Option<&str>,
    ) -> Result<Rc<dyn OtherProject>, Unavailable> {
        let path = path.trim_matches('/');
        if let Some(found) = self.includes.directories.project(path, reference) {
            return Ok(Rc::new(found?));
        }
        if let Some(found) = self.own(path, reference) {
            return Ok(Rc::new(found?));
        }
        match &self.includes.server {
            Some(server) => Ok(Rc::new(server.project(path, reference)?)),
            None => Err(Unavailable(format!(
                "project `{path}` lies outside of the repository: give its directory with --include-map {path}=DIR or --include-root, or a server that has it with --include-server"
            ))),
        }
    }

    fn remote(&self, url: &str) -> Result<String, Unavailable> {
        if let Some(text) = self.includes.directories.remote(url) {
            return Ok(text);
        }
        match &self.includes.remote {
            Some(remote) => remote.text(url),
            None => Err(Unavailable(format!(
                "remote file `{url}` lies outside of the repository: put it below --include-root as remote/{}, or let it be fetched with --include-remote",
                url.split_once("://").map_or(url, |(_, rest)| rest)
            ))),
        }
    }

    fn template(&self, name: &str) -> Result<String, Unavailable> {
        if let Some(text) = self.includes.directories.template(name) {
            return Ok(text);
        }
        match &self.includes.server {
            Some(server) => server.template(name),
            None => Err(Unavailable(format!(
                "template `{name}` comes with GitLab and not with Courser: put it below --include-root as templates/{name}, or give a server that has it with --include-server"
            ))),
        }
    }

    fn component(&self, address: &ComponentAddress<'_>) -> Result<Component, Unavailable> {
        if let Some(found) = self.includes.directories.component(address) {
            return found;
        }
        let (project, name) = address.path.rsplit_once('/').unwrap_or_default();
        if let Some((path, repository)) = &self.own
            && path.eq_ignore_ascii_case(project)
        {
            return version::component(project, name, address, repository.clone());
        }
        match &self.includes.server {
            Some(server) => server.component(address),
            None => Err(Unavailable(format!(
                "component `{}` lies outside of the repository: give its project's directory with --include-map {project}=DIR or --include-root, or a server that has it with --include-server",
                address.full
            ))),
        }
    }
}

/// A path of segments that go down only.
fn goes_down(path: &str) -> bool {
    Path::new(path)
        .components()
        .all(|component| matches!(component, std::path::Component::Normal(_)))
}
