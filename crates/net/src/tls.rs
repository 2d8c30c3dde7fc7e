//! The only place that makes TLS configurations, and the words for what goes wrong with them.

use std::error::Error;
use std::io;
use std::sync::Arc;

use courser_trust::{PeerName, ServerVerifier, Store, crypto_provider, find_verify_error};
use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::failure;

/// HTTP/2 is not spoken: upstream does not, and the runner API gains nothing from it.
const PROTOCOL: &[u8] = b"http/1.1";

/// TLS of one trust generation, for clients.
#[derive(Clone)]
pub(crate) struct ClientTls {
    config: Arc<ClientConfig>,
    verifier: Arc<ServerVerifier>,
}

/// What is known of the peer of a connection.
#[derive(Debug, Clone)]
pub(crate) struct VerifiedPeer {
    /// PEM of its verified chains, the text of `CI_SERVER_TLS_CA_FILE`.
    pub(crate) chain_pem: Arc<str>,
}

impl ClientTls {
    pub(crate) fn new(
        store: Arc<Store>,
        identity: Option<Arc<CertifiedKey>>,
        now: fn() -> Timestamp,
    ) -> Result<Self, rustls::Error> {
        let verifier = Arc::new(ServerVerifier::new(store, Arc::new(now)));
        let config = ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _);
        let mut config = match identity {
            Some(pair) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // A resumed session would skip the verifier, and with it the record of the chain.
        config.resumption = Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
            verifier,
        })
    }

    /// The handshake, and what the verifier found.
    pub(crate) async fn connect<S>(
        &self,
        name: ServerName<'static>,
        io: S,
    ) -> io::Result<(TlsStream<S>, VerifiedPeer)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let peer_name = PeerName::from_host(&name.to_str());
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(name, io).await?;
        let leaf = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        let chains = leaf.and_then(|leaf| self.verifier.verified_chains(&peer_name, leaf));
        let chains =
            chains.ok_or_else(|| io::Error::other("the verified chain is not on record"))?;
        let chain_pem = chains.to_pem().into();
        Ok((stream, VerifiedPeer { chain_pem }))
    }
}

/// Configuration of a listener.
pub(crate) fn server_config(
    certificate: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

/// Reads a chain and its key; the key must be the leaf's.
pub(crate) fn certified_key(chain_pem: &[u8], key_pem: &[u8]) -> Result<CertifiedKey, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the certificate file is damaged: {error}"))?;
    if chain.is_empty() {
        return Err("the certificate file holds no CERTIFICATE block in PEM form".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| {
        if is_encrypted(key_pem) {
            "the key is encrypted; write it without a passphrase: openssl pkey -in KEY -out PLAIN"
                .to_owned()
        } else {
            format!("the key file holds no private key in PEM form: {error}")
        }
    })?;
    CertifiedKey::from_der(chain, key, &crypto_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the private key is not the certificate's".to_owned(),
        other => format!("certificate and key cannot be used: {other}"),
    })
}

fn is_encrypted(key_pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(key_pem);
    text.contains("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// The words for a TLS failure, if that is what the error is, in Go's form: `runner-tls.md` 2.7. The port is
/// that of commands which the text proposes.
pub(crate) fn describe(error: &(dyn Error + 'static), port: u16) -> Option<String> {
    if let Some(refused) = find_verify_error(error) {
        return Some(format!(
            "tls: failed to verify certificate: {}",
            refused.clone().with_port(port).explain()
        ));
    }
    let error = failure::layers(error).find_map(|layer| layer.downcast_ref::<rustls::Error>())?;
    Some(match error {
        rustls::Error::InvalidCertificate(error) => {
            format!("tls: failed to verify certificate: x509: {error}")
        }
        rustls::Error::AlertReceived(alert) => {
            format!("remote error: tls: {}", words(&format!("{alert:?}")))
        }
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        rustls::Error::PeerIncompatible(why) => format!(
            "tls: the server shares no way of talking ({why:?}); TLS 1.2 with ECDHE and an AEAD \
             cipher, or TLS 1.3, is needed"
        ),
        other => format!("tls: {other}"),
    })
}

/// `BadCertificate` → `bad certificate`.
fn words(name: &str) -> String {
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
    use courser_testkit::pki::Authority;

    use super::*;

    #[test]
    fn a_pair_is_checked_before_use() {
        let root = Authority::root("root").issue();
        let one = root.server(&["one.test"]).issue();
        let two = root.server(&["two.test"]).issue();
        let (chain, key) = (one.chain_pem(), one.key_pem());
        assert!(certified_key(chain.as_bytes(), key.as_bytes()).is_ok());
        let table = [
            (chain.as_str(), two.key_pem(), "not the certificate's"),
            ("", key, "no CERTIFICATE block"),
            (chain.as_str(), String::new(), "no private key"),
            (
                chain.as_str(),
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
                    .to_owned(),
                "is encrypted",
            ),
        ];
        for (chain, key, expected) in table {
            let error = certified_key(chain.as_bytes(), key.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn alerts_are_told_in_words() {
        let error = io::Error::other(rustls::Error::AlertReceived(
            rustls::AlertDescription::BadCertificate,
        ));
        assert_eq!(
            describe(&error, 443).as_deref(),
            Some("remote error: tls: bad certificate")
        );
        assert_eq!(describe(&io::Error::other("else"), 443), None);
    }
}
