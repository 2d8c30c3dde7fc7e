//! Azure, whose tokens and permissions are checked by a strict fake.

use courser_secrets::FailureClass;
use courser_testkit::clouds::azure::{Azure, Secret, Step, Tenant};
use courser_testkit::server::Reply;
use serde_json::{Value, json};

use crate::google::SUBJECT;
use crate::scene::{Scene, issuer};

pub(crate) const AUDIENCE: &str = "api://AzureADTokenExchange";
const VAULT: &str = "unit.vault.azure.net";

/// A tenant with a vault, reached by Azure's own names; the job has its token in `AZ_ID_TOKEN`.
pub(crate) fn scene() -> (Scene, Azure) {
    with(|_| ())
}

fn with(change: impl FnOnce(&mut Tenant)) -> (Scene, Azure) {
    let mut scene = Scene::new();
    let secret = |name: &str, versions: &[(&str, &str)]| Secret {
        name: name.to_owned(),
        versions: versions
            .iter()
            .map(|(id, value)| ((*id).to_owned(), Some((*value).to_owned())))
            .collect(),
    };
    let mut secrets = vec![
        secret("cert", &[("v1", "one"), ("v2", "two")]),
        Secret {
            versions: vec![("v1".to_owned(), None)],
            ..secret("disabled", &[])
        },
    ];
    secrets.extend(
        (0..200).map(|number| secret(&format!("s{number}"), &[("v", &format!("v{number}"))])),
    );
    let mut tenant = Tenant {
        id: "tenant".to_owned(),
        client_id: "client".to_owned(),
        federation: issuer().federation(&[AUDIENCE]),
        subject: SUBJECT.to_owned(),
        vault: VAULT.to_owned(),
        resource: "https://vault.azure.net".to_owned(),
        secrets,
        may_read: true,
    };
    change(&mut tenant);
    let leaf = scene.leaf(&[Azure::AUTHORITY, VAULT, "127.0.0.1"]);
    let azure = Azure::start(&leaf, tenant);
    scene.route(&azure.routes());
    scene.set("AZ_ID_TOKEN", &issuer().token(AUDIENCE));
    (scene, azure)
}

pub(crate) fn secret(name: &str, version: &str) -> Value {
    json!({"azure_key_vault": {"name": name, "version": version, "server": {
        "url": "https://unit.vault.azure.net", "client_id": "client", "tenant_id": "tenant", "jwt": "$AZ_ID_TOKEN",
    }}})
}

#[tokio::test]
async fn one_challenge_and_one_token_serve_a_vault() {
    let (mut scene, azure) = scene();
    scene.set("V", "v1");
    let told = scene
        .resolve(
            json!({"A": secret("cert", ""), "B": secret("cert", "$V"), "C": secret("cert", "")}),
        )
        .await;
    assert_eq!(told.values(), ["two", "one", "two"]);
    let requests = azure.requests();
    let shown: Vec<_> = requests
        .iter()
        .map(|request| {
            (
                request.path.as_str(),
                request.headers.contains_key("authorization"),
            )
        })
        .collect();
    assert_eq!(shown.len(), 4, "{shown:?}");
    assert!(!shown[0].1);
    assert_eq!(shown[1], ("/tenant/oauth2/v2.0/token", false));
    assert!(shown[2].1 && shown[3].1);
    assert!(
        told.log()
            .contains("Using \"azure-key-vault\" secret resolver..."),
        "{}",
        told.log()
    );
}

#[tokio::test]
async fn tokens_are_not_given_to_hosts_that_ask_for_another_resource() {
    let (mut scene, azure) = with(|tenant| tenant.vault = "127.0.0.1".to_owned());
    let mut secret = secret("cert", "");
    secret["azure_key_vault"]["server"]["url"] = azure.url().into();
    scene.route(&azure.routes());
    let told = scene.resolve(json!({"A": secret})).await;
    let text = told.told();
    assert!(
        text.starts_with(
            "Configuration: getting secret failed: challenge resource \"https://vault.azure.net\" doesn't match the requested \
             domain 127.0.0.1\n  > "
        ),
        "{text}"
    );
    assert_eq!(azure.requests().len(), 1);
    // The operator vouches for it.
    let url: url::Url = azure.url().parse().unwrap();
    scene.settings.azure.trusted_vaults = vec![url.clone()];
    let told = scene.resolve(json!({"A": secret})).await;
    assert_eq!(told.values(), ["two"]);
    // And leads the login elsewhere, or the process does.
    scene.route(&[]);
    scene.environment = vec![("AZURE_AUTHORITY_HOST", azure.url())];
    assert_eq!(scene.resolve(json!({"A": secret})).await.values(), ["two"]);
    scene.environment.clear();
    scene.settings.azure.authority_url = Some(url);
    assert_eq!(scene.resolve(json!({"A": secret})).await.values(), ["two"]);
}

#[tokio::test]
async fn refusals_are_told_as_by_microsofts_sdk() {
    let (scene, azure) = scene();
    let failing = async |name: &str, version: &str| {
        let told = scene.resolve(json!({"A": secret(name, version)})).await;
        assert_eq!(told.failure().class, FailureClass::Configuration);
        told.failure().to_string()
    };
    let rule = "-".repeat(80);
    let text = failing("absent", "").await;
    let head = format!(
        "getting secret failed: GET https://unit.vault.azure.net/secrets/absent/\n{rule}\nRESPONSE 404: 404 Not Found\n\
         ERROR CODE: SecretNotFound\n{rule}\n{{\n  \"error\": {{\n    \"code\": \"SecretNotFound\",\n    \"message\": \"A secret \
         with (name/id) absent was not found"
    );
    assert!(text.starts_with(&head), "{text}");
    assert!(text.ends_with(&format!("}}\n{rule}")), "{text}");
    assert!(
        failing("my_secret", "")
            .await
            .contains("ERROR CODE: BadParameter")
    );
    assert!(failing("disabled", "").await.contains("disabled secret"));
    assert_eq!(azure.requests().len(), 9);
}

#[tokio::test]
async fn who_may_not_read_is_told_which_role_is_needed() {
    let (scene, _azure) = with(|tenant| tenant.may_read = false);
    let told = scene.resolve(json!({"A": secret("cert", "")})).await;
    let text = told.told();
    assert!(
        text.starts_with("Configuration: getting secret failed: GET https://unit.vault"),
        "{text}"
    );
    assert!(
        text.contains("ForbiddenByRbac") && text.contains("role \"Key Vault Secrets User\""),
        "{text}"
    );
}

#[tokio::test]
async fn a_secret_without_value_is_missing_and_an_open_vault_needs_no_token() {
    let (mut scene, azure) = scene();
    azure.next(Step::Read, vec![Reply::json(200, &json!({"value": null}))]);
    let told = scene.resolve(json!({"A": secret("cert", "")})).await;
    assert_eq!(told.failure().to_string(), "secret not found: A");
    scene.missing_fails = false;
    azure.next(Step::Read, vec![Reply::json(200, &json!({}))]);
    assert_eq!(
        scene
            .resolve(json!({"A": secret("cert", "")}))
            .await
            .values(),
        [""]
    );
    azure.always(Step::Challenge, Reply::json(200, &json!({"value": "open"})));
    assert_eq!(
        scene
            .resolve(json!({"A": secret("cert", "")}))
            .await
            .values(),
        ["open"]
    );
}

#[tokio::test]
async fn tokens_that_are_not_believed_are_explained_without_being_shown() {
    let (mut scene, azure) = scene();
    let with = |altered: Value| issuer().token_with(AUDIENCE, &altered);
    let ten_seconds_ago = jiff::Timestamp::now().as_second() - 10;
    let table = [
        (
            with(json!({"aud": "other"})),
            "AADSTS700212: ",
            "aud \"other\"",
        ),
        (
            with(json!({"iss": "https://x"})),
            "AADSTS700211: ",
            "iss \"https://x\"",
        ),
        (with(json!({"sub": "x"})), "AADSTS700213: ", "sub \"x\""),
        (
            with(json!({"exp": ten_seconds_ago})),
            "AADSTS700024: ",
            "valid until",
        ),
        ("AZ_ID_TOKEN".to_owned(), "AADSTS50027: ", "with its `$`"),
        (
            String::new(),
            "the ID token is empty",
            "the ID token is empty",
        ),
    ];
    for (token, text, advice) in table {
        scene.set("AZ_ID_TOKEN", &token);
        let told = scene.resolve(json!({"A": secret("cert", "")})).await;
        let all = told.told();
        assert!(
            all.starts_with("Configuration: getting secret failed: ClientAssertionCredential authentication failed. "),
            "{all}"
        );
        assert!(all.contains(text) && all.contains(advice), "{text}: {all}");
        let signature = token
            .rsplit_once('.')
            .map_or("-----BEGIN", |(_, signature)| signature);
        assert!(!all.contains(signature), "{all}");
    }
    assert!(azure.tokens().is_empty());
    let with_client = |client: &str, tenant: &str| {
        let mut secret = secret("cert", "");
        secret["azure_key_vault"]["server"]["client_id"] = client.into();
        secret["azure_key_vault"]["server"]["tenant_id"] = tenant.into();
        json!({"A": secret})
    };
    scene.set("AZ_ID_TOKEN", &issuer().token(AUDIENCE));
    let told = scene.resolve(with_client("other", "tenant")).await.told();
    assert!(
        told.contains("AADSTS700016: Application with identifier 'other' was not found"),
        "{told}"
    );
    let told = scene.resolve(with_client("client", "other")).await.told();
    assert!(
        told.contains("AADSTS90002: Tenant 'other' not found"),
        "{told}"
    );
}
