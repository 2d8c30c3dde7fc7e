//! An object store that speaks S3: versitygw over a directory.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use super::{Daemon, program, write};
use crate::clouds::sigv4::{sha256, signature};
use crate::pki::Issued;

const ACCESS_KEY: &str = "courser-test";
const SECRET_KEY: &str = "courser-test-secret";
const REGION: &str = "us-east-1";

/// A running object store with one bucket.
pub struct ObjectStore {
    daemon: Daemon,
}

impl ObjectStore {
    /// The one bucket.
    pub const BUCKET: &str = "bucket";

    /// Starts it on an address of loopback.
    pub fn start(host: Ipv4Addr, leaf: &Issued) -> Self {
        let daemon = Daemon::start(host.into(), |directory, port| {
            let bucket = directory.join("objects").join(Self::BUCKET);
            std::fs::create_dir_all(bucket).expect("directories can be made");
            let mut command = Command::new(program("versitygw"));
            command
                .args(["--access", ACCESS_KEY, "--secret", SECRET_KEY])
                .args(["--region", REGION, "--quiet"])
                .args(["--port", &format!("{host}:{port}")])
                .arg("--cert")
                .arg(write(directory, "server.crt", &leaf.chain_pem()))
                .arg("--key")
                .arg(write(directory, "server.key", &leaf.key_pem()))
                .arg("posix")
                .arg(directory.join("objects"));
            command
        });
        Self { daemon }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.daemon.address
    }

    /// Puts an object, past the protocol.
    pub fn put(&self, key: &str, content: &[u8]) {
        let path = self.path(key);
        std::fs::create_dir_all(path.parent().expect("inside the bucket")).expect("directories");
        std::fs::write(path, content).expect("a file can be written");
    }

    /// An object's content, if there is one.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path(key)).ok()
    }

    fn path(&self, key: &str) -> std::path::PathBuf {
        let objects = self.daemon.directory.path().join("objects");
        objects.join(Self::BUCKET).join(key)
    }

    /// A URL that allows `method` on an object for a while, made without asking the store (Signature
    /// Version 4 in query parameters). Keys are letters, digits, `/`, `-`, `_` and `.`.
    pub fn presigned(
        &self,
        method: &str,
        key: &str,
        now: jiff::Timestamp,
        valid: Duration,
    ) -> String {
        let host = self.daemon.address;
        let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = &stamp[..8];
        let scope = format!("{day}/{REGION}/s3/aws4_request");
        let path = format!("/{}/{key}", Self::BUCKET);
        let query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={ACCESS_KEY}%2F{}&X-Amz-Date={stamp}\
             &X-Amz-Expires={}&X-Amz-SignedHeaders=host",
            scope.replace('/', "%2F"),
            valid.as_secs()
        );
        let request = format!("{method}\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
        let request = sha256(request.as_bytes());
        let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{request}");
        let scope = [day, REGION, "s3", "aws4_request"].map(ToOwned::to_owned);
        let signature = signature(SECRET_KEY, &scope, &text);
        format!("https://{host}{path}?{query}&X-Amz-Signature={signature}")
    }
}
