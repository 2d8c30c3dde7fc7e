//! Which servers are trusted, when files say so, and what is said when not (T1, T5 to T10, T15, T16).

use std::cell::RefCell;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use courser_net::{ClientSettings, ProxySettings, SystemRoots, TrustSettings};
use courser_testkit::World;
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply};

use crate::reload::WATCHING;
use crate::{client, failure, get, no_trust, status, trusting};

const NAMES: &[&str] = &["localhost", "127.0.0.1"];
const UNKNOWN: &str = "x509: certificate signed by unknown authority";

fn server(leaf: &Issued) -> FakeServer {
    FakeServer::https(leaf, |_| Reply::status(204))
}

fn with_ca_file(path: impl Into<std::path::PathBuf>) -> TrustSettings {
    TrustSettings {
        ca_file: Some(path.into()),
        ..no_trust()
    }
}

#[tokio::test]
async fn an_unknown_ca_is_refused_with_the_words_people_search_for() {
    let root = Authority::root("Private Root").issue();
    let server = server(&root.server(NAMES).issue());
    let url = server.url("/api/v4/jobs/request?token=s3cret");
    let shown = server.url("/api/v4/jobs/request");
    let text = failure(&client(no_trust()), &url).await;
    let expected = format!(
        "couldn't execute GET against {shown}: tls: failed to verify certificate: {UNKNOWN}"
    );
    assert!(text.starts_with(&expected), "{text}");
    assert!(
        text.contains("Private Root"),
        "names the missing issuer: {text}"
    );
    let connect = format!("courser trust pin {}", server.address());
    assert!(text.contains(&connect), "names host and port: {text}");
    assert!(!text.contains("s3cret"), "{text}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn t5_the_ca_file_is_trusted_and_its_bytes_are_kept() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let server = server(&root.server(NAMES).issue());
    let content = format!("# our CA\n{}\n", root.certificate_pem());
    let client = client(with_ca_file(world.write("ca.pem", &content)));
    assert_eq!(status(&client, &server.url("/")).await, 204);
    assert_eq!(client.ca_file_bytes("127.0.0.1").unwrap(), content);
}

#[tokio::test]
async fn t8_and_t9_a_predefined_file_is_used_whatever_the_port() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let server = server(&root.server(NAMES).issue());
    world.write("certs/localhost.crt", root.certificate_pem());
    let client = client(TrustSettings {
        certificate_directory: Some(world.path("certs")),
        ..no_trust()
    });
    assert_eq!(
        status(&client, &server.url_by_name("localhost", "/")).await,
        204
    );
    let text = failure(&client, &server.url("/")).await;
    assert!(text.contains(UNKNOWN), "127.0.0.1 has no file: {text}");
    assert!(client.ca_file_bytes("localhost").is_some());
    assert!(client.ca_file_bytes("127.0.0.1").is_none());
}

#[tokio::test]
async fn t10_the_servers_leaf_alone_is_enough() {
    let root = Authority::root("Root").issue();
    let middle = root.intermediate("Middle").issue();
    let leaf = middle.server(NAMES).issue();
    let server = server(&leaf);
    let client = client(trusting(leaf.certificate_pem()));
    let answer = client.send(get(&server.url("/"))).await.unwrap();
    assert_eq!(
        answer.verified_chain_pem().as_deref(),
        Some(leaf.certificate_pem().replace("\r\n", "\n").trim_end())
    );
}

#[tokio::test]
async fn a_self_signed_certificate_that_says_it_is_a_ca_can_be_trusted() {
    let leaf = Authority::self_signed_server(NAMES).marked_as_ca().issue();
    let server = server(&leaf);
    let client = client(trusting(leaf.certificate_pem()));
    assert_eq!(status(&client, &server.url("/")).await, 204);
}

#[tokio::test]
async fn t16_an_intermediate_that_is_not_served_may_be_configured() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let middle = root.intermediate("Middle").issue();
    let leaf = middle.server(NAMES).issue();
    let server = FakeServer::https_leaf_only(&leaf, |_| Reply::status(204));
    let with_root = client(trusting(root.certificate_pem()));
    let text = failure(&with_root, &server.url("/")).await;
    assert!(text.contains(UNKNOWN) && text.contains("Middle"), "{text}");
    let bundle = world.write("bundle.pem", leaf.full_chain_pem());
    assert_eq!(
        status(&client(with_ca_file(bundle)), &server.url("/")).await,
        204
    );
}

#[tokio::test]
async fn the_verified_chain_holds_leaf_intermediate_and_root() {
    let root = Authority::root("Root").issue();
    let middle = root.intermediate("Middle").issue();
    let leaf = middle.server(NAMES).issue();
    let server = server(&leaf);
    let client = client(trusting(root.certificate_pem()));
    let answer = client.send(get(&server.url("/"))).await.unwrap();
    let expected = leaf.full_chain_pem().replace("\r\n", "\n");
    assert_eq!(
        answer.verified_chain_pem().as_deref(),
        Some(expected.trim_end())
    );
    let again = client.send(get(&server.url("/"))).await.unwrap();
    assert_eq!(
        again.verified_chain_pem(),
        answer.verified_chain_pem(),
        "a connection used again knows it as well"
    );
}

#[tokio::test]
async fn names_and_dates_are_checked() {
    let root = Authority::root("Root").issue();
    let table = [
        (
            root.server(&["other.test"]).issue(),
            "doesn't contain any IP SANs",
        ),
        (
            root.server(NAMES).expired().issue(),
            "has expired or is not yet valid",
        ),
        (
            root.server(NAMES).not_yet_valid().issue(),
            "has expired or is not yet valid",
        ),
        (root.client("127.0.0.1").issue(), "x509: "),
    ];
    let client = client(trusting(root.certificate_pem()));
    for (leaf, expected) in table {
        let text = failure(&client, &server(&leaf).url("/")).await;
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test]
async fn t6_replacing_the_file_changes_the_outcome_without_a_new_client() {
    let world = World::new();
    let (ours, other) = (
        Authority::root("Ours").issue(),
        Authority::root("Other").issue(),
    );
    let server = server(&ours.server(NAMES).issue());
    let url = server.url("/");
    let path = world.write("ca.pem", other.certificate_pem());
    let client = client(with_ca_file(&path));
    assert!(failure(&client, &url).await.contains(UNKNOWN));
    world.write("ca.pem", ours.certificate_pem());
    assert_eq!(status(&client, &url).await, 204);
    world.write("ca.pem", other.certificate_pem());
    let text = failure(&client, &url).await;
    assert!(
        text.contains(UNKNOWN),
        "the old connection must not be used: {text}"
    );
}

#[tokio::test]
async fn a_file_that_appears_later_is_used() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let server = server(&root.server(NAMES).issue());
    let client = client(with_ca_file(world.path("ca.pem")));
    assert!(failure(&client, &server.url("/")).await.contains(UNKNOWN));
    world.write("ca.pem", root.certificate_pem());
    assert_eq!(status(&client, &server.url("/")).await, 204);
}

#[tokio::test]
async fn t7_a_bad_new_file_leaves_the_last_good_one() {
    let _alone = WATCHING.write().await;
    let world = World::new();
    let root = Authority::root("Root").issue();
    let server = server(&root.server(NAMES).issue());
    let good = root.certificate_pem();
    let path = world.write("ca.pem", &good);
    let client = client(with_ca_file(&path));
    assert_eq!(status(&client, &server.url("/")).await, 204);
    for bad in [&b"no certificate"[..], root.der(), b""] {
        world.write("ca.pem", bad);
        assert_eq!(status(&client, &server.url("/")).await, 204);
        assert_eq!(client.ca_file_bytes("127.0.0.1").unwrap(), good);
    }
    std::fs::remove_file(path).unwrap();
    assert_eq!(status(&client, &server.url("/")).await, 204, "for a moment");
}

#[tokio::test]
async fn t7_a_der_file_is_not_used() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let server = server(&root.server(NAMES).issue());
    let client = client(with_ca_file(world.write("ca.der", root.der())));
    assert!(failure(&client, &server.url("/")).await.contains(UNKNOWN));
    assert_eq!(client.ca_file_bytes("127.0.0.1"), None);
}

/// What is logged while the files for a host are looked at, on this thread.
fn logged(client: &courser_net::Client) -> String {
    listen();
    LOG.set(Some(Vec::new()));
    client.ca_file_bytes("127.0.0.1");
    String::from_utf8(LOG.take().unwrap()).unwrap()
}

/// One subscriber for the process. One per thread would lose lines: whether a line counts at all is decided once, on
/// the thread of whichever test comes by first, which may be one without a subscriber.
fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_writer(|| Log)
            .init();
        // For lines that others came by meanwhile.
        tracing::callsite::rebuild_interest_cache();
    });
}

/// The same for a change that is left alone first.
fn logged_soon(client: &courser_net::Client) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let log = logged(client);
        if !log.is_empty() {
            return log;
        }
        assert!(Instant::now() < deadline, "nothing is said");
        std::thread::sleep(Duration::from_millis(10));
    }
}

thread_local! {
    /// What this thread logs, while somebody wants to know.
    static LOG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.as_mut().map(|log| log.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_log_has_upstreams_words_once_and_the_repair() {
    let _alone = WATCHING.blocking_write();
    let world = World::new();
    let path = world.path("ca.pem");
    let shown = path.display().to_string();
    let trust = TrustSettings {
        cert_file: Some(world.path("me.crt")),
        key_file: Some(world.path("me.key")),
        ..with_ca_file(&path)
    };
    let client = client(trust);
    assert_eq!(
        logged(&client),
        format!(" WARN courser_net::client::generation: tls-ca-file {shown} does not exist\n"),
        "a CA file that was configured is missed, a client pair is not (as upstream)"
    );

    let root = Authority::root("Root").issue();
    world.write("ca.pem", root.der());
    let log = logged(&client);
    assert!(
        log.contains(&format!(
            "ERROR courser_net::client::generation: Failed to parse PEM in {shown}"
        )),
        "{log}"
    );
    assert!(log.contains("courser trust import"), "{log}");
    assert!(
        !log.contains("have changed"),
        "nothing else is trusted: {log}"
    );
    assert_eq!(logged(&client), "", "said once for each state of the disk");

    world.write(
        "ca.pem",
        format!("{}\n  {}", root.certificate_pem(), root.certificate_pem()),
    );
    let log = logged(&client);
    assert!(
        !log.contains("Failed") && log.contains(&format!("{shown}:")),
        "{log}"
    );
    assert!(
        log.contains("have changed; new connections use them"),
        "{log}"
    );

    std::fs::write(&path, "").unwrap();
    let log = logged_soon(&client);
    assert!(
        log.contains("has no usable certificate any more; its last good content stays trusted"),
        "{log}"
    );

    std::fs::remove_file(&path).unwrap();
    let log = logged_soon(&client);
    assert!(
        log.contains("is gone; its 1 certificates are no longer trusted"),
        "{log}"
    );

    std::fs::create_dir(&path).unwrap();
    let log = logged(&client);
    assert!(
        log.contains(&format!("Failed to load {shown} not a regular file")),
        "{log}"
    );

    world.write("me.crt", "none");
    world.write("me.key", "none");
    let log = logged(&client);
    let pair = format!(
        "Failed to load {shown_pair} ",
        shown_pair = [
            world.path("me.crt").display().to_string(),
            world.path("me.key").display().to_string(),
        ]
        .join(" ")
    );
    assert!(log.contains(&pair), "{log}");
}

#[tokio::test]
async fn t1_the_system_store_is_trusted_beside_the_ca_file() {
    let world = World::new();
    let (system, own) = (
        Authority::root("System").issue(),
        Authority::root("Own").issue(),
    );
    let roots = SystemRoots::Platform {
        file: Some(world.write("system.pem", system.certificate_pem())),
        directories: Some(vec![world.path("nowhere")]),
    };
    let client = courser_net::Client::new(ClientSettings {
        trust: TrustSettings {
            system: roots,
            ..with_ca_file(world.write("own.pem", own.certificate_pem()))
        },
        proxy: ProxySettings::default(),
        ..crate::settings(no_trust())
    });
    for root in [&system, &own] {
        let server = server(&root.server(NAMES).issue());
        assert_eq!(status(&client, &server.url("/")).await, 204);
    }
}

#[tokio::test]
async fn the_client_certificate_is_sent_and_follows_its_files() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let clients = Authority::root("Clients").issue();
    let server = FakeServer::mutual_tls(&root.server(NAMES).issue(), &clients, |_| {
        Reply::status(204)
    });
    let trust = TrustSettings {
        cert_file: Some(world.path("me.crt")),
        key_file: Some(world.path("me.key")),
        ..trusting(root.certificate_pem())
    };
    let client = client(trust);
    let text = failure(&client, &server.url("/")).await;
    assert!(
        text.contains("remote error: tls: certificate required"),
        "{text}"
    );
    assert_eq!(client.client_pair("127.0.0.1"), None);

    let me = clients.client("runner").issue();
    world.write("me.crt", me.certificate_pem());
    world.write("me.key", me.key_pem());
    assert_eq!(status(&client, &server.url("/")).await, 204);
    let sent = server.requests()[0].client_certificate.clone();
    assert_eq!(sent.as_deref(), Some(&me.der()[..]));
    let (certificate, key) = client.client_pair("127.0.0.1").unwrap();
    assert_eq!(
        (certificate, key),
        (me.certificate_pem().into(), me.key_pem().into())
    );

    world.write("me.key", Authority::root("x").issue().key_pem());
    assert_eq!(
        status(&client, &server.url("/")).await,
        204,
        "the last good pair stays"
    );
    let (certificate, key) = client.client_pair("127.0.0.1").unwrap();
    assert_eq!(
        (certificate, key),
        (me.certificate_pem().into(), me.key_pem().into()),
        "and is what jobs get"
    );
}

#[tokio::test]
async fn chains_of_an_old_connection_are_judged_by_what_is_trusted_now() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let leaf = root.server(NAMES).issue();
    let server = server(&leaf);
    let file = world.write("ca.pem", root.certificate_pem());
    let client = client(with_ca_file(file));
    let answer = client.send(get(&server.url("/"))).await.unwrap();
    let chains = answer.verified_chains.unwrap();
    let same = client.chains_now("127.0.0.1", Arc::clone(&chains)).unwrap();
    assert!(Arc::ptr_eq(&same, &chains));

    world.write("ca.pem", leaf.certificate_pem() + &root.certificate_pem());
    let now = client.chains_now("127.0.0.1", Arc::clone(&chains)).unwrap();
    assert_eq!(now.chains()[0].certificates().len(), 1, "it is pinned now");

    let other = Authority::root("Other").issue();
    world.write("ca.pem", other.certificate_pem());
    let error = client.chains_now("127.0.0.1", chains).unwrap_err();
    assert!(error.to_string().contains(UNKNOWN), "{error}");
}
