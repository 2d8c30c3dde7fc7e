//! What the files of a leg hold now, for people: nothing is kept, nothing is logged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use courser_trust::{Certificate, Generation, Reading, ServedChain, Source, SourceContent, Store};

use crate::TrustSettings;
use crate::disk::read;
use crate::key_pair::PairFiles;
use crate::tls;
use crate::trust_files::CaFile;

/// The state of a leg's files.
#[derive(Debug)]
pub struct Look {
    /// The platform's roots.
    pub system: Arc<Store>,
    /// The CA file and text in memory, in order, also those that are not there.
    pub sources: Vec<LookedSource>,
    /// The client certificate, when two names make a pair.
    pub pair: Option<LookedPair>,
}

/// One source of private trust.
#[derive(Debug)]
pub struct LookedSource {
    /// Its name and who named it.
    pub source: Source,
    /// What it holds.
    pub state: SourceState,
}

/// What a source holds.
#[derive(Debug)]
pub enum SourceState {
    /// There is no such file.
    Absent,
    /// It cannot be read; why.
    Unreadable(String),
    /// Its certificates and what was skipped, in a store of its own.
    Present(Box<Store>),
}

/// A client certificate and its key.
#[derive(Debug)]
pub struct LookedPair {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
    /// The certificates of the first file that can be read, the client's own first.
    pub chain: Vec<Certificate>,
    /// Permission bits of the key's file, where there are such.
    pub key_mode: Option<u32>,
    /// Why it is not shown to servers.
    pub unusable: Option<Unusable>,
}

/// Why a pair is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// A file is not there, which is no error.
    Absent(PathBuf),
    /// The pair does not work.
    Broken(String),
}

impl TrustSettings {
    /// Looks at all files that count for `host`, a name or address without port and brackets. Blocks.
    pub fn look(&self, host: &str) -> Look {
        let files = self.files_for(host);
        let mut sources = Vec::new();
        if let Some(file) = &files.ca {
            sources.push(looked(file.source(), read(file.path())));
        }
        if let Some(text) = &self.inline_ca {
            let source = Source::Inline("text in memory".to_owned());
            sources.push(looked(source, Reading::Bytes(text.clone().into_bytes())));
        }
        Look {
            system: self.system.load(),
            sources,
            pair: files.pair.map(looked_pair),
        }
    }

    /// The predefined files that are looked for, because their options are empty.
    pub fn predefined_names(&self, host: &str) -> Vec<PathBuf> {
        let files = self.files_for(host);
        let ca = match files.ca {
            Some(CaFile::Predefined(path)) => Some(path),
            _ => None,
        };
        let named = |path: &PathBuf| {
            self.cert_file.as_ref() != Some(path) && self.key_file.as_ref() != Some(path)
        };
        let pair = files
            .pair
            .into_iter()
            .flat_map(|pair| [pair.certificate, pair.key]);
        ca.into_iter().chain(pair.filter(named)).collect()
    }
}

fn looked(source: Source, reading: Reading) -> LookedSource {
    let state = match reading {
        Reading::Absent => SourceState::Absent,
        Reading::Unreadable(error) => SourceState::Unreadable(error),
        Reading::Bytes(bytes) => {
            let content = SourceContent::read(source.clone(), &bytes);
            let store = Store::builder().add_content(&content);
            SourceState::Present(Box::new(store.build(Generation(1))))
        }
    };
    LookedSource { source, state }
}

fn looked_pair(PairFiles { certificate, key }: PairFiles) -> LookedPair {
    let (chain_bytes, key_bytes) = (read(&certificate), read(&key));
    let chain = match &chain_bytes {
        Reading::Bytes(bytes) => {
            let chain = ServedChain::read(Source::Configured(certificate.clone()), bytes);
            let all = chain.certificates().iter();
            all.filter_map(|der| Certificate::parse(der).ok()).collect()
        }
        _ => Vec::new(),
    };
    let unusable = match (chain_bytes, key_bytes) {
        (Reading::Bytes(chain), Reading::Bytes(key_bytes)) => {
            let error = tls::certified_key(&chain, &key_bytes).err();
            error.map(|error| Unusable::Broken(tls::with_key_file(&error, &key)))
        }
        (Reading::Unreadable(error), _) => Some(broken(&certificate, &error)),
        (_, Reading::Unreadable(error)) => Some(broken(&key, &error)),
        (Reading::Absent, _) => Some(Unusable::Absent(certificate.clone())),
        (_, Reading::Absent) => Some(Unusable::Absent(key.clone())),
    };
    LookedPair {
        key_mode: mode(&key),
        chain,
        unusable,
        certificate,
        key,
    }
}

fn broken(path: &Path, error: &str) -> Unusable {
    Unusable::Broken(format!("cannot read {}: {error}", path.display()))
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(path).ok()?;
    Some(metadata.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn mode(_: &Path) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use courser_testkit::pki::Authority;

    use super::*;
    use crate::SystemRoots;

    #[test]
    fn a_look_tells_what_is_there_what_is_not_and_whether_the_pair_fits() {
        let directory = tempfile::tempdir().unwrap();
        let root = Authority::root("root").issue();
        let (one, two) = (root.client("one").issue(), root.client("two").issue());
        let write = |name: &str, text: String| std::fs::write(directory.path().join(name), text);
        let settings = TrustSettings {
            system: SystemRoots::None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            certificate_directory: Some(directory.path().to_owned()),
            inline_ca: None,
        };
        let look = settings.look("h.test");
        assert!(matches!(look.sources[0].state, SourceState::Absent));
        assert!(matches!(
            look.pair.unwrap().unusable,
            Some(Unusable::Absent(path)) if path.ends_with("h.test.auth.crt")
        ));
        assert_eq!(settings.predefined_names("h.test").len(), 3);

        write("h.test.crt", root.certificate_pem()).unwrap();
        write("h.test.auth.crt", one.chain_pem()).unwrap();
        write("h.test.auth.key", two.key_pem()).unwrap();
        let look = settings.look("h.test");
        let SourceState::Present(store) = &look.sources[0].state else {
            panic!("it is there");
        };
        assert_eq!(store.certificates().len(), 1);
        let pair = look.pair.unwrap();
        assert_eq!(pair.chain.len(), 1);
        assert!(
            matches!(&pair.unusable, Some(Unusable::Broken(why)) if why.contains("not the certificate's"))
        );
        write("h.test.auth.key", one.key_pem()).unwrap();
        assert_eq!(settings.look("h.test").pair.unwrap().unusable, None);
    }
}
