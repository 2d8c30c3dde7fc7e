//! How far it came: what `courser secrets check` tells its steps by.

use courser_secrets::Step::{self, Claims, Connect, Field, LogIn, Path, Policy, Settings};
use courser_testkit::clouds::vault;
use courser_testkit::pki::Authority;
use courser_testkit::server::Reply;
use serde_json::{Value, json};

use crate::scene::{self, Scene, gitlab_secret, issuer, vault_secret};
use crate::{aws, azure, google};

async fn step(scene: &Scene, secret: &Value) -> Step {
    scene.resolve(json!({"A": secret})).await.failure().step
}

/// The secret with another value at `pointer`.
fn with(secret: &Value, pointer: &str, value: Value) -> Value {
    let mut secret = secret.clone();
    *secret.pointer_mut(pointer).unwrap() = value;
    secret
}

/// Another subject, and what is no token.
async fn logins(scene: &mut Scene, variable: &str, audience: &str, secret: &Value) {
    let others = json!({"sub": "x", "project_path": "x/y"});
    scene.set(variable, &issuer().token_with(audience, &others));
    assert_eq!(step(scene, secret).await, Claims);
    for token in ["", "no token"] {
        scene.set(variable, token);
        assert_eq!(step(scene, secret).await, LogIn);
    }
    scene.root = Authority::root("Another root").issue();
    scene.set(variable, &issuer().token(audience));
    assert_eq!(step(scene, secret).await, Connect);
}

#[tokio::test]
async fn google_fails_at_steps() {
    let (mut scene, google) = google::scene();
    let secret = google::secret("api-key", "latest");
    assert_eq!(step(&scene, &google::secret("a/../b", "1")).await, Settings);
    assert_eq!(
        step(&scene, &google::secret("forbidden", "1")).await,
        Policy
    );
    assert_eq!(step(&scene, &google::secret("api-key", "7")).await, Path);
    let binary = courser_testkit::clouds::google::version_of("n", b"\xff", None);
    let next = courser_testkit::clouds::google::Step::Access;
    google.next(next, vec![Reply::json(200, &binary)]);
    assert_eq!(step(&scene, &secret).await, Field);
    logins(&mut scene, "GCP_ID_TOKEN", google::AUDIENCE, &secret).await;
}

#[tokio::test]
async fn azure_fails_at_steps() {
    let (mut scene, azure) = azure::scene();
    let secret = azure::secret("cert", "");
    let tenant = "/azure_key_vault/server/tenant_id";
    assert_eq!(
        step(&scene, &with(&secret, tenant, "$X".into())).await,
        Settings
    );
    assert_eq!(
        step(&scene, &with(&secret, tenant, "other".into())).await,
        LogIn
    );
    assert_eq!(step(&scene, &azure::secret("absent", "")).await, Path);
    assert_eq!(step(&scene, &azure::secret("disabled", "")).await, Policy);
    let next = courser_testkit::clouds::azure::Step::Read;
    azure.next(next, vec![Reply::json(200, &json!({"value": null}))]);
    assert_eq!(step(&scene, &secret).await, Field);
    logins(&mut scene, "AZ_ID_TOKEN", azure::AUDIENCE, &secret).await;
}

#[tokio::test]
async fn aws_fails_at_steps() {
    let (mut scene, _aws) = aws::scene();
    let secret = |own: Value| aws::secret(own);
    for (own, expected) in [
        (
            json!({"secret_id": "app/db", "region": "evil.example/#"}),
            Settings,
        ),
        (json!({"secret_id": "forbidden"}), Policy),
        (json!({"secret_id": "absent"}), Path),
        (json!({"secret_id": "app/db", "field": "absent"}), Field),
        (json!({"secret_id": "empty"}), Field),
    ] {
        assert_eq!(step(&scene, &secret(own.clone())).await, expected, "{own}");
    }
    let secret = secret(json!({"secret_id": "app/db"}));
    logins(&mut scene, "AWS_ID_TOKEN", aws::AUDIENCE, &secret).await;
}

#[tokio::test]
async fn vault_and_gitlab_secrets_manager_fail_at_steps() {
    for secret in [vault_secret("s0"), gitlab_secret("s0")] {
        let (mut scene, vault) = scene::vault();
        let provider = secret.as_object().unwrap().keys().next().unwrap().clone();
        let at = |pointer: &str| format!("/{provider}/{pointer}");
        let engine = with(&secret, &at("engine/name"), "kv_v2".into());
        assert_eq!(step(&scene, &engine).await, Settings);
        let scheme = with(&secret, &at("server/url"), "vault.example.com".into());
        assert_eq!(step(&scene, &scheme).await, Settings);
        let path = with(&secret, &at("path"), "none".into());
        assert_eq!(step(&scene, &path).await, Path);
        let field = with(&secret, &at("field"), "none".into());
        assert_eq!(step(&scene, &field).await, Field);
        let refusal = |status, text: &str| Reply::json(status, &json!({"errors": [text]}));
        vault.next(vault::Step::Read, vec![refusal(403, "permission denied")]);
        assert_eq!(step(&scene, &secret).await, Policy);
        let (login, failed) = match secret.get("vault") {
            Some(_) => (vault::Step::Login, "X-Nothing"),
            None => (vault::Step::Read, "X-Vault-Inline-Auth-Failed"),
        };
        for (text, expected) in [
            (
                "error validating claims: claim \"ref\" does not match any associated bound claim values",
                Claims,
            ),
            ("role \"x\" could not be found", LogIn),
        ] {
            vault.next(login, vec![refusal(400, text).header(failed, "true")]);
            assert_eq!(step(&scene, &secret).await, expected, "{text}");
        }
        scene.root = Authority::root("Another root").issue();
        assert_eq!(step(&scene, &secret).await, Connect);
    }
}
