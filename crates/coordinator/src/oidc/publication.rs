//! The keys of an issuer, published by themselves: for a provider that asks for them when it is told of the issuer,
//! while no coordinator runs.

use std::net::SocketAddr;
use std::sync::Arc;

use courser_net::server::{Clients, Listener, ServerIdentity};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Issuer, OidcSettings};
use crate::api::PublishedKeys;
use crate::coordinator::{GRACE, StartError};
use crate::settings::Clock;

/// Discovery document and key set answer until this is stopped; dropping it ends them at once.
pub struct Publication {
    shutdown: CancellationToken,
    serving: JoinSet<()>,
}

impl Publication {
    /// Listens there. `server` is the issuer unless the settings name one.
    ///
    /// # Errors
    ///
    /// Address or certificate.
    pub async fn start(
        settings: OidcSettings,
        server: &Url,
        clock: Clock,
        address: SocketAddr,
        identity: ServerIdentity,
    ) -> Result<Self, StartError> {
        let listener = Listener::bind(address, identity, Clients::Anybody).await?;
        let keys = PublishedKeys {
            issuer: Arc::new(Issuer::new(settings, server)),
            clock,
        };
        let shutdown = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(listener.serve(keys.router(), shutdown.clone(), GRACE));
        Ok(Self { shutdown, serving })
    }

    /// Answers what has been asked, and nothing more.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        while self.serving.join_next().await.is_some() {}
    }
}
