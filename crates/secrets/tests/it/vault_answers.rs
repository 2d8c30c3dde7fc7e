//! What a Vault may answer to a login and to a read (`secrets.md` 5.1, 5.4, 5.5), and what the job is told of it.

use courser_testkit::clouds::vault::{Step, Vault};
use courser_testkit::server::Reply;
use serde_json::json;

use crate::scene::{self, Scene, Told};

const PREPARING: &str = "initializing Vault service: preparing authenticated client: ";
const HTML: &str = "<html><body>Sign in</body></html>";

async fn answered(step: Step, reply: Reply) -> Told {
    let (scene, vault): (Scene, Vault) = scene::vault();
    vault.always(step, reply);
    scene.resolve(json!({"S": scene::vault_secret("s0")})).await
}

fn json(status: u16, body: &serde_json::Value) -> Reply {
    Reply::json(status, body)
}

#[tokio::test]
async fn what_a_login_answers() {
    let writing = "authenticating Vault client: writing to Vault: ";
    let no_result = "authenticating Vault client: getting token from the authentication response: no result from Vault";
    let page = |status| {
        format!(
            "System: {PREPARING}{writing}invalid character '<' looking for beginning of value (no answer of Vault: \
             status {status}, text/html)"
        )
    };
    let api = |class: &str, text: &str| format!("{class}: {PREPARING}{writing}api error: {text}");
    for (reply, expected) in [
        (
            Reply::status(404),
            api("Configuration", "status code 404: "),
        ),
        (
            json(404, &json!({"errors": ["namespace not found"]})),
            api("Configuration", "status code 404: namespace not found"),
        ),
        (
            Reply::text(404, " \n"),
            format!("System: {PREPARING}{no_result}"),
        ),
        (Reply::with("text/html", 404, HTML), page(404)),
        (Reply::with("text/html", 200, HTML), page(200)),
        (
            Reply::status(200),
            format!("System: {PREPARING}{no_result}"),
        ),
        (
            Reply::text(400, "plain words"),
            api("Configuration", "status code 400: plain words"),
        ),
        (
            json(400, &json!({"errors": ["one", "two"]})),
            api("Configuration", "status code 400: one, two"),
        ),
    ] {
        let shown = format!("{reply:?}");
        let is_refusal = !shown.contains("status: 200");
        let told = answered(Step::Login, reply).await;
        let failure = told.failure();
        assert_eq!(
            format!("{:?}: {failure}", failure.class),
            expected,
            "{shown}"
        );
        // Of whatever says that it succeeded nobody knows what it made.
        assert_eq!(told.leases.is_empty(), is_refusal, "{shown}");
    }
}

#[tokio::test]
async fn a_token_is_known_whatever_stands_beside_it() {
    let token = "s.fake-odd-token";
    for beside in [
        json!({"token_type": null, "lease_duration": null, "num_uses": null}),
        json!({"token_type": 7, "lease_duration": -1, "num_uses": "5"}),
        json!({"token_type": {}, "lease_duration": "3600", "num_uses": []}),
    ] {
        let mut auth = beside.clone();
        auth["client_token"] = token.into();
        let (scene, vault): (Scene, Vault) = scene::vault();
        vault.always(Step::Login, json(200, &json!({"auth": auth})));
        let content = json!({"data": {"data": {"value": "v"}}});
        vault.always(Step::Read, json(200, &content));
        let told = scene.resolve(json!({"S": scene::vault_secret("s0")})).await;
        assert_eq!(told.values(), ["v"], "{beside}");
        let held = told.leases.held();
        assert_eq!(held.len(), 1, "{beside}");
        assert_eq!(held[0].token.expose(), token, "{beside}");
        assert_eq!(held[0].expires != 0, beside["lease_duration"] == "3600");
    }
    for auth in [
        json!({"client_token": null}),
        json!({"client_token": 7}),
        json!([]),
    ] {
        let told = answered(Step::Login, json(200, &json!({"auth": auth}))).await;
        let text = told.failure().to_string();
        assert!(!text.contains("damaged"), "{text}");
        assert!(!told.leases.is_empty(), "{auth}: what it made is not known");
    }
}

#[tokio::test]
async fn what_a_read_answers() {
    let nothing = "there is nothing at ops/data/s0";
    for (reply, note) in [
        (json(404, &json!({"errors": []})), nothing),
        (Reply::status(204), nothing),
        (json(200, &json!({"data": {"data": null}})), nothing),
        (
            json(
                404,
                &json!({"data": {"data": null, "metadata": {"destroyed": true}}}),
            ),
            nothing,
        ),
        (
            json(200, &json!({"data": {"data": {"value": null, "other": 1}}})),
            "the field \"value\" of ops/data/s0 is null",
        ),
        (
            json(200, &json!({"data": {"data": {}}})),
            "ops/data/s0 has no fields",
        ),
        (
            json(200, &json!({"data": {"data": {"other": 1}}})),
            "ops/data/s0 has no field \"value\"; it has \"other\"",
        ),
    ] {
        let told = answered(Step::Read, reply).await;
        let failure = told.failure();
        assert_eq!(failure.to_string(), "secret not found: S", "{note}");
        assert_eq!(failure.advice, [note]);
    }
    let told = answered(
        Step::Read,
        json(200, &json!({"data": {"data": {"value": ""}}})),
    )
    .await;
    assert_eq!(told.values(), [""], "an empty value is one");
}
