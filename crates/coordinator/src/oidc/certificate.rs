//! A certificate of its own for publishing keys where no other one is: the same at each start, so that a provider
//! can be told once to trust it (`oidc_discovery_ca_pem` of Vault). It signs nothing, itself excepted.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use super::IssuerUrl;
use crate::authority;
use crate::coordinator::StartError;
use crate::store::{FileLock, private_dir, write_private};

/// Certificate and key for an issuer, made when they are not there.
///
/// # Errors
///
/// The directory, or making them.
pub fn certificate_of(
    issuer: &IssuerUrl,
    directory: &Path,
    now: Timestamp,
) -> Result<(PathBuf, PathBuf), StartError> {
    let host = issuer.host().unwrap_or_default();
    let name = host.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
    let certificate = directory.join(format!("{name}.crt"));
    let key = directory.join(format!("{name}.key"));
    private_dir(directory)?;
    // Both of one process: half a pair of each of two would match nothing.
    let lock = FileLock::of(&directory.join(format!("{name}.lock")))?;
    if certificate.is_file() && key.is_file() {
        return Ok((certificate, key));
    }
    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    if !names.contains(&host) {
        names.push(host);
    }
    let leaf = authority::self_signed(&names, now)?;
    write_private(&key, leaf.key_pem.expose_secret().as_bytes())?;
    // Last: a certificate that is there has its key.
    write_private(&certificate, leaf.chain_pem.as_bytes())?;
    drop(lock);
    Ok((certificate, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_start_at_once_have_one_pair() {
        let directory = tempfile::tempdir().unwrap();
        let issuer: IssuerUrl = "https://localhost:8443".parse().unwrap();
        let start = std::sync::Barrier::new(8);
        let pair = || {
            start.wait();
            let (certificate, key) =
                certificate_of(&issuer, directory.path(), Timestamp::now()).unwrap();
            [certificate, key].map(|path| std::fs::read_to_string(path).unwrap())
        };
        let pairs: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(pair)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(pairs.iter().all(|pair| *pair == pairs[0]));
        let key = rcgen::KeyPair::from_pem(&pairs[0][1]).unwrap();
        let body: String = pairs[0][0]
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        let der = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, body).unwrap();
        let public = key.public_key_raw();
        assert!(
            der.windows(public.len()).any(|part| part == public),
            "the certificate is of this key"
        );
    }
}
