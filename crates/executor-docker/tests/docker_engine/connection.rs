//! The ways to an Engine, and connections that are taken over.

use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::exec::StartExecResults;
use bollard::models::{ContainerCreateBody, ExecConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptions, RemoveContainerOptionsBuilder,
    StartContainerOptions, WaitContainerOptions,
};
use courser_executor_docker::engine::{Engine, EngineError, ErrorClass};
use courser_net::legs::DockerOptions;
use courser_testkit::pki::Authority;
use courser_testkit::servers::DockerEngine;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncWriteExt as _;

use super::{connected, way};

const PATIENCE: Duration = Duration::from_secs(60);

/// A container that is removed at the end of the test.
struct Container {
    engine: Engine,
    id: String,
}

impl Container {
    async fn create(engine: &Engine, command: &[&str]) -> Self {
        let body = ContainerCreateBody {
            image: Some("courser.test/busybox:1".to_owned()),
            cmd: Some(command.iter().map(ToString::to_string).collect()),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            open_stdin: Some(true),
            stdin_once: Some(true),
            ..ContainerCreateBody::default()
        };
        let created = engine
            .api()
            .create_container(None::<CreateContainerOptions>, body)
            .await
            .unwrap();
        Self {
            engine: engine.clone(),
            id: created.id,
        }
    }

    async fn start(&self) {
        let starting = self
            .engine
            .api()
            .start_container(&self.id, None::<StartContainerOptions>);
        starting.await.unwrap();
    }

    /// Its exit code.
    async fn wait(&self) -> i64 {
        let waiting = self
            .engine
            .api()
            .wait_container(&self.id, None::<WaitContainerOptions>);
        match waiting
            .try_collect::<Vec<_>>()
            .await
            .map_err(EngineError::from)
        {
            Ok(_) => 0,
            Err(EngineError::Exit { code, .. }) => code,
            Err(error) => panic!("{error}"),
        }
    }

    async fn remove(self) {
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        let removing = self.engine.api().remove_container(&self.id, Some(options));
        removing.await.unwrap();
    }
}

/// What comes out until the end, standard output and standard error apart.
async fn drained(
    mut output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
) -> (String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    while let Some(frame) = output.next().await {
        match frame.unwrap() {
            LogOutput::StdOut { message } => out.push_str(&String::from_utf8_lossy(&message)),
            LogOutput::StdErr { message } => err.push_str(&String::from_utf8_lossy(&message)),
            other => panic!("{other:?}"),
        }
    }
    (out, err)
}

/// Bytes go in, standard input ends, and output and exit code come out.
async fn talks_to_a_container(engine: &Engine) {
    // `cat` ends when standard input does, that is when the half-close arrives.
    let script = "echo to the log; echo a warning >&2; cat; exit 3";
    let container = Container::create(engine, &["sh", "-c", script]).await;
    let options = AttachContainerOptionsBuilder::new()
        .stream(true)
        .stdin(true)
        .stdout(true)
        .stderr(true)
        .build();
    let AttachContainerResults { output, mut input } = engine
        .api()
        .attach_container(&container.id, Some(options))
        .await
        .unwrap();
    container.start().await;
    input.write_all(b"and this\n").await.unwrap();
    input.shutdown().await.unwrap();
    let (out, err) = drained(output).await;
    assert_eq!(out, "to the log\nand this\n");
    assert_eq!(err, "a warning\n");
    assert_eq!(container.wait().await, 3);
    container.remove().await;
}

#[tokio::test]
async fn a_container_is_talked_to_through_a_socket() {
    let engine = connected().await;
    let running = talks_to_a_container(&engine);
    tokio::time::timeout(PATIENCE, running)
        .await
        .expect("in time");
}

#[tokio::test]
async fn and_through_tls_with_a_client_certificate() {
    let running = DockerEngine::running();
    let certificates = running.cert_path.display().to_string();
    let options = DockerOptions {
        host: &running.tls_host,
        cert_path: &certificates,
        verify: true,
    };
    let engine = Engine::connect(&way(options)).await.unwrap();
    let running = talks_to_a_container(&engine);
    tokio::time::timeout(PATIENCE, running)
        .await
        .expect("in time");
}

#[tokio::test]
async fn a_command_in_a_running_container_reads_its_input_to_the_end() {
    let engine = connected().await;
    let container = Container::create(&engine, &["sleep", "600"]).await;
    container.start().await;
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(vec!["wc".to_owned(), "-c".to_owned()]),
        ..ExecConfig::default()
    };
    let api = engine.api();
    let exec = api.create_exec(&container.id, config).await.unwrap();
    let StartExecResults::Attached { output, mut input } =
        api.start_exec(&exec.id, None).await.unwrap()
    else {
        panic!("not attached");
    };
    // More than any buffer between here and there.
    let counting = async {
        input.write_all(&vec![b'x'; 3_000_000]).await.unwrap();
        input.shutdown().await.unwrap();
        drained(output).await
    };
    let (out, _) = tokio::time::timeout(PATIENCE, counting)
        .await
        .expect("in time");
    assert_eq!(out.trim(), "3000000");
    let ended = api.inspect_exec(&exec.id).await.unwrap();
    assert_eq!(ended.exit_code, Some(0));
    container.remove().await;
}

#[tokio::test]
async fn the_engine_is_verified_by_ca_pem_alone() {
    let running = DockerEngine::running();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(running.cert_path.join(name), path(name)).unwrap();
    }
    let certificates = directory.path().display().to_string();
    let options = DockerOptions {
        host: &running.tls_host,
        cert_path: &certificates,
        verify: true,
    };
    let refused = || async { Engine::connect(&way(options)).await.err().expect("refused") };

    let error = refused().await.to_string();
    assert_eq!(
        error,
        format!("{certificates}/ca.pem: no such file or directory")
    );

    let other = Authority::root("Another CA").issue();
    std::fs::write(path("ca.pem"), other.certificate_pem()).unwrap();
    let error = refused().await;
    assert_eq!(error.class(), ErrorClass::Trust);
    let text = error.to_string();
    for expected in [
        "x509: certificate signed by unknown authority",
        "issued by CN=",
        &format!("--to {certificates}/ca.pem"),
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test]
async fn an_engine_that_refuses_our_certificate_says_which_it_was() {
    let running = DockerEngine::running();
    let directory = tempfile::tempdir().unwrap();
    let stranger = Authority::root("Strangers").issue().client("me").issue();
    std::fs::copy(
        running.cert_path.join("ca.pem"),
        directory.path().join("ca.pem"),
    )
    .unwrap();
    std::fs::write(directory.path().join("cert.pem"), stranger.chain_pem()).unwrap();
    std::fs::write(directory.path().join("key.pem"), stranger.key_pem()).unwrap();
    let certificates = directory.path().display().to_string();
    let options = DockerOptions {
        host: &running.tls_host,
        cert_path: &certificates,
        verify: true,
    };
    let error = Engine::connect(&way(options)).await.err().expect("refused");
    assert_eq!(error.class(), ErrorClass::Trust);
    let text = error.to_string();
    assert!(text.contains("remote error: tls: "), "{text}");
    assert!(text.contains(&format!("{certificates}/cert.pem")), "{text}");
}

#[tokio::test]
async fn plain_http_to_a_port_with_tls_tells_which_keys_are_missing() {
    let running = DockerEngine::running();
    let options = DockerOptions {
        host: &running.tls_host,
        ..DockerOptions::default()
    };
    let error = Engine::connect(&way(options)).await.err().expect("refused");
    assert_eq!(error.class(), ErrorClass::Configuration);
    assert!(
        error.remedy().unwrap().contains("tls_verify = true"),
        "{error}"
    );
}

#[tokio::test]
async fn the_engine_tells_of_itself_and_what_it_does_not_know() {
    let engine = connected().await;
    assert_eq!(
        engine.info().await.unwrap().os_type.as_deref(),
        Some("linux")
    );
    let inspecting = engine.api().inspect_image("courser.test/nothing:1").await;
    let error = EngineError::from(inspecting.unwrap_err());
    assert!(error.is_not_found(), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("Error response from daemon: no such image"),
        "{error}"
    );
}
