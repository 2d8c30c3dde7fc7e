//! Which directory and file a run is for, and the pipeline they make.

use std::path::Path;

use courser_pipeline::{EMPTY_PIPELINE, Event, Files, Pipeline, Problem};
use courser_protocol::JobVariable;

use crate::event_options::{EventOptions, Origin};
use crate::failure::{Code, Failure};
use crate::includes::Includes;
use crate::project::{FILE, OpenProject, Project};

/// In any case of letters.
const SKIP_MARKS: [&str; 2] = ["[ci skip]", "[skip ci]"];

/// What to run.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The working copy that jobs get, and the file.
    pub(super) project: Project,
    /// Whether Git is asked.
    pub(super) with_git: bool,
}

/// The pipeline and the event it is for.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) event: Event,
    /// Where the jobs' sources come from.
    pub(super) origin: Origin,
    pub(super) pipeline: Pipeline,
}

impl Target {
    /// From the options: an explicit directory, or a first argument that is one, or the nearest
    /// directory upwards that has the file.
    pub(super) fn find(
        working_directory: &Path,
        directory: Option<&Path>,
        file: Option<&Path>,
        names: &mut Vec<String>,
        with_git: bool,
    ) -> Result<Self, Failure> {
        let mut start = directory.map_or_else(
            || working_directory.to_owned(),
            |directory| working_directory.join(directory),
        );
        if let Some(first) = names.first().map(|name| start.join(name))
            && first.join(FILE).is_file()
        {
            start = first;
            names.remove(0);
        }
        let file = file.map(|file| working_directory.join(file));
        let project = Project::find(&start, file.as_deref()).map_err(|error| {
            let named = file.as_ref().unwrap_or(&start).display();
            Failure::new(Code::Usage, format!("{named}: {error}"))
        })?;
        if !project.has_file() {
            let text = match &file {
                Some(file) => format!("{} does not exist", file.display()),
                None => format!("no {FILE} in {} or above", start.display()),
            };
            return Err(Failure::new(Code::Usage, text)
                .hint("go to the project's directory, or name it with -C DIR, or the file with --file FILE"));
        }
        Ok(Self { project, with_git })
    }

    /// `group/project`, as the remote tells.
    pub(super) fn path(&self) -> Option<String> {
        self.project.open(self.with_git).ok()?.path()
    }

    /// Evaluates the file for the event that the options tell. Errors in it go to `report`.
    pub(super) fn evaluate(
        &self,
        options: &EventOptions,
        includes: &Includes,
        variables: &[JobVariable],
        report: impl FnOnce(&[Problem]),
    ) -> Result<Evaluated, Failure> {
        let git_failed = |error| Failure::from_error(Code::Surroundings, &error);
        let mut files = self.project.open(self.with_git).map_err(git_failed)?;
        let (repository, occasion, origin) = options.place(files.repository)?;
        files.repository = repository;
        let files = files.including(includes);
        let ask_git = self.asks_for_changes(&files);
        let mut event = options
            .event(&files.repository, &occasion, variables, ask_git)
            .map_err(git_failed)?;
        let file = self.project.file.clone();
        event.predefined.insert("CI_CONFIG_PATH".to_owned(), file);
        let pipeline =
            courser_pipeline::evaluate(&self.project.file, &files, &event).map_err(|found| {
                if let [only] = &*found.errors
                    && only.message == EMPTY_PIPELINE
                {
                    return nothing_to_run(EMPTY_PIPELINE);
                }
                report(&found.errors);
                let count = found.errors.len();
                let noun = if count == 1 { "error" } else { "errors" };
                Failure::invalid(format!("{} has {count} {noun}", self.project.file))
            })?;
        if !pipeline.workflow.created || pipeline.jobs.is_empty() {
            return Err(nothing_to_run("Pipeline filtered out by workflow rules."));
        }
        Ok(Evaluated {
            event,
            origin,
            pipeline,
        })
    }

    /// Asking Git for changed files takes three processes; most pipelines don't need them.
    fn asks_for_changes(&self, files: &OpenProject) -> bool {
        files
            .read(&self.project.file)
            .is_some_and(|text| text.contains("changes") || text.contains("include"))
    }
}

/// The file is valid, and this event makes no pipeline.
fn nothing_to_run(text: &str) -> Failure {
    Failure::new(Code::Failed, text)
        .hint("`courser pipeline explain JOB` tells why a job is not in it")
}

impl Evaluated {
    /// The mark in the commit's message with which GitLab creates the pipeline of a push as skipped
    /// (`gitlab-ci-yaml.md` 19).
    pub(super) fn skip_mark(&self) -> Option<&'static str> {
        let message = self.event.predefined.get("CI_COMMIT_MESSAGE");
        let message = message.filter(|_| self.event.source == "push")?;
        let message = message.to_ascii_lowercase();
        SKIP_MARKS.into_iter().find(|mark| message.contains(mark))
    }

    /// `group/project` as the remote tells.
    pub(super) fn project_path(&self) -> String {
        let path = self.event.predefined.get("CI_PROJECT_PATH");
        path.cloned().unwrap_or_else(|| "local/project".to_owned())
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

    fn find(
        from: &Path,
        names: &[&str],
        file: Option<&str>,
    ) -> Result<(Target, Vec<String>), Failure> {
        let mut names = names.iter().map(|name| (*name).to_owned()).collect();
        let target = Target::find(from, None, file.map(Path::new), &mut names, false)?;
        Ok((target, names))
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
            let (target, names) = find(&world.path().join(from), &names, None).expect("found");
            assert_eq!((target.project.root, names.len()), (root.clone(), 0));
        }
        // A directory without the file is a job's name.
        let (_, names) = find(&root, &["build"], None).expect("found");
        assert_eq!(names, ["build"]);
    }

    #[test]
    fn a_fault_in_the_file_and_a_missing_file_end_differently() {
        let world = world();
        let root = world.path().join("project");
        let (target, _) = find(&root, &[], Some("other.yml")).expect("found");
        let options = EventOptions::default();
        assert!(
            target
                .evaluate(&options, &Includes::default(), &[], |_| {})
                .expect_err("invalid")
                .message()
                .contains("other.yml has 1 error")
        );
        let (target, _) = find(&root, &[], None).expect("found");
        assert_eq!(
            target
                .evaluate(&options, &Includes::default(), &[], |_| {})
                .expect("valid")
                .pipeline
                .jobs
                .len(),
            1
        );
        assert!(find(&root, &[], Some("missing.yml")).is_err());
    }
}
