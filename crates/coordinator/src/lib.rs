//! The embedded GitLab side.
//!
//! In: projects, evaluated pipelines, and the requests of any GitLab runner over HTTPS. Out: jobs as
//! payloads of the runner protocol, logs and artifacts on disk, Git packs, and [`CoordinatorEvent`]s
//! for whoever watches. A runner cannot tell it from GitLab, as far as it goes; what it doesn't have
//! of GitLab's API answers 501.
//!
//! Read [`pipeline_run`] first (which job may run when), then `queue` (who owns the state), `payload`
//! (what a runner is handed), `oidc` (the tokens of its jobs), `api` (the wire). Facts: `runner-protocol.md` 2, 3, 10 and
//! `gitlab-ci-yaml.md` 14 to 22.
//!
//! ```no_run
//! # async fn example(settings: courser_coordinator::Settings, project: courser_coordinator::Project,
//! #     pipeline: courser_coordinator::NewPipeline) -> Result<(), Box<dyn std::error::Error>> {
//! let coordinator = courser_coordinator::Coordinator::start(settings).await?;
//! coordinator.add_project(project).await?;
//! let mut events = coordinator.subscribe();
//! let id = coordinator.create_pipeline(pipeline).await?;
//! # let _ = (id, events.recv().await);
//! coordinator.stop().await;
//! # Ok(()) }
//! ```

mod api;
mod authority;
mod bridge;
mod cache_keys;
mod coordinator;
mod dotenv;
mod events;
mod git_http;
mod lfs;
mod oidc;
mod payload;
pub mod pipeline_run;
mod project;
mod queue;
mod repository;
mod results;
mod settings;
mod store;
mod token;
mod variables;

pub use bridge::{DownstreamError, DownstreamRequest, DownstreamTarget, Evaluated};
pub use coordinator::{Coordinator, Handle, StartError};
pub use events::{CoordinatorEvent, JobEnd};
pub use oidc::{
    IssuerUrl, KeyError, Keys, OidcSettings, PublicKey, Publication, SampleJob, Subject,
    certificate_of, sample_claims,
};
pub use payload::server_variables;
pub use pipeline_run::{JobState, PipelineStatus};
pub use project::Project;
pub use queue::{CreateError, JobSnapshot, PipelineSnapshot};
pub use repository::{Origin, ServedRepository, Submodule};
pub use results::{Deployment, JobResults};
pub use settings::{
    Beforehand, Certificate, Clock, Images, JobArtifact, Limits, NewPipeline, OwnRunner, PassedJob,
    PipelineSource, Settings,
};
pub use store::{Durability, StoreError};
pub use variables::{SHORTEST_MASKED, is_secret};
