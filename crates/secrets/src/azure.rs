//! `azure_key_vault`.

use courser_protocol::secrets::AzureSecret;

use crate::Failure;
use crate::resolve::{Resolution, Session};

/// The secrets of one job there.
pub(crate) struct Azure<'a> {
    _session: &'a Session<'a>,
}

impl<'a> Azure<'a> {
    pub(crate) fn new(session: &'a Session<'a>) -> Self {
        Self { _session: session }
    }

    /// Fetches one secret. Logins and reads that several secrets need are made once.
    pub(crate) async fn get(&self, _secret: &AzureSecret) -> Result<Resolution, Failure> {
        Err(Failure::system("azure_key_vault is not built yet"))
    }
}
