//! What a provider asks an OIDC issuer for: the discovery document and the key set (`secrets.md` 10.1). Public.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::{Api, Refusal};
use crate::oidc::{DISCOVERY, KEY_SET};

/// As GitLab has it. Whoever meets an unknown key asks sooner.
const KEY_SET_AGE: &str = "max-age=86400, public, must-revalidate, no-transform";

/// At the root of the server, and below the issuer's path where it has one.
pub(super) fn routes(api: &Api) -> Router<Api> {
    let path = api.issuer.url().path();
    let mut bases = vec![""];
    if !path.is_empty() {
        bases.push(&path);
    }
    bases.into_iter().fold(Router::new(), |router, base| {
        router
            .route(&format!("{base}{DISCOVERY}"), get(discovery))
            .route(&format!("{base}{KEY_SET}"), get(key_set))
    })
}

async fn discovery(State(api): State<Api>) -> Response {
    Json(api.issuer.discovery()).into_response()
}

async fn key_set(State(api): State<Api>) -> Result<Response, Refusal> {
    let issuer = std::sync::Arc::clone(&api.issuer);
    let now = (api.clock)().as_second();
    let keys = tokio::task::spawn_blocking(move || issuer.key_set(now));
    let keys = keys
        .await
        .map_err(Refusal::internal)?
        .map_err(Refusal::internal)?;
    Ok(([(header::CACHE_CONTROL, KEY_SET_AGE)], Json(keys)).into_response())
}
