//! `vault`.

use courser_protocol::secrets::VaultSecret;

use crate::Failure;
use crate::resolve::{Resolution, Session};

/// The secrets of one job there.
pub(crate) struct Vault<'a> {
    _session: &'a Session<'a>,
}

impl<'a> Vault<'a> {
    pub(crate) fn new(session: &'a Session<'a>) -> Self {
        Self { _session: session }
    }

    pub(crate) async fn get(&self, _secret: &VaultSecret) -> Result<Resolution, Failure> {
        Err(Failure::system("vault is not built yet"))
    }
}
