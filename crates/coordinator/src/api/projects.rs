//! The few calls for people: create, look at and cancel pipelines, start
//! manual jobs, read logs, with the private token that
//! `courser coordinator serve` prints.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::Api;
use super::answers::Refusal;
use crate::coordinator::create_pipeline as create;
use crate::pipeline_run::{Event, JobState, Position};
use crate::queue::{JobSnapshot, PipelineSnapshot};

/// `POST /projects/:id/pipeline?ref=NAME&variables[KEY]=VALUE`
pub(super) async fn create_pipeline(
    State(api): State<Api>,
    Path(project): Path<i64>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    api.check_private_token(&headers)?;
    let source = api.pipelines.as_ref().map(Arc::clone).ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "this coordinator was started without --repository",
        )
    })?;
    let Some(ref_name) = query.get("ref").cloned() else {
        return Err(Refusal::bad_request("ref is missing"));
    };
    let variables: Vec<(String, String)> = query
        .into_iter()
        .filter_map(|(key, value)| {
            let name = key.strip_prefix("variables[")?.strip_suffix(']')?;
            Some((name.to_owned(), value))
        })
        .collect();
    let new = tokio::task::spawn_blocking(move || source.pipeline(project, &ref_name, &variables))
        .await
        .map_err(Refusal::internal)?
        .map_err(Refusal::bad_request)?;
    if let Some(project) = new.project {
        api.queue
            .call(move |queue| queue.add_project(project))
            .await?;
    }
    let id = create(&api.queue, new.pipeline).await?;
    let snapshot = api.snapshot(project, id).await?;
    Ok((StatusCode::CREATED, Json(as_json(id, &snapshot))))
}

/// `GET /projects/:id/pipelines/:pipeline`, with its jobs.
pub(super) async fn pipeline(
    State(api): State<Api>,
    Path((project, pipeline)): Path<(i64, i64)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    api.check_private_token(&headers)?;
    let snapshot = api.snapshot(project, pipeline).await?;
    Ok(Json(as_json(pipeline, &snapshot)))
}

/// `POST /projects/:id/pipelines/:pipeline/cancel`
pub(super) async fn cancel(
    State(api): State<Api>,
    Path((project, pipeline)): Path<(i64, i64)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    api.check_private_token(&headers)?;
    api.snapshot(project, pipeline).await?;
    api.queue
        .call(move |queue| queue.stop(pipeline, &Event::Cancel))
        .await??;
    let snapshot = api.snapshot(project, pipeline).await?;
    Ok(Json(as_json(pipeline, &snapshot)))
}

/// `POST /projects/:id/jobs/:job/play`: starts a manual job, or a delayed one before its time.
pub(super) async fn play(
    State(api): State<Api>,
    Path((project, job)): Path<(i64, i64)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    api.check_private_token(&headers)?;
    let (pipeline, position) = api.find_job(project, job).await?;
    let snapshot = api.snapshot(project, pipeline).await?;
    if !matches!(
        snapshot.jobs[position].state,
        JobState::Manual | JobState::Scheduled { .. }
    ) {
        return Err(Refusal::bad_request("400 Bad request - Unplayable Job"));
    }
    api.queue
        .call(move |queue| queue.apply(pipeline, Event::Play(position)))
        .await??;
    let snapshot = api.snapshot(project, pipeline).await?;
    Ok(Json(job_as_json(&snapshot.jobs[position])))
}

/// `GET /projects/:id/jobs/:job/trace`: the log as far as it has come.
pub(super) async fn trace(
    State(api): State<Api>,
    Path((project, job)): Path<(i64, i64)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    api.check_private_token(&headers)?;
    api.find_job(project, job).await?;
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    match tokio::fs::File::open(api.files.trace(job)).await {
        Ok(file) => {
            let stream = ReaderStream::with_capacity(file, 64 << 10);
            Ok((kind, Body::from_stream(stream)).into_response())
        }
        // Nothing was said so far.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok((kind, Body::empty()).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

impl Api {
    /// Pipeline and position of a job of the project.
    async fn find_job(&self, project: i64, job: i64) -> Result<(i64, Position), Refusal> {
        let found = self.queue.call(move |queue| queue.find_job(job)).await??;
        let not_found = || Refusal::new(StatusCode::NOT_FOUND, "404 Not found");
        let (pipeline, position) = found.ok_or_else(not_found)?;
        self.snapshot(project, pipeline)
            .await
            .map_err(|_| not_found())?;
        Ok((pipeline, position))
    }

    async fn snapshot(&self, project: i64, pipeline: i64) -> Result<PipelineSnapshot, Refusal> {
        let snapshot = self
            .queue
            .call(move |queue| queue.snapshot(pipeline))
            .await??;
        let snapshot = snapshot.filter(|snapshot| snapshot.project == project);
        snapshot.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "404 Pipeline Not Found"))
    }
}

fn as_json(id: i64, snapshot: &PipelineSnapshot) -> Value {
    let jobs = snapshot.jobs.iter().map(job_as_json);
    json!({
        "id": id,
        "status": snapshot.status.as_str(),
        "jobs": jobs.collect::<Vec<_>>(),
    })
}

fn job_as_json(job: &JobSnapshot) -> Value {
    json!({
        "id": job.id,
        "name": job.name,
        "stage": job.stage,
        "status": job.state.as_str(),
        "failure_reason": job.end.failure_reason,
        "failure_message": job.end.message,
        "downstream_pipeline": job.downstream,
        "coverage": job.results.coverage,
        "deployment": job.results.deployment,
        "release": job.results.release,
        "pages": job.results.pages,
        "duration": job.end.milliseconds as f64 / 1000.0,
    })
}
