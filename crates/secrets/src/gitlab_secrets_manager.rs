//! `gitlab_secrets_manager`.

use courser_protocol::secrets::GitLabSecret;

use crate::Failure;
use crate::resolve::{Resolution, Session};

/// The secrets of one job there.
pub(crate) struct GitLabSecretsManager<'a> {
    _session: &'a Session<'a>,
}

impl<'a> GitLabSecretsManager<'a> {
    pub(crate) fn new(session: &'a Session<'a>) -> Self {
        Self { _session: session }
    }

    pub(crate) async fn get(&self, _secret: &GitLabSecret) -> Result<Resolution, Failure> {
        Err(Failure::system("gitlab_secrets_manager is not built yet"))
    }
}
