//! Proxies as companies have them: squid, which tunnels, and mitmproxy, which opens the tunnel and
//! signs certificates of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Daemon, program, until, write};
use crate::pki::Issued;

/// A running squid.
pub struct ForwardProxy {
    daemon: Daemon,
    scheme: &'static str,
}

impl ForwardProxy {
    /// Speaks plain HTTP with its clients. Knows the `names`, which all lead to 127.0.0.1, beside those
    /// that the system resolves.
    pub fn http(names: &[&str]) -> Self {
        Self::start("http", names, |_, port| {
            format!("http_port 127.0.0.1:{port}\n")
        })
    }

    /// The same, but clients speak TLS with the proxy itself. Debian's squid sends the leaf alone.
    pub fn https(names: &[&str], leaf: &Issued) -> Self {
        Self::start("https", names, |directory, port| {
            let certificate = write(directory, "proxy.crt", &leaf.certificate_pem());
            let key = write(directory, "proxy.key", &leaf.key_pem());
            format!(
                "https_port 127.0.0.1:{port} tls-cert={} tls-key={}\n",
                certificate.display(),
                key.display()
            )
        })
    }

    fn start(
        scheme: &'static str,
        names: &[&str],
        port_line: impl FnOnce(&Path, u16) -> String,
    ) -> Self {
        let daemon = Daemon::start(Ipv4Addr::LOCALHOST.into(), |directory, port| {
            let hosts = format!("127.0.0.1 localhost {}\n", names.join(" "));
            let hosts = write(directory, "hosts", &hosts);
            let own = directory.display();
            let text = format!(
                "{}http_access allow all\ncache deny all\nhosts_file {}\nvisible_hostname proxy.test\n\
                 pid_filename none\naccess_log stdio:{own}/access\ncache_log {own}/messages\n\
                 coredump_dir {own}\npinger_enable off\n",
                port_line(directory, port),
                hosts.display(),
            );
            let configuration = write(directory, "squid.conf", &text);
            give_to_proxy(directory);
            let mut command = Command::new(program("squid"));
            // What it dies of goes to standard error, too.
            command.args(["-N", "-d", "1", "-f"]).arg(configuration);
            command
        });
        Self { daemon, scheme }
    }

    /// For `HTTPS_PROXY`, by a name or address that leads here.
    pub fn url_by_name(&self, host: &str) -> String {
        format!("{}://{host}:{}", self.scheme, self.daemon.address.port())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.daemon.address
    }

    /// Its access log once it holds `wanted`. A tunnel's line is written when the tunnel ends, which the client does
    /// not wait for.
    ///
    /// # Panics
    ///
    /// When the text is not there within ten seconds; the message is the log.
    pub fn accesses_with(&self, wanted: &str) -> String {
        until(Duration::from_secs(10), || {
            let accesses = self.daemon.read("access");
            if accesses.contains(wanted) {
                Ok(accesses)
            } else {
                Err(format!("no {wanted:?} in {accesses}"))
            }
        })
    }
}

/// Started by root, squid becomes the user `proxy`.
fn give_to_proxy(directory: &Path) {
    let id = Command::new("id").args(["-u", "proxy"]).output();
    let id = id.expect("id starts").stdout;
    let proxy = String::from_utf8_lossy(&id).trim().parse().ok();
    // Another user than root may not, and need not, give anything away.
    drop(chown(directory, proxy, None));
}

/// A running mitmproxy.
pub struct InterceptingProxy {
    daemon: Daemon,
}

/// Leads a name to loopback. mitmproxy asks the system otherwise, which knows no test's names.
const NAMES: &str = "
def server_connect(data):
    host, port = data.server.address
    if host.endswith('.test'):
        data.server.address = ('127.0.0.1', port)
";

impl InterceptingProxy {
    /// Signs what clients see with `authority`, which is sent with all above it, the root included.
    /// Trusts the servers of `upstream` only. All names that end in `.test` lead to 127.0.0.1.
    pub fn start(authority: &Issued, upstream: &Issued) -> Self {
        let daemon = Daemon::start(Ipv4Addr::LOCALHOST.into(), |directory, port| {
            let own = authority.key_pem() + &authority.full_chain_pem();
            write(directory, "mitmproxy-ca.pem", &own);
            let trusted = write(directory, "upstream.pem", &upstream.certificate_pem());
            let mut command = Command::new(program("mitmdump"));
            command
                .args(["--set", "flow_detail=1", "--listen-host", "127.0.0.1"])
                .args(["--listen-port", &port.to_string()])
                .args(["--set", &format!("confdir={}", directory.display())])
                .args([
                    "--set",
                    &format!("ssl_verify_upstream_trusted_ca={}", trusted.display()),
                ])
                .arg("--scripts")
                .arg(write(directory, "names.py", NAMES));
            command
        });
        Self { daemon }
    }

    /// For `HTTPS_PROXY`.
    pub fn url(&self) -> String {
        format!("http://{}", self.daemon.address)
    }

    /// What it saw inside the tunnels, a line a request and a line an answer.
    pub fn seen(&self) -> String {
        self.daemon.read("output")
    }
}
