//! Git's smart protocol as most servers speak it: `git http-backend` behind lighttpd.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Daemon, program, write};
use crate::pki::Issued;

/// A Git server being described.
pub struct GitServerOrder {
    root: PathBuf,
    host: IpAddr,
    users: String,
    clients: Option<String>,
    lfs: Option<SocketAddr>,
}

/// A running Git server over TLS.
pub struct GitServer {
    daemon: Daemon,
}

impl GitServerOrder {
    /// Listens on another address of loopback.
    #[must_use]
    pub fn on(mut self, host: Ipv4Addr) -> Self {
        self.host = host.into();
        self
    }

    /// Lets in only who knows a password.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        push(&mut self.users, format_args!("{name}:{password}\n"));
        self
    }

    /// Lets in only clients with a certificate of this authority.
    #[must_use]
    pub fn clients_of(mut self, authority: &Issued) -> Self {
        self.clients = Some(authority.certificate_pem());
        self
    }

    /// Hands `/…/info/lfs/` to an HTTP server, as GitLab's front end does.
    #[must_use]
    pub fn lfs(mut self, server: SocketAddr) -> Self {
        self.lfs = Some(server);
        self
    }

    /// Starts it with a certificate, which is sent with its intermediates.
    pub fn start(self, leaf: &Issued) -> GitServer {
        let daemon = Daemon::start(self.host, |directory, port| {
            // With authorities for clients, lighttpd completes a lone leaf from these, or fails.
            let chain = match self.clients {
                None => leaf.chain_pem(),
                Some(_) => leaf.full_chain_pem(),
            };
            write(directory, "server.crt", &chain);
            write(directory, "server.key", &leaf.key_pem());
            let configuration = write(directory, "lighttpd.conf", &self.text(directory, port));
            let mut command = Command::new(program("lighttpd"));
            command.arg("-D").arg("-f").arg(configuration);
            command
        });
        GitServer { daemon }
    }

    fn text(&self, directory: &Path, port: u16) -> String {
        let (root, host) = (self.root.display(), self.host);
        let at = |file: &str| directory.join(file).display().to_string();
        let mut text = format!(
            r#"
server.modules = ("mod_openssl", "mod_auth", "mod_authn_file", "mod_setenv", "mod_alias", "mod_cgi", "mod_proxy")
server.bind = "{host}"
server.port = {port}
server.document-root = "{root}"
server.stream-request-body = 1
server.stream-response-body = 1
ssl.engine = "enable"
ssl.pemfile = "{}"
ssl.privkey = "{}"
setenv.set-environment = ("GIT_PROJECT_ROOT" => "{root}", "GIT_HTTP_EXPORT_ALL" => "1", "GIT_CONFIG_NOSYSTEM" => "1")
"#,
            at("server.crt"),
            at("server.key"),
        );
        if !self.users.is_empty() {
            write(directory, "users", &self.users);
            push(
                &mut text,
                format_args!(
                    "auth.backend = \"plain\"\nauth.backend.plain.userfile = \"{}\"\n\
                 auth.require = (\"/\" => (\"method\" => \"basic\", \"realm\" => \"git\", \"require\" => \"valid-user\"))\n",
                    at("users"),
                ),
            );
        }
        if let Some(authority) = &self.clients {
            write(directory, "clients.crt", authority);
            push(
                &mut text,
                format_args!(
                    "ssl.verifyclient.activate = \"enable\"\nssl.verifyclient.enforce = \"enable\"\n\
                 ssl.verifyclient.ca-file = \"{}\"\n",
                    at("clients.crt"),
                ),
            );
        }
        let backend = format!(
            "alias.url = (\"/\" => \"{}/\")\ncgi.assign = (\"\" => \"\")\n",
            http_backend().display()
        );
        match self.lfs {
            None => text.push_str(&backend),
            Some(server) => push(
                &mut text,
                format_args!(
                    "$HTTP[\"url\"] =~ \"/info/lfs/\" {{\n\
                 proxy.server = (\"\" => ((\"host\" => \"{}\", \"port\" => {})))\n}}\nelse {{\n{backend}}}\n",
                    server.ip(),
                    server.port(),
                ),
            ),
        }
        text
    }
}

impl GitServer {
    /// Serves all repositories below a directory, by their paths, for reading and (where
    /// `http.receivepack` is set) for writing, on 127.0.0.1.
    pub fn of(root: &Path) -> GitServerOrder {
        GitServerOrder {
            root: root.to_owned(),
            host: Ipv4Addr::LOCALHOST.into(),
            users: String::new(),
            clients: None,
            lfs: None,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.daemon.address
    }

    /// A URL of it, by a name that leads here.
    pub fn url_by_name(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.daemon.address.port())
    }
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("strings take everything");
}

fn http_backend() -> PathBuf {
    let output = Command::new(program("git")).arg("--exec-path").output();
    let output = output.expect("git starts");
    let directory = String::from_utf8(output.stdout).expect("a path");
    Path::new(directory.trim()).join("git-http-backend")
}
