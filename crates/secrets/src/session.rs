//! What all requests for the secrets of one job share, whichever provider they go to.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::OnceCell;
use tokio_util::sync::DropGuard;
use url::Url;

use crate::exchange::{Bounds, Exchange};
use crate::surroundings::VaultClients;
use crate::vault::Certificate;
use crate::{Failure, Leases, Surroundings};

/// How a Vault is reached.
pub(crate) struct VaultAccess {
    pub(crate) exchange: Exchange,
    /// What becomes of the runner's certificate there.
    pub(crate) certificate: Certificate,
    /// For the case that its certificate is not accepted.
    pub(crate) hints_on_trust: Vec<String>,
}

/// All attempts to get the secrets of one job.
pub(crate) struct Session {
    pub(crate) surroundings: Surroundings,
    pub(crate) leases: Leases,
    attempt: Arc<AtomicU32>,
    bounds: Arc<Bounds>,
    /// The failure that no further attempt mends.
    fatal: OnceLock<Failure>,
    cloud: OnceLock<Exchange>,
    machine: OnceLock<Exchange>,
    vault: OnceCell<Result<VaultClients, Failure>>,
}

impl Session {
    pub(crate) fn new(surroundings: Surroundings, leases: Leases) -> Self {
        Self {
            surroundings,
            leases,
            attempt: Arc::default(),
            bounds: Arc::default(),
            fatal: OnceLock::new(),
            cloud: OnceLock::new(),
            machine: OnceLock::new(),
            vault: OnceCell::new(),
        }
    }

    /// Number of the attempt that is being made, as it changes.
    pub(crate) fn attempt(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.attempt)
    }

    /// What failed and may pass is asked for again from now on.
    pub(crate) fn begin_attempt(&self) {
        self.attempt.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks for nothing new, for this failure. The first one counts: what fails later may fail because nothing is asked.
    pub(crate) fn fail(&self, failure: Failure) {
        self.fatal.get_or_init(|| failure);
        drop(self.stopping());
    }

    /// The failure that has ended all attempts.
    pub(crate) fn fatal(&self) -> Option<&Failure> {
        self.fatal.get()
    }

    /// Waits until nothing new is asked for.
    pub(crate) async fn stopped(&self) {
        self.bounds.stopped().await;
    }

    /// Asks for nothing new once this is dropped.
    pub(crate) fn stopping(&self) -> DropGuard {
        self.bounds.stopping()
    }

    /// Requests to servers that are trusted as GitLab is: those of Google, Microsoft and Amazon.
    pub(crate) fn exchange(&self) -> &Exchange {
        self.cloud.get_or_init(|| {
            self.exchange_of(self.surroundings.client())
                .lending_nothing()
        })
    }

    /// Requests to the services that tell the runner's machine who it is at Amazon.
    pub(crate) fn exchange_of_machine(&self) -> &Exchange {
        self.machine.get_or_init(|| {
            self.exchange_of(self.surroundings.client_of_machine())
                .lending_nothing()
        })
    }

    /// Requests to Vault and OpenBao, which have trust of their own beside that of GitLab.
    pub(crate) async fn vault_exchange(
        &self,
        server: Option<&Url>,
    ) -> Result<VaultAccess, Failure> {
        let made = self.vault.get_or_init(|| self.surroundings.vault_clients());
        let clients = made.await.as_ref().map_err(Clone::clone)?;
        let own = clients.own.as_ref().zip(server);
        let own = own.filter(|((origin, _), server)| *origin == server.origin());
        let (client, certificate) = match own {
            Some(((_, client), _)) => (client, Certificate::Shown),
            None => (&clients.others, Certificate::Withheld),
        };
        let certificate = match clients.has_certificate {
            true => certificate,
            false => Certificate::None,
        };
        let access = VaultAccess {
            exchange: self.exchange_of(client.clone()),
            certificate,
            hints_on_trust: self.surroundings.hints_on_trust(own.is_some()),
        };
        Ok(access)
    }

    /// Requests over a client with another trust.
    fn exchange_of(&self, client: courser_net::Client) -> Exchange {
        Exchange::new(client, self.surroundings.ambience, Arc::clone(&self.bounds))
    }
}
