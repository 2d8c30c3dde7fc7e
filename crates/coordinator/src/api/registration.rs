//! Register, verify, unregister, reset (`runner-protocol.md` 2.2 to 2.5).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};

use courser_protocol::{
    RegisterRequest, RegisterResponse, ResetTokenRequest, ResetTokenResponse, Secret,
    UnregisterManagerRequest, UnregisterRequest, VerifyRequest,
};

use super::Api;
use super::answers::{Refusal, token_of};
use super::parameters::Parameters;
use crate::queue::NewRunner;
use crate::settings::Images;
use crate::token;

const HEADER: &str = "runner-token";

pub(super) async fn register(
    State(api): State<Api>,
    headers: HeaderMap,
    Parameters(request): Parameters<RegisterRequest>,
) -> Result<(StatusCode, Json<RegisterResponse>), Refusal> {
    let given = token_of(&headers, HEADER, request.token.expose());
    if !token::equal(&given, api.registration_token.expose()) {
        return Err(Refusal::forbidden());
    }
    let new = NewRunner {
        description: request.description,
        tags: request
            .tag_list
            .split(',')
            .map(str::trim)
            .filter(|tag| !tag.is_empty())
            .map(str::to_owned)
            .collect(),
        run_untagged: request.run_untagged,
        paused: request.paused,
        maximum_timeout: request.maximum_timeout,
        any_tags: false,
        images: Images::Any,
        url: None,
    };
    let (id, token) = api.queue.call(|queue| queue.register(new)).await??;
    let answer = RegisterResponse {
        id,
        token,
        token_expires_at: None,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(super) async fn verify(
    State(api): State<Api>,
    headers: HeaderMap,
    Parameters(request): Parameters<VerifyRequest>,
) -> Result<Json<RegisterResponse>, Refusal> {
    let given = token_of(&headers, HEADER, request.token.expose());
    let token = given.clone();
    let id = api
        .queue
        .call(move |queue| queue.runner(&given).map(|runner| runner.id))
        .await?
        .ok_or_else(Refusal::forbidden)?;
    Ok(Json(RegisterResponse {
        id,
        token: Secret::new(token),
        token_expires_at: None,
    }))
}

pub(super) async fn unregister(
    State(api): State<Api>,
    headers: HeaderMap,
    Parameters(request): Parameters<UnregisterRequest>,
) -> Result<StatusCode, Refusal> {
    let given = token_of(&headers, HEADER, request.token.expose());
    if api
        .queue
        .call(move |queue| queue.unregister(&given))
        .await??
    {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Refusal::forbidden())
    }
}

/// Managers are not kept apart: a runner stays registered for its other machines.
pub(super) async fn unregister_manager(
    State(api): State<Api>,
    headers: HeaderMap,
    Parameters(request): Parameters<UnregisterManagerRequest>,
) -> Result<StatusCode, Refusal> {
    if request.system_id.is_empty() {
        return Err(Refusal::bad_request("system_id is missing"));
    }
    let given = token_of(&headers, HEADER, request.token.expose());
    if api
        .queue
        .call(move |queue| queue.runner(&given).is_some())
        .await?
    {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Refusal::forbidden())
    }
}

pub(super) async fn reset_token(
    State(api): State<Api>,
    headers: HeaderMap,
    Parameters(request): Parameters<ResetTokenRequest>,
) -> Result<(StatusCode, Json<ResetTokenResponse>), Refusal> {
    let given = token_of(&headers, HEADER, request.token.expose());
    let token = api
        .queue
        .call(move |queue| queue.reset_token(&given))
        .await??;
    fresh(token)
}

/// With the private token; the body may be `null` or empty.
pub(super) async fn reset_token_by_id(
    State(api): State<Api>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<ResetTokenResponse>), Refusal> {
    api.check_private_token(&headers)?;
    let token = api
        .queue
        .call(move |queue| queue.reset_token_of(id))
        .await??;
    match token {
        None => Err(Refusal::plain(StatusCode::NOT_FOUND)),
        token => fresh(token),
    }
}

fn fresh(token: Option<Secret>) -> Result<(StatusCode, Json<ResetTokenResponse>), Refusal> {
    let answer = ResetTokenResponse {
        token: token.ok_or_else(Refusal::forbidden)?,
        token_expires_at: None,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

impl Api {
    /// Calls for people, not for runners.
    pub(super) fn check_private_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let given = token_of(headers, "private-token", "");
        if token::equal(&given, self.private_token.expose()) {
            Ok(())
        } else {
            Err(Refusal::plain(StatusCode::UNAUTHORIZED))
        }
    }
}
