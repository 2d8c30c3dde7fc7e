//! Which clients a listener serves: anybody, or those with a certificate of certain authorities.
//!
//! The authorities' file is followed through its changes like any trust file. What it trusts is one [`Door`]; a change
//! closes the door and opens another, so that a connection never outlives the trust it was accepted with.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use courser_trust::{ClientVerifier, Source, Store, VerifyError};
use jiff::Timestamp;
use rustls::server::NoServerSessionStorage;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::disk::{Disk, Stamp, read};
use crate::followed::Anchors;
use crate::identity::Identity;
use crate::inventory::{self, Inventory};
use crate::tls;
use crate::watch::{self, Settled, Watched};

/// Whom a listener serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clients {
    /// Whoever connects.
    Anybody,
    /// Clients with a certificate that these authorities issued for the purpose, or that is in the file itself. PEM;
    /// a changed file counts for the next connection, and connections accepted with what was there before are ended.
    OfAuthorities(PathBuf),
}

/// The way in, as it is now.
pub(crate) struct Admission {
    identity: Arc<Identity>,
    door: ArcSwap<Door>,
    authorities: Option<Mutex<Authorities>>,
}

/// The way in for one generation of authorities.
pub(crate) struct Door {
    pub(crate) acceptor: TlsAcceptor,
    /// Connections that came through it are to end.
    pub(crate) closed: CancellationToken,
}

struct Authorities {
    file: PathBuf,
    stamp: Option<Stamp>,
    anchors: Anchors,
}

tokio::task_local! {
    /// Why the client of this task's handshake was refused: rustls keeps the alert only.
    static REFUSED: RefCell<Option<VerifyError>>;
}

impl Admission {
    /// Reads the authorities, of which there has to be one.
    pub(crate) async fn open(
        identity: Arc<Identity>,
        clients: Clients,
    ) -> Result<Arc<Self>, String> {
        let file = match clients {
            Clients::Anybody => {
                let door = ArcSwap::from_pointee(Door::open(&identity, None)?);
                return Ok(Arc::new(Self {
                    identity,
                    door,
                    authorities: None,
                }));
            }
            Clients::OfAuthorities(file) => file,
        };
        let reading = move || {
            let mut authorities = Authorities {
                file,
                stamp: None,
                anchors: Anchors::default(),
            };
            authorities.look(&mut Disk::before_use());
            authorities
        };
        let authorities = tokio::task::spawn_blocking(reading).await;
        let authorities = authorities.map_err(|error| error.to_string())?;
        let store = authorities.anchors.store();
        if store.certificates().is_empty() {
            let file = authorities.file.display();
            let why = store.skipped().first().map(ToString::to_string);
            let why = why.unwrap_or_else(|| format!("{file}: no such file, or it cannot be read"));
            return Err(format!("no client could be accepted: {why}"));
        }
        let door = Door::open(&identity, Some(store))?;
        let this = Arc::new(Self {
            identity,
            door: ArcSwap::from_pointee(door),
            authorities: Some(Mutex::new(authorities)),
        });
        watch::register(&this);
        Ok(this)
    }

    /// The way in now. Looks at the files, as before each handshake.
    pub(crate) async fn door(this: &Arc<Self>) -> Arc<Door> {
        Identity::refresh(&this.identity).await;
        if this.authorities.is_some() {
            let looking = Arc::clone(this);
            let look = tokio::task::spawn_blocking(move || looking.look(&mut Disk::before_use()));
            if let Err(error) = look.await {
                tracing::warn!("looking at the authorities of clients: {error}");
            }
        }
        this.door.load_full()
    }
}

impl Watched for Admission {
    fn look(&self, disk: &mut Disk) -> Settled {
        let Some(authorities) = &self.authorities else {
            return Settled::Yes;
        };
        // Held while reading, so that of two handshakes one reads and the other finds it done.
        let mut authorities = authorities.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Arc::clone(authorities.anchors.store());
        authorities.look(disk);
        let now = authorities.anchors.store();
        if !now.trusts_the_same(&before) {
            match Door::open(&self.identity, Some(now)) {
                Ok(door) => {
                    tracing::info!(
                        certificates = now.certificates().len(),
                        "{} has changed; new connections are judged by it",
                        authorities.file.display()
                    );
                    self.door.swap(Arc::new(door)).closed.cancel();
                    watch::changed();
                }
                Err(error) => tracing::error!("{error}"),
            }
        }
        Settled::of(authorities.anchors.contents())
    }

    fn report(&self, inventory: &mut Inventory) {
        if let Some(authorities) = &self.authorities {
            let authorities = authorities.lock().unwrap_or_else(PoisonError::into_inner);
            let store = authorities.anchors.store();
            inventory.trusted(store.generation().0, &Store::default(), store);
        }
    }
}

impl Authorities {
    fn look(&mut self, disk: &mut Disk) {
        // Taken before the file is read: a change in between is seen at the next look.
        let stamp = disk.stamp(&self.file);
        let as_before = stamp.is_some() && stamp == self.stamp;
        if as_before && !self.anchors.contents().must_be_read_again(disk.at()) {
            return;
        }
        self.stamp = stamp;
        let source = Source::Configured(self.file.clone());
        let Some(change) = self
            .anchors
            .take(vec![(source, read(&self.file))], disk.at())
        else {
            return;
        };
        if change.kept.is_empty() && !change.waiting {
            inventory::file_settled(&self.file);
        }
        for kept in &change.kept {
            inventory::file_refused(&self.file, self.anchors.contents().fingerprint());
            tracing::error!("{kept}");
        }
        for gone in &change.gone {
            tracing::error!("{gone}");
        }
    }
}

impl Door {
    fn open(identity: &Arc<Identity>, authorities: Option<&Arc<Store>>) -> Result<Self, String> {
        let verifier = authorities.map(|store| {
            let clock = Arc::new(Timestamp::now);
            Arc::new(ClientVerifier::new(Arc::clone(store), clock, remember)) as _
        });
        let demands = verifier.is_some();
        let mut config = tls::server_config(Arc::clone(identity) as _, verifier)
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        if demands {
            // A resumed session would skip the verifier.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            closed: CancellationToken::new(),
        })
    }
}

/// Keeps the reason of a refusal for [`with_reason`]. Outside of a handshake of ours there is nobody to tell.
fn remember(refused: VerifyError) {
    drop(REFUSED.try_with(|slot| slot.replace(Some(refused))));
}

/// Runs a handshake, and says why its client was refused if that is what happened.
pub(crate) async fn with_reason<T>(handshake: impl Future<Output = T>) -> (T, Option<VerifyError>) {
    REFUSED
        .scope(RefCell::default(), async {
            let done = handshake.await;
            (done, REFUSED.with(RefCell::take))
        })
        .await
}
