//! Trust by generation: before each call the files are looked at, and a change makes new trust with
//! new connections (`runner-tls.md` 2.6). Nothing is ever swapped inside a live TLS configuration.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use courser_trust::{self as trust, Reading, Reload, Source, Store};
use http::Request;
use hyper_util::client::legacy::{Client as Http, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use tokio::time::Instant;

use super::connect::Connector;
use super::upload::Upload;
use crate::addresses::Addresses;
use crate::proxy::ProxyRules;
use crate::tls::{self, ClientTls};
use crate::trust_files::{CaFile, HostFiles, Stamp, read};
use crate::{SystemRoots, TrustSettings};

/// Go's transport as upstream sets it up (`runner-protocol.md` 1.4).
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
const IDLE_PER_HOST: usize = 2;

/// The generations of one client, by host where hosts differ in their files.
pub(super) struct Generations {
    trust: TrustSettings,
    connection_max_age: Duration,
    proxies: Arc<ProxyRules>,
    addresses: Addresses,
    now: fn() -> Timestamp,
    current: Mutex<HashMap<String, Current>>,
}

/// One trust, and the connections made with it.
pub(super) struct Generation {
    connector: Connector,
    connection_max_age: Duration,
    pool: Mutex<Pool>,
}

struct Pool {
    http: Http<Connector, Upload>,
    since: Instant,
}

/// What a host's files gave, the last good state of each.
struct Current {
    seen: Seen,
    configured: Reload,
    trusted: Trusted,
    ca_bytes: Option<Bytes>,
    identity: Option<Arc<CertifiedKey>>,
    store: Arc<Store>,
    generation: Arc<Generation>,
}

/// The two parts of what is trusted towards a host. The same content is the same `Arc`.
#[derive(Debug, Clone)]
pub struct Trusted {
    /// The platform's certificates.
    pub system: Arc<Store>,
    /// What `tls-ca-file`, a predefined file or certificates in memory add.
    pub configured: Arc<Store>,
}

/// State of the disk that a generation was made from.
#[derive(PartialEq, Eq)]
struct Seen {
    paths: HostFiles,
    system: Vec<Option<Stamp>>,
    files: Vec<Option<Stamp>>,
}

impl Generations {
    pub(super) fn new(
        trust: TrustSettings,
        connection_max_age: Duration,
        proxies: Arc<ProxyRules>,
        addresses: Addresses,
        now: fn() -> Timestamp,
    ) -> Self {
        Self {
            trust,
            connection_max_age,
            proxies,
            addresses,
            now,
            current: Mutex::default(),
        }
    }

    /// The generation for calls to `host` now. Looks at the disk, so on a thread that may block.
    pub(super) async fn current(this: &Arc<Self>, host: String) -> Result<Arc<Generation>, String> {
        let this = Arc::clone(this);
        let refreshing = tokio::task::spawn_blocking(move || {
            this.refreshed(&host, |current| Arc::clone(&current.generation))
        });
        match refreshing.await {
            Ok(generation) => generation,
            Err(error) => Err(format!("loading the trusted certificates: {error}")),
        }
    }

    pub(super) fn ca_file_bytes(&self, host: &str) -> Option<Bytes> {
        let bytes = self.refreshed(host, |current| current.ca_bytes.clone());
        bytes.ok().flatten()
    }

    pub(super) fn trusted(&self, host: &str) -> Option<Trusted> {
        let trusted = self.refreshed(host, |current| current.trusted.clone());
        trusted.ok()
    }

    pub(super) fn system_store(&self) -> Arc<Store> {
        self.trust.system.load()
    }

    pub(super) fn is_without_system_roots(&self) -> bool {
        self.trust.system == SystemRoots::None
    }

    pub(super) fn client_pair(&self, host: &str) -> Option<(Bytes, Bytes)> {
        let (certificate, key) = self.trust.files_for(host).pair?;
        match (read(&certificate), read(&key)) {
            (Reading::Bytes(certificate), Reading::Bytes(key)) => {
                Some((certificate.into(), key.into()))
            }
            _ => None,
        }
    }

    fn refreshed<T>(&self, host: &str, take: impl FnOnce(&Current) -> T) -> Result<T, String> {
        let key = if self.trust.depends_on_host() {
            host
        } else {
            ""
        };
        let paths = self.trust.files_for(host);
        let mut all = locked(&self.current);
        // Taken before the files are read: a change in between is seen at the next call.
        let seen = Seen {
            system: self.trust.system.stamps(),
            files: paths.paths().map(Stamp::of).collect(),
            paths,
        };
        if let Some(current) = all.get(key)
            && current.seen == seen
        {
            return Ok(take(current));
        }
        let next = self.load(seen, all.remove(key))?;
        let taken = take(&next);
        all.insert(key.to_owned(), next);
        Ok(taken)
    }

    fn load(&self, seen: Seen, last: Option<Current>) -> Result<Current, String> {
        let before = last.as_ref().map(|last| Arc::clone(&last.store));
        let (mut configured, last_bytes, last_identity) = match last {
            Some(last) => {
                let same_pair = last.seen.paths.pair == seen.paths.pair;
                let identity = last.identity.filter(|_| same_pair);
                (last.configured, last.ca_bytes, identity)
            }
            None => (Reload::new(), None, None),
        };
        let (trusted, ca_bytes) = self.load_configured(&seen.paths, &mut configured, last_bytes);
        let identity = seen
            .paths
            .pair
            .as_ref()
            .and_then(|(certificate, key)| load_pair(certificate, key, last_identity.clone()));
        let trusted = Trusted {
            system: self.trust.system.load(),
            configured: trusted,
        };
        let store = Store::builder()
            .include(&trusted.system)
            .include(&trusted.configured)
            .build(next_number());
        let store = Arc::new(store);
        let same_identity = match (&last_identity, &identity) {
            (Some(last), Some(new)) => Arc::ptr_eq(last, new),
            (last, new) => last.is_none() && new.is_none(),
        };
        if let Some(before) = before
            && !(same_identity && before.trusts_the_same(&store))
        {
            tracing::info!(
                generation = store.generation().0,
                "trusted certificates or the client certificate have changed; new connections use them"
            );
        }
        let tls = ClientTls::new(Arc::clone(&store), identity.clone(), self.now)
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let connector = Connector::new(tls, Arc::clone(&self.proxies), self.addresses);
        Ok(Current {
            seen,
            configured,
            trusted,
            ca_bytes,
            identity,
            store,
            generation: Arc::new(Generation::new(connector, self.connection_max_age)),
        })
    }

    /// What `tls-ca-file` or the predefined file and the certificates in memory add, and the bytes
    /// of the file. A file that is bad or gone leaves its last good content.
    fn load_configured(
        &self,
        paths: &HostFiles,
        configured: &mut Reload,
        last_bytes: Option<Bytes>,
    ) -> (Arc<Store>, Option<Bytes>) {
        let mut readings = Vec::new();
        let mut new_bytes = None;
        if let Some(file) = &paths.ca {
            let shown = file.path().display();
            tracing::debug!("Trying to load {shown} ...");
            let reading = read(file.path());
            match &reading {
                Reading::Bytes(bytes) => new_bytes = Some(Bytes::copy_from_slice(bytes)),
                Reading::Unreadable(error) => tracing::error!("Failed to load {shown} {error}"),
                Reading::Absent if matches!(file, CaFile::Configured(_)) => {
                    tracing::warn!("tls-ca-file {shown} does not exist");
                }
                Reading::Absent => {}
            }
            readings.push((file.source(), reading));
        }
        if let Some(text) = &self.trust.inline_ca {
            let source = Source::Inline("the certificates given in memory".to_owned());
            readings.push((source, Reading::Bytes(text.clone().into_bytes())));
        }
        let update = configured.update(readings);
        for block in update.store.skipped() {
            if !block.reason.is_harmless() {
                tracing::warn!("{block}");
            }
        }
        for kept in &update.kept {
            tracing::warn!("{kept}");
        }
        let Some(file) = &paths.ca else {
            return (update.store, None);
        };
        let source = file.source();
        let is_kept = update.kept.iter().any(|kept| kept.source == source);
        let usable = update
            .store
            .consulted()
            .iter()
            .any(|consulted| *consulted.source == source && consulted.certificates > 0);
        if new_bytes.is_some() && (is_kept || !usable) {
            tracing::error!("Failed to parse PEM in {}", file.path().display());
        }
        let bytes = match (is_kept, usable) {
            (true, _) => last_bytes,
            (false, true) => new_bytes,
            (false, false) => None,
        };
        (update.store, bytes)
    }
}

impl Generation {
    fn new(connector: Connector, connection_max_age: Duration) -> Self {
        Self {
            pool: Mutex::new(Pool::new(connector.clone())),
            connector,
            connection_max_age,
        }
    }

    /// What opens its connections.
    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Sends a request over a connection of this generation.
    pub(super) fn request(&self, request: Request<Upload>) -> ResponseFuture {
        let mut pool = locked(&self.pool);
        let age = pool.since.elapsed();
        if !self.connection_max_age.is_zero() && age > self.connection_max_age {
            tracing::debug!(
                elapsed_s = age.as_secs(),
                max_age_s = self.connection_max_age.as_secs(),
                "Closing idle connections"
            );
            // Dropping a pool closes what is idle; what is in use goes on until it is done.
            *pool = Pool::new(self.connector.clone());
        }
        pool.http.request(request)
    }
}

impl Pool {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where clients are made from a trust value"
    )]
    fn new(connector: Connector) -> Self {
        let http = Http::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .build(connector);
        Self {
            http,
            since: Instant::now(),
        }
    }
}

/// Loads the client's pair. A pair that cannot be used leaves the last good one.
fn load_pair(
    certificate: &Path,
    key: &Path,
    last: Option<Arc<CertifiedKey>>,
) -> Option<Arc<CertifiedKey>> {
    let (shown, shown_key) = (certificate.display(), key.display());
    tracing::debug!("Trying to load {shown} and {shown_key} pair...");
    let error = match (read(certificate), read(key)) {
        (Reading::Bytes(certificate), Reading::Bytes(key)) => {
            match tls::certified_key(&certificate, &key) {
                Ok(pair) => return Some(Arc::new(pair)),
                Err(error) => Some(error),
            }
        }
        (Reading::Unreadable(error), _) | (_, Reading::Unreadable(error)) => Some(error),
        (Reading::Absent, _) | (_, Reading::Absent) => None,
    };
    if let Some(error) = error {
        tracing::error!("Failed to load {shown} {shown_key} {error}");
    }
    if last.is_some() {
        tracing::warn!("the last good client certificate of {shown} stays in use");
    }
    last
}

fn next_number() -> trust::Generation {
    static LAST: AtomicU64 = AtomicU64::new(0);
    trust::Generation(LAST.fetch_add(1, Ordering::Relaxed) + 1)
}

/// The data behind these locks is whole at every await-free step, so a panic elsewhere does not spoil it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
