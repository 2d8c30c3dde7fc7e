//! `POST jobs/request` with long polling (`runner-protocol.md` 2.6 and 10).

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use courser_protocol::JobRequest;

use super::Api;
use super::answers::{Refusal, token_of};
use super::parameters::Parameters;

/// How long a request is held while there is nothing to do, as GitLab's proxy holds it.
pub(crate) const HOLD: Duration = Duration::from_secs(50);
const LAST_UPDATE: &str = "x-gitlab-last-update";

/// A runner that has seen the current queue value waits here until a job becomes pending; any other
/// one is answered at once.
pub(super) async fn request(
    State(api): State<Api>,
    headers: HeaderMap,
    Parameters(request): Parameters<JobRequest>,
) -> Result<Response, Refusal> {
    let token = token_of(&headers, "runner-token", request.token.expose());
    let features = request.info.features;
    let deadline = tokio::time::Instant::now() + api.hold;
    let mut version = api.version.subscribe();
    let mut waits = None;
    loop {
        // Before the queue is asked, so that no change falls between.
        let value = format!("{}-{}", api.epoch, *version.borrow_and_update());
        let (token, system_id) = (token.clone(), request.system_id.clone());
        let asked = api
            .queue
            .call(move |queue| queue.request_job(&token, &system_id, features));
        if let Some(job) = asked.await?? {
            return Ok((StatusCode::CREATED, Json(job)).into_response());
        }
        if *waits.get_or_insert(request.last_update == value) {
            tokio::select! {
                changed = version.changed() => if changed.is_ok() { continue },
                () = tokio::time::sleep_until(deadline) => {}
                () = api.shutdown.cancelled() => {}
            }
        }
        return Ok((StatusCode::NO_CONTENT, [(LAST_UPDATE, value)]).into_response());
    }
}
