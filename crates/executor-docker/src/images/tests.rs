//! Against a fake Engine: policies, lines, attempts. Real registries: `tests/docker_engine/registries.rs`.

use std::sync::atomic::{AtomicU32, Ordering};

use courser_protocol::Secret;
use courser_testkit::http_message::Request;
use courser_testkit::server::{FakeServer, Reply};
use serde_json::json;

use super::*;
use crate::testing::connected;

/// An Engine of API 1.49 with this behaviour.
fn fake(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> FakeServer {
    FakeServer::http(move |request| match request.path.as_str() {
        "/_ping" => Reply::text(200, "OK").header("Api-Version", "1.49"),
        path if path.ends_with("/info") => Reply::json(200, &json!({"Name": "builder7"})),
        _ => answer(request),
    })
}

async fn images(server: &FakeServer) -> Images {
    let engine = connected(server).await;
    let mut images = Images::new(engine, CredentialSources::default());
    images.pauses = Pauses {
        shortest: Duration::ZERO,
        longest: Duration::ZERO,
    };
    images
}

/// The lines without colours, and what came of it.
async fn fetched(
    images: &Images,
    name: &str,
    policies: &[PullPolicy],
) -> (Vec<String>, Result<Image, ImageError>) {
    fetched_for(images, name, policies, None).await
}

async fn fetched_for(
    images: &Images,
    name: &str,
    policies: &[PullPolicy],
    platform: Option<&Platform>,
) -> (Vec<String>, Result<Image, ImageError>) {
    let lines = Mutex::new(Vec::new());
    let say = |line: &str| lines.lock().unwrap().push(bare(line));
    let wanted = Wanted {
        name,
        platform,
        policies,
    };
    let image = images.fetch(wanted, &say).await;
    (lines.into_inner().unwrap(), image)
}

fn bare(line: &str) -> String {
    let mut text = line.trim_end().to_owned();
    for colour in ["\u{1b}[0K", "\u{1b}[0;m", "\u{1b}[32;1m", "\u{1b}[0;33m"] {
        text = text.replace(colour, "");
    }
    text
}

fn image(id: &str) -> Reply {
    Reply::json(200, &json!({"Id": id, "RepoDigests": ["ruby@sha256:d"]}))
}

fn pulls(server: &FakeServer) -> Vec<String> {
    let requests = server.requests().into_iter();
    requests
        .map(|request| request.target)
        .filter(|target| target.contains("/images/create"))
        .collect()
}

const LOCAL: &str = "sha256:1";

#[tokio::test]
async fn an_image_is_pulled_and_named_at_every_use_but_pulled_once_a_job() {
    let server = fake(|request| match request.method.as_str() {
        "POST" => Reply::text(200, "{\"status\":\"Pulling\"}\r\n{\"status\":\"Done\"}\r\n"),
        _ => image(LOCAL),
    });
    let images = images(&server).await;
    let (lines, fetched_image) = fetched(&images, "ruby", &[PullPolicy::Always]).await;
    assert_eq!(
        lines,
        [
            "Using effective pull policy of [always] for container ruby",
            "Pulling docker image ruby:latest ...",
            "Using docker image sha256:1 for ruby with digest ruby@sha256:d ...",
        ]
    );
    assert_eq!(fetched_image.unwrap().exact(), "ruby@sha256:d");
    let (lines, _) = fetched(&images, "ruby", &[PullPolicy::Always]).await;
    assert_eq!(
        lines,
        [
            "Using effective pull policy of [always] for container ruby",
            "Using docker image sha256:1 for ruby with digest ruby@sha256:d ...",
        ]
    );
    // An image that is named by its id is what it is.
    let (lines, _) = fetched(&images, LOCAL, &[PullPolicy::Always]).await;
    assert_eq!(
        lines,
        ["Using effective pull policy of [always] for container sha256:1"]
    );
    assert_eq!(pulls(&server).len(), 1);
    assert!(
        pulls(&server)[0].contains("fromImage=ruby&") && pulls(&server)[0].contains("tag=latest")
    );
}

#[test]
fn an_image_of_several_registries_is_named_by_the_digest_of_the_one_that_was_asked() {
    let sum = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let inspected = ImageInspect {
        id: Some(LOCAL.to_owned()),
        repo_digests: Some(vec![
            format!("a.tld/x@{sum}"),
            format!("b.tld:5000/x@{sum}"),
            format!("ruby@{sum}"),
        ]),
        ..ImageInspect::default()
    };
    for (name, expected) in [
        ("b.tld:5000/x:1", "b.tld:5000/x"),
        ("ruby:3", "ruby"),
        ("docker.io/library/ruby", "ruby"),
    ] {
        let image = Image::new(name, inspected.clone());
        assert_eq!(image.exact(), format!("{expected}@{sum}"), "{name}");
    }
    // Shown as upstream does, and not relied upon.
    let image = Image::new("elsewhere/x", inspected);
    assert_eq!(image.digest, Some(format!("a.tld/x@{sum}")));
    assert_eq!(image.exact(), LOCAL);
}

#[tokio::test]
async fn a_local_image_does_where_the_policy_says_so() {
    let server = fake(|request| match request.method.as_str() {
        "POST" => Reply::json(500, &json!({"message": "toomanyrequests: slow down"})),
        _ => image(LOCAL),
    });
    let images = images(&server).await;
    let policies = [PullPolicy::Always, PullPolicy::IfNotPresent];
    let (lines, fetched_image) = fetched(&images, "ruby:3", &policies).await;
    assert_eq!(
        lines,
        [
            "Using effective pull policy of [always if-not-present] for container ruby:3",
            "Pulling docker image ruby:3 ...",
            "WARNING: Failed to pull image with policy \"always\": Error response from daemon: toomanyrequests: slow down",
            "Attempt #2: Trying \"if-not-present\" pull policy",
            "Using locally found image version due to \"if-not-present\" pull policy",
            "Using docker image sha256:1 for ruby:3 with digest ruby@sha256:d ...",
        ]
    );
    assert_eq!(fetched_image.unwrap().id, LOCAL);
    let (lines, _) = fetched(&images, "ruby:4", &[PullPolicy::Never]).await;
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[tokio::test]
async fn the_network_is_given_three_attempts_a_policy_and_nothing_else_is() {
    let table = [
        (
            "Get \"https://r/v2/\": dial tcp: connection refused",
            3,
            FailureReason::RunnerExternalDependencyFailure,
        ),
        (
            "manifest for r/x:1 not found: manifest unknown",
            1,
            FailureReason::RunnerConfigurationError,
        ),
        ("toomanyrequests", 1, FailureReason::ImagePullFailure),
    ];
    for (message, attempts, reason) in table {
        let server = fake(move |request| match request.method.as_str() {
            "POST" => Reply::json(500, &json!({"message": message})),
            _ => Reply::json(404, &json!({"message": "No such image: r.tld/x:1"})),
        });
        let images = images(&server).await;
        let (lines, failed) = fetched(&images, "r.tld/x:1", &[PullPolicy::Always]).await;
        let failed = failed.unwrap_err();
        assert_eq!(pulls(&server).len(), attempts);
        assert_eq!(failed.reason, Some(reason));
        assert_eq!(
            failed.message,
            format!(
                "failed to pull image \"r.tld/x:1\" with specified policies [always]: Error response from daemon: {message}"
            )
        );
        let retried = lines.iter().filter(|line| line.contains(", retrying: "));
        assert_eq!(retried.count(), attempts - 1);
        if attempts > 1 {
            let expected = format!(
                "WARNING: Failed to pull image \"r.tld/x:1\" (attempt #1), retrying: Error response from daemon: {message}"
            );
            assert_eq!(lines[2], expected);
        }
    }
}

#[tokio::test]
async fn a_pull_that_breaks_in_the_middle_goes_on() {
    let asked = AtomicU32::new(0);
    let server = fake(move |request| match request.method.as_str() {
        "POST" if asked.fetch_add(1, Ordering::Relaxed) == 0 => Reply::text(
            200,
            "{\"status\":\"Pulling\"}\r\n{\"errorDetail\":{\"message\":\"read: connection reset by peer\"},\"error\":\"read: connection reset by peer\"}\r\n",
        ),
        "POST" => Reply::text(200, "{\"status\":\"Done\"}\r\n"),
        _ => image(LOCAL),
    });
    let images = images(&server).await;
    let (lines, fetched_image) = fetched(&images, "ruby", &[PullPolicy::Always]).await;
    fetched_image.unwrap();
    assert_eq!(
        lines[2],
        "WARNING: Failed to pull image \"ruby\" (attempt #1), retrying: read: connection reset by peer"
    );
}

#[tokio::test]
async fn what_is_missing_and_never_pulled_is_nobodys_fault_and_a_bad_name_is_the_jobs() {
    let server = fake(|_| {
        Reply::json(
            404,
            &json!({"message": "no such image: ruby: No such image: ruby"}),
        )
    });
    let images = images(&server).await;
    let (_, failed) = fetched(&images, "ruby", &[PullPolicy::Never]).await;
    let failed = failed.unwrap_err();
    assert_eq!(failed.reason, None);
    assert_eq!(
        failed.message,
        "failed to pull image \"ruby\" with specified policies [never]: Error response from daemon: no such image: \
         ruby: No such image: ruby"
    );
    let before = server.requests().len();
    let (_, failed) = fetched(&images, "../containers/x", &[PullPolicy::Always]).await;
    assert_eq!(
        failed.unwrap_err().reason,
        Some(FailureReason::RunnerConfigurationError)
    );
    assert_eq!(
        server.requests().len(),
        before,
        "nothing is asked with such a name"
    );
}

#[tokio::test]
async fn a_platform_is_asked_for_in_both_calls() {
    let server = fake(|request| match request.method.as_str() {
        "POST" => Reply::text(200, "{\"status\":\"Done\"}\r\n"),
        _ if request.target.contains("arm64") => image("sha256:arm"),
        _ => image(LOCAL),
    });
    let images = images(&server).await;
    let (platform, _) = Platform::parse("arm64").unwrap();
    let (lines, fetched_image) =
        fetched_for(&images, "ruby", &[PullPolicy::Always], Some(&platform)).await;
    assert_eq!(
        lines[1],
        "Pulling docker image ruby:latest for platform linux/arm64 ..."
    );
    assert_eq!(fetched_image.unwrap().id, "sha256:arm");
    assert!(
        pulls(&server)[0].contains("platform=linux%2Farm64"),
        "{:?}",
        pulls(&server)
    );
}

#[tokio::test]
async fn a_login_is_shown_to_its_registry_and_nowhere_else() {
    let server = fake(|request| match request.method.as_str() {
        "POST" => Reply::text(200, "{\"status\":\"Done\"}\r\n"),
        _ => Reply::json(200, &json!({"Id": LOCAL})),
    });
    let mut images = images(&server).await;
    images.sources.of_job = vec![courser_protocol::Credential {
        kind: "registry".to_owned(),
        url: "reg.tld:5000".to_owned(),
        username: "me".to_owned(),
        password: Secret::new("secret"),
    }];
    let (lines, _) = fetched(&images, "reg.tld:5000/x", &[PullPolicy::Always]).await;
    assert_eq!(
        lines[1],
        "Authenticating with credentials from job payload (GitLab Registry)"
    );
    assert_eq!(lines[2], "Pulling docker image reg.tld:5000/x ...");
    assert_eq!(
        lines[3],
        "Using docker image sha256:1 for reg.tld:5000/x ..."
    );
    let (lines, _) = fetched(&images, "other.tld/x:1", &[PullPolicy::Always]).await;
    assert_eq!(lines[1], "Pulling docker image other.tld/x:1 ...");
    let requests = server.requests();
    let headers: Vec<_> = requests
        .iter()
        .filter(|request| request.method == "POST")
        .map(|request| request.header("x-registry-auth").is_empty())
        .collect();
    assert_eq!(headers, [false, true]);
}
