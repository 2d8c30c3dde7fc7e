//! Why Git could not talk to its server, when TLS was it.
//!
//! Git says `SSL certificate problem: …` and names no certificate, no file and no remedy. So the server is looked at
//! with the trust that Git was given, and the job's log gets the same explanation as the runner's.

use std::time::Duration;

use courser_job::helper_request::GetSources;
use courser_job::messages;
use courser_net::{Client, ClientSettings, Fault, Legs, Route, Target, TlsOptions, TrustSettings};
use url::Url;

use crate::output::Output;
use crate::{HelperEnvironment, HelperError};

/// Longest look; the job has failed already.
const LOOK_TIMEOUT: Duration = Duration::from_secs(15);

/// What Git (with OpenSSL or GnuTLS), libcurl and git-lfs say when TLS fails.
const COMPLAINTS: [&str; 7] = [
    "SSL certificate problem",
    "server certificate verification failed",
    "unable to get local issuer",
    "unable to access 'https://",
    "gnutls_handshake",
    "x509:",
    "tls:",
];

/// Explains a failure of Git in the log, if TLS was it.
pub(crate) async fn explain(
    sources: &GetSources,
    environment: &HelperEnvironment,
    failure: &HelperError,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    let HelperError::Git { command, said, .. } = failure else {
        return Ok(());
    };
    if !COMPLAINTS.iter().any(|words| said.contains(words)) {
        return Ok(());
    }
    let Ok(remote) = Url::parse(&sources.remote_url) else {
        return Ok(());
    };
    // Objects of Git LFS and submodules may lie elsewhere.
    let elsewhere = matches!(command.as_str(), "lfs" | "submodule")
        .then(|| another_server_in(said, &remote))
        .flatten();
    let url = elsewhere.as_ref().unwrap_or(&remote);
    let Some(target) = Target::from_url(url) else {
        return Ok(());
    };
    let asked = match (command.as_str(), &elsewhere) {
        (_, Some(_)) => Asked::Elsewhere,
        ("lfs", None) => Asked::Lfs,
        _ => Asked::Git,
    };
    let pair = sources.tls_client_pair.as_ref();
    let given = TlsOptions {
        ca_file: sources.tls_ca_file.as_deref(),
        cert_file: pair.map(|(certificate, _)| certificate.as_str()),
        key_file: pair.map(|(_, key)| key.as_str()),
    };
    let trust = trust(given, &environment.legs, asked);
    if let Some(fault) = look(&target, trust, environment).await {
        let place = format!("{}:{}", target.host(), target.port());
        output.log(&messages::tls_explanation(&place, &fault.to_string()))?;
    }
    Ok(())
}

/// Which connection has failed.
#[derive(Clone, Copy)]
enum Asked {
    /// Git's, to the server of the sources.
    Git,
    /// git-lfs', to the same.
    Lfs,
    /// To wherever that server says the objects of git-lfs lie, or to the server of a submodule.
    Elsewhere,
}

/// The trust that Git was given. git-lfs adds the file to the system's roots, Git puts it in their place. The client
/// certificate is for the server of the sources; another one is not shown who we are.
fn trust(given: TlsOptions<'_>, legs: &Legs, asked: Asked) -> TrustSettings {
    match asked {
        Asked::Git => legs.git(given),
        Asked::Lfs => legs.transfers(given),
        Asked::Elsewhere => legs.transfers(TlsOptions {
            cert_file: None,
            key_file: None,
            ..given
        }),
    }
}

async fn look(
    target: &Target,
    trust: TrustSettings,
    environment: &HelperEnvironment,
) -> Option<Fault> {
    let client = Client::new(ClientSettings {
        trust,
        proxy: environment.proxy.clone(),
        user_agent: environment.user_agent.clone(),
        connection_max_age: Duration::ZERO,
    });
    let looking = client.inspect(target, Route::AsCalls);
    let inspection = tokio::time::timeout(LOOK_TIMEOUT, looking).await.ok()?;
    let inspection = inspection.ok()?;
    let fault = inspection.outcome.err()?;
    if inspection.proxy.is_none() {
        return Some(fault);
    }
    Some(match client.issuer_past_proxy(target).await {
        Some(issuer) => fault.with_direct_issuer(issuer),
        None => fault,
    })
}

/// The other server that the complaint is of.
fn another_server_in(said: &str, remote: &Url) -> Option<Url> {
    let complaints = said
        .lines()
        .filter(|line| COMPLAINTS.iter().any(|words| line.contains(words)));
    complaints
        .flat_map(|line| line.match_indices("https://").map(|(at, _)| &line[at..]))
        .filter_map(|rest| {
            let end = rest.find(|c: char| c.is_whitespace() || "\"'<>".contains(c));
            Url::parse(&rest[..end.unwrap_or(rest.len())]).ok()
        })
        .find(|url| {
            url.host_str() != remote.host_str()
                || url.port_or_known_default() != remote.port_or_known_default()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_storage_is_found_in_what_git_lfs_says() {
        let remote = Url::parse("https://gitlab.example/g/p.git").expect("a URL");
        let said = "Downloading LFS objects: 0% (0/1)\n\
            LFS: Get \"https://s3.example:9000/b/o?X-Amz-Signature=1\": tls: failed to verify certificate: x509: \
            certificate signed by unknown authority\n\
            error: failed to fetch some objects from 'https://gitlab.example/g/p.git/info/lfs'";
        let found = another_server_in(said, &remote).expect("a URL");
        assert_eq!(found.host_str(), Some("s3.example"));
        assert_eq!(found.port(), Some(9000));
        assert_eq!(
            another_server_in("LFS: https://gitlab.example/x: x509: no", &remote),
            None
        );
    }

    #[test]
    fn storage_elsewhere_is_looked_at_without_the_client_certificate() {
        let legs = Legs::only(None, "/work".into());
        let given = TlsOptions {
            ca_file: Some("ca"),
            cert_file: Some("crt"),
            key_file: Some("key"),
        };
        for (asked, shown) in [
            (Asked::Git, true),
            (Asked::Lfs, true),
            (Asked::Elsewhere, false),
        ] {
            let trust = trust(given, &legs, asked);
            assert_eq!(trust.ca_file, Some("/work/ca".into()));
            assert_eq!(trust.cert_file.is_some(), shown);
            assert_eq!(trust.key_file.is_some(), shown);
        }
    }
}
