//! What artifact uploads and downloads share: the client, the address, how a body is kept
//! (`runner-protocol.md` 1.1; `runner-tls.md` 4.3).

use std::io::Write as _;
use std::time::Duration;

use courser_net::{Answer, CallError, Client, ClientSettings, TlsOptions};
use url::Url;

use crate::{HelperEnvironment, HelperError};

/// A client that trusts the system's roots, the job's CA file and the predefined files.
pub(crate) fn client(
    environment: &HelperEnvironment,
    ca_file: Option<&String>,
    client_pair: Option<&(String, String)>,
) -> Client {
    Client::new(ClientSettings {
        trust: environment.legs.transfers(TlsOptions {
            ca_file: ca_file.map(String::as_str),
            cert_file: client_pair.map(|(certificate, _)| certificate.as_str()),
            key_file: client_pair.map(|(_, key)| key.as_str()),
        }),
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

/// Writes the body to a file. The error is the network's or the disk's.
pub(crate) async fn save(
    answer: &mut Answer,
    file: std::fs::File,
) -> Result<std::fs::File, SaveError> {
    // Written right here: this process does nothing else meanwhile, and a hop to another thread for
    // each piece would cost more than the piece.
    let mut file = std::io::BufWriter::with_capacity(256 << 10, file);
    while let Some(chunk) = answer.chunk().await? {
        file.write_all(&chunk)?;
    }
    Ok(file
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?)
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
}
