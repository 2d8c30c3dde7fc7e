//! Jobs that name servers and paths which are not theirs, and servers that answer what no Vault answers.

use courser_secrets::{FailureClass, Leases, Obtained, Surroundings};
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply, Request};
use serde_json::{Value, json};

use crate::scene::{request, resolved, secret_at, surroundings};

fn secret(url: &str) -> Value {
    secret_at(url, "a.b.c", "deploy", ("kv-v2", "ops"), "db", "value")
}

/// A Vault that takes any login.
fn lax(request: &Request) -> Reply {
    match request.path.as_str() {
        path if path.ends_with("/login") => {
            Reply::json(200, &json!({"auth": {"client_token": "s.token"}}))
        }
        _ => Reply::json(200, &json!({"data": {"data": {"value": "v"}}})),
    }
}

/// Trusts `root` alone, with more variables.
fn trusting(root: &Issued, more: &[(&str, &str)]) -> Surroundings {
    let root = root.certificate_pem();
    let mut variables = vec![("VAULT_CACERT_BYTES", root.as_str())];
    variables.extend_from_slice(more);
    surroundings(&variables)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runners_certificate_is_shown_to_the_runners_vault_alone() {
    let root = Authority::root("Vault Root").issue();
    let client = root.client("runner.example.com").issue();
    let server = FakeServer::mutual_tls(&root.server(&["127.0.0.1"]).issue(), &root, lax);
    let url = server.url("");
    let other = url.replace("127.0.0.1", "127.0.0.2");
    let (certificate, key) = (client.certificate_pem(), client.key_pem());
    let job = async |address: Option<&str>, secret: Value| {
        let mut variables = vec![
            ("VAULT_CLIENT_CERT_BYTES", certificate.as_str()),
            ("VAULT_CLIENT_KEY_BYTES", key.as_str()),
        ];
        variables.extend(address.map(|address| ("VAULT_ADDR", address)));
        resolved(&request(json!({"A": secret})), &trusting(&root, &variables)).await
    };
    let with_path = format!("{url}/a/path");
    for address in [url.as_str(), &with_path] {
        let done = job(Some(address), secret(&url)).await;
        assert_eq!(done.pairs(), [("A", "v")]);
    }
    // A method for certificates, whatever it is called, takes this for the name of one that there is not.
    let login = server.requests()[0].json();
    assert!(login["name"].is_string(), "{login}");
    let asked = server.requests().len();
    for address in [None, Some(other.as_str()), Some("no url")] {
        let done = job(address, secret(&url)).await;
        let failure = done.failure();
        assert!(
            failure
                .advice
                .iter()
                .any(|line| line.contains("VAULT_ADDR")),
            "{address:?}: {failure} {:?}",
            failure.advice
        );
    }
    let mut by_certificate = secret(&url);
    by_certificate["vault"]["server"]["auth"]["path"] = json!("team//cert/");
    let inline = json!({"gitlab_secrets_manager": {
        "server": {"url": url, "inline_auth": {"path": "auth/cert/login", "jwt": "a.b.c", "role": "r"}},
        "engine": {"name": "kv-v2", "path": "ops"}, "path": "db", "field": "value",
    }});
    for secret in [by_certificate, inline] {
        let done = job(Some(&url), secret).await;
        let failure = done.failure();
        assert_eq!(failure.class, FailureClass::Configuration);
        assert!(
            failure.to_string().contains("logs in by certificate"),
            "{failure}"
        );
    }
    assert_eq!(server.requests().len(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_servers_certificate_is_that_servers() {
    let root = Authority::root("Vault Root").issue();
    let server = FakeServer::https(&root.server(&["vault.internal"]).issue(), lax);
    let url = server.url("");
    let name = ("VAULT_TLS_SERVER_NAME", "vault.internal");
    let job = async |more: &[(&str, &str)]| {
        let mut variables = vec![name];
        variables.extend_from_slice(more);
        resolved(
            &request(json!({"A": secret(&url)})),
            &trusting(&root, &variables),
        )
        .await
    };
    for more in [&[][..], &[("VAULT_ADDR", url.as_str())]] {
        assert_eq!(job(more).await.pairs(), [("A", "v")]);
    }
    assert_eq!(
        server.requests()[0].json(),
        json!({"jwt": "a.b.c", "role": "deploy"}),
        "and nothing else, without a certificate"
    );
    let done = job(&[("BAO_ADDR", "https://vault.example.com")]).await;
    let failure = done.failure();
    assert!(failure.to_string().contains("x509:"), "{failure}");
    let hint = "VAULT_TLS_SERVER_NAME of the runner counts only for the server that its BAO_ADDR names, which is another one";
    assert_eq!(failure.advice, [hint]);
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_cannot_be_turned_off_and_who_tries_is_told() {
    let root = Authority::root("Vault Root").issue();
    let server = FakeServer::https(&root.server(&["127.0.0.1"]).issue(), lax);
    let secret = || request(json!({"A": secret(&server.url(""))}));
    for (variable, value, told) in [
        ("VAULT_SKIP_VERIFY", "true", Some("VAULT_SKIP_VERIFY")),
        ("BAO_SKIP_VERIFY", "1", Some("BAO_SKIP_VERIFY")),
        ("VAULT_SKIP_VERIFY", "0", None),
    ] {
        let surroundings = surroundings(&[(variable, value)]);
        let warnings = surroundings.warnings();
        let is_told = |lines: &[String]| {
            lines
                .iter()
                .any(|line| told.is_some_and(|told| line.starts_with(told)))
        };
        assert_eq!(
            (warnings.len(), is_told(&warnings)),
            (usize::from(told.is_some()), told.is_some())
        );
        let done = resolved(&secret(), &surroundings).await;
        let failure = done.failure();
        assert!(failure.to_string().contains("x509:"), "{failure}");
        assert_eq!(
            is_told(&failure.advice),
            told.is_some(),
            "{:?}",
            failure.advice
        );
    }
    assert!(server.requests().is_empty());
}

/// A secret of each provider whose server a job names.
fn of_each_provider(url: &str) -> [Value; 3] {
    let gitlab = json!({"gitlab_secrets_manager": {
        "server": {"url": url, "inline_auth": {"path": "auth/jwt/login", "jwt": "a.b.c", "role": "r"}},
        "engine": {"name": "kv-v2", "path": "ops"}, "path": "db", "field": "value",
    }});
    let azure = json!({"azure_key_vault": {"name": "db", "version": null,
        "server": {"url": url, "client_id": "c", "tenant_id": "t", "jwt": "a.b.c"}}});
    [secret(url), gitlab, azure]
}

/// Its clock goes only where something waits.
#[tokio::test(start_paused = true)]
async fn no_job_leads_the_runner_to_a_metadata_service() {
    for url in [
        "http://169.254.169.254",
        "https://169.254.169.254:8200",
        "http://[fe80::1]",
        "http://[::ffff:169.254.169.254]",
        "http://0xa9fea9fe",
    ] {
        for secret in of_each_provider(url) {
            // Azure's are never asked in the clear.
            if url.starts_with("http:") && secret["azure_key_vault"].is_object() {
                continue;
            }
            let mut request = request(json!({"A": secret}));
            request.attempts = 2;
            let start = tokio::time::Instant::now();
            let done = resolved(&request, &surroundings(&[])).await;
            let failure = done.failure();
            let text = failure.to_string();
            assert!(
                text.contains(
                    "where machines are told their own credentials: a job must not lead there"
                ),
                "{text}"
            );
            assert_eq!(failure.class, FailureClass::Configuration, "{text}");
            assert_eq!(start.elapsed(), std::time::Duration::ZERO, "asked once");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_name_no_other_servers_than_the_operator_lists() {
    let root = Authority::root("Vault Root").issue();
    let server = FakeServer::https(&root.server(&["127.0.0.1"]).issue(), lax);
    let url = server.url("");
    let mut surroundings = trusting(&root, &[]);
    surroundings.settings.servers = Some(vec!["*.example.com".to_owned()]);
    for secret in of_each_provider(&url) {
        let done = resolved(&request(json!({"A": secret})), &surroundings).await;
        let text = done.failure().to_string();
        assert!(
            text.contains("127.0.0.1 is not among the hosts that `servers` in [runners.secrets]"),
            "{text}"
        );
        assert_eq!(done.failure().class, FailureClass::Configuration);
    }
    assert!(server.requests().is_empty());
    surroundings.settings.servers = Some(vec!["127.0.0.1".to_owned()]);
    let done = resolved(&request(json!({"A": secret(&url)})), &surroundings).await;
    assert_eq!(done.pairs(), [("A", "v")]);
    // What was obtained before the list was changed is given back.
    surroundings.settings.servers = Some(Vec::new());
    let revocation = done.leases.revoke(&surroundings).await;
    assert_eq!(revocation.tokens, 1, "{revocation:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_ended_only_where_the_server_says_that_it_is_none() {
    let root = Authority::root("Vault Root").issue();
    let policy = "1 error occurred:\n\t* permission denied\n\n";
    let both = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n";
    let errors = |texts: &[&str]| Reply::json(403, &json!({"errors": texts}));
    for (reply, ended, advice) in [
        (errors(&["permission denied"]), true, false),
        (errors(&["bad token"]), true, false),
        (errors(&["invalid token"]), true, false),
        (errors(&[both]), true, false),
        (errors(&[policy]), false, true),
        (errors(&[]), false, true),
        (Reply::text(403, "<html>Forbidden</html>"), false, false),
        (Reply::json(403, &json!({"message": "no"})), false, false),
    ] {
        let shown = format!("{reply:?}");
        let server =
            FakeServer::https(&root.server(&["127.0.0.1"]).issue(), move |_| reply.clone());
        let url = server.url("").replace("https://", "https://me:hunter2@");
        let leases = Leases::default().holding(vec![obtained(&url, false)]);
        let done = leases.revoke(&trusting(&root, &[])).await;
        assert_eq!(
            (done.ended, leases.is_empty()),
            (usize::from(ended), ended),
            "{shown}"
        );
        let failures = done.failures.join("\n");
        assert_eq!(failures.is_empty(), ended, "{shown}");
        let capabilities = "path \"auth/token/revoke-self\" { capabilities = [\"update\"] }";
        assert_eq!(failures.contains(capabilities), advice, "{failures}");
        assert!(!failures.contains("hunter2"), "{failures}");
        let debug = format!("{leases:?} {:?}", leases.held());
        assert!(!debug.contains("hunter2"), "{debug}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lease_that_stays_does_not_keep_the_others() {
    let root = Authority::root("Vault Root").issue();
    let server = FakeServer::https(&root.server(&["127.0.0.1"]).issue(), |request| {
        match String::from_utf8_lossy(&request.body).contains("first") {
            true => Reply::json(400, &json!({"errors": ["no"]})),
            false => Reply::status(204),
        }
    });
    let leases = Leases::default().holding(vec![obtained(&server.url(""), true)]);
    let done = leases.revoke(&trusting(&root, &[])).await;
    assert_eq!(server.requests().len(), 3);
    assert_eq!(done.failures.len(), 1);
    assert!(
        done.failures[0].contains("1 of 3 leases"),
        "{:?}",
        done.failures
    );
    assert!(!leases.is_empty());
}

fn obtained(server: &str, batch: bool) -> Obtained {
    Obtained {
        server: server.to_owned(),
        namespace: String::new(),
        token: "s.token".into(),
        batch,
        expires: 0,
        leases: ["first", "second", "third"].map(str::to_owned).to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_a_url_changes_is_not_asked_for() {
    let root = Authority::root("Vault Root").issue();
    let server = FakeServer::https(&root.server(&["127.0.0.1"]).issue(), lax);
    for path in [".\t./.\n./sys/x", "..", "a/.\r./b"] {
        let mut secret = secret(&server.url(""));
        secret["vault"]["path"] = json!(path);
        let done = resolved(&request(json!({"A": secret})), &trusting(&root, &[])).await;
        assert_eq!(
            done.failure().class,
            FailureClass::Configuration,
            "{path:?}"
        );
    }
    assert!(server.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_a_url_is_told_nobody() {
    let root = Authority::root("Vault Root").issue();
    for url in [
        "https://me:hunter2@127.0.0.1:1",
        "https://me:hunter2@h x",
        "https://me:hunter2@[::1",
        "ftp://me:hunter2@h",
        "https://me:hunter2@h:99999999",
        "me:hunter2@h",
    ] {
        let done = resolved(&request(json!({"A": secret(url)})), &trusting(&root, &[])).await;
        let told = format!(
            "{} {:?} {:?}",
            done.failure(),
            done.failure().advice,
            done.said
        );
        assert!(!told.contains("hunter2"), "{told}");
    }
}
