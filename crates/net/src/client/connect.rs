//! Opening connections: TCP, through a proxy if need be, then TLS.
//!
//! A connector of our own and not reqwest's, because that one (0.13.5) has a single timeout over TCP
//! and TLS, and forgets the peer's certificate behind every proxy, which a job's CA chain is made of.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower::Service;
use url::Url;

use super::describe;
use super::failure::describe_handshake;
use crate::proxy::{Proxy, ProxyRules};
use crate::tls::{ClientTls, VerifiedPeer};

/// Go's dialer: name lookup and TCP.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the request to a proxy until its tunnel stands; Go's value.
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens connections of one trust generation.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: ClientTls,
    proxies: Arc<ProxyRules>,
}

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("dial tcp {address}: {message}")]
    Tcp { address: String, message: String },
    #[error("dial tcp {0}: i/o timeout")]
    TcpTimeout(String),
    #[error("{0:?} is not a name that a certificate could be for")]
    Name(String),
    #[error("net/http: TLS handshake timeout")]
    HandshakeTimeout,
    #[error("{}", describe_handshake(.error, *.port))]
    Handshake {
        #[source]
        error: io::Error,
        port: u16,
    },
    #[error("proxy {proxy}: {message}")]
    Proxy { proxy: String, message: String },
}

/// An open connection.
pub(super) struct Conn {
    io: TokioIo<Box<dyn Stream>>,
    forwarded: bool,
    peer: Option<VerifiedPeer>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Connector {
    pub(super) fn new(tls: ClientTls, proxies: Arc<ProxyRules>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEP_ALIVE));
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self { tcp, tls, proxies }
    }

    async fn connect(self, target: Uri) -> Result<Conn, ConnectError> {
        let url = Url::parse(&target.to_string()).ok();
        let proxy = url.as_ref().and_then(|url| self.proxies.proxy_for(url));
        let secure = target.scheme_str() == Some("https");
        let (io, forwarded) = match proxy {
            None => (
                Box::new(self.dial(target.clone()).await?) as Box<dyn Stream>,
                false,
            ),
            Some(proxy) => self.dial_through(proxy, &target, secure).await?,
        };
        if !secure {
            return Ok(Conn {
                io: TokioIo::new(io),
                forwarded,
                peer: None,
            });
        }
        let (io, peer) = self.handshake(io, &target).await?;
        Ok(Conn {
            io: TokioIo::new(io),
            forwarded: false,
            peer: Some(peer),
        })
    }

    async fn dial(&self, target: Uri) -> Result<TcpStream, ConnectError> {
        let address = target
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::debug!("Dialing: tcp {address} ...");
        let mut tcp = self.tcp.clone();
        match tokio::time::timeout(CONNECT_TIMEOUT, tcp.call(target)).await {
            Ok(Ok(stream)) => Ok(stream.into_inner()),
            Ok(Err(error)) => Err(ConnectError::Tcp {
                address,
                message: describe(&error),
            }),
            Err(_) => Err(ConnectError::TcpTimeout(address)),
        }
    }

    /// Through a proxy: a tunnel, or for plain HTTP a connection to the proxy itself (`true`).
    async fn dial_through(
        &self,
        proxy: &Proxy,
        target: &Uri,
        secure: bool,
    ) -> Result<(Box<dyn Stream>, bool), ConnectError> {
        let failed = |message: String| ConnectError::Proxy {
            proxy: proxy.to_string(),
            message,
        };
        let address = proxy.address().map_err(|error| failed(error.to_string()))?;
        let this = self.clone();
        let dialer = tower::service_fn(move |proxy: Uri| {
            let this = this.clone();
            async move {
                let stream = this.dial(proxy.clone()).await?;
                if proxy.scheme_str() != Some("https") {
                    return Ok(TokioIo::new(Box::new(stream) as Box<dyn Stream>));
                }
                let (stream, _) = this.handshake(stream, &proxy).await?;
                Ok::<_, ConnectError>(TokioIo::new(stream))
            }
        });
        let opening = async {
            match proxy.scheme() {
                "http" | "https" if !secure => {
                    let mut dialer = dialer;
                    let stream = dialer.call(address).await;
                    Ok((stream.map_err(|e| failed(e.to_string()))?, true))
                }
                "http" | "https" => {
                    let mut tunnel = Tunnel::new(address, dialer);
                    if let Some(authorization) = proxy.authorization() {
                        tunnel = tunnel.with_auth(authorization);
                    }
                    let stream = tunnel.call(target.clone()).await;
                    Ok((stream.map_err(|e| failed(describe(&e)))?, false))
                }
                "socks5" | "socks5h" => {
                    // Like Go, let the proxy look names up for both.
                    let mut socks = SocksV5::new(address, dialer);
                    if let Some((user, password)) = proxy.credentials() {
                        socks = socks.with_auth(user, password);
                    }
                    let stream = socks.call(with_port(target, secure)).await;
                    Ok((stream.map_err(|e| failed(e.to_string()))?, false))
                }
                other => Err(failed(format!("unsupported proxy scheme {other:?}"))),
            }
        };
        match tokio::time::timeout(TUNNEL_TIMEOUT, opening).await {
            Ok(opened) => opened.map(|(stream, forwarded)| (stream.into_inner(), forwarded)),
            Err(_) => Err(failed("timeout while connecting".to_owned())),
        }
    }

    async fn handshake(
        &self,
        io: impl Stream + 'static,
        target: &Uri,
    ) -> Result<(Box<dyn Stream>, VerifiedPeer), ConnectError> {
        let host = target.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| ConnectError::Name(host.to_owned()))?;
        let connecting = self.tls.connect(name, io);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
            Ok(Ok((stream, peer))) => Ok((Box::new(stream), peer)),
            Ok(Err(error)) => Err(ConnectError::Handshake {
                error,
                port: target.port_u16().unwrap_or(443),
            }),
            Err(_) => Err(ConnectError::HandshakeTimeout),
        }
    }
}

fn with_port(target: &Uri, secure: bool) -> Uri {
    if target.port().is_some() {
        return target.clone();
    }
    let port = if secure { 443 } else { 80 };
    let authority = format!("{}:{port}", target.host().unwrap_or_default());
    Uri::builder()
        .scheme(if secure { "https" } else { "http" })
        .authority(authority)
        .path_and_query("/")
        .build()
        .unwrap_or_else(|_| target.clone())
}

impl Service<Uri> for Connector {
    type Response = Conn;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Conn, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        Box::pin(self.clone().connect(target))
    }
}

impl Connection for Conn {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.forwarded);
        match &self.peer {
            Some(peer) => connected.extra(peer.clone()),
            None => connected,
        }
    }
}

impl Read for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, target)
    }
}

impl Write for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
