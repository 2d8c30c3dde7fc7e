//! TLS listeners whose certificate can change while they run.
//!
//! One accept loop: a task per connection, a bounded number of them, each with bounded patience
//! for the handshake and the request header. Whatever a client does ends its own connection only.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::admission::{Admission, with_reason};
use crate::identity::Identity;
use crate::refused::Refused;

pub use crate::admission::Clients;
pub use crate::identity::ServerIdentity;

/// Connections served at once; more wait in the kernel's queue. A long-polling runner holds one.
const CONNECTIONS: usize = 4096;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Counts while a kept-alive connection is idle, too: longer than our client's 90 s, so that it is the
/// client who closes and no request meets a closing connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// After an accept that failed for lack of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound TLS listener that serves one `axum::Router`.
///
/// Handlers find the peer's address as `ConnectInfo<SocketAddr>`.
pub struct Listener {
    address: SocketAddr,
    listener: TcpListener,
    admission: Arc<Admission>,
}

/// Why a listener could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Cause.
        source: std::io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("{0}")]
    Identity(String),
}

impl Listener {
    /// Binds; port 0 takes a free one.
    pub async fn bind(
        address: SocketAddr,
        identity: ServerIdentity,
        clients: Clients,
    ) -> Result<Self, ListenError> {
        let identity = Identity::load(identity)
            .await
            .map_err(ListenError::Identity)?;
        let admission = Admission::open(identity, clients)
            .await
            .map_err(ListenError::Identity)?;
        let bind = async {
            let listener = TcpListener::bind(address).await?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = bind
            .await
            .map_err(|source| ListenError::Bind { address, source })?;
        Ok(Self {
            address,
            listener,
            admission,
        })
    }

    /// The address really bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then drains: no new requests, running ones get `grace`.
    pub async fn serve(self, router: Router, shutdown: CancellationToken, grace: Duration) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let refused = Arc::new(Refused::default());
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&self.listener, &places) => accepted,
            };
            let (stream, peer, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("accepting a connection on {}: {error}", self.address);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let connection = Connection {
                admission: Arc::clone(&self.admission),
                refused: Arc::clone(&refused),
                router: router.clone(),
                peer,
            };
            let stopping = shutdown.clone();
            connections.spawn(async move {
                connection.serve(stream, stopping).await;
                drop(place);
            });
        }
        drop(self.listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!("requests were still running after {grace:?} and are cut off");
        }
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, Place)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

struct Connection {
    admission: Arc<Admission>,
    refused: Arc<Refused>,
    router: Router,
    peer: SocketAddr,
}

impl Connection {
    async fn serve(self, stream: TcpStream, stopping: CancellationToken) {
        let peer = self.peer;
        let handshake = async {
            let door = Admission::door(&self.admission).await;
            stream.set_nodelay(true)?;
            Ok((door.acceptor.accept(stream).await?, door.closed.clone()))
        };
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, with_reason(handshake));
        let stream = tokio::select! {
            // A client that has not asked for anything yet is not waited for.
            () = stopping.cancelled() => return,
            stream = handshake => stream,
        };
        let (stream, closed) = match stream {
            Ok((Ok(accepted), _)) => accepted,
            Ok((Err(error), why)) => {
                self.refused.say(peer, &error, why.as_ref());
                return;
            }
            Err(_) => {
                tracing::debug!("TLS handshake with {peer} took too long");
                return;
            }
        };
        let router = self.router;
        let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request)
        });
        let mut builder = Builder::new(TokioExecutor::new()).http1_only();
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = either(&stopping, &closed) => {
                // What is asked is still answered; what is idle ends.
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!("connection of {peer}: {error}");
        }
    }
}

async fn either(one: &CancellationToken, other: &CancellationToken) {
    tokio::select! {
        () = one.cancelled() => {}
        () = other.cancelled() => {}
    }
}
