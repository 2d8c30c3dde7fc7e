//! Real handshakes in memory: the rustls side of the verifier, and the way back from its errors.

use std::io;
use std::sync::Arc;

use courser_trust::{
    Certificate, PeerName, ServerVerifier, Store, crypto_provider, find_verify_error,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls::{SupportedProtocolVersion, version};

use crate::matrix::{HOST, store};
use courser_testkit::forge::*;

#[derive(Debug)]
struct Serves(Arc<CertifiedKey>);

impl ResolvesServerCert for Serves {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn verifier(store: Store) -> Arc<ServerVerifier> {
    Arc::new(ServerVerifier::new(Arc::new(store), Arc::new(now)).with_port(8443))
}

fn handshake(
    verifier: &Arc<ServerVerifier>,
    served: &[&Identity],
    version: &'static SupportedProtocolVersion,
) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, rustls::Error> {
    let provider = crypto_provider();
    let key = PrivateKeyDer::Pkcs8(served[0].key.serialize_der().into());
    let key = provider.key_provider.load_private_key(key)?;
    let chain = served.iter().map(|one| one.certificate.clone()).collect();
    let resolver = Serves(Arc::new(CertifiedKey::new(chain, key)));
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(HOST).expect("a name");
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("memory");
        server.read_tls(&mut wire.as_slice()).expect("memory");
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).expect("memory");
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).expect("memory");
            client.process_new_packets()?;
        }
    }
    let peer = client
        .peer_certificates()
        .expect("the server's certificates");
    Ok(peer.to_vec())
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

#[test]
fn verified_chains_can_be_had_after_the_handshake() {
    let root = ca("root").self_signed();
    let intermediate = ca("intermediate").issued_by(&root);
    let leaf = leaf(HOST).issued_by(&intermediate);
    for version in VERSIONS {
        let verifier = verifier(store(&[&root]));
        let peer = handshake(&verifier, &[&leaf, &intermediate], version).expect("trusted");
        let name = PeerName::from_host(HOST);
        let chains = verifier
            .verified_chains(&name, &peer[0])
            .expect("remembered");
        assert_eq!(chains.chains()[0].certificates().len(), 3);
        let expected = [&leaf, &intermediate, &root].map(|one| one.pem()).concat();
        assert_eq!(chains.to_pem(), expected.trim_end());
        let other = PeerName::from_host("other.example.com");
        assert!(verifier.verified_chains(&other, &peer[0]).is_none());
    }
}

#[test]
fn a_pinned_certificate_that_webpki_cannot_parse_completes_the_handshake() {
    let pinned = Draft {
        unique_ids: true,
        ..leaf(HOST).with(basic_constraints(true, None))
    }
    .self_signed();
    for version in VERSIONS {
        handshake(&verifier(store(&[&pinned])), &[&pinned], version).expect("pinned");
    }
}

#[test]
fn a_server_without_the_key_of_its_certificate_is_refused() {
    let certificate = leaf(HOST).self_signed();
    let webpki_cannot_parse = Draft {
        unique_ids: true,
        ..leaf(HOST)
    }
    .self_signed();
    for version in VERSIONS {
        for trusted in [&certificate, &webpki_cannot_parse] {
            let mut thief = leaf(HOST).self_signed();
            thief.certificate = trusted.certificate.clone();
            let result = handshake(&verifier(store(&[trusted])), &[&thief], version);
            assert!(
                matches!(result, Err(rustls::Error::InvalidCertificate(_))),
                "{result:?}"
            );
        }
    }
}

#[test]
fn the_explanation_is_found_behind_layers_of_other_errors() {
    let leaf = leaf(HOST).self_signed();
    let error = handshake(&verifier(store(&[])), &[&leaf], &version::TLS13).expect_err("untrusted");
    let layered = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
    let found = find_verify_error(&layered).expect("our error");
    assert_eq!(
        found.to_string(),
        "x509: certificate signed by unknown authority"
    );
    assert!(
        found
            .explain()
            .contains("courser trust pin gitlab.example.com:8443")
    );
    assert!(find_verify_error(&io::Error::other("something else")).is_none());
}

#[test]
fn only_the_latest_verdicts_are_remembered() {
    let root = ca("root").self_signed();
    let verifier = verifier(store(&[&root]));
    let leaves: Vec<Identity> = (0..65).map(|_| leaf(HOST).issued_by(&root)).collect();
    for leaf in &leaves {
        handshake(&verifier, &[leaf], &version::TLS13).expect("trusted");
    }
    let name = PeerName::from_host(HOST);
    let known = |one: &Identity| verifier.verified_chains(&name, &one.certificate).is_some();
    assert!(!known(&leaves[0]));
    assert!(leaves[1..].iter().all(known));
    assert!(Certificate::parse(&leaves[0].certificate).is_ok());
}
