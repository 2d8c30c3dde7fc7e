//! Artifacts up and down (`runner-protocol.md` 2.9 and 2.10), streamed to and from the disk.

use std::path::{Path as FilePath, PathBuf};

use axum::body::Body;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use courser_protocol::Secret;

use super::Api;
use super::answers::{Refusal, token_of};
use super::body::{discard, discard_form};
use crate::dotenv::{self, DotenvError};
use crate::store::{ArtifactRecord, private_dir, private_options};

/// Bytes of a form's part beside the file.
const WORD_LIMIT: usize = 4096;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DownloadQuery {
    token: Secret,
}

/// What is said of an upload: in the query, or in parts of the form before the file.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct UploadQuery {
    token: Secret,
    artifact_type: String,
    artifact_format: String,
    expire_in: String,
}

impl Default for UploadQuery {
    fn default() -> Self {
        Self {
            token: Secret::default(),
            artifact_type: "archive".to_owned(),
            artifact_format: "zip".to_owned(),
            expire_in: String::new(),
        }
    }
}

/// The token comes in a header or the query, which is checked before the form is looked at, or in a
/// part of the form before the file.
pub(super) async fn upload(
    State(api): State<Api>,
    Path(job): Path<i64>,
    Query(mut upload): Query<UploadQuery>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Refusal> {
    let given = token_of(&headers, "job-token", upload.token.expose());
    if !given.is_empty()
        && let Err(refusal) = api.may_upload(job, given.clone()).await
    {
        discard(request.into_body()).await;
        return Err(refusal);
    }
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| Refusal::bad_request(error.body_text()))?;
    let received = api.take_upload(job, &mut form, &mut upload, given).await;
    if received.is_err() {
        discard_form(&mut form).await;
    }
    received?;
    Ok((StatusCode::CREATED, axum::Json(serde_json::json!({}))).into_response())
}

/// Parts of a form before the file; runners send four at the most. A token may be among them, so until the file nobody
/// knows whose form it is.
const WORDS: usize = 16;

impl Api {
    async fn may_upload(&self, job: i64, given: String) -> Result<(), Refusal> {
        let access = self
            .queue
            .call(move |queue| queue.access_running(job, &given).map(drop));
        Ok(access.await??)
    }

    async fn take_upload(
        &self,
        job: i64,
        form: &mut Multipart,
        upload: &mut UploadQuery,
        mut given: String,
    ) -> Result<(), Refusal> {
        let api = self;
        let was_given = !given.is_empty();
        let bad = |error: MultipartError| Refusal::bad_request(error.body_text());
        let mut words_left = WORDS;
        let field = loop {
            let Some(field) = form.next_field().await.map_err(bad)? else {
                return Err(Refusal::bad_request("the form has no part named file"));
            };
            let name = field.name().unwrap_or_default().to_owned();
            if name == "file" {
                break field;
            }
            words_left = words_left.checked_sub(1).ok_or_else(|| {
                Refusal::bad_request("the form has too many parts before the one named file")
            })?;
            let text = short_text(field).await?;
            match name.as_str() {
                "token" if !was_given => given = text,
                "artifact_type" => upload.artifact_type = text,
                "artifact_format" => upload.artifact_format = text,
                "expire_in" => upload.expire_in = text,
                _ => {}
            }
        };
        if !was_given {
            api.may_upload(job, given).await?;
        }
        let file_name = plain_name(field.file_name().unwrap_or_default());
        let directory = api.files.artifact(&job.to_string());
        private_dir(&directory)?;
        let (stored, size) = receive(field, &directory, &file_name, api.limits.artifact).await?;
        let path = directory.join(&stored);
        let (files, kept) = (api.files.clone(), path.clone());
        tokio::task::spawn_blocking(move || files.keep(&kept))
            .await
            .map_err(Refusal::internal)??;
        let record = ArtifactRecord {
            job_id: job,
            kind: std::mem::take(&mut upload.artifact_type),
            format: std::mem::take(&mut upload.artifact_format),
            file_name,
            stored_as: format!("{job}/{stored}"),
            size,
            expire_in: std::mem::take(&mut upload.expire_in),
        };
        let recorded = self.record(record, path.clone()).await;
        if recorded.is_err() {
            tokio::fs::remove_file(&path).await?;
        }
        recorded
    }

    /// Makes a file that is there known.
    async fn record(&self, record: ArtifactRecord, path: PathBuf) -> Result<(), Refusal> {
        if record.kind == "dotenv" {
            let (job, gzip) = (record.job_id, record.format == "gzip");
            let variables = tokio::task::spawn_blocking(move || dotenv::read(&path, gzip))
                .await
                .map_err(Refusal::internal)?
                .map_err(refuse_dotenv)?;
            self.queue
                .call(move |queue| queue.add_dotenv(job, variables))
                .await??;
        }
        self.queue
            .call(move |queue| queue.add_artifact(record))
            .await??;
        Ok(())
    }
}

/// A part that is a word, not a file.
async fn short_text(mut field: Field<'_>) -> Result<String, Refusal> {
    let mut text = Vec::new();
    let bad = |error: MultipartError| Refusal::bad_request(error.body_text());
    while let Some(chunk) = field.chunk().await.map_err(bad)? {
        if text.len() + chunk.len() > WORD_LIMIT {
            return Err(Refusal::bad_request("a part of the form is too long"));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Writes the part beside its place and moves it there when it is complete. A job may upload many files
/// of one name: the later ones get another. Returns the name in the directory, and the size.
async fn receive(
    mut field: Field<'_>,
    directory: &FilePath,
    file_name: &str,
    limit: u64,
) -> Result<(String, u64), Refusal> {
    let unique = uuid::Uuid::new_v4().simple();
    let partial = directory.join(format!("{unique}.part"));
    let removed_on_drop = tempfile::TempPath::try_from_path(&partial)?;
    let file = private_options().create_new(true).open(&partial)?;
    let mut file = tokio::fs::File::from_std(file);
    let mut size = 0;
    while let Some(chunk) = field
        .chunk()
        .await
        .map_err(|error| Refusal::bad_request(error.body_text()))?
    {
        size += chunk.len() as u64;
        if size > limit {
            return Err(Refusal::plain(StatusCode::PAYLOAD_TOO_LARGE));
        }
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    let taken = match removed_on_drop.persist_noclobber(directory.join(file_name)) {
        Ok(()) => return Ok((file_name.to_owned(), size)),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => error.path,
        Err(error) => return Err(Refusal::internal(error.error)),
    };
    let name = format!("{unique}-{file_name}");
    taken
        .persist_noclobber(directory.join(&name))
        .map_err(|error| Refusal::internal(error.error))?;
    Ok((name, size))
}

/// Bytes of a file name that are kept; a unique prefix still fits into NAME_MAX (255).
const NAME_BYTES: usize = 200;

/// The base name, made of characters no file system or terminal stumbles over.
fn plain_name(name: &str) -> String {
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let base = &base[..base.floor_char_boundary(NAME_BYTES)];
    let plain: String = base
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || "._-+@= ".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    if plain.trim_matches(['.', ' ']).is_empty() || plain.starts_with("..") {
        return "default".to_owned();
    }
    plain
}

fn refuse_dotenv(error: DotenvError) -> Refusal {
    match error {
        DotenvError::TooLarge => Refusal::plain(StatusCode::PAYLOAD_TOO_LARGE),
        error => Refusal::bad_request(error.to_string()),
    }
}

/// With the job's own token, also after its end. `direct_download` has nothing to point to here and
/// is answered with the file.
pub(super) async fn download(
    State(api): State<Api>,
    Path(job): Path<i64>,
    Query(query): Query<DownloadQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let given = token_of(&headers, "job-token", query.token.expose());
    let archive = api
        .queue
        .call(move |queue| {
            queue.access(job, &given)?;
            Ok::<_, crate::queue::AccessError>(queue.archive_of(job).cloned())
        })
        .await??
        .ok_or_else(|| Refusal::plain(StatusCode::NOT_FOUND))?;
    let file = tokio::fs::File::open(api.files.artifact(&archive.stored_as)).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, archive.size.to_string()),
    ];
    let stream = ReaderStream::with_capacity(file, 64 << 10);
    Ok((headers, Body::from_stream(stream)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_cannot_leave_their_directory() {
        let cases = [
            ("artifacts.zip", "artifacts.zip"),
            ("../../etc/passwd", "passwd"),
            ("..\\x.zip", "x.zip"),
            ("..", "default"),
            ("", "default"),
            (".", "default"),
            (".env.gz", ".env.gz"),
            ("a\u{1b}[31m.zip", "a__31m.zip"),
        ];
        for (name, expected) in cases {
            assert_eq!(plain_name(name), expected, "{name:?}");
        }
        let long = plain_name(&"漢".repeat(200));
        assert_eq!(long.len(), 198, "whole characters of at most 200 bytes");
    }
}
