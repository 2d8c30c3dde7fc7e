//! `PUT jobs/:id`: acknowledgement, keep-alive, final state (`runner-protocol.md` 2.7 and 10).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use courser_protocol::{FailureReason, Info, Secret, TraceSummary};

use super::Api;
use super::answers::{Refusal, set_job_status, token_of};
use super::parameters::Parameters;
use crate::pipeline_run::JobState;
use crate::queue::{Access, FinalReport, UpdateAnswer};
use crate::results::coverage_in;

/// [`courser_protocol::UpdateRequest`] with every word for `state`, so that unknown ones get a 400.
#[derive(Debug, Deserialize)]
pub(super) struct Update {
    #[serde(default)]
    info: Info,
    #[serde(default)]
    token: Secret,
    state: String,
    #[serde(default)]
    failure_reason: Option<FailureReason>,
    #[serde(default)]
    output: Option<TraceSummary>,
    #[serde(default)]
    exit_code: Option<i32>,
}

pub(super) async fn update(
    State(api): State<Api>,
    Path(job): Path<i64>,
    headers: HeaderMap,
    Parameters(mut update): Parameters<Update>,
) -> Result<Response, Refusal> {
    let given = token_of(&headers, "job-token", update.token.expose());
    let access = api
        .queue
        .call(move |queue| queue.access_running(job, &given))
        .await??;
    let report = match update.state.as_str() {
        "pending" => {
            let kept = api
                .queue
                .call(move |queue| queue.keep_reserved(&access))
                .await??;
            return api.answer(job, kept).await;
        }
        "running" => {
            let touched = api
                .queue
                .call(move |queue| queue.running(&access))
                .await??;
            return api.answer(job, touched).await;
        }
        "success" | "failed" => FinalReport {
            success: update.state == "success",
            failure_reason: update.failure_reason.take(),
            exit_code: update.exit_code.unwrap_or(0),
            coverage: None,
        },
        other => return Err(Refusal::bad_request(format!("unknown state {other:?}"))),
    };
    if access.state != JobState::Reserved
        && let Some(answer) = api.check_trace(job, &access, &update).await?
    {
        return Ok(answer);
    }
    let report = FinalReport {
        coverage: api.coverage(job, &access).await?,
        ..report
    };
    let finished = api
        .queue
        .call(move |queue| queue.finish(&access, report))
        .await??;
    if finished == UpdateAnswer::Done {
        api.open_traces().remove(&job);
    }
    api.answer(job, finished).await
}

impl Api {
    /// Compares the log with what the runner says it sent. `Some`: the final state has to wait.
    async fn check_trace(
        &self,
        job: i64,
        access: &Access,
        update: &Update,
    ) -> Result<Option<Response>, Refusal> {
        let Some(output) = update
            .output
            .as_ref()
            .filter(|output| !output.checksum.is_empty())
        else {
            return Ok(None);
        };
        let trace = self.trace_file(job).await?;
        let Ok(mut trace) = trace.try_lock() else {
            // A patch is being written this moment.
            let mut answer = status_text(StatusCode::ACCEPTED);
            answer
                .headers_mut()
                .insert(super::trace::INTERVAL, HeaderValue::from_static("1"));
            set_job_status(answer.headers_mut(), access.state);
            return Ok(Some(answer));
        };
        let same = output.checksum == trace.checksum()
            && output.bytesize.is_none_or(|size| size == trace.size());
        if same {
            return Ok(None);
        }
        if access.run.trace_reset || !update.info.features.trace_reset {
            tracing::warn!(
                job,
                expected = output.checksum,
                stored = trace.checksum(),
                "log is not what the runner sent"
            );
            return Ok(None);
        }
        // Asked for once more: our copy goes first, because the runner begins at 0 again.
        trace.reset()?;
        let access = access.clone();
        let state = access.state;
        self.queue
            .call(move |queue| queue.trace_was_reset(&access))
            .await??;
        let mut answer = status_text(StatusCode::PRECONDITION_FAILED);
        set_job_status(answer.headers_mut(), state);
        Ok(Some(answer))
    }

    /// What the log says of the coverage, where the job asks for it; the log is on the disk from now on.
    async fn coverage(&self, job: i64, access: &Access) -> Result<Option<f64>, Refusal> {
        let access = access.clone();
        let pattern = self
            .queue
            .call(move |queue| queue.coverage_pattern(&access))
            .await?;
        let (files, log) = (self.files.clone(), self.files.trace(job));
        let looked = tokio::task::spawn_blocking(move || {
            files.keep(&log)?;
            pattern.map_or(Ok(None), |pattern| coverage_in(&log, &pattern))
        });
        Ok(looked.await.map_err(Refusal::internal)??)
    }

    async fn answer(&self, job: i64, answer: UpdateAnswer) -> Result<Response, Refusal> {
        let status = match answer {
            UpdateAnswer::Done => StatusCode::OK,
            UpdateAnswer::Unfit => StatusCode::BAD_REQUEST,
            UpdateAnswer::Assigned => StatusCode::CONFLICT,
        };
        let state = self.queue.call(move |queue| queue.state_of(job)).await?;
        let mut response = status_text(status);
        if let Some(state) = state {
            set_job_status(response.headers_mut(), state);
        }
        response
            .headers_mut()
            .insert(super::trace::INTERVAL, self.trace_interval().into());
        Ok(response)
    }
}

/// GitLab's body of these answers is the status number.
fn status_text(status: StatusCode) -> Response {
    (status, Json(status.as_u16().to_string())).into_response()
}
