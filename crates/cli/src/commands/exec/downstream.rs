//! What `trigger` starts in a local run: child pipelines, evaluated on the snapshot that their parent's jobs get,
//! and pipelines of other projects that lie on this machine.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use courser_coordinator::{
    DownstreamError, DownstreamRequest, DownstreamTarget, Evaluated, PipelineSource, Project,
};
use courser_pipeline::{ChangedFiles, Comparison, Elsewhere, Event, Files};
use jiff::Timestamp;
use tokio::runtime;

use super::containers::ContainerOptions;
use super::project::Target;
use super::snapshot::{self, Snapshot};
use crate::downstream;
use crate::event_options::EventOptions;
use crate::includes::{Includes, LocalProject};
use crate::project::{self, FILE, OpenProject};
use crate::repository::{CommittedFiles, Occasion, RefKind, Repository};

/// The number of the run's own project.
const OWN: i64 = 1;

/// Makes the pipelines that bridges ask for.
pub(super) struct LocalPipelines {
    target: Target,
    options: EventOptions,
    includes: Includes,
    containers: ContainerOptions,
    /// Whether jobs can have containers, once it is known.
    has_containers: OnceLock<bool>,
    /// Repository of the run's snapshot; those of other projects lie below.
    git_dir: PathBuf,
    /// What the first pipeline compares with, once it is known.
    changed_files: OnceLock<ChangedFiles>,
    others: Mutex<Others>,
}

/// Other projects of this run: one number for each path and ref, so that none takes another's commit away.
type Others = HashMap<(String, Option<String>), OtherProject>;

/// A project at a ref.
#[derive(Clone)]
struct OtherProject {
    project: Project,
    commit: String,
}

impl LocalPipelines {
    pub(super) fn new(
        target: Target,
        options: EventOptions,
        includes: Includes,
        containers: ContainerOptions,
        git_dir: PathBuf,
    ) -> Self {
        Self {
            target,
            options,
            includes,
            containers,
            has_containers: OnceLock::new(),
            git_dir,
            changed_files: OnceLock::new(),
            others: Mutex::default(),
        }
    }

    /// Tells the event of the first pipeline: `rules:changes` of children compares as it does.
    pub(super) fn is_for(&self, event: &Event) {
        drop(self.changed_files.set(event.changed_files.clone()));
    }

    /// Tells whether jobs of other pipelines can have containers.
    pub(super) fn have_containers(&self, can: bool) {
        self.has_containers.set(can).ok();
    }

    fn child(&self, request: DownstreamRequest) -> Result<Evaluated, DownstreamError> {
        let opened = self.target.project.open(self.target.with_git);
        let files = opened.map_err(|error| refused(&error))?;
        let placed = self.options.place(files.repository.clone());
        let (repository, ..) =
            placed.map_err(|failure| DownstreamError::creation(failure.message()))?;
        let is_own = request.project_id == OWN;
        let git_dir = if is_own {
            self.git_dir.clone()
        } else {
            self.git_dir_of(request.project_id)
        };
        let sha = request.sha.clone();
        let files = AtParent {
            commit: CommittedFiles {
                git_dir: &git_dir,
                sha: &sha,
            },
            project: files.at(repository).including(&self.includes),
            is_own,
        };
        let changed_files = self.changed_files.get().filter(|_| is_own);
        downstream::child(request, &files, changed_files.cloned().unwrap_or_default())
    }

    /// Where the snapshot of another project lies.
    fn git_dir_of(&self, project: i64) -> PathBuf {
        self.git_dir.join(format!("projects/{project}"))
    }

    /// The pipeline of another project, of the branch or tag that the bridge names, else of its directory as
    /// it lies.
    fn of_project(
        &self,
        path: &str,
        branch: Option<&str>,
        request: DownstreamRequest,
    ) -> Result<Evaluated, DownstreamError> {
        let LocalProject { directory, by_ref } = self.find(path, branch)?;
        let place = project::Project {
            root: directory.clone(),
            file: FILE.to_owned(),
        };
        let mut files = place
            .open(directory.join(".git").exists())
            .map_err(|error| refused(&error))?;
        let mut occasion = Occasion {
            ref_name: branch.map(str::to_owned),
            ..Occasion::from_source("pipeline")
        };
        let mut commit = None;
        if let Some(name) = branch.filter(|_| by_ref) {
            let found = files.repository.find_ref(name, false);
            let found = found.filter(|found| found.kind != RefKind::Commit);
            let found = found.ok_or_else(|| {
                let text = format!(
                    "project `{path}` has no branch or tag `{name}` in {}",
                    directory.display()
                );
                DownstreamError::creation(text)
            })?;
            occasion.tag = found.kind == RefKind::Tag;
            let at = files.repository.clone().at(&found.sha);
            let at = at.map_err(|error| refused(&error))?.ok_or_else(|| {
                DownstreamError::creation(format!("commit {} is gone", found.sha))
            })?;
            files = files.at(at);
            commit = Some(found.sha);
        }
        if !files.project.has_file() && commit.is_none() {
            let text = format!("there is no {FILE} in {}", directory.display());
            return Err(DownstreamError::creation(text));
        }
        let key = (path.to_ascii_lowercase(), branch.map(str::to_owned));
        let url = request.of_server.get("CI_SERVER_URL").cloned();
        let other = self.other(key, &files.repository, path, commit.as_deref(), url)?;
        let mut event = files.repository.event(&occasion);
        let short = other.commit.chars().take(8).collect();
        for (key, value) in [
            ("CI_PROJECT_PATH", other.project.path.clone()),
            ("CI_COMMIT_SHA", other.commit.clone()),
            ("CI_COMMIT_SHORT_SHA", short),
        ] {
            event.predefined.insert(key.to_owned(), value);
        }
        let files = files.including(&self.includes);
        let made = downstream::of_project(request, other.project.id, (FILE, &files), event)?;
        Ok(Evaluated {
            project: Some(other.project),
            ..made
        })
    }

    /// Where a project lies: named on the command line, or the run's own.
    fn find(&self, path: &str, branch: Option<&str>) -> Result<LocalProject, DownstreamError> {
        if let Some(found) = self.includes.local_project(path, branch) {
            return Ok(found);
        }
        let opened = self.target.project.open(self.target.with_git);
        let own = opened.map_err(|error| refused(&error))?.repository;
        if own.project_path().eq_ignore_ascii_case(path) {
            return Ok(LocalProject {
                directory: self.target.project.root.clone(),
                by_ref: own.git.is_some(),
            });
        }
        let text = format!(
            "no checkout of project `{path}` is known here: give its directory with --include-map {path}=DIR or --include-root"
        );
        Err(DownstreamError::unknown_project(text))
    }

    /// The project's number and repository with the commit to run: `commit`, else a snapshot.
    fn other(
        &self,
        key: (String, Option<String>),
        repository: &Repository,
        path: &str,
        commit: Option<&str>,
        url: Option<String>,
    ) -> Result<OtherProject, DownstreamError> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = others.get(&key) {
            return Ok(known.clone());
        }
        let id = OWN + 1 + others.len() as i64;
        let git_dir = self.git_dir_of(id);
        let (root, now) = (&repository.root, Timestamp::now());
        // A thread that may wait: bridges are evaluated on one.
        let taken = runtime::Handle::current().block_on(async {
            match commit {
                Some(sha) => snapshot::of_commit(root, &git_dir, sha, now).await,
                None => snapshot::take(root, &git_dir, repository.git.is_some(), now).await,
            }
        });
        let Snapshot {
            repository,
            commit,
            submodules,
        } = taken.map_err(|error| refused(&error))?;
        let path = Project::plain_path(path);
        let url = format!("{}/{path}.git", url.unwrap_or_default());
        let other = OtherProject {
            project: Project {
                id,
                path,
                repository: repository.with_submodules(submodules.served(&url)),
            },
            commit,
        };
        others.insert(key, other.clone());
        Ok(other)
    }
}

/// The files of a parent pipeline's commit, whatever has become of the working tree since.
struct AtParent<'a> {
    commit: CommittedFiles<'a>,
    /// The run's own project.
    project: OpenProject,
    /// Whether the parent belongs to it.
    is_own: bool,
}

impl Files for AtParent<'_> {
    fn read(&self, path: &str) -> Option<String> {
        self.commit.read(path)
    }

    fn list(&self) -> Vec<String> {
        self.commit.list()
    }

    fn changed_since(&self, reference: &str) -> Comparison {
        if self.is_own {
            self.project.changed_since(reference)
        } else {
            Comparison::NotBuilt
        }
    }

    fn elsewhere(&self) -> &dyn Elsewhere {
        self.project.elsewhere()
    }
}

fn refused(error: &dyn std::error::Error) -> DownstreamError {
    DownstreamError::creation(error.to_string())
}

impl PipelineSource for LocalPipelines {
    fn pipeline(
        &self,
        _project_id: i64,
        _ref_name: &str,
        _variables: &[(String, String)],
    ) -> Result<Evaluated, String> {
        Err("courser exec runs the pipeline that it was started for".to_owned())
    }

    fn downstream(&self, request: DownstreamRequest) -> Result<Evaluated, DownstreamError> {
        let mut made = match &request.target {
            DownstreamTarget::Child { .. } => self.child(request),
            DownstreamTarget::Project { path, branch, .. } => {
                let (path, branch) = (path.trim_matches('/').to_owned(), branch.clone());
                self.of_project(&path, branch.as_deref(), request)
            }
        }?;
        let pipeline = &mut made.pipeline.pipeline;
        self.containers.apply(pipeline);
        let can = self.has_containers.get().is_some_and(|can| *can);
        if let Some(text) = self.containers.refusal(pipeline, can) {
            return Err(DownstreamError::creation(text));
        }
        Ok(made)
    }
}
