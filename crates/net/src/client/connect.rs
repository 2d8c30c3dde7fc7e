//! Opening connections: TCP, through a proxy if need be, then TLS.
//!
//! A connector of our own and not reqwest's, because that one (0.13.5) has a single timeout over TCP
//! and TLS, and forgets the peer's certificate behind every proxy, which a job's CA chain is made of.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use courser_trust::Remedy;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::Service;
use url::Url;

use super::failure::{describe_layers, layers};
use super::usage::{Opened, Usage};
use super::without_brackets;
use crate::addresses::{Addresses, NotAllowed, Resolver};
use crate::fault::{Endpoint, Fault};
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
    /// To servers.
    tcp: HttpConnector<Resolver>,
    /// To proxies, which may have any address.
    tcp_to_proxies: HttpConnector<Resolver>,
    addresses: Addresses,
    tls: ClientTls,
    proxies: Arc<ProxyRules>,
    /// The name that certificates of servers must have instead of the URL's.
    server_name: Option<String>,
    opened: Arc<Opened>,
}

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("dial tcp {address}: {message}")]
    Tcp { address: String, message: String },
    #[error("dial tcp {0}: i/o timeout")]
    TcpTimeout(String),
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    #[error("{0:?} is not a name that a certificate could be for")]
    Name(String),
    #[error("net/http: TLS handshake timeout")]
    HandshakeTimeout,
    #[error("{fault}")]
    Handshake { fault: Box<Fault> },
    #[error("proxy {proxy}: {message}")]
    Proxy { proxy: String, message: String },
    #[error("{0}")]
    ProxyFault(Box<Fault>),
}

impl ConnectError {
    /// The failure with its explanation, for those who show it in parts.
    pub(super) fn into_fault(self) -> Fault {
        match self {
            Self::Handshake { fault } | Self::ProxyFault(fault) => *fault,
            other => Fault::plain(other.to_string()),
        }
    }
}

/// An open connection.
pub(super) struct Conn {
    io: TokioIo<Box<dyn Stream>>,
    forwarded: bool,
    peer: Option<VerifiedPeer>,
    usage: Usage,
    /// Whether the last bytes went out: the next ones to go out after some came in begin a request.
    sending: bool,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Connector {
    pub(super) fn new(tls: ClientTls, proxies: Arc<ProxyRules>, addresses: Addresses) -> Self {
        Self {
            tcp: tcp(addresses),
            tcp_to_proxies: tcp(Addresses::Any),
            addresses,
            tls,
            proxies,
            server_name: None,
            opened: Arc::default(),
        }
    }

    /// Servers must have certificates for this name, and are told it.
    pub(super) fn expecting(mut self, server_name: Option<String>) -> Self {
        self.server_name = server_name;
        self
    }

    /// Ends the connections, those to come included: idle ones now, others with their request.
    pub(super) fn retire(&self) {
        self.opened.retire();
    }

    /// The trust and identity of its connections.
    pub(super) fn tls(&self) -> &ClientTls {
        &self.tls
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
                usage: self.opened.enter(),
                sending: false,
            });
        }
        let proxy = proxy.map(ToString::to_string);
        let (io, peer) = {
            let name = self.server_name.as_deref();
            self.handshake(io, &target, name, proxy).await?
        };
        Ok(Conn {
            io: TokioIo::new(io),
            forwarded: false,
            peer: Some(peer),
            usage: self.opened.enter(),
            sending: false,
        })
    }

    pub(super) async fn dial(&self, target: Uri) -> Result<TcpStream, ConnectError> {
        self.check_address(&target)?;
        dial(self.tcp.clone(), target).await
    }

    /// Whether a target that is written as an address may be connected to, by us or by a proxy.
    fn check_address(&self, target: &Uri) -> Result<(), NotAllowed> {
        let host = target.host().unwrap_or_default();
        let bare = without_brackets(host);
        match bare.parse() {
            Ok(address) if !self.addresses.allow_written(address) => Err(NotAllowed {
                host: host.to_owned(),
                address,
                allowed: self.addresses,
            }),
            _ => Ok(()),
        }
    }

    /// Through a proxy: a tunnel, or for plain HTTP a connection to the proxy itself (`true`).
    pub(super) async fn dial_through(
        &self,
        proxy: &Proxy,
        target: &Uri,
        secure: bool,
    ) -> Result<(Box<dyn Stream>, bool), ConnectError> {
        let failed = |message: String| ConnectError::Proxy {
            proxy: proxy.to_string(),
            message,
        };
        self.check_address(target)?;
        let address = proxy.address().map_err(|error| failed(error.to_string()))?;
        let this = self.clone();
        let dialer = tower::service_fn(move |proxy: Uri| {
            let this = this.clone();
            async move {
                let stream = dial(this.tcp_to_proxies.clone(), proxy.clone()).await?;
                if proxy.scheme_str() != Some("https") {
                    return Ok(TokioIo::new(Box::new(stream) as Box<dyn Stream>));
                }
                let (stream, _) = this.handshake(stream, &proxy, None, None).await?;
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
                    Ok((stream.map_err(|e| tunnel_failed(&e, proxy))?, false))
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
        server_name: Option<&str>,
        proxy: Option<String>,
    ) -> Result<(Box<dyn Stream>, VerifiedPeer), ConnectError> {
        let host = target.host().unwrap_or_default();
        let bare = server_name.unwrap_or_else(|| without_brackets(host));
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| ConnectError::Name(host.to_owned()))?;
        let connecting = self.tls.connect(name, io);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
            Ok(Ok((stream, peer))) => Ok((Box::new(stream), peer)),
            Ok(Err(error)) => {
                let endpoint = Endpoint {
                    host: bare.to_owned(),
                    port: target.port_u16().unwrap_or(443),
                    proxy,
                };
                let fault = self.tls.fault(&error, &endpoint);
                let fault = fault.unwrap_or_else(|| Fault::plain(describe_layers(&error)));
                Err(ConnectError::Handshake {
                    fault: Box::new(fault),
                })
            }
            Err(_) => Err(ConnectError::HandshakeTimeout),
        }
    }
}

/// A tunnel that a proxy did not open.
fn tunnel_failed(error: &(dyn Error + 'static), proxy: &Proxy) -> ConnectError {
    // The type of the error is private to hyper-util; only its text tells a 407 from the rest.
    if error.to_string().ends_with("proxy authorization required") {
        let fault = Fault::mendable(
            format!("proxy {proxy}: Proxy Authentication Required"),
            Remedy::advice(format!(
                "put user and password into HTTPS_PROXY, percent-encoded: HTTPS_PROXY={}",
                proxy.with_placeholders()
            )),
            "proxy-wants-a-password",
        );
        return ConnectError::ProxyFault(Box::new(fault));
    }
    let mut layers_of_ours = layers(error).filter_map(|layer| layer.downcast_ref::<ConnectError>());
    if let Some(ConnectError::Handshake { fault }) = layers_of_ours.next() {
        let fault = fault.as_ref().clone().of_proxy(&proxy.to_string());
        return ConnectError::ProxyFault(Box::new(fault));
    }
    let inner = layers(error).find_map(|layer| layer.downcast_ref::<ConnectError>());
    ConnectError::Proxy {
        proxy: proxy.to_string(),
        message: inner.map_or_else(|| describe_layers(error), ToString::to_string),
    }
}

fn tcp(addresses: Addresses) -> HttpConnector<Resolver> {
    let mut tcp = HttpConnector::new_with_resolver(Resolver::new(addresses));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEP_ALIVE));
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp
}

async fn dial(mut tcp: HttpConnector<Resolver>, target: Uri) -> Result<TcpStream, ConnectError> {
    let address = target
        .authority()
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::debug!("Dialing: tcp {address} ...");
    match tokio::time::timeout(CONNECT_TIMEOUT, tcp.call(target)).await {
        Ok(Ok(stream)) => Ok(stream.into_inner()),
        Ok(Err(error)) => Err(ConnectError::Tcp {
            address,
            message: describe_layers(&error),
        }),
        Err(_) => Err(ConnectError::TcpTimeout(address)),
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

/// In TLS 1.3 a server that refuses our certificate sends its alert and closes while we write the request already:
/// the alert is the reason, that nothing can be written any more is not.
pub(crate) fn or_parting_word<T>(
    io: &mut Box<dyn Stream>,
    polled: Poll<io::Result<T>>,
    context: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    let Poll::Ready(Err(error)) = polled else {
        return polled;
    };
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    match Pin::new(io).poll_read(context, &mut buffer) {
        Poll::Ready(Err(word)) => Poll::Ready(Err(word)),
        _ => Poll::Ready(Err(error)),
    }
}

impl Connection for Conn {
    fn connected(&self) -> Connected {
        let connected = Connected::new()
            .proxy(self.forwarded)
            .extra(self.usage.clone());
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
        if self.usage.is_over(context) {
            // To hyper, a server that closed a connection between two requests.
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.io).poll_read(context, target);
        if polled.is_ready() {
            self.sending = false;
        }
        polled
    }
}

impl Write for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.sending {
            self.sending = true;
            self.usage.request_begins();
        }
        let polled = Pin::new(&mut self.io).poll_write(context, bytes);
        or_parting_word(self.io.inner_mut(), polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(context);
        or_parting_word(self.io.inner_mut(), polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Closed by its peer; what the peer said last can still be read, if it said anything.
    struct Closed(Option<&'static str>);

    impl AsyncRead for Closed {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(self.0.map_or(Ok(()), |said| Err(io::Error::other(said))))
        }
    }

    impl AsyncWrite for Closed {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_peer_that_closed_is_heard_before_the_broken_pipe_is_told() {
        let context = &mut Context::from_waker(Waker::noop());
        for (said, expected) in [
            (Some("certificate required"), "certificate required"),
            (None, "broken pipe"),
        ] {
            let mut conn = Conn {
                io: TokioIo::new(Box::new(Closed(said)) as Box<dyn Stream>),
                forwarded: false,
                peer: None,
                usage: Arc::new(Opened::default()).enter(),
                sending: false,
            };
            let Poll::Ready(Err(written)) = Pin::new(&mut conn).poll_write(context, b"GET") else {
                panic!("written");
            };
            let Poll::Ready(Err(flushed)) = Pin::new(&mut conn).poll_flush(context) else {
                panic!("flushed");
            };
            assert_eq!(written.to_string(), expected);
            assert_eq!(flushed.to_string(), expected);
        }
    }
}
