//! A pipeline and its jobs, as `courser pipeline list --json` shows them (`gitlab-ci-yaml.md` 23).

use std::collections::BTreeMap;

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

use crate::secrets::{self, IdToken, SecretSpec};
use crate::trace::Place;

/// Key of a coverage report in [`JobArtifacts::other`] and in JSON.
pub(crate) const COVERAGE_FORMAT: &str = "coverage_format";

/// A position-bearing error or warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// File that holds the fault.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// GitLab's words where GitLab has them.
    pub message: String,
    /// More than GitLab says, for people.
    #[serde(skip)]
    pub detail: Option<String>,
    /// The source line, for people.
    #[serde(skip)]
    pub source_line: String,
}

/// Result of [`crate::lint`], and of [`crate::evaluate`] when there is no pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Lint {
    /// No errors.
    pub valid: bool,
    /// Errors.
    pub errors: Vec<Problem>,
    /// Warnings.
    pub warnings: Vec<Problem>,
}

/// A pipeline for one event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pipeline {
    /// What `workflow` decided.
    pub workflow: Workflow,
    /// Stages that have jobs, in order.
    pub stages: Vec<String>,
    /// Jobs in pipeline order.
    pub jobs: Vec<PipelineJob>,
    /// Warnings.
    #[serde(skip)]
    pub warnings: Vec<Problem>,
    /// Keywords that are accepted but do nothing on one machine, each once with its first position.
    #[serde(skip)]
    pub not_run_here: Vec<Problem>,
}

/// Outcome of `workflow`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Workflow {
    /// `false`: filtered out, no jobs.
    pub created: bool,
    /// `workflow:name`, expanded.
    pub name: Option<String>,
    /// Variables of the matched rule.
    pub variables: BTreeMap<String, String>,
    /// As written.
    pub auto_cancel: Option<serde_json::Value>,
}

/// `when` of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobWhen {
    /// When everything before succeeded.
    #[default]
    OnSuccess,
    /// When something before failed.
    OnFailure,
    /// In any case.
    Always,
    /// When started by hand.
    Manual,
    /// After `start_in`.
    Delayed,
}

impl JobWhen {
    /// As it is written in the file.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::OnSuccess => "on_success",
            Self::OnFailure => "on_failure",
            Self::Always => "always",
            Self::Manual => "manual",
            Self::Delayed => "delayed",
        }
    }
}

/// `allow_failure`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AllowFailure {
    /// Plain.
    Always(bool),
    /// Only these exit codes.
    ExitCodes {
        /// The codes.
        exit_codes: Vec<i64>,
    },
}

/// A need inside the pipeline, after parallel expansion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Job name.
    pub job: String,
    /// Fetch its artifacts.
    pub artifacts: bool,
    /// May be absent.
    pub optional: bool,
}

/// A variable of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlVariable {
    /// Name.
    pub key: String,
    /// Text, not expanded.
    pub value: String,
    /// `expand: false`.
    pub raw: bool,
}

/// One cache, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobCache {
    /// Key as written; `None` when it comes from files.
    pub key: CacheKey,
    /// Paths.
    pub paths: Vec<String>,
    /// Add untracked.
    pub untracked: bool,
    /// `pull-push`, `pull`, `push` or a variable.
    pub policy: String,
    /// `on_success`, `on_failure`, `always`.
    pub when: String,
    /// No protected suffix.
    pub unprotect: bool,
    /// Fallback keys.
    pub fallback_keys: Vec<String>,
}

/// Key of a cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum CacheKey {
    /// Text with variables.
    Text(String),
    /// From the content of files.
    Files {
        /// Files.
        files: Vec<String>,
        /// Prefix.
        #[serde(skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
    },
    /// From the last commits of files.
    FilesCommits {
        /// Files.
        files_commits: Vec<String>,
        /// Prefix.
        #[serde(skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
    },
}

/// `artifacts`, defaults filled in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobArtifacts {
    /// Name.
    pub name: Option<String>,
    /// Paths.
    pub paths: Vec<String>,
    /// Excludes.
    pub exclude: Vec<String>,
    /// Add untracked.
    pub untracked: bool,
    /// `on_success`, `on_failure`, `always`.
    pub when: String,
    /// Verbatim.
    pub expire_in: Option<String>,
    /// Report type to paths; in JSON `coverage_report` is the mapping of the file.
    pub reports: BTreeMap<String, Vec<String>>,
    /// Other keys as written: `expose_as`, `public`, `access`, and the coverage report's `coverage_format`.
    pub other: BTreeMap<String, serde_json::Value>,
}

impl Serialize for JobArtifacts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let format = self.other.get(COVERAGE_FORMAT);
        let reports: BTreeMap<&str, serde_json::Value> = self
            .reports
            .iter()
            .map(|(kind, paths)| {
                let value = match (kind.as_str(), format, paths.first()) {
                    ("coverage_report", Some(format), Some(path)) => {
                        json!({ COVERAGE_FORMAT: format, "path": path })
                    }
                    _ => json!(paths),
                };
                (kind.as_str(), value)
            })
            .collect();
        let mut map = serializer.serialize_map(None)?;
        if let Some(name) = &self.name {
            map.serialize_entry("name", name)?;
        }
        map.serialize_entry("paths", &self.paths)?;
        map.serialize_entry("exclude", &self.exclude)?;
        map.serialize_entry("untracked", &self.untracked)?;
        map.serialize_entry("when", &self.when)?;
        if let Some(expire_in) = &self.expire_in {
            map.serialize_entry("expire_in", expire_in)?;
        }
        map.serialize_entry("reports", &reports)?;
        for (key, value) in self.other.iter().filter(|(key, _)| *key != COVERAGE_FORMAT) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// One job of the pipeline. Fields and JSON names are section 23's.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PipelineJob {
    /// Name, parallel suffix included.
    pub name: String,
    /// The name as the file has it, without that suffix.
    #[serde(skip)]
    pub group: String,
    /// Of a bridge: where its `trigger` stands.
    #[serde(skip)]
    pub place: Option<Place>,
    /// Stage.
    pub stage: String,
    /// When.
    pub when: JobWhen,
    /// Allow failure.
    pub allow_failure: AllowFailure,
    /// `None`: by stage.
    pub needs: Option<Vec<serde_json::Value>>,
    /// Needs inside this pipeline, typed; empty unless `needs` is given.
    #[serde(skip)]
    pub job_needs: Vec<Need>,
    /// `dependencies`.
    pub dependencies: Option<Vec<String>>,
    /// Tags, expanded as far as known.
    pub tags: Vec<String>,
    /// Image as written, in mapping form.
    pub image: Option<serde_json::Value>,
    /// Services as written, in mapping form.
    pub services: Vec<serde_json::Value>,
    /// YAML variables by precedence, last wins; not expanded.
    #[serde(serialize_with = "variables_as_map")]
    pub variables: Vec<YamlVariable>,
    /// Index of the matched rule.
    pub rules_matched: Option<usize>,
    /// `script`.
    pub script: Vec<String>,
    /// `before_script`.
    pub before_script: Vec<String>,
    /// `after_script`.
    pub after_script: Vec<String>,
    /// Caches.
    pub cache: Vec<JobCache>,
    /// Artifacts.
    pub artifacts: Option<JobArtifacts>,
    /// Environment in mapping form.
    pub environment: Option<serde_json::Value>,
    /// `{index, total}`.
    pub parallel: Option<serde_json::Value>,
    /// `{max, when}`.
    pub retry: Option<serde_json::Value>,
    /// Seconds.
    pub timeout: Option<u64>,
    /// As written.
    pub start_in: Option<String>,
    /// Interruptible.
    pub interruptible: bool,
    /// Resource group.
    pub resource_group: Option<String>,
    /// Coverage pattern.
    pub coverage: Option<String>,
    /// Release.
    pub release: Option<serde_json::Value>,
    /// Trigger.
    pub trigger: Option<serde_json::Value>,
    /// ID tokens by the variable's name, in the order of the file.
    #[serde(serialize_with = "secrets::as_map")]
    pub id_tokens: Vec<(String, IdToken)>,
    /// Secrets by the variable's name, in the order of the file.
    #[serde(serialize_with = "secrets::as_map")]
    pub secrets: Vec<(String, SecretSpec)>,
    /// Hooks: name to lines.
    pub hooks: Option<BTreeMap<String, Vec<String>>>,
    /// CI steps.
    pub run: Option<serde_json::Value>,
    /// Job inputs.
    pub inputs: Option<serde_json::Value>,
    /// Pages.
    pub pages: Option<serde_json::Value>,
    /// Manual confirmation.
    pub manual_confirmation: Option<String>,
}

impl Default for AllowFailure {
    fn default() -> Self {
        Self::Always(false)
    }
}

fn variables_as_map<S: Serializer>(
    variables: &[YamlVariable],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        variables
            .iter()
            .map(|variable| (&variable.key, &variable.value)),
    )
}
