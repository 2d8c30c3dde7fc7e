//! `POST jobs/request` (`runner-protocol.md` 2.6).

use serde::{Deserialize, Serialize};

use crate::decode::null_as_default;
use crate::{Info, Secret};

/// Asks for a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobRequest {
    /// Self-description.
    pub info: Info,
    /// Authentication token of the runner.
    pub token: Secret,
    /// `s_…` or `r_…`.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub system_id: String,
    /// Last `X-GitLab-Last-Update`, verbatim.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub last_update: String,
    /// Session server, if one runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionInfo>,
}

/// Where the web terminal reaches this job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionInfo {
    /// URL with the session's path.
    pub url: String,
    /// PEM certificate to pin.
    pub certificate: String,
    /// Value of the `Authorization` header.
    pub authorization: Secret,
}
