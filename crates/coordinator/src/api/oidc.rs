//! What a provider asks an OIDC issuer for: the discovery document and the key set (`secrets.md` 10.1). Public.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::Refusal;
use crate::oidc::{DISCOVERY, Issuer, KEY_SET};
use crate::settings::Clock;

/// As GitLab has it. Whoever meets an unknown key asks sooner.
const KEY_SET_AGE: &str = "max-age=86400, public, must-revalidate, no-transform";

/// An issuer as providers see it.
#[derive(Clone)]
pub(crate) struct PublishedKeys {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) clock: Clock,
}

impl PublishedKeys {
    /// At the root of the server, and below the issuer's path where it has one.
    pub(crate) fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let path = self.issuer.url().path();
        let mut bases = vec![""];
        if !path.is_empty() {
            bases.push(&path);
        }
        let router = bases.into_iter().fold(Router::new(), |router, base| {
            router
                .route(&format!("{base}{DISCOVERY}"), get(discovery))
                .route(&format!("{base}{KEY_SET}"), get(key_set))
        });
        router.with_state(self)
    }
}

async fn discovery(State(published): State<PublishedKeys>) -> Response {
    Json(published.issuer.discovery()).into_response()
}

async fn key_set(State(published): State<PublishedKeys>) -> Result<Response, Refusal> {
    let issuer = published.issuer;
    let now = (published.clock)().as_second();
    let keys = tokio::task::spawn_blocking(move || issuer.key_set(now));
    let keys = keys
        .await
        .map_err(Refusal::internal)?
        .map_err(Refusal::internal)?;
    Ok(([(header::CACHE_CONTROL, KEY_SET_AGE)], Json(keys)).into_response())
}
