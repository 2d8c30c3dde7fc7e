//! Against a real OpenBao over TLS (`secrets.md` 11.3).

use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use courser_secrets::{FailureClass, Surroundings};
use courser_testkit::World;
use courser_testkit::id_token::Issuer;
use courser_testkit::servers::{OpenBao, Redis};
use serde_json::{Value, json};

use crate::scene::{request, resolved, secret_at, surroundings};

pub(crate) const AUDIENCE: &str = "https://vault.example.com";
pub(crate) const OPS: (&str, &str) = ("kv-v2", "ops");

/// With a method, engines and a role.
pub(crate) struct Server {
    pub(crate) bao: OpenBao,
    pub(crate) issuer: Issuer,
    pub(crate) surroundings: Surroundings,
}

impl Server {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn secret(&self, engine: (&str, &str), path: &str, field: &str) -> Value {
        secret_at(
            &self.bao.url(),
            &self.issuer.token(AUDIENCE),
            "deploy",
            engine,
            path,
            field,
        )
    }

    pub(crate) fn token_with(&self, altered: Value) -> String {
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

    server.bao.seal();
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
