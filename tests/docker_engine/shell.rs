//! `courser shell` in containers, what `exec --keep` leaves there, and `courser clean`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use courser_testkit::servers::DockerEngine;

use crate::world::{Finished, World, run};

const PIPELINE: &str = "\
stages: [one, two]
variables: {GREETING: hello}
make:
  stage: one
  image: courser.test/busybox:1
  script: [echo made > made.txt, echo NUMBER=42 > facts.env]
  artifacts: {paths: [made.txt], reports: {dotenv: facts.env}}
test:
  stage: two
  image: courser.test/debian:12
  variables: {WORD: of test}
  services: [{name: 'courser.test/busybox:1', alias: beside, command: [sleep, '600']}]
  before_script: [touch /opt/installed]
  script: [echo left > left.txt, exit 3]
small:
  stage: two
  needs: []
  image: courser.test/busybox:1
  script: exit 4
";

fn courser(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.courser(arguments);
    command.env("DOCKER_HOST", DockerEngine::running().host);
    command
}

fn called(world: &World, arguments: &[&str]) -> Finished {
    run(&mut courser(world, arguments))
}

/// With this on standard input.
fn told(mut command: Command, input: &str) -> (Option<i32>, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(input.as_bytes()).expect("written");
    drop(pipe);
    let output = child.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), said)
}

/// Images, volumes and containers of the project in this world, by its state's name.
fn left(world: &World) -> Vec<String> {
    let name = world
        .path("")
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let engine = DockerEngine::running();
    let client = |arguments: &[&str]| {
        let mut client = Command::new("/usr/bin/docker");
        let output = client.args(["--host", &engine.host]).args(arguments);
        let output = output.output().expect("Debian's docker.io is installed");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let branch = format!("label=com.gitlab.gitlab-runner.job.ref={name}");
    let lists = [
        client(&["ps", "--all", "--format", "{{.Names}}", "--filter", &branch]),
        client(&["volume", "ls", "--format", "{{.Name}}", "--filter", &branch]),
        client(&[
            "images",
            "--format",
            "{{.Repository}}:{{.Tag}}",
            "--filter",
            &branch,
        ]),
    ];
    let lines = lists.iter().flat_map(|list| list.lines());
    lines.map(str::to_owned).collect()
}

fn project() -> World {
    let world = World::new();
    world.repository("work", &[(".gitlab-ci.yml", PIPELINE)]);
    let branch = world
        .path("")
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    world.git("work", &["checkout", "-q", "-b", &branch]);
    world
}

const LOOK: &str = "cat made.txt; ls left.txt /opt/installed; grep -c beside /etc/hosts; \
     echo $GREETING $WORD n=$NUMBER $CI_JOB_NAME s=$GIT_STRATEGY; test $PWD = $CI_PROJECT_DIR && echo in-project; exit 7";

#[test]
fn a_shell_opens_in_the_container_of_a_job_and_all_that_is_kept_goes_with_clean() {
    let world = project();
    let kept = called(&world, &["exec", "--keep"]);
    assert_eq!(kept.code(), 1, "{}", kept.all());
    assert!(
        kept.stdout
            .contains("kept in the Docker Engine: volume runner-"),
        "{}",
        kept.all()
    );
    // Three images and three volumes, no container.
    assert_eq!(left(&world).len(), 6, "{:?}", left(&world));

    let look = |more: &[&str]| {
        let arguments = [&["shell", "test"], more, &["--", "sh", "-c", LOOK]].concat();
        called(&world, &arguments)
    };
    let again = look(&[]);
    assert_eq!(again.code(), 7, "{}", again.all());
    let expected = "made\n/opt/installed\nleft.txt\n1\nhello of test n=42 test s=\nin-project\n";
    assert_eq!(again.stdout, expected, "{}", again.all());
    let fresh = look(&["--fresh"]);
    assert_eq!(fresh.code(), 7, "{}", fresh.all());
    let expected = "made\n1\nhello of test n=42 test s=\nin-project\n";
    assert_eq!(fresh.stdout, expected, "{}", fresh.all());
    // A working copy that was kept stays as it is left.
    let writing = called(&world, &["shell", "test", "--", "touch", "seen"]);
    assert_eq!(writing.code(), 0, "{}", writing.all());

    // On a terminal: `script` has one for it.
    let line = format!("{} shell test", env!("CARGO_BIN_EXE_courser"));
    let mut on_terminal = world.program("script");
    on_terminal
        .args(["-qec", &line, "/dev/null"])
        .env("DOCKER_HOST", DockerEngine::running().host)
        .env("TERM", "xterm");
    let (code, said) = told(on_terminal, "tty; ls seen; echo $TERM; stty size; exit 9\n");
    assert_eq!(code, Some(9), "{said}");
    for text in ["[test] /builds/", "/dev/pts/", "seen", "xterm", "24 80"] {
        assert!(said.contains(text), "{text}: {said}");
    }

    let script = courser(&world, &["shell", "small"]);
    let (code, said) = told(script, "echo of $CI_JOB_NAME; exit 5\n");
    assert_eq!((code, said.as_str()), (Some(5), "of small\n"));

    let cleaned = called(&world, &["clean", "--verbose"]);
    assert_eq!(cleaned.code(), 0, "{}", cleaned.all());
    for text in [
        "removed image ",
        "removed volume courser-exec-",
        "volumes and images",
    ] {
        assert!(cleaned.stdout.contains(text), "{text}: {}", cleaned.all());
    }
    assert_eq!(left(&world), Vec::<String>::new());
}

/// `script` is killed: the terminal that it had for the shell is gone.
#[test]
fn a_terminal_that_is_closed_ends_the_shell_and_nothing_stays() {
    let world = project();
    let line = format!(
        "{} shell small -- sh -c 'echo begun; sleep 600'",
        env!("CARGO_BIN_EXE_courser")
    );
    let mut on_terminal = world.program("script");
    on_terminal
        .args(["-qec", &line, "/dev/null"])
        .env("DOCKER_HOST", DockerEngine::running().host);
    let mut running = crate::world::Running::start(&mut on_terminal);
    running.wait_for("begun");
    assert!(!left(&world).is_empty(), "it has a container");
    running.signal("KILL");
    running.end();
    crate::world::eventually("its container goes", || left(&world).is_empty());
}

#[test]
fn clean_removes_the_containers_of_a_killed_run_and_names_engines_that_it_does_not_reach() {
    let world = project();
    let mut command = courser(
        &world,
        &["shell", "small", "--", "sh", "-c", "echo begun; sleep 600"],
    );
    let mut running = crate::world::Running::start(&mut command);
    running.wait_for("begun");
    running.signal("KILL");
    running.end();
    assert!(!left(&world).is_empty(), "nothing was left to be removed");
    let elsewhere = run(world
        .courser(["clean"])
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock"));
    assert_eq!(elsewhere.code(), 4, "{}", elsewhere.all());
    let host = DockerEngine::running().host;
    assert!(
        elsewhere
            .stderr
            .contains(&format!("DOCKER_HOST={host} courser clean")),
        "{}",
        elsewhere.all()
    );
    assert!(!left(&world).is_empty());
    let cleaned = called(&world, &["clean"]);
    assert_eq!(cleaned.code(), 0, "{}", cleaned.all());
    assert_eq!(left(&world), Vec::<String>::new());
    assert_eq!(called(&world, &["clean"]).stdout, "nothing to remove\n");
}
