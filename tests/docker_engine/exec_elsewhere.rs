//! `courser exec` with an Engine whose containers do not reach this machine: traffic of helper containers goes over their
//! streams.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use courser_testkit::servers::DockerEngine;

use crate::world::{World, run};

/// The Engine at an address that is no loopback's: `exec` takes it for one on another machine.
fn elsewhere() -> String {
    let engine = DockerEngine::running();
    let listener = TcpListener::bind((engine.gateway.as_str(), 0)).expect("the gateway is ours");
    let address = listener.local_addr().expect("bound");
    let socket = engine.host.trim_start_matches("unix://").to_owned();
    std::thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            let Ok(daemon) = UnixStream::connect(&socket) else {
                return;
            };
            carry(caller, daemon);
        }
    });
    format!("tcp://{address}")
}

fn carry(caller: TcpStream, daemon: UnixStream) {
    let (mut from_caller, mut to_caller) = (caller.try_clone().expect("cloned"), caller);
    let (mut from_daemon, mut to_daemon) = (daemon.try_clone().expect("cloned"), daemon);
    std::thread::spawn(move || {
        io::copy(&mut from_caller, &mut to_daemon).ok();
        to_daemon.shutdown(Shutdown::Write).ok();
    });
    std::thread::spawn(move || {
        io::copy(&mut from_daemon, &mut to_caller).ok();
        to_caller.shutdown(Shutdown::Write).ok();
    });
}

#[test]
fn sources_artifacts_and_caches_go_over_the_stream_where_containers_do_not_reach_this_machine() {
    let world = World::new();
    let pipeline = "\
stages: [one, two]
default: {image: 'courser.test/debian:12'}
make:
  stage: one
  script:
    - cat uncommitted
    - head -c 3000000 /dev/urandom > large
    - sha256sum large > sum
    - test ! -e before || echo cached; touch before
    - echo NUMBER=42 > facts.env
    - 'case $CI_SERVER_URL in https://127.0.0.1:*) echo at loopback;; esac'
    - '(: < /dev/tcp/127.0.0.1/$CI_SERVER_PORT) 2>/dev/null || echo scripts do not reach it'
  cache: {key: k, paths: [before]}
  artifacts: {paths: [large, sum], reports: {dotenv: facts.env}}
use:
  stage: two
  script: [sha256sum -c sum, echo n=$NUMBER]
";
    world.repository("work", &[(".gitlab-ci.yml", pipeline)]);
    world.write("work/uncommitted", "as it lies there\n");
    let host = elsewhere();
    let exec = |arguments: &[&str]| {
        let mut command = world.courser(["exec"].iter().chain(arguments));
        run(command.env("DOCKER_HOST", &host))
    };
    let first = exec(&[]);
    assert_eq!(first.code(), 0, "{}", first.all());
    for line in [
        "make | as it lies there",
        "make | at loopback",
        "make | scripts do not reach it",
        "use  | large: OK",
        "use  | n=42",
    ] {
        assert!(first.stdout.contains(line), "{line}: {}", first.all());
    }
    let second = exec(&["make"]);
    assert!(second.stdout.contains("make | cached"), "{}", second.all());
    let mut shell = world.courser(["shell", "use", "--", "sha256sum", "-c", "sum"]);
    let shell = run(shell.env("DOCKER_HOST", &host));
    assert_eq!(
        (shell.code(), shell.stdout.as_str()),
        (0, "large: OK\n"),
        "{}",
        shell.all()
    );
    let mut clean = world.courser(["clean"]);
    let cleaned = run(clean.env("DOCKER_HOST", &host));
    assert_eq!(cleaned.code(), 0, "{}", cleaned.all());
}
