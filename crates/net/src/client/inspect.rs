//! A look at a server: one handshake, with everything that it shows and the verdict on it.
//!
//! The same connections, trust, proxies and client certificate as calls have. Nothing but the handshake is ever sent,
//! so a look at a server that is not trusted gives nothing away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use courser_trust::{Certificate, VerifiedChains};
use http::Uri;
use rustls::ClientConnection;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;
use url::Url;

use super::connect::Stream;
use super::generation::Generations;
use super::{Client, without_brackets};
use crate::fault::{Endpoint, Fault};
use crate::tls::{Asked, Observer};

/// Longest handshake. The connection below it has the limits of calls.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The look past a proxy, which a firewall may swallow.
const PAST_PROXY_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a TLS 1.3 server that asked for a client certificate may take to refuse it: it does so after the handshake.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// What is looked at: a host and a port that should speak TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    protocols: &'static [&'static str],
}

/// Which way a look goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// As calls go: through a proxy where the environment names one for this host.
    AsCalls,
    /// Past any proxy.
    Direct,
}

/// What became of the request for a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificate {
    /// The server did not ask for one.
    NotAsked,
    /// It asked and none is configured.
    NotOffered,
    /// It asked and got this one, leaf first.
    Offered(CertificateDer<'static>),
}

/// What a look at a server gave.
#[derive(Debug)]
pub struct Inspection {
    /// Name or address that was called, IPv6 without brackets.
    pub host: String,
    /// Port that was called.
    pub port: u16,
    /// The proxy on the way, without credentials.
    pub proxy: Option<String>,
    /// Address that answered; unknown behind a proxy.
    pub address: Option<SocketAddr>,
    /// `TLS 1.3`; also when the certificates were refused.
    pub protocol: Option<&'static str>,
    /// `TLS13_AES_128_GCM_SHA256`.
    pub cipher_suite: Option<String>,
    /// The application protocol that the server chose.
    pub application_protocol: Option<String>,
    /// What the server sent, leaf first; also when it was refused.
    pub received: Vec<CertificateDer<'static>>,
    /// Whether a client certificate was asked for and offered.
    pub client_certificate: ClientCertificate,
    /// Until the way to the server stood: TCP, and the tunnel of a proxy.
    pub connected_after: Duration,
    /// The handshake alone.
    pub handshake: Duration,
    /// The verdict.
    pub outcome: Result<Arc<VerifiedChains>, Fault>,
}

impl Target {
    /// From an `https://` or `tls://` URL; `tls://` (Gitaly) needs a port. `None` for anything else.
    pub fn from_url(url: &Url) -> Option<Self> {
        let port = match url.scheme() {
            "https" => url.port_or_known_default()?,
            "tls" => url.port()?,
            _ => return None,
        };
        // Parsed again: only the host of an https URL is known as name or address.
        let host = url.host_str().filter(|host| !host.is_empty())?;
        let protocols: &[_] = if url.scheme() == "tls" {
            &["h2", "http/1.1"]
        } else {
            &["http/1.1"]
        };
        Some(Self {
            url: Url::parse(&format!("https://{host}:{port}/")).ok()?,
            protocols,
        })
    }

    /// Name or address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        without_brackets(self.url.host_str().unwrap_or_default())
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(443)
    }
}

impl Client {
    /// Looks at a server with this client's trust and identity.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up here at all. Everything that goes wrong with the server is in the inspection.
    pub async fn inspect(&self, target: &Target, route: Route) -> Result<Inspection, Fault> {
        let host = target.host().to_owned();
        let generation = Generations::current(&self.inner.generations, host.clone())
            .await
            .map_err(Fault::plain)?;
        let connector = generation.connector();
        let proxy = match route {
            Route::AsCalls => self.inner.proxies.proxy_for(&target.url),
            Route::Direct => None,
        };
        let endpoint = Endpoint {
            host,
            port: target.port(),
            proxy: proxy.map(ToString::to_string),
        };
        let mut inspection = Inspection::new(&endpoint);
        let uri = Uri::try_from(target.url.as_str())
            .map_err(|error| Fault::plain(format!("{}: {error}", target.url)))?;
        let started = Instant::now();
        let opened = match proxy {
            None => connector.dial(uri).await.map(|tcp| {
                inspection.address = tcp.peer_addr().ok();
                Box::new(tcp) as Box<dyn Stream>
            }),
            Some(proxy) => {
                let opened = connector.dial_through(proxy, &uri, true).await;
                opened.map(|(stream, _)| stream)
            }
        };
        inspection.connected_after = started.elapsed();
        let io = match opened {
            Ok(io) => io,
            Err(error) => {
                inspection.outcome = Err(error.into_fault());
                return Ok(inspection);
            }
        };
        let observer = connector.tls().observer(target.protocols);
        inspection.shake_hands(io, &observer, &endpoint).await;
        Ok(inspection)
    }
}

impl Client {
    /// Who issued the certificate that a server shows past the proxy; `None` when it cannot be seen from here. Another
    /// issuer than through the proxy means that the proxy replaces certificates.
    pub async fn issuer_past_proxy(&self, target: &Target) -> Option<String> {
        let looking = self.inspect(target, Route::Direct);
        let past = tokio::time::timeout(PAST_PROXY_TIMEOUT, looking).await;
        let leaf = past.ok()?.ok()?.received.into_iter().next()?;
        let leaf = Certificate::parse(&leaf).ok()?;
        Some(leaf.issuer().to_string())
    }
}

impl Inspection {
    fn new(endpoint: &Endpoint) -> Self {
        Self {
            host: endpoint.host.clone(),
            port: endpoint.port,
            proxy: endpoint.proxy.clone(),
            address: None,
            protocol: None,
            cipher_suite: None,
            application_protocol: None,
            received: Vec::new(),
            client_certificate: ClientCertificate::NotAsked,
            connected_after: Duration::ZERO,
            handshake: Duration::ZERO,
            outcome: Err(Fault::plain("no handshake was made")),
        }
    }

    /// Fills in what the handshake shows.
    async fn shake_hands(
        &mut self,
        mut io: Box<dyn Stream>,
        observer: &Observer,
        endpoint: &Endpoint,
    ) {
        let started = Instant::now();
        let connection = ServerName::try_from(endpoint.host.clone())
            .map_err(|_| {
                format!(
                    "{:?} is not a name that a certificate could be for",
                    endpoint.host
                )
            })
            .and_then(|name| {
                ClientConnection::new(observer.config(), name).map_err(|error| error.to_string())
            });
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(message) => {
                self.outcome = Err(Fault::plain(message));
                return;
            }
        };
        let outcome =
            tokio::time::timeout(HANDSHAKE_TIMEOUT, drive(&mut connection, &mut io)).await;
        self.handshake = started.elapsed();
        self.protocol = connection.protocol_version().map(|version| match version {
            rustls::ProtocolVersion::TLSv1_2 => "TLS 1.2",
            rustls::ProtocolVersion::TLSv1_3 => "TLS 1.3",
            _ => "another version of TLS",
        });
        self.cipher_suite = connection
            .negotiated_cipher_suite()
            .map(|suite| format!("{:?}", suite.suite()));
        self.application_protocol = connection
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned());
        self.received = observer.received();
        self.client_certificate = match observer.asked() {
            Asked::No => ClientCertificate::NotAsked,
            Asked::WithoutAnswer => ClientCertificate::NotOffered,
            Asked::Answered(own) => ClientCertificate::Offered(own),
        };
        let refusal = match outcome {
            Ok(Ok(())) => self.late_refusal(&mut connection, &mut io).await,
            Ok(Err(error)) => Some(error),
            Err(_) => {
                self.outcome = Err(Fault::plain("net/http: TLS handshake timeout"));
                return;
            }
        };
        self.outcome = match refusal {
            None => observer
                .verdict(&endpoint.host)
                .ok_or_else(|| Fault::plain("the verified chain is not on record")),
            Some(error) => Err(self.fault_of(observer.fault(&error, endpoint))),
        };
        connection.send_close_notify();
        let mut goodbye = Vec::new();
        if connection.write_tls(&mut goodbye).is_ok() {
            // The peer may be gone; there is nothing more to learn from it.
            io.write_all(&goodbye).await.ok();
        }
    }

    /// In TLS 1.2 a server that gets no certificate may say no more than that the handshake has failed.
    fn fault_of(&self, fault: Fault) -> Fault {
        let unanswered = self.client_certificate == ClientCertificate::NotOffered;
        if unanswered && fault.help() == Some("no-common-cipher") {
            Fault::client_certificate_demanded(&self.host, fault.summary())
        } else {
            fault
        }
    }

    /// In TLS 1.3 the client has finished before the server judges its certificate.
    async fn late_refusal(
        &self,
        connection: &mut ClientConnection,
        io: &mut Box<dyn Stream>,
    ) -> Option<std::io::Error> {
        let is_late = self.client_certificate != ClientCertificate::NotAsked
            && self.protocol == Some("TLS 1.3");
        if !is_late {
            return None;
        }
        let reading = read_once(connection, io);
        match tokio::time::timeout(REFUSAL_TIMEOUT, reading).await {
            // A session ticket: the server is content.
            Ok(Ok(())) | Err(_) => None,
            Ok(Err(error)) => Some(error),
        }
    }
}

/// Goes on until the handshake is done or has failed.
async fn drive<S>(connection: &mut ClientConnection, io: &mut S) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        write_pending(connection, io).await?;
        if !connection.is_handshaking() {
            return Ok(());
        }
        if let Err(error) = read_once(connection, io).await {
            // Our alert tells the server why; the error is the news, not whether the alert arrives.
            write_pending(connection, io).await.ok();
            return Err(error);
        }
    }
}

async fn write_pending<S>(connection: &mut ClientConnection, io: &mut S) -> std::io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    while connection.wants_write() {
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes)?;
        io.write_all(&bytes).await?;
    }
    io.flush().await
}

async fn read_once<S>(connection: &mut ClientConnection, io: &mut S) -> std::io::Result<()>
where
    S: AsyncRead + Unpin,
{
    let mut buffer = vec![0; 16 * 1024];
    let length = io.read(&mut buffer).await?;
    if length == 0 {
        return Err(std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            "EOF: the server closed the connection during the handshake",
        ));
    }
    let mut rest = &buffer[..length];
    while !rest.is_empty() {
        connection.read_tls(&mut rest)?;
        connection
            .process_new_packets()
            .map_err(std::io::Error::other)?;
    }
    Ok(())
}
