//! The wire: `/api/v4` as `runner-protocol.md` 2 and 10 describe it, and Git below the projects' paths.
//!
//! Host, sizes and offsets are checked here, and the tokens for registration and for people
//! (`registration.rs`). Tokens of runners and jobs are the queue's to check (`queue/runners.rs`,
//! `queue/jobs.rs`), and so is every decision.

mod answers;
mod artifacts;
mod body;
pub(crate) mod job_request;
mod jobs;
mod oidc;
mod parameters;
mod projects;
mod registration;
mod trace;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, delete, get, patch, post, put};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use courser_protocol::Secret;

use crate::events::CoordinatorEvent;
use crate::git_http::{self, PackCache};
use crate::oidc::Issuer;
use crate::queue::{QueueHandle, SharedTrace};
use crate::settings::{Clock, Limits, PipelineSource};
use crate::store::{StateDir, TraceFile};
use crate::token;

pub(crate) use answers::Refusal;
pub(crate) use oidc::PublishedKeys;

/// Bodies of JSON calls.
const JSON_LIMIT: usize = 1 << 20;
/// Logs kept open between two patches; one that was closed is opened and summed up again.
const OPEN_TRACES: usize = 256;

/// What the API works with.
pub(crate) struct Parts {
    pub(crate) queue: QueueHandle,
    pub(crate) files: StateDir,
    pub(crate) hosts: Vec<String>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) clock: Clock,
    pub(crate) registration_token: Secret,
    pub(crate) pipelines: Option<Arc<dyn PipelineSource>>,
    pub(crate) limits: Limits,
    /// How long a request for a job is held.
    pub(crate) hold: Duration,
    pub(crate) version: watch::Sender<u64>,
    pub(crate) events: broadcast::Sender<CoordinatorEvent>,
    pub(crate) shutdown: CancellationToken,
}

/// State of all handlers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) queue: QueueHandle,
    pub(crate) packs: PackCache,
    files: StateDir,
    hosts: RwLock<Vec<String>>,
    issuer: Arc<Issuer>,
    clock: Clock,
    registration_token: Secret,
    private_token: Secret,
    pipelines: Option<Arc<dyn PipelineSource>>,
    limits: Limits,
    hold: Duration,
    /// Makes queue versions of this process unlike those of the one before.
    epoch: String,
    version: watch::Sender<u64>,
    events: broadcast::Sender<CoordinatorEvent>,
    shutdown: CancellationToken,
    /// Logs being written.
    traces: Mutex<HashMap<i64, SharedTrace>>,
}

impl std::ops::Deref for Api {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Api {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            queue,
            files,
            hosts,
            issuer,
            clock,
            registration_token,
            pipelines,
            limits,
            hold,
            version,
            events,
            shutdown,
        } = parts;
        Self(Arc::new(Inner {
            packs: PackCache::default(),
            queue,
            files,
            hosts: RwLock::new(hosts),
            issuer,
            clock,
            registration_token,
            private_token: token::random("glpat-"),
            pipelines,
            limits,
            hold,
            epoch: uuid::Uuid::new_v4().simple().to_string(),
            version,
            events,
            shutdown,
            traces: Mutex::default(),
        }))
    }

    /// See [`crate::Handle::private_token`].
    pub(crate) fn private_token(&self) -> Secret {
        self.private_token.clone()
    }

    /// Answers requests to this host from now on, too.
    pub(crate) fn answer_for(&self, host: String) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        hosts.push(host);
    }

    fn answers_for(&self, host: &str) -> bool {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    pub(crate) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    fn published_keys(&self) -> PublishedKeys {
        PublishedKeys {
            issuer: Arc::clone(&self.issuer),
            clock: Arc::clone(&self.clock),
        }
    }

    /// What a provider needs to check ID tokens, for a place of its own.
    pub(crate) fn keys_router(&self) -> Router {
        self.published_keys().router()
    }

    pub(crate) fn router(&self) -> Router {
        let v4 = Router::new()
            .route(
                "/runners",
                post(registration::register).delete(registration::unregister),
            )
            .route(
                "/runners/managers",
                delete(registration::unregister_manager),
            )
            .route("/runners/verify", post(registration::verify))
            .route(
                "/runners/reset_authentication_token",
                post(registration::reset_token),
            )
            .route(
                "/runners/{id}/reset_authentication_token",
                post(registration::reset_token_by_id),
            )
            .route("/jobs/request", post(job_request::request))
            .route("/jobs/{id}", put(jobs::update))
            .route("/projects/{id}/pipeline", post(projects::create_pipeline))
            .route(
                "/projects/{id}/pipelines/{pipeline}",
                get(projects::pipeline),
            )
            .route(
                "/projects/{id}/pipelines/{pipeline}/cancel",
                post(projects::cancel),
            )
            .route("/projects/{id}/jobs/{job}/play", post(projects::play))
            .route("/projects/{id}/jobs/{job}/trace", get(projects::trace))
            .layer(DefaultBodyLimit::max(JSON_LIMIT))
            .merge(
                Router::new()
                    // Limited while they are read, so that the answers are the protocol's.
                    .route("/jobs/{id}/trace", patch(trace::append))
                    .route(
                        "/jobs/{id}/artifacts",
                        post(artifacts::upload).get(artifacts::download),
                    )
                    .layer(DefaultBodyLimit::disable()),
            );
        let of_issuer: Router<Self> = self.published_keys().router();
        of_issuer
            .nest("/api/v4", v4)
            .method_not_allowed_fallback(not_built)
            .route("/api/{*rest}", any(not_built))
            .fallback(git_http::serve)
            .layer(middleware::from_fn_with_state(self.clone(), check_host))
            .with_state(self.clone())
    }

    /// The log of a job, opened once while it runs.
    async fn trace_file(&self, job: i64) -> std::io::Result<SharedTrace> {
        if let Some(trace) = self.open_traces().get(&job) {
            return Ok(Arc::clone(trace));
        }
        let path = self.files.trace(job);
        let opened = tokio::task::spawn_blocking(move || TraceFile::open(&path))
            .await
            .map_err(std::io::Error::other)??;
        let mut traces = self.open_traces();
        if traces.len() >= OPEN_TRACES {
            // Of jobs whose runners went silent; what is written now has another owner.
            traces.retain(|_, trace| Arc::strong_count(trace) > 1);
        }
        let trace = traces
            .entry(job)
            .or_insert_with(|| Arc::new(tokio::sync::Mutex::new(opened)));
        Ok(Arc::clone(trace))
    }

    fn open_traces(&self) -> std::sync::MutexGuard<'_, HashMap<i64, SharedTrace>> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seconds between patches: short while somebody watches.
    fn trace_interval(&self) -> u32 {
        if self.events.receiver_count() > 0 {
            1
        } else {
            60
        }
    }
}

/// A page of another origin that was made to resolve to loopback (DNS rebinding) names its own host.
async fn check_host(
    State(api): State<Api>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let header = request.headers().get(header::HOST);
    let named = header.and_then(|host| host.to_str().ok()).or_else(|| {
        request
            .uri()
            .authority()
            .map(|authority| authority.as_str())
    });
    let host = named.map(host_name).unwrap_or_default();
    if api.answers_for(host) {
        return Ok(next.run(request).await);
    }
    Err(Refusal::new(
        StatusCode::MISDIRECTED_REQUEST,
        "this coordinator does not answer for the host in the Host header",
    ))
}

/// The host without port and brackets.
fn host_name(host: &str) -> &str {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.split(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default()
}

/// Whatever GitLab has and this coordinator doesn't.
async fn not_built(method: Method, uri: Uri) -> Refusal {
    let path = uri.path();
    Refusal::new(
        StatusCode::NOT_IMPLEMENTED,
        format!("{method} {path} is not part of Courser's coordinator"),
    )
}

#[cfg(test)]
mod tests;
