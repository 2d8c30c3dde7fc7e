//! The only place that makes TLS configurations.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use courser_trust::{
    Certificate, PeerName, ServerVerifier, Store, VerifiedChains, crypto_provider,
    find_verify_error,
};
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ResolvesServerCert;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fault::{Endpoint, Fault};
use crate::inventory;

/// HTTP/2 is not spoken: upstream does not, and the runner API gains nothing from it.
const PROTOCOL: &[u8] = b"http/1.1";

/// TLS of one trust generation, for clients.
#[derive(Clone)]
pub(crate) struct ClientTls {
    config: Arc<ClientConfig>,
    verifier: Arc<ServerVerifier>,
    /// Our own certificate, for texts about its refusal.
    identity: Option<Arc<Certificate>>,
}

/// What is known of the peer of a connection.
#[derive(Debug, Clone)]
pub(crate) struct VerifiedPeer {
    /// The chains that it was accepted with.
    pub(crate) chains: Arc<VerifiedChains>,
}

impl ClientTls {
    pub(crate) fn new(
        store: Arc<Store>,
        identity: Option<Arc<CertifiedKey>>,
        now: fn() -> Timestamp,
    ) -> Result<Self, rustls::Error> {
        let verifier = Arc::new(ServerVerifier::new(store, Arc::new(now)));
        let own = identity
            .as_ref()
            .and_then(|pair| Certificate::parse(pair.cert.first()?).ok());
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
            identity: own.map(Arc::new),
        })
    }

    /// A failure's text, if TLS was it.
    pub(crate) fn fault(
        &self,
        error: &(dyn std::error::Error + 'static),
        endpoint: &Endpoint,
    ) -> Option<Fault> {
        Fault::of_tls(error, endpoint, self.identity.as_deref())
    }

    /// The same trust and identity, with a record of what the server shows and wants, for one handshake.
    pub(crate) fn observer(&self, protocols: &[&str]) -> Observer {
        let seen = Arc::new(Seen {
            verifier: Arc::clone(&self.verifier),
            identity: Arc::clone(&self.config.client_auth_cert_resolver),
            received: Mutex::default(),
            asked: Mutex::new(Asked::No),
        });
        let mut config = ClientConfig::clone(&self.config);
        config
            .dangerous()
            .set_certificate_verifier(Arc::clone(&seen) as _);
        config.client_auth_cert_resolver = Arc::clone(&seen) as _;
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Observer {
            config: Arc::new(config),
            seen,
            tls: self.clone(),
        }
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
        let host = name.to_str().into_owned();
        let stream = connector.connect(name, io).await.inspect_err(|error| {
            if find_verify_error(error).is_some() {
                inventory::refused();
            }
        })?;
        let leaf = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        let chains = leaf.and_then(|leaf| self.verifier.verified_chains(&peer_name, leaf));
        let chains =
            chains.ok_or_else(|| io::Error::other("the verified chain is not on record"))?;
        inventory::accepted(&host, &chains);
        Ok((stream, VerifiedPeer { chains }))
    }
}

/// Whether the server asked for a client certificate.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    No,
    /// None was at hand.
    WithoutAnswer,
    /// This one was handed over.
    Answered(CertificateDer<'static>),
}

/// One handshake under observation. The verdict is the same as without.
pub(crate) struct Observer {
    config: Arc<ClientConfig>,
    seen: Arc<Seen>,
    tls: ClientTls,
}

/// Stands before the verifier and the identity, and writes down what passes.
#[derive(Debug)]
struct Seen {
    verifier: Arc<ServerVerifier>,
    identity: Arc<dyn ResolvesClientCert>,
    received: Mutex<Vec<CertificateDer<'static>>>,
    asked: Mutex<Asked>,
}

impl Observer {
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// What the server sent, leaf first.
    pub(crate) fn received(&self) -> Vec<CertificateDer<'static>> {
        locked(&self.seen.received).clone()
    }

    pub(crate) fn asked(&self) -> Asked {
        locked(&self.seen.asked).clone()
    }

    /// The chains with which the server was accepted.
    pub(crate) fn verdict(&self, host: &str) -> Option<Arc<VerifiedChains>> {
        let received = locked(&self.seen.received);
        let verifier = &self.seen.verifier;
        verifier.verified_chains(&PeerName::from_host(host), received.first()?)
    }

    /// A failure's text.
    pub(crate) fn fault(&self, error: &io::Error, endpoint: &Endpoint) -> Fault {
        let fault = self.tls.fault(error, endpoint);
        fault.unwrap_or_else(|| Fault::plain(error.to_string()))
    }
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *locked(&self.received) = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        self.verifier
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

impl ResolvesClientCert for Seen {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let own = self.identity.resolve(root_hint_subjects, sigschemes);
        let certificate = own.as_ref().and_then(|pair| pair.cert.first());
        *locked(&self.asked) = match certificate {
            Some(certificate) => Asked::Answered(certificate.clone()),
            None => Asked::WithoutAnswer,
        };
        own
    }

    fn has_certs(&self) -> bool {
        // Otherwise rustls would not ask, and nobody would know that the server did.
        true
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Configuration of a listener, with the verifier of clients that have to show a certificate.
pub(crate) fn server_config(
    certificate: Arc<dyn ResolvesServerCert>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, rustls::Error> {
    let config = ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?;
    let config = match clients {
        Some(verifier) => config.with_client_cert_verifier(verifier),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(certificate);
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

/// Stands for the name of the key's file in texts of [`certified_key`], which sees bytes only.
const KEY_FILE: &str = "<key file>";

/// An error of [`certified_key`] with the file's name.
pub(crate) fn with_key_file(error: &str, key: &Path) -> String {
    error.replace(KEY_FILE, &key.display().to_string())
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
            format!(
                "the key is encrypted; write it without a passphrase: openssl pkey -in {KEY_FILE} -out {KEY_FILE}.plain && \
                 mv {KEY_FILE}.plain {KEY_FILE}"
            )
        } else {
            format!("the key file holds no private key in PEM form: {error}")
        }
    })?;
    CertifiedKey::from_der(chain, key, &crypto_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "the private key is not the certificate's; name the key with which the certificate was requested".to_owned()
        }
        other => format!("certificate and key cannot be used: {other}"),
    })
}

fn is_encrypted(key_pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(key_pem);
    text.contains("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
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
}
