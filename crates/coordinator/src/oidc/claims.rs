//! The claims of a job (`secrets.md` 10.4): all that GitLab always sets, with its types. Numbers and booleans are
//! texts, `runner_id` excepted. `user_identities` and `groups_direct` are not there: nobody has any here.

use serde_json::{Map, Value};

use courser_protocol::JobVariable;

use crate::results::Deployment;

/// Claims that tokens may have.
pub(super) const SUPPORTED: [&str; 37] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "namespace_id",
    "namespace_path",
    "project_id",
    "project_path",
    "job_namespace_id",
    "job_namespace_path",
    "job_project_id",
    "job_project_path",
    "user_id",
    "user_login",
    "user_email",
    "user_access_level",
    "pipeline_id",
    "pipeline_source",
    "job_id",
    "ref",
    "ref_type",
    "ref_path",
    "ref_protected",
    "environment",
    "environment_protected",
    "deployment_tier",
    "environment_action",
    "runner_id",
    "runner_environment",
    "sha",
    "project_visibility",
    "ci_config_ref_uri",
    "ci_config_sha",
    "job_source",
];

/// What a token is minted for.
pub(crate) struct Occasion<'a> {
    /// Variables that the server sets: claims are taken from nothing that a file can change.
    pub(crate) predefined: &'a [JobVariable],
    /// `group/project`.
    pub(crate) project_path: &'a str,
    pub(crate) project_id: i64,
    /// Where a browser finds it.
    pub(crate) project_url: &'a str,
    /// The file of the project that the pipeline was made of; `None`: it was made of something else, such as the
    /// files of a child pipeline.
    pub(crate) config_path: Option<&'a str>,
    /// Branch or tag; of a merge request the full ref.
    pub(crate) ref_name: &'a str,
    pub(crate) tag: bool,
    pub(crate) sha: &'a str,
    pub(crate) protected: bool,
    pub(crate) pipeline_id: i64,
    pub(crate) job_id: i64,
    pub(crate) runner_id: i64,
    /// Of a job with `environment`.
    pub(crate) environment: Option<Deployment>,
}

/// Claims of a job without those of the issuer.
#[derive(Debug, Clone)]
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    pub(crate) fn of(occasion: &Occasion<'_>) -> Self {
        let predefined = |key: &str| {
            let variable = occasion
                .predefined
                .iter()
                .rev()
                .find(|known| known.key == key);
            variable.map(|variable| variable.value.expose())
        };
        let known = |key: &str| predefined(key).unwrap_or_default();
        let path = occasion.project_path;
        let namespace = path
            .rsplit_once('/')
            .map_or(path, |(namespace, _)| namespace);
        let project_id = occasion.project_id.to_string();
        // Of a merge request: its source branch.
        let branch = predefined("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME")
            .filter(|_| crate::payload::is_merge_request(occasion.ref_name))
            .unwrap_or(occasion.ref_name);
        let (ref_type, directory) = match occasion.tag {
            true => ("tag", "tags"),
            false => ("branch", "heads"),
        };
        let (pipeline_id, job_id) = (
            occasion.pipeline_id.to_string(),
            occasion.job_id.to_string(),
        );
        let ref_path = format!("refs/{directory}/{branch}");
        let protected = if occasion.protected { "true" } else { "false" };
        let mut claims = Map::new();
        let mut text = |name: &str, value: &str| {
            claims.insert(name.to_owned(), value.into());
        };
        for prefix in ["", "job_"] {
            text(
                &format!("{prefix}namespace_id"),
                known("CI_PROJECT_NAMESPACE_ID"),
            );
            text(&format!("{prefix}namespace_path"), namespace);
            text(&format!("{prefix}project_id"), &project_id);
            text(&format!("{prefix}project_path"), path);
        }
        for (name, value) in [
            ("user_id", known("GITLAB_USER_ID")),
            ("user_login", known("GITLAB_USER_LOGIN")),
            ("user_email", known("GITLAB_USER_EMAIL")),
            // Who can start pipelines here owns the project.
            ("user_access_level", "owner"),
            ("pipeline_id", &pipeline_id),
            ("pipeline_source", known("CI_PIPELINE_SOURCE")),
            ("job_id", &job_id),
            ("job_source", "pipeline"),
            ("ref", branch),
            ("ref_type", ref_type),
            ("ref_path", &ref_path),
            ("ref_protected", protected),
            ("runner_environment", "self-hosted"),
            ("sha", occasion.sha),
            ("project_visibility", known("CI_PROJECT_VISIBILITY")),
        ] {
            text(name, value);
        }
        if let Some(file) = occasion.config_path {
            let project = occasion.project_url;
            let place = project.split_once("://").map_or(project, |(_, rest)| rest);
            let full_ref = crate::payload::full_ref(occasion.ref_name, occasion.tag);
            text("ci_config_ref_uri", &format!("{place}//{file}@{full_ref}"));
            text("ci_config_sha", occasion.sha);
        }
        if let Some(environment) = &occasion.environment {
            text("environment", &environment.environment);
            text("environment_protected", "false");
            text("deployment_tier", &environment.tier);
            text("environment_action", &environment.action);
        }
        claims.insert("runner_id".to_owned(), occasion.runner_id.into());
        Self(claims)
    }

    pub(super) fn into_map(self) -> Map<String, Value> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::variables::public;

    fn occasion(predefined: &[JobVariable]) -> Occasion<'_> {
        Occasion {
            predefined,
            project_path: "group/sub/app",
            project_id: 42,
            project_url: "https://host/group/sub/app",
            config_path: Some("ci/main.yml"),
            ref_name: "main",
            tag: false,
            sha: "5a1",
            protected: true,
            pipeline_id: 7,
            job_id: 8,
            runner_id: 9,
            environment: None,
        }
    }

    #[test]
    fn everything_is_a_text_but_the_runners_number() {
        let predefined = [
            public("CI_PROJECT_NAMESPACE_ID", "3"),
            public("CI_PROJECT_VISIBILITY", "private"),
            public("CI_PIPELINE_SOURCE", "push"),
            public("GITLAB_USER_ID", "1"),
            public("GITLAB_USER_LOGIN", "root"),
            public("GITLAB_USER_EMAIL", "first@example.com"),
            public("GITLAB_USER_EMAIL", "last@example.com"),
        ];
        assert_eq!(
            Value::from(Claims::of(&occasion(&predefined)).into_map()),
            json!({
                "namespace_id": "3", "namespace_path": "group/sub",
                "project_id": "42", "project_path": "group/sub/app",
                "job_namespace_id": "3", "job_namespace_path": "group/sub",
                "job_project_id": "42", "job_project_path": "group/sub/app",
                "user_id": "1", "user_login": "root", "user_email": "last@example.com",
                "user_access_level": "owner",
                "pipeline_id": "7", "pipeline_source": "push", "job_id": "8", "job_source": "pipeline",
                "ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true",
                "runner_id": 9, "runner_environment": "self-hosted", "sha": "5a1",
                "project_visibility": "private",
                "ci_config_ref_uri": "host/group/sub/app//ci/main.yml@refs/heads/main", "ci_config_sha": "5a1",
            })
        );
    }

    #[test]
    fn tags_merge_requests_and_environments_have_their_own() {
        let predefined = [public("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "feature")];
        let claims = |occasion: Occasion<'_>, names: &[&str]| -> Vec<Value> {
            let claims = Claims::of(&occasion).into_map();
            names
                .iter()
                .map(|name| claims.get(*name).cloned().unwrap_or_default())
                .collect()
        };
        let of_ref = ["ref", "ref_type", "ref_path", "environment"];
        let tag = Occasion {
            ref_name: "v1",
            tag: true,
            ..occasion(&predefined)
        };
        assert_eq!(
            claims(tag, &of_ref),
            [
                json!("v1"),
                json!("tag"),
                json!("refs/tags/v1"),
                json!(null)
            ]
        );
        let merge_request = Occasion {
            ref_name: "refs/merge-requests/1/head",
            ..occasion(&predefined)
        };
        assert_eq!(
            claims(merge_request, &of_ref),
            [
                json!("feature"),
                json!("branch"),
                json!("refs/heads/feature"),
                json!(null)
            ]
        );
        let of_file = ["ci_config_ref_uri", "ci_config_sha"];
        let child = Occasion {
            config_path: None,
            ..occasion(&predefined)
        };
        assert_eq!(claims(child, &of_file), [json!(null), json!(null)]);
        let deploys = Occasion {
            environment: Some(Deployment {
                environment: "review/x".to_owned(),
                tier: "development".to_owned(),
                action: "stop".to_owned(),
                ..Deployment::default()
            }),
            ..occasion(&predefined)
        };
        assert_eq!(
            claims(
                deploys,
                &[
                    "environment",
                    "environment_protected",
                    "deployment_tier",
                    "environment_action"
                ]
            ),
            [
                json!("review/x"),
                json!("false"),
                json!("development"),
                json!("stop")
            ]
        );
    }
}
