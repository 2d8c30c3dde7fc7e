//! Jobs: request, update, trace (`runner-protocol.md` 2.6 to 2.8).
//!
//! What an answer means is decided by functions from status and headers to a closed enum.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courser_job::JobTls;
use courser_net::{Answer, Body, CallError, Trusted};
use courser_protocol::{
    ContentRange, Info, JobRequest, JobResponse, JobStatus, Secret, UpdateRequest,
};
use courser_trust::VerifiedChains;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use super::{Api, JOB_TOKEN, RUNNER_TOKEN, header_text};
use crate::tool_trust::ToolTrustMaker;

const UPDATE_INTERVAL: HeaderName = HeaderName::from_static("x-gitlab-trace-update-interval");

/// Longest job payload that is read.
const PAYLOAD_LIMIT: usize = 64 * 1024 * 1024;

/// Longest interval a server may set (5.7).
const LONGEST_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// A job that the server handed out.
#[derive(Debug)]
pub struct ReceivedJob {
    /// The payload.
    pub payload: JobResponse,
    /// Request id of the answer.
    pub correlation_id: String,
    /// Certificates of the server, for the job's own tools.
    pub tls: JobTls,
    /// What is trusted towards the server as the job comes.
    pub trusted: Option<Trusted>,
}

/// What the runner's trust files hold as a job comes.
#[derive(Default)]
struct FilesForJob {
    trusted: Option<Trusted>,
    ca: Option<Bytes>,
    client_pair: Option<(Bytes, Bytes)>,
}

/// Outcome of `POST jobs/request`.
#[derive(Debug)]
pub struct RequestOutcome {
    /// A job, if there was one.
    pub job: Option<Box<ReceivedJob>>,
    /// Whether the runner may go on asking at its usual pace (6.9).
    pub healthy: bool,
    /// Whether an attempt was answered with a status that asks for patience (9.3).
    pub pushed_back: bool,
}

/// Which job a call is about.
#[derive(Debug, Clone)]
pub struct JobCredentials {
    /// Job id.
    pub id: i64,
    /// Job token.
    pub token: Secret,
}

/// What `PUT jobs/:id` led to, in the order of 2.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateResult {
    /// 200.
    Succeeded,
    /// 202: accepted, not completed.
    Accepted,
    /// 412: the server wants the whole log again.
    TraceValidationFailed,
    /// The job is not ours any more.
    Abort,
    /// Anything else; may be tried again.
    Failed,
}

/// What `PATCH jobs/:id/trace` led to (2.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchResult {
    /// 202.
    Succeeded,
    /// The job is not ours any more.
    Abort,
    /// 404.
    NotFound,
    /// 416: go on at this offset.
    RangeMismatch(u64),
    /// Anything else; may be tried again.
    Failed,
}

/// A result with what the server says beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said<R> {
    /// The result.
    pub result: R,
    /// `Job-Status: canceling`.
    pub cancel_requested: bool,
    /// `X-GitLab-Trace-Update-Interval`, bounded.
    pub interval: Option<Duration>,
    /// An attempt was answered with a status that asks for patience.
    pub pushed_back: bool,
    /// Status of the answer, if there was one.
    pub status: Option<StatusCode>,
}

impl Api {
    /// Asks for a job. Problems are logged here; the caller only paces itself.
    pub async fn request_job(&self, info: &Info) -> RequestOutcome {
        let request = JobRequest {
            info: info.clone(),
            token: self.token.clone(),
            system_id: self.system_id.clone(),
            last_update: self.cursor().clone(),
            session: None,
        };
        let answer = match self.call(Method::POST, "jobs/request") {
            Ok(call) => {
                let call = call.secret_header(RUNNER_TOKEN, self.token.expose());
                self.send_json(call, &request, true).await
            }
            Err(error) => Err(error),
        };
        self.count("request_job", "post", &answer);
        match answer {
            Ok(answer) => self.read_request_answer(answer).await,
            Err(error) => {
                tracing::warn!("Checking for jobs... failed: {error}");
                RequestOutcome {
                    job: None,
                    healthy: !matches!(error, CallError::Client(_)),
                    pushed_back: false,
                }
            }
        }
    }

    async fn read_request_answer(&self, answer: Answer) -> RequestOutcome {
        let mut outcome = RequestOutcome {
            job: None,
            healthy: answer.status != StatusCode::FORBIDDEN,
            pushed_back: answer.pushed_back,
        };
        match answer.status {
            StatusCode::CREATED if answer.is_json() => match self.read_job(answer).await {
                Ok(job) => outcome.job = Some(Box::new(job)),
                Err(error) => tracing::warn!("Checking for jobs... failed: {error}"),
            },
            StatusCode::CREATED => {
                tracing::warn!("Checking for jobs... failed: the answer is not application/json");
            }
            StatusCode::NO_CONTENT => tracing::debug!("Checking for jobs... nothing"),
            StatusCode::FORBIDDEN => tracing::error!("Checking for jobs... forbidden"),
            StatusCode::SERVICE_UNAVAILABLE => {
                tracing::debug!("Checking for jobs... GitLab is not available");
            }
            _ => {
                let status = answer.describe().await;
                tracing::warn!(status, "Checking for jobs... failed");
            }
        }
        outcome
    }

    async fn read_job(&self, answer: Answer) -> Result<ReceivedJob, String> {
        let correlation_id = answer.correlation_id.clone();
        let chains = answer.verified_chains.clone();
        let files = self.files_for_job().await;
        let body = answer
            .bytes(PAYLOAD_LIMIT)
            .await
            .map_err(|error| error.to_string())?;
        let payload = JobResponse::from_json(&body).map_err(|error| error.to_string())?;
        let trusted = files.trusted.clone();
        let tls = self.job_tls(files, chains).await;
        Ok(ReceivedJob {
            payload,
            correlation_id,
            tls,
            trusted,
        })
    }

    /// Certificates for a job that another process has received: those of the files in use.
    pub(crate) async fn tls_for_job(&self, tools: &ToolTrustMaker) -> JobTls {
        let files = self.files_for_job().await;
        let tools = files.trusted.as_ref().and_then(|trusted| tools.of(trusted));
        JobTls {
            tools,
            ..self.job_tls(files, None).await
        }
    }

    /// The CA file verbatim, else the chains with which the server was accepted on the connection that delivered the
    /// job; the client pair only when both files are there (1.6).
    async fn job_tls(&self, files: FilesForJob, chains: Option<Arc<VerifiedChains>>) -> JobTls {
        let ca_chain = match (files.ca, chains) {
            (Some(file), _) => String::from_utf8_lossy(&file).into_owned(),
            (None, Some(chains)) => self.chain_for_job(chains).await,
            (None, None) => String::new(),
        };
        let client_pair = files.client_pair.map(|(certificate, key)| {
            (
                String::from_utf8_lossy(&certificate).into_owned(),
                Secret::new(String::from_utf8_lossy(&key).into_owned()),
            )
        });
        JobTls {
            ca_chain,
            client_pair,
            ca_chain_only: self.client.is_without_system_roots(),
            tools: None,
        }
    }

    /// Looks at the disk, so on a thread that may block.
    async fn files_for_job(&self) -> FilesForJob {
        let (client, host) = (self.client.clone(), self.host().to_owned());
        let looking = tokio::task::spawn_blocking(move || FilesForJob {
            trusted: client.trusted(&host),
            ca: client.ca_file_bytes(&host),
            client_pair: client.client_pair(&host),
        });
        looking.await.unwrap_or_else(|error| {
            tracing::error!("loading the certificates for a job: {error}");
            FilesForJob::default()
        })
    }

    /// Unlike upstream, a chain that cannot be completed is handed over as it was verified: it worked for us.
    async fn chain_for_job(&self, chains: Arc<VerifiedChains>) -> String {
        let chains = match self.client.chains_now(self.host(), chains) {
            Ok(chains) => chains,
            Err(error) => {
                tracing::error!(%error, "Error on fetching TLS Data from API response... error");
                return String::new();
            }
        };
        let Some(issuers) = &self.issuers else {
            return chains.to_pem();
        };
        match issuers.full_chain_pem(&chains).await {
            Ok(completed) => completed,
            Err(error) => {
                tracing::error!(%error, "Error on fetching TLS Data from API response... error");
                chains.to_pem()
            }
        }
    }

    /// `PUT jobs/:id`: acknowledgement, keep-alive or final state.
    pub async fn update_job(
        &self,
        job: &JobCredentials,
        update: &UpdateRequest,
    ) -> Said<UpdateResult> {
        let answer = match self.call(Method::PUT, &format!("jobs/{}", job.id)) {
            Ok(call) => {
                let call = call.secret_header(JOB_TOKEN, job.token.expose());
                self.send_json(call, update, false).await
            }
            Err(error) => Err(error),
        };
        self.count("update_job", "put", &answer);
        match answer {
            Ok(answer) => {
                let said = Said::of(&answer, update_result);
                if said.result == UpdateResult::Failed {
                    let status = answer.describe().await;
                    tracing::warn!(
                        job = job.id,
                        status,
                        "Submitting job to coordinator... failed"
                    );
                }
                said
            }
            Err(error) => {
                tracing::warn!(job = job.id, "Submitting job to coordinator... {error}");
                Said::nothing(match error {
                    CallError::Client(_) => UpdateResult::Abort,
                    _ => UpdateResult::Failed,
                })
            }
        }
    }

    /// `PATCH jobs/:id/trace`: appends `bytes`, which are not empty, at `offset`.
    pub async fn patch_trace(
        &self,
        job: &JobCredentials,
        bytes: Bytes,
        offset: u64,
        debug_trace: bool,
    ) -> Said<PatchResult> {
        let range = ContentRange {
            start: offset,
            length: bytes.len() as u64,
        };
        let path = format!("jobs/{}/trace?debug_trace={debug_trace}", job.id);
        let answer = match self.call(Method::PATCH, &path) {
            Ok(call) => {
                let mut call = call.secret_header(JOB_TOKEN, job.token.expose());
                if let Ok(range) = HeaderValue::from_str(&range.to_string()) {
                    call.headers.insert(header::CONTENT_RANGE, range);
                }
                call.body = Body::Bytes(bytes, "text/plain");
                self.client.send(call).await
            }
            Err(error) => Err(error),
        };
        self.count("patch_trace", "patch", &answer);
        match answer {
            Ok(answer) => {
                let stored = ContentRange::stored_size(header_text(&answer, &header::RANGE));
                let said = Said::of(&answer, |status, remote| {
                    patch_result(status, remote, stored)
                });
                match said.result {
                    PatchResult::Succeeded | PatchResult::Abort => {}
                    PatchResult::RangeMismatch(stored) => tracing::warn!(
                        job = job.id,
                        sent_log = %range,
                        stored,
                        "Appending trace to coordinator... failed due to range mismatch",
                    ),
                    PatchResult::NotFound | PatchResult::Failed => {
                        let status = answer.describe().await;
                        tracing::warn!(
                            job = job.id,
                            status,
                            "Appending trace to coordinator... failed"
                        );
                    }
                }
                said
            }
            Err(error) => {
                tracing::warn!(job = job.id, "Appending trace to coordinator... {error}");
                Said::nothing(PatchResult::Failed)
            }
        }
    }
}

impl<R> Said<R> {
    fn of(answer: &Answer, result: impl FnOnce(StatusCode, Option<JobStatus>) -> R) -> Self {
        let remote =
            header_text(answer, &HeaderName::from_static("job-status")).map(JobStatus::parse);
        Self {
            result: result(answer.status, remote),
            cancel_requested: remote == Some(JobStatus::Canceling),
            interval: header_text(answer, &UPDATE_INTERVAL).and_then(server_interval),
            pushed_back: answer.pushed_back,
            status: Some(answer.status),
        }
    }

    /// A result without an answer.
    pub(crate) fn nothing(result: R) -> Self {
        Self {
            result,
            cancel_requested: false,
            interval: None,
            pushed_back: false,
            status: None,
        }
    }
}

fn stops_the_job(status: StatusCode, remote: Option<JobStatus>) -> bool {
    status == StatusCode::FORBIDDEN
        || matches!(remote, Some(JobStatus::Canceled | JobStatus::Failed))
}

fn update_result(status: StatusCode, remote: Option<JobStatus>) -> UpdateResult {
    match status {
        _ if stops_the_job(status, remote) => UpdateResult::Abort,
        StatusCode::OK => UpdateResult::Succeeded,
        StatusCode::ACCEPTED => UpdateResult::Accepted,
        StatusCode::PRECONDITION_FAILED => UpdateResult::TraceValidationFailed,
        // 410 is not GitLab's; whoever says it means it.
        StatusCode::NOT_FOUND | StatusCode::GONE => UpdateResult::Abort,
        _ => UpdateResult::Failed,
    }
}

fn patch_result(status: StatusCode, remote: Option<JobStatus>, stored: u64) -> PatchResult {
    match status {
        _ if stops_the_job(status, remote) => PatchResult::Abort,
        StatusCode::ACCEPTED => PatchResult::Succeeded,
        StatusCode::NOT_FOUND => PatchResult::NotFound,
        StatusCode::RANGE_NOT_SATISFIABLE => PatchResult::RangeMismatch(stored),
        _ => PatchResult::Failed,
    }
}

/// Positive whole seconds, at most 15 min; anything else changes nothing.
fn server_interval(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    match text.parse::<i64>() {
        Ok(seconds) => {
            (seconds > 0).then(|| Duration::from_secs(seconds.unsigned_abs()).min(LONGEST_INTERVAL))
        }
        Err(_) => {
            tracing::warn!(
                value = text,
                "Failed to parse X-GitLab-Trace-Update-Interval"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_decided_in_the_order_of_the_table() {
        let remote = |text: &str| (!text.is_empty()).then(|| JobStatus::parse(text));
        for (status, job_status, expected) in [
            (200, "", UpdateResult::Succeeded),
            (200, "running", UpdateResult::Succeeded),
            (200, "canceling", UpdateResult::Succeeded),
            (200, "canceled", UpdateResult::Abort),
            (202, "failed", UpdateResult::Abort),
            (403, "", UpdateResult::Abort),
            (202, "", UpdateResult::Accepted),
            (412, "", UpdateResult::TraceValidationFailed),
            (404, "", UpdateResult::Abort),
            (204, "", UpdateResult::Failed),
            (400, "", UpdateResult::Failed),
            (409, "", UpdateResult::Failed),
            (500, "", UpdateResult::Failed),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(
                update_result(status, remote(job_status)),
                expected,
                "{status} {job_status}"
            );
        }
    }

    #[test]
    fn patches_are_decided_in_the_order_of_the_table() {
        let remote = |text: &str| (!text.is_empty()).then(|| JobStatus::parse(text));
        for (status, job_status, expected) in [
            (202, "running", PatchResult::Succeeded),
            (202, "canceling", PatchResult::Succeeded),
            (202, "canceled", PatchResult::Abort),
            (403, "", PatchResult::Abort),
            (404, "", PatchResult::NotFound),
            (416, "", PatchResult::RangeMismatch(17)),
            (416, "failed", PatchResult::Abort),
            (200, "", PatchResult::Failed),
            (500, "", PatchResult::Failed),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(
                patch_result(status, remote(job_status), 17),
                expected,
                "{status} {job_status}"
            );
        }
    }

    #[test]
    fn server_intervals_are_positive_and_bounded() {
        for (text, seconds) in [
            ("60", Some(60)),
            ("0", None),
            ("-3", None),
            ("", None),
            ("soon", None),
            ("86400", Some(900)),
        ] {
            assert_eq!(
                server_interval(text),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }
}
