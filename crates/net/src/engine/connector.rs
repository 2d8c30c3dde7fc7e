//! Opening connections to an Engine: a socket or TCP, then TLS.

use std::error::Error;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tower::Service;

use super::address::Address;
use super::sent::{Writer, Writing};
use super::{EngineCallError, EngineTls};
use crate::addresses::{Addresses, Resolver};
use crate::client::connect::{Stream, or_parting_word};
use crate::client::failure::{describe_layers, layers};
use crate::fault::Fault;

/// Upstream's limits (`runner-tls.md` section 6).
const DIAL_TIMEOUT: Duration = Duration::from_secs(300);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens connections to one Engine, whatever the URI.
#[derive(Clone)]
pub(super) struct Connector {
    address: Address,
    tcp: HttpConnector<Resolver>,
    tls: Option<EngineTls>,
    writing: Writing,
}

/// Carries the reason through hyper's errors, out of which it is taken once.
#[derive(Debug, thiserror::Error)]
#[error("no connection to the Docker Engine")]
pub(super) struct NotConnected(Mutex<Option<EngineCallError>>);

/// An open connection.
pub(super) struct Conn {
    io: TokioIo<Box<dyn Stream>>,
    writer: Writer,
}

impl NotConnected {
    pub(super) fn take(&self) -> EngineCallError {
        let mut reason = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = reason.take();
        reason.unwrap_or_else(|| EngineCallError::Broken(self.to_string()))
    }
}

impl Connector {
    pub(super) fn new(address: Address, tls: Option<EngineTls>, writing: Writing) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::new(Addresses::Any));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEP_ALIVE));
        Self {
            address,
            tcp,
            tls,
            writing,
        }
    }

    async fn connect(self) -> Result<Conn, EngineCallError> {
        let io: Box<dyn Stream> = match &self.address {
            Address::Unix(path) => unix(path.clone()).await?,
            Address::Network { authority, .. } => {
                let tcp = self.tcp.clone();
                let dialing = tokio::time::timeout(DIAL_TIMEOUT, dial(tcp, authority));
                let tcp = dialing
                    .await
                    .map_err(|_| EngineCallError::DialTimeout(format!("tcp {authority}")))??;
                match &self.tls {
                    Some(tls) => self.handshake(tls, tcp).await?,
                    None => Box::new(tcp),
                }
            }
        };
        Ok(Conn {
            io: TokioIo::new(io),
            writer: self.writing.writer(),
        })
    }

    async fn handshake(
        &self,
        tls: &EngineTls,
        tcp: TcpStream,
    ) -> Result<Box<dyn Stream>, EngineCallError> {
        let endpoint = self.address.endpoint();
        let name = ServerName::try_from(endpoint.host.clone()).map_err(|_| {
            let text = format!(
                "{:?} is not a name that a certificate could be for",
                endpoint.host
            );
            EngineCallError::Broken(text)
        })?;
        let connecting = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.client.connect(name, tcp));
        match connecting.await {
            Ok(Ok((stream, _))) => Ok(Box::new(stream)),
            Ok(Err(error)) => {
                let fault = tls.fault(&error, &endpoint);
                let fault = fault.unwrap_or_else(|| Fault::plain(describe_layers(&error)));
                Err(EngineCallError::Tls(Box::new(fault)))
            }
            Err(_) => Err(EngineCallError::HandshakeTimeout),
        }
    }
}

#[cfg(unix)]
async fn unix(path: PathBuf) -> Result<Box<dyn Stream>, EngineCallError> {
    match tokio::net::UnixStream::connect(&path).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound => EngineCallError::NoSocket(path),
            io::ErrorKind::PermissionDenied => EngineCallError::PermissionDenied(path),
            io::ErrorKind::ConnectionRefused => {
                EngineCallError::Refused(format!("unix {}", path.display()))
            }
            _ => EngineCallError::Dial {
                address: format!("unix {}", path.display()),
                reason: error.to_string(),
            },
        }),
    }
}

#[cfg(not(unix))]
async fn unix(path: PathBuf) -> Result<Box<dyn Stream>, EngineCallError> {
    Err(EngineCallError::NoSocket(path))
}

async fn dial(
    mut tcp: HttpConnector<Resolver>,
    authority: &str,
) -> Result<TcpStream, EngineCallError> {
    let address = format!("tcp {authority}");
    let target = Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query("/")
        .build()
        .map_err(|error| EngineCallError::Dial {
            address: address.clone(),
            reason: error.to_string(),
        })?;
    match tcp.call(target).await {
        Ok(stream) => Ok(stream.into_inner()),
        Err(error) if is_refused(&error) => Err(EngineCallError::Refused(address)),
        Err(error) => Err(EngineCallError::Dial {
            address,
            reason: describe_layers(&error),
        }),
    }
}

fn is_refused(error: &(dyn Error + 'static)) -> bool {
    layers(error)
        .filter_map(|layer| layer.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

impl Service<Uri> for Connector {
    type Response = Conn;
    type Error = NotConnected;
    type Future = Pin<Box<dyn Future<Output = Result<Conn, NotConnected>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotConnected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let opened = this.connect().await;
            opened.map_err(|reason| NotConnected(Mutex::new(Some(reason))))
        })
    }
}

impl Connection for Conn {
    fn connected(&self) -> Connected {
        Connected::new()
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
        let polled = Pin::new(&mut self.io).poll_write(context, bytes);
        self.writer.tried(&polled);
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
