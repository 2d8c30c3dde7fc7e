//! Wire types of the runner API and of the job payload, shared by the runner and the coordinator.
//!
//! In: JSON bodies and headers of `/api/v4/runners` and `/api/v4/jobs`. Out: typed values, and the
//! same JSON again. No I/O. Facts: `runner-protocol.md` sections 2 and 3.
//!
//! ```
//! let job = courser_protocol::JobResponse::from_json(br#"{"id":1,"token":"t","git_info":{"sha":"0123456789abcdef"}}"#)?;
//! assert_eq!(job.id, 1);
//! # Ok::<(), courser_protocol::DecodeError>(())
//! ```

mod decode;
pub mod feature_flags;
pub mod info;
mod job;
mod registration;
mod request;
mod secret;
pub mod secrets;
mod trace;
mod update;

pub use decode::DecodeError;
pub use info::{Features, Info, InfoConfig};
pub use job::{
    Artifact, ArtifactsFile, Cache, Credential, Dependency, DockerOptions, ExecutorOptions,
    GitInfo, Hook, Image, Input, InputKind, InputValue, JobFeatures, JobInfo, JobResponse,
    JobVariable, KubernetesOptions, PolicyOptions, Port, RefType, RunConflict, RunText, RunnerInfo,
    Step, SuspendOptions, UnsupportedOptions, UserText, When,
};
pub use registration::{
    RegisterRequest, RegisterResponse, ResetTokenRequest, ResetTokenResponse,
    UnregisterManagerRequest, UnregisterRequest, VerifyRequest, short_token,
};
pub use request::{JobRequest, SessionInfo};
pub use secret::Secret;
pub use secrets::{JobSecret, JobSecrets};
pub use trace::ContentRange;
pub use update::{FailureReason, JobState, JobStatus, TraceSummary, UpdateRequest};
