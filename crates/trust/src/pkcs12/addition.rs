//! Certificates put into a PKCS#12 truststore that exists; all that is in it stays as it is, encrypted parts too.

use std::collections::HashSet;

use crate::certificate::{Certificate, Fingerprint};
use crate::certificate_file::ItemContent;
use crate::der::{self, Reader};
use crate::truststore::{self, Entry, element};

use super::encryption::{self, Password, Work};
use super::{Pkcs12Error, WHAT, contents, outline};

/// The store with those of `entries` that are not in it, as a part of their own; `None` when all of them are. The MAC is
/// made anew with the one of `passwords` that fits it.
///
/// # Errors
///
/// [`Pkcs12Error::NotPkcs12`] also for BER, and whatever keeps the store closed.
pub(crate) fn add(
    bytes: &[u8],
    passwords: &[&str],
    entries: &[(String, &Certificate)],
    work: &mut Work,
) -> Result<Option<Vec<u8>>, Pkcs12Error> {
    let (safe, mac) = outline(bytes).map_err(|_| Pkcs12Error::NotPkcs12)?;
    if safe.tag != der::OCTET_STRING {
        return Err(Pkcs12Error::NotPkcs12);
    }
    let candidates = passwords.iter().map(|password| Password::of(password));
    for password in candidates.chain([Password::none()]) {
        if let Some(mac) = &mac
            && !encryption::mac_fits(mac, safe.content(), &password, work)?
        {
            continue;
        }
        let found = match contents(safe.content(), &password, work) {
            Ok(found) => found,
            Err(Pkcs12Error::WrongPassword) => continue,
            Err(other) => return Err(other),
        };
        let known: HashSet<Fingerprint> = found.iter().filter_map(fingerprint).collect();
        let missing = entries
            .iter()
            .filter(|(_, certificate)| !known.contains(&certificate.fingerprint()));
        let missing: Vec<Entry<'_>> = missing.map(entry).collect();
        if missing.is_empty() {
            return Ok(None);
        }
        let parts = Reader::new(safe.content()).read(der::SEQUENCE, WHAT)?;
        let parts = [parts.content(), &truststore::part(missing.into_iter())].concat();
        let Some(mac) = &mac else {
            return Ok(Some(truststore::pfx(&parts, None)));
        };
        let whole = truststore::authenticated_safe(&parts);
        let made = encryption::mac_over(mac, &whole, &password, work)?
            .ok_or_else(|| Pkcs12Error::Unsupported("an unknown kind of MAC".to_owned()))?;
        let digest = element(der::OCTET_STRING, made.tag.as_ref());
        let info = element(der::SEQUENCE, &[made.algorithm.encoded(), &digest].concat());
        let mac = element(der::SEQUENCE, &[&info, made.derivation].concat());
        return Ok(Some(truststore::pfx(&parts, Some(&mac))));
    }
    Err(Pkcs12Error::WrongPassword)
}

fn entry<'a>((alias, certificate): &'a (String, &Certificate)) -> Entry<'a> {
    Entry {
        alias,
        certificate: certificate.der(),
    }
}

fn fingerprint(item: &ItemContent) -> Option<Fingerprint> {
    match item {
        ItemContent::Certificate(certificate) => Some(certificate.fingerprint()),
        _ => None,
    }
}
