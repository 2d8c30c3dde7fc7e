//! The runner's side of `/api/v4` (`runner-protocol.md` 1 and 2).
//!
//! One [`Api`] for each runner entry: it owns the connection pool and the `last_update` cursor of
//! its `(url, token, CA file, client certificate)`.

pub mod info;
pub mod jobs;
pub mod registration;

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use courser_net::{Answer, Body, Call, CallError, Client, Issuers, without_brackets};
use courser_protocol::Secret;
use http::{HeaderName, HeaderValue, Method, header};
use serde::Serialize;
use url::Url;

use crate::metrics::RunnerMetrics;

const RUNNER_TOKEN: HeaderName = HeaderName::from_static("runner-token");
const JOB_TOKEN: HeaderName = HeaderName::from_static("job-token");
const LAST_UPDATE: HeaderName = HeaderName::from_static("x-gitlab-last-update");

/// A `url` that no request can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// It does not parse.
    #[error("runner url {url:?}: {source}")]
    Syntax {
        /// As configured.
        url: String,
        /// Why.
        source: url::ParseError,
    },
    /// Neither http nor https.
    #[error("runner url {url:?}: only http or https are supported")]
    Scheme {
        /// As configured.
        url: String,
    },
}

/// `<url>/api/v4/` by the rules of 1.1: trailing slashes and one legacy `/ci` go.
pub fn base_url(url: &str) -> Result<Url, BadUrl> {
    let root = url.trim_end_matches('/');
    let root = root.strip_suffix("/ci").unwrap_or(root);
    let base = Url::parse(&format!("{root}/api/v4/")).map_err(|source| BadUrl::Syntax {
        url: url.to_owned(),
        source,
    })?;
    match base.scheme() {
        "http" | "https" => Ok(base),
        _ => Err(BadUrl::Scheme {
            url: url.to_owned(),
        }),
    }
}

/// One runner's connection to its GitLab.
pub struct Api {
    client: Client,
    base: Url,
    token: Secret,
    system_id: String,
    last_update: Mutex<String>,
    metrics: Option<RunnerMetrics>,
    /// Completes the chains that jobs get, where that is wanted.
    issuers: Option<Issuers>,
}

impl Api {
    /// Makes calls below `url` as the runner with `token`.
    pub fn new(
        client: Client,
        url: &str,
        token: Secret,
        system_id: String,
    ) -> Result<Self, BadUrl> {
        Ok(Self {
            client,
            base: base_url(url)?,
            token,
            system_id,
            last_update: Mutex::new(String::new()),
            metrics: None,
            issuers: None,
        })
    }

    /// Jobs get chains that are followed to their roots (`FF_RESOLVE_FULL_TLS_CHAIN`).
    #[must_use]
    pub fn with_full_chains(self, issuers: Issuers) -> Self {
        Self {
            issuers: Some(issuers),
            ..self
        }
    }

    /// The server's name or address, as files are named after it.
    fn host(&self) -> &str {
        without_brackets(self.base.host_str().unwrap_or_default())
    }

    /// Has the server's answers counted.
    #[must_use]
    pub(crate) fn counted(mut self, metrics: RunnerMetrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Counts an answer by the names that gitlab-runner's metrics have for calls.
    fn count(
        &self,
        endpoint: &'static str,
        method: &'static str,
        answer: &Result<Answer, CallError>,
    ) {
        if let (Some(metrics), Ok(answer)) = (&self.metrics, answer) {
            metrics.answered(endpoint, answer.status.as_u16(), method);
        }
    }

    /// A call to `path` below `/api/v4/`.
    fn call(&self, method: Method, path: &str) -> Result<Call, CallError> {
        let url = self
            .base
            .join(path)
            .map_err(|error| CallError::Client(error.to_string()))?;
        Ok(Call::new(method, url))
    }

    /// Sends a JSON call and keeps the cursor of its answer (1.8). `wants_json`: an answer body is read.
    async fn send_json(
        &self,
        mut call: Call,
        body: &impl Serialize,
        wants_json: bool,
    ) -> Result<Answer, CallError> {
        let body =
            serde_json::to_vec(body).map_err(|error| CallError::Client(error.to_string()))?;
        call.body = Body::Bytes(Bytes::from(body), "application/json");
        if wants_json {
            call.headers
                .insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        }
        let answer = self.client.send(call).await?;
        if let Some(cursor) = header_text(&answer, &LAST_UPDATE)
            && !cursor.is_empty()
        {
            *self.cursor() = cursor.to_owned();
        }
        Ok(answer)
    }

    fn cursor(&self) -> std::sync::MutexGuard<'_, String> {
        self.last_update
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn header_text<'a>(answer: &'a Answer, name: &HeaderName) -> Option<&'a str> {
    answer.headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_lose_slashes_and_one_legacy_suffix() {
        for (url, expected) in [
            ("https://h", "https://h/api/v4/"),
            ("https://h///", "https://h/api/v4/"),
            ("https://h/ci", "https://h/api/v4/"),
            ("https://h/ci/", "https://h/api/v4/"),
            ("http://h:8080/gitlab/", "http://h:8080/gitlab/api/v4/"),
        ] {
            assert_eq!(base_url(url).map(String::from).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn urls_without_http_are_refused() {
        assert!(matches!(base_url("ftp://h"), Err(BadUrl::Scheme { .. })));
        assert!(matches!(base_url("h"), Err(BadUrl::Syntax { .. })));
    }
}
