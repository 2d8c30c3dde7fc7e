//! Through a real `CONNECT` proxy and past it.

use courser_net::{Client, ClientSettings, ProxySettings};
use courser_testkit::pki::Authority;
use courser_testkit::proxy::{FakeProxy, FakeSocks};
use courser_testkit::server::{FakeServer, Reply};

use crate::{failure, get, no_trust, settings, status, text, trusting};

fn through(proxy: &str, no_proxy: Option<&str>, trust: courser_net::TrustSettings) -> Client {
    Client::new(ClientSettings {
        proxy: ProxySettings {
            http: Some(proxy.to_owned()),
            https: Some(proxy.to_owned()),
            no_proxy: no_proxy.map(ToOwned::to_owned),
        },
        ..settings(trust)
    })
}

#[tokio::test]
async fn https_is_tunnelled_with_credentials_and_verified_end_to_end() {
    let root = Authority::root("Root").issue();
    let server = FakeServer::https(&root.server(&["gitlab.test"]).issue(), |_| {
        Reply::text(200, "in")
    });
    let proxy = FakeProxy::start(
        &[("gitlab.test:443", server.address())],
        Some("Basic bWU6c0BjcmV0"),
    );
    let address = proxy.address();
    let url = "https://gitlab.test/x";
    let client = through(
        &format!("http://me:s%40cret@{address}"),
        None,
        trusting(root.certificate_pem()),
    );
    let answer = client.send(get(url)).await.unwrap();
    assert!(
        answer.verified_chain_pem().is_some(),
        "the chain is known behind a proxy, too"
    );
    assert_eq!(text(answer).await, "in");
    assert_eq!(proxy.requests()[0].target, "gitlab.test:443");
    assert_eq!(server.requests()[0].header("proxy-authorization"), "");

    let stranger = through(
        &format!("http://me:wr%40ng@{address}"),
        None,
        trusting(root.certificate_pem()),
    );
    let error = failure(&stranger, url).await;
    assert!(
        error.contains(&format!("proxy http://{address}: ")),
        "{error}"
    );
    assert!(
        error.contains("Authentication Required") && !error.contains("wr"),
        "{error}"
    );

    let unknowing = through(&format!("http://me:s%40cret@{address}"), None, no_trust());
    let error = failure(&unknowing, url).await;
    assert!(
        error.contains("x509: certificate signed by unknown authority"),
        "{error}"
    );
}

#[tokio::test]
async fn plain_http_is_handed_to_the_proxy_whole() {
    let proxy = FakeServer::http(|_| Reply::text(200, "forwarded"));
    let url = proxy.url("").replace("//", "//me:pw@");
    let client = through(&url, None, no_trust());
    let answer = client.send(get("http://gitlab.test/x?y=1")).await.unwrap();
    assert_eq!(text(answer).await, "forwarded");
    let request = &proxy.requests()[0];
    assert_eq!(request.target, "http://gitlab.test/x?y=1");
    assert_eq!(request.header("host"), "gitlab.test");
    assert_eq!(request.header("proxy-authorization"), "Basic bWU6cHc=");
}

#[tokio::test]
async fn loopback_is_never_proxied() {
    let server = FakeServer::http(|_| Reply::status(204));
    let proxy = FakeServer::http(|_| Reply::status(502));
    let client = through(&proxy.url(""), None, no_trust());
    assert_eq!(status(&client, &server.url("/")).await, 204);
    assert_eq!(
        status(&client, &server.url_by_name("localhost", "/")).await,
        204
    );
    assert!(proxy.requests().is_empty());
}

#[tokio::test]
async fn an_unknown_kind_of_proxy_is_an_error() {
    let client = through("ftp://proxy.test", None, no_trust());
    let error = failure(&client, "https://gitlab.test/").await;
    assert!(
        error.contains("unsupported proxy scheme \"ftp\""),
        "{error}"
    );
}

#[tokio::test]
async fn socks_proxies_look_up_the_name_and_see_no_plain_text() {
    let root = Authority::root("Root").issue();
    let leaf = root.server(&["gitlab.test"]).issue();
    let secure = FakeServer::https(&leaf, |_| Reply::status(204));
    let plain = FakeServer::http(|_| Reply::status(202));
    for (url, server, target, expected) in [
        ("https://gitlab.test/", &secure, "gitlab.test:443", 204),
        ("http://gitlab.test/", &plain, "gitlab.test:80", 202),
    ] {
        for scheme in ["socks5", "socks5h"] {
            let socks = FakeSocks::start("me", "s@cret", server.address());
            let proxy = format!("{scheme}://me:s%40cret@{}", socks.address());
            let client = through(&proxy, None, trusting(root.certificate_pem()));
            assert_eq!(status(&client, url).await, expected);
            assert_eq!(socks.targets(), [target]);
        }
    }
    let socks = FakeSocks::start("me", "s@cret", secure.address());
    let proxy = format!("socks5://me:wr%40ng@{}", socks.address());
    let error = failure(&through(&proxy, None, no_trust()), "https://gitlab.test/").await;
    assert!(
        error.contains(&format!("proxy socks5://{}: ", socks.address())),
        "{error}"
    );
    assert!(!error.contains("wr@ng"), "{error}");
}

#[tokio::test]
async fn a_proxy_that_speaks_tls_is_verified_by_the_same_trust() {
    let root = Authority::root("Root").issue();
    let leaf = root.server(&["127.0.0.1"]).issue();
    let proxy = FakeServer::https(&leaf, |_| Reply::text(200, "forwarded"));
    let client = through(&proxy.url(""), None, trusting(root.certificate_pem()));
    let answer = client.send(get("http://gitlab.test/")).await.unwrap();
    assert_eq!(text(answer).await, "forwarded");
    let stranger = through(&proxy.url(""), None, no_trust());
    let error = failure(&stranger, "http://gitlab.test/").await;
    assert!(
        error.contains("x509: certificate signed by unknown authority"),
        "{error}"
    );
}
