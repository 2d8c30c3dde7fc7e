//! The variables GitLab sets itself, the "persisted" ones included (`gitlab-ci-yaml.md` 18).

use std::fmt::Write as _;

use courser_pipeline::{environment_slug, slug};
use courser_protocol::{JobVariable, Secret};

use super::{HandOut, ServerFacts, full_ref, is_merge_request};
use crate::git_http::submodule_path;
use crate::project::Project;
use crate::results::tier_of;
use crate::store::RunnerRecord;
use crate::variables::{self, masked, public};

/// The version of GitLab whose behaviour the coordinator follows.
const GITLAB_VERSION: [&str; 3] = ["19", "4", "0"];

/// `https://gitlab-ci-token:<token>@host/group/project.git`.
pub(super) fn repository_url(server: &ServerFacts, project: &Project, token: &Secret) -> Secret {
    Secret::new(with_credentials(
        server,
        &format!("{}.git", project.path),
        token,
    ))
}

fn with_credentials(server: &ServerFacts, path: &str, token: &Secret) -> String {
    let mut url = server.url.clone();
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
        let served = with_credentials(server, &path, &job.token);
        let key = format!("url.{served}.insteadOf");
        variables.push(plain(format!("GIT_CONFIG_KEY_{number}"), key));
        let value = submodule.url.clone();
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
    variables.extend(server(request.server));
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
    let namespace = project.path.rsplit_once('/').map_or("", |(left, _)| left);
    let root = namespace.split('/').next().unwrap_or_default();
    let project_url = project_url(request.server, project);
    let registry = registry(request.server);
    let host = request.server.url.host_str().unwrap_or_default();
    let mut variables = vec![
        public("CI", "true"),
        public("GITLAB_CI", "true"),
        public("CI_PROJECT_ID", project.id.to_string()),
        public("CI_PROJECT_NAME", project.name()),
        public("CI_PROJECT_TITLE", project.name()),
        public("CI_PROJECT_PATH", &*project.path),
        public("CI_PROJECT_PATH_SLUG", slug(&project.path)),
        public("CI_PROJECT_NAMESPACE", namespace),
        public("CI_PROJECT_NAMESPACE_ID", "1"),
        public("CI_PROJECT_NAMESPACE_SLUG", slug(namespace)),
        public("CI_PROJECT_ROOT_NAMESPACE", root),
        public("CI_PROJECT_URL", &*project_url),
        public("CI_PROJECT_VISIBILITY", "private"),
        public("CI_PROJECT_DESCRIPTION", ""),
        public("CI_PROJECT_TOPICS", ""),
        public("CI_PROJECT_REPOSITORY_LANGUAGES", ""),
        public("CI_PROJECT_CLASSIFICATION_LABEL", ""),
        public("CI_DEFAULT_BRANCH", &*context.ref_name),
        public("CI_REGISTRY", &*registry),
        public(
            "CI_REGISTRY_IMAGE",
            format!("{registry}/{}", project.path.to_lowercase()),
        ),
        public("CI_PAGES_DOMAIN", host),
        public(
            "CI_PAGES_URL",
            format!("https://{root}.{host}/{}", project.name()),
        ),
        public(
            "CI_CONFIG_REF_URI",
            format!(
                "{}//.gitlab-ci.yml@{}",
                project_url.trim_start_matches("https://"),
                full_ref(&context.ref_name, context.tag)
            ),
        ),
        public("CI_CONFIG_PATH", ".gitlab-ci.yml"),
        public("CI_PIPELINE_IID", request.pipeline_id.to_string()),
        public("CI_PIPELINE_SOURCE", "api"),
        public("GITLAB_USER_ID", "1"),
        public("GITLAB_USER_LOGIN", "root"),
        public("GITLAB_USER_NAME", "Administrator"),
        public("GITLAB_USER_EMAIL", "root@localhost"),
        public("CI_COMMIT_SHA", &*context.sha),
        public(
            "CI_COMMIT_SHORT_SHA",
            context.sha.get(..8).unwrap_or(&context.sha),
        ),
        public("CI_COMMIT_BEFORE_SHA", &*context.before_sha),
        public("CI_COMMIT_REF_NAME", &*context.ref_name),
        public("CI_COMMIT_REF_SLUG", slug(&context.ref_name)),
    ];
    if context.tag {
        variables.push(public("CI_COMMIT_TAG", &*context.ref_name));
    } else if !is_merge_request(&context.ref_name) {
        variables.push(public("CI_COMMIT_BRANCH", &*context.ref_name));
    }
    variables
}

/// Where images would lie: `docker build -t $CI_REGISTRY_IMAGE` works, but there is no registry to push to.
fn registry(server: &ServerFacts) -> String {
    format!("registry.{}", server.url.host_str().unwrap_or_default())
}

fn project_url(server: &ServerFacts, project: &Project) -> String {
    let base = server.url.as_str().trim_end_matches('/');
    format!("{base}/{}", project.path)
}

fn server(server: &ServerFacts) -> Vec<JobVariable> {
    let url = server.url.as_str().trim_end_matches('/');
    let host = server.url.host_str().unwrap_or_default();
    let port = server.url.port_or_known_default().unwrap_or(443);
    let fqdn = server
        .url
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let [major, minor, patch] = GITLAB_VERSION;
    vec![
        public("CI_SERVER", "yes"),
        public("CI_SERVER_URL", url),
        public("CI_SERVER_HOST", host),
        public("CI_SERVER_FQDN", fqdn),
        public("CI_SERVER_PORT", port.to_string()),
        public("CI_SERVER_PROTOCOL", server.url.scheme()),
        public("CI_SERVER_NAME", "Courser"),
        public("CI_SERVER_VERSION", GITLAB_VERSION.join(".")),
        public("CI_SERVER_VERSION_MAJOR", major),
        public("CI_SERVER_VERSION_MINOR", minor),
        public("CI_SERVER_VERSION_PATCH", patch),
        public("CI_SERVER_REVISION", env!("CARGO_PKG_VERSION")),
        public("CI_SERVER_SHELL_SSH_HOST", host),
        public("CI_SERVER_SHELL_SSH_PORT", "22"),
        public("CI_API_V4_URL", format!("{url}/api/v4")),
        public("CI_API_GRAPHQL_URL", format!("{url}/api/graphql")),
        public("CI_TEMPLATE_REGISTRY_HOST", "registry.gitlab.com"),
        public("GITLAB_FEATURES", ""),
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
    let project_url = project_url(server, project);
    vec![
        public("CI_PIPELINE_ID", pipeline_id.to_string()),
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
    let url = repository_url(request.server, request.project, &request.job.token);
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
