//! Jobs of a local run in containers: which ones, of which images, and how they reach the coordinator.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use courser_config::DockerConfig;
use courser_executor::agent::{Connecting, Connection};
use courser_executor_docker::Tunnel;
use courser_executor_docker::engine::{Engine, EngineError};
use courser_executor_docker::kept::KeptJob;
use courser_net::connect_loopback;
use courser_net::legs::DockerOptions;
use courser_pipeline::{Pipeline, PipelineJob};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::kept::cache_volume;
use crate::failure::{Code, Failure};
use crate::session::Session;

const HINT: &str =
    "or run all jobs in a shell of this machine, without their images: --executor shell";

const NO_IMAGE_HINT: &str = "name one for all such jobs, --image debian:12, or leave --executor docker out: they then run in a shell";

/// How jobs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ExecutorName {
    /// In a shell of this machine, as the user who calls
    Shell,
    /// In containers of a Docker Engine
    Docker,
}

/// Options of `exec` about containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub(super) struct ContainerOptions {
    /// Run all jobs with this executor [default: docker for jobs with an image, shell for the others]
    #[arg(long, value_name = "NAME", value_enum)]
    executor: Option<ExecutorName>,
    /// Take image OTHER where a job or service has NAME, written as in the file; without NAME= for jobs that
    /// have none
    #[arg(long = "image", value_name = "[NAME=]OTHER")]
    images: Vec<String>,
}

/// An Engine, and how its containers reach this machine.
#[derive(Clone)]
pub(super) struct Reached {
    pub(super) engine: Engine,
    /// This machine, as its containers see it; `None`: they do not, as the Engine is elsewhere, in a virtual machine or
    /// rootless.
    pub(super) gateway: Option<IpAddr>,
}

impl ContainerOptions {
    /// Everything in a shell of this machine.
    pub(super) fn in_shell() -> Self {
        Self {
            executor: Some(ExecutorName::Shell),
            images: Vec::new(),
        }
    }

    /// Those of the last run where none are given.
    pub(super) fn or(self, last: Option<&Self>) -> Self {
        match last {
            Some(last) if self == Self::default() => last.clone(),
            _ => self,
        }
    }

    /// Whether no job runs in a container.
    pub(super) fn is_in_shell(&self) -> bool {
        self.executor == Some(ExecutorName::Shell)
    }

    /// Whether nobody said where jobs run.
    pub(super) fn leaves_open(&self) -> bool {
        self.executor.is_none()
    }

    /// # Errors
    ///
    /// Options that contradict each other.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.is_in_shell() && !self.images.is_empty() {
            let text = "--image does nothing with --executor shell, which has no images";
            return Err(Failure::new(Code::Usage, text));
        }
        Ok(())
    }

    /// Gives jobs the images that they are to have here.
    pub(super) fn apply(&self, pipeline: &mut Pipeline) {
        for job in &mut pipeline.jobs {
            for image in job.image.iter_mut().chain(&mut job.services) {
                self.exchange(image);
            }
            if job.image.is_none() && job.trigger.is_none() {
                job.image = self.default_image().map(Value::from);
            }
        }
    }

    /// The last one without a name.
    fn default_image(&self) -> Option<&str> {
        let plain = self.images.iter().filter(|image| !image.contains('='));
        plain.map(String::as_str).next_back()
    }

    fn exchange(&self, image: &mut Value) {
        let name = match image {
            Value::Object(map) => map.get_mut("name"),
            plain => Some(plain),
        };
        let Some(Value::String(name)) = name else {
            return;
        };
        let pairs = self.images.iter().filter_map(|image| image.split_once('='));
        if let Some((_, other)) = pairs.rev().find(|(known, _)| known == name) {
            other.clone_into(name);
        }
    }

    /// The Engine for a pipeline and those that it may start; `None`: everything runs in a shell.
    ///
    /// # Errors
    ///
    /// A job needs a container, and there is no Engine for it.
    pub(super) async fn reach(
        &self,
        pipeline: &Pipeline,
        session: &Session,
    ) -> Result<Option<Reached>, Failure> {
        if self.is_in_shell() {
            return Ok(None);
        }
        if let Some(job) = self.without_image(pipeline) {
            let text = format!("{} has no image to run in", job.name);
            return Err(Failure::new(Code::Usage, text).hint(NO_IMAGE_HINT));
        }
        let mut jobs = pipeline.jobs.iter().filter(|job| job.trigger.is_none());
        let first = jobs.find(|job| job.image.is_some());
        let starts_others = pipeline.jobs.iter().any(|job| job.trigger.is_some());
        if first.is_none() && !starts_others {
            return Ok(None);
        }
        match (reach_engine(session).await, first) {
            (Ok(reached), _) => Ok(Some(reached)),
            // Pipelines that are started later may need none.
            (Err(_), None) if !self.have_no_shell() => Ok(None),
            (Err(Unreached { why, remedy }), first) => {
                let wanted = match first {
                    Some(job) => format!("{} has an image", job.name),
                    None => "all jobs are to run in containers".to_owned(),
                };
                let text = format!("{wanted}, and no container can be had: {why}");
                let failure = Failure::new(Code::Surroundings, text);
                Err(match remedy {
                    Some(remedy) => failure.hint(format!("{remedy};\n{HINT}")),
                    None => failure.hint(HINT),
                })
            }
        }
    }

    /// Why a later pipeline cannot run; `can`: whether containers can be had.
    pub(super) fn refusal(&self, pipeline: &Pipeline, can: bool) -> Option<String> {
        if let Some(job) = self.without_image(pipeline) {
            let name = &job.name;
            return Some(format!("{name} has no image to run in; {NO_IMAGE_HINT}"));
        }
        if can || self.is_in_shell() {
            return None;
        }
        let job = pipeline.jobs.iter().find(|job| job.image.is_some())?;
        let name = &job.name;
        Some(format!(
            "{name} has an image, and no Docker Engine was found"
        ))
    }

    /// Whether no job may run in a shell of this machine.
    pub(super) fn have_no_shell(&self) -> bool {
        self.executor == Some(ExecutorName::Docker)
    }

    /// A job that would need a shell, where there is none.
    fn without_image<'p>(&self, pipeline: &'p Pipeline) -> Option<&'p PipelineJob> {
        let stranded = |job: &&PipelineJob| !has_image(job) && job.trigger.is_none();
        let jobs = self.have_no_shell().then_some(&pipeline.jobs)?;
        jobs.iter().find(stranded)
    }
}

/// Whether it names one, as the coordinator sees it.
pub(super) fn has_image(job: &PipelineJob) -> bool {
    let name = job
        .image
        .as_ref()
        .map(|image| image.get("name").unwrap_or(image));
    name.and_then(Value::as_str)
        .is_some_and(|name| !name.is_empty())
}

/// Why there is no Engine, and what to do about it.
struct Unreached {
    why: String,
    remedy: Option<String>,
}

impl From<EngineError> for Unreached {
    fn from(error: EngineError) -> Self {
        Self {
            why: error.to_string(),
            remedy: error.remedy(),
        }
    }
}

/// As the runner reaches it, by the environment's variables.
async fn reach_engine(session: &Session) -> Result<Reached, Unreached> {
    let legs = session.environment.legs();
    let way = legs.docker(DockerOptions::default());
    let engine = Engine::connect(&way).await?;
    let options = engine.info().await?.security_options.as_deref();
    let is_elsewhere = way.url().is_some_and(|url| is_of_another_machine(&url))
        || is_rootless(options.unwrap_or_default());
    let gateway = match is_elsewhere {
        true => None,
        false => engine.gateway().await?,
    };
    Ok(Reached { engine, gateway })
}

/// A network address that is not this machine's loopback.
fn is_of_another_machine(engine: &Url) -> bool {
    let host = engine.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = address.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback());
    matches!(engine.scheme(), "tcp" | "http" | "https") && !is_here
}

fn is_rootless(options: &[String]) -> bool {
    options.iter().any(|option| option.contains("rootless"))
}

/// Helper containers reach the coordinator at that port of this machine's loopback over their streams.
pub(super) fn tunnel(port: u16) -> Tunnel {
    let connector = move || -> Connecting<'static> {
        Box::pin(async move {
            let stream = connect_loopback(port).await?;
            Ok(Box::pin(stream) as Pin<Box<dyn Connection>>)
        })
    };
    Tunnel {
        port,
        connector: Arc::new(connector),
    }
}

/// How the runner's containers are made; `project` is its name in Engines, `kept`: builds lie where an earlier run has kept them.
pub(super) fn docker_config(project: &str, kept: Option<&KeptJob>) -> DockerConfig {
    let cache = format!("{}:/cache", cache_volume(project));
    let builds = kept.map(|kept| format!("{}:{}", kept.volume, kept.builds));
    DockerConfig {
        // Each run's runner is a new one: volumes of its own would never be found again.
        disable_cache: true,
        volumes: std::iter::once(cache).chain(builds).collect(),
        pull_policy: vec!["if-not-present".to_owned()],
        // It is the caller's own file that chooses.
        allowed_pull_policies: ["always", "if-not-present", "never"]
            .map(str::to_owned)
            .into(),
        ..DockerConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use courser_pipeline::Workflow;
    use serde_json::json;

    use super::*;

    fn job(image: Option<Value>, services: Vec<Value>) -> PipelineJob {
        PipelineJob {
            image,
            services,
            ..PipelineJob::default()
        }
    }

    #[test]
    fn images_are_exchanged_where_they_are_written_so() {
        let options = ContainerOptions {
            executor: None,
            images: ["ruby:3=other:1", "plain", "$CI_X:1=x", "db=own/db"]
                .map(str::to_owned)
                .into(),
        };
        let mut pipeline = Pipeline {
            jobs: vec![
                job(
                    Some(json!("ruby:3")),
                    vec![json!("db"), json!({"name": "db", "alias": "a"})],
                ),
                job(
                    Some(json!({"name": "$CI_X:1", "entrypoint": [""]})),
                    vec![json!("redis")],
                ),
                job(None, Vec::new()),
                PipelineJob {
                    trigger: Some(json!({})),
                    ..PipelineJob::default()
                },
            ],
            workflow: Workflow::default(),
            stages: Vec::new(),
            warnings: Vec::new(),
            not_run_here: Vec::new(),
        };
        options.apply(&mut pipeline);
        let images: Vec<_> = pipeline.jobs.iter().map(|job| job.image.clone()).collect();
        let expected = [
            Some(json!("other:1")),
            Some(json!({"name": "x", "entrypoint": [""]})),
            Some(json!("plain")),
            None,
        ];
        assert_eq!(images, expected);
        let services = [json!("own/db"), json!({"name": "own/db", "alias": "a"})];
        assert_eq!(pipeline.jobs[0].services, services);
        assert_eq!(pipeline.jobs[1].services, [json!("redis")]);
    }

    #[test]
    fn with_the_docker_executor_no_job_of_any_pipeline_gets_a_shell() {
        let pipeline = |jobs| Pipeline {
            jobs,
            workflow: Workflow::default(),
            stages: Vec::new(),
            warnings: Vec::new(),
            not_run_here: Vec::new(),
        };
        let bridge = PipelineJob {
            trigger: Some(json!({})),
            ..PipelineJob::default()
        };
        let plain = pipeline(vec![bridge, job(None, Vec::new())]);
        let imaged = pipeline(vec![job(Some(json!("a")), Vec::new())]);
        let refused = |executor, pipeline, can| {
            let options = ContainerOptions {
                executor,
                images: Vec::new(),
            };
            options.refusal(pipeline, can).unwrap_or_default()
        };
        let docker = Some(ExecutorName::Docker);
        for can in [true, false] {
            let text = refused(docker, &plain, can);
            assert!(text.contains("has no image to run in"), "{text}");
            assert_eq!(refused(None, &plain, can), "");
            assert_eq!(refused(Some(ExecutorName::Shell), &imaged, can), "");
        }
        assert_eq!(refused(docker, &imaged, true), "");
        for executor in [None, docker] {
            let text = refused(executor, &imaged, false);
            assert!(text.contains("no Docker Engine was found"), "{text}");
        }
    }

    #[test]
    fn it_is_known_which_engines_are_on_this_machine() {
        let table = [
            ("unix:///var/run/docker.sock", false),
            ("tcp://127.0.0.1:2375", false),
            ("tcp://[::1]:2375", false),
            ("https://localhost:2376/", false),
            // Another way leads to it; connecting tells.
            ("ssh://me@elsewhere", false),
            ("tcp://docker:2375", true),
            ("https://192.0.2.1:2376/", true),
            ("tcp://[2001:db8::1]:2375", true),
        ];
        for (url, expected) in table {
            let found = is_of_another_machine(&Url::parse(url).unwrap());
            assert_eq!(found, expected, "{url}");
        }
        assert!(is_rootless(&[
            "name=seccomp".into(),
            "name=rootless".into()
        ]));
        assert!(!is_rootless(&["name=seccomp,profile=builtin".into()]));
    }

    #[test]
    fn a_shell_has_no_images() {
        let options = ContainerOptions {
            executor: Some(ExecutorName::Shell),
            images: vec!["a=b".to_owned()],
        };
        assert!(options.check().is_err());
        assert!(ContainerOptions::default().check().is_ok());
    }
}
