//! Trust by generation: before each call, and in between (`watch`), the files are looked at, and a change makes
//! new trust with new connections (`runner-tls.md` 2.6). Nothing is ever swapped inside a live TLS configuration:
//! idle connections of the generation before are closed, busy ones end with their request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use courser_trust::{self as trust, Reading, Source, Store};
use http::Request;
use hyper_util::client::legacy::{Client as Http, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use super::connect::Connector;
use super::upload::Upload;
use crate::addresses::Addresses;
use crate::disk::{Disk, Stamp, read};
use crate::followed::{Anchors, Change};
use crate::inventory::{self, Inventory, Role};
use crate::key_pair::{KeyPair, PairChange, PairFiles};
use crate::proxy::ProxyRules;
use crate::tls::{self, ClientTls};
use crate::trust_files::{CaFile, HostFiles};
use crate::watch::{self, Settled, Watched};
use crate::{ProviderTls, SystemRoots, TrustSettings};

/// Go's transport as upstream sets it up (`runner-protocol.md` 1.4).
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
const IDLE_PER_HOST: usize = 2;
/// Where no CA file is configured, a job gets the chain of the connection that delivered it. A runner that asks every
/// three seconds would keep that connection, and the chain of a certificate that the server has replaced, for the
/// 15 min of `connection_max_age`.
const CHAIN_MAX_AGE: Duration = Duration::from_secs(60);

/// The generations of one client, by host where hosts differ in their files.
pub(super) struct Generations {
    trust: TrustSettings,
    connection_max_age: Duration,
    proxies: Arc<ProxyRules>,
    addresses: Addresses,
    now: fn() -> Timestamp,
    provider: ProviderTls,
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

/// A host's files and what was made of them.
struct Current {
    read: ReadFiles,
    made: Made,
}

/// What a host's files gave, the last good state of each.
struct ReadFiles {
    files: HostFiles,
    ca_stamp: Option<Stamp>,
    anchors: Anchors,
    ca_bytes: Option<Bytes>,
    pair: Option<KeyPair>,
}

/// A generation and what it was made of.
struct Made {
    trusted: Trusted,
    identity: Option<Arc<CertifiedKey>>,
    store: Arc<Store>,
    generation: Arc<Generation>,
}

/// The two parts of what is trusted towards a host. The same content is the same `Arc`.
#[derive(Debug, Clone, Default)]
pub struct Trusted {
    /// The platform's certificates.
    pub system: Arc<Store>,
    /// What `tls-ca-file`, a predefined file or certificates in memory add.
    pub configured: Arc<Store>,
}

impl Generations {
    pub(super) fn new(
        trust: TrustSettings,
        connection_max_age: Duration,
        proxies: Arc<ProxyRules>,
        addresses: Addresses,
        now: fn() -> Timestamp,
        provider: ProviderTls,
    ) -> Arc<Self> {
        let this = Arc::new(Self {
            trust,
            connection_max_age,
            proxies,
            addresses,
            now,
            provider,
            current: Mutex::default(),
        });
        watch::register(&this);
        this
    }

    /// The generation for calls to `host` now. Looks at the disk, so on a thread that may block.
    pub(super) async fn current(this: &Arc<Self>, host: String) -> Result<Arc<Generation>, String> {
        let this = Arc::clone(this);
        let refreshing = tokio::task::spawn_blocking(move || {
            this.refreshed(&host, |current| Arc::clone(&current.made.generation))
        });
        match refreshing.await {
            Ok(generation) => generation,
            Err(error) => Err(format!("loading the trusted certificates: {error}")),
        }
    }

    pub(super) fn ca_file_bytes(&self, host: &str) -> Option<Bytes> {
        let bytes = self.refreshed(host, |current| current.read.ca_bytes.clone());
        bytes.ok().flatten()
    }

    pub(super) fn trusted(&self, host: &str) -> Option<Trusted> {
        let trusted = self.refreshed(host, |current| current.made.trusted.clone());
        trusted.ok()
    }

    /// All that is trusted towards `host` now.
    pub(super) fn store(&self, host: &str) -> Option<Arc<Store>> {
        let store = self.refreshed(host, |current| Arc::clone(&current.made.store));
        store.ok()
    }

    pub(super) fn system_store(&self) -> Arc<Store> {
        self.trust.system.load()
    }

    pub(super) fn is_without_system_roots(&self) -> bool {
        self.trust.system == SystemRoots::None
    }

    pub(super) fn client_pair(&self, host: &str) -> Option<(Bytes, Bytes)> {
        let in_use = self.refreshed(host, |current| {
            let pair = current.read.pair.as_ref()?;
            let (certificate, key) = pair.contents_in_use()?;
            Some((
                certificate.clone(),
                Bytes::copy_from_slice(key.expose_secret()),
            ))
        });
        if let Ok(Some(pair)) = in_use {
            return Some(pair);
        }
        // As upstream, which does not ask whether they form a pair.
        let PairFiles { certificate, key } = self.trust.files_for(host).pair?;
        match (read(&certificate), read(&key)) {
            (Reading::Bytes(certificate), Reading::Bytes(key)) => {
                Some((certificate.into(), key.into()))
            }
            _ => None,
        }
    }

    fn refreshed<T>(&self, host: &str, take: impl FnOnce(&Current) -> T) -> Result<T, String> {
        let host = if self.trust.depends_on_host() {
            host
        } else {
            ""
        };
        let mut disk = Disk::before_use();
        let mut all = locked(&self.current);
        if let Some(current) = all.get_mut(host) {
            self.follow(current, host, &mut disk)?;
            return Ok(take(current));
        }
        let first = self.first(host, &mut disk)?;
        Ok(take(all.entry(host.to_owned()).or_insert(first)))
    }

    fn first(&self, host: &str, disk: &mut Disk) -> Result<Current, String> {
        let mut read = ReadFiles::of(self.trust.files_at(host, disk));
        let trusted = self.read(&mut read, disk);
        let made = self.make(trusted, read.identity())?;
        Ok(Current { read, made })
    }

    /// Reads what is new on the disk.
    fn read(&self, read: &mut ReadFiles, disk: &mut Disk) -> Trusted {
        read.look_at_ca(self.trust.inline_ca.as_deref(), disk);
        read.look_at_pair(disk);
        Trusted {
            system: disk.system(&self.trust.system),
            configured: Arc::clone(read.anchors.store()),
        }
    }

    /// Brings a host's trust up to date. What was made before stays when nothing that counts is different.
    fn follow(&self, current: &mut Current, host: &str, disk: &mut Disk) -> Result<(), String> {
        let files = self.trust.files_at(host, disk);
        if files.pair != current.read.files.pair {
            current.read.pair = files.pair.clone().map(KeyPair::new);
        }
        current.read.files = files;
        let trusted = self.read(&mut current.read, disk);
        let identity = current.read.identity();
        let made = &current.made;
        let same_identity = match (&made.identity, &identity) {
            (Some(last), Some(new)) => Arc::ptr_eq(last, new),
            (last, new) => last.is_none() && new.is_none(),
        };
        if same_identity
            && Arc::ptr_eq(&made.trusted.system, &trusted.system)
            && Arc::ptr_eq(&made.trusted.configured, &trusted.configured)
        {
            return Ok(());
        }
        let next = self.make(trusted, identity)?;
        if !(same_identity && made.store.trusts_the_same(&next.store)) {
            tracing::info!(
                generation = next.store.generation().0,
                "trusted certificates or the client certificate have changed; new connections use them"
            );
        }
        std::mem::replace(&mut current.made, next)
            .generation
            .retire();
        watch::changed();
        Ok(())
    }

    fn make(&self, trusted: Trusted, identity: Option<Arc<CertifiedKey>>) -> Result<Made, String> {
        let store = Store::builder()
            .include(&trusted.system)
            .include(&trusted.configured)
            .include(&self.provider.anchors)
            .build(next_number());
        let store = Arc::new(store);
        let shown = identity.clone().or_else(|| self.provider.identity.clone());
        let tls = ClientTls::new(Arc::clone(&store), shown, self.now)
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let connector = Connector::new(tls, Arc::clone(&self.proxies), self.addresses)
            .expecting(self.provider.server_name.clone());
        let hands_out_chains = trusted.configured.certificates().is_empty();
        let max_age = max_age(self.connection_max_age, hands_out_chains);
        Ok(Made {
            trusted,
            identity,
            store,
            generation: Arc::new(Generation::new(connector, max_age)),
        })
    }
}

impl Watched for Generations {
    fn look(&self, disk: &mut Disk) -> Settled {
        let mut settled = Settled::Yes;
        for (host, current) in locked(&self.current).iter_mut() {
            if let Err(error) = self.follow(current, host, disk) {
                tracing::error!("{error}");
            }
            settled = settled.and(current.read.settled());
        }
        settled
    }

    fn report(&self, inventory: &mut Inventory) {
        for current in locked(&self.current).values() {
            let Made { trusted, store, .. } = &current.made;
            let generation = store.generation().0;
            inventory.trusted(generation, &trusted.system, &trusted.configured);
            if let Some(pair) = &current.read.pair
                && let Some(leaf) = pair.current().and_then(|shown| shown.cert.first())
            {
                inventory.shown(Role::Client, &pair.files().certificate, leaf);
            }
        }
    }
}

impl ReadFiles {
    fn of(files: HostFiles) -> Self {
        Self {
            ca_stamp: None,
            anchors: Anchors::default(),
            ca_bytes: None,
            pair: files.pair.clone().map(KeyPair::new),
            files,
        }
    }

    fn identity(&self) -> Option<Arc<CertifiedKey>> {
        self.pair.as_ref().and_then(KeyPair::current).cloned()
    }

    fn settled(&self) -> Settled {
        let anchors = Settled::of(self.anchors.contents());
        let pair = self.pair.as_ref();
        anchors.and(pair.map_or(Settled::Yes, |pair| Settled::of(pair.contents())))
    }

    /// What `tls-ca-file` or the predefined file and the certificates in memory add.
    fn look_at_ca(&mut self, inline: Option<&str>, disk: &mut Disk) {
        let file = self.files.ca.as_ref();
        // Taken before the file is read: a change in between is seen at the next look.
        let stamp = file.and_then(|file| disk.stamp(file.path()));
        if stamp == self.ca_stamp && !self.anchors.contents().must_be_read_again(disk.at()) {
            return;
        }
        self.ca_stamp = stamp;
        let reading = file.map(|file| read(file.path()));
        let mut readings = Vec::new();
        if let (Some(file), Some(reading)) = (file, &reading) {
            readings.push((file.source(), reading.clone()));
        }
        if let Some(text) = inline {
            let source = Source::Inline("the certificates given in memory".to_owned());
            readings.push((source, Reading::Bytes(text.into())));
        }
        let Some(change) = self.anchors.take(readings, disk.at()) else {
            return;
        };
        if change.waiting {
            return;
        }
        if let (Some(file), Some(reading)) = (file, reading) {
            let usable =
                self.anchors.store().consulted().iter().any(|consulted| {
                    *consulted.source == file.source() && consulted.certificates > 0
                });
            let path = file.path();
            let is_news = if change.kept.is_empty() {
                if inventory::file_settled(path) && usable {
                    tracing::info!("{} is good again", path.display());
                }
                true
            } else {
                inventory::file_refused(path, self.anchors.contents().fingerprint())
            };
            if is_news {
                say(file, &reading, &change, self.anchors.store(), usable);
            }
            if change.kept.is_empty() {
                self.ca_bytes = match reading {
                    Reading::Bytes(bytes) if usable => Some(bytes.into()),
                    _ => None,
                };
            }
        }
    }

    fn look_at_pair(&mut self, disk: &mut Disk) {
        let Some(pair) = &mut self.pair else {
            return;
        };
        let change = pair.look(disk, tls::certified_key);
        let PairFiles { certificate, key } = pair.files();
        let (shown, shown_key) = (certificate.display(), key.display());
        match change {
            Some(PairChange::New) => {
                tracing::debug!("Trying to load {shown} and {shown_key} pair...");
                if inventory::file_settled(certificate) {
                    tracing::info!("{shown} and {shown_key} are good again");
                }
            }
            Some(PairChange::Refused(error)) => {
                if !inventory::file_refused(certificate, pair.contents().fingerprint()) {
                    return;
                }
                let error = tls::with_key_file(&error, key);
                tracing::error!("Failed to load {shown} {shown_key} {error}");
                if pair.current().is_some() {
                    tracing::warn!("the last good client certificate of {shown} stays in use");
                }
            }
            Some(PairChange::Gone) => {
                inventory::file_settled(certificate);
                tracing::warn!(
                    "{shown} or {shown_key} is gone; no client certificate is sent any more"
                );
            }
            None => {}
        }
    }
}

/// Says what became of a CA file, in upstream's words where it has some.
fn say(file: &CaFile, reading: &Reading, change: &Change, store: &Store, usable: bool) {
    let shown = file.path().display();
    tracing::debug!("Trying to load {shown} ...");
    for gone in &change.gone {
        tracing::warn!("{gone}");
    }
    match reading {
        Reading::Unreadable(error) => tracing::error!("Failed to load {shown} {error}"),
        Reading::Absent if change.gone.is_empty() && matches!(file, CaFile::Configured(_)) => {
            tracing::warn!("tls-ca-file {shown} does not exist");
        }
        _ => {}
    }
    for block in store.skipped() {
        if !block.reason.is_harmless() {
            tracing::warn!("{block}");
        }
    }
    for kept in &change.kept {
        tracing::warn!("{kept}");
    }
    if matches!(reading, Reading::Bytes(_)) && (!change.kept.is_empty() || !usable) {
        tracing::error!("Failed to parse PEM in {shown}");
    }
}

/// How old connections get; zero = as old as they may.
fn max_age(configured: Duration, hands_out_chains: bool) -> Duration {
    if hands_out_chains {
        configured.min(CHAIN_MAX_AGE)
    } else {
        configured
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

    /// Ends its connections: idle ones now, others with the request that they carry.
    fn retire(&self) {
        self.connector.retire();
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

fn next_number() -> trust::Generation {
    static LAST: AtomicU64 = AtomicU64::new(0);
    trust::Generation(LAST.fetch_add(1, Ordering::Relaxed) + 1)
}

/// The data behind these locks is whole at every await-free step, so a panic elsewhere does not spoil it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_whose_chains_jobs_get_are_young() {
        let seconds = Duration::from_secs;
        for (configured, hands_out_chains, expected) in [
            (900, true, 60),
            (900, false, 900),
            (10, true, 10),
            // Never closed for their age: that was asked for.
            (0, true, 0),
        ] {
            assert_eq!(
                max_age(seconds(configured), hands_out_chains),
                seconds(expected)
            );
        }
    }
}
