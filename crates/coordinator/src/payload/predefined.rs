//! The variables GitLab sets itself, the "persisted" ones included (`gitlab-ci-yaml.md` 18).

use std::fmt::Write as _;

use courser_pipeline::{environment_slug, slug};
use courser_protocol::{JobVariable, Secret};
use url::Url;

use super::{HandOut, full_ref, is_merge_request};
use crate::git_http::submodule_path;
use crate::project::Project;
use crate::results::tier_of;
use crate::store::RunnerRecord;
use crate::variables::{self, masked, public};

/// The version of GitLab whose behaviour the coordinator follows.
const GITLAB_VERSION: [&str; 3] = ["19", "4", "0"];

/// `https://gitlab-ci-token:<token>@host/group/project.git`.
pub(super) fn repository_url(server: &Url, project: &Project, token: &Secret) -> Secret {
    Secret::new(with_credentials(
        server,
        &format!("{}.git", project.path),
        token,
    ))
}

fn with_credentials(server: &Url, path: &str, token: &Secret) -> String {
    let mut url = server.clone();
    // Neither can fail for an https URL with a host.
    let _ = url.set_username("gitlab-ci-token");
    let _ = url.set_password(Some(token.expose()));
    url.set_path(path);
    String::from(url)
}

/// Git's configuration by the environment: submodules come from here, not from their URLs. A job that sets
/// `GIT_CONFIG_COUNT` itself gets them from their URLs.
fn submodules(request: &HandOut<'_>) -> Vec<JobVariable> {
    let HandOut {
        server,
        url,
        project,
        job,
        ..
    } = request;
    let all = project.repository.submodules();
    if all.is_empty() {
        return Vec::new();
    }
    let plain = |key: String, value: String| JobVariable {
        public: false,
        raw: true,
        ..public(&key, value)
    };
    let count = all.len().to_string();
    let mut variables = vec![plain("GIT_CONFIG_COUNT".to_owned(), count)];
    for (number, submodule) in all.iter().enumerate() {
        let path = submodule_path(&project.path, number, &submodule.url);
        let served = with_credentials(url, &path, &job.token);
        let key = format!("url.{served}.insteadOf");
        variables.push(plain(format!("GIT_CONFIG_KEY_{number}"), key));
        // What is relative to the project begins with the URL that the job knows.
        let value = match submodule.url.strip_prefix(server.url.as_str()) {
            Some(path) => format!("{url}{path}"),
            None => submodule.url.clone(),
        };
        variables.push(plain(format!("GIT_CONFIG_VALUE_{number}"), value));
    }
    variables
}

/// Level 1: project defaults, then what the repository told, then what only the coordinator knows.
pub(super) fn all(request: &HandOut<'_>) -> Vec<JobVariable> {
    let mut variables = project_defaults(request);
    let known = &request.context.predefined;
    variables.extend(known.iter().map(|(key, value)| public(key, value)));
    // Values such as commit messages hold `$` that means nothing. Others stay open to expansion, so
    // that values that name them arrive expanded.
    for variable in &mut variables {
        variable.raw = variable.value.expose().contains(['$', '%']);
    }
    let at_server = of_server(request.url);
    variables.extend(at_server.into_iter().map(|(key, value)| public(key, value)));
    variables.extend(request.job.template.job_variables.iter().cloned());
    variables.extend(persisted(request));
    if let Some(runner) = request.runner {
        variables.extend(at_runner(request, runner));
        variables.extend(submodules(request));
    }
    variables
}

fn project_defaults(request: &HandOut<'_>) -> Vec<JobVariable> {
    let HandOut {
        project, context, ..
    } = request;
    let reference = full_ref(&context.ref_name, context.tag);
    let at_server = of_project(request.url, project.id, &project.path, &reference);
    let mut variables: Vec<JobVariable> = at_server
        .into_iter()
        .map(|(key, value)| public(key, value))
        .collect();
    variables.extend([
        public("CI_DEFAULT_BRANCH", &*context.ref_name),
        public("CI_PIPELINE_SOURCE", "api"),
        public("CI_COMMIT_SHA", &*context.sha),
        public(
            "CI_COMMIT_SHORT_SHA",
            context.sha.get(..8).unwrap_or(&context.sha),
        ),
        public("CI_COMMIT_BEFORE_SHA", &*context.before_sha),
        public("CI_COMMIT_REF_NAME", &*context.ref_name),
        public("CI_COMMIT_REF_SLUG", slug(&context.ref_name)),
    ]);
    if context.tag {
        variables.push(public("CI_COMMIT_TAG", &*context.ref_name));
    } else if !is_merge_request(&context.ref_name) {
        variables.push(public("CI_COMMIT_BRANCH", &*context.ref_name));
    }
    variables
}

/// What a server sets for a project before there are jobs, so that rules see it, too: the project's at
/// `server`, for a full ref such as `refs/heads/main`. Facts of the commit and the event are not among it.
pub fn server_variables(
    server: &Url,
    project_id: i64,
    project_path: &str,
    full_ref: &str,
) -> Vec<(&'static str, String)> {
    let mut variables = of_project(server, project_id, project_path, full_ref);
    variables.extend(of_server(server));
    variables
}

fn of_project(server: &Url, id: i64, path: &str, full_ref: &str) -> Vec<(&'static str, String)> {
    let namespace = path.rsplit_once('/').map_or("", |(left, _)| left);
    let name = path.rsplit_once('/').map_or(path, |(_, right)| right);
    let root = namespace.split('/').next().unwrap_or_default();
    let project_url = project_url(server, path);
    let registry = registry(server);
    let host = server.host_str().unwrap_or_default();
    let text = str::to_owned;
    vec![
        ("CI", text("true")),
        ("GITLAB_CI", text("true")),
        ("CI_PROJECT_ID", id.to_string()),
        ("CI_PROJECT_NAME", text(name)),
        ("CI_PROJECT_TITLE", text(name)),
        ("CI_PROJECT_PATH", text(path)),
        ("CI_PROJECT_PATH_SLUG", slug(path)),
        ("CI_PROJECT_NAMESPACE", text(namespace)),
        ("CI_PROJECT_NAMESPACE_ID", text("1")),
        ("CI_PROJECT_NAMESPACE_SLUG", slug(namespace)),
        ("CI_PROJECT_ROOT_NAMESPACE", text(root)),
        ("CI_PROJECT_VISIBILITY", text("private")),
        ("CI_PROJECT_DESCRIPTION", String::new()),
        ("CI_PROJECT_TOPICS", String::new()),
        ("CI_PROJECT_REPOSITORY_LANGUAGES", String::new()),
        ("CI_PROJECT_CLASSIFICATION_LABEL", String::new()),
        (
            "CI_REGISTRY_IMAGE",
            format!("{registry}/{}", path.to_lowercase()),
        ),
        ("CI_REGISTRY", registry),
        ("CI_PAGES_DOMAIN", text(host)),
        ("CI_PAGES_HOSTNAME", format!("{root}.{host}")),
        ("CI_PAGES_URL", format!("https://{root}.{host}/{name}")),
        (
            "CI_CONFIG_REF_URI",
            format!(
                "{}//.gitlab-ci.yml@{full_ref}",
                project_url.trim_start_matches("https://"),
            ),
        ),
        ("CI_PROJECT_URL", project_url),
        ("CI_CONFIG_PATH", text(super::CONFIG_PATH)),
        ("GITLAB_USER_ID", text("1")),
        ("GITLAB_USER_LOGIN", text("root")),
        ("GITLAB_USER_NAME", text("Administrator")),
        ("GITLAB_USER_EMAIL", text("root@localhost")),
    ]
}

/// Where images would lie: `docker build -t $CI_REGISTRY_IMAGE` works, but there is no registry to push to.
fn registry(server: &Url) -> String {
    format!("registry.{}", server.host_str().unwrap_or_default())
}

fn project_url(server: &Url, path: &str) -> String {
    let base = server.as_str().trim_end_matches('/');
    format!("{base}/{path}")
}

fn of_server(server: &Url) -> Vec<(&'static str, String)> {
    let url = server.as_str().trim_end_matches('/');
    let host = server.host_str().unwrap_or_default();
    let port = server.port_or_known_default().unwrap_or(443);
    let fqdn = server
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let [major, minor, patch] = GITLAB_VERSION;
    let text = str::to_owned;
    vec![
        ("CI_SERVER", text("yes")),
        ("CI_SERVER_URL", text(url)),
        ("CI_SERVER_HOST", text(host)),
        ("CI_SERVER_FQDN", fqdn),
        ("CI_SERVER_PORT", port.to_string()),
        ("CI_SERVER_PROTOCOL", text(server.scheme())),
        ("CI_SERVER_NAME", text("Courser")),
        ("CI_SERVER_VERSION", GITLAB_VERSION.join(".")),
        ("CI_SERVER_VERSION_MAJOR", text(major)),
        ("CI_SERVER_VERSION_MINOR", text(minor)),
        ("CI_SERVER_VERSION_PATCH", text(patch)),
        ("CI_SERVER_REVISION", text(env!("CARGO_PKG_VERSION"))),
        ("CI_SERVER_SHELL_SSH_HOST", text(host)),
        ("CI_SERVER_SHELL_SSH_PORT", text("22")),
        ("CI_API_V4_URL", format!("{url}/api/v4")),
        ("CI_API_GRAPHQL_URL", format!("{url}/api/graphql")),
        ("CI_TEMPLATE_REGISTRY_HOST", text("registry.gitlab.com")),
        ("GITLAB_FEATURES", String::new()),
    ]
}

/// What exists only once a job has an id.
fn persisted(request: &HandOut<'_>) -> Vec<JobVariable> {
    let HandOut {
        server,
        project,
        pipeline_id,
        job,
        now,
        ..
    } = request;
    let project_url = project_url(&server.url, &project.path);
    vec![
        public("CI_PIPELINE_ID", pipeline_id.to_string()),
        public("CI_PIPELINE_IID", pipeline_id.to_string()),
        public(
            "CI_PIPELINE_URL",
            format!("{project_url}/-/pipelines/{pipeline_id}"),
        ),
        public("CI_JOB_ID", job.id.to_string()),
        public("CI_JOB_URL", format!("{project_url}/-/jobs/{}", job.id)),
        public("CI_JOB_STARTED_AT", format!("{now:.0}")),
        public("CI_JOB_RETRY_COUNT", job.attempt.to_string()),
    ]
}

/// What a runner is told: credentials, and what it is itself.
fn at_runner(request: &HandOut<'_>, runner: &RunnerRecord) -> Vec<JobVariable> {
    let token = request.job.token.expose();
    let url = repository_url(request.url, request.project, &request.job.token);
    vec![
        masked("CI_JOB_TOKEN", token),
        public("CI_REGISTRY_USER", "gitlab-ci-token"),
        masked("CI_REGISTRY_PASSWORD", token),
        JobVariable {
            public: false,
            ..public("CI_REPOSITORY_URL", url.expose())
        },
        public("CI_RUNNER_ID", runner.id.to_string()),
        public("CI_RUNNER_DESCRIPTION", &*runner.description),
        public("CI_RUNNER_TAGS", json_list(&runner.tags)),
    ]
}

/// `["a", "b"]`, with the blanks GitLab writes.
fn json_list(tags: &[String]) -> String {
    let mut out = String::from("[");
    for (index, tag) in tags.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        // Writing to a text cannot fail.
        let _ = write!(out, "{separator}{}", serde_json::Value::from(tag.as_str()));
    }
    out + "]"
}

/// `CI_ENVIRONMENT_SLUG` from the expanded `CI_ENVIRONMENT_NAME`.
pub(super) fn add_environment_slug(variables: &mut Vec<JobVariable>) {
    // Twice: the name itself may hold references that were left to the runner.
    let name = variables::expand("$CI_ENVIRONMENT_NAME", variables);
    let name = variables::expand(&name, variables);
    variables.push(public("CI_ENVIRONMENT_SLUG", environment_slug(&name)));
    let has_tier = variables.iter().any(|v| v.key == "CI_ENVIRONMENT_TIER");
    if !has_tier {
        variables.push(public("CI_ENVIRONMENT_TIER", tier_of(&name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runner_tags_are_a_json_list_with_blanks() {
        assert_eq!(json_list(&["a".into(), "b\"".into()]), r#"["a", "b\""]"#);
        assert_eq!(json_list(&[]), "[]");
    }
}
