//! Uploading and downloading artifacts (`runner-build-lifecycle.md` 4.1, 4.5, 4.7;
//! `runner-protocol.md` 2.9, 2.10).

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use courser_archive::{ArchiveError, Format, Level, Limits};
use courser_job::helper_request::{DownloadArtifacts, UploadArtifacts};
use courser_job::messages::{
    self, DOWNLOAD_CONTEXT, upload_context, work_error, work_info, work_warning,
};
use courser_net::{Body, Call, Client, Redirects, Retry, Timeouts, status_line};
use courser_protocol::{Secret, short_token};
use http::{HeaderName, Method, StatusCode};
use url::Url;

use crate::cache::compression_level;
use crate::expansion::expand;
use crate::output::Output;
use crate::selection_log::{Entry, select_and_log};
use crate::transfer::{artifacts_url, client, save};
use crate::{HelperEnvironment, HelperError};

const JOB_TOKEN: HeaderName = HeaderName::from_static("job-token");

/// Tries of an upload, and of one that a busy server refuses with 503.
const UPLOAD_TRIES: u32 = 3;
const BUSY_TRIES: u32 = 6;

/// Pauses between tries of an upload double up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Tries of a download.
const DOWNLOAD_TRIES: u32 = 3;

/// What gitlab-runner says about a failure that has no better name.
const FAILED: &str = "invalid argument";

/// One entry of a job's artifacts. No matching files are an error in the log, not of the job.
pub(crate) async fn upload(
    request: &UploadArtifacts,
    environment: &HelperEnvironment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    output.say(&messages::uploading_artifacts())?;
    send(request, environment, output).await
}

/// The same without the notice of the calling script (`artifacts-uploader`).
pub(crate) async fn send(
    request: &UploadArtifacts,
    environment: &HelperEnvironment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    let project_dir = Path::new(&request.project_dir);
    let format = Format::from_name(&request.format).ok_or_else(|| {
        HelperError::Request(format!("unsupported archive format: {}", request.format))
    })?;
    let wanted = Entry {
        paths: &request.paths,
        exclude: &request.exclude,
        untracked: request.untracked,
    };
    let files = select_and_log(project_dir, &wanted, &environment.variables, output)?;
    if files.is_empty() {
        output.log(&messages::no_files_to_upload())?;
        return Ok(());
    }
    let level = compression_level("ARTIFACT_COMPRESSION_LEVEL", &environment.variables, output)?;
    let archive = packed(format, level, project_dir, files, environment).await?;
    let upload = Upload {
        request,
        file_name: file_name(request, format, environment, output)?,
        archive: archive.path.clone(),
        client: client(
            environment,
            request.tls_ca_file.as_ref(),
            request.tls_client_pair.as_ref(),
        ),
        first_pause: environment.retry_pause,
    };
    upload.run(output).await
}

/// Writes the archive.
async fn packed(
    format: Format,
    level: Level,
    project_dir: &Path,
    files: Vec<PathBuf>,
    environment: &HelperEnvironment,
) -> Result<Staged, HelperError> {
    let mut archive = Staged::new(environment)?;
    let root = project_dir.to_owned();
    let task = tokio::task::spawn_blocking(move || {
        courser_archive::write(format, level, &root, &files, &mut archive.file)?;
        Ok::<_, ArchiveError>(archive)
    });
    Ok(task.await.map_err(lost)??)
}

/// A file that only we can read. Nothing is left of it, also when this process is killed.
struct Staged {
    file: File,
    /// Where it can be opened while this value lives.
    path: PathBuf,
    /// Where files without a name cannot be opened again, it has one until it is dropped.
    _name: Option<tempfile::TempPath>,
}

impl Staged {
    fn new(environment: &HelperEnvironment) -> Result<Self, HelperError> {
        let (file, name) = staging_file(environment)?.into_parts();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(if path.exists() {
            Self {
                file,
                path,
                _name: None,
            }
        } else {
            Self {
                file,
                path: name.to_path_buf(),
                _name: Some(name),
            }
        })
    }
}

fn lost(error: tokio::task::JoinError) -> HelperError {
    HelperError::Request(format!("archiving ended early: {error}"))
}

fn staging_file(environment: &HelperEnvironment) -> Result<tempfile::NamedTempFile, HelperError> {
    let directory = environment
        .variables
        .get("ARCHIVER_STAGING_DIR")
        .filter(|path| !path.is_empty())
        .map_or_else(|| environment.temporary_directory.clone(), PathBuf::from);
    tempfile::Builder::new()
        .prefix("artifacts")
        .tempfile_in(&directory)
        .map_err(HelperError::io(directory))
}

/// Name told to the server: the last component, with the format's suffix.
fn file_name(
    request: &UploadArtifacts,
    format: Format,
    environment: &HelperEnvironment,
    output: &mut Output<'_>,
) -> Result<String, HelperError> {
    let name = match request.name.as_str() {
        "" => "artifacts",
        name => name,
    };
    let name = match expand(name, &environment.variables) {
        Ok(name) => name,
        Err(error) => {
            output.log(&messages::invalid_artifact_name(&error.to_string()))?;
            name.to_owned()
        }
    };
    let base = name
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let base = if matches!(base, "" | ".") {
        "default"
    } else {
        base
    };
    Ok(format!("{base}{}", format.suffix()))
}

/// The line about a transfer without an answer.
fn broken_off(
    context: &str,
    failure: &dyn std::error::Error,
    job_id: i64,
    token: &Secret,
) -> String {
    let fields = [
        ("error", failure.to_string()),
        ("id", job_id.to_string()),
        ("token", short_token(token.expose()).to_owned()),
    ];
    work_error(&format!("{context} error"), &fields)
}

struct Upload<'a> {
    request: &'a UploadArtifacts,
    file_name: String,
    archive: PathBuf,
    client: Client,
    first_pause: Duration,
}

/// How one try ended.
enum Try {
    Done,
    /// Not to be tried again.
    Refused(&'static str),
    /// To be tried again, so many times in all.
    Again {
        error: &'static str,
        tries: u32,
    },
}

impl Upload<'_> {
    async fn run(&self, output: &mut Output<'_>) -> Result<(), HelperError> {
        let mut base = self.request.url.clone();
        let mut pause = self.first_pause;
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.once(&mut base, output).await? {
                Try::Done => return Ok(()),
                Try::Refused(error) => return Err(HelperError::Transfer(error.to_owned())),
                Try::Again { error, tries } if attempt >= tries => {
                    return Err(HelperError::Transfer(error.to_owned()));
                }
                Try::Again { error, .. } => {
                    output.log(&messages::retrying_transfer("artifacts-uploader", error))?;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn once(&self, base: &mut String, output: &mut Output<'_>) -> Result<Try, HelperError> {
        let request = self.request;
        let prefix = upload_context(&request.artifact_type);
        let id = request.job_id.to_string();
        let token = short_token(request.token.expose()).to_owned();
        let mut call = Call::new(Method::POST, self.url(base)?)
            .secret_header(JOB_TOKEN, request.token.expose());
        call.body = Body::MultipartFile {
            file_name: self.file_name.clone(),
            path: self.archive.clone(),
        };
        call.timeouts = Timeouts {
            response_header: Duration::from_secs(request.response_header_timeout_seconds),
            total: Duration::from_secs(request.timeout_seconds),
        };
        let answer = match self.client.send(call).await {
            Ok(answer) => answer,
            Err(failure) => {
                output.log(&broken_off(
                    &prefix,
                    &failure,
                    request.job_id,
                    &request.token,
                ))?;
                return Ok(Try::Again {
                    error: FAILED,
                    tries: UPLOAD_TRIES,
                });
            }
        };
        let status = answer.status;
        let code = status.as_u16().to_string();
        let correlation_id = answer.correlation_id.clone();
        let location = answer
            .headers
            .get(http::header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| Url::parse(text).ok());
        let text = answer.describe().await;
        let fields = [
            ("correlation_id", correlation_id),
            ("id", id),
            ("status", code),
            ("token", token),
        ];
        let message = format!("{prefix} {text}");
        if status == StatusCode::TEMPORARY_REDIRECT
            && let Some(location) = location
        {
            *base = location.origin().ascii_serialization();
            output.log(&messages::upload_redirected(base))?;
            output.log(&work_error(
                &format!("{prefix} request redirected"),
                &fields,
            ))?;
            return Ok(Try::Again {
                error: "request redirected",
                tries: UPLOAD_TRIES,
            });
        }
        let (line, end) = match status {
            StatusCode::CREATED => (work_info(&message, &fields), Try::Done),
            StatusCode::FORBIDDEN => (
                work_error(&message, &fields),
                Try::Refused("permission denied"),
            ),
            StatusCode::PAYLOAD_TOO_LARGE => {
                (work_error(&message, &fields), Try::Refused("too large"))
            }
            StatusCode::SERVICE_UNAVAILABLE => (
                work_error(&message, &fields),
                Try::Again {
                    error: "service unavailable",
                    tries: BUSY_TRIES,
                },
            ),
            _ => (
                work_warning(&message, &fields),
                Try::Again {
                    error: FAILED,
                    tries: UPLOAD_TRIES,
                },
            ),
        };
        output.log(&line)?;
        Ok(end)
    }

    fn url(&self, base: &str) -> Result<Url, HelperError> {
        let request = self.request;
        let mut url = artifacts_url(base, request.job_id)?;
        let query = [
            ("artifact_format", &request.format),
            ("artifact_type", &request.artifact_type),
            ("expire_in", &request.expire_in),
        ];
        for (key, value) in query {
            if !value.is_empty() {
                url.query_pairs_mut().append_pair(key, value);
            }
        }
        Ok(url)
    }
}

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
    let mut attempt = 1;
    let archive = loop {
        // Only the first try asks for a redirect to the storage.
        let direct = request.direct_download && attempt == 1;
        match download.once(direct, environment, output).await? {
            Fetched::Archive(archive) => break archive,
            Fetched::Refused(error) => return Err(HelperError::Transfer(error.to_owned())),
            Fetched::Failed if attempt == DOWNLOAD_TRIES => {
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
