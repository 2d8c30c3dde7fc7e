//! Labels on containers, networks and volumes (`executor-docker.md` 4): by them a later runner knows what is left of
//! a dead one.

use std::collections::HashMap;

use courser_config::GoDuration;
use courser_job::Job;

/// What all labels of a job have in common.
#[derive(Debug, Clone)]
pub(crate) struct Labels {
    common: HashMap<String, String>,
    /// `[runners.docker.container_labels]`, values expanded.
    configured: HashMap<String, String>,
}

/// What a labelled thing is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Container with the job's image.
    Build,
    /// Container of predefined stages.
    Predefined,
    /// Container of a service.
    Service,
    /// Volume.
    Cache,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Predefined => "predefined",
            Self::Service => "service",
            Self::Cache => "cache",
        }
    }
}

/// The full name of a label.
pub(crate) fn label(name: &str) -> String {
    format!("com.gitlab.gitlab-runner.{name}")
}

/// The label of a volume that has no name of its own and goes with a job: `base` is what the names of the job's containers
/// begin with.
pub(crate) fn goes_with(base: &str) -> (String, String) {
    (label("courser.goes-with"), base.to_owned())
}

impl Labels {
    /// Of a job; `configured` is `[runners.docker.container_labels]`.
    pub(crate) fn new<'a>(
        job: &Job,
        configured: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        let (payload, context) = (job.payload(), job.context());
        let git = &payload.git_info;
        let pipeline = match payload.job_info.pipeline_id {
            0 => job.variables().text("CI_PIPELINE_ID").into_owned(),
            id => id.to_string(),
        };
        let nanoseconds = i64::try_from(job.timeout().as_nanos()).unwrap_or(i64::MAX);
        let common = [
            ("job.id", payload.id.to_string()),
            ("job.url", job.url()),
            ("job.sha", git.sha.clone()),
            ("job.before_sha", git.before_sha.clone()),
            ("job.ref", git.ref_name.clone()),
            (
                "job.timeout",
                GoDuration::from_nanoseconds(nanoseconds).to_string(),
            ),
            ("project.id", payload.job_info.project_id.to_string()),
            (
                "project.runner_id",
                context.concurrent_project_id.to_string(),
            ),
            ("pipeline.id", pipeline),
            ("runner.id", context.short_token.clone()),
            ("runner.local_id", context.concurrent_id.to_string()),
            ("runner.system_id", context.system_id.clone()),
            ("managed", "true".to_owned()),
        ];
        let expanded =
            |(name, value): (&String, &String)| (name.clone(), job.variables().expand(value));
        Self {
            common: common.map(|(name, value)| (label(name), value)).into(),
            configured: configured.into_iter().map(expanded).collect(),
        }
    }

    /// Of a network.
    pub(crate) fn network(&self) -> HashMap<String, String> {
        self.common.clone()
    }

    /// Of a volume, or of a container that only helps: without those of the configuration.
    pub(crate) fn own(
        &self,
        kind: Kind,
        details: impl IntoIterator<Item = (&'static str, String)>,
    ) -> HashMap<String, String> {
        let mut labels = self.common.clone();
        labels.insert(label("type"), kind.as_str().to_owned());
        let details = details.into_iter();
        labels.extend(details.map(|(name, value)| (label(name), value)));
        labels
    }

    /// Of the build or the helper container.
    pub(crate) fn container(&self, kind: Kind) -> HashMap<String, String> {
        let mut labels = self.own(kind, []);
        labels.extend(self.configured.clone());
        labels
    }

    /// Of a service's container: the configured ones are there twice, with our prefix too.
    pub(crate) fn service(&self, service: &str, version: &str) -> HashMap<String, String> {
        let details = [
            ("service", service.to_owned()),
            ("service.version", version.to_owned()),
        ];
        let mut labels = self.own(Kind::Service, details);
        for (name, value) in &self.configured {
            labels.insert(label(name), value.clone());
            labels.insert(name.clone(), value.clone());
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn every_label_of_a_job_is_there() {
        let configured = BTreeMap::from([("team".to_owned(), "a-$CI_SERVER".to_owned())]);
        let labels = Labels::new(&testing::job(json!({})), &configured);
        let mut lines: Vec<_> = labels
            .service("redis", "7")
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        lines.sort();
        let lines = lines.join("\n").replace("com.gitlab.gitlab-runner.", "~");
        assert_eq!(
            lines,
            "~job.before_sha=0000000000000000000000000000000000000000\n~job.id=42\n\
             ~job.ref=main\n~job.sha=0123456789abcdef0123456789abcdef01234567\n~job.timeout=2h0m0s\n\
             ~job.url=https://gitlab.example/group/p/-/jobs/42\n~managed=true\n~pipeline.id=99\n\
             ~project.id=7\n~project.runner_id=2\n~runner.id=abc_def_g\n~runner.local_id=5\n\
             ~runner.system_id=s_123\n~service.version=7\n~service=redis\n~team=a-yes\n~type=service\nteam=a-yes"
        );
        assert_eq!(labels.container(Kind::Build)["team"], "a-yes");
        let cache = labels.own(Kind::Cache, [("destination", "/cache".to_owned())]);
        assert!(!cache.contains_key("team") && cache["com.gitlab.gitlab-runner.managed"] == "true");
        assert_eq!(cache["com.gitlab.gitlab-runner.destination"], "/cache");
        assert!(
            !labels
                .network()
                .contains_key("com.gitlab.gitlab-runner.type")
        );
    }

    #[test]
    fn servers_that_do_not_tell_the_pipeline_say_it_in_a_variable() {
        let job = testing::job(json!({
            "job_info": {"project_id": 7},
            "variables": [{"key": "CI_PIPELINE_ID", "value": "12"}],
        }));
        let labels = Labels::new(&job, &BTreeMap::new());
        assert_eq!(
            labels.network()["com.gitlab.gitlab-runner.pipeline.id"],
            "12"
        );
    }
}
