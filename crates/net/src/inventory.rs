//! Every certificate that this process trusts, shows or was shown, with its last day; and which files are refused.
//!
//! What clients and listeners follow is asked of them when somebody wants to know. What servers showed is written
//! down here, bounded, since servers choose it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use courser_trust::{
    Certificate, Fingerprint, Moment, Source, Store, TrustedCertificate, VerifiedChains,
};

use crate::watch;

/// Certificates told of; those that end last are left out.
const TOLD: usize = 500;
/// Certificates of servers that are remembered.
const REMEMBERED: usize = 256;
/// Files whose refusals are counted.
const FILES: usize = 1000;

static SHOWN: Mutex<Vec<Dated>> = Mutex::new(Vec::new());
static REFUSED: Mutex<BTreeMap<String, Refusals>> = Mutex::new(BTreeMap::new());
static HANDSHAKES: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// What a certificate is to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Trusted, from a configured file.
    Anchor,
    /// Shown by us to servers.
    Client,
    /// Shown by us to clients.
    Listener,
    /// Shown by a server, its own.
    Leaf,
    /// Between a server's and the anchor.
    Intermediate,
    /// What a server's chain ended at.
    ChainAnchor,
}

impl Role {
    /// The word in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anchor => "anchor",
            Self::Client => "client",
            Self::Listener => "listener",
            Self::Leaf => "leaf",
            Self::Intermediate => "intermediate",
            Self::ChainAnchor => "chain_anchor",
        }
    }
}

/// A certificate and when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dated {
    /// What it is here.
    pub role: Role,
    /// File, or host name of the server that showed it.
    pub source: String,
    /// To whom it was given.
    pub subject: String,
    /// SHA-256.
    pub fingerprint: Fingerprint,
    /// Last moment of validity.
    pub not_after: Moment,
}

/// The platform's store as a whole: its hundreds of certificates are its vendor's concern.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SystemStore {
    /// Certificates in it.
    pub certificates: usize,
    /// Those that have ended.
    pub expired: usize,
    /// When the next one ends.
    pub next_end: Option<Moment>,
}

/// How often the content of a file was refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Contents refused.
    pub total: u64,
    /// The content of now; its last good one is in force.
    now: Option<Fingerprint>,
}

impl Refusals {
    /// Whether the file's last good content is in force instead of what lies on the disk.
    pub fn is_refused_now(&self) -> bool {
        self.now.is_some()
    }
}

/// The state of trust of this process.
#[derive(Debug, Clone, Default)]
pub struct TrustReport {
    /// The newest generation in use.
    pub generation: u64,
    /// Changes of what is trusted or shown.
    pub changes: u64,
    /// By role, source and end; at most 500.
    pub certificates: Vec<Dated>,
    /// Certificates beyond those.
    pub left_out: usize,
    /// The platform's store.
    pub system: SystemStore,
    /// By file.
    pub refusals: BTreeMap<String, Refusals>,
    /// Handshakes with servers that were accepted.
    pub accepted: u64,
    /// Handshakes with servers whose certificate was refused.
    pub refused: u64,
}

/// What clients and listeners say of themselves.
#[derive(Default)]
pub(crate) struct Inventory {
    generation: u64,
    sources: HashSet<Source>,
    certificates: HashMap<(Role, String, Fingerprint), Dated>,
    systems: HashSet<usize>,
    system: SystemStore,
    now: Option<Moment>,
}

/// What this process trusts, shows and was shown now.
pub fn trust_report(now: jiff::Timestamp) -> TrustReport {
    let mut inventory = Inventory {
        now: Some(now.into()),
        ..Inventory::default()
    };
    watch::report(&mut inventory);
    for dated in locked(&SHOWN).iter() {
        inventory.put(dated.clone());
    }
    let mut certificates: Vec<_> = inventory.certificates.into_values().collect();
    certificates.sort_by(|a, b| {
        let key = |dated: &Dated| (dated.not_after, dated.role, dated.fingerprint);
        key(a).cmp(&key(b)).then_with(|| a.source.cmp(&b.source))
    });
    let left_out = certificates.len().saturating_sub(TOLD);
    certificates.truncate(TOLD);
    TrustReport {
        generation: inventory.generation,
        changes: watch::changes(),
        certificates,
        left_out,
        system: inventory.system,
        refusals: locked(&REFUSED).clone(),
        accepted: HANDSHAKES[0].load(Ordering::Relaxed),
        refused: HANDSHAKES[1].load(Ordering::Relaxed),
    }
}

impl Inventory {
    /// One client's trust towards one host.
    pub(crate) fn trusted(&mut self, generation: u64, system: &Store, configured: &Store) {
        self.generation = self.generation.max(generation);
        // Clients share the parsed system's store.
        if self.systems.insert(std::ptr::from_ref(system).addr()) {
            self.count_system(system);
        }
        let new: HashSet<&Source> = configured
            .consulted()
            .iter()
            .map(|consulted| &*consulted.source)
            .filter(|source| !self.sources.contains(source))
            .collect();
        for trusted in configured.certificates() {
            if new.contains(trusted.source()) {
                self.put(anchor(trusted));
            }
        }
        self.sources.extend(new.into_iter().cloned());
    }

    /// A certificate that is shown, from this file.
    pub(crate) fn shown(&mut self, role: Role, file: &Path, der: &[u8]) {
        if let Ok(certificate) = Certificate::parse(der) {
            self.put(dated(role, file.display().to_string(), &certificate));
        }
    }

    fn count_system(&mut self, store: &Store) {
        let now = self.now.unwrap_or(Moment::from_unix_seconds(0));
        for trusted in store.certificates() {
            let end = trusted.certificate().not_after();
            self.system.certificates += 1;
            if end < now {
                self.system.expired += 1;
            } else if self.system.next_end.is_none_or(|next| end < next) {
                self.system.next_end = Some(end);
            }
        }
    }

    fn put(&mut self, dated: Dated) {
        let key = (dated.role, dated.source.clone(), dated.fingerprint);
        self.certificates.insert(key, dated);
    }
}

fn anchor(trusted: &TrustedCertificate) -> Dated {
    dated(Role::Anchor, trusted.source().name(), trusted.certificate())
}

fn dated(role: Role, source: String, certificate: &Certificate) -> Dated {
    Dated {
        role,
        source,
        subject: certificate.subject().to_string(),
        fingerprint: certificate.fingerprint(),
        not_after: certificate.not_after(),
    }
}

/// A server was accepted with these chains.
pub(crate) fn accepted(host: &str, chains: &VerifiedChains) {
    HANDSHAKES[0].fetch_add(1, Ordering::Relaxed);
    let Some(chain) = chains.chains().first() else {
        return;
    };
    let last = chain.certificates().len() - 1;
    let mut shown = locked(&SHOWN);
    // The newest first; what a host showed before its renewal is forgotten.
    shown.retain(|dated| dated.source != host);
    for (index, certificate) in chain.certificates().iter().enumerate().rev() {
        let role = match index {
            0 => Role::Leaf,
            index if index == last => Role::ChainAnchor,
            _ => Role::Intermediate,
        };
        shown.insert(0, dated(role, host.to_owned(), certificate));
    }
    shown.truncate(REMEMBERED);
}

/// A server's certificate was refused.
pub(crate) fn refused() {
    HANDSHAKES[1].fetch_add(1, Ordering::Relaxed);
}

/// The content of a file cannot be used. `true`: nobody has said so yet; a hundred clients may follow one file.
pub(crate) fn file_refused(file: &Path, content: Fingerprint) -> bool {
    let mut all = locked(&REFUSED);
    let name = file.display().to_string();
    if all.len() >= FILES && !all.contains_key(&name) {
        return true;
    }
    let refusals = all.entry(name).or_default();
    if refusals.now == Some(content) {
        return false;
    }
    refusals.now = Some(content);
    refusals.total += 1;
    true
}

/// A file is good, or gone. `true`: it was refused before, and nobody has said so yet.
pub(crate) fn file_settled(file: &Path) -> bool {
    let mut all = locked(&REFUSED);
    let refusals = all.get_mut(&file.display().to_string());
    refusals.is_some_and(|refusals| refusals.now.take().is_some())
}

/// The lists are whole at every step, so a panic elsewhere does not spoil them.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use courser_testkit::pki::Authority;
    use courser_trust::{Generation, PeerName, Usage, verify};

    use super::*;

    #[test]
    fn a_store_is_told_once_however_many_clients_use_it() {
        let pem = Authority::root("Told once").issue().certificate_pem();
        let file = Source::Configured("/told/once.pem".into());
        let configured = Store::builder()
            .add(file, pem.as_bytes())
            .build(Generation(7));
        let system = Arc::new(
            Store::builder()
                .add(
                    Source::System("/bundle".into()),
                    (pem + &Authority::root("Two").issue().certificate_pem()).as_bytes(),
                )
                .build(Generation(1)),
        );
        let mut inventory = Inventory::default();
        for _ in 0..100 {
            inventory.trusted(7, &system, &configured);
        }
        assert_eq!(inventory.certificates.len(), 1);
        assert_eq!(inventory.system.certificates, 2);
        let told = inventory.certificates.into_values().next().unwrap();
        assert_eq!(
            (told.role, told.source.as_str(), told.subject.as_str()),
            (Role::Anchor, "/told/once.pem", "CN=Told once")
        );
    }

    #[test]
    fn what_a_host_shows_replaces_what_it_showed_and_is_bounded() {
        let root = Authority::root("Root").issue();
        let store = Store::builder()
            .add(
                Source::Inline("test".into()),
                root.certificate_pem().as_bytes(),
            )
            .build(Generation(1));
        let show = |host: &str| {
            let leaf = root.server(&[host]).issue();
            let now = "2026-11-21T00:00:00Z".parse().unwrap();
            let name = PeerName::from_host(host);
            let chains = verify(leaf.der(), &[], &store, Some(&name), now, Usage::ServerAuth);
            accepted(host, &chains.unwrap());
        };
        let of = |host: &str| {
            let shown = locked(&SHOWN);
            shown.iter().filter(|dated| dated.source == host).count()
        };
        show("again.inventory.test");
        show("again.inventory.test");
        assert_eq!(of("again.inventory.test"), 2, "leaf and root");
        for index in 0..REMEMBERED {
            show(&format!("{index}.inventory.test"));
        }
        assert_eq!(of("again.inventory.test"), 0);
        assert!(locked(&SHOWN).len() <= REMEMBERED);
    }

    #[test]
    fn a_refused_file_is_said_by_the_first_who_finds_it_so() {
        let file = Path::new("/refused/by/many.pem");
        let (one, two) = (Fingerprint::of(b"1"), Fingerprint::of(b"2"));
        assert!(!file_settled(file));
        assert!(file_refused(file, one) && !file_refused(file, one));
        assert!(file_refused(file, two));
        assert!(file_settled(file) && !file_settled(file));
        let told = trust_report(jiff::Timestamp::UNIX_EPOCH).refusals;
        assert_eq!(told["/refused/by/many.pem"].total, 2);
    }
}
