//! The verifier of client certificates as rustls wants it, for listeners.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::error::{Reason, VerifyError};
use crate::server_verifier::Clock;
use crate::signature;
use crate::store::Store;
use crate::verify::{Usage, verify};

/// Verifies clients against one generation of trusted certificates. A certificate is demanded of every client.
///
/// As with servers, a new generation means a new verifier. A refused client gets the alert that Go's server sends.
pub struct ClientVerifier {
    store: Arc<Store>,
    clock: Clock,
    refused: fn(VerifyError),
    hints: Vec<DistinguishedName>,
}

/// Names of authorities that a client is shown, to choose its certificate by. With more, none are: they count against
/// the size of the handshake.
const HINTS: usize = 64;

impl ClientVerifier {
    /// A verifier over one store. `refused` hears why, on the thread of the handshake, since rustls passes on the alert
    /// alone.
    pub fn new(store: Arc<Store>, clock: Clock, refused: fn(VerifyError)) -> Self {
        let anchors = store.certificates();
        let hints = if anchors.len() > HINTS {
            Vec::new()
        } else {
            let subjects = anchors
                .iter()
                .map(|anchor| DistinguishedName::from(anchor.certificate().subject_der().to_vec()));
            subjects.collect()
        };
        Self {
            store,
            clock,
            refused,
            hints,
        }
    }
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientVerifier")
            .field("generation", &self.store.generation())
            .field("certificates", &self.store.certificates().len())
            .finish_non_exhaustive()
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let now = (self.clock)();
        verify(
            end_entity,
            intermediates,
            &self.store,
            None,
            now,
            Usage::ClientAuth,
        )
        .map(|_| ClientCertVerified::assertion())
        .map_err(|error| {
            let alert = match error.reason() {
                Reason::UnknownAuthority { .. } => CertificateError::UnknownIssuer,
                Reason::OutsideValidity(_) => CertificateError::Expired,
                _ => CertificateError::BadEncoding,
            };
            (self.refused)(error);
            rustls::Error::InvalidCertificate(alert)
        })
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
