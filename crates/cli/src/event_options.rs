//! The options that say what a pipeline is for: one definition for `exec`, `shell` and `pipeline`.

use std::path::PathBuf;

use courser_pipeline::{ChangedFiles, Event, InputValue};
use courser_protocol::{JobVariable, Secret};
use serde::{Deserialize, Serialize};

use crate::environment::ProcessEnvironment;
use crate::failure::{Code, Failure};
use crate::includes::{IncludeOptions, Includes};
use crate::pipeline_variables::{self, GivenVariables};
use crate::repository::{Occasion, RefKind, Reference, Repository, RepositoryError};

/// Sources of pipelines (`gitlab-ci-yaml.md` 18).
const SOURCES: [&str; 15] = [
    "push",
    "web",
    "trigger",
    "schedule",
    "api",
    "external",
    "pipeline",
    "chat",
    "merge_request_event",
    "external_pull_request_event",
    "parent_pipeline",
    "ondemand_dast_scan",
    "ondemand_dast_validation",
    "security_orchestration_policy",
    "container_registry_push",
];

/// What a pipeline is for.
#[derive(Debug, Clone, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Event")]
pub(crate) struct EventOptions {
    /// Branch, tag or commit the pipeline is for [default: what is checked out]
    #[arg(long = "ref", value_name = "NAME")]
    ref_name: Option<String>,
    /// The pipeline of a tag: that of --ref, or the one named here
    #[arg(long, value_name = "NAME", num_args = 0..=1)]
    tag: Option<Option<String>>,
    /// What starts the pipeline (CI_PIPELINE_SOURCE): push, merge_request_event, schedule, web, api,
    /// trigger, ...
    #[arg(
        long,
        default_value = "push",
        value_name = "SOURCE",
        value_parser = clap::builder::PossibleValuesParser::new(SOURCES),
        hide_possible_values = true
    )]
    source: String,
    /// Branch that a merge request goes to [default: the default branch]
    #[arg(long, value_name = "BRANCH")]
    target: Option<String>,
    /// Set a pipeline variable; without a value, that of the environment. Beats those of the file
    #[arg(long = "variable", value_name = "KEY[=VALUE]")]
    #[serde(skip)]
    variables: Vec<Secret>,
    /// Pipeline variables from a file that only you can read: lines of KEY=VALUE, or a JSON object of
    /// NAME: "text" or NAME: {"value", "file", "masked", "raw"}
    #[arg(long = "variables-file", value_name = "FILE")]
    #[serde(skip)]
    variables_files: Vec<PathBuf>,
    /// A file that counts as changed; without this Git tells
    #[arg(long = "changed-file", value_name = "PATH")]
    changed_files: Vec<String>,
    /// Value for an input of the file (spec:inputs); an array in YAML's form: --input 'list=[a, b]'
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = parse_input)]
    #[serde(default)]
    inputs: Vec<(String, String)>,
    #[command(flatten)]
    #[serde(default)]
    includes: IncludeOptions,
}

fn parse_input(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE"),
    }
}

#[cfg(test)]
impl Default for EventOptions {
    /// A push of what is checked out.
    fn default() -> Self {
        Self {
            ref_name: None,
            tag: None,
            source: "push".to_owned(),
            target: None,
            variables: Vec::new(),
            variables_files: Vec::new(),
            changed_files: Vec::new(),
            inputs: Vec::new(),
            includes: IncludeOptions::default(),
        }
    }
}

/// Where the files of a pipeline come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The working tree, uncommitted files included.
    WorkingTree,
    /// The working tree under the name of a tag that is not there yet.
    AsTag(String),
    /// A commit.
    Commit(Reference),
}

impl Origin {
    /// What whoever runs it should know, if it is not simply the working tree.
    pub(crate) fn note(&self) -> Option<String> {
        match self {
            Self::WorkingTree => None,
            Self::AsTag(tag) => Some(format!(
                "there is no tag {tag} yet: the working tree runs as if it were tagged so"
            )),
            Self::Commit(Reference { kind, name, sha }) => {
                let kind = match kind {
                    RefKind::Branch => "branch ",
                    RefKind::Tag => "tag ",
                    RefKind::Commit => "",
                };
                let short: String = sha.chars().take(8).collect();
                Some(format!(
                    "commit {short} of {kind}{name} runs, without changes of the working tree"
                ))
            }
        }
    }
}

impl EventOptions {
    /// What the pipeline is for; the ref is only a name here.
    ///
    /// # Errors
    ///
    /// Options that do not fit together.
    pub(crate) fn occasion(&self) -> Result<Occasion, Failure> {
        let misused = |text: &str| Err(Failure::new(Code::Usage, text));
        let named_tag = self.tag.as_ref().and_then(Option::as_ref);
        if named_tag.is_some() && self.ref_name.is_some() {
            return misused("--tag NAME and --ref NAME name the ref twice: write --tag NAME alone");
        }
        let occasion = Occasion {
            source: self.source.clone(),
            ref_name: named_tag.or(self.ref_name.as_ref()).cloned(),
            tag: self.tag.is_some(),
            target: self.target.clone(),
        };
        if occasion.is_merge_request() && occasion.tag {
            return misused("a merge request has no tag: --tag and --source merge_request_event");
        }
        if !occasion.is_merge_request() && self.target.is_some() {
            return misused("--target is for --source merge_request_event");
        }
        Ok(occasion)
    }

    /// The event of another call, with the variables of this one.
    pub(crate) fn again(self, other: Self) -> Self {
        Self {
            variables: self.variables,
            variables_files: self.variables_files,
            ..other
        }
    }

    /// Whether another event than a push of the working tree is asked for.
    pub(crate) fn is_chosen(&self) -> bool {
        self.names_a_ref()
            || self.tag.is_some()
            || self.source != "push"
            || self.target.is_some()
            || !self.changed_files.is_empty()
            || !self.inputs.is_empty()
    }

    /// In `--ref v1 --tag JOB` the word behind `--tag` is no tag: the ref has its name already.
    pub(crate) fn word_behind_tag(&mut self) -> Option<String> {
        let tag = self.tag.as_mut().filter(|_| self.ref_name.is_some())?;
        tag.take()
    }

    /// Whether a ref is named, so that the sources may be another commit's.
    pub(crate) fn names_a_ref(&self) -> bool {
        self.ref_name.is_some() || matches!(self.tag, Some(Some(_)))
    }

    /// As [`Self::occasion`], and the commit that the ref names in place of the working tree.
    ///
    /// # Errors
    ///
    /// Options that do not fit together, a branch that is not there, Git.
    pub(crate) fn place(
        &self,
        repository: Repository,
    ) -> Result<(Repository, Occasion, Origin), Failure> {
        let mut occasion = self.occasion()?;
        let Some(name) = occasion.ref_name.clone() else {
            return Ok((repository, occasion, Origin::WorkingTree));
        };
        if repository.git.is_none() {
            return Ok((repository, occasion, Origin::WorkingTree));
        }
        let Some(reference) = repository.find_ref(&name, occasion.tag) else {
            if occasion.tag {
                return Ok((repository, occasion, Origin::AsTag(name)));
            }
            let message = format!("--ref {name}: the repository has no such branch, tag or commit");
            let hint = match repository.ref_names() {
                names if names.is_empty() => "it has no branches yet".to_owned(),
                names => crate::suggestion::nearest(names.iter().map(String::as_str), &name)
                    .unwrap_or_else(|| {
                        "git branch --all and git tag list what there is".to_owned()
                    }),
            };
            return Err(Failure::new(Code::Usage, message).hint(hint));
        };
        occasion.tag = reference.kind == RefKind::Tag && !occasion.is_merge_request();
        occasion.ref_name = (reference.kind != RefKind::Commit).then(|| reference.name.clone());
        let at = repository
            .at(&reference.sha)
            .map_err(|error| Failure::from_error(Code::Surroundings, &error))?;
        let at = at.ok_or_else(|| Failure::internal(format!("{} is gone", reference.sha)))?;
        Ok((at, occasion, Origin::Commit(reference)))
    }

    /// Where files of other places come from.
    ///
    /// # Errors
    ///
    /// Options that make no sense, directories that are not there.
    pub(crate) fn includes(&self, environment: &ProcessEnvironment) -> Result<Includes, Failure> {
        self.includes.settle(environment)
    }

    /// All variables of the pipeline, later ones win: the user's own files, files, then arguments. `project`
    /// tells the project's path, should somebody want to know it.
    ///
    /// # Errors
    ///
    /// A file that cannot be used or that others can read, a name that is none.
    pub(crate) fn variables(
        &self,
        environment: &ProcessEnvironment,
        project: impl FnOnce() -> Option<String>,
    ) -> Result<Vec<JobVariable>, Failure> {
        Ok(self.given_variables(environment, project)?.all())
    }

    /// The same by level.
    ///
    /// # Errors
    ///
    /// As [`Self::variables`].
    pub(crate) fn given_variables(
        &self,
        environment: &ProcessEnvironment,
        project: impl FnOnce() -> Option<String>,
    ) -> Result<GivenVariables, Failure> {
        let mut of_project = pipeline_variables::of_user(environment, project)?;
        for file in &self.variables_files {
            let path = environment.working_directory.join(file);
            of_project.extend(pipeline_variables::from_file(&path)?);
        }
        let arguments = self.variables.iter();
        let of_pipeline = arguments
            .map(|argument| pipeline_variables::from_argument(argument.expose(), environment));
        Ok(GivenVariables {
            of_project,
            of_pipeline: of_pipeline.collect::<Result<_, _>>()?,
        })
    }

    /// The event, with what `--changed-file` or, if it is asked for, Git says of changed files.
    ///
    /// # Errors
    ///
    /// Git.
    pub(crate) fn event(
        &self,
        repository: &Repository,
        occasion: &Occasion,
        variables: &[JobVariable],
        ask_git: bool,
    ) -> Result<Event, RepositoryError> {
        let mut event = repository.event(occasion);
        event.pipeline_variables = variables
            .iter()
            .map(|variable| (variable.key.clone(), variable.value.expose().to_owned()))
            .collect();
        event.inputs = self
            .inputs
            .iter()
            .map(|(name, value)| (name.clone(), InputValue::Text(value.clone())))
            .collect();
        event.secret_variables = variables
            .iter()
            .filter(|variable| variable.masked || variable.file)
            .map(|variable| variable.key.clone())
            .collect();
        if !self.changed_files.is_empty() {
            event.changed_files = ChangedFiles::Given(self.changed_files.clone());
        } else if ask_git {
            event.changed_files = match event.source.as_str() {
                "push" if !event.tag => repository.changed_files()?,
                "merge_request_event" => {
                    repository.changed_files_of_merge_request(occasion.target.as_deref())?
                }
                // There is nothing to compare with (`gitlab-ci-yaml.md` 11.1).
                _ => ChangedFiles::Unknown,
            };
        }
        Ok(event)
    }
}
