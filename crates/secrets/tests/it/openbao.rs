//! Against a real OpenBao over TLS (`secrets.md` 11.3).

use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use courser_secrets::{FailureClass, Surroundings};
use courser_testkit::World;
use courser_testkit::id_token::Issuer;
use courser_testkit::pki::Authority;
use courser_testkit::servers::{OpenBao, Redis};
use serde_json::{Value, json};

use crate::scene::{request, resolved, secret_at, surroundings, vault_secret};

const AUDIENCE: &str = "https://vault.example.com";
const OPS: (&str, &str) = ("kv-v2", "ops");

struct Server {
    bao: OpenBao,
    issuer: Issuer,
    surroundings: Surroundings,
}

impl Server {
    fn new() -> Self {
        let bao = OpenBao::local();
        let issuer = Issuer::new("https://gitlab.example.com");
        bao.enable_jwt("jwt", issuer.url(), &issuer.public_key_pem());
        bao.bao(&["secrets", "enable", "-path=ops", "-version=2", "kv"], "");
        bao.bao(
            &["kv", "put", "-mount=ops", "production/db", "-"],
            r#"{"password": "this-is-a-password", "port": 8080, "obj": {"b": 1, "a": "x"}}"#,
        );
        bao.bao(
            &["secrets", "enable", "-path=legacy", "-version=1", "kv"],
            "",
        );
        bao.bao(&["kv", "put", "-mount=legacy", "app", "token=abc"], "");
        bao.policy(
            "deploy",
            "path \"ops/data/production/*\" { capabilities = [\"read\"] }\n\
             path \"legacy/*\" { capabilities = [\"read\"] }\n\
             path \"database/creds/*\" { capabilities = [\"read\"] }",
        );
        bao.jwt_role(
            "jwt",
            "deploy",
            &json!({"bound_claims": {"project_id": "42"}}),
        );
        let ca = bao
            .ca_file()
            .to_str()
            .expect("the path is UTF-8")
            .to_owned();
        let surroundings = surroundings(&[("VAULT_CACERT", &ca)]);
        Self {
            bao,
            issuer,
            surroundings,
        }
    }

    fn secret(&self, engine: (&str, &str), path: &str, field: &str) -> Value {
        secret_at(
            &self.bao.url(),
            &self.issuer.token(AUDIENCE),
            "deploy",
            engine,
            path,
            field,
        )
    }

    fn token_with(&self, altered: Value) -> String {
        self.issuer.token_with(AUDIENCE, &altered)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_fields_and_forms_are_read_with_one_login_and_revoked() {
    let server = Server::new();
    let jwt = server.issuer.token(AUDIENCE);
    let url = server.bao.url();
    let secret =
        |engine, path: &str, field: &str| secret_at(&url, &jwt, "deploy", engine, path, field);
    let all = request(json!({
        "PASSWORD": secret(OPS, "production/db", "password"),
        "PORT": secret(OPS, "/production//db/", "port"),
        "OBJECT": secret(OPS, "production/db", "obj"),
        "OLD": secret(("kv-v1", "legacy"), "app", "token"),
        "GENERIC": secret(("generic", "legacy"), "app", "token"),
    }));
    let resolved = resolved(&all, &server.surroundings).await;
    assert_eq!(
        resolved.pairs(),
        [
            ("GENERIC", "abc"),
            ("OBJECT", r#"{"a":"x","b":1}"#),
            ("OLD", "abc"),
            ("PASSWORD", "this-is-a-password"),
            ("PORT", "8080"),
        ]
    );
    assert_eq!(
        resolved.said[..2],
        [
            "Resolving secret \"GENERIC\"...",
            "Using \"vault\" secret resolver...",
        ]
    );
    assert_eq!(server.bao.accessors().len(), 1);
    let revocation = resolved.leases.revoke(&server.surroundings).await;
    assert_eq!((revocation.tokens, revocation.failures.len()), (1, 0));
    assert!(server.bao.accessors().is_empty());
    assert!(resolved.leases.is_empty());
}

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
async fn fields_of_a_dynamic_secret_are_of_one_lease_which_is_revoked_with_its_token() {
    let server = Server::new();
    let redis = Redis::start(Ipv4Addr::LOCALHOST);
    redis.serve_users(&server.bao);
    let jwt = server.issuer.token(AUDIENCE);
    let secret = |field: &str| {
        let engine = ("generic", "database");
        secret_at(
            &server.bao.url(),
            &jwt,
            "deploy",
            engine,
            "creds/job",
            field,
        )
    };
    let all = request(json!({"PASSWORD": secret("password"), "USER": secret("username")}));
    let resolved = resolved(&all, &server.surroundings).await;
    let values = resolved.pairs();
    assert!(values[1].1.starts_with("V_"), "{values:?}");
    assert_eq!(server.bao.leases("database/creds/job").len(), 1);
    let revocation = resolved.leases.revoke(&server.surroundings).await;
    assert_eq!((revocation.tokens, revocation.leases), (1, 1));
    assert_eq!(server.bao.leases("database/creds/job"), [""; 0]);
    assert!(server.bao.accessors().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_and_what_is_not_allowed_say_what_to_change() {
    let server = Server::new();
    let denied = || server.secret(OPS, "staging/db", "password");
    let cases = [
        (
            server.secret(OPS, "production/db", "user"),
            FailureClass::System,
            "secret not found: S",
            "has no field \"user\"; it has \"obj\", \"password\", \"port\"",
        ),
        (
            server.secret(OPS, "production/none", "user"),
            FailureClass::System,
            "secret not found: S",
            "there is nothing at ops/data/production/none",
        ),
        (
            denied(),
            FailureClass::Configuration,
            "reading secret: reading from Vault: api error: status code 403: 1 error occurred: * permission denied",
            "path \"ops/data/staging/db\" { capabilities = [\"read\"] }",
        ),
        (
            secret_at(
                &server.bao.url(),
                &server.token_with(json!({"project_id": "7"})),
                "deploy",
                OPS,
                "production/db",
                "password",
            ),
            FailureClass::Configuration,
            "initializing Vault service: preparing authenticated client: authenticating Vault client: writing to Vault: api error: \
             status code 400: error validating claims: claim \"project_id\" does not match any associated bound claim values",
            "the token's claim \"project_id\" is \"7\" (a string)",
        ),
        (
            secret_at(
                &server.bao.url(),
                &server.issuer.token("https://other"),
                "deploy",
                OPS,
                "production/db",
                "password",
            ),
            FailureClass::Configuration,
            "invalid audience (aud) claim",
            "the token's claim \"aud\" is \"https://other\" (a string)",
        ),
        (
            secret_at(
                &server.bao.url(),
                "VAULT_ID_TOKEN",
                "deploy",
                OPS,
                "production/db",
                "password",
            ),
            FailureClass::Configuration,
            "compact JWS format must have three parts",
            "the ID token is no JWT: `token:` takes a reference",
        ),
        (
            secret_at(
                &server.bao.url(),
                "",
                "deploy",
                OPS,
                "production/db",
                "password",
            ),
            FailureClass::Configuration,
            "missing token",
            "the ID token is empty",
        ),
        (
            secret_at(
                &server.bao.url(),
                &server.issuer.token(AUDIENCE),
                "nobody",
                OPS,
                "production/db",
                "password",
            ),
            FailureClass::Configuration,
            "role \"nobody\" could not be found",
            "VAULT_AUTH_ROLE must name a role of auth/jwt",
        ),
        (
            secret_at(
                &server.bao.url(),
                &server.token_with(json!({"exp": 1_000_000})),
                "deploy",
                OPS,
                "production/db",
                "password",
            ),
            FailureClass::Configuration,
            "token is expired",
            "are the clocks right",
        ),
    ];
    for (secret, class, text, advice) in cases {
        let resolved = resolved(&request(json!({"S": secret})), &server.surroundings).await;
        let failure = resolved.failure();
        let message = failure.to_string();
        assert!(message.contains(text), "{message}");
        assert_eq!(failure.class, class, "{message}");
        let told = failure.advice.join("\n");
        assert!(told.contains(advice), "{message}: {told}");
        assert!(!format!("{failure:?}").contains("eyJ"), "{failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_empty_where_the_flag_says_so() {
    let server = Server::new();
    let mut all = request(json!({"S": server.secret(OPS, "production/none", "x")}));
    all.missing_fails = false;
    let resolved = resolved(&all, &server.surroundings).await;
    assert_eq!(resolved.pairs(), [("S", "")]);
    assert!(
        resolved.said[2].contains("WARNING: secret not found: S"),
        "{:?}",
        resolved.said
    );
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
async fn without_the_ca_the_words_of_upstream_name_the_cause() {
    let server = Server::new();
    let all = request(json!({"S": server.secret(OPS, "production/db", "password")}));
    let lost = resolved(&all, &surroundings(&[])).await;
    let text = format!(
        "initializing Vault service: preparing authenticated client: authenticating Vault client: writing to Vault: \
         Put \"{}/v1/auth/jwt/login\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
        server.bao.url()
    );
    assert!(
        lost.failure().to_string().starts_with(&text),
        "{}",
        lost.failure()
    );
    assert_eq!(lost.failure().class, FailureClass::System);
    let lost = resolved(&all, &surroundings(&[("VAULT_CACERT", "/none")])).await;
    assert_eq!(
        lost.failure().to_string(),
        "initializing Vault service: preparing authenticated client: creating new Vault client: error encountered setting up \
         default configuration: Error loading CA File: open /none: no such file or directory"
    );
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

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_are_what_the_server_made_of_them() {
    let server = Server::new();
    let bytes = b"\x00\xff\xfe\x80key";
    let files = World::new();
    let raw = format!("raw=@{}", files.write("key", bytes).display());
    let encoded = format!("encoded={}", BASE64_STANDARD.encode(bytes));
    let put = ["kv", "put", "-mount=ops", "production/key", &raw, &encoded];
    server.bao.bao(&put, "");
    let get = |field: &str| {
        let field = format!("-field={field}");
        server
            .bao
            .bao(&["kv", "get", &field, "-mount=ops", "production/key"], "")
    };
    let mut raw = server.secret(OPS, "production/key", "raw");
    raw["file"] = json!(true);
    let encoded = server.secret(OPS, "production/key", "encoded");
    let all = request(json!({"ENCODED": encoded, "RAW": raw}));
    let found = resolved(&all, &server.surroundings).await;
    let values = found.values();
    assert_eq!(BASE64_STANDARD.decode(values[0]).unwrap(), bytes);
    // JSON has no bytes: `bao` itself shows what is left of them.
    assert_eq!(values[1], get("raw"));
    assert_eq!(values[1], "\0\u{fffd}\u{fffd}\u{fffd}key");
    raw["file"] = json!(false);
    let lost = resolved(&request(json!({"RAW": raw})), &server.surroundings).await;
    assert_eq!(
        lost.failure().to_string(),
        "secret \"RAW\": its value has NUL bytes, which no variable can hold"
    );
    assert_eq!(lost.failure().class, FailureClass::Configuration);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_server_is_an_outage_and_a_policy_without_data_is_named() {
    let server = Server::new();
    server.bao.policy(
        "deploy",
        "path \"ops/production/*\" { capabilities = [\"read\"] }",
    );
    let all = request(json!({"S": server.secret(OPS, "production/db", "password")}));
    let lost = resolved(&all, &server.surroundings).await;
    let told = lost.told();
    assert_eq!(lost.failure().class, FailureClass::Configuration, "{told}");
    let line = "path \"ops/data/production/db\" { capabilities = [\"read\"] }";
    assert!(
        told.contains("permission denied") && told.contains(line),
        "{told}"
    );
    lost.leases.revoke(&server.surroundings).await;

    server.bao.bao(&["operator", "seal"], "");
    let lost = resolved(&all, &server.surroundings).await;
    let told = lost.told();
    assert_eq!(
        lost.failure().class,
        FailureClass::ExternalDependency,
        "{told}"
    );
    assert!(
        told.contains("status code 503: ") && told.contains("sealed"),
        "{told}"
    );
}
