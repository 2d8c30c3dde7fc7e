//! `PATCH jobs/:id/trace`: the log by offset (`runner-protocol.md` 2.8 and 10).

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use courser_protocol::{ContentRange, Secret};

use super::Api;
use super::answers::{Refusal, set_job_status, token_of};
use super::body::discard;
use crate::events::CoordinatorEvent;
use crate::queue::{Access, AccessError};
use crate::store::TraceAppend;

/// Bytes of one patch; runners send about one MiB.
const PATCH_LIMIT: usize = 32 << 20;
/// Seconds until the next patch.
pub(super) const INTERVAL: HeaderName = HeaderName::from_static("x-gitlab-trace-update-interval");

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TraceQuery {
    debug_trace: bool,
    token: Secret,
}

pub(super) async fn append(
    State(api): State<Api>,
    Path(job): Path<i64>,
    Query(query): Query<TraceQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let given = token_of(&headers, "job-token", query.token.expose());
    // The caller is known before a byte of the body is kept.
    let admitted = api.admit(job, given, &headers).await;
    let (access, start) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            discard(body).await;
            return Err(refusal);
        }
    };
    let body = to_bytes(body, PATCH_LIMIT)
        .await
        .map_err(|_| Refusal::plain(StatusCode::PAYLOAD_TOO_LARGE))?;
    if start == 0 && query.debug_trace {
        let access = access.clone();
        api.queue
            .call(move |queue| queue.restrict_trace(&access))
            .await??;
    }
    let mut trace = api.trace_file(job).await?.lock_owned().await;
    let limit = api.limits.trace;
    let outcome = tokio::task::spawn_blocking(move || trace.append(start, &body, limit))
        .await
        .map_err(Refusal::internal)??;
    let (status, stored) = match outcome {
        TraceAppend::Stored(stored) => {
            // Nobody listening is fine.
            drop(api.events.send(CoordinatorEvent::Trace { job, stored }));
            (StatusCode::ACCEPTED, stored)
        }
        TraceAppend::Mismatch(stored) => (StatusCode::RANGE_NOT_SATISFIABLE, stored),
        TraceAppend::TooLarge => {
            api.queue
                .call(move |queue| queue.drop_for_large_log(&access))
                .await??;
            return Err(Refusal::from(AccessError::NotRunning(
                crate::pipeline_run::JobState::Failed { allowed: false },
            )));
        }
    };
    let mut response = status.into_response();
    let headers = response.headers_mut();
    set_job_status(headers, access.state);
    if let Ok(range) = HeaderValue::from_str(&format!("0-{stored}")) {
        headers.insert(header::RANGE, range);
    }
    headers.insert(INTERVAL, api.trace_interval().into());
    Ok(response)
}

impl Api {
    /// The job that a patch is for, and where its bytes begin.
    async fn admit(
        &self,
        job: i64,
        given: String,
        headers: &HeaderMap,
    ) -> Result<(Access, u64), Refusal> {
        let access = self
            .queue
            .call(move |queue| {
                let access = queue.access_running(job, &given)?;
                queue.touch(&access);
                Ok::<_, AccessError>(access)
            })
            .await??;
        let start = headers
            .get(header::CONTENT_RANGE)
            .and_then(|range| range.to_str().ok())
            .and_then(ContentRange::start_of)
            .ok_or_else(|| {
                Refusal::bad_request("header Content-Range is missing or not <first>-<last>")
            })?;
        Ok((access, start))
    }
}
