//! `aws_secrets_manager`.

use courser_protocol::secrets::AwsSecret;

use crate::Failure;
use crate::resolve::{Resolution, Session};

/// The secrets of one job there.
pub(crate) struct Aws<'a> {
    _session: &'a Session<'a>,
}

impl<'a> Aws<'a> {
    pub(crate) fn new(session: &'a Session<'a>) -> Self {
        Self { _session: session }
    }

    /// Fetches one secret. Logins and reads that several secrets need are made once.
    pub(crate) async fn get(&self, _secret: &AwsSecret) -> Result<Resolution, Failure> {
        Err(Failure::system("aws_secrets_manager is not built yet"))
    }
}
