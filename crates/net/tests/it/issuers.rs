//! Issuers that a chain lacks are fetched, within limits, and nothing else is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use courser_net::{Addresses, ClientSettings, IssuerLimits, Issuers, ProxySettings, TrustSettings};
use courser_testkit::pki::{Authority, Encoding, Issued, certs_only};
use courser_testkit::proxy::FakeProxy;
use courser_testkit::server::{FakeServer, Reply};
use courser_trust::{Certificate, VerifiedChains};

use crate::{client, get, no_trust, settings, trusting};

const NAMES: &[&str] = &["localhost", "127.0.0.1"];

/// A server of issuer certificates, with answers that are known only when its address is.
struct Pki {
    server: FakeServer,
    answers: Arc<Mutex<HashMap<String, Reply>>>,
}

impl Pki {
    fn start(make: impl FnOnce(Box<dyn Fn(&str) -> Reply + Send + Sync>) -> FakeServer) -> Self {
        let answers: Arc<Mutex<HashMap<String, Reply>>> = Arc::default();
        let known = Arc::clone(&answers);
        let server = make(Box::new(move |path| {
            let known = known.lock().unwrap();
            known
                .get(path)
                .cloned()
                .unwrap_or_else(|| Reply::status(404))
        }));
        Self { server, answers }
    }

    fn http() -> Self {
        Self::start(|answer| FakeServer::http(move |request| answer(&request.target)))
    }

    fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    fn put(&self, path: &str, reply: Reply) {
        self.answers.lock().unwrap().insert(path.to_owned(), reply);
    }

    fn holds(&self, path: &str, certificate: &Issued) {
        self.put(path, der(certificate));
    }

    fn asked(&self) -> usize {
        self.server.requests().len()
    }
}

fn der(certificate: &Issued) -> Reply {
    Reply::with("application/pkix-cert", 200, certificate.der().to_vec())
}

fn tight() -> IssuerLimits {
    IssuerLimits {
        fetch: Duration::from_secs(5),
        total: Duration::from_secs(8),
        size: 64 * 1024,
    }
}

fn issuers(trust: TrustSettings) -> Issuers {
    Issuers::new(settings(trust), Addresses::Any, tight())
}

/// What the client records of a server whose chain ends with `anchor`.
async fn verified(leaf: &Issued, anchor: &Issued) -> Arc<VerifiedChains> {
    let server = FakeServer::https(leaf, |_| Reply::status(204));
    let client = client(trusting(anchor.certificate_pem()));
    let answer = client.send(get(&server.url("/"))).await.unwrap();
    answer.verified_chains.unwrap()
}

fn names(chain: &[Arc<Certificate>]) -> Vec<&str> {
    let names = chain.iter().map(|one| one.subject().common_name().unwrap());
    names.collect()
}

/// A leaf under a trusted intermediate whose issuer lies at `url`.
struct Incomplete {
    root: Issued,
    chains: Arc<VerifiedChains>,
}

async fn incomplete(url: &str) -> Incomplete {
    let root = Authority::root("root").issue();
    let chains = {
        let middle = root.intermediate("middle").issuer_at(&[url]).issue();
        let leaf = middle.server(NAMES).issue();
        verified(&leaf, &middle).await
    };
    Incomplete { root, chains }
}

/// The text of the failure that completing must end with.
async fn failure(issuers: &Issuers, url: &str) -> String {
    let wanted = incomplete(url).await;
    issuers
        .complete(&wanted.chains)
        .await
        .unwrap_err()
        .to_string()
}

const FETCHING: &str = "couldn't build CA Chain: error while fetching certificates from TLS ConnectionState: \
    error while fetching certificates into the CA Chain: couldn't resolve certificates chain from the leaf certificate: \
    error while resolving certificates chain with URL: error while fetching issuer certificate: ";

#[tokio::test]
async fn a_chain_is_completed_to_its_root() {
    let pki = Pki::http();
    let root = Authority::root("root").issue();
    let upper = root
        .intermediate("upper")
        .issuer_at(&[&pki.url("/root")])
        .issue();
    let middle = upper
        .intermediate("middle")
        .issuer_at(&[&pki.url("/upper")])
        .issue();
    let leaf = middle.server(NAMES).issue();
    pki.holds("/upper", &upper);
    pki.holds("/root", &root);
    let chains = verified(&leaf, &middle).await;
    let issuers = issuers(no_trust());
    let chain = issuers.complete(&chains).await.unwrap();
    assert_eq!(names(&chain), ["localhost", "middle", "upper", "root"]);
    assert_eq!(pki.asked(), 2);
    issuers.complete(&chains).await.unwrap();
    assert_eq!(pki.asked(), 2, "the second job is served from memory");
    let later = verified(&leaf, &middle).await;
    assert_ne!(later.generation(), chains.generation());
    issuers.complete(&later).await.unwrap();
    assert_eq!(pki.asked(), 4, "another generation asks anew");
}

#[tokio::test]
async fn a_chain_with_a_root_needs_nobody() {
    let pki = Pki::http();
    let root = Authority::root("root").issuer_at(&[&pki.url("/")]).issue();
    let leaf = root.server(NAMES).issuer_at(&[&pki.url("/")]).issue();
    let chains = verified(&leaf, &root).await;
    let chain = issuers(no_trust()).complete(&chains).await.unwrap();
    assert_eq!(names(&chain), ["localhost", "root"]);
    assert_eq!(pki.asked(), 0);
}

#[tokio::test]
async fn answers_are_der_pem_or_pkcs7() {
    let pki = Pki::http();
    let wanted = incomplete(&pki.url("/")).await;
    let root = &wanted.root;
    let bodies = [
        root.der().to_vec(),
        root.certificate_pem().into_bytes(),
        certs_only(&[root], Encoding::Der),
        certs_only(&[root], Encoding::Ber),
    ];
    for body in bodies {
        pki.put("/", Reply::with("application/octet-stream", 200, body));
        let chain = issuers(no_trust()).complete(&wanted.chains).await.unwrap();
        assert_eq!(names(&chain), ["localhost", "middle", "root"]);
    }
    let nothing = certs_only(&[], Encoding::Ber);
    pki.put("/", Reply::with("application/pkcs7-mime", 200, nothing));
    let chain = issuers(no_trust()).complete(&wanted.chains).await.unwrap();
    assert_eq!(names(&chain), ["localhost", "middle"]);
}

#[tokio::test]
async fn fourteen_issuers_are_fetched_and_no_more() {
    let pki = Pki::http();
    let mut authorities = vec![Authority::root("0").issue()];
    for n in 1..=16 {
        let issuer = &authorities[n - 1];
        let next = issuer
            .intermediate(&n.to_string())
            .issuer_at(&[&pki.url(&format!("/{}", n - 1))])
            .issue();
        pki.holds(&format!("/{}", n - 1), issuer);
        authorities.push(next);
    }
    let anchor = &authorities[16];
    let chains = verified(&anchor.server(NAMES).issue(), anchor).await;
    let chain = issuers(no_trust()).complete(&chains).await.unwrap();
    assert_eq!((pki.asked(), chain.len()), (14, 16));
    assert_eq!(chain.last().unwrap().subject().common_name(), Some("2"));
}

#[tokio::test]
async fn a_loop_ends_where_it_closes() {
    let pki = Pki::http();
    let one = Authority::root("one").issue();
    let two = Authority::root("two").issue();
    let one_by_two = two
        .cross_signed(&one)
        .issuer_at(&[&pki.url("/two")])
        .issue();
    let two_by_one = one
        .cross_signed(&two)
        .issuer_at(&[&pki.url("/one")])
        .issue();
    pki.holds("/one", &one_by_two);
    pki.holds("/two", &two_by_one);
    let chains = verified(&one.server(NAMES).issue(), &one_by_two).await;
    let chain = issuers(no_trust()).complete(&chains).await.unwrap();
    assert_eq!(names(&chain), ["localhost", "one", "two"]);
    assert_eq!(pki.asked(), 2);
}

#[tokio::test]
async fn what_cannot_be_fetched_is_said_in_upstreams_layers() {
    let pki = Pki::http();
    let elsewhere = pki.url("/elsewhere").replace("http:", "https:");
    let table = [
        (
            "/missing",
            Reply::status(404),
            "HTTP request failed with status code: 404",
        ),
        (
            "/large",
            Reply::with("x", 200, vec![0; 70_000]),
            "is larger than 65536 bytes",
        ),
        (
            "/file",
            Reply::redirect(302, "file:///etc/passwd"),
            "unsupported scheme \"file\"",
        ),
        (
            "/scheme",
            Reply::redirect(302, &elsewhere),
            "which changes the scheme",
        ),
        ("/closed", Reply::Close, "couldn't execute GET against"),
    ];
    for (path, reply, expected) in table {
        pki.put(path, reply);
        let text = failure(&issuers(no_trust()), &pki.url(path)).await;
        let cause = text.strip_prefix(FETCHING).expect(&text);
        assert!(cause.starts_with("remote fetch failure: "), "{text}");
        assert!(cause.contains(expected), "{text}");
    }
    pki.put("/page", Reply::text(200, "<html>"));
    pki.holds("/stranger", &Authority::root("root").issue());
    for (path, expected) in [
        ("/page", "invalid certificate: x509: malformed certificate"),
        ("/stranger", "CN=root did not issue CN=middle"),
    ] {
        let text = failure(&issuers(no_trust()), &pki.url(path)).await;
        let cause = text.strip_prefix(FETCHING).expect(&text);
        assert!(cause.starts_with("decoding failure: "), "{text}");
        assert!(cause.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn a_redirect_within_the_scheme_is_followed() {
    let pki = Pki::http();
    let wanted = incomplete(&pki.url("/old")).await;
    pki.put("/old", Reply::redirect(301, "/new"));
    pki.holds("/new", &wanted.root);
    let chain = issuers(no_trust()).complete(&wanted.chains).await.unwrap();
    assert_eq!(names(&chain), ["localhost", "middle", "root"]);
}

#[tokio::test]
async fn an_https_issuer_must_be_trusted_itself() {
    let authority = Authority::root("of the PKI").issue();
    let leaf = authority.server(NAMES).issue();
    let pki = Pki::start(|answer| FakeServer::https(&leaf, move |request| answer(&request.target)));
    let wanted = incomplete(&pki.url("/")).await;
    pki.holds("/", &wanted.root);
    let error = issuers(no_trust()).complete(&wanted.chains).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("certificate signed by unknown authority"),
        "{error}"
    );
    let trusted = issuers(trusting(authority.certificate_pem()));
    let chain = trusted.complete(&wanted.chains).await.unwrap();
    assert_eq!(names(&chain), ["localhost", "middle", "root"]);
}

#[tokio::test]
async fn a_silent_issuer_costs_no_more_than_its_budget_and_only_once() {
    let pki = Pki::http();
    pki.put("/", Reply::Stall);
    for (limits, expected) in [
        (
            IssuerLimits {
                fetch: Duration::from_millis(50),
                ..tight()
            },
            "timeout",
        ),
        (
            IssuerLimits {
                total: Duration::from_millis(50),
                ..tight()
            },
            "when the 0.05 s that the issuers of a chain may take were over",
        ),
    ] {
        let issuers = Issuers::new(settings(no_trust()), Addresses::Any, limits);
        let wanted = incomplete(&pki.url("/")).await;
        let before = pki.asked();
        let started = Instant::now();
        for _ in 0..2 {
            let error = issuers.complete(&wanted.chains).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(started.elapsed() < Duration::from_secs(4));
        // None at all where the limit was over before the request was sent.
        assert!(
            pki.asked() - before <= 1,
            "the second job does not wait again"
        );
    }
}

#[tokio::test]
async fn strangers_certificates_do_not_lead_into_the_own_network() {
    let pki = Pki::http();
    for host in ["127.0.0.1", "localhost"] {
        let wanted = incomplete(&pki.server.url_by_name(host, "/")).await;
        pki.holds("/", &wanted.root);
        let issuers = Issuers::new(settings(no_trust()), Addresses::PublicOnly, tight());
        let error = issuers
            .complete(&wanted.chains)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no address of the public internet"),
            "{error}"
        );
        assert!(error.contains(host), "{error}");
    }
    assert_eq!(pki.asked(), 0);
}

#[tokio::test]
async fn all_chains_count_in_order_and_each_certificate_once() {
    let pki = Pki::http();
    let old = Authority::root("old").issue();
    let new = Authority::root("new").issuer_at(&[&pki.url("/")]).issue();
    let new_by_old = old.cross_signed(&new).issue();
    let leaf = new.server(NAMES).issue();
    let mut served = leaf.chain();
    served.push(new_by_old.der().clone());
    let server = FakeServer::https(&leaf, |_| Reply::status(204));
    server.present_chain(served, &leaf);
    let roots = new.certificate_pem() + &old.certificate_pem();
    let client = client(trusting(roots));
    let answer = client.send(get(&server.url("/"))).await.unwrap();
    let chains = answer.verified_chains.unwrap();
    assert_eq!(chains.chains().len(), 2);
    let expected = [&leaf, &new, &new_by_old, &old]
        .map(Issued::certificate_pem)
        .concat();
    let expected = expected.replace("\r\n", "\n");
    assert_eq!(chains.to_pem(), expected.trim_end());
    let full = issuers(no_trust()).full_chain_pem(&chains).await.unwrap();
    assert_eq!(full, chains.to_pem(), "both end with a root");
    assert_eq!(pki.asked(), 0);
}

#[tokio::test]
async fn issuers_are_fetched_through_the_proxy_which_may_be_a_private_host() {
    let authority = Authority::root("of the PKI").issue();
    let leaf = authority.server(&["pki.test"]).issue();
    let pki = Pki::start(|answer| FakeServer::https(&leaf, move |request| answer(&request.target)));
    let proxy = FakeProxy::start(&[("pki.test:443", pki.server.address())], None);
    let wanted = incomplete("https://pki.test/").await;
    pki.holds("/", &wanted.root);
    let through = ClientSettings {
        proxy: ProxySettings {
            https: Some(format!("http://{}", proxy.address())),
            ..ProxySettings::default()
        },
        ..settings(trusting(authority.certificate_pem()))
    };
    let issuers = Issuers::new(through, Addresses::PublicOnly, tight());
    let chain = issuers.complete(&wanted.chains).await.unwrap();
    assert_eq!(names(&chain), ["localhost", "middle", "root"]);
    // An address is no name that only the proxy knows.
    let wanted = incomplete("https://10.0.0.1/").await;
    let error = issuers
        .complete(&wanted.chains)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no address of the public internet"),
        "{error}"
    );
    assert_eq!(proxy.requests().len(), 1);
}
