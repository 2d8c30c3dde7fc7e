//! The few calls for people: create, look at and cancel pipelines, with the private token that
//! `courser coordinator serve` prints.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::Api;
use super::answers::Refusal;
use crate::coordinator::create_pipeline as create;
use crate::pipeline_run::Event;
use crate::queue::PipelineSnapshot;

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
    let id = create(&api.queue, new).await?;
    let snapshot = api.snapshot(id).await?;
    Ok((StatusCode::CREATED, Json(as_json(id, &snapshot))))
}

/// `GET /projects/:id/pipelines/:pipeline`, with its jobs.
pub(super) async fn pipeline(
    State(api): State<Api>,
    Path((_, pipeline)): Path<(i64, i64)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    api.check_private_token(&headers)?;
    let snapshot = api.snapshot(pipeline).await?;
    Ok(Json(as_json(pipeline, &snapshot)))
}

/// `POST /projects/:id/pipelines/:pipeline/cancel`
pub(super) async fn cancel(
    State(api): State<Api>,
    Path((_, pipeline)): Path<(i64, i64)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    api.check_private_token(&headers)?;
    api.queue
        .call(move |queue| queue.apply(pipeline, Event::Cancel))
        .await??;
    let snapshot = api.snapshot(pipeline).await?;
    Ok(Json(as_json(pipeline, &snapshot)))
}

impl Api {
    async fn snapshot(&self, pipeline: i64) -> Result<PipelineSnapshot, Refusal> {
        let snapshot = self
            .queue
            .call(move |queue| queue.snapshot(pipeline))
            .await?;
        snapshot.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "404 Pipeline Not Found"))
    }
}

fn as_json(id: i64, snapshot: &PipelineSnapshot) -> Value {
    let jobs = snapshot.jobs.iter().map(|job| {
        json!({
            "id": job.id,
            "name": job.name,
            "stage": job.stage,
            "status": job.state.as_str(),
            "failure_reason": job.end.failure_reason,
            "duration": job.end.milliseconds as f64 / 1000.0,
        })
    });
    json!({
        "id": id,
        "status": snapshot.status.as_str(),
        "jobs": jobs.collect::<Vec<_>>(),
    })
}
