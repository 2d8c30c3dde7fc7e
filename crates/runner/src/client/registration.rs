//! Register, verify, unregister, reset (`runner-protocol.md` 2.2 to 2.5).
//!
//! Each call says what the server answered in one closed enum or a [`Refusal`]; the commands turn
//! that into their log lines and exit codes.

use courser_net::{Answer, CallError};
use courser_protocol::{
    DecodeError, Info, RegisterRequest, RegisterResponse, ResetTokenRequest, ResetTokenResponse,
    UnregisterManagerRequest, UnregisterRequest, VerifyRequest,
};
use http::{HeaderName, Method, StatusCode};
use jiff::Timestamp;

use super::{Api, RUNNER_TOKEN};

const PRIVATE_TOKEN: HeaderName = HeaderName::from_static("private-token");

/// Longest answer that is read.
const ANSWER_LIMIT: usize = 1024 * 1024;

/// What the server knows of a runner.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Identity {
    /// Runner id, 0 where the server did not tell.
    pub id: i64,
    /// Authentication token it gave.
    pub token: courser_protocol::Secret,
    /// When the token ends, `None` = never.
    pub token_expires_at: Option<Timestamp>,
}

/// A call that worked, with the id that finds it in the server's logs.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted<T> {
    /// Its result.
    pub value: T,
    /// `X-Request-Id`.
    pub correlation_id: String,
}

/// Why the server did not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// 403: the token is wrong, or the runner is gone.
    #[error("{status}")]
    Forbidden {
        /// Status, URL and the server's words.
        status: String,
        /// `X-Request-Id`.
        correlation_id: String,
    },
    /// No request could be made of the URL.
    #[error("{0}")]
    Client(String),
    /// Any other answer.
    #[error("{status}")]
    Status {
        /// Status, URL and the server's words.
        status: String,
        /// `X-Request-Id`.
        correlation_id: String,
    },
    /// No answer.
    #[error(transparent)]
    Network(CallError),
    /// An answer that is not what the protocol promises.
    #[error("the answer of the server cannot be read: {message}")]
    Answer {
        /// What is wrong with it.
        message: String,
        /// `X-Request-Id`.
        correlation_id: String,
    },
}

impl Refusal {
    /// `X-Request-Id`, where there was an answer.
    pub fn correlation_id(&self) -> Option<&str> {
        match self {
            Self::Forbidden { correlation_id, .. }
            | Self::Status { correlation_id, .. }
            | Self::Answer { correlation_id, .. } => Some(correlation_id),
            Self::Client(_) | Self::Network(_) => None,
        }
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Client(message) => Self::Client(message),
            other => Self::Network(other),
        }
    }
}

impl Api {
    /// Registers with a legacy registration token; the token of this `Api` is not used (2.2).
    pub async fn register(&self, request: &RegisterRequest) -> Result<Granted<Identity>, Refusal> {
        let call = self
            .call(Method::POST, "runners")?
            .secret_header(RUNNER_TOKEN, request.token.expose());
        let answer = self.send_json(call, request, true).await?;
        let (body, correlation_id) = expect_json(answer, StatusCode::CREATED).await?;
        identity(RegisterResponse::from_json(&body), correlation_id)
    }

    /// Verifies the token. A success that is no JSON counts, with id 0, as old servers answer in
    /// plain text; a call without an answer is made once more (2.3).
    pub async fn verify(&self, info: &Info) -> Result<Granted<Identity>, Refusal> {
        let request = VerifyRequest {
            info: info.clone(),
            token: self.token.clone(),
            system_id: self.system_id.clone(),
        };
        match self.verify_once(&request).await {
            Err(Refusal::Network(_)) => self.verify_once(&request).await,
            outcome => outcome,
        }
    }

    async fn verify_once(&self, request: &VerifyRequest) -> Result<Granted<Identity>, Refusal> {
        let call = self
            .call(Method::POST, "runners/verify")?
            .secret_header(RUNNER_TOKEN, self.token.expose());
        let answer = self.send_json(call, request, true).await?;
        if answer.status == StatusCode::OK && !answer.is_json() {
            return Ok(Granted {
                value: Identity::default(),
                correlation_id: answer.correlation_id,
            });
        }
        let (body, correlation_id) = expect_json(answer, StatusCode::OK).await?;
        identity(RegisterResponse::from_json(&body), correlation_id)
    }

    /// Deletes the runner (2.4).
    pub async fn unregister(&self) -> Result<Granted<()>, Refusal> {
        let request = UnregisterRequest {
            token: self.token.clone(),
        };
        self.delete("runners", &request).await
    }

    /// Deletes this manager only; the runner stays on the server (2.4).
    pub async fn unregister_manager(&self) -> Result<Granted<()>, Refusal> {
        let request = UnregisterManagerRequest {
            token: self.token.clone(),
            system_id: self.system_id.clone(),
        };
        self.delete("runners/managers", &request).await
    }

    async fn delete(
        &self,
        path: &str,
        request: &impl serde::Serialize,
    ) -> Result<Granted<()>, Refusal> {
        let call = self
            .call(Method::DELETE, path)?
            .secret_header(RUNNER_TOKEN, self.token.expose());
        let answer = self.send_json(call, request, false).await?;
        if answer.status == StatusCode::NO_CONTENT {
            return Ok(Granted {
                value: (),
                correlation_id: answer.correlation_id,
            });
        }
        Err(refusal(answer).await)
    }

    /// Renews the token with itself; no header carries it, only the body (2.5).
    pub async fn reset_token(&self) -> Result<Granted<Identity>, Refusal> {
        let call = self.call(Method::POST, "runners/reset_authentication_token")?;
        let request = ResetTokenRequest {
            token: self.token.clone(),
        };
        let answer = self.send_json(call, &request, true).await?;
        let (body, correlation_id) = expect_json(answer, StatusCode::CREATED).await?;
        reset_identity(ResetTokenResponse::from_json(&body), correlation_id)
    }

    /// Renews the token of runner `id` with a personal access token (2.5).
    pub async fn reset_token_with_pat(
        &self,
        id: i64,
        pat: &courser_protocol::Secret,
    ) -> Result<Granted<Identity>, Refusal> {
        let path = format!("runners/{id}/reset_authentication_token");
        let call = self
            .call(Method::POST, &path)?
            .secret_header(PRIVATE_TOKEN, pat.expose());
        // Upstream sends the four bytes `null`, and servers know that.
        let answer = self.send_json(call, &(), true).await?;
        let (body, correlation_id) = expect_json(answer, StatusCode::CREATED).await?;
        reset_identity(ResetTokenResponse::from_json(&body), correlation_id)
    }
}

async fn expect_json(
    answer: Answer,
    success: StatusCode,
) -> Result<(bytes::Bytes, String), Refusal> {
    if answer.status != success {
        return Err(refusal(answer).await);
    }
    let correlation_id = answer.correlation_id.clone();
    if !answer.is_json() {
        return Err(Refusal::Answer {
            message: "its Content-Type is not application/json".to_owned(),
            correlation_id,
        });
    }
    let body = answer.bytes(ANSWER_LIMIT).await?;
    Ok((body, correlation_id))
}

async fn refusal(answer: Answer) -> Refusal {
    let forbidden = answer.status == StatusCode::FORBIDDEN;
    let correlation_id = answer.correlation_id.clone();
    let status = answer.describe().await;
    if forbidden {
        Refusal::Forbidden {
            status,
            correlation_id,
        }
    } else {
        Refusal::Status {
            status,
            correlation_id,
        }
    }
}

fn identity(
    decoded: Result<RegisterResponse, DecodeError>,
    correlation_id: String,
) -> Result<Granted<Identity>, Refusal> {
    match decoded {
        Ok(response) => granted(
            response.id,
            response.token,
            response.token_expires_at.as_deref(),
            correlation_id,
        ),
        Err(error) => Err(undecodable(error, correlation_id)),
    }
}

fn reset_identity(
    decoded: Result<ResetTokenResponse, DecodeError>,
    correlation_id: String,
) -> Result<Granted<Identity>, Refusal> {
    match decoded {
        Ok(response) => granted(
            0,
            response.token,
            response.token_expires_at.as_deref(),
            correlation_id,
        ),
        Err(error) => Err(undecodable(error, correlation_id)),
    }
}

fn granted(
    id: i64,
    token: courser_protocol::Secret,
    expires_at: Option<&str>,
    correlation_id: String,
) -> Result<Granted<Identity>, Refusal> {
    let token_expires_at = match expires_at.map(str::parse::<Timestamp>).transpose() {
        Ok(time) => time,
        Err(error) => {
            return Err(Refusal::Answer {
                message: format!("token_expires_at: {error}"),
                correlation_id,
            });
        }
    };
    Ok(Granted {
        value: Identity {
            id,
            token,
            token_expires_at,
        },
        correlation_id,
    })
}

fn undecodable(error: DecodeError, correlation_id: String) -> Refusal {
    Refusal::Answer {
        message: error.to_string(),
        correlation_id,
    }
}
