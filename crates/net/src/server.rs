//! TLS listeners whose certificate can change while they run.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

/// Certificate chain and key a listener presents.
pub enum ServerIdentity {
    /// Files, watched: a good new pair is used for the next connection.
    Files {
        /// PEM chain, leaf first.
        certificate: PathBuf,
        /// PEM key.
        key: PathBuf,
    },
    /// In memory (`courser exec`).
    Memory {
        /// PEM chain, leaf first.
        certificate_pem: String,
        /// PEM key.
        key_pem: secrecy::SecretString,
    },
}

/// A bound TLS listener that serves one `axum::Router`.
pub struct Listener {
    address: SocketAddr,
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
    pub async fn bind(address: SocketAddr, identity: ServerIdentity) -> Result<Self, ListenError> {
        let _ = (address, identity);
        todo!()
    }

    /// The address really bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then drains: no new requests, running ones get `grace`.
    pub async fn serve(
        self,
        router: axum::Router,
        shutdown: CancellationToken,
        grace: std::time::Duration,
    ) {
        let _ = (router, shutdown, grace);
        todo!()
    }
}
