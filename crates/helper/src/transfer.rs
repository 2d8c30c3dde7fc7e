//! What artifact uploads and downloads share: the client, the address, how statuses are shown
//! (`runner-protocol.md` 1.1, 1.8; `runner-tls.md` 4.3).

use std::path::PathBuf;
use std::time::Duration;

use courser_net::{Answer, CallError, Client, ClientSettings, TrustSettings};
use tokio::io::AsyncWriteExt;
use url::Url;

use crate::{HelperEnvironment, HelperError};

/// Longest error body that is looked at.
const MAX_ERROR_BODY: usize = 64 << 10;

/// A client that trusts the system's roots, the job's CA file and the predefined files.
pub(crate) fn client(
    environment: &HelperEnvironment,
    ca_file: Option<&String>,
    client_pair: Option<&(String, String)>,
) -> Client {
    Client::new(ClientSettings {
        trust: TrustSettings {
            system: environment.system_roots.clone(),
            ca_file: ca_file.map(PathBuf::from),
            cert_file: client_pair.map(|(certificate, _)| PathBuf::from(certificate)),
            key_file: client_pair.map(|(_, key)| PathBuf::from(key)),
            certificate_directory: environment.certificate_directory.clone(),
            inline_ca: None,
        },
        proxy: environment.proxy.clone(),
        user_agent: environment.user_agent.clone(),
        connection_max_age: Duration::ZERO,
    })
}

/// `<url>/api/v4/jobs/<id>/artifacts`.
pub(crate) fn artifacts_url(runner_url: &str, job_id: i64) -> Result<Url, HelperError> {
    let base = runner_url.trim_end_matches('/');
    let base = base.strip_suffix("/ci").unwrap_or(base);
    let url = Url::parse(&format!("{base}/api/v4/jobs/{job_id}/artifacts"))
        .map_err(|error| HelperError::Request(format!("invalid URL of the runner: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(HelperError::Request(format!(
            "only http or https scheme supported, not {}",
            url.scheme()
        )));
    }
    Ok(url)
}

/// Status line, for example `201 Created`.
pub(crate) fn status_line(status: http::StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// Text of an answer that is no success: with the server's message where it sent one.
pub(crate) async fn error_text(method: &str, answer: Answer) -> String {
    let status = status_line(answer.status);
    let is_json = answer
        .headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/json"));
    if !is_json {
        return status;
    }
    let url = shown_url(&answer.url);
    let body = answer.bytes(MAX_ERROR_BODY).await.unwrap_or_default();
    match server_message(&body) {
        None => status,
        Some(message) if message == status => format!("{method} {url}: {status}"),
        Some(message) => format!("{method} {url}: {status} ({message})"),
    }
}

/// `message` of a JSON body: a text, or lists of texts by field.
fn server_message(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    match body.get("message")? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(field, messages)| {
                    let messages: Vec<&str> = messages
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(serde_json::Value::as_str)
                        .collect();
                    format!("{field}: {}", messages.join("; "))
                })
                .collect();
            Some(fields.join(", "))
        }
        _ => None,
    }
}

fn shown_url(url: &Url) -> String {
    let mut url = url.clone();
    // These fail only for URLs without a host, which no client has called.
    url.set_username("").ok();
    url.set_password(None).ok();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Writes the body to a file. The error is the network's or the disk's.
pub(crate) async fn save(
    answer: &mut Answer,
    file: std::fs::File,
) -> Result<std::fs::File, SaveError> {
    let mut file = tokio::fs::File::from_std(file);
    while let Some(chunk) = answer.chunk().await? {
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    Ok(file.into_std().await)
}

/// Why a body could not be saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Disk(#[from] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_runners_url() {
        let table = [
            ("https://h", "https://h/api/v4/jobs/7/artifacts"),
            (
                "https://h/gitlab//",
                "https://h/gitlab/api/v4/jobs/7/artifacts",
            ),
            ("https://h/ci", "https://h/api/v4/jobs/7/artifacts"),
        ];
        for (url, expected) in table {
            assert_eq!(artifacts_url(url, 7).expect("valid").as_str(), expected);
        }
        assert!(artifacts_url("ftp://h", 7).is_err());
        assert!(artifacts_url("", 7).is_err());
    }

    #[test]
    fn messages_of_the_server_are_texts_or_fields() {
        let table = [
            (r#"{"message":"no"}"#, Some("no")),
            (r#"{"message":{"a":["b","c"]}}"#, Some("a: b; c")),
            (r#"{"error":"x"}"#, None),
            ("<html>", None),
        ];
        for (body, expected) in table {
            assert_eq!(
                server_message(body.as_bytes()).as_deref(),
                expected,
                "{body}"
            );
        }
    }
}
