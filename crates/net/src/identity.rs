//! Who a listener is: chain and key, checked before they are shown to anybody, read anew on change.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use courser_trust::Certificate;
use jiff::Timestamp;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use secrecy::ExposeSecret as _;

use crate::disk::Disk;
use crate::inventory::{self, Inventory, Role};
use crate::key_pair::{KeyPair, PairChange, PairFiles};
use crate::tls::{certified_key, with_key_file};
use crate::watch::{self, Settled, Watched};

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

/// The pair in use and where a newer one would come from.
#[derive(Debug)]
pub(crate) struct Identity {
    current: ArcSwap<CertifiedKey>,
    files: Option<Mutex<KeyPair>>,
}

impl Identity {
    /// Loads the first pair, which has to be good.
    pub(crate) async fn load(identity: ServerIdentity) -> Result<Arc<Self>, String> {
        let (pair, files) = match identity {
            ServerIdentity::Memory {
                certificate_pem,
                key_pem,
            } => {
                let key = key_pem.expose_secret().as_bytes();
                let pair = checked(certificate_pem.as_bytes(), key, Timestamp::now());
                (Arc::new(pair?), None)
            }
            ServerIdentity::Files { certificate, key } => {
                let files = KeyPair::new(PairFiles { certificate, key });
                let loading = tokio::task::spawn_blocking(move || first(files)).await;
                let (pair, files) = loading.map_err(|error| error.to_string())??;
                (pair, Some(Mutex::new(files)))
            }
        };
        let this = Arc::new(Self {
            current: ArcSwap::from(pair),
            files,
        });
        if this.files.is_some() {
            watch::register(&this);
        }
        Ok(this)
    }

    /// Looks at the files, as before each handshake. A bad new pair leaves the one in use, and says so
    /// once.
    pub(crate) async fn refresh(this: &Arc<Self>) {
        if this.files.is_none() {
            return;
        }
        let looking = Arc::clone(this);
        let refreshing = tokio::task::spawn_blocking(move || looking.look(&mut Disk::before_use()));
        if let Err(error) = refreshing.await {
            tracing::warn!("looking at the listener's certificate: {error}");
        }
    }
}

impl Watched for Identity {
    fn look(&self, disk: &mut Disk) -> Settled {
        let Some(files) = &self.files else {
            return Settled::Yes;
        };
        // Held while reading, so that of two handshakes one reads and the other finds it done.
        let mut pair = files.lock().unwrap_or_else(PoisonError::into_inner);
        let change = pair.look(disk, |chain, key| checked(chain, key, Timestamp::now()));
        let PairFiles { certificate, key } = pair.files();
        match &change {
            Some(PairChange::New) => {
                inventory::file_settled(certificate);
            }
            Some(_) => {
                inventory::file_refused(certificate, pair.contents().fingerprint());
            }
            None => {}
        }
        let key_file = key;
        let (certificate, key) = (certificate.display(), key.display());
        match change {
            Some(PairChange::New) => {
                if let Some(new) = pair.current() {
                    tracing::info!("{certificate} is presented from now on");
                    self.current.store(Arc::clone(new));
                }
            }
            Some(PairChange::Refused(error)) => {
                let error = with_key_file(&error, key_file);
                tracing::error!(
                    "Failed to load {certificate} {key}: {error}; the certificate in use stays"
                );
            }
            Some(PairChange::Gone) => tracing::error!(
                "{certificate} or {key} is gone; the certificate in use stays until the next start"
            ),
            None => {}
        }
        Settled::of(pair.contents())
    }

    fn report(&self, inventory: &mut Inventory) {
        let pair = self.current.load();
        if let (Some(files), Some(leaf)) = (&self.files, pair.cert.first()) {
            let files = files.lock().unwrap_or_else(PoisonError::into_inner);
            inventory.shown(Role::Listener, &files.files().certificate, leaf);
        }
    }
}

/// Reads a pair for the first time.
fn first(mut files: KeyPair) -> Result<(Arc<CertifiedKey>, KeyPair), String> {
    let mut disk = Disk::before_use();
    let change = files.look(&mut disk, |chain, key| {
        checked(chain, key, Timestamp::now())
    });
    if let Some(pair) = files.current() {
        return Ok((Arc::clone(pair), files));
    }
    let PairFiles { certificate, key } = files.files();
    let error = match change {
        Some(PairChange::Refused(error)) => with_key_file(&error, key),
        _ => "no such file".to_owned(),
    };
    let (certificate, key) = (certificate.display(), key.display());
    Err(format!("Failed to load {certificate} {key}: {error}"))
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// The pair, if the key is the leaf's and the leaf is valid now.
fn checked(chain_pem: &[u8], key_pem: &[u8], now: Timestamp) -> Result<CertifiedKey, String> {
    let pair = certified_key(chain_pem, key_pem)?;
    let leaf = pair.cert.first().ok_or("the chain is empty")?;
    let leaf = Certificate::parse(leaf).map_err(|error| error.to_string())?;
    let now = courser_trust::Moment::from(now);
    if now > leaf.not_after() {
        return Err(format!(
            "the certificate has expired on {}",
            leaf.not_after()
        ));
    }
    if now < leaf.not_before() {
        return Err(format!(
            "the certificate is not valid before {}",
            leaf.not_before()
        ));
    }
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use courser_testkit::pki::{Authority, Order};

    use super::*;

    fn verdict(order: Order<'_>) -> Result<CertifiedKey, String> {
        let issued = order.issue();
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        checked(
            issued.chain_pem().as_bytes(),
            issued.key_pem().as_bytes(),
            now,
        )
    }

    #[test]
    fn only_certificates_valid_now_are_shown() {
        let server = || Authority::self_signed_server(&["a.test"]);
        assert!(verdict(server()).is_ok());
        assert!(
            verdict(server().expired())
                .unwrap_err()
                .contains("expired on")
        );
        let early = verdict(server().not_yet_valid()).unwrap_err();
        assert!(early.contains("not valid before"), "{early}");
    }
}
