//! One entry of a job's artifacts: selected, packed, sent (`runner-build-lifecycle.md` 4.1 to 4.6).

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use courser_archive::{ArchiveError, Format};
use courser_job::helper_request::UploadArtifacts;
use courser_job::messages::{self, upload_context, work_error, work_info, work_warning};
use courser_net::{Body, Call, Client, Growth, Timeouts};
use courser_protocol::short_token;
use http::{Method, StatusCode};
use tokio::sync::watch;
use url::Url;

use super::{FAILED, JOB_TOKEN, broken_off, lost, provenance, staging_file};
use crate::cache::compression_level;
use crate::expansion::expand;
use crate::output::Output;
use crate::selection_log::{Entry, add_unless_excluded, select_and_log};
use crate::transfer::{artifacts_url, client};
use crate::{HelperEnvironment, HelperError, platform};

/// Tries of an upload, and of one that a busy server refuses with 503.
const UPLOAD_TRIES: u32 = 3;
const BUSY_TRIES: u32 = 6;

/// Pauses between tries of an upload double up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An archive is sent while it is packed, as upstream does. The first so many bytes are waited for: a small archive is sent
/// with its length, and what cannot be packed is rarely a broken request.
const SENT_FROM: u64 = 4 << 20;

/// New bytes of an archive are told of when there are so many.
const STEP: u64 = 256 << 10;

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
    let mut files = select_and_log(project_dir, &wanted, &environment.variables, output)?;
    if files.is_empty() {
        output.log(&messages::no_files_to_upload())?;
        return Ok(());
    }
    let name = base_name(request, environment, output)?;
    if let Some(facts) = &request.provenance {
        output.log(&messages::generating_statement())?;
        if facts.schema_version != provenance::SCHEMA_VERSION {
            let version = &facts.schema_version;
            output.log(&messages::unknown_provenance_version(version))?;
        }
        let statement = provenance::write(
            facts,
            request.job_id,
            &name,
            project_dir,
            &files,
            environment,
        )?;
        add_unless_excluded(
            &mut files,
            statement,
            project_dir,
            &wanted,
            &environment.variables,
        );
    }
    let level = compression_level("ARTIFACT_COMPRESSION_LEVEL", &environment.variables, output)?;
    let archive = Staged::new(environment)?;
    let (growth, growing) = watch::channel(Growth::default());
    let mut output_file = Growing::new(&archive, growth)?;
    let root = project_dir.to_owned();
    let mut packing = tokio::task::spawn_blocking(move || {
        courser_archive::write(format, level, &root, &files, &mut output_file)?;
        output_file.complete();
        Ok::<_, ArchiveError>(())
    });
    let upload = Upload {
        request,
        file_name: format!("{name}{}", format.suffix()),
        archive: archive.path.clone(),
        growth: growing,
        client: client(
            environment,
            request.tls_ca_file.as_ref(),
            request.tls_client_pair.as_ref(),
        ),
        first_pause: environment.retry_pause,
    };
    let mut sending = pin!(upload.run(output));
    tokio::select! {
        biased;
        packed = &mut packing => {
            packed.map_err(lost)??;
            sending.await
        }
        // A server may have enough before the archive is complete.
        sent = &mut sending => sent,
    }
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
        Ok(match platform::nameless(&file) {
            Some(path) => Self {
                file,
                path,
                _name: None,
            },
            None => Self {
                file,
                path: name.to_path_buf(),
                _name: Some(name),
            },
        })
    }
}

/// The archive's file for the one who writes it: tells how far it is, and ends when nobody asks any more.
struct Growing {
    file: File,
    written: u64,
    growth: watch::Sender<Growth>,
}

impl Growing {
    fn new(archive: &Staged, growth: watch::Sender<Growth>) -> Result<Self, HelperError> {
        let file = archive.file.try_clone();
        Ok(Self {
            file: file.map_err(HelperError::io(&archive.path))?,
            written: 0,
            growth,
        })
    }

    fn tell(&self, complete: bool) {
        let written = self.written;
        self.growth.send_replace(Growth { written, complete });
    }

    fn complete(self) {
        self.tell(true);
    }
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.growth.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if self.written - self.growth.borrow().written >= STEP {
            self.tell(false);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Name of the archive without its suffix: the last component of what the job calls it.
fn base_name(
    request: &UploadArtifacts,
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
    Ok(match base {
        "" | "." => "default".to_owned(),
        base => base.to_owned(),
    })
}

struct Upload<'a> {
    request: &'a UploadArtifacts,
    file_name: String,
    archive: PathBuf,
    growth: watch::Receiver<Growth>,
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
        let mut growth = self.growth.clone();
        let enough = |now: &Growth| now.complete || now.written >= SENT_FROM;
        drop(growth.wait_for(enough).await);
        self.unless_packing_failed().await;
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
            growth: Some(self.growth.clone()),
        };
        call.timeouts = Timeouts {
            response_header: Duration::from_secs(request.response_header_timeout_seconds),
            total: Duration::from_secs(request.timeout_seconds),
        };
        let answer = match self.client.send(call).await {
            Ok(answer) => answer,
            Err(failure) => {
                self.unless_packing_failed().await;
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

    /// Never returns when packing has failed: who packs says why, and that ends all.
    async fn unless_packing_failed(&self) {
        let is_over = self.growth.has_changed().is_err();
        if is_over && !self.growth.borrow().complete {
            std::future::pending::<()>().await;
        }
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
