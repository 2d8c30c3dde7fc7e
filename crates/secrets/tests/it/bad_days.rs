//! Providers on bad days: what the job is told, whose fault it is, and how often the provider is asked.

use std::time::{Duration, Instant};

use courser_secrets::FailureClass;
use courser_testkit::clouds::aws::Aws;
use courser_testkit::clouds::azure::Azure;
use courser_testkit::clouds::google::Google;
use courser_testkit::clouds::vault::Vault;
use courser_testkit::clouds::{aws, azure, google, vault};
use courser_testkit::pki::Authority;
use courser_testkit::server::Reply;
use serde_json::{Value, json};

use crate::scene::{self, Scene};

/// A provider with its scene.
pub(crate) enum Provider {
    Google(Google),
    Azure(Azure),
    Aws(Aws),
    Vault(Vault),
    /// GitLab Secrets Manager, where the login goes with the read.
    GitLab(Vault),
}

/// Which request goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Login,
    Read,
}

impl Provider {
    pub(crate) fn all() -> [(&'static str, Scene, Self); 5] {
        ["google", "azure", "aws", "vault", "gitlab"].map(|name| {
            let (scene, provider) = Self::start(name);
            (name, scene, provider)
        })
    }

    pub(crate) fn start(name: &str) -> (Scene, Self) {
        fn with<T>((scene, provider): (Scene, T), kind: fn(T) -> Provider) -> (Scene, Provider) {
            (scene, kind(provider))
        }
        match name {
            "google" => with(crate::google::scene(), Self::Google),
            "azure" => with(crate::azure::scene(), Self::Azure),
            "aws" => with(crate::aws::scene(), Self::Aws),
            "vault" => with(scene::vault(), Self::Vault),
            _ => with(scene::vault(), Self::GitLab),
        }
    }

    /// The n-th of 200 secrets, whose value is `v` and its number.
    pub(crate) fn secret(&self, number: usize) -> Value {
        let name = format!("s{number}");
        match self {
            Self::Google(_) => crate::google::secret(&name, "latest"),
            Self::Azure(_) => crate::azure::secret(&name, ""),
            Self::Aws(_) => crate::aws::secret(json!({"secret_id": name})),
            Self::Vault(_) => scene::vault_secret(&name),
            Self::GitLab(_) => scene::gitlab_secret(&name),
        }
    }

    /// An answer with this value, as the provider gives it.
    pub(crate) fn answer(&self, value: &[u8]) -> Reply {
        let text = || String::from_utf8(value.to_vec()).unwrap();
        match self {
            Self::Google(_) => Reply::json(200, &google::version_of("n", value, None)),
            Self::Azure(_) => Reply::json(200, &json!({"value": text()})),
            Self::Aws(_) => Reply::json(200, &json!({"SecretString": text()})),
            Self::Vault(_) | Self::GitLab(_) => vault::content(&json!({"value": text()})),
        }
    }

    pub(crate) fn next(&self, step: Step, replies: Vec<Reply>) {
        match (self, step) {
            (Self::Google(it), Step::Login) => it.next(google::Step::Exchange, replies),
            (Self::Google(it), Step::Read) => it.next(google::Step::Access, replies),
            (Self::Azure(it), Step::Login) => it.next(azure::Step::Token, replies),
            (Self::Azure(it), Step::Read) => it.next(azure::Step::Read, replies),
            (Self::Aws(it), Step::Login) => it.next(aws::Step::Assume, replies),
            (Self::Aws(it), Step::Read) => it.next(aws::Step::Read, replies),
            (Self::Vault(it), Step::Login) => it.next(vault::Step::Login, replies),
            (Self::Vault(it) | Self::GitLab(it), Step::Read) => it.next(vault::Step::Read, replies),
            (Self::GitLab(_), Step::Login) => {}
        }
    }

    pub(crate) fn always(&self, step: Step, reply: Reply) {
        match (self, step) {
            (Self::Google(it), Step::Login) => it.always(google::Step::Exchange, reply),
            (Self::Google(it), Step::Read) => it.always(google::Step::Access, reply),
            (Self::Azure(it), Step::Login) => it.always(azure::Step::Token, reply),
            (Self::Azure(it), Step::Read) => it.always(azure::Step::Read, reply),
            (Self::Aws(it), Step::Login) => it.always(aws::Step::Assume, reply),
            (Self::Aws(it), Step::Read) => it.always(aws::Step::Read, reply),
            (Self::Vault(it), Step::Login) => it.always(vault::Step::Login, reply),
            (Self::Vault(it) | Self::GitLab(it), Step::Read) => it.always(vault::Step::Read, reply),
            (Self::GitLab(_), Step::Login) => {}
        }
    }

    pub(crate) fn requests(&self) -> usize {
        match self {
            Self::Google(it) => it.requests().len(),
            Self::Azure(it) => it.requests().len(),
            Self::Aws(it) => it.requests().len(),
            Self::Vault(it) | Self::GitLab(it) => it.requests().len(),
        }
    }

    /// Requests of a job before its first read when nothing goes wrong: Azure's vault is asked what it wants.
    pub(crate) fn logins(&self) -> usize {
        match self {
            Self::Google(_) | Self::Aws(_) | Self::Vault(_) => 1,
            Self::Azure(_) => 2,
            Self::GitLab(_) => 0,
        }
    }

    /// What a Vault says to a job that has not been provided for (`secrets.md` 5.4, 5.8; a real one says it in `openbao`).
    pub(crate) fn refusals(&self) -> Vec<(Step, &'static str, Reply)> {
        let errors = |status, text: &str| Reply::json(status, &json!({"errors": [text]}));
        let logins = [
            (
                "wrong claim",
                "error validating claims: claim \"ref\" does not match any associated bound claim values",
            ),
            (
                "wrong audience",
                "error validating token: invalid audience (aud) claim: audience claim does not match any expected audience",
            ),
            (
                "expired token",
                "error validating token: invalid expiration time (exp) claim: token is expired",
            ),
        ];
        let reads = [
            (
                "policy without data/",
                errors(403, "1 error occurred:\n\t* permission denied\n\n"),
            ),
            ("exhausted uses", errors(403, "permission denied")),
            ("missing path", Reply::json(404, &json!({"errors": []}))),
            ("missing field", vault::content(&json!({"other": "v0"}))),
            ("value null", vault::content(&json!({"value": null}))),
            (
                "bytes that are no UTF-8",
                Reply::with(
                    "application/json",
                    200,
                    b"{\"data\":{\"data\":{\"value\":\"\xff\xfe\"}}}",
                ),
            ),
        ];
        let reads = reads.map(|(name, reply)| (Step::Read, name, reply));
        let logins = logins.map(|(name, text)| (Step::Login, name, errors(400, text)));
        match self {
            Self::Vault(_) => logins.into_iter().chain(reads).collect(),
            Self::GitLab(_) => reads.into(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn steps(&self) -> &'static [Step] {
        match self {
            Self::GitLab(_) => &[Step::Read],
            _ => &[Step::Login, Step::Read],
        }
    }
}

/// Texts, classes and numbers of requests of one provider, whatever goes wrong.
async fn table(provider: &str) -> String {
    let html = "<html><body><h1>Welcome to Hotel Wi-Fi</h1></body></html>";
    let mut faults = vec![
        (
            "429",
            Reply::text(429, "slow down").header("Retry-After", "0"),
        ),
        ("500", Reply::text(500, "")),
        ("503 of a proxy", Reply::with("text/html", 503, html)),
        ("501", Reply::text(501, "no")),
        ("403 of a proxy", Reply::with("text/html", 403, html)),
        ("HTML with 200", Reply::with("text/html", 200, html)),
        ("another JSON", Reply::json(200, &json!([1]))),
        ("redirect loop", Reply::redirect(302, "?signature=s3cr")),
        (
            "redirect elsewhere",
            Reply::redirect(307, "https://evil.example/steal"),
        ),
        ("connection closed", Reply::Close),
        ("never an answer", Reply::Stall),
        (
            "endless answer",
            Reply::Drip {
                head: b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n\"".to_vec(),
                piece: vec![b'x'; 1 << 20],
                pause: Duration::ZERO,
                times: 1000,
            },
        ),
    ];
    let (_, it) = Provider::start(provider);
    if let Provider::Vault(_) | Provider::GitLab(_) = it {
        let errors = |status, text: &str| Reply::json(status, &json!({"errors": [text]}));
        faults.push(("sealed", errors(503, "Vault is sealed")));
    }
    let mut rows = Vec::new();
    for step in it.steps() {
        let of_step = faults.iter().map(|(name, reply)| (*step, *name, reply));
        rows.extend(of_step);
    }
    let refusals = it.refusals();
    rows.extend(
        refusals
            .iter()
            .map(|(step, name, reply)| (*step, *name, reply)),
    );
    let rows = rows
        .into_iter()
        .map(|(step, name, reply)| row(provider, step, name, reply));
    futures_util::future::join_all(rows).await.concat()
}

async fn row(provider: &str, step: Step, name: &str, reply: &Reply) -> String {
    let (mut scene, provider) = Provider::start(provider);
    // Time enough for all others: nothing is waited for in them.
    let patience = match reply {
        Reply::Stall => Duration::from_secs(2),
        _ => Duration::from_secs(60),
    };
    scene.settings.timeout = patience;
    provider.always(step, reply.clone());
    let told = scene.resolve(json!({"SECRET": provider.secret(0)})).await;
    let failure = told.failure();
    let text = failure.to_string().replace('\n', "\n  ");
    // How the end of a connection is seen depends on the moment.
    let text = match text.find("\": ") {
        Some(end) if matches!(reply, Reply::Close) => format!("{}…", &text[..end + 3]),
        _ => text,
    };
    let again = if failure.is_transient {
        ", may pass"
    } else {
        ""
    };
    format!(
        "{step:?}, {name}: {} requests, {:?}, {:?}{again}\n  {}\n",
        provider.requests(),
        failure.step,
        failure.class,
        text
    )
}

#[tokio::test]
async fn google_on_bad_days() {
    insta::assert_snapshot!("google", table("google").await);
}

#[tokio::test]
async fn azure_on_bad_days() {
    insta::assert_snapshot!("azure", table("azure").await);
}

#[tokio::test]
async fn aws_on_bad_days() {
    insta::assert_snapshot!("aws", table("aws").await);
}

#[tokio::test]
async fn vault_on_bad_days() {
    insta::assert_snapshot!("vault", table("vault").await);
}

#[tokio::test]
async fn gitlab_secrets_manager_on_bad_days() {
    insta::assert_snapshot!("gitlab", table("gitlab").await);
}

#[tokio::test]
async fn what_passes_is_waited_for_as_long_as_the_server_says() {
    for step in [Step::Login, Step::Read] {
        let all = Provider::all().map(async |(name, scene, provider)| {
            let busy = |status| Reply::text(status, "").header("Retry-After", "1");
            provider.next(step, vec![busy(429), Reply::text(503, "")]);
            let start = Instant::now();
            let told = scene.resolve(json!({"SECRET": provider.secret(7)})).await;
            assert_eq!(told.values(), ["v7"], "{name}");
            let faults = if provider.steps().len() == 1 && matches!(step, Step::Login) {
                0
            } else {
                2
            };
            assert_eq!(
                provider.requests(),
                provider.logins() + 1 + faults,
                "{name}"
            );
            assert!(
                faults == 0 || start.elapsed() >= Duration::from_secs(1),
                "{name}"
            );
        });
        futures_util::future::join_all(all).await;
    }
}

#[tokio::test]
async fn who_is_given_up_is_not_waited_for() {
    for (name, mut scene, provider) in Provider::all() {
        if let Provider::Vault(_) | Provider::GitLab(_) = provider {
            // A login that is under way may still bring a token, which has to be revoked.
            continue;
        }
        scene.settings.timeout = Duration::from_secs(1);
        let busy = Reply::text(429, "").header("Retry-After", "60");
        for reply in [Reply::Stall, busy] {
            provider.next(Step::Read, vec![reply]);
            let start = Instant::now();
            let told = scene.resolve(json!({"SECRET": provider.secret(0)})).await;
            let text = "not all secrets came within 1s";
            assert_eq!(told.failure().to_string(), text, "{name}");
            assert!(start.elapsed() < Duration::from_secs(4), "{name}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again() {
    for (name, scene, provider) in Provider::all() {
        let faults = provider.steps().len();
        provider.next(Step::Login, vec![Reply::Close]);
        let cut = Reply::CutShort {
            status: 200,
            promised: 100,
            body: b"{".to_vec(),
        };
        provider.next(Step::Read, vec![cut]);
        let told = scene.resolve(json!({"SECRET": provider.secret(1)})).await;
        assert_eq!(told.values(), ["v1"], "{name}");
        assert_eq!(
            provider.requests(),
            provider.logins() + 1 + faults,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gets_nothing() {
    for (name, mut scene, provider) in Provider::all() {
        scene.root = Authority::root("Another root").issue();
        let told = scene.resolve(json!({"SECRET": provider.secret(0)})).await;
        let text = told.told();
        // Vault's is upstream's class, which its documentation quotes.
        let class = match provider {
            Provider::Vault(_) | Provider::GitLab(_) => FailureClass::System,
            _ => FailureClass::Configuration,
        };
        assert_eq!(told.failure().class, class, "{name}: {text}");
        assert!(
            text.contains("x509: certificate signed by unknown authority"),
            "{name}: {text}"
        );
        assert!(!told.failure().is_transient);
        assert_eq!(provider.requests(), 0, "{name}");
    }
}

#[tokio::test]
async fn the_first_failure_in_order_is_told_and_the_rest_is_not_asked_for() {
    for (name, scene, provider) in Provider::all() {
        let step = provider.steps()[0];
        provider.always(step, Reply::text(400, "no"));
        let secrets: serde_json::Map<_, _> = (0..200)
            .map(|number| (format!("S{number:03}"), provider.secret(number)))
            .collect();
        let told = scene.resolve(Value::Object(secrets)).await;
        // Reads that are under way are not taken back.
        let under_way = if matches!(step, Step::Login) { 0 } else { 32 };
        let most = provider.logins() + under_way;
        assert!(
            provider.requests() <= most,
            "{name}: {}",
            provider.requests()
        );
        assert!(
            told.log().contains("Resolving secret \"S000\"...") && !told.log().contains("S001"),
            "{}",
            told.log()
        );
    }
}

#[tokio::test]
async fn a_provider_that_repeats_what_it_was_sent_is_not_quoted() {
    let lent = [
        ("google", "ya29.fake-google-access-token-1"),
        ("azure", "fake-entra-access-token-1"),
        ("aws", "fake-aws-session-token-1=="),
        ("vault", "s.fake-vault-token"),
        ("gitlab", "header.payload.signature"),
    ];
    for (name, token) in lent {
        for number in 0..6 {
            let (scene, provider) = Provider::start(name);
            let step = if number < 3 { Step::Login } else { Step::Read };
            let jwt = scene
                .variables
                .iter()
                .find(|(name, _)| name.ends_with("_ID_TOKEN"));
            let jwt = jwt.map_or(token, |(_, jwt)| jwt);
            let sent = match step {
                Step::Login => jwt.to_owned(),
                // That login was made with a token which the job has, too.
                Step::Read => format!("{jwt} {token}"),
            };
            let error = json!({"code": sent, "status": "X", "message": sent});
            let body = json!({"error": error, "__type": sent, "message": sent, "errors": [sent]});
            let reply = match number % 3 {
                0 => Reply::json(400, &body),
                1 => Reply::text(403, &sent).header("x-amzn-requestid", &sent),
                _ => Reply::text(200, &sent),
            };
            provider.next(step, vec![reply]);
            let told = scene.resolve(json!({"SECRET": provider.secret(0)})).await;
            if name == "gitlab" && matches!(step, Step::Login) {
                continue;
            }
            let all = format!("{} {:?} {}", told.told(), told.failure(), told.log());
            for secret in sent
                .split(' ')
                .filter(|secret| name != "gitlab" || secret.starts_with("header."))
            {
                assert!(!all.contains(secret), "{name}, {number}: {secret} in {all}");
            }
        }
    }
}
