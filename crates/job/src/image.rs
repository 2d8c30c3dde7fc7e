//! Image and services of a job as the payload has them, expanded where the runner expands them
//! (`runner-protocol.md` 3.7 and 4.2). An executor without containers does not ask for them.

use courser_protocol::{Image, JobVariable, Secret};

use crate::{Job, Variables};

/// An image that a job wants.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobImage {
    /// Reference; empty = none.
    pub name: String,
    /// Entrypoint; empty = the image's own. A single empty text clears it.
    pub entrypoint: Vec<String>,
    /// Pull policies in order; empty = the runner's.
    pub pull_policy: Vec<String>,
    /// `docker: platform`; empty = the engine's own.
    pub platform: String,
    /// `docker: user`; empty = the image's own.
    pub user: String,
}

/// A service that a job wants.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobService {
    /// Its image.
    pub image: JobImage,
    /// Further host names, separated by blanks or commas.
    pub alias: String,
    /// Command; empty = the image's own.
    pub command: Vec<String>,
    /// Variables of its own.
    pub variables: Vec<JobVariable>,
}

impl Job {
    /// Its image; that of the runner's configuration is not asked here.
    pub fn image(&self) -> JobImage {
        image(self.variables(), &self.payload().image)
    }

    /// Its services, those of the runner's configuration not among them.
    pub fn services(&self) -> Vec<JobService> {
        let variables = self.variables();
        let service = |service: &Image| JobService {
            image: image(variables, service),
            alias: variables.expand(&service.alias),
            command: service.command.clone(),
            variables: own_variables(variables, &service.variables),
        };
        self.payload().services.iter().map(service).collect()
    }

    /// Whether the ref is protected: what the server says, else the first variable of that name, which no user
    /// can put another one before.
    pub fn protected_ref(&self) -> bool {
        let payload = self.payload();
        let of_variable = || {
            let mut variables = payload.variables.iter();
            let first = variables.find(|variable| variable.key == "CI_COMMIT_REF_PROTECTED");
            first.is_some_and(|variable| crate::is_true(variable.value.expose()))
        };
        payload.git_info.protected.unwrap_or_else(of_variable)
    }
}

fn image(variables: &Variables, image: &Image) -> JobImage {
    let docker = image.executor_opts.docker.as_ref();
    JobImage {
        name: variables.expand(&image.name),
        entrypoint: image.entrypoint.clone(),
        pull_policy: image.pull_policy.clone(),
        platform: docker.map_or_else(String::new, |docker| variables.expand(&docker.platform)),
        user: docker.map_or_else(String::new, |docker| variables.expand(&docker.user.0)),
    }
}

/// Each value once, against the job's variables with the service's own behind them.
fn own_variables(variables: &Variables, own: &[JobVariable]) -> Vec<JobVariable> {
    let value = |name: &str| match own.iter().rfind(|variable| variable.key == name) {
        Some(variable) => Some(variable.value.expose().into()),
        None => variables.value(name),
    };
    let expanded = |variable: &JobVariable| JobVariable {
        value: if variable.raw {
            variable.value.clone()
        } else {
            Secret::new(crate::expand(variable.value.expose(), value))
        },
        ..variable.clone()
    };
    own.iter().map(expanded).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::tests::{context, payload};

    fn job(change: serde_json::Value) -> Job {
        Job::accept(payload(change), context()).expect("accepted")
    }

    #[test]
    fn names_aliases_users_and_platforms_are_expanded_and_the_rest_is_not() {
        let job = job(json!({
            "variables": [
                {"key": "TAG", "value": "3.3"}, {"key": "NAME", "value": "x-$TAG"},
                {"key": "PASS", "value": "p", "masked": true},
            ],
            "image": {
                "name": "ruby:$TAG", "entrypoint": ["$TAG"], "pull_policy": ["never"],
                "executor_opts": {"docker": {"platform": "linux/$TAG", "user": "u$TAG"}},
            },
            "services": [{
                "name": "pg:$TAG", "alias": "db-$TAG,pg", "command": ["$TAG"],
                "variables": [
                    {"key": "OWN", "value": "own"},
                    {"key": "MIXED", "value": "$OWN $TAG $NAME $NONE|"},
                    {"key": "RAW", "value": "$TAG", "raw": true},
                ],
            }],
        }));
        assert_eq!(
            job.image(),
            JobImage {
                name: "ruby:3.3".to_owned(),
                entrypoint: vec!["$TAG".to_owned()],
                pull_policy: vec!["never".to_owned()],
                platform: "linux/3.3".to_owned(),
                user: "u3.3".to_owned(),
            }
        );
        let services = job.services();
        let service = &services[0];
        assert_eq!(
            (service.image.name.as_str(), service.alias.as_str()),
            ("pg:3.3", "db-3.3,pg")
        );
        assert_eq!(service.command, ["$TAG"]);
        let values: Vec<_> = service.variables.iter().map(|v| v.value.expose()).collect();
        assert_eq!(values, ["own", "own 3.3 x-3.3 |", "$TAG"]);
    }

    #[test]
    fn a_job_s_page_has_no_credentials() {
        assert_eq!(
            job(json!({})).url(),
            "https://gitlab.example/group/p/-/jobs/42"
        );
    }

    #[test]
    fn services_get_what_is_public_or_the_runner_s() {
        let job = job(json!({"variables": [
            {"key": "SEEN", "value": "1", "public": true},
            {"key": "HIDDEN", "value": "2"},
        ]}));
        let for_services: Vec<_> = job
            .variables()
            .for_services()
            .map(|v| v.key.as_str())
            .collect();
        for (name, seen) in [
            ("SEEN", true),
            ("HIDDEN", false),
            // Of `environment` in the configuration: not public, but the runner's own.
            ("CONFIGURED", true),
            ("CI_PROJECT_DIR", true),
            ("CI_RUNNER_VERSION", true),
        ] {
            assert_eq!(for_services.contains(&name), seen, "{name}");
        }
    }

    #[test]
    fn the_server_says_whether_a_ref_is_protected_and_else_its_first_variable() {
        let first = |values: [&str; 2]| {
            json!(values.map(|value| json!({"key": "CI_COMMIT_REF_PROTECTED", "value": value})))
        };
        for (git_info, variables, expected) in [
            (
                json!({"sha": "01234567", "protected": true}),
                first(["false", "false"]),
                true,
            ),
            (
                json!({"sha": "01234567", "protected": false}),
                first(["true", "true"]),
                false,
            ),
            (json!({"sha": "01234567"}), first(["true", "false"]), true),
            (json!({"sha": "01234567"}), first(["false", "true"]), false),
            (json!({"sha": "01234567"}), json!([]), false),
        ] {
            let job = job(json!({"git_info": git_info, "variables": variables}));
            assert_eq!(job.protected_ref(), expected, "{variables}");
        }
    }
}
