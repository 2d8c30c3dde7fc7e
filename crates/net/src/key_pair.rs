//! A certificate with its key, in two files that change one after the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use courser_trust::Reading;
use rustls::sign::CertifiedKey;
use secrecy::SecretSlice;

use crate::disk::{Disk, Stamp, read};
use crate::followed::{Contents, Look};

/// The files of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PairFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The pair in use, followed through the changes of its files. Between the new certificate and its key
/// the old pair stays, and nothing is said.
#[derive(Debug)]
pub(crate) struct KeyPair {
    files: PairFiles,
    stamps: [Option<Stamp>; 2],
    contents: Contents,
    current: Option<InUse>,
    failure: Option<String>,
}

/// A pair that was found good, and the contents of its files, for jobs.
#[derive(Debug)]
struct InUse {
    shown: Arc<CertifiedKey>,
    certificate: Bytes,
    key: SecretSlice<u8>,
}

/// What a look at the files led to.
#[derive(Debug)]
pub(crate) enum PairChange {
    /// This pair from now on.
    New,
    /// One of the files is gone, and with it the pair, or what was refused as one.
    Gone,
    /// The files cannot be used; a pair that was there stays in use.
    Refused(String),
}

impl KeyPair {
    pub(crate) fn new(files: PairFiles) -> Self {
        Self {
            files,
            stamps: [None; 2],
            contents: Contents::default(),
            current: None,
            failure: None,
        }
    }

    pub(crate) fn files(&self) -> &PairFiles {
        &self.files
    }

    pub(crate) fn current(&self) -> Option<&Arc<CertifiedKey>> {
        self.current.as_ref().map(|pair| &pair.shown)
    }

    /// The contents of the files as they were when the pair in use was read: certificate and key that belong together,
    /// also while the files are being replaced.
    pub(crate) fn contents_in_use(&self) -> Option<(&Bytes, &SecretSlice<u8>)> {
        let pair = self.current.as_ref()?;
        Some((&pair.certificate, &pair.key))
    }

    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Looks at the files. `check` makes a pair of two contents or says why not.
    pub(crate) fn look(
        &mut self,
        disk: &mut Disk,
        check: impl FnOnce(&[u8], &[u8]) -> Result<CertifiedKey, String>,
    ) -> Option<PairChange> {
        let PairFiles { certificate, key } = &self.files;
        // Taken before the files are read: a change in between is seen at the next look.
        let stamps = [disk.stamp(certificate), disk.stamp(key)];
        let as_before = stamps == self.stamps && !self.contents.must_be_read_again(disk.at());
        // A pair that is refused for its dates becomes good without a change of its files.
        if as_before && self.failure.is_none() {
            return None;
        }
        self.stamps = stamps;
        let readings = [read(certificate), read(key)];
        self.take(&readings, disk.at(), check)
    }

    fn take(
        &mut self,
        readings: &[Reading; 2],
        now: Instant,
        check: impl FnOnce(&[u8], &[u8]) -> Result<CertifiedKey, String>,
    ) -> Option<PairChange> {
        let (known, patient) = match self.contents.look(readings.iter(), now) {
            Look::Known if self.failure.is_none() => return None,
            Look::Known => (true, false),
            Look::New { patient } => (false, patient),
        };
        let refused = match readings {
            [Reading::Bytes(certificate), Reading::Bytes(key)] => match check(certificate, key) {
                Ok(pair) => {
                    self.current = Some(InUse {
                        shown: Arc::new(pair),
                        certificate: Bytes::copy_from_slice(certificate),
                        key: SecretSlice::from(key.clone()),
                    });
                    self.failure = None;
                    self.contents.judged(false);
                    return Some(PairChange::New);
                }
                Err(error) => Some(error),
            },
            [Reading::Unreadable(error), _] | [_, Reading::Unreadable(error)] => {
                Some(error.clone())
            }
            _ => None,
        };
        if known {
            return None;
        }
        if patient && self.current.is_some() {
            self.contents.judged(true);
            return None;
        }
        self.contents.judged(false);
        let was_refused = self.failure.is_some();
        self.failure.clone_from(&refused);
        match refused {
            Some(error) => Some(PairChange::Refused(error)),
            None => (self.current.take().is_some() || was_refused).then_some(PairChange::Gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use courser_testkit::pki::Authority;

    use super::*;
    use crate::tls::certified_key;

    #[test]
    fn a_pair_changes_when_both_files_have_and_ends_with_either() {
        let files = PairFiles {
            certificate: "me.crt".into(),
            key: "me.key".into(),
        };
        let mut pair = KeyPair::new(files);
        let mut now = Instant::now();
        let bytes = |text: String| Reading::Bytes(text.into_bytes());
        let root = Authority::root("Clients").issue();
        let (one, two) = (root.client("one").issue(), root.client("two").issue());
        let take = |pair: &mut KeyPair, certificate: Reading, key: Reading, now: Instant| {
            pair.take(&[certificate, key], now, certified_key)
        };
        let (cert_one, key_one) = (bytes(one.certificate_pem()), bytes(one.key_pem()));
        let (cert_two, key_two) = (bytes(two.certificate_pem()), bytes(two.key_pem()));

        assert!(take(&mut pair, Reading::Absent, Reading::Absent, now).is_none());
        let change = take(&mut pair, cert_one, key_one.clone(), now);
        assert!(matches!(change, Some(PairChange::New)));
        let first = Arc::clone(pair.current().unwrap());

        let change = take(&mut pair, cert_two.clone(), key_one.clone(), now);
        assert!(change.is_none(), "the key may come in a moment");
        now += Duration::from_millis(250);
        let change = take(&mut pair, cert_two.clone(), key_one, now);
        assert!(matches!(change, Some(PairChange::Refused(_))));
        assert!(
            pair.failure
                .as_ref()
                .unwrap()
                .contains("not the certificate's")
        );
        assert!(Arc::ptr_eq(&first, pair.current().unwrap()));
        let change = take(&mut pair, cert_two.clone(), key_two, now);
        assert!(matches!(change, Some(PairChange::New)));
        assert!(pair.failure.is_none() && !Arc::ptr_eq(&first, pair.current().unwrap()));

        assert!(take(&mut pair, cert_two.clone(), Reading::Absent, now).is_none());
        now += Duration::from_millis(250);
        let change = take(&mut pair, cert_two, Reading::Absent, now);
        assert!(matches!(change, Some(PairChange::Gone)));
        assert!(pair.current().is_none());

        let broken = bytes("none".to_owned());
        let change = take(&mut pair, broken.clone(), broken, now);
        assert!(matches!(change, Some(PairChange::Refused(_))));
        now += Duration::from_millis(250);
        let change = take(&mut pair, Reading::Absent, Reading::Absent, now);
        assert!(
            matches!(change, Some(PairChange::Gone)),
            "it is not refused any more"
        );
    }
}
