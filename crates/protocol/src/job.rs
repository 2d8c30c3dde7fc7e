//! The job payload: the 201 body of `POST jobs/request` (`runner-protocol.md` section 3).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::{DecodeError, first_value, null_as_default, payload};
use crate::secrets::JobSecrets;
use crate::{FailureReason, Secret};

payload! {
    /// A job as the coordinator hands it out.
    JobResponse {
        /// Job id.
        id: i64,
        /// Job token: authenticates updates, trace and artifacts of this job.
        token: Secret,
        /// Whether an existing work tree may be fetched into; decides the default `GIT_STRATEGY`.
        allow_git_fetch: bool,
        /// Who the job is.
        job_info: JobInfo,
        /// What to check out.
        git_info: GitInfo,
        /// Timeout and runner identity as the server knows them.
        runner_info: RunnerInfo,
        /// Job inputs (3.4).
        inputs: Vec<Input>,
        /// Variables in precedence order, later ones win.
        variables: Vec<JobVariable>,
        /// Scripts in the order in which they run.
        steps: Vec<Step>,
        /// Image of the build container.
        image: Image,
        /// Service containers.
        services: Vec<Image>,
        /// Artifacts to upload, one entry an upload.
        artifacts: Vec<Artifact>,
        /// Caches to restore and save.
        cache: Vec<Cache>,
        /// Registry credentials.
        credentials: Vec<Credential>,
        /// Jobs whose artifacts are downloaded first.
        dependencies: Vec<Dependency>,
        /// What the server understands.
        features: JobFeatures,
        /// Secrets to resolve (3.14).
        #[serde(skip_serializing_if = "Option::is_none")]
        secrets: Option<JobSecrets>,
        /// Scripts around `get_sources`.
        hooks: Vec<Hook>,
        /// CI steps (3.13).
        #[serde(skip_serializing_if = "RunText::is_empty")]
        run: RunText,
        /// Where a policy made this job.
        policy_options: PolicyOptions,
        /// Suspendable environments.
        suspend_options: SuspendOptions,
    }
}

impl JobResponse {
    /// Reads the body of a 201 answer.
    pub fn from_json(body: &[u8]) -> Result<Self, DecodeError> {
        first_value(body)
    }

    /// Refuses options that no executor knows (3.8). The job fails with this text.
    pub fn check_executor_options(&self) -> Result<(), UnsupportedOptions> {
        let mut problems = self.image.executor_opts.problems("image", &self.image.name);
        for service in &self.services {
            problems.extend(service.executor_opts.problems("service", &service.name));
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(UnsupportedOptions { problems })
        }
    }

    /// Refuses a job that has both CI steps and scripts (3.13).
    pub fn check_run(&self) -> Result<(), RunConflict> {
        if self.run.is_empty() {
            return Ok(());
        }
        if self.steps.iter().any(|step| !step.script.is_empty()) {
            return Err(RunConflict::Script);
        }
        let steps = self
            .variables
            .iter()
            .rfind(|variable| variable.key == "STEPS");
        if steps.is_some_and(|variable| !variable.value.is_empty()) {
            return Err(RunConflict::StepsVariable);
        }
        Ok(())
    }
}

/// Options of images and services that no executor knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("; "))]
pub struct UnsupportedOptions {
    problems: Vec<String>,
}

/// A job with CI steps and something that excludes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunConflict {
    /// Scripts beside `run`.
    #[error("the `run` and `script` keywords cannot be used together")]
    Script,
    /// The variable that carries steps the old way.
    #[error("the `run` keyword requires the exclusive use of the variable STEPS")]
    StepsVariable,
}

/// The key `run`: absent, or a text that holds a JSON array of steps (3.13).
///
/// Upstream loses a job whose `run` is null, empty or a bare array. Here null is the same as absent;
/// the others are refused with a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RunText(Option<String>);

impl RunText {
    /// Whether the job has no CI steps.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The JSON text of the array.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// Takes a text that holds a JSON array.
impl TryFrom<String> for RunText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match serde_json::from_str::<Vec<serde_json::Value>>(&text) {
            Ok(_) => Ok(Self(Some(text))),
            Err(error) => Err(format!(
                "expected a text with a JSON array of steps: {error}"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for RunText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

payload! {
    /// Names and numbers of the job (3.1).
    JobInfo {
        /// Job name, as in the file, parallel suffix included.
        name: String,
        /// Stage name.
        stage: String,
        /// Pipeline id.
        pipeline_id: i64,
        /// Project id.
        project_id: i64,
        /// Project name.
        project_name: String,
        /// `group/project`.
        project_full_path: String,
        /// Namespace id.
        namespace_id: i64,
        /// Root namespace id.
        root_namespace_id: i64,
        /// Organization id.
        organization_id: i64,
        /// Instance id.
        instance_id: String,
        /// Instance UUID.
        instance_uuid: String,
        /// User who started the job.
        user_id: i64,
        /// Composite identity.
        scoped_user_id: Option<i64>,
        /// Seconds in the queue.
        time_in_queue_seconds: f64,
        /// A text such as `0`, `5+` or `+Inf`.
        project_jobs_running_on_instance_runners_count: String,
        /// Queue size when the job was picked.
        queue_size: i64,
        /// Queue depth when the job was picked.
        queue_depth: i64,
    }
}

/// Kind of the ref.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum RefType {
    /// A branch, also for merge request pipelines.
    #[default]
    Branch,
    /// A tag.
    Tag,
}

impl From<String> for RefType {
    fn from(text: String) -> Self {
        if text == "tag" {
            Self::Tag
        } else {
            Self::Branch
        }
    }
}

impl From<RefType> for String {
    fn from(kind: RefType) -> Self {
        match kind {
            RefType::Branch => "branch".to_owned(),
            RefType::Tag => "tag".to_owned(),
        }
    }
}

payload! {
    /// What to check out (3.2).
    GitInfo {
        /// Repository URL, usually with `gitlab-ci-token:<token>@`: hence secret.
        repo_url: Secret,
        /// `sha1` (also empty) or `sha256`.
        repo_object_format: String,
        /// Branch or tag name.
        #[serde(rename = "ref")]
        ref_name: String,
        /// Commit id, at least 8 characters.
        sha: String,
        /// Commit before the push.
        before_sha: String,
        /// Branch or tag.
        ref_type: RefType,
        /// Passed to `git fetch origin` in order.
        refspecs: Vec<String>,
        /// Fetch depth, 0 = everything.
        depth: i64,
        /// Whether the ref is protected, where the server says.
        protected: Option<bool>,
    }
}

payload! {
    /// The server's view of the runner (3.3).
    RunnerInfo {
        /// Job timeout in seconds; not positive means 7200.
        timeout: i64,
        /// Runner UUID, for logs.
        uuid: String,
    }
}

/// JSON kind of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// Text.
    String,
    /// Number.
    Number,
    /// Boolean.
    Boolean,
    /// Array.
    Array,
    /// Object.
    Struct,
}

/// One job input (3.4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Name, not empty.
    #[serde(deserialize_with = "not_empty")]
    pub key: String,
    /// Value with its declared type.
    pub value: InputValue,
}

fn not_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Err(serde::de::Error::custom("the name of an input is empty"));
    }
    Ok(text)
}

/// Value of a job input; its content is of the declared kind.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawInputValue")]
pub struct InputValue {
    /// Declared kind.
    #[serde(rename = "type")]
    pub kind: InputKind,
    /// Content of that kind.
    pub content: serde_json::Value,
    /// Whether interpolating it is refused.
    pub sensitive: bool,
}

impl std::fmt::Debug for InputValue {
    /// Sensitive content is not shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("InputValue");
        debug.field("kind", &self.kind);
        if self.sensitive {
            debug.finish_non_exhaustive()
        } else {
            debug.field("content", &self.content).finish()
        }
    }
}

#[derive(Deserialize)]
struct RawInputValue {
    #[serde(rename = "type")]
    kind: InputKind,
    #[serde(default)]
    content: serde_json::Value,
    #[serde(default, deserialize_with = "null_as_default")]
    sensitive: bool,
}

impl TryFrom<RawInputValue> for InputValue {
    type Error = String;

    fn try_from(raw: RawInputValue) -> Result<Self, String> {
        use serde_json::Value;
        let fits = matches!(
            (raw.kind, &raw.content),
            (InputKind::String, Value::String(_))
                | (InputKind::Number, Value::Number(_))
                | (InputKind::Boolean, Value::Bool(_))
                | (InputKind::Array, Value::Array(_))
                | (InputKind::Struct, Value::Object(_))
        );
        if !fits {
            return Err(format!("the content of an input is no {:?}", raw.kind).to_lowercase());
        }
        Ok(Self {
            kind: raw.kind,
            content: raw.content,
            sensitive: raw.sensitive,
        })
    }
}

payload! {
    /// A variable of the payload (3.5).
    JobVariable {
        /// Name.
        key: String,
        /// Value; may be confidential, so it is not shown by `Debug`.
        value: Secret,
        /// Whether service containers may see it.
        public: bool,
        /// Value is written to a file, the variable holds the path.
        file: bool,
        /// Value is masked in the log.
        masked: bool,
        /// References in the value are not expanded.
        raw: bool,
    }
}

/// When an upload takes place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum When {
    /// After success; also the meaning of an empty text.
    #[default]
    OnSuccess,
    /// After failure.
    OnFailure,
    /// In both cases.
    Always,
    /// An expression about inputs, or a text that means [`OnSuccess`](Self::OnSuccess) and must not lose the job.
    Unknown(String),
}

impl From<String> for When {
    fn from(text: String) -> Self {
        match text.as_str() {
            "" | "on_success" => Self::OnSuccess,
            "on_failure" => Self::OnFailure,
            "always" => Self::Always,
            _ => Self::Unknown(text),
        }
    }
}

impl From<When> for String {
    fn from(when: When) -> Self {
        match when {
            When::OnSuccess => "on_success".to_owned(),
            When::OnFailure => "on_failure".to_owned(),
            When::Always => "always".to_owned(),
            When::Unknown(text) => text,
        }
    }
}

payload! {
    /// A script (3.6).
    Step {
        /// `script`, `after_script`, `release`, …
        name: String,
        /// Lines, each an entry of the file.
        script: Vec<String>,
        /// Not used by the runner.
        timeout: i64,
        /// Not used by the runner.
        when: String,
        /// Not used by the runner.
        allow_failure: bool,
    }
}

payload! {
    /// An image or a service (3.7).
    Image {
        /// Reference, variables not yet expanded. Empty: none.
        name: String,
        /// Aliases, separated by blanks or commas.
        #[serde(skip_serializing_if = "String::is_empty")]
        alias: String,
        /// Command of a service.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        command: Vec<String>,
        /// Entrypoint.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        entrypoint: Vec<String>,
        /// Ports for the web terminal's proxy.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        ports: Vec<Port>,
        /// Extra environment of a service.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        variables: Vec<JobVariable>,
        /// Pull policies in order.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pull_policy: Vec<String>,
        /// Settings for one executor.
        executor_opts: ExecutorOptions,
    }
}

payload! {
    /// A port of a service.
    Port {
        /// Number.
        number: i64,
        /// `http` or `https`.
        protocol: String,
        /// Name.
        name: String,
    }
}

/// Options by executor; unknown keys are kept so that the job can be refused by name (3.8).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecutorOptions {
    /// For Docker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerOptions>,
    /// For Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesOptions>,
    /// Everything else.
    #[serde(flatten)]
    pub unsupported: BTreeMap<String, serde_json::Value>,
}

impl ExecutorOptions {
    /// Every option that is not known, each in a sentence with those that are.
    fn problems(&self, role: &str, name: &str) -> Vec<String> {
        let docker = self.docker.as_ref().map(|docker| &docker.unsupported);
        let kubernetes = self.kubernetes.as_ref().map(|options| &options.unsupported);
        [
            ("", Some(&self.unsupported), "docker, kubernetes"),
            ("docker ", docker, "platform, user"),
            ("kubernetes ", kubernetes, "user"),
        ]
        .into_iter()
        .filter_map(|(executor, unknown, known)| {
            let unknown = unknown.filter(|unknown| !unknown.is_empty())?;
            let names: Vec<_> = unknown.keys().map(String::as_str).collect();
            Some(format!(
                "{role} {name:?}: unsupported {executor}executor options: {}; supported are: {known}",
                names.join(", ")
            ))
        })
        .collect()
    }
}

/// Docker options.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerOptions {
    /// `linux/arm64`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    #[serde(deserialize_with = "null_as_default")]
    pub platform: String,
    /// User; a number on the wire is read as its text.
    #[serde(skip_serializing_if = "UserText::is_empty")]
    #[serde(deserialize_with = "null_as_default")]
    pub user: UserText,
    /// Everything else.
    #[serde(flatten)]
    pub unsupported: BTreeMap<String, serde_json::Value>,
}

/// Kubernetes options.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubernetesOptions {
    /// `UID[:GID]`.
    #[serde(skip_serializing_if = "UserText::is_empty")]
    #[serde(deserialize_with = "null_as_default")]
    pub user: UserText,
    /// Everything else.
    #[serde(flatten)]
    pub unsupported: BTreeMap<String, serde_json::Value>,
}

/// A user name or number, kept as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct UserText(pub String);

impl UserText {
    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for UserText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) if number.is_i64() => Ok(Self(number.to_string())),
            serde_json::Value::Null => Ok(Self::default()),
            other => Err(serde::de::Error::custom(format!(
                "expected a text or an integer, got {other}"
            ))),
        }
    }
}

payload! {
    /// One upload (3.9).
    Artifact {
        /// Archive name, variables expanded by the helper.
        name: String,
        /// Add what Git does not track.
        untracked: bool,
        /// Paths and globs.
        paths: Vec<String>,
        /// Globs to leave out.
        exclude: Vec<String>,
        /// When to upload.
        when: When,
        /// `archive`, `junit`, `dotenv`, …
        artifact_type: String,
        /// `zip`, `gzip`, `raw`, `zipzstd`, `tarzstd`, or empty for zip.
        artifact_format: String,
        /// Verbatim, for example `7d`.
        expire_in: String,
    }
}

payload! {
    /// One cache (3.10).
    Cache {
        /// Key, variables not yet expanded.
        key: String,
        /// Add what Git does not track.
        untracked: bool,
        /// `pull-push` (also empty), `pull`, `push`, or a variable.
        policy: String,
        /// Paths and globs.
        paths: Vec<String>,
        /// When to save.
        when: When,
        /// Keys to try when `key` has no cache.
        fallback_keys: Vec<String>,
    }
}

payload! {
    /// Registry login (3.11).
    Credential {
        /// Only `registry` is used.
        #[serde(rename = "type")]
        kind: String,
        /// Registry address.
        url: String,
        /// User.
        username: String,
        /// Password.
        password: Secret,
    }
}

payload! {
    /// A job whose artifacts are wanted (3.11).
    Dependency {
        /// Its id.
        id: i64,
        /// Its own token.
        token: Secret,
        /// Its name.
        name: String,
        /// Its archive; without a file name there is nothing to fetch.
        #[serde(skip_serializing_if = "ArtifactsFile::is_absent")]
        artifacts_file: ArtifactsFile,
    }
}

payload! {
    /// Archive of a dependency.
    ArtifactsFile {
        /// File name.
        filename: String,
        /// Bytes.
        size: i64,
    }
}

impl ArtifactsFile {
    /// Whether the dependency has no archive.
    pub fn is_absent(&self) -> bool {
        self.filename.is_empty()
    }
}

payload! {
    /// What the server understands (3.12).
    JobFeatures {
        /// Emit section markers.
        trace_sections: bool,
        /// Token prefixes to mask beside the built-in ones.
        token_mask_prefixes: Vec<String>,
        /// Failure reasons the server knows.
        failure_reasons: Vec<FailureReason>,
        /// OpenTelemetry settings; not used yet.
        #[serde(skip_serializing_if = "Option::is_none")]
        tracing: Option<serde_json::Value>,
    }
}

payload! {
    /// A script around `get_sources` (3.12).
    Hook {
        /// `pre_get_sources_script` or `post_get_sources_script`.
        name: String,
        /// Lines.
        script: Vec<String>,
    }
}

payload! {
    /// Facts about the policy that made the job (3.15).
    PolicyOptions {
        /// Whether a policy made it.
        execution_policy_job: bool,
        /// Its name.
        #[serde(skip_serializing_if = "String::is_empty")]
        policy_name: String,
        /// Whether users may override variables.
        #[serde(skip_serializing_if = "Option::is_none")]
        policy_variables_override_allowed: Option<bool>,
        /// Exceptions from that.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        policy_variables_override_exceptions: Vec<String>,
    }
}

payload! {
    /// Suspendable environments (3.15).
    SuspendOptions {
        /// Suspend after success.
        suspend_on_success: bool,
        /// Suspend after failure.
        suspend_on_failure: bool,
        /// Key of a suspended environment.
        #[serde(skip_serializing_if = "String::is_empty")]
        runtime_environment_key: String,
    }
}

#[cfg(test)]
mod tests;
