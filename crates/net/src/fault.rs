//! Why a TLS connection did not come about: Go's sentence first, then the story, one remedy, and where to read on.

use std::error::Error;
use std::fmt;

use courser_trust::{Certificate, Remedy, VerifyError, find_verify_error, shell_word};
use rustls::{AlertDescription, InvalidMessage, PeerIncompatible};

use crate::client::failure::layers;
use crate::{CallError, Target};

/// What texts about a failure say of the connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Endpoint {
    /// Name or address, IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The proxy on the way, without credentials.
    pub(crate) proxy: Option<String>,
}

/// A connection that failed. `Display` is the whole text, as the runner's log and job logs have it.
#[derive(Debug, Clone)]
pub struct Fault {
    summary: String,
    remedy: Option<Remedy>,
    help: Option<&'static str>,
    refused: Option<Box<VerifyError>>,
    /// The proxy whose own TLS failed.
    proxy: Option<String>,
}

impl Fault {
    /// A fault without an explanation of its own: the network's.
    pub(crate) fn plain(summary: impl Into<String>) -> Self {
        Self {
            summary: summary.into(),
            remedy: None,
            help: None,
            refused: None,
            proxy: None,
        }
    }

    /// A fault that somebody can mend.
    pub(crate) fn mendable(summary: impl Into<String>, remedy: Remedy, help: &'static str) -> Self {
        Self {
            remedy: Some(remedy),
            help: Some(help),
            ..Self::plain(summary)
        }
    }

    /// A fault that was found elsewhere, with what to do about it.
    pub fn told(summary: impl Into<String>, remedy: Option<Remedy>) -> Self {
        Self {
            remedy,
            ..Self::plain(summary)
        }
    }

    /// A server that did not answer in time.
    pub fn timeout(target: &Target) -> Self {
        Self::plain(format!(
            "dial tcp {}:{}: i/o timeout",
            target.host(),
            target.port()
        ))
    }

    /// A call that got no answer.
    pub fn of_call(error: &CallError) -> Self {
        Self::plain(error.to_string())
    }

    /// The server let us know in its own way, which is the summary, that it misses a client certificate.
    pub fn client_certificate_demanded(host: &str, summary: impl Into<String>) -> Self {
        Self::mendable(
            summary,
            wants_client_certificate(host),
            "client-certificate-demanded",
        )
    }

    /// The TLS failure in an error, if there is one. `identity` is the client certificate that was at hand.
    pub(crate) fn of_tls(
        error: &(dyn Error + 'static),
        endpoint: &Endpoint,
        identity: Option<&Certificate>,
    ) -> Option<Self> {
        if let Some(refused) = find_verify_error(error) {
            let refused = refused
                .clone()
                .with_port(endpoint.port)
                .through_proxy(endpoint.proxy.clone());
            return Some(Self::refused_by_us(refused));
        }
        let error = layers(error).find_map(|layer| layer.downcast_ref::<rustls::Error>())?;
        Some(match error {
            rustls::Error::InvalidCertificate(error) => {
                Self::plain(format!("tls: failed to verify certificate: x509: {error}"))
            }
            rustls::Error::AlertReceived(alert) => of_alert(*alert, endpoint, identity),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::mendable(
                "tls: first record does not look like a TLS handshake",
                Remedy::advice(format!(
                    "{} does not speak TLS at port {}: write http:// if that is meant, or the port where it speaks TLS",
                    endpoint.host, endpoint.port
                ))
                .with_command(format!("curl -sv {}", endpoint.url("http"))),
                "plain-http-on-the-tls-port",
            ),
            rustls::Error::PeerIncompatible(why) => of_incompatible(why, endpoint),
            other => Self::plain(format!("tls: {other}")),
        })
    }

    /// The peer's certificates were refused.
    pub(crate) fn refused_by_us(refused: VerifyError) -> Self {
        Self {
            summary: format!("tls: failed to verify certificate: {refused}"),
            remedy: Some(refused.remedy()),
            help: Some(refused.help()),
            refused: Some(Box::new(refused)),
            proxy: None,
        }
    }

    /// The same with a remedy that fits the leg better. Verdicts keep theirs.
    pub(crate) fn with_remedy(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(remedy);
        self
    }

    /// The same, of the proxy on the way.
    pub(crate) fn of_proxy(mut self, proxy: &str) -> Self {
        self.proxy = Some(proxy.to_owned());
        self.summary = format!("proxy {proxy}: {}", self.summary);
        self
    }

    /// One line; for TLS Go's words, which people and monitoring search for.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The one thing to do about it.
    pub fn remedy(&self) -> Option<&Remedy> {
        self.remedy.as_ref()
    }

    /// Section of `docs/trust-errors.md`.
    pub fn help(&self) -> Option<&'static str> {
        self.help
    }

    /// The verdict, when it was the peer's certificates that were refused.
    pub fn refused(&self) -> Option<&VerifyError> {
        self.refused.as_deref()
    }

    /// Adds who issued what the server shows without the proxy, see [`VerifyError::with_direct_issuer`].
    #[must_use]
    pub fn with_direct_issuer(mut self, issuer: String) -> Self {
        if self.proxy.is_some() {
            return self;
        }
        match self.refused.take() {
            Some(refused) => Self::refused_by_us(refused.with_direct_issuer(issuer)),
            None => self,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(refused) = &self.refused {
            if let Some(proxy) = &self.proxy {
                write!(f, "proxy {proxy}: ")?;
            }
            return write!(
                f,
                "tls: failed to verify certificate: {}",
                refused.explain()
            );
        }
        f.write_str(&self.summary)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "\nremedy: {}", remedy.advice)?;
            if let Some(command) = &remedy.command {
                write!(f, "\n  $ {command}")?;
            }
        }
        match self.help {
            Some(help) => write!(f, "\nhelp: docs/trust-errors.md#{help}"),
            None => Ok(()),
        }
    }
}

impl Endpoint {
    /// `host:port`, as commands take it.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Its URL as a word of a command line: a host can have characters that a shell would act on.
    fn url(&self, scheme: &str) -> String {
        shell_word(&format!("{scheme}://{}", self.authority()))
    }
}

/// An alert of the server's. Which alert stands for a missing client certificate differs: TLS 1.3 has one of its own,
/// TLS 1.2 servers send `handshake_failure` (OpenSSL) or `bad_certificate` (Go).
fn of_alert(alert: AlertDescription, endpoint: &Endpoint, identity: Option<&Certificate>) -> Fault {
    let summary = format!("remote error: tls: {}", alert_words(alert));
    let host = &endpoint.host;
    let check = format!("courser trust check {}", endpoint.url("https"));
    let about_clients = matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    );
    match (alert, identity) {
        (AlertDescription::ProtocolVersion, _) => Fault::mendable(
            summary,
            Remedy::advice(format!(
                "{host} speaks neither TLS 1.2 nor TLS 1.3: switch TLS 1.2 on there"
            ))
            .with_command(format!(
                "openssl s_client -tls1_2 -connect {} </dev/null",
                shell_word(&endpoint.authority())
            )),
            "old-tls-version",
        ),
        (AlertDescription::HandshakeFailure, None) => Fault::mendable(
            summary,
            Remedy::advice(format!(
                "{host} wants a client certificate (name it in tls-cert-file and tls-key-file, or put it into the \
                 certs directory as {host}.auth.crt and {host}.auth.key), or shares no cipher: TLS 1.2 with ECDHE and \
                 an AEAD cipher, or TLS 1.3, is needed; this tells which"
            ))
            .with_command(check),
            "no-common-cipher",
        ),
        (_, None) if about_clients => Fault::mendable(
            summary,
            wants_client_certificate(host).with_command(check),
            "client-certificate-demanded",
        ),
        (_, Some(own)) if about_clients => Fault::mendable(
            summary,
            Remedy::advice(format!(
                "{host} refuses the client certificate {} of tls-cert-file, issued by {}, valid from {} to {}: have \
                 it renewed, by a CA that {host} trusts for clients",
                own.subject(),
                own.issuer(),
                own.not_before(),
                own.not_after()
            ))
            .with_command(check),
            "client-certificate-refused",
        ),
        (AlertDescription::UnrecognisedName, _) => Fault::mendable(
            summary,
            Remedy::advice(format!(
                "nothing is served for the name {host} at port {}: call the server by its own name",
                endpoint.port
            )),
            "wrong-name",
        ),
        _ => Fault::plain(summary),
    }
}

fn wants_client_certificate(host: &str) -> Remedy {
    Remedy::advice(format!(
        "{host} wants a client certificate: name it in tls-cert-file and its key in tls-key-file, or put them into the \
         certs directory as {host}.auth.crt and {host}.auth.key"
    ))
}

fn of_incompatible(why: &PeerIncompatible, endpoint: &Endpoint) -> Fault {
    let old = matches!(
        why,
        PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
    );
    let host = &endpoint.host;
    if old {
        return Fault::mendable(
            "tls: server selected unsupported protocol version",
            Remedy::advice(format!(
                "{host} speaks neither TLS 1.2 nor TLS 1.3: switch TLS 1.2 on there"
            ))
            .with_command(format!(
                "openssl s_client -tls1_2 -connect {} </dev/null",
                shell_word(&endpoint.authority())
            )),
            "old-tls-version",
        );
    }
    Fault::mendable(
        format!("tls: the server shares no way of talking ({why:?})"),
        Remedy::advice(format!(
            "allow TLS 1.2 with ECDHE and an AEAD cipher (GCM or ChaCha20), or TLS 1.3, at {host}"
        )),
        "no-common-cipher",
    )
}

/// Go's words for an alert: mostly its name in the RFC, `BadCertificate` → `bad certificate`.
fn alert_words(alert: AlertDescription) -> String {
    let other = match alert {
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::InsufficientSecurity => "insufficient security level",
        AlertDescription::BadRecordMac => "bad record MAC",
        AlertDescription::DecodeError => "error decoding message",
        AlertDescription::DecryptError => "error decrypting message",
        _ => "",
    };
    if !other.is_empty() {
        return other.to_owned();
    }
    let name = format!("{alert:?}");
    let mut words = String::new();
    let mut after_lower = false;
    for letter in name.chars() {
        if letter.is_uppercase() && after_lower {
            words.push(' ');
        }
        after_lower = letter.is_lowercase();
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint {
            host: "gitlab.example.com".to_owned(),
            port: 8443,
            proxy: None,
        }
    }

    #[test]
    fn alerts_are_told_in_words_with_what_to_do() {
        let alert = |alert| io::Error::other(rustls::Error::AlertReceived(alert));
        let table = [
            (
                AlertDescription::BadCertificate,
                "remote error: tls: bad certificate",
                "gitlab.example.com.auth.crt",
            ),
            (
                AlertDescription::CertificateRequired,
                "remote error: tls: certificate required",
                "tls-key-file",
            ),
            (
                AlertDescription::ProtocolVersion,
                "remote error: tls: protocol version not supported",
                "switch TLS 1.2 on",
            ),
        ];
        for (description, summary, remedy) in table {
            let fault = Fault::of_tls(&alert(description), &endpoint(), None).unwrap();
            assert_eq!(fault.summary(), summary);
            assert!(fault.to_string().contains(remedy), "{fault}");
        }
        assert!(Fault::of_tls(&io::Error::other("else"), &endpoint(), None).is_none());
    }
}
