//! Which directory and file a run is for, and the pipeline they make.

use std::path::{Path, PathBuf};

use courser_pipeline::{ChangedFiles, Event, Files, Pipeline};
use courser_protocol::JobVariable;

use crate::failure::{Code, Failure};
use crate::problems::{self, Severity};
use crate::repository::{Repository, read_bounded};

const DEFAULT_FILE: &str = ".gitlab-ci.yml";

/// What to run.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Root of the working copy that jobs get. Absolute, links resolved.
    pub(super) root: PathBuf,
    /// The file, as named in messages; relative to the root where it is inside.
    pub(super) file: String,
    /// Jobs named on the command line.
    pub(super) names: Vec<String>,
    /// Whether Git is asked.
    pub(super) with_git: bool,
}

/// The pipeline and the event it is for.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) event: Event,
    pub(super) pipeline: Pipeline,
}

impl Target {
    /// From the options: an explicit directory, or a first argument that is one, or the nearest
    /// directory upwards that has the file.
    pub(super) fn find(
        working_directory: &Path,
        directory: Option<&Path>,
        file: Option<&Path>,
        mut names: Vec<String>,
        with_git: bool,
    ) -> Result<Self, Failure> {
        let mut start = working_directory.join(directory.unwrap_or_else(|| Path::new(".")));
        if let Some(first) = names.first().map(|name| start.join(name))
            && first.join(DEFAULT_FILE).is_file()
        {
            start = first;
            names.remove(0);
        }
        let start = start
            .canonicalize()
            .map_err(|error| Failure::new(Code::Usage, format!("{}: {error}", start.display())))?;
        if let Some(file) = file {
            let full = working_directory.join(file);
            let full = full.canonicalize().map_err(|error| {
                Failure::new(Code::Usage, format!("{}: {error}", full.display()))
            })?;
            let inside = full.strip_prefix(&start).unwrap_or(&full);
            return Ok(Self {
                file: inside.to_string_lossy().into_owned(),
                root: start,
                names,
                with_git,
            });
        }
        let root = start
            .ancestors()
            .find(|above| above.join(DEFAULT_FILE).is_file());
        let root = root.ok_or_else(|| {
            Failure::new(Code::Usage, format!("no {DEFAULT_FILE} in {} or above", start.display()))
                .hint("go to the project's directory, or name it with -C DIR, or the file with --file FILE")
        })?;
        Ok(Self {
            root: root.to_owned(),
            file: DEFAULT_FILE.to_owned(),
            names,
            with_git,
        })
    }

    /// Evaluates the file for a push of the working tree. Errors in it are shown here.
    pub(super) fn evaluate(&self, variables: &[JobVariable]) -> Result<Evaluated, Failure> {
        let mut repository = if self.with_git {
            Repository::discover(&self.root)
                .map_err(|error| Failure::from_error(Code::Surroundings, &error))?
        } else {
            Repository::without_git(&self.root)
        };
        let is_top = repository
            .root
            .canonicalize()
            .is_ok_and(|top| top == self.root);
        repository.root.clone_from(&self.root);
        let mut event = repository.event("push", None, false);
        event.pipeline_variables = variables
            .iter()
            .map(|variable| (variable.key.clone(), variable.value.expose().to_owned()))
            .collect();
        let files = ProjectFiles {
            target: self,
            repository: &repository,
        };
        // Git names changed files from its own top; for a directory inside, everything counts as new.
        if is_top && self.asks_for_changes(&files) {
            event.changed_files = repository
                .changed_files()
                .map_err(|error| Failure::from_error(Code::Surroundings, &error))?;
        } else {
            event.changed_files = ChangedFiles::Unknown;
        }
        let pipeline =
            courser_pipeline::evaluate(&self.file, &files, &event).map_err(|errors| {
                anstream::eprint!("{}", problems::render(&errors, Severity::Error));
                let count = errors.len();
                let noun = if count == 1 { "error" } else { "errors" };
                Failure::invalid(format!("{} has {count} {noun}", self.file))
            })?;
        if !pipeline.workflow.created || pipeline.jobs.is_empty() {
            return Err(Failure::new(
                Code::Failed,
                "Pipeline filtered out by workflow rules.",
            ));
        }
        Ok(Evaluated { event, pipeline })
    }

    /// Asking Git for changed files takes three processes; most pipelines don't need them.
    fn asks_for_changes(&self, files: &ProjectFiles<'_>) -> bool {
        files
            .read(&self.file)
            .is_some_and(|text| text.contains("changes") || text.contains("include"))
    }
}

impl Evaluated {
    /// `group/project` as the remote tells.
    pub(super) fn project_path(&self) -> String {
        let path = self.event.predefined.get("CI_PROJECT_PATH");
        path.cloned().unwrap_or_else(|| "local/project".to_owned())
    }
}

/// The working tree, and the root file wherever it lies.
struct ProjectFiles<'a> {
    target: &'a Target,
    repository: &'a Repository,
}

impl Files for ProjectFiles<'_> {
    fn read(&self, path: &str) -> Option<String> {
        if path == self.target.file {
            // The user named it, so it may lie outside.
            return read_bounded(&self.target.root.join(path));
        }
        self.repository.read(path)
    }

    fn list(&self) -> Vec<String> {
        self.repository.list()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        std::fs::create_dir_all(path.join("project/src")).expect("made");
        std::fs::create_dir_all(path.join("project/build")).expect("made");
        std::fs::write(
            path.join("project/.gitlab-ci.yml"),
            "build:\n  script: 'true'\n",
        )
        .expect("written");
        std::fs::write(path.join("project/other.yml"), "build:\n  scrip: x\n").expect("written");
        directory
    }

    fn find(from: &Path, names: &[&str], file: Option<&str>) -> Result<Target, Failure> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Target::find(from, None, file.map(Path::new), names, false)
    }

    #[test]
    fn the_project_is_here_or_above_or_named() {
        let world = world();
        let root = world.path().join("project").canonicalize().expect("there");
        for (from, names) in [
            ("project", vec![]),
            ("project/src", vec![]),
            ("", vec!["project"]),
        ] {
            let target = find(&world.path().join(from), &names, None).expect("found");
            assert_eq!((target.root, target.names.len()), (root.clone(), 0));
        }
        // A directory without the file is a job's name.
        let target = find(&root, &["build"], None).expect("found");
        assert_eq!(target.names, ["build"]);
    }

    #[test]
    fn a_fault_in_the_file_and_a_missing_file_end_differently() {
        let world = world();
        let root = world.path().join("project");
        let target = find(&root, &[], Some("other.yml")).expect("found");
        assert!(
            target
                .evaluate(&[])
                .expect_err("invalid")
                .message()
                .contains("other.yml has 1 error")
        );
        let target = find(&root, &[], None).expect("found");
        assert_eq!(target.evaluate(&[]).expect("valid").pipeline.jobs.len(), 1);
        assert!(find(&root, &[], Some("missing.yml")).is_err());
    }
}
