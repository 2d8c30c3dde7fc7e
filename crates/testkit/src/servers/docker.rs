//! The Docker Engine of the tests: one for all, started by `cargo xtask docker-up` or `cargo xtask test`.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// How the running Engine is reached (`tests/servers/docker/engine`).
#[derive(Debug, Clone)]
pub struct DockerEngine {
    /// `unix:///…/docker.sock`.
    pub host: String,
    /// `tcp://127.0.0.1:12376`, where it wants TLS and a client certificate.
    pub tls_host: String,
    /// `ca.pem`, `cert.pem` and `key.pem` for that.
    pub cert_path: PathBuf,
    /// The machine's address on the default bridge, which containers reach too. An Engine never verifies registries
    /// on loopback.
    pub gateway: String,
    /// Its `/etc/docker`: `certs.d/HOST:PORT/ca.crt` makes it trust a registry, at once.
    pub etc: PathBuf,
}

impl DockerEngine {
    /// The Engine that runs. Tests that call this live in a module `docker_engine`, so that
    /// `cargo xtask test --without-docker` finds them.
    ///
    /// # Panics
    ///
    /// When none runs: a test that is left out in silence proves nothing.
    pub fn running() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/docker-engine/env");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let value = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| key.strip_prefix("COURSER_TEST_DOCKER_") == Some(name))
                .map(|(_, value)| value.to_owned())
                .unwrap_or_else(|| panic!("no Docker Engine runs for tests: {HOW}"))
        };
        let host = value("HOST");
        if let Err(error) = UnixStream::connect(host.trim_start_matches("unix://")) {
            panic!("the tests' Docker Engine at {host} is gone ({error}): {HOW}");
        }
        Self {
            host,
            tls_host: value("TLS_HOST"),
            cert_path: value("CERT_PATH").into(),
            gateway: value("GATEWAY"),
            etc: PathBuf::from(value("STATE")).join("etc").join("docker"),
        }
    }
}

const HOW: &str =
    "run `cargo xtask docker-up`, or leave such tests out with `cargo xtask test --without-docker`";
