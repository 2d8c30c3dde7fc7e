//! A server on loopback with whatever fault is wanted, for `courser trust rehearse`.
//!
//! Unlike [`Listener`](crate::Listener) it shows certificates as they are: expired, incomplete, of the wrong name. It
//! answers each request with a line of text and knows nothing else.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::tls;

/// A connection that takes longer is dropped.
const PATIENCE: Duration = Duration::from_secs(20);
/// After an accept that failed for lack of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest head of a request that is read.
const LONGEST_HEAD: usize = 16 * 1024;
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\nConnection: close\r\n\r\nrehearsal\n";

/// What a played server shows.
#[derive(Default)]
pub struct Part {
    /// Chain and key, PEM; `None` speaks plain HTTP.
    pub tls: Option<PlayedTls>,
    /// Whether it is a proxy that answers `CONNECT` itself instead of connecting.
    pub intercepts: bool,
}

/// Certificates of a played server, PEM.
pub struct PlayedTls {
    /// What it sends, leaf first.
    pub chain_pem: String,
    /// The leaf's key.
    pub key_pem: secrecy::SecretString,
    /// Demands client certificates that this CA issued.
    pub client_ca_pem: Option<String>,
}

/// A running one; it ends when dropped.
pub struct PlayedServer {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

#[derive(Debug)]
struct AsItIs(Arc<CertifiedKey>);

impl ResolvesServerCert for AsItIs {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl PlayedServer {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    ///
    /// When no port is free, or the PEM text is none.
    pub async fn start(part: Part) -> io::Result<Self> {
        let acceptor = part.tls.map(acceptor).transpose()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    let acceptor = acceptor.clone();
                    let answering = answer(stream, acceptor, part.intercepts);
                    // A client that refuses us is what this is for.
                    connections.spawn(async move {
                        drop(tokio::time::timeout(PATIENCE, answering).await);
                    });
                } else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            _serving: serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn acceptor(part: PlayedTls) -> io::Result<TlsAcceptor> {
    use secrecy::ExposeSecret as _;

    let broken = |what: &str, error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {error}"))
    };
    let chain = CertificateDer::pem_slice_iter(part.chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| broken("the played chain", &error))?;
    let key = PrivateKeyDer::from_pem_slice(part.key_pem.expose_secret().as_bytes())
        .map_err(|error| broken("the played key", &error))?;
    let provider = courser_trust::crypto_provider();
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| broken("the played key", &error))?;
    let clients = part.client_ca_pem.map(|pem| {
        let ca = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| broken("the CA of clients", &error))?;
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(ca)
            .map_err(|error| broken("the CA of clients", &error))?;
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| broken("the CA of clients", &error))
    });
    let resolver = Arc::new(AsItIs(Arc::new(CertifiedKey::new(chain, key))));
    let config = tls::server_config(resolver, clients.transpose()?)
        .map_err(|error| broken("TLS", &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn answer(
    mut stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    intercepts: bool,
) -> io::Result<()> {
    if intercepts {
        read_head(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
    }
    match acceptor {
        Some(acceptor) => greet(acceptor.accept(stream).await?).await,
        None => greet(stream).await,
    }
}

async fn greet(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    read_head(&mut stream).await?;
    stream.write_all(ANSWER.as_bytes()).await?;
    stream.shutdown().await
}

/// Reads to the empty line. What is no request is answered all the same.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while head.len() < LONGEST_HEAD && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = stream.read(&mut piece).await?;
        // A TLS handshake at a port without TLS has no empty line.
        if length == 0 || piece[0] == 0x16 {
            return Ok(());
        }
        head.extend_from_slice(&piece[..length]);
    }
    Ok(())
}
