//! A container registry: Debian's docker-registry (CNCF Distribution) with TLS and basic authentication.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use super::{Daemon, program, write};
use crate::pki::Issued;

/// A running registry, empty at first.
pub struct Registry {
    daemon: Daemon,
}

impl Registry {
    /// The one user.
    pub const USER: &str = "courser";
    /// Its password.
    pub const PASSWORD: &str = "s3cret";
    /// bcrypt of the password, the only hash that the registry takes.
    const HASH: &str = "$2b$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK";

    /// Starts it. An Engine verifies registries on other addresses than loopback only:
    /// [`DockerEngine::gateway`](super::DockerEngine::gateway) is one.
    pub fn start(host: IpAddr, leaf: &Issued) -> Self {
        let daemon = Daemon::start(host, |directory, port| {
            let user = format!("{}:{}\n", Self::USER, Self::HASH);
            let users = write(directory, "users", &user);
            let certificate = write(directory, "server.crt", &leaf.chain_pem());
            let key = write(directory, "server.key", &leaf.key_pem());
            let config = serde_json::json!({
                "version": 0.1,
                "log": {"level": "warn"},
                "storage": {"filesystem": {"rootdirectory": directory.join("images")}},
                "http": {
                    "addr": SocketAddr::new(host, port).to_string(),
                    "secret": "of no use",
                    "tls": {"certificate": certificate, "key": key},
                },
                "auth": {"htpasswd": {"realm": "tests", "path": users}},
            });
            let mut command = Command::new(program("docker-registry"));
            // YAML has JSON in it.
            command
                .arg("serve")
                .arg(write(directory, "config.yml", &config.to_string()));
            command
        });
        Self { daemon }
    }

    /// `HOST:PORT`, as names of images begin.
    pub fn name(&self) -> String {
        self.daemon.address.to_string()
    }

    /// Its log, which has one line a request.
    pub fn log(&self) -> String {
        self.daemon.read("output")
    }
}
