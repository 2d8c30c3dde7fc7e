//! A runner that trusts one file, a server with a fault, and somebody who does what the remedy says.

use std::process::{Command, Stdio};

use courser_testkit::pki::Issued;
use courser_testkit::server::{FakeServer, Reply, Request};
use serde_json::Value;

use crate::world::{Finished, PATIENCE, Running, World, run};

pub(crate) const NAMES: &[&str] = &["localhost", "127.0.0.1"];

/// A configured runner whose `tls-ca-file` is `ca.pem`.
pub(crate) struct Scene {
    pub(crate) world: World,
    url: String,
}

/// What `trust check` said about the first leg that fails.
pub(crate) struct Told {
    pub(crate) error: String,
    pub(crate) advice: String,
    pub(crate) command: Option<String>,
    pub(crate) missing: Option<String>,
    help: String,
}

impl Scene {
    /// For a server at this URL.
    pub(crate) fn new(url: &str) -> Self {
        let scene = Self {
            world: World::new(),
            url: url.to_owned(),
        };
        scene.configure("");
        scene
    }

    /// The same with a file of trusted certificates.
    pub(crate) fn trusting(url: &str, pem: &str) -> Self {
        let scene = Self::new(url);
        scene.trust(pem);
        scene
    }

    /// Writes `ca.pem`.
    pub(crate) fn trust(&self, content: impl AsRef<[u8]>) {
        self.world.write("work/ca.pem", content);
    }

    /// Writes `config.toml`, with more keys of the runner.
    pub(crate) fn configure(&self, keys: &str) {
        let text = format!(
            "[[runners]]\nname = \"r\"\nurl = \"{}\"\ntoken = \"glrt-t\"\nexecutor = \"shell\"\ntls-ca-file = \"{}\"\n{keys}\n",
            self.url,
            self.world.path("work/ca.pem").display()
        );
        self.world.write("config.toml", text);
    }

    /// The server moved, or is called by another name.
    pub(crate) fn call(&mut self, url: &str) {
        self.url = url.to_owned();
        self.configure("");
    }

    /// Somebody's command in this world, with `courser` in the path and no system store.
    pub(crate) fn with_environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let binary = std::path::Path::new(env!("CARGO_BIN_EXE_courser"));
        let path = format!(
            "{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            binary.parent().expect("a directory").display()
        );
        command
            .env("PATH", path)
            .env("CONFIG_FILE", self.world.path("config.toml"))
            .env("SSL_CERT_FILE", self.world.path("no-such-file"))
            .env("SSL_CERT_DIR", self.world.path("no-such-directory"))
    }

    /// `courser trust check r --json` in this environment.
    pub(crate) fn check_with(&self, variables: &[(&str, &str)]) -> Finished {
        let mut command = self.world.courser(["trust", "check", "r", "--json"]);
        run(self
            .with_environment(&mut command)
            .envs(variables.iter().copied()))
    }

    /// The fault as `check` tells it; the runner's log must tell the same.
    pub(crate) fn refused(&self, anchor: &str, sentence: &str) -> Told {
        let told = self.refused_with(anchor, sentence, &[]);
        let mut command = self.world.courser(["verify"]);
        let verify = run(self.with_environment(&mut command));
        let log = verify.all();
        for part in [
            Some(sentence),
            Some(told.advice.as_str()),
            told.command.as_deref(),
        ] {
            let part = part.unwrap_or_default();
            // The log writes quotes of a field as they are.
            assert!(log.contains(part), "the log has {part:?}: {log}");
        }
        told
    }

    /// The same in an environment of its own.
    pub(crate) fn refused_with(
        &self,
        anchor: &str,
        sentence: &str,
        variables: &[(&str, &str)],
    ) -> Told {
        let finished = self.check_with(variables);
        assert_eq!(finished.code(), 1, "{}", finished.all());
        let told = Told::of(&finished);
        assert!(told.error.contains(sentence), "{}", finished.all());
        assert_eq!(
            told.help,
            format!("docs/trust-errors.md#{anchor}"),
            "{}",
            finished.all()
        );
        assert!(!told.advice.is_empty(), "{}", finished.all());
        told
    }

    /// The server is accepted now.
    pub(crate) fn cured(&self) {
        self.cured_with(&[]);
    }

    pub(crate) fn cured_with(&self, variables: &[(&str, &str)]) {
        let finished = self.check_with(variables);
        assert_eq!(finished.code(), 0, "{}", finished.all());
    }

    /// Types the remedy's command at a terminal, and `yes` if it asks.
    pub(crate) fn follow(&self, told: &Told) -> Finished {
        let command = told.command.as_deref().expect("a command");
        let input = self.world.write("answer", "yes\n");
        let input = std::fs::File::open(input).expect("just written");
        let mut terminal = self.world.program("script");
        terminal
            .args(["--quiet", "--return", "--command", command])
            .arg(self.world.path("typescript"))
            .stdin(Stdio::from(input));
        let finished = run(self.with_environment(&mut terminal));
        assert_eq!(finished.code(), 0, "{command}: {}", finished.all());
        finished
    }
}

impl Told {
    fn of(finished: &Finished) -> Self {
        let answer: Value = serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", finished.all()));
        let legs = answer["legs"].as_array().expect("legs");
        let leg = legs.iter().find(|leg| leg["ok"] == false);
        let leg = leg.expect("a leg that fails");
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        Self {
            error: text(&leg["error"]).expect("an error"),
            advice: text(&leg["remedy"]["advice"]).unwrap_or_default(),
            command: text(&leg["remedy"]["command"]),
            missing: text(&leg["missing"]),
            help: text(&leg["help"]).unwrap_or_default(),
        }
    }
}

/// A server whose handler is content with everything.
pub(crate) fn server(leaf: &Issued) -> FakeServer {
    FakeServer::https(leaf, content())
}

pub(crate) fn content() -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    |_| Reply::json(200, &serde_json::json!({}))
}

pub(crate) fn url(server: &FakeServer) -> String {
    server.url_by_name("localhost", "")
}

/// `openssl s_server` for what our own servers cannot play; ends when dropped.
pub(crate) struct OpensslServer {
    _running: Running,
    port: u16,
}

impl OpensslServer {
    /// With certificate and key files of the world, and further options.
    pub(crate) fn start(world: &World, certificate: &str, key: &str, options: &[&str]) -> Self {
        Self::start_at(world, 0, certificate, key, options)
    }

    /// The same at a port that was another's before.
    pub(crate) fn start_at(
        world: &World,
        port: u16,
        certificate: &str,
        key: &str,
        options: &[&str],
    ) -> Self {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let port = if port == 0 { free_port() } else { port };
            let mut command = world.program("openssl");
            command
                .args(["s_server", "-www", "-accept", &format!("127.0.0.1:{port}")])
                .arg("-cert")
                .arg(world.path(certificate))
                .arg("-key")
                .arg(world.path(key))
                .args(options)
                .stdin(Stdio::null());
            let mut running = Running::start(&mut command);
            if running
                .wait_for_any(&["ACCEPT", "unable to bind", "Address already in use"])
                .contains("ACCEPT")
            {
                return Self {
                    _running: running,
                    port,
                };
            }
            assert!(std::time::Instant::now() < deadline, "no free port");
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Runs openssl in `tls/` of the world.
pub(crate) fn openssl(world: &World, arguments: &[&str]) {
    std::fs::create_dir_all(world.path("tls")).expect("a directory");
    let finished = run(world
        .program("openssl")
        .args(arguments)
        .current_dir(world.path("tls")));
    assert!(
        finished.status.success(),
        "{arguments:?}: {}",
        finished.all()
    );
}
