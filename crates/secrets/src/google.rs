//! `gcp_secret_manager`.

use courser_protocol::secrets::GoogleSecret;

use crate::Failure;
use crate::resolve::{Resolution, Session};

/// The secrets of one job there.
pub(crate) struct Google<'a> {
    _session: &'a Session<'a>,
}

impl<'a> Google<'a> {
    pub(crate) fn new(session: &'a Session<'a>) -> Self {
        Self { _session: session }
    }

    /// Fetches one secret. Logins and reads that several secrets need are made once.
    pub(crate) async fn get(&self, _secret: &GoogleSecret) -> Result<Resolution, Failure> {
        Err(Failure::system("gcp_secret_manager is not built yet"))
    }
}
