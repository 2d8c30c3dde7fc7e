//! A certificate of its own for publishing keys where no other one is: the same at each start, so that a provider
//! can be told once to trust it (`oidc_discovery_ca_pem` of Vault). It signs nothing, itself excepted.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use super::IssuerUrl;
use crate::authority;
use crate::coordinator::StartError;
use crate::store::{private_dir, write_private};

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
    if certificate.is_file() && key.is_file() {
        return Ok((certificate, key));
    }
    private_dir(directory)?;
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
    Ok((certificate, key))
}
