//! Through a real `CONNECT` proxy and past it.

use courser_net::{Client, ClientSettings, ProxySettings};
use courser_testkit::pki::Authority;
use courser_testkit::proxy::FakeProxy;
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
        answer.verified_chain_pem.is_some(),
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
        error.contains("authorization required") && !error.contains("wr"),
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
