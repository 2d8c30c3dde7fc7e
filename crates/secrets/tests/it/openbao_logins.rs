//! Logins at a real OpenBao: methods, roles, namespaces, and kinds of tokens.

use courser_secrets::FailureClass;
use courser_testkit::pki::Authority;
use serde_json::{Value, json};

use crate::openbao::{AUDIENCE, OPS, Server};
use crate::scene::{request, resolved, secret_at, surroundings, vault_secret};

#[tokio::test(flavor = "multi_thread")]
async fn no_job_logs_in_with_the_runners_certificate_whatever_its_method_is_called() {
    let server = Server::new();
    let clients = Authority::root("Clients").issue();
    let runner = clients.client("runner.example.com").issue();
    server
        .bao
        .bao(&["auth", "enable", "-path=machines", "cert"], "");
    let role = json!({"certificate": clients.certificate_pem(), "token_policies": ["deploy"]});
    server.bao.bao(
        &["write", "auth/machines/certs/runner", "-"],
        &role.to_string(),
    );
    let (ca, url) = (
        server.bao.ca_file().to_str().unwrap().to_owned(),
        server.bao.url(),
    );
    let (certificate, key) = (runner.certificate_pem(), runner.key_pem());
    let surroundings = surroundings(&[
        ("VAULT_CACERT", &ca),
        ("VAULT_ADDR", &url),
        ("VAULT_CLIENT_CERT_BYTES", &certificate),
        ("VAULT_CLIENT_KEY_BYTES", &key),
    ]);
    let mut secret = server.secret(OPS, "production/db", "password");
    let by_token = resolved(&request(json!({"S": secret})), &surroundings).await;
    assert_eq!(by_token.pairs(), [("S", "this-is-a-password")]);
    by_token.leases.revoke(&surroundings).await;
    secret["vault"]["server"]["auth"]["path"] = json!("machines");
    let done = resolved(&request(json!({"S": secret})), &surroundings).await;
    let failure = done.failure();
    assert!(failure.to_string().contains("status code 400"), "{failure}");
    assert!(server.bao.accessors().is_empty());
    // The same where the login goes with the request.
    let inline = |path: &str| {
        let jwt = server.issuer.token(AUDIENCE);
        json!({"S": {"file": false, "gitlab_secrets_manager": {
            "engine": {"name": "kv-v2", "path": "ops"}, "path": "production/db", "field": "password",
            "server": {"url": url, "inline_auth": {"path": path, "jwt": jwt, "role": "deploy"}},
        }}})
    };
    let found = resolved(&request(inline("auth/jwt/login")), &surroundings).await;
    assert_eq!(found.pairs(), [("S", "this-is-a-password")]);
    let refused = resolved(&request(inline("auth/machines/login")), &surroundings).await;
    let text = refused.failure().to_string();
    assert!(text.contains("status code 400"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_with_few_uses_are_made_again() {
    let server = Server::new();
    server.bao.jwt_role(
        "jwt",
        "once",
        &json!({"token_policies": ["deploy"], "token_num_uses": 1}),
    );
    for number in 1..=3 {
        let path = format!("production/{number}");
        server
            .bao
            .bao(&["kv", "put", "-mount=ops", &path, "v=x"], "");
    }
    let jwt = server.issuer.token(AUDIENCE);
    let secret = |path: &str| secret_at(&server.bao.url(), &jwt, "once", OPS, path, "v");
    let all = request(json!({
        "A": secret("production/1"), "B": secret("production/2"), "C": secret("production/3"),
    }));
    let resolved = resolved(&all, &server.surroundings).await;
    assert_eq!(resolved.pairs(), [("A", "x"), ("B", "x"), ("C", "x")]);
    let revocation = resolved.leases.revoke(&server.surroundings).await;
    assert_eq!((revocation.tokens, revocation.ended), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_tokens_work_and_are_left_to_end() {
    let server = Server::new();
    server.bao.jwt_role(
        "jwt",
        "batch",
        &json!({"token_policies": ["deploy"], "token_type": "batch"}),
    );
    let secret = secret_at(
        &server.bao.url(),
        &server.issuer.token(AUDIENCE),
        "batch",
        OPS,
        "production/db",
        "password",
    );
    let resolved = resolved(&request(json!({"S": secret})), &server.surroundings).await;
    assert_eq!(resolved.pairs(), [("S", "this-is-a-password")]);
    let revocation = resolved.leases.revoke(&server.surroundings).await;
    assert_eq!(revocation, courser_secrets::Revocation::default());
    assert!(resolved.leases.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn s12_s26_a_namespace_is_that_of_login_read_revocation_and_cross_check() {
    let server = Server::new();
    let bao = &server.bao;
    bao.bao(&["namespace", "create", "admin"], "");
    let within = |arguments: &[&str], input: &str| {
        let (command, rest) = arguments.split_at(if arguments[0] == "write" { 1 } else { 2 });
        let all: Vec<&str> = command
            .iter()
            .chain(&["-namespace=admin"])
            .chain(rest)
            .copied()
            .collect();
        bao.bao(&all, input);
    };
    within(&["auth", "enable", "jwt"], "");
    let config = json!({"jwt_validation_pubkeys": [server.issuer.public_key_pem()], "bound_issuer": server.issuer.url()});
    within(&["write", "auth/jwt/config", "-"], &config.to_string());
    let role = json!({"role_type": "jwt", "user_claim": "user_email", "bound_audiences": [AUDIENCE], "token_policies": ["p"]});
    within(&["write", "auth/jwt/role/deploy", "-"], &role.to_string());
    within(
        &["policy", "write", "p", "-"],
        "path \"ops/data/*\" { capabilities = [\"read\"] }",
    );
    within(&["secrets", "enable", "-path=ops", "-version=2", "kv"], "");
    within(
        &[
            "kv",
            "put",
            "-mount=ops",
            "production/db",
            "password=of-the-team",
        ],
        "",
    );
    let mut secret = server.secret(OPS, "production/db", "password");
    secret["vault"]["server"]["namespace"] = json!("/admin/");
    let found = resolved(&request(json!({"S": secret})), &server.surroundings).await;
    assert_eq!(found.pairs(), [("S", "of-the-team")]);
    assert_eq!(found.leases.revoke(&server.surroundings).await.tokens, 1);
    let documented = [
        "kv",
        "get",
        "-field=password",
        "-namespace=admin",
        "-mount=ops",
        "production/db",
    ];
    assert_eq!(bao.bao(&documented, "").trim_end(), "of-the-team");
    secret["vault"]["server"]["namespace"] = json!("none");
    let lost = resolved(&request(json!({"S": secret})), &server.surroundings).await;
    assert!(
        lost.failure().to_string().contains("404: "),
        "{}",
        lost.failure()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn gitlab_secrets_manager_logs_in_with_the_request() {
    let server = Server::new();
    let secret = |field: &str, role: &str| {
        json!({"S": {"file": false, "gitlab_secrets_manager": {
            "engine": {"name": "kv-v2", "path": "ops"}, "path": "production/db", "field": field,
            "server": {"url": server.bao.url(), "inline_auth": {"path": "auth/jwt/login", "jwt": server.issuer.token(AUDIENCE), "role": role}},
        }}})
    };
    let found = resolved(&request(secret("password", "deploy")), &server.surroundings).await;
    assert_eq!(found.pairs(), [("S", "this-is-a-password")]);
    assert_eq!(
        found.said[1],
        "Using \"gitlab_secrets_manager\" secret resolver..."
    );
    assert!(found.leases.is_empty() && server.bao.accessors().is_empty());
    for (secret, text) in [
        (
            secret("none", "deploy"),
            "getting secret: field \"none\" not found in secret",
        ),
        (
            secret("port", "deploy"),
            "getting secret: field \"port\" has invalid type json.Number (expected string)",
        ),
        (
            secret("password", "nobody"),
            "getting secret: get secret data: reading from Vault: api error: status code 400: role \"nobody\" could not be found",
        ),
        (
            json!({"S": {"gitlab_secrets_manager": {}}}),
            "creating vault client: configuring inline auth: inline auth JWT is required\ninline auth role is required",
        ),
    ] {
        let lost = resolved(&request(secret), &server.surroundings).await;
        let message = lost.failure().to_string();
        assert!(message.contains(text), "{message}");
        assert_eq!(lost.failure().class, FailureClass::System);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s12_an_audience_list_a_second_mount_and_a_ca_directory_work_too() {
    let server = Server::new();
    let (bao, issuer) = (&server.bao, &server.issuer);
    bao.enable_jwt("jwt_v2", issuer.url(), &issuer.public_key_pem());
    bao.jwt_role("jwt_v2", "deploy", &json!({}));
    let token = server.token_with(json!({"aud": ["https://a.example.com", AUDIENCE]}));
    let mut secret = secret_at(
        &bao.url(),
        &token,
        "deploy",
        OPS,
        "production/db",
        "password",
    );
    secret["vault"]["server"]["auth"]["path"] = json!("jwt_v2");
    let directory = bao.ca_file().parent().unwrap().to_str().unwrap().to_owned();
    let own = surroundings(&[("BAO_CAPATH", &directory), ("VAULT_CACERT", "")]);
    let found = resolved(&request(json!({"S": secret})), &own).await;
    assert_eq!(found.pairs(), [("S", "this-is-a-password")]);
    assert_eq!(found.leases.revoke(&own).await.tokens, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn s10_without_a_role_the_default_of_the_method_counts() {
    let server = Server::new();
    let mut secret = server.secret(OPS, "production/db", "password");
    let data = secret.pointer_mut("/vault/server/auth/data").unwrap();
    data.as_object_mut().unwrap().remove("role");
    let all = request(json!({"S": secret}));
    let lost = resolved(&all, &server.surroundings).await;
    let message = lost.failure().to_string();
    assert!(
        message.ends_with("status code 400: missing role"),
        "{message}"
    );
    let config = json!({
        "jwt_validation_pubkeys": [server.issuer.public_key_pem()], "bound_issuer": server.issuer.url(), "default_role": "deploy",
    });
    let write = ["write", "auth/jwt/config", "-"];
    server.bao.bao(&write, &config.to_string());
    let found = resolved(&all, &server.surroundings).await;
    assert_eq!(found.values(), ["this-is-a-password"]);
    found.leases.revoke(&server.surroundings).await;

    // The request has none: an empty one would not be what older servers take for none.
    let (scene, vault) = crate::scene::vault();
    let found = scene.resolve(json!({"S": vault_secret("s1")})).await;
    assert_eq!(found.values(), ["v1"]);
    let login: Value = serde_json::from_slice(&vault.requests()[0].body).unwrap();
    let fields: Vec<_> = login.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["jwt"]);
}
