//! The variables of a job in their order, before expansion (`runner-build-lifecycle.md` 1.10).

use std::ops::Range;

use courser_protocol::{JobResponse, JobVariable};

use crate::job::timeout;
use crate::{Directories, Features, JobStatus, RunnerContext};

/// Variables in order, not yet expanded.
pub(crate) struct VariableList {
    pub(crate) list: Vec<JobVariable>,
    /// Those of the payload; all others are the runner's own.
    pub(crate) of_server: Range<usize>,
    /// Resolved secrets.
    pub(crate) secrets: Range<usize>,
}

/// The ordered list, not yet expanded (lifecycle 1.10).
pub(crate) fn variable_list(
    payload: &JobResponse,
    context: &RunnerContext,
    features: &Features,
    directories: &Directories,
    status: JobStatus,
    secrets: &[JobVariable],
) -> VariableList {
    let count = features.all().len() + payload.variables.len() + secrets.len();
    let mut list = Vec::with_capacity(count + 24);
    let public = |key: &str, value: &str| JobVariable {
        key: key.to_owned(),
        value: value.into(),
        public: true,
        ..JobVariable::default()
    };
    for (name, value) in features.all() {
        list.push(public(name, if *value { "true" } else { "false" }));
    }
    if !payload.image.name.is_empty() {
        list.push(public("CI_JOB_IMAGE", &payload.image.name));
    }
    list.push(public("CI_RUNNER_SHORT_TOKEN", &context.short_token));
    for entry in &context.environment {
        if let Some((key, value)) = entry.split_once('=') {
            list.push(JobVariable {
                public: false,
                ..public(key, value)
            });
        }
    }
    list.push(public("CI_BUILDS_DIR", &context.directories.builds));
    list.push(public("CI_PROJECT_DIR", &directories.project));
    list.push(public(
        "CI_CONCURRENT_ID",
        &context.concurrent_id.to_string(),
    ));
    list.push(public(
        "CI_CONCURRENT_PROJECT_ID",
        &context.concurrent_project_id.to_string(),
    ));
    list.push(public("CI_SERVER", "yes"));
    list.push(public("CI_JOB_STATUS", status.as_str()));
    list.push(public(
        "CI_JOB_TIMEOUT",
        &timeout(payload).as_secs().to_string(),
    ));
    let mut file = |key: &str, content: &str, public_too: bool| {
        list.push(JobVariable {
            public: public_too,
            file: true,
            // A certificate holds no references; its text stays as it is.
            raw: true,
            ..public(key, content)
        });
    };
    if !context.tls.ca_chain.is_empty() {
        file("CI_SERVER_TLS_CA_FILE", &context.tls.ca_chain, true);
    }
    if let Some((certificate, key)) = &context.tls.client_pair {
        file("CI_SERVER_TLS_CERT_FILE", certificate, true);
        file("CI_SERVER_TLS_KEY_FILE", key.expose(), false);
    }
    let is_flag = |key: &str| features.all().iter().any(|(name, _)| *name == key);
    let before = list.len();
    list.extend(
        payload
            .variables
            .iter()
            .filter(|variable| !is_flag(&variable.key))
            .cloned(),
    );
    let of_server = before..list.len();
    let environment = if context.shared {
        "CI_SHARED_ENVIRONMENT"
    } else {
        "CI_DISPOSABLE_ENVIRONMENT"
    };
    list.push(public(environment, "true"));
    list.push(public("CI_RUNNER_VERSION", &context.version));
    list.push(public("CI_RUNNER_REVISION", &context.revision));
    list.push(public(
        "CI_RUNNER_EXECUTABLE_ARCH",
        &context.executable_arch,
    ));
    let before = list.len();
    list.extend_from_slice(secrets);
    let secrets = before..list.len();
    list.push(public("RUNNER_TEMP_PROJECT_DIR", &directories.temporary));
    VariableList {
        list,
        of_server,
        secrets,
    }
}
