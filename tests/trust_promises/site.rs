//! A GitLab of one's own: a coordinator with certificates of a private authority, and a repository.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use courser_testkit::pki::{Authority, Issued};

use crate::world::{Finished, PATIENCE, Running, World, run};

/// Registration token of every site.
pub(crate) const REGISTRATION_TOKEN: &str = "GR1348941registration-for-tests";

/// A name of the server that no system resolves: proxies do, and machines with a hosts file of their own.
pub(crate) const NAME: &str = "gitlab.test";

/// The words users and monitoring search for.
pub(crate) const UNKNOWN_AUTHORITY: &str = "x509: certificate signed by unknown authority";

/// A private authority and a server certificate; nobody's system knows it.
pub(crate) struct Certificates {
    pub(crate) root: Issued,
    pub(crate) leaf: Issued,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let root = Authority::root("Private Root").issue();
        let intermediate = root.intermediate("Private Intermediate").issue();
        let leaf = intermediate
            .server(&["localhost", "127.0.0.1", NAME])
            .issue();
        Self { root, leaf }
    }
}

/// The running server with its world.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) certificates: Certificates,
    /// `https://localhost:<port>`, or by [`NAME`].
    pub(crate) url: String,
    private_token: String,
    pub(crate) server: Running,
    /// Certificate and key that the server demands of its clients.
    client: Option<[PathBuf; 2]>,
}

impl Site {
    /// Starts it; the repository's pipeline is this text.
    pub(crate) fn start(pipeline: &str) -> Self {
        Self::start_with(pipeline, Certificates::new())
    }

    /// The same with certificates of the caller's.
    pub(crate) fn start_with(pipeline: &str, certificates: Certificates) -> Self {
        Self::start_as("localhost", World::new(), pipeline, certificates, None)
    }

    /// The same under [`NAME`].
    pub(crate) fn start_named(pipeline: &str) -> Self {
        Self::start_as(NAME, World::new(), pipeline, Certificates::new(), None)
    }

    /// For clients of an authority only; `own` is the certificate of this test's own calls.
    pub(crate) fn start_for_clients(pipeline: &str, authority: &Issued, own: &Issued) -> Self {
        let world = World::new();
        world.write("tls/clients.pem", authority.certificate_pem());
        let own = [
            world.write("tls/own.pem", own.chain_pem()),
            world.write("tls/own.key", own.key_pem()),
        ];
        Self::start_as("localhost", world, pipeline, Certificates::new(), Some(own))
    }

    fn start_as(
        host: &str,
        world: World,
        pipeline: &str,
        certificates: Certificates,
        client: Option<[PathBuf; 2]>,
    ) -> Self {
        world.repository(
            "work/project",
            &[(".gitlab-ci.yml", pipeline), ("file.txt", "content\n")],
        );
        world.write("tls/server.pem", certificates.leaf.chain_pem());
        world.write("tls/server.key", certificates.leaf.key_pem());
        world.write("tls/root.pem", certificates.root.certificate_pem());
        let mut command = world.courser(["coordinator", "serve", "--listen", "127.0.0.1:0"]);
        command
            .env("COURSER_REGISTRATION_TOKEN", REGISTRATION_TOKEN)
            .arg("--certificate")
            .arg(world.path("tls/server.pem"))
            .arg("--key")
            .arg(world.path("tls/server.key"))
            .arg("--state")
            .arg(world.path("state/coordinator"))
            .arg("--repository")
            .arg(world.path("work/project"));
        if host == NAME {
            command.args(["--external-host", NAME]);
        }
        if client.is_some() {
            command
                .arg("--client-ca-file")
                .arg(world.path("tls/clients.pem"));
        }
        let mut server = Running::start(&mut command);
        let last_word = |line: String| {
            line.split_whitespace()
                .next_back()
                .unwrap_or_default()
                .to_owned()
        };
        let private_token = last_word(server.wait_for("private token"));
        let address = last_word(server.wait_for("url "));
        let port = address
            .trim_end_matches('/')
            .rsplit(':')
            .next()
            .unwrap_or_default()
            .to_owned();
        Self {
            world,
            certificates,
            url: format!("https://{host}:{port}"),
            private_token,
            server,
            client,
        }
    }

    /// Calls the server with `curl`, an implementation that is not ours.
    pub(crate) fn curl(&self, path: &str, arguments: &[&str]) -> serde_json::Value {
        let mut command = self.world.program("curl");
        command
            .args(["--silent", "--show-error", "--fail-with-body", "--cacert"])
            .arg(self.world.path("tls/root.pem"))
            .args(["--resolve", &format!("{NAME}:{}:127.0.0.1", self.port())])
            .args([
                "--header",
                &format!("PRIVATE-TOKEN: {}", self.private_token),
            ])
            .args(arguments)
            .arg(format!("{}/api/v4/{path}", self.url));
        if let Some([certificate, key]) = &self.client {
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        let finished = run(&mut command);
        assert!(finished.status.success(), "{path}: {}", finished.all());
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", finished.stdout))
    }

    /// The port of its URL.
    pub(crate) fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap_or_default()
    }

    /// Registers a runner on the server and returns its token.
    pub(crate) fn runner_token(&self) -> String {
        let answer = self.curl(
            "runners",
            &[
                "--json",
                &format!(r#"{{"token":"{REGISTRATION_TOKEN}","description":"by hand"}}"#),
            ],
        );
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// A hand-written `config.toml` for one runner; `keys` go into `[[runners]]`.
    pub(crate) fn config(&self, url: &str, keys: &str) -> PathBuf {
        let text = format!(
            "# written by hand\nconcurrent = 2\ncheck_interval = 1\n\n[[runners]]\n  name = \"by hand\" # kept\n  url = \"{url}\"\n  \
             token = \"{}\"\n  executor = \"shell\"\n  builds_dir = \"{}\"\n  cache_dir = \"{}\"\n{keys}\n",
            self.runner_token(),
            self.world.path("builds").display(),
            self.world.path("cache").display(),
        );
        self.world.write("config/config.toml", text)
    }

    /// `tls-ca-file` line for a file of the world.
    pub(crate) fn ca_file(&self, file: &str) -> String {
        format!("  tls-ca-file = \"{}\"", self.world.path(file).display())
    }

    /// `courser run` with that configuration.
    pub(crate) fn run_command(&self) -> Command {
        let mut command = self.world.courser(["run", "--config"]);
        command.arg(self.world.path("config/config.toml"));
        command
    }

    /// Creates a pipeline on `main`.
    pub(crate) fn create_pipeline(&self) -> i64 {
        self.curl("projects/1/pipeline?ref=main", &["--request", "POST"])["id"]
            .as_i64()
            .expect("an id")
    }

    /// Waits for the end of a pipeline and returns its status.
    pub(crate) fn outcome(&self, pipeline: i64) -> String {
        self.outcome_within(PATIENCE, pipeline)
    }

    /// The same for a pipeline that is known to take long.
    pub(crate) fn outcome_within(&self, patience: Duration, pipeline: i64) -> String {
        let deadline = Instant::now() + patience;
        loop {
            let answer = self.curl(&format!("projects/1/pipelines/{pipeline}"), &[]);
            let status = answer["status"].as_str().expect("a status");
            if ["success", "failed", "canceled", "skipped"].contains(&status) {
                return status.to_owned();
            }
            assert!(
                Instant::now() < deadline,
                "the pipeline did not end: {answer}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// All job logs that the coordinator holds, one after the other.
    pub(crate) fn logs(&self) -> String {
        let mut logs = String::new();
        let mut open = vec![self.world.path("state/coordinator")];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(&directory)
                .expect("the state directory")
                .flatten()
            {
                let path = entry.path();
                if path.is_dir() {
                    open.push(path);
                } else if path.to_string_lossy().contains("trace")
                    || path.extension().is_some_and(|end| end == "log")
                {
                    logs.push_str(&String::from_utf8_lossy(
                        &std::fs::read(&path).expect("a log"),
                    ));
                }
            }
        }
        logs
    }

    /// Runs one pipeline with a runner of this configuration; both must do well.
    pub(crate) fn assert_pipeline_succeeds(&self, config_keys: &str) -> String {
        self.config(&self.url, config_keys);
        let _runner = Running::start(&mut self.run_command());
        let pipeline = self.create_pipeline();
        let outcome = self.outcome(pipeline);
        let logs = self.logs();
        assert_eq!(outcome, "success", "{logs}");
        logs
    }

    /// `courser verify` against the configuration.
    pub(crate) fn verify(&self) -> Finished {
        let mut command = self.world.courser(["verify", "--config"]);
        run(command.arg(self.world.path("config/config.toml")))
    }
}
