//! Trust and identity towards servers of secrets, read once: for clients that live as long as a job
//! (`secrets.md` 5.6). A file that is named and cannot be used is an error, not a line in the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use courser_trust::{Generation, Reading, Source, Store, StoreBuilder};
use rustls::sign::CertifiedKey;
use secrecy::ExposeSecret as _;

use crate::disk::read;
use crate::legs::{SecretsPair, SecretsTrust};
use crate::tls;

/// Files that a directory of certificates may have, and how deep they may lie.
const FILES: usize = 10_000;
const DEPTH: usize = 16;

/// What a client trusts beside its settings, who it is, and whom it expects.
#[derive(Clone, Default)]
pub struct ProviderTls {
    pub(crate) anchors: Arc<Store>,
    pub(crate) identity: Option<Arc<CertifiedKey>>,
    pub(crate) server_name: Option<String>,
}

impl ProviderTls {
    /// Whether there is a client certificate to show.
    pub fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    /// The same trust for servers that are shown no client certificate.
    #[must_use]
    pub fn without_identity(&self) -> Self {
        Self {
            identity: None,
            ..self.clone()
        }
    }

    /// The same trust for servers whose certificates must have the names of their URLs.
    #[must_use]
    pub fn without_server_name(&self) -> Self {
        Self {
            server_name: None,
            ..self.clone()
        }
    }
}

impl SecretsTrust {
    /// Reads what the variables name. Blocks.
    ///
    /// # Errors
    ///
    /// Upstream's words where it has some: `Error loading CA File: open FILE: no such file or directory`.
    pub fn read(&self) -> Result<ProviderTls, String> {
        let mut store = Store::builder();
        if let Some(path) = &self.trust.ca_file {
            let bytes = loaded(path)?;
            store = with_certificates(store, Source::Configured(path.clone()), &bytes).ok_or_else(
                || {
                    format!(
                        "Error loading CA File: Couldn't parse PEM in: {}",
                        path.display()
                    )
                },
            )?;
        }
        if let Some(text) = &self.trust.inline_ca {
            let source = Source::Inline("the text of CACERT_BYTES".to_owned());
            store = with_certificates(store, source, text.as_bytes())
                .ok_or("Error appending CA: Couldn't parse PEM")?;
        }
        if let Some(directory) = &self.ca_directory {
            for path in files_below(directory)? {
                if let Reading::Bytes(bytes) = read(&path) {
                    let content =
                        courser_trust::SourceContent::read(Source::Configured(path), &bytes);
                    store = store.add_content(&content);
                }
            }
        }
        let pair = match &self.pair {
            Some(SecretsPair::Files(certificate, key)) => {
                let (chain, key_bytes) = (loaded(certificate)?, loaded(key)?);
                let pair = tls::certified_key(&chain, &key_bytes);
                Some(pair.map_err(|error| tls::with_key_file(&error, key))?)
            }
            Some(SecretsPair::Text(certificate, key)) => Some(tls::certified_key(
                certificate.as_bytes(),
                key.expose_secret().as_bytes(),
            )?),
            None => None,
        };
        Ok(ProviderTls {
            anchors: Arc::new(store.build(Generation(0))),
            identity: pair.map(Arc::new),
            server_name: self.server_name.clone(),
        })
    }
}

fn with_certificates(builder: StoreBuilder, source: Source, bytes: &[u8]) -> Option<StoreBuilder> {
    let content = courser_trust::SourceContent::read(source, bytes);
    let alone = Store::builder().add_content(&content).build(Generation(0));
    (!alone.certificates().is_empty()).then(|| builder.add_content(&content))
}

fn loaded(path: &Path) -> Result<Vec<u8>, String> {
    let path_shown = path.display();
    match read(path) {
        Reading::Bytes(bytes) => Ok(bytes),
        Reading::Absent => Err(format!(
            "Error loading CA File: open {path_shown}: no such file or directory"
        )),
        Reading::Unreadable(error) => Err(format!("Error loading CA File: {path_shown}: {error}")),
    }
}

/// All files of a directory and those below it, in order; a link to a directory is not followed.
fn files_below(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut waiting = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        let entries = std::fs::read_dir(&directory).map_err(|error| {
            format!(
                "Error loading CA directory {}: {error}",
                directory.display()
            )
        })?;
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEPTH => {
                    waiting.push((entry.path(), depth + 1));
                }
                Ok(kind) if kind.is_dir() => {}
                _ => found.push(entry.path()),
            }
            if found.len() > FILES {
                return Err(format!(
                    "{} has more than {FILES} files",
                    directory.display()
                ));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use courser_testkit::World;
    use courser_testkit::pki::Authority;

    use super::*;
    use crate::{Legs, SystemRoots};

    fn read_with(variables: &[(&str, &str)]) -> Result<ProviderTls, String> {
        Legs::new(SystemRoots::None, None, "/".into())
            .with_variables(variables.iter().copied())
            .secrets()
            .read()
    }

    #[test]
    fn files_directories_and_texts_add_up() {
        let world = World::new();
        let [one, two, three] = ["one", "two", "three"].map(|name| Authority::root(name).issue());
        let file = world.write("ca.crt", one.certificate_pem());
        world.write("all/deep/two.pem", two.certificate_pem());
        let directory = world.write("all/readme.txt", "no certificate");
        let directory = directory.parent().unwrap().to_str().unwrap();
        let tls = read_with(&[
            ("VAULT_CACERT", file.to_str().unwrap()),
            ("BAO_CAPATH", directory),
            ("VAULT_CACERT_BYTES", &three.certificate_pem()),
            ("VAULT_TLS_SERVER_NAME", "vault.internal"),
        ])
        .unwrap();
        assert_eq!(tls.anchors.certificates().len(), 3);
        assert_eq!(tls.server_name.as_deref(), Some("vault.internal"));
    }

    #[test]
    fn what_is_named_and_cannot_be_used_is_an_error() {
        let world = World::new();
        let text = world.write("text", "no certificate");
        let text = text.to_str().unwrap();
        for (name, value, expected) in [
            (
                "VAULT_CACERT",
                "/none",
                "Error loading CA File: open /none: no such file or directory",
            ),
            (
                "VAULT_CACERT",
                text,
                "Error loading CA File: Couldn't parse PEM in: ",
            ),
            (
                "BAO_CACERT_BYTES",
                "x",
                "Error appending CA: Couldn't parse PEM",
            ),
            ("BAO_CAPATH", "/none", "Error loading CA directory /none"),
        ] {
            let error = read_with(&[(name, value)]).err().unwrap();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(read_with(&[("BAO_CACERT", ""), ("VAULT_CACERT", "/none")]).is_ok());
    }
}
