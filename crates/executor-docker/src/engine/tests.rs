//! Against a fake Engine: what is asked of it, and what is made of its answers. The real one: `tests/docker_engine/`.

use bollard::auth::DockerCredentials;
use bollard::query_parameters::CreateImageOptionsBuilder;
use courser_net::{Legs, SystemRoots, legs::DockerOptions};
use courser_testkit::http_message::Request;
use courser_testkit::server::{FakeServer, Reply};
use futures_util::TryStreamExt as _;
use serde_json::json;

use super::*;

/// How an Engine is reached with these keys and variables.
fn way(host: &str, variables: &[(&str, &str)]) -> DockerTrust {
    let legs = Legs::new(SystemRoots::None, None, "/".into());
    let options = DockerOptions {
        host,
        ..DockerOptions::default()
    };
    legs.with_variables(variables.iter().copied())
        .docker(options)
}

fn engine_of(
    version: &'static str,
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> FakeServer {
    FakeServer::http(move |request| {
        if request.path == "/_ping" {
            Reply::text(200, "OK").header("Api-Version", version)
        } else {
            answer(request)
        }
    })
}

fn host(server: &FakeServer) -> String {
    format!("tcp://{}", server.address())
}

fn paths(server: &FakeServer) -> Vec<String> {
    let requests = server.requests();
    requests.into_iter().map(|request| request.path).collect()
}

#[tokio::test]
async fn each_request_names_the_version_that_was_agreed_on() {
    let server = engine_of("1.41", |_| Reply::json(200, &json!({"Name": "fake"})));
    let engine = Engine::connect(&way(&host(&server), &[])).await.unwrap();
    assert_eq!(engine.api_version(), ApiVersion::new(1, 41));
    assert_eq!(engine.info().await.unwrap().name.as_deref(), Some("fake"));
    engine.info().await.unwrap();
    assert_eq!(paths(&server), ["/_ping", "/v1.41/info"]);
}

#[tokio::test]
async fn an_ordered_version_is_named_and_a_path_of_the_host_goes_before() {
    let server = FakeServer::http(|request| match request.path.as_str() {
        "/base/_ping" => Reply::text(200, "OK"),
        _ => Reply::json(200, &json!({})),
    });
    let host = format!("{}/base/", host(&server));
    let way = way(&host, &[("DOCKER_API_VERSION", "1.43")]);
    let engine = Engine::connect(&way).await.unwrap();
    engine.info().await.unwrap();
    assert_eq!(paths(&server), ["/base/_ping", "/base/v1.43/info"]);
}

#[tokio::test]
async fn credentials_go_in_the_alphabet_that_engines_read() {
    let server = engine_of("1.41", |_| Reply::json(200, &json!({"status": "done"})));
    let engine = Engine::connect(&way(&host(&server), &[])).await.unwrap();
    let options = CreateImageOptionsBuilder::new().from_image("a").build();
    let credentials = DockerCredentials {
        username: Some("me".to_owned()),
        password: Some("??>>~~\u{ff}".to_owned()),
        ..DockerCredentials::default()
    };
    let pulling = engine
        .api()
        .create_image(Some(options), None, Some(credentials));
    pulling.try_collect::<Vec<_>>().await.unwrap();
    let sent = server.requests().remove(1);
    let header = sent.header("x-registry-auth");
    assert!(
        !header.contains(['+', '/']) && header.contains(['-', '_']),
        "{header}"
    );
}

#[tokio::test]
async fn answers_become_errors_with_a_class_and_the_engines_words() {
    let table = [
        (404, "No such container: x", ErrorClass::NotFound),
        (409, "Conflict. The name is taken", ErrorClass::Conflict),
        (
            400,
            "invalid environment variable: =",
            ErrorClass::BadRequest,
        ),
        (
            400,
            "client version 1.20 is too old. Minimum supported API version is 1.44, please upgrade your client",
            ErrorClass::Configuration,
        ),
        (403, "no", ErrorClass::Denied),
        (500, "OCI runtime create failed", ErrorClass::Other),
    ];
    for (status, message, class) in table {
        let server = engine_of("1.44", move |_| {
            Reply::json(status, &json!({ "message": message }))
        });
        let engine = Engine::connect(&way(&host(&server), &[])).await.unwrap();
        let error = engine.info().await.unwrap_err();
        assert_eq!(error.class(), class, "{error}");
        assert_eq!(
            error.to_string(),
            format!("Error response from daemon: {message}")
        );
    }
}

#[tokio::test]
async fn what_is_no_engine_is_told_and_redirects_are_refused() {
    let other = FakeServer::http(|_| Reply::text(200, "<html>"));
    let error = Engine::connect(&way(&host(&other), &[]))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("no Docker Engine"), "{error}");
    assert_eq!(error.class(), ErrorClass::Configuration);

    let elsewhere = FakeServer::http(|_| Reply::redirect(307, "http://169.254.1.1/"));
    let error = Engine::connect(&way(&host(&elsewhere), &[]))
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().starts_with("redirects disallowed"),
        "{error}"
    );
    assert_eq!(elsewhere.requests().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_told_in_dockers_words_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let host = format!("unix://{}", socket.display());
    let error = Engine::connect(&way(&host, &[])).await.err().unwrap();
    let expected =
        format!("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?");
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert_eq!(error.class(), ErrorClass::Unreachable);
    assert!(error.remedy().unwrap().contains("install and start Docker"));

    // A socket that nobody listens on any more, as a stopped Engine can leave one.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let error = Engine::connect(&way(&host, &[])).await.err().unwrap();
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert!(error.remedy().unwrap().contains("systemctl start docker"));

    let error = Engine::connect(&way("tcp://127.0.0.1:1", &[]))
        .await
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .starts_with("Cannot connect to the Docker daemon at tcp://127.0.0.1:1."),
        "{error}"
    );

    let error = Engine::connect(&way("ssh://me@there", &[]))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("ssh -nNT -L"), "{error}");
    assert_eq!(error.class(), ErrorClass::Configuration);
}

#[test]
fn what_engines_say_of_full_disks_and_strange_programs_has_a_remedy() {
    let refused = |message: &str| EngineError::Answer {
        status: 500,
        message: message.to_owned(),
    };
    let pull = "failed to register layer: write /usr/lib/x: no space left on device";
    for (error, remedy) in [
        (
            refused("mkdir /var/lib/docker/overlay2/x: no space left on device"),
            "disk is full",
        ),
        (EngineError::Stream(pull.to_owned()), "docker system prune"),
        (
            refused("OCI runtime create failed: exec /bin/sh: exec format error: unknown"),
            "binfmt_misc",
        ),
    ] {
        let told = error.with_remedy(error.to_string());
        assert!(told.contains(remedy), "{told}");
    }
    assert_eq!(refused("anything else").remedy(), None);
}
