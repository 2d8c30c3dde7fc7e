//! AWS by others: moto, a server of its services that believes any token and any signature, and boto3, AWS' own client
//! for Python.

use std::net::Ipv4Addr;
use std::process::Command;

use super::{Daemon, SYSTEM_PATH, program, write};
use crate::pki::Issued;

/// A running moto with nothing in it.
pub struct Moto {
    daemon: Daemon,
}

impl Moto {
    /// Starts it on 127.0.0.1.
    pub fn start(leaf: &Issued) -> Self {
        let host = Ipv4Addr::LOCALHOST;
        let daemon = Daemon::start(host.into(), |directory, port| {
            let mut command = Command::new(program("moto_server"));
            command
                .args(["--host", &host.to_string(), "--port", &port.to_string()])
                .arg("--ssl-cert")
                .arg(write(directory, "server.crt", &leaf.chain_pem()))
                .arg("--ssl-key")
                .arg(write(directory, "server.key", &leaf.key_pem()));
            command
        });
        Self { daemon }
    }

    /// Its base URL, for all services.
    pub fn url(&self) -> String {
        format!("https://{}/", self.daemon.address)
    }
}

/// What a Python script prints that uses boto3, and trusts `authority` alone.
///
/// # Panics
///
/// When it fails.
pub fn boto3(authority: &Issued, script: &str, arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let output = Command::new(program("python"))
        .args(["-c", script])
        .args(arguments)
        .env_clear()
        .env("PATH", SYSTEM_PATH)
        .env("HOME", directory.path())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env(
            "AWS_CA_BUNDLE",
            write(directory.path(), "ca.crt", &authority.certificate_pem()),
        )
        .output()
        .expect("Python starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
