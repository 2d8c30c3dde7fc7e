//! The verifier as rustls wants it, and the way back from a failed connection to its [`VerifyError`].

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::certificate::Fingerprint;
use crate::error::VerifyError;
use crate::host_name::PeerName;
use crate::moment::Moment;
use crate::signature;
use crate::store::Store;
use crate::verify::{Usage, VerifiedChains, verify_at};

/// Tells the time; a value, so that tests can turn the clock.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// How many verdicts are remembered for [`ServerVerifier::verified_chains`].
const REMEMBERED: usize = 64;

/// Verifies servers against one generation of trusted certificates.
///
/// A new generation means a new verifier (and client): sessions that are resumed skip this check, so roots are never
/// exchanged inside a living one.
pub struct ServerVerifier {
    store: Arc<Store>,
    clock: Clock,
    port: u16,
    verified: Mutex<VecDeque<(PeerName, Fingerprint, Arc<VerifiedChains>)>>,
}

impl ServerVerifier {
    /// A verifier over one store.
    pub fn new(store: Arc<Store>, clock: Clock) -> Self {
        Self {
            store,
            clock,
            port: 443,
            verified: Mutex::default(),
        }
    }

    /// Names the port in the commands that errors propose; 443 otherwise.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The trusted certificates.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The chains with which a server was last accepted; `leaf` is the first of the connection's peer certificates.
    ///
    /// The last 64 (name, leaf) pairs are remembered.
    pub fn verified_chains(
        &self,
        name: &PeerName,
        leaf: &CertificateDer<'_>,
    ) -> Option<Arc<VerifiedChains>> {
        let fingerprint = Fingerprint::of(leaf);
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = verified.iter();
        entries
            .find(|(known, leaf, _)| known == name && *leaf == fingerprint)
            .map(|(_, _, chains)| Arc::clone(chains))
    }

    fn remember(&self, name: PeerName, chains: VerifiedChains) {
        let fingerprint = chains.leaf().fingerprint();
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.retain(|(known, leaf, _)| *known != name || *leaf != fingerprint);
        verified.truncate(REMEMBERED - 1);
        verified.push_front((name, fingerprint, Arc::new(chains)));
    }
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerVerifier")
            .field("generation", &self.store.generation())
            .field("certificates", &self.store.certificates().len())
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = peer_name(server_name)?;
        let now = Moment::from((self.clock)());
        let chains = verify_at(
            end_entity,
            intermediates,
            &self.store,
            Some(&name),
            now,
            Usage::ServerAuth,
        )
        .map_err(|error| {
            let error = Arc::new(error.with_port(self.port));
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(error)))
        })?;
        self.remember(name, chains);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signature::check_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signature::check_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        signature::supported_schemes()
    }
}

fn peer_name(name: &ServerName<'_>) -> Result<PeerName, rustls::Error> {
    match name {
        ServerName::DnsName(name) => Ok(PeerName::Dns(name.as_ref().to_owned())),
        ServerName::IpAddress(address) => Ok(PeerName::Ip((*address).into())),
        _ => Err(rustls::Error::UnsupportedNameType),
    }
}

/// Finds the [`VerifyError`] inside whatever a failed connection gave: through `source`, `io::Error` and rustls.
pub fn find_verify_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a VerifyError> {
    // Far deeper than any real chain of causes; bounds a cyclic one.
    const DEPTH: usize = 64;
    let mut current = Some(error);
    for _ in 0..DEPTH {
        let error = current?;
        if let Some(found) = error.downcast_ref::<VerifyError>() {
            return Some(found);
        }
        if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) =
            error.downcast_ref::<rustls::Error>()
            && let Some(found) = other.0.downcast_ref::<VerifyError>()
        {
            return Some(found);
        }
        current = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
