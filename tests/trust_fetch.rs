//! `courser trust fetch` and `pin`: nothing is trusted before somebody has compared a fingerprint.

use std::path::Path;

use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply};

use crate::world::{Finished, World, run};

const NAMES: &[&str] = &["localhost", "127.0.0.1"];

/// A server, and a file that does not exist yet.
struct Site {
    world: World,
    server: FakeServer,
    host: String,
}

impl Site {
    fn new(server: FakeServer) -> Self {
        let host = format!("localhost:{}", server.address().port());
        Self {
            world: World::new(),
            server,
            host,
        }
    }

    fn of(leaf: &Issued) -> Self {
        Self::new(FakeServer::https(leaf, |_| Reply::status(200)))
    }

    /// `courser trust VERB localhost:PORT --to ca.pem …`
    fn trust(&self, verb: &str, more: &[&str]) -> Finished {
        let mut command = self
            .world
            .courser(["trust", verb, &self.host, "--to", "ca.pem"]);
        run(command.args(more))
    }

    fn file(&self) -> std::path::PathBuf {
        self.world.path("work/ca.pem")
    }

    fn assert_accepted(&self) {
        let url = self.server.url_by_name("localhost", "");
        let arguments = ["trust", "check", &url, "--no-system", "--ca", "ca.pem"];
        let finished = run(&mut self.world.courser(arguments));
        assert_eq!(finished.code(), 0, "{}", finished.all());
    }
}

/// SHA-256 fingerprint as openssl prints it: somebody else's judgement.
fn fingerprint(world: &World, certificate: &Issued) -> String {
    let file = world.write("fingerprint.pem", certificate.certificate_pem());
    let mut command = world.program("openssl");
    command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
    let finished = run(command.arg(file));
    let line = finished.stdout.trim().to_owned();
    let (_, fingerprint) = line.split_once('=').expect("name=value");
    fingerprint.to_owned()
}

#[test]
fn the_topmost_certificate_is_trusted_with_the_right_fingerprint_only() {
    let root = Authority::root("Root").issue();
    let middle = root.intermediate("Middle").issue();
    let site = Site::of(&middle.server(NAMES).issue());
    let right = fingerprint(&site.world, &middle);
    let wrong = site.trust(
        "fetch",
        &["--fingerprint", &fingerprint(&site.world, &root)],
    );
    assert_eq!(wrong.code(), 1, "{}", wrong.all());
    assert!(
        wrong.stdout.contains("nothing was written"),
        "{}",
        wrong.all()
    );
    assert!(wrong.stdout.contains(&right), "{}", wrong.all());
    assert!(!site.file().exists());
    let good = site.trust("fetch", &["--fingerprint", &right]);
    assert_eq!(good.code(), 0, "{}", good.all());
    site.assert_accepted();
    let again = site.trust("fetch", &["--fingerprint", &right]);
    assert_eq!(again.code(), 0, "{}", again.all());
    let text = site.world.read("work/ca.pem");
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 1, "{text}");
}

#[test]
fn without_a_terminal_and_a_fingerprint_nothing_is_written() {
    let root = Authority::root("Root").issue();
    let site = Site::of(&root.intermediate("Middle").issue().server(NAMES).issue());
    for verb in ["fetch", "pin"] {
        let finished = site.trust(verb, &[]);
        assert_eq!(finished.code(), 1, "{}", finished.all());
        assert!(
            finished.stdout.contains("--fingerprint"),
            "{}",
            finished.all()
        );
        assert!(!site.file().exists());
    }
}

#[test]
fn on_a_terminal_the_fingerprint_is_asked_about() {
    let root = Authority::root("Root").issue();
    let site = Site::of(&root.intermediate("Middle").issue().server(NAMES).issue());
    for (answer, code) in [("no", 1), ("y", 1), ("yes", 0)] {
        let finished = site.on_terminal("fetch", answer);
        assert_eq!(finished.code(), code, "{answer}: {}", finished.all());
        assert_eq!(site.file().exists(), code == 0, "{answer}");
    }
    site.assert_accepted();
}

impl Site {
    /// The same under util-linux `script`, which gives it a terminal, with an answer typed.
    fn on_terminal(&self, verb: &str, answer: &str) -> Finished {
        let mut command = self.world.program("script");
        command
            .args(["--quiet", "--return", "--command"])
            .arg(format!(
                "{} trust {verb} {} --to ca.pem",
                env!("CARGO_BIN_EXE_courser"),
                self.host
            ))
            .arg(self.world.path("typescript"));
        let input = self.world.write("input", format!("{answer}\n"));
        let input = std::fs::File::open(input).expect("just written");
        run(command.stdin(std::process::Stdio::from(input)))
    }
}

#[test]
fn what_is_in_the_file_stays_and_a_damaged_file_is_not_touched() {
    let root = Authority::root("Root").issue();
    let site = Site::of(&root.server(NAMES).issue());
    let other = Authority::root("Other").issue();
    let before = format!("# ours\n{}", other.certificate_pem().trim_end());
    site.world.write("work/ca.pem", &before);
    let leaf = site.server_leaf_fingerprint();
    let added = site.trust("pin", &["--fingerprint", &leaf]);
    assert_eq!(added.code(), 0, "{}", added.all());
    let text = site.world.read("work/ca.pem");
    assert!(text.starts_with(&before), "{text}");
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2, "{text}");
    site.assert_accepted();
    site.world.write("work/ca.pem", other.der());
    let refused = site.trust("pin", &["--fingerprint", &leaf]);
    assert_eq!(refused.code(), 2, "{}", refused.all());
    assert!(refused.stderr.contains("DER"), "{}", refused.all());
    let kept = std::fs::read(site.file()).expect("the file");
    assert_eq!(kept, other.der().to_vec());
}

impl Site {
    fn server_leaf_fingerprint(&self) -> String {
        let shown = self.trust("pin", &["--json"]);
        let answer: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
        assert_eq!(answer["written"], false);
        answer["wanted"].as_str().expect("a fingerprint").to_owned()
    }
}

#[test]
fn nothing_is_written_that_would_not_help() {
    let root = Authority::root("Root").issue();
    let site = Site::of(&root.server(NAMES).expired().issue());
    let leaf = site.server_leaf_fingerprint();
    let finished = site.trust("pin", &["--fingerprint", &leaf]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    assert!(
        finished.stdout.contains("x509: certificate has expired"),
        "{}",
        finished.all()
    );
    assert!(!site.file().exists());
}

#[test]
fn a_leaf_alone_is_pinned_and_not_taken_for_a_ca() {
    let root = Authority::root("Root").issue();
    let site = Site::of(&root.server(NAMES).issue());
    let fetched = site.trust("fetch", &[]);
    assert_eq!(fetched.code(), 1, "{}", fetched.all());
    let hint = format!("courser trust pin {}", site.host);
    assert!(fetched.stderr.contains(&hint), "{}", fetched.all());
    let pinned = site.trust("pin", &["--fingerprint", &site.server_leaf_fingerprint()]);
    assert_eq!(pinned.code(), 0, "{}", pinned.all());
    site.assert_accepted();
}

#[test]
fn a_chain_is_completed_but_never_from_a_private_address_unless_told() {
    let root = Authority::root("Root").issue();
    let root_der = root.der().to_vec();
    let issuer =
        FakeServer::http(move |_| Reply::with("application/pkix-cert", 200, root_der.clone()));
    let leaf = root
        .server(NAMES)
        .issuer_at(&[&issuer.url("/root.cer")])
        .issue();
    let site = Site::of(&leaf);
    let right = fingerprint(&site.world, &root);
    let refused = site.trust("fetch", &["--complete", "--fingerprint", &right]);
    assert_eq!(refused.code(), 4, "{}", refused.all());
    assert!(
        refused.stderr.contains("--private-issuers"),
        "{}",
        refused.all()
    );
    assert!(
        issuer.requests().is_empty(),
        "no request goes to a private address"
    );
    let arguments = ["--complete", "--private-issuers", "--fingerprint", &right];
    let completed = site.trust("fetch", &arguments);
    assert_eq!(completed.code(), 0, "{}", completed.all());
    site.assert_accepted();
}

#[test]
fn the_predefined_file_of_the_host_is_the_place_where_no_other_is_named() {
    let root = Authority::root("Root").issue();
    let site = Site::of(&root.server(NAMES).issue());
    let json = run(&mut site.world.courser(["trust", "pin", &site.host, "--json"]));
    let answer: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let file = Path::new(answer["file"].as_str().expect("a path"));
    assert!(file.ends_with("certs/localhost.crt"), "{}", json.all());
    // A runner that names a file reads that one.
    let config = site.world.write(
        "config.toml",
        format!(
            "[[runners]]\nname = \"r\"\nurl = \"https://{}\"\ntoken = \"t\"\nexecutor = \"shell\"\ntls-ca-file = \"/etc/own.pem\"\n",
            site.host
        ),
    );
    let mut command = site
        .world
        .courser(["trust", "pin", &site.host, "--json", "--config"]);
    let json = run(command.arg(config));
    let answer: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(answer["file"], "/etc/own.pem");
}
