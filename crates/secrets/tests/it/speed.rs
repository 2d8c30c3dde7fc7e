//! How many requests many secrets take, and how long they take on a slow server.

use std::time::{Duration, Instant};

use courser_testkit::pki::Authority;
use courser_testkit::server::{FakeServer, Reply};
use serde_json::{Value, json};

use crate::scene::{request, resolved, secret_at, surroundings};

/// A server whose answers take 50 ms.
fn slow_server() -> (FakeServer, String) {
    let root = Authority::root("Vault Root").issue();
    let leaf = root.server(&["127.0.0.1"]).issue();
    let server = FakeServer::https(&leaf, |request| {
        std::thread::sleep(Duration::from_millis(50));
        if request.method == "PUT" && request.path.ends_with("/login") {
            return Reply::json(
                200,
                &json!({"auth": {"client_token": "s.t", "lease_duration": 600, "token_type": "service"}}),
            );
        }
        let fields: serde_json::Map<String, Value> = (0..30)
            .map(|n| (format!("f{n}"), json!(format!("v{n}"))))
            .collect();
        Reply::json(200, &json!({"data": {"data": fields}}))
    });
    (server, root.certificate_pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_secrets_take_as_many_requests_as_logins_and_paths_side_by_side() {
    let (server, ca) = slow_server();
    let surroundings = surroundings(&[("VAULT_CACERT_BYTES", &ca)]);
    for (one_path, requests) in [(false, 31), (true, 2)] {
        let before = server.requests().len();
        let all: serde_json::Map<String, Value> = (0..30)
            .map(|n| {
                let path = if one_path {
                    "p".to_owned()
                } else {
                    format!("p{n}")
                };
                let field = format!("f{n}");
                let secret =
                    secret_at(&server.url(""), "jwt", "r", ("kv-v2", "ops"), &path, &field);
                (format!("S{n:02}"), secret)
            })
            .collect();
        let started = Instant::now();
        let found = resolved(&request(Value::Object(all)), &surroundings).await;
        let took = started.elapsed();
        assert_eq!(found.pairs().len(), 30);
        assert_eq!(found.pairs()[29], ("S29", "v29"));
        assert_eq!(
            server.requests().len() - before,
            requests,
            "one path: {one_path}"
        );
        // What it has to take is measured in benches/ (`secrets`).
        println!("one path: {one_path}: {requests} requests in {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_server_is_not_shown_the_token() {
    let root = Authority::root("Vault Root").issue();
    let leaf = root.server(&["127.0.0.1"]).issue();
    let other = FakeServer::https(&leaf, |_| Reply::status(500));
    let there = other.url("/v1/auth/jwt/login");
    let server = FakeServer::https(&leaf, move |_| Reply::redirect(307, &there));
    let surroundings = surroundings(&[("VAULT_CACERT_BYTES", &root.certificate_pem())]);
    let secret = secret_at(
        &server.url(""),
        "eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
        "r",
        ("kv-v2", "ops"),
        "p",
        "f",
    );
    let lost = resolved(&request(json!({"S": secret})), &surroundings).await;
    let text = lost.failure().to_string();
    assert!(
        text.contains("another server, which is not shown the token"),
        "{text}"
    );
    assert!(other.requests().is_empty());
}
