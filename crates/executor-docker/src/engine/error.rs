//! What goes wrong between us and an Engine: in its words, sorted, with what to do about it.

use std::time::Duration;

use bollard::errors::Error;
use courser_net::{EngineCallError, EngineSetupError};

use super::ApiVersion;

/// A call to an Engine that failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It cannot be called with what is configured.
    #[error(transparent)]
    Setup(#[from] EngineSetupError),
    /// No connection, or it ended.
    #[error("{}", unreachable(.0))]
    Call(#[from] EngineCallError),
    /// Something accepts connections and says nothing.
    #[error("the Docker Engine at {host} does not answer for {} s", waited.as_secs())]
    NoAnswer {
        /// The host as configured.
        host: String,
        /// How long was waited.
        waited: Duration,
    },
    /// It ended while a job ran, and with it what ran.
    #[error(
        "the Docker Engine at {host} went away while the job ran ({})",
        if *back { "it is back by now" } else { "it is not back yet" }
    )]
    Gone {
        /// The host as configured.
        host: String,
        /// One answers there again.
        back: bool,
    },
    /// The answer has no `Api-Version`.
    #[error(
        "there is no Docker Engine at {0}: the answer to GET /_ping names no version of its API"
    )]
    NoEngine(String),
    /// An Engine before Docker 19.03.
    #[error(
        "the Docker Engine at {host} speaks versions up to {offered} of its API, and at least {oldest} is needed"
    )]
    TooOld {
        /// The host as configured.
        host: String,
        /// Its newest version.
        offered: ApiVersion,
        /// The oldest that is supported.
        oldest: ApiVersion,
    },
    /// `DOCKER_API_VERSION` is no version.
    #[error("DOCKER_API_VERSION is {0:?}, which is no version like 1.41")]
    BadVersion(String),
    /// The Engine refused.
    #[error("Error response from daemon: {message}")]
    Answer {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The Engine gave up in the middle of an answer, as of a pull.
    #[error("{0}")]
    Stream(String),
    /// A container ended with this code: bollard reports codes other than 0 as an error of `wait`.
    #[error("exit code {code}")]
    Exit {
        /// The exit code.
        code: i64,
        /// What the Engine adds.
        message: String,
    },
    /// An answer that is not understood, or the connection ended within it.
    #[error("the answer of the Docker Engine cannot be read: {0}")]
    Garbled(String),
}

/// What kind of failure it is, for those who decide what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// 404: no such container, image, volume, network.
    NotFound,
    /// 409: a name is taken, or the object is in another state.
    Conflict,
    /// 304: it is so already.
    NotModified,
    /// 400: what was asked makes no sense to the Engine.
    BadRequest,
    /// 401 and 403.
    Denied,
    /// Nobody answers, or the connection ended: the Engine is gone, or restarts.
    Unreachable,
    /// A certificate was refused, on either side.
    Trust,
    /// The configuration is wrong, or the Engine is too old for us: nothing helps but a change there.
    Configuration,
    /// A container's own exit code.
    Exit,
    /// The Engine failed (500), and everything else.
    Other,
}

impl EngineError {
    pub(super) fn answer(status: u16, body: String) -> Self {
        let message = serde_json::from_str::<serde_json::Value>(&body)
            .ok()
            .and_then(|answer| Some(answer.get("message")?.as_str()?.to_owned()))
            .unwrap_or(body);
        Self::Answer {
            status,
            message: message.trim_end().to_owned(),
        }
    }

    /// The class of the failure.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Answer { status, message } => of_answer(*status, message),
            Self::Call(EngineCallError::Tls(_)) => ErrorClass::Trust,
            Self::Call(EngineCallError::PermissionDenied(_) | EngineCallError::Redirect { .. })
            | Self::Setup(_)
            | Self::NoEngine(_)
            | Self::TooOld { .. }
            | Self::BadVersion(_) => ErrorClass::Configuration,
            Self::Call(_) | Self::NoAnswer { .. } | Self::Gone { .. } => ErrorClass::Unreachable,
            Self::Exit { .. } => ErrorClass::Exit,
            Self::Stream(_) | Self::Garbled(_) => ErrorClass::Other,
        }
    }

    /// Whether the Engine does not know what was asked for.
    pub fn is_not_found(&self) -> bool {
        self.class() == ErrorClass::NotFound
    }

    /// Whether the Engine understood, and would not.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Answer {
                status: 400..=499,
                ..
            }
        )
    }

    /// What is said of it, and below it what to do about it, where there is something.
    pub(crate) fn with_remedy(&self, said: String) -> String {
        match self.remedy() {
            Some(remedy) => format!("{said}\n{remedy}"),
            None => said,
        }
    }

    /// What to do about it, where there is something; a sentence without a full stop.
    pub fn remedy(&self) -> Option<String> {
        let remedy = match self {
            Self::Call(EngineCallError::NoSocket(path)) => format!(
                "install and start Docker (Debian: apt-get install docker.io && systemctl start docker), or name the \
                 Engine in `host` of [runners.docker] or in DOCKER_HOST: there is no {}",
                path.display()
            ),
            Self::Call(EngineCallError::PermissionDenied(path)) => format!(
                "let the runner's user use {}: sudo usermod --append --groups docker USER, and start the runner anew \
                 (members of that group can become root)",
                path.display()
            ),
            Self::Call(EngineCallError::Refused(_)) => {
                "start the Engine (systemctl start docker), or correct `host` of [runners.docker] or DOCKER_HOST"
                    .to_owned()
            }
            Self::Gone { .. } => {
                "look into its log for the reason (journalctl --unit docker, on its host), and run the job again"
                    .to_owned()
            }
            Self::NoEngine(_) => {
                "correct `host` of [runners.docker] or DOCKER_HOST".to_owned()
            }
            Self::TooOld { .. } => "use Docker 19.03 or newer, or Podman 4.2 or newer".to_owned(),
            Self::Answer { status: 400, message } if speaks_tls_only(message) => {
                "the Engine speaks TLS only: set tls_verify = true and tls_cert_path (DOCKER_TLS_VERIFY=1 and \
                 DOCKER_CERT_PATH where `host` is empty)"
                    .to_owned()
            }
            Self::Answer { status: 400, message } if is_of_version(message) => {
                "unset DOCKER_API_VERSION, so that the version is agreed on; if it is not set, this Engine needs a newer Courser"
                    .to_owned()
            }
            Self::Answer { message, .. } | Self::Stream(message) if is_full(message) => {
                "the Engine's disk is full: on its host, docker system df says by what, and docker system prune removes \
                 stopped containers, unused networks and dangling images (--volumes: caches, too)"
                    .to_owned()
            }
            Self::Answer { message, .. } if message.contains("exec format error") => {
                "the image is for another kind of machine: take one for this one, or have the Engine's host emulate \
                 the other (binfmt_misc)"
                    .to_owned()
            }
            _ => return None,
        };
        Some(remedy)
    }
}

fn of_answer(status: u16, message: &str) -> ErrorClass {
    match status {
        400 if speaks_tls_only(message) || is_of_version(message) => ErrorClass::Configuration,
        400 => ErrorClass::BadRequest,
        304 => ErrorClass::NotModified,
        401 | 403 => ErrorClass::Denied,
        404 => ErrorClass::NotFound,
        409 => ErrorClass::Conflict,
        _ => ErrorClass::Other,
    }
}

fn speaks_tls_only(message: &str) -> bool {
    message.contains("sent an HTTP request to an HTTPS server")
}

fn is_of_version(message: &str) -> bool {
    message.contains("client version") && message.contains("API version")
}

/// `ENOSPC`, whoever of the Engine's parts met it.
fn is_full(message: &str) -> bool {
    message.contains("no space left on device")
}

/// In the words of Docker's client, which people search for.
fn unreachable(error: &EngineCallError) -> String {
    let cannot = |host: String| {
        format!(
            "Cannot connect to the Docker daemon at {host}. Is the docker daemon running? ({error})"
        )
    };
    match error {
        EngineCallError::NoSocket(path) => cannot(format!("unix://{}", path.display())),
        EngineCallError::Refused(address)
        | EngineCallError::DialTimeout(address)
        | EngineCallError::Dial { address, .. } => cannot(address.replacen(' ', "://", 1)),
        EngineCallError::PermissionDenied(path) => format!(
            "permission denied while trying to connect to the Docker daemon socket at unix://{}: {error}",
            path.display()
        ),
        _ => error.to_string(),
    }
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError {
                status_code,
                message,
            } => Self::answer(status_code, message),
            Error::DockerStreamError { error } => Self::Stream(error),
            Error::DockerContainerWaitError { error, code } => Self::Exit {
                code,
                message: error,
            },
            // What the transport says comes wrapped, see `Engine::connect`.
            Error::IOError { err } => match err.downcast::<EngineCallError>() {
                Ok(error) => Self::Call(error),
                Err(error) => Self::Call(EngineCallError::Broken(error.to_string())),
            },
            Error::HyperResponseError { err } => {
                Self::Call(EngineCallError::Broken(err.to_string()))
            }
            Error::RequestTimeoutError => Self::Call(EngineCallError::AnswerTimeout),
            other => Self::Garbled(other.to_string()),
        }
    }
}
