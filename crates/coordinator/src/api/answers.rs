//! Answers that all handlers share.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use courser_protocol::JobStatus;

use crate::pipeline_run::JobState;
use crate::queue::{AccessError, CreateError, RequestError, Stopped};
use crate::store::StoreError;

/// Anything but success: a status and `{"message": "..."}`.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: String,
    job_status: Option<JobState>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            job_status: None,
        }
    }

    pub(crate) fn forbidden() -> Self {
        Self::plain(StatusCode::FORBIDDEN)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The status in GitLab's words: `403 Forbidden`.
    pub(crate) fn plain(status: StatusCode) -> Self {
        Self::new(status, status.to_string())
    }

    /// Something of ours failed; the cause goes to the log, not to the caller.
    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "coordinator failed");
        Self::plain(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "message": self.message }))).into_response();
        if let Some(state) = self.job_status {
            set_job_status(response.headers_mut(), state);
        }
        response
    }
}

impl From<AccessError> for Refusal {
    /// A runner is told to stop with 403, never with 404 (`runner-protocol.md` 10).
    fn from(error: AccessError) -> Self {
        let job_status = match error {
            AccessError::Forbidden => None,
            AccessError::NotRunning(state) => Some(state),
        };
        Self {
            job_status,
            ..Self::forbidden()
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Forbidden => Self::forbidden(),
            RequestError::Store(error) => Self::internal(error),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::internal(error)
    }
}

impl From<Stopped> for Refusal {
    fn from(error: Stopped) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<CreateError> for Refusal {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::UnknownProject(_) => {
                Self::new(StatusCode::NOT_FOUND, "404 Project Not Found")
            }
            CreateError::NoJobs => Self::bad_request(error.to_string()),
            CreateError::Stopped => Self::from(Stopped),
            CreateError::Store(error) => Self::internal(error),
        }
    }
}

/// Puts `Job-Status` on an answer.
pub(super) fn set_job_status(headers: &mut HeaderMap, state: JobState) {
    headers.insert(JobStatus::HEADER, HeaderValue::from_static(state.as_str()));
}

/// The token of a call: header first, then the parameter.
pub(super) fn token_of(headers: &HeaderMap, name: &str, body: &str) -> String {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|token| !token.is_empty())
        .unwrap_or(body)
        .to_owned()
}
