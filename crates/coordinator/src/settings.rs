//! What a coordinator is made of.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use courser_net::Clients;
use courser_protocol::{JobVariable, Secret};

use crate::bridge::{DownstreamError, DownstreamRequest, Evaluated};
use crate::oidc::OidcSettings;
use crate::pipeline_run::Position;
use crate::store::Durability;

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The certificate the coordinator presents.
#[derive(Debug, Clone)]
pub enum Certificate {
    /// A throw-away authority: root, intermediate, leaf for `localhost`, `127.0.0.1`, `::1` and the
    /// external name. Its keys never leave memory, so each start makes a new one.
    Generated,
    /// Files; a renewed pair is used without a restart.
    Files {
        /// PEM chain, leaf first.
        certificate: PathBuf,
        /// PEM key.
        key: PathBuf,
    },
}

/// Bounds on what runners send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one job's log.
    pub trace: u64,
    /// Bytes of one uploaded artifact.
    pub artifact: u64,
}

impl Default for Limits {
    /// 100 MiB of log as on GitLab; 5 GiB an artifact.
    fn default() -> Self {
        Self {
            trace: 100 << 20,
            artifact: 5 << 30,
        }
    }
}

/// Settings of [`crate::Coordinator::start`].
#[derive(Clone)]
pub struct Settings {
    /// Address to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// Host name under which runners reach it, beside the loopback names. It also names the URLs
    /// handed to jobs; without it they name the address.
    pub external_host: Option<String>,
    /// Certificate.
    pub certificate: Certificate,
    /// Who may connect at all.
    pub clients: Clients,
    /// Directory for the database, logs and artifacts; made for the owner only.
    pub state_dir: PathBuf,
    /// What a crash may cost.
    pub durability: Durability,
    /// Token that registers runners; `None`: a random one.
    pub registration_token: Option<Secret>,
    /// Makes downstream pipelines, and those of `POST /api/v4/projects/:id/pipeline`.
    pub pipelines: Option<Arc<dyn PipelineSource>>,
    /// Bounds.
    pub limits: Limits,
    /// Seconds a job may take when the file does not say.
    pub default_timeout: u64,
    /// ID tokens of jobs.
    pub oidc: OidcSettings,
    /// Time.
    pub clock: Clock,
}

/// Evaluates a project's file at a ref; given by the composition root, which knows Git.
pub trait PipelineSource: Send + Sync {
    /// Blocking. The error is what the caller of the API is shown.
    fn pipeline(
        &self,
        project_id: i64,
        ref_name: &str,
        variables: &[(String, String)],
    ) -> Result<Evaluated, String>;

    /// The pipeline that a bridge asks for. Blocking.
    ///
    /// # Errors
    ///
    /// What the bridge fails with.
    fn downstream(&self, request: DownstreamRequest) -> Result<Evaluated, DownstreamError>;
}

/// A pipeline to run.
#[derive(Debug, Clone)]
pub struct NewPipeline {
    /// Project.
    pub project_id: i64,
    /// The evaluated file.
    pub pipeline: courser_pipeline::Pipeline,
    /// Branch or tag; of a merge request `refs/merge-requests/<number>/head`.
    pub ref_name: String,
    /// Whether it is a tag.
    pub tag: bool,
    /// Commit to check out; it must be in the project's repository.
    pub sha: String,
    /// Commit before the push; zeroes when there was none.
    pub before_sha: String,
    /// Predefined variables the file was evaluated with.
    pub predefined: BTreeMap<String, String>,
    /// The project's variables (levels 8 to 10 of `gitlab-ci-yaml.md` 17.2): every pipeline that bridges start in
    /// the same project has them, too.
    pub project_variables: Vec<JobVariable>,
    /// Pipeline variables (level 11 of `gitlab-ci-yaml.md` 17.2): they beat everything in the file.
    pub variables: Vec<JobVariable>,
    /// What is known of jobs before anything runs.
    pub beforehand: Beforehand,
}

/// What is known of a new pipeline's jobs before anything runs.
#[derive(Debug, Clone, Default)]
pub struct Beforehand {
    /// Manual and delayed jobs that a person has started already.
    pub played: Vec<Position>,
    /// Jobs that passed before and do not run again.
    pub passed: Vec<PassedJob>,
}

/// A job that passed in another pipeline, with what it uploaded.
#[derive(Debug, Clone)]
pub struct PassedJob {
    /// Its place in the new pipeline.
    pub position: Position,
    /// Its uploads; the files are linked or copied.
    pub artifacts: Vec<JobArtifact>,
}

/// A file that a job uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobArtifact {
    /// `archive`, `junit`, `dotenv`, …
    pub kind: String,
    /// `zip`, `gzip`, `raw`, …
    pub format: String,
    /// As the runner named it.
    pub file_name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// A runner in the same process, which takes jobs whatever their tags.
#[derive(Debug, Clone, Default)]
pub struct OwnRunner {
    /// `CI_RUNNER_DESCRIPTION`.
    pub description: String,
    /// Which jobs it takes.
    pub images: Images,
    /// Where its jobs reach the coordinator, when not at [`Handle::url`](crate::Handle::url):
    /// see [`Handle::listen_at`](crate::Handle::listen_at).
    pub url: Option<Url>,
}

/// Jobs by whether they have an `image`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Images {
    /// All jobs.
    #[default]
    Any,
    /// Those with an image.
    With,
    /// Those without.
    Without,
}

impl Images {
    pub(crate) fn include(self, has_image: bool) -> bool {
        match self {
            Self::Any => true,
            Self::With => has_image,
            Self::Without => !has_image,
        }
    }
}
