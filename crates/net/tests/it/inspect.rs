//! A look at a server shows everything, whatever the verdict, and sends nothing but the handshake.

use courser_net::{ClientCertificate, Inspection, ProxySettings, Route, Target};
use courser_testkit::World;
use courser_testkit::pki::Authority;
use courser_testkit::proxy::FakeProxy;
use courser_testkit::server::{FakeServer, Reply};
use url::Url;

use crate::{client, no_trust, settings, trusting};

const NAMES: &[&str] = &["localhost", "127.0.0.1"];

async fn look(client: &courser_net::Client, url: &str) -> Inspection {
    let target = Target::from_url(&Url::parse(url).unwrap()).unwrap();
    client.inspect(&target, Route::AsCalls).await.unwrap()
}

#[tokio::test]
async fn a_trusted_server_is_described_with_its_chain() {
    let root = Authority::root("Root").issue();
    let middle = root.intermediate("Middle").issue();
    let leaf = middle.server(NAMES).issue();
    let server = FakeServer::https(&leaf, |_| Reply::status(204));
    let seen = look(&client(trusting(root.certificate_pem())), &server.url("/")).await;
    let chains = seen.outcome.expect("accepted");
    assert_eq!(chains.chains()[0].certificates().len(), 3);
    assert_eq!(seen.received, leaf.chain());
    assert_eq!(seen.protocol, Some("TLS 1.3"));
    assert!(seen.cipher_suite.unwrap().starts_with("TLS13_"));
    assert_eq!(seen.application_protocol.as_deref(), Some("http/1.1"));
    assert_eq!(seen.address, Some(server.address()));
    assert_eq!(seen.client_certificate, ClientCertificate::NotAsked);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn the_chain_of_a_refused_server_is_shown_too() {
    let root = Authority::root("Root").issue();
    let leaf = root.intermediate("Middle").issue().server(NAMES).issue();
    let server = FakeServer::https(&leaf, |_| Reply::status(204));
    let seen = look(&client(no_trust()), &server.url("/")).await;
    assert_eq!(seen.received, leaf.chain());
    assert_eq!(seen.protocol, Some("TLS 1.3"));
    let fault = seen.outcome.expect_err("nothing is trusted");
    assert_eq!(
        fault.summary(),
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    assert_eq!(fault.help(), Some("unknown-ca"));
    let missing = fault.refused().unwrap().missing_link().unwrap();
    assert_eq!(
        missing,
        "the certificate of CN=Root, which issued CN=Middle"
    );
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_demand_for_a_client_certificate_is_told_apart_from_its_refusal() {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let clients = Authority::root("Clients").issue();
    let server = FakeServer::mutual_tls(&root.server(NAMES).issue(), &clients, |_| {
        Reply::status(204)
    });
    let mut trust = trusting(root.certificate_pem());
    let without = look(&client(trust.clone()), &server.url("/")).await;
    assert_eq!(without.client_certificate, ClientCertificate::NotOffered);
    let fault = without.outcome.expect_err("a certificate is demanded");
    assert_eq!(fault.help(), Some("client-certificate-demanded"), "{fault}");

    for (issuer, help) in [
        (&clients, None),
        (&root, Some("client-certificate-refused")),
    ] {
        let own = issuer.client("runner").issue();
        trust.cert_file = Some(world.write("client.crt", own.certificate_pem()));
        trust.key_file = Some(world.write("client.key", own.key_pem()));
        let seen = look(&client(trust.clone()), &server.url("/")).await;
        assert_eq!(
            seen.client_certificate,
            ClientCertificate::Offered(own.der().clone())
        );
        assert_eq!(seen.outcome.err().and_then(|fault| fault.help()), help);
    }
}

#[tokio::test]
async fn a_proxy_is_named_and_can_be_gone_past() {
    let root = Authority::root("Root").issue();
    let interceptor = Authority::root("Proxy CA").issue();
    let server = FakeServer::https(&root.server(&["gitlab.test"]).issue(), |_| {
        Reply::status(204)
    });
    let replaced = FakeServer::https(&interceptor.server(&["gitlab.test"]).issue(), |_| {
        Reply::status(204)
    });
    let proxy = FakeProxy::start(&[("gitlab.test:443", replaced.address())], None);
    let mut settings = settings(trusting(root.certificate_pem()));
    let address = format!("http://{}", proxy.address());
    settings.proxy = ProxySettings {
        https: Some(address.clone()),
        ..ProxySettings::default()
    };
    let client = courser_net::Client::new(settings);
    let seen = look(&client, "https://gitlab.test/").await;
    assert_eq!(seen.proxy.as_deref(), Some(address.as_str()));
    let fault = seen.outcome.expect_err("not the CA of the proxy");
    assert!(fault.to_string().contains(&address), "{fault}");
    let compared = fault.with_direct_issuer("CN=Root".to_owned());
    assert_eq!(compared.help(), Some("interception-by-a-proxy"));
    let text = compared.to_string();
    assert!(text.contains("NO_PROXY=gitlab.test"), "{text}");
    drop(server);
}

#[tokio::test]
async fn a_port_without_tls_is_recognised() {
    let server = FakeServer::http(|_| Reply::status(204));
    let url = format!("https://{}/", server.address());
    let fault = look(&client(no_trust()), &url).await.outcome.unwrap_err();
    assert_eq!(
        fault.summary(),
        "tls: first record does not look like a TLS handshake"
    );
    assert_eq!(fault.help(), Some("plain-http-on-the-tls-port"));
}

#[tokio::test]
async fn a_proxy_that_wants_a_password_is_named_with_the_variable_to_set() {
    let proxy = FakeProxy::start(&[], Some("Basic eA=="));
    let mut settings = settings(no_trust());
    settings.proxy.https = Some(format!("http://{}", proxy.address()));
    let client = courser_net::Client::new(settings);
    let seen = look(&client, "https://gitlab.test/").await;
    let text = seen.outcome.unwrap_err().to_string();
    assert!(text.contains("Proxy Authentication Required"), "{text}");
    let wanted = format!("HTTPS_PROXY=http://USER:PASSWORD@{}", proxy.address());
    assert!(text.contains(&wanted), "{text}");
}

#[tokio::test]
async fn a_proxy_whose_own_certificate_is_refused_is_named() {
    let proxys = Authority::root("Proxy CA").issue();
    let proxy = FakeServer::https(&proxys.server(NAMES).issue(), |_| Reply::status(200));
    let mut settings = settings(no_trust());
    let address = proxy.url("");
    settings.proxy.https = Some(address.clone());
    let client = courser_net::Client::new(settings);
    let seen = look(&client, "https://gitlab.test/").await;
    let fault = seen.outcome.unwrap_err();
    let expected = format!(
        "proxy {address}: tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    assert_eq!(fault.summary(), expected);
    assert!(fault.to_string().starts_with(&expected), "{fault}");
    assert!(fault.remedy().is_some());
    assert!(proxy.requests().is_empty());
}

#[test]
fn targets_are_https_or_tls_with_a_port() {
    let table = [
        ("https://h.example/", Some(("h.example", 443))),
        ("https://[::1]:8443/x", Some(("::1", 8443))),
        ("tls://gitaly.example:9999", Some(("gitaly.example", 9999))),
        ("tls://192.0.2.1:9999", Some(("192.0.2.1", 9999))),
        ("tls://gitaly.example", None),
        ("http://h.example", None),
    ];
    for (url, expected) in table {
        let target = Target::from_url(&Url::parse(url).unwrap());
        let seen = target.as_ref().map(|target| (target.host(), target.port()));
        assert_eq!(seen, expected, "{url}");
    }
}
