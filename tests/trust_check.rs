//! `courser trust check`: every leg, with the verdict that the leg itself would give (T11, T48).

use std::path::Path;

use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply, Request};

use crate::world::{Finished, World, run};

const NAMES: &[&str] = &["localhost", "127.0.0.1"];

fn check(world: &World, arguments: &[&str]) -> Finished {
    let mut command = world.courser(["trust", "check"]);
    run(command.args(arguments))
}

fn check_json(world: &World, arguments: &[&str]) -> (serde_json::Value, i32) {
    let finished = check(world, &[arguments, &["--json"]].concat());
    let answer = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", finished.all()));
    (answer, finished.code())
}

fn name(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn always(status: u16) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    move |_| Reply::status(status)
}

#[test]
fn t48_a_good_server_is_described_with_protocol_chain_names_and_expiry() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let leaf = root.intermediate("Middle").issue().server(NAMES).issue();
    let server = FakeServer::https(&leaf, always(401));
    let ca = world.write("ca.pem", root.certificate_pem());
    let url = server.url_by_name("localhost", "");
    let (answer, code) = check_json(&world, &[&url, "--ca", name(&ca)]);
    assert_eq!(code, 0, "{answer:#}");
    assert_eq!(answer["ok"], true);
    let api = &answer["legs"][0];
    assert_eq!(api["leg"], "api");
    assert_eq!(api["protocol"], "TLS 1.3");
    assert_eq!(api["names"], serde_json::json!(["localhost", "127.0.0.1"]));
    assert_eq!(api["received"].as_array().expect("a list").len(), 2);
    assert_eq!(api["chain"].as_array().expect("a list").len(), 3);
    assert!(api["days_left"].as_i64().expect("a number") > 1000);
    assert_eq!(api["http_status"], 401);
    assert_eq!(api["client_certificate"]["asked"], false);
    let shown = check(&world, &[&url, "--ca", name(&ca)]);
    assert!(
        shown.stdout.contains("CN=localhost ← CN=Middle ← CN=Root"),
        "{}",
        shown.all()
    );
    assert!(
        !shown.stdout.contains('\u{1b}'),
        "colours on a terminal only"
    );
}

#[test]
fn a_refused_server_is_shown_with_the_missing_link_the_places_looked_at_and_one_remedy() {
    let world = World::new();
    let root = Authority::root("Private Root").issue();
    let leaf = root.intermediate("Middle").issue().server(NAMES).issue();
    let server = FakeServer::https(&leaf, always(200));
    let finished = check(&world, &[&server.url_by_name("localhost", "/g/p.git")]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    let text = &finished.stdout;
    for wanted in [
        "✗ api",
        "✗ git",
        "x509: certificate signed by unknown authority",
        "the certificate of CN=Private Root, which issued CN=Middle",
        "localhost.crt: not there",
        "the same as api",
        "docs/trust-errors.md#unknown-ca",
        "4 of 4 legs fail",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    let command = format!(
        "$ courser trust fetch localhost:{}",
        server.address().port()
    );
    assert_eq!(text.matches(&command).count(), 1, "one remedy: {text}");
    assert!(server.requests().is_empty(), "only handshakes were made");
}

#[test]
fn t11_the_verdict_is_that_of_openssl_s_client_with_the_same_file() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let middle = root.intermediate("Middle").issue();
    let leaf = middle.server(NAMES).issue();
    let own = Authority::self_signed_server(NAMES).marked_as_ca().issue();
    let expired = root.server(NAMES).expired().issue();
    let stranger = Authority::root("Root").issue();
    let whole = |leaf: &Issued| FakeServer::https(leaf, always(200));
    let servers = [
        ("root", whole(&leaf), root.certificate_pem(), true),
        ("bundle", whole(&leaf), leaf.full_chain_pem(), true),
        ("self-signed", whole(&own), own.certificate_pem(), true),
        ("namesake", whole(&leaf), stranger.certificate_pem(), false),
        ("expired", whole(&expired), root.certificate_pem(), false),
        (
            "missing intermediate",
            FakeServer::https_leaf_only(&leaf, always(200)),
            root.certificate_pem(),
            false,
        ),
        (
            "intermediate in the file",
            FakeServer::https_leaf_only(&leaf, always(200)),
            format!("{}{}", middle.certificate_pem(), root.certificate_pem()),
            true,
        ),
    ];
    for (case, server, file, expected) in servers {
        let file = world.write("file.pem", file);
        let mut openssl = world.program("openssl");
        openssl
            .args(["s_client", "-verify_return_error", "-connect"])
            .arg(server.address().to_string())
            .args(["-servername", "localhost", "-no-CApath", "-no-CAstore"])
            .arg("-CAfile")
            .arg(&file);
        let openssl = run(&mut openssl);
        assert_eq!(openssl.code() == 0, expected, "{case}: {}", openssl.all());
        let url = server.url_by_name("localhost", "");
        let ours = check(&world, &[&url, "--no-system", "--ca", name(&file)]);
        assert_eq!(ours.code() == 0, expected, "{case}: {}", ours.all());
    }
}

#[test]
fn storage_behind_lfs_and_artifacts_is_a_leg_of_its_own() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let hidden = Authority::root("Storage Root").issue();
    let storage = FakeServer::https(&hidden.server(NAMES).issue(), always(200));
    let object = storage.url("/bucket/object?X-Amz-Signature=s3cret");
    let gitlab = FakeServer::https(&root.server(NAMES).issue(), move |request| {
        if request.target.ends_with("/info/lfs/objects/batch") {
            let actions = serde_json::json!({"download": {"href": object}});
            return Reply::json(200, &serde_json::json!({"objects": [{"actions": actions}]}));
        }
        if request.target.contains("/jobs/1/artifacts") {
            return Reply::redirect(302, &object);
        }
        Reply::status(200)
    });
    let ca = world.write("ca.pem", root.certificate_pem());
    let url = gitlab.url_by_name("localhost", "/g/p.git");
    let (answer, code) = check_json(&world, &[&url, "--ca", name(&ca)]);
    assert_eq!(code, 1);
    let legs: Vec<_> = answer["legs"].as_array().expect("legs").iter().collect();
    let verdicts: Vec<_> = legs
        .iter()
        .map(|leg| (leg["leg"].as_str().unwrap_or(""), leg["ok"] == true))
        .collect();
    assert_eq!(
        verdicts,
        [
            ("api", true),
            ("artifacts", true),
            ("artifact storage", false),
            ("git", true),
            ("lfs", true),
            ("lfs storage", false),
        ]
    );
    assert_eq!(
        legs[2]["missing"],
        "the certificate of CN=Storage Root, which issued CN=localhost"
    );
    assert!(!answer.to_string().contains("s3cret"), "{answer:#}");
    assert!(storage.requests().is_empty());
}

#[test]
fn the_legs_of_a_configured_runner_are_checked_with_its_trust() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let leaf = root.server(NAMES).issue();
    let gitlab = FakeServer::https(&leaf, always(200));
    let cache = FakeServer::https(&leaf, always(403));
    let ca = world.write("ca.pem", root.certificate_pem());
    let config = world.write(
        "config.toml",
        format!(
            "[[runners]]\nname = \"one\"\nurl = \"{}\"\ntoken = \"t\"\nexecutor = \"shell\"\ntls-ca-file = \"{}\"\n\
             [runners.cache]\nType = \"s3\"\n[runners.cache.s3]\nServerAddress = \"{}\"\n",
            gitlab.url_by_name("localhost", ""),
            ca.display(),
            cache.address()
        ),
    );
    let (answer, code) = check_json(&world, &["one", "--config", name(&config)]);
    assert_eq!(code, 0, "{answer:#}");
    let names: Vec<_> = answer["legs"].as_array().expect("legs").iter().collect();
    let names: Vec<_> = names.iter().map(|leg| leg["leg"].as_str()).collect();
    let expected = ["api", "artifacts", "git", "cache"].map(Some);
    assert_eq!(names, expected);
    // A URL of the same host is looked at with the trust of its runner.
    let by_url = check(
        &world,
        &[
            &gitlab.url_by_name("localhost", ""),
            "--config",
            name(&config),
        ],
    );
    assert_eq!(by_url.code(), 0, "{}", by_url.all());
    let unknown = check(&world, &["two", "--config", name(&config)]);
    assert_eq!(unknown.code(), 2, "{}", unknown.all());
    assert!(unknown.stderr.contains("\"one\""), "{}", unknown.all());
}

#[test]
fn git_is_checked_with_its_file_in_place_of_the_system_store() {
    let world = World::new();
    let (one, two) = (
        Authority::root("One").issue(),
        Authority::root("Two").issue(),
    );
    let api = FakeServer::https(&one.server(NAMES).issue(), always(200));
    let clone = FakeServer::https(&two.server(NAMES).issue(), always(200));
    let ca = world.write("one.pem", one.certificate_pem());
    let system = world.write("system.pem", two.certificate_pem());
    let config = world.write(
        "config.toml",
        format!(
            "[[runners]]\nname = \"one\"\nurl = \"{}\"\nclone_url = \"{}\"\ntoken = \"t\"\nexecutor = \"shell\"\n\
             tls-ca-file = \"{}\"\n",
            api.url_by_name("localhost", ""),
            clone.url_by_name("localhost", ""),
            ca.display()
        ),
    );
    let mut command = world.courser(["trust", "check", "one", "--json", "--config"]);
    let finished = run(command.arg(&config).env("SSL_CERT_FILE", &system));
    let answer: serde_json::Value =
        serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{}", finished.all()));
    let git = &answer["legs"][2];
    assert_eq!(git["leg"], "git");
    // The system store knows the CA of the clone URL, but Git in a job is given the file alone.
    assert_eq!(git["ok"], false, "{answer:#}");
}

#[test]
fn a_client_certificate_that_is_asked_for_is_reported_and_offered() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let clients = Authority::root("Clients").issue();
    let server = FakeServer::mutual_tls(&root.server(NAMES).issue(), &clients, always(200));
    let own = clients.client("runner-1").issue();
    let ca = world.write("ca.pem", root.certificate_pem());
    let cert = world.write("client.pem", own.certificate_pem());
    let key = world.write("client.key", own.key_pem());
    let url = server.url_by_name("localhost", "");
    let without = check(&world, &[&url, "--ca", name(&ca)]);
    assert_eq!(without.code(), 1, "{}", without.all());
    for wanted in [
        "a certificate is asked for, none is configured",
        "tls-cert-file",
    ] {
        assert!(without.stdout.contains(wanted), "{}", without.all());
    }
    let with = [
        &url,
        "--ca",
        name(&ca),
        "--cert",
        name(&cert),
        "--key",
        name(&key),
    ];
    let with = check(&world, &with);
    assert_eq!(with.code(), 0, "{}", with.all());
    assert!(
        with.stdout.contains("offered CN=runner-1"),
        "{}",
        with.all()
    );
}

#[test]
fn a_gitaly_address_is_a_handshake_and_nothing_else() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let server = FakeServer::https(&root.server(NAMES).issue(), always(200));
    let ca = world.write("ca.pem", root.certificate_pem());
    let url = format!("tls://{}", server.address());
    let (answer, code) = check_json(&world, &[&url, "--ca", name(&ca)]);
    assert_eq!(code, 0, "{answer:#}");
    assert_eq!(answer["legs"][0]["leg"], "gitaly");
    assert!(server.requests().is_empty());
    let without_port = check(&world, &["tls://gitaly.example.com"]);
    assert_eq!(without_port.code(), 2, "{}", without_port.all());
}

#[test]
fn a_closed_port_is_told_once_and_sent_nothing() {
    let world = World::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let shown = check(&world, &[&format!("https://{closed}")]);
    assert_eq!(shown.code(), 1);
    let refused = shown.stdout.matches("Connection refused").count();
    assert_eq!(refused, 1, "{}", shown.all());
    assert!(!shown.stdout.contains("sent"), "{}", shown.all());
}
