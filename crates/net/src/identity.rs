//! Who a listener is: chain and key, checked before they are shown to anybody, read anew on change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use courser_trust::{Certificate, Reading};
use jiff::Timestamp;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use secrecy::ExposeSecret as _;

use crate::tls::certified_key;
use crate::trust_files::{Stamp, read};

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
    current: Arc<ArcSwap<CertifiedKey>>,
    files: Option<Arc<Watched>>,
}

#[derive(Debug)]
struct Watched {
    certificate: PathBuf,
    key: PathBuf,
    seen: Mutex<[Option<Stamp>; 2]>,
}

impl Identity {
    /// Loads the first pair, which has to be good.
    pub(crate) async fn load(identity: ServerIdentity) -> Result<Self, String> {
        let (pair, files) = match identity {
            ServerIdentity::Memory {
                certificate_pem,
                key_pem,
            } => {
                let key = key_pem.expose_secret().as_bytes();
                let pair = checked(certificate_pem.as_bytes(), key, Timestamp::now());
                (pair?, None)
            }
            ServerIdentity::Files { certificate, key } => {
                let watched = Watched {
                    seen: Mutex::new(stamps(&certificate, &key)),
                    certificate,
                    key,
                };
                let watched = Arc::new(watched);
                let reading = Arc::clone(&watched);
                let pair = tokio::task::spawn_blocking(move || reading.read()).await;
                (pair.map_err(|error| error.to_string())??, Some(watched))
            }
        };
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(pair)),
            files,
        })
    }

    /// Looks at the files, as before each handshake. A bad new pair leaves the one in use, and says so
    /// once.
    pub(crate) async fn refresh(&self) {
        let Some(watched) = self.files.clone() else {
            return;
        };
        let current = Arc::clone(&self.current);
        let refreshing = tokio::task::spawn_blocking(move || watched.refresh(&current));
        if let Err(error) = refreshing.await {
            tracing::warn!("looking at the listener's certificate: {error}");
        }
    }
}

impl Watched {
    fn refresh(&self, current: &ArcSwap<CertifiedKey>) {
        // Held while reading, so that of two handshakes one reads and the other finds it done.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.certificate, &self.key);
        if *seen == now {
            return;
        }
        *seen = now;
        match self.read() {
            Ok(pair) => {
                tracing::info!("{} is presented from now on", self.certificate.display());
                current.store(Arc::new(pair));
            }
            Err(error) => tracing::error!("{error}; the certificate in use stays"),
        }
    }

    fn read(&self) -> Result<CertifiedKey, String> {
        let content = |path: &Path| match read(path) {
            Reading::Bytes(bytes) => Ok(bytes),
            Reading::Absent => Err(format!("Failed to load {}: no such file", path.display())),
            Reading::Unreadable(error) => {
                Err(format!("Failed to load {}: {error}", path.display()))
            }
        };
        let (certificate, key) = (content(&self.certificate)?, content(&self.key)?);
        checked(&certificate, &key, Timestamp::now()).map_err(|error| {
            let (certificate, key) = (self.certificate.display(), self.key.display());
            format!("Failed to load {certificate} {key}: {error}")
        })
    }
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

fn stamps(certificate: &Path, key: &Path) -> [Option<Stamp>; 2] {
    [Stamp::of(certificate), Stamp::of(key)]
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
