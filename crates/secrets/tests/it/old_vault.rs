//! S7 of `runner-tls.md` 18: Vault 1.2.0 is new enough. No server of that age is to be had; what it was documented to
//! answer is little, and has to be enough.

use courser_testkit::pki::Authority;
use courser_testkit::server::{FakeServer, Reply, Request};
use serde_json::json;

use crate::scene::{request, resolved, secret_at, surroundings};

/// Tokens were UUIDs once, and nothing was said of their type and uses.
const TOKEN: &str = "f33f8c72-924e-11f8-cb43-ac59d697597c";

fn answer(request: &Request) -> Reply {
    let has_token = request.header("x-vault-token") == TOKEN;
    match (request.method.as_str(), request.path.as_str()) {
        ("PUT", "/v1/auth/jwt/login") => Reply::json(
            200,
            &json!({"auth": {
                "client_token": TOKEN, "accessor": "0e9e354a-520f-df04-6867-ee81cae3d42d",
                "policies": ["default"], "lease_duration": 2_764_800, "renewable": true,
            }}),
        ),
        ("GET", "/v1/ops/data/db") if has_token => Reply::json(
            200,
            &json!({"data": {"data": {"password": "p"}, "metadata": {"version": 1}}}),
        ),
        ("GET", "/v1/secret/db") if has_token => Reply::json(
            200,
            &json!({"auth": null, "data": {"password": "q"}, "lease_duration": 2_764_800, "lease_id": "", "renewable": false}),
        ),
        ("PUT" | "POST", "/v1/auth/token/revoke-self") if has_token => Reply::status(204),
        _ => Reply::json(404, &json!({"errors": ["no handler for route"]})),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s07_an_old_vault_is_asked_for_what_it_has() {
    let root = Authority::root("Vault Root").issue();
    let server = FakeServer::https(&root.server(&["127.0.0.1"]).issue(), answer);
    let surroundings = surroundings(&[("VAULT_CACERT_BYTES", &root.certificate_pem())]);
    let secret = |engine| secret_at(&server.url(""), "a.b.c", "r", engine, "db", "password");
    let all = json!({"NEW": secret(("kv-v2", "ops")), "OLD": secret(("kv-v1", "secret"))});
    let told = resolved(&request(all), &surroundings).await;
    assert_eq!(told.values(), ["p", "q"]);
    let revocation = told.leases.revoke(&surroundings).await;
    assert_eq!((revocation.tokens, revocation.failures.len()), (1, 0));
    let mut paths: Vec<_> = server.requests().into_iter().map(|one| one.path).collect();
    paths[1..3].sort();
    assert_eq!(
        paths,
        [
            "/v1/auth/jwt/login",
            "/v1/ops/data/db",
            "/v1/secret/db",
            "/v1/auth/token/revoke-self"
        ]
    );
}
