//! Artifacts of other jobs: fetched, extracted (`runner-build-lifecycle.md` 4.7).

use std::fs::File;
use std::path::PathBuf;

use courser_archive::Limits;
use courser_job::helper_request::DownloadArtifacts;
use courser_job::messages::{self, DOWNLOAD_CONTEXT, work_error, work_info};
use courser_net::{Call, Client, Redirects, Retry, status_line};
use courser_protocol::short_token;
use http::{Method, StatusCode};
use url::Url;

use super::{FAILED, JOB_TOKEN, broken_off, lost, staging_file};
use crate::output::Output;
use crate::transfer::{artifacts_url, client, save};
use crate::{HelperEnvironment, HelperError};

/// Artifacts of one other job.
pub(crate) async fn download(
    request: &DownloadArtifacts,
    environment: &HelperEnvironment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    output.say(&messages::downloading_artifacts(
        &request.job_name,
        request.job_id,
    ))?;
    receive(request, environment, output).await
}

/// The same without the notice of the calling script (`artifacts-downloader`).
pub(crate) async fn receive(
    request: &DownloadArtifacts,
    environment: &HelperEnvironment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    let download = Download {
        request,
        url: artifacts_url(&request.url, request.job_id)?,
        client: client(
            environment,
            request.tls_ca_file.as_ref(),
            request.tls_client_pair.as_ref(),
        ),
    };
    let mut attempt = 0;
    let archive = loop {
        // Only the first try asks for a redirect to the storage.
        let direct = request.direct_download && attempt == 0;
        match download.once(direct, environment, output).await? {
            Fetched::Archive(archive) => break archive,
            Fetched::Refused(error) => return Err(HelperError::Transfer(error.to_owned())),
            Fetched::Failed if attempt == request.retries => {
                return Err(HelperError::Transfer(FAILED.to_owned()));
            }
            Fetched::Failed => {
                output.log(&messages::retrying_transfer("artifacts-downloader", FAILED))?;
                tokio::time::sleep(environment.retry_pause).await;
                attempt += 1;
            }
        }
    };
    let root = PathBuf::from(&request.project_dir);
    let task = tokio::task::spawn_blocking(move || {
        courser_archive::extract(archive, &root, &Limits::default())
    });
    Ok(task.await.map_err(lost)??)
}

struct Download<'a> {
    request: &'a DownloadArtifacts,
    url: Url,
    client: Client,
}

enum Fetched {
    Archive(File),
    Refused(&'static str),
    Failed,
}

impl Download<'_> {
    async fn once(
        &self,
        direct: bool,
        environment: &HelperEnvironment,
        output: &mut Output<'_>,
    ) -> Result<Fetched, HelperError> {
        let id = self.request.job_id.to_string();
        let token = short_token(self.request.token.expose()).to_owned();
        let mut answer = match self.ask(direct, output).await? {
            Ok(answer) => answer,
            Err(failure) => {
                output.log(&self.broken_off(&failure))?;
                return Ok(Fetched::Failed);
            }
        };
        let status = status_line(answer.status);
        let correlation_id = answer.correlation_id.clone();
        let host = answer.url.host_str().unwrap_or_default().to_owned();
        let fields = [
            ("correlation_id", correlation_id),
            ("host", host),
            ("id", id),
            ("responseStatus", status),
            ("token", token),
        ];
        let refused = match answer.status {
            StatusCode::OK => {
                let mut kept = staging_file(environment)?.into_file();
                match save(&mut answer, kept).await {
                    Ok(file) => kept = file,
                    Err(failure) => {
                        output.log(&self.broken_off(&failure))?;
                        return Ok(Fetched::Failed);
                    }
                }
                output.log(&work_info(&format!("{DOWNLOAD_CONTEXT} ok"), &fields))?;
                return Ok(Fetched::Archive(kept));
            }
            StatusCode::FORBIDDEN => Some(("forbidden", "permission denied")),
            StatusCode::UNAUTHORIZED => Some(("unauthorized", "permission denied")),
            StatusCode::NOT_FOUND => Some(("not found", "file does not exist")),
            _ => None,
        };
        let (word, end) = match refused {
            Some((word, error)) => (word, Fetched::Refused(error)),
            None => ("failed", Fetched::Failed),
        };
        output.log(&work_error(&format!("{DOWNLOAD_CONTEXT} {word}"), &fields))?;
        Ok(end)
    }

    fn broken_off(&self, failure: &dyn std::error::Error) -> String {
        let request = self.request;
        broken_off(DOWNLOAD_CONTEXT, failure, request.job_id, &request.token)
    }

    /// The answer to a download. In direct mode a redirect is looked at, then the same address is asked
    /// again and followed: the coordinator sees two requests.
    async fn ask(
        &self,
        direct: bool,
        output: &mut Output<'_>,
    ) -> Result<Result<courser_net::Answer, courser_net::CallError>, HelperError> {
        let mut call = Call::new(Method::GET, self.url.clone())
            .secret_header(JOB_TOKEN, self.request.token.expose());
        if !direct {
            return Ok(self.client.send(call).await);
        }
        call.url.set_query(Some("direct_download=true"));
        call.redirects = Redirects::Return;
        call.retry = Retry::Never;
        let first = match self.client.send(call).await {
            Ok(answer) => answer,
            Err(failure) => return Ok(Err(failure)),
        };
        let is_redirect = matches!(
            first.status,
            StatusCode::FOUND | StatusCode::TEMPORARY_REDIRECT
        );
        if !is_redirect {
            return Ok(Ok(first));
        }
        let host = first
            .headers
            .get(http::header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| self.url.join(text).ok())
            .and_then(|url| url.host_str().map(ToOwned::to_owned))
            .unwrap_or_default();
        output.log(&messages::direct_download_from(&host))?;
        let mut call = Call::new(Method::GET, self.url.clone())
            .secret_header(JOB_TOKEN, self.request.token.expose());
        call.url.set_query(Some("direct_download=true"));
        Ok(self.client.send(call).await)
    }
}
