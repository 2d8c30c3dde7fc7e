//! `trigger` jobs, called bridges: what they start, and who evaluates it (`gitlab-ci-yaml.md` 16.4).
//!
//! A bridge whose turn has come is told to [`Starter`]. It asks the queue what is wanted, reads generated
//! configurations out of artifacts, has the composition root evaluate the pipeline
//! ([`PipelineSource::downstream`]), and hands it to the queue. What goes wrong on the way fails the
//! bridge, with a sentence that tells why.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use courser_pipeline::PipelineJob;
use courser_protocol::JobVariable;

use crate::coordinator::cache_keys;
use crate::pipeline_run::Position;
use crate::project::Project;
use crate::queue::{QueueHandle, Stopped};
use crate::settings::{NewPipeline, PipelineSource};

/// Bytes of a generated configuration (`gitlab-ci-yaml.md` 20: a YAML document).
const GENERATED_LIMIT: u64 = 2 << 20;

/// What a bridge asks for.
#[derive(Debug, Clone)]
pub struct DownstreamRequest {
    /// Project of the upstream pipeline.
    pub project_id: i64,
    /// Branch or tag of the upstream pipeline.
    pub ref_name: String,
    /// Whether that is a tag.
    pub tag: bool,
    /// Commit of the upstream pipeline.
    pub sha: String,
    /// The commit before.
    pub before_sha: String,
    /// Predefined variables: of a child pipeline those of its parent with `CI_PIPELINE_SOURCE` and
    /// `CI_UPSTREAM_*` of its own; of another project's pipeline only these.
    pub predefined: BTreeMap<String, String>,
    /// What this coordinator sets for jobs, so that rules of a child pipeline see it, too.
    pub of_server: BTreeMap<String, String>,
    /// The project's variables, where the downstream pipeline is one of the same project.
    pub project_variables: Vec<JobVariable>,
    /// Forwarded variables: the pipeline variables of the downstream pipeline.
    pub variables: Vec<JobVariable>,
    /// What is to run.
    pub target: DownstreamTarget,
}

/// The configuration of a downstream pipeline.
#[derive(Debug, Clone, PartialEq)]
pub enum DownstreamTarget {
    /// A child pipeline: the same project and commit.
    Child {
        /// Entries of `trigger:include`, expanded.
        include: Vec<Value>,
        /// Files out of artifacts that they name, by job and path.
        generated: BTreeMap<(String, String), String>,
    },
    /// The configuration of another project.
    Project {
        /// `group/project`.
        path: String,
        /// Branch or tag; `None`: its default branch.
        branch: Option<String>,
        /// `trigger:inputs`, a mapping or null.
        inputs: Value,
    },
}

/// A pipeline, evaluated.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// Its project, when the coordinator may not know it yet, or not as it is now.
    pub project: Option<Project>,
    /// The pipeline.
    pub pipeline: NewPipeline,
}

/// Why there is no downstream pipeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DownstreamError {
    /// GitLab's failure reason of the bridge.
    pub reason: &'static str,
    /// What is wrong, and where.
    pub message: String,
}

impl DownstreamError {
    /// The configuration makes no pipeline.
    pub fn creation(message: impl Into<String>) -> Self {
        Self {
            reason: "downstream_pipeline_creation_failed",
            message: message.into(),
        }
    }

    /// No project of that path can be had here.
    pub fn unknown_project(message: impl Into<String>) -> Self {
        Self {
            reason: "downstream_bridge_project_not_found",
            message: message.into(),
        }
    }
}

/// `trigger`, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trigger {
    pub(crate) target: TriggerTarget,
    /// File and line of the keyword, `.gitlab-ci.yml:7`.
    #[serde(default)]
    pub(crate) place: Option<String>,
    pub(crate) strategy: Strategy,
    /// `forward:yaml_variables`.
    pub(crate) yaml_variables: bool,
    /// `forward:pipeline_variables`.
    pub(crate) pipeline_variables: bool,
}

/// What `trigger` names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TriggerTarget {
    /// Entries of `trigger:include`.
    Child { include: Vec<Value> },
    /// `trigger:project`.
    Project {
        path: String,
        branch: Option<String>,
        inputs: Value,
    },
}

/// `trigger:strategy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Strategy {
    /// The bridge is done once the pipeline is there.
    #[default]
    Start,
    /// It ends as the pipeline does.
    Depend,
    /// The same, manual jobs included.
    Mirror,
}

impl Trigger {
    /// The trigger of a job of the evaluated pipeline.
    pub(crate) fn of(job: &PipelineJob) -> Option<Self> {
        let trigger = job.trigger.as_ref()?;
        let text = |key: &str| trigger.get(key).and_then(Value::as_str).map(str::to_owned);
        let target = match trigger.get("include") {
            Some(Value::Array(entries)) => TriggerTarget::Child {
                include: entries.clone(),
            },
            Some(entry) => TriggerTarget::Child {
                include: vec![entry.clone()],
            },
            None => TriggerTarget::Project {
                path: text("project")?,
                branch: text("branch"),
                inputs: trigger.get("inputs").cloned().unwrap_or_default(),
            },
        };
        let forward = |key: &str, default: bool| {
            let forward = trigger.get("forward")?.get(key)?.as_bool();
            Some(forward.unwrap_or(default))
        };
        let place = job.place.as_ref();
        Some(Self {
            target,
            place: place.map(|place| format!("{}:{}", place.file, place.line)),
            strategy: match text("strategy").as_deref() {
                Some("depend") => Strategy::Depend,
                Some("mirror") => Strategy::Mirror,
                _ => Strategy::Start,
            },
            yaml_variables: forward("yaml_variables", true).unwrap_or(true),
            pipeline_variables: forward("pipeline_variables", false).unwrap_or(false),
        })
    }
}

/// Where a pipeline came from, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Upstream {
    /// Pipeline of the bridge.
    pub(crate) pipeline: i64,
    /// The bridge in it.
    pub(crate) position: Position,
    /// Its job id.
    pub(crate) job: i64,
    pub(crate) strategy: Strategy,
    /// Of the same project, by `trigger:include`.
    pub(crate) child: bool,
}

/// What the queue knows of a bridge whose turn has come.
pub(crate) struct BridgeWork {
    /// With a target whose generated files are still to be read.
    pub(crate) request: DownstreamRequest,
    pub(crate) generated: Vec<Generated>,
}

/// `trigger:include` of an artifact.
pub(crate) struct Generated {
    pub(crate) job: String,
    pub(crate) file: String,
    pub(crate) archive: PathBuf,
}

impl Generated {
    fn read(&self) -> Result<String, DownstreamError> {
        let Self { job, file, .. } = self;
        let refused = |reason: String| {
            let message = format!("`{file}` of the artifacts of job `{job}` {reason}");
            DownstreamError::creation(message)
        };
        let archive = File::open(&self.archive)
            .map_err(|error| refused(format!("cannot be read: {error}")))?;
        let content = courser_archive::read_file(archive, file, GENERATED_LIMIT)
            .map_err(|error| refused(format!("cannot be read: {error}")))?
            .ok_or_else(|| refused("does not exist".to_owned()))?;
        String::from_utf8(content).map_err(|_| refused("is not UTF-8".to_owned()))
    }
}

/// Starts downstream pipelines, one after the other.
pub(crate) struct Starter {
    pub(crate) queue: QueueHandle,
    pub(crate) source: Option<Arc<dyn PipelineSource>>,
    /// Bridges whose turn has come: pipeline and position.
    pub(crate) bridges: UnboundedReceiver<(i64, Position)>,
    pub(crate) shutdown: CancellationToken,
}

impl Starter {
    /// Works until the coordinator stops.
    pub(crate) async fn run(mut self) {
        loop {
            let bridge = tokio::select! {
                bridge = self.bridges.recv() => bridge,
                () = self.shutdown.cancelled() => None,
            };
            let Some((pipeline, position)) = bridge else {
                return;
            };
            // An evaluation may wait for servers for long. What it makes of a bridge that is still pending is
            // made by the next process.
            let started = tokio::select! {
                started = self.start(pipeline, position) => started,
                () = self.shutdown.cancelled() => return,
            };
            if started.is_err() {
                return;
            }
        }
    }

    async fn start(&self, pipeline: i64, position: Position) -> Result<(), Stopped> {
        let asked = self
            .queue
            .call(move |queue| queue.bridge_work(pipeline, position))
            .await?;
        let made = match asked {
            Ok(None) => return Ok(()),
            Ok(Some(work)) => self.make(work).await,
            Err(error) => Err(error),
        };
        let done = self
            .queue
            .call(move |queue| match made {
                Ok((downstream, keys)) => {
                    queue.start_downstream((pipeline, position), downstream, &keys)
                }
                Err(error) => queue.drop_job(pipeline, position, error.reason, error.message),
            })
            .await?;
        if let Err(error) = done {
            tracing::error!(pipeline, position, %error, "downstream pipeline cannot be stored");
        }
        Ok(())
    }

    /// The pipeline with its cache keys.
    async fn make(
        &self,
        work: BridgeWork,
    ) -> Result<(Evaluated, crate::cache_keys::CacheKeys), DownstreamError> {
        let Some(source) = self.source.clone() else {
            let text = "this coordinator was started without a repository";
            return Err(DownstreamError::creation(text));
        };
        let evaluated = tokio::task::spawn_blocking(move || {
            let BridgeWork {
                mut request,
                generated,
            } = work;
            if let DownstreamTarget::Child {
                generated: texts, ..
            } = &mut request.target
            {
                for file in generated {
                    let text = file.read()?;
                    texts.insert((file.job, file.file), text);
                }
            }
            source.downstream(request)
        });
        let downstream = evaluated
            .await
            .map_err(|error| DownstreamError::creation(error.to_string()))??;
        if let Some(project) = downstream.project.clone() {
            let added = self.queue.call(move |queue| queue.add_project(project));
            added
                .await
                .map_err(|error| DownstreamError::creation(error.to_string()))?;
        }
        let keys = cache_keys(&self.queue, &downstream.pipeline)
            .await
            .map_err(|error| DownstreamError::creation(error.to_string()))?;
        Ok((downstream, keys))
    }
}
