//! The shell executor with real shells and real processes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use courser_job::helper_request::{Prepare, RenewTrust};
use courser_job::{Stage, StageWork};
use courser_testkit::programs::write_program;

use super::cgroup::Cgroups;
use super::mark::Mark;
use super::*;
use crate::{LightHelper, Stream};

mod nasty;
mod orphans;
mod stopping;

#[derive(Default)]
struct Log {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    seen: Option<tokio::sync::mpsc::UnboundedSender<()>>,
}

impl Log {
    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Output for Log {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(bytes),
            Stream::Stderr => self.stderr.extend_from_slice(bytes),
        }
        if let Some(seen) = &self.seen {
            seen.send(()).ok();
        }
    }
}

/// A log whose lines do not say where they came from.
#[derive(Default)]
struct OneStream(Vec<u8>);

impl Output for OneStream {
    fn write(&mut self, _stream: Stream, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn tells_streams_apart(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn both_outputs_come_in_the_order_in_which_they_were_written() {
    let mut log = OneStream::default();
    let text = "for i in $(seq 500); do echo out $i; echo err $i >&2; done; sh -c 'echo child >&2'; exit 3";
    let exit = environment(Duration::from_secs(5))
        .run(&script(text), &mut log, StopSignal::new())
        .await
        .expect("bash starts");
    assert!(matches!(exit, Exit::Failure { code: 3, .. }), "{exit:?}");
    let mut expected: String = (1..=500)
        .map(|number| format!("out {number}\nerr {number}\n"))
        .collect();
    expected.push_str("child\n");
    assert_eq!(String::from_utf8_lossy(&log.0), expected);
}

struct CountingHelper;

impl LightHelper for CountingHelper {
    fn can_run(&self, request: &HelperRequest) -> bool {
        matches!(request, HelperRequest::Prepare(_))
    }

    fn run(&self, _request: &HelperRequest, output: &mut dyn Output) -> Exit {
        output.write(Stream::Stdout, b"in process\n");
        Exit::Success
    }
}

fn environment(grace: Duration) -> ShellEnvironment {
    ShellEnvironment {
        programs: Programs {
            shell: Shell::Bash,
            host: Host {
                working_directory: std::env::temp_dir(),
                user: None,
                helper_command: "/bin/cat".to_owned(),
                light_helper: Arc::new(CountingHelper),
                grace,
            },
            processes: JobProcesses::new(Mark::new(), None),
        },
        script_file: false,
        temporary_directory: std::env::temp_dir().join("none"),
        cleaned: false,
        _place: Place::unlimited(),
    }
}

fn script(text: &str) -> StageScript {
    StageScript {
        stage: Stage::Step("script".to_owned()),
        work: StageWork::Shell(text.to_owned()),
    }
}

async fn run(text: &str) -> (Exit, Log) {
    let mut log = Log::default();
    let exit = environment(Duration::from_secs(5))
        .run(&script(text), &mut log, StopSignal::new())
        .await
        .expect("bash starts");
    (exit, log)
}

/// Starts `text`, waits for its first output, cancels it, and gives exit and log.
async fn run_and_stop(text: &str, grace: Duration) -> (Exit, Log) {
    let (seen, mut first_output) = tokio::sync::mpsc::unbounded_channel();
    let mut log = Log {
        seen: Some(seen),
        ..Log::default()
    };
    let stop = StopSignal::new();
    let stage = script(text);
    let mut environment = environment(grace);
    let (exit, ()) = tokio::join!(environment.run(&stage, &mut log, stop.clone()), async {
        first_output.recv().await;
        stop.cancel();
    });
    (exit.expect("the tree ends"), log)
}

/// Whether anything of the process still runs.
fn lives(pid: &str) -> bool {
    let pid = pid.trim();
    assert!(!pid.is_empty(), "the script printed no process id");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Whether the process lives, and goes on living: one that was killed may take a moment to be gone.
fn stays_alive(pid: &str) -> bool {
    let patience = Instant::now() + Duration::from_millis(500);
    while Instant::now() < patience {
        if !lives(pid) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

#[tokio::test]
async fn exit_statuses_have_gos_words() {
    let cases = [
        ("exit 0", Exit::Success),
        (
            "exit 7",
            Exit::Failure {
                code: 7,
                text: "exit status 7".to_owned(),
            },
        ),
        (
            "kill -KILL $$",
            Exit::Failure {
                code: -1,
                text: "signal: killed".to_owned(),
            },
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(run(text).await.0, expected, "{text}");
    }
}

#[tokio::test]
async fn stdout_and_stderr_are_separate_and_complete() {
    let (exit, log) = run("seq 1 20000; seq 1 20000 >&2; printf end").await;
    assert!(exit.is_success());
    assert!(log.stdout.ends_with(b"20000\nend"));
    assert!(log.stderr.starts_with(b"1\n2\n") && log.stderr.ends_with(b"\n20000\n"));
}

#[tokio::test]
async fn a_script_larger_than_any_pipe_buffer_runs() {
    let text = format!("true {}\necho done", "x".repeat(300_000));
    let (exit, log) = run(&text).await;
    assert!(exit.is_success());
    assert_eq!(log.stdout(), "done\n");
}

#[tokio::test]
async fn a_login_shell_is_used() {
    let (_, log) = run("shopt login_shell").await;
    assert!(log.stdout().contains("on"), "{}", log.stdout());
}

#[tokio::test]
async fn a_profile_that_fails_is_told_from_a_script_that_does() {
    let profile = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(profile.path(), "exit 3").expect("write");
    let mut environment = environment(Duration::from_secs(1));
    // A shell that runs a file before it reads its standard input, as a login shell runs a profile.
    let shell = environment
        .programs
        .start("bash", [profile.path().to_str().expect("a text")]);
    let mut log = Log::default();
    let ended = run_to_end(shell, b"true", &mut log, StopSignal::new(), Duration::ZERO)
        .await
        .expect("it runs");
    assert!(!ended.input_was_read);
    let stage = StageScript {
        stage: Stage::AfterScript,
        work: StageWork::Shell("exit 3".to_owned()),
    };
    let exit = environment.run(&stage, &mut log, StopSignal::new()).await;
    assert!(
        matches!(exit.expect("it runs"), Exit::Failure { code: 3, text } if text == "exit status 3")
    );
}

#[tokio::test]
async fn a_background_process_that_holds_the_pipe_does_not_hang_the_stage_and_lives_on() {
    let started = Instant::now();
    let (exit, log) = run("sleep 60 & echo $!").await;
    assert!(exit.is_success());
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(stays_alive(&log.stdout()), "upstream lets it live");
    std::process::Command::new("kill")
        .arg(log.stdout().trim())
        .status()
        .expect("kill runs");
}

#[tokio::test]
async fn output_of_a_process_substitution_arrives() {
    let (_, log) = run("exec > >(sleep 0.3; cat)\necho late").await;
    assert_eq!(log.stdout(), "late\n");
}

#[tokio::test]
async fn stopping_ends_the_tree_politely() {
    let (exit, log) = run_and_stop(
        "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done",
        Duration::from_secs(30),
    )
    .await;
    assert_eq!(
        exit,
        Exit::Failure {
            code: 3,
            text: "exit status 3".to_owned()
        }
    );
    assert!(log.stdout().contains("bye"), "{}", log.stdout());
}

#[tokio::test]
async fn stopping_kills_what_ignores_the_polite_signal_after_the_grace_period() {
    let (exit, log) = run_and_stop(
        "trap '' TERM; sleep 300 & echo $!; wait; sleep 300",
        Duration::from_millis(300),
    )
    .await;
    assert_eq!(
        exit,
        Exit::Failure {
            code: -1,
            text: "signal: killed".to_owned()
        }
    );
    assert!(!stays_alive(&log.stdout()));
}

#[tokio::test]
async fn stopping_reaches_processes_of_other_sessions() {
    let (_, log) = run_and_stop(
        "setsid sh -c 'echo $$; exec sleep 300 >/dev/null 2>&1' & wait; sleep 301",
        Duration::from_secs(5),
    )
    .await;
    assert!(!stays_alive(&log.stdout()), "{}", log.stdout());
}

#[tokio::test]
async fn dropping_a_running_stage_kills_its_tree() {
    let (seen, mut first_output) = tokio::sync::mpsc::unbounded_channel();
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    let stage = script(&format!(
        "(trap '' TERM; setsid sleep 302 & echo $! > {}; echo started; wait) & wait",
        file.path().display()
    ));
    let mut log = Log {
        seen: Some(seen),
        ..Log::default()
    };
    let mut environment = environment(Duration::from_secs(60));
    tokio::select! {
        _ = environment.run(&stage, &mut log, StopSignal::new()) => panic!("it sleeps for minutes"),
        _ = first_output.recv() => {}
    }
    let pid = std::fs::read_to_string(file.path()).expect("the script wrote its child's id");
    assert!(!stays_alive(&pid));
}

#[tokio::test]
async fn a_request_beside_a_stage_that_is_given_up_takes_only_its_own_processes_along() {
    let world = tempfile::tempdir().expect("a directory");
    let helper = world.path().join("helper");
    let started = "setsid sh -c 'echo $$ > pids; exec sleep 300' & wait";
    let text = format!("#!/bin/sh\ncd '{}'\n{started}\n", world.path().display());
    write_program(&helper, text);

    let mut environment = environment(Duration::from_secs(60));
    environment.programs.host.helper_command = helper.to_string_lossy().into_owned();
    let beside = environment.beside();
    let (seen, mut first_output) = tokio::sync::mpsc::unbounded_channel();
    let mut log = Log {
        seen: Some(seen),
        ..Log::default()
    };
    let stage = script(&format!(
        "echo $$ > {}/script; echo started; sleep 300",
        world.path().display()
    ));
    let pids = world.path().join("pids");
    let request = HelperRequest::RenewTrust(RenewTrust {
        temporary_dir: "/t".to_owned(),
        files: Vec::new(),
        tools: None,
        git_server: None,
    });
    let mut silent = Log::default();
    let mut helped = beside.run(&request, &mut silent);
    let renewal = async {
        first_output.recv().await;
        let until_there = async {
            while !std::fs::read_to_string(&pids).is_ok_and(|pid| pid.ends_with('\n')) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = &mut helped => panic!("it sleeps for minutes"),
            () = until_there => {}
        }
        drop(helped);
        let pid = std::fs::read_to_string(&pids).expect("the helper wrote it");
        assert!(!stays_alive(&pid), "the helper");
        let pid = std::fs::read_to_string(world.path().join("script")).expect("its number");
        assert!(stays_alive(&pid), "the script");
    };
    tokio::select! {
        () = renewal => {}
        _ = environment.run(&stage, &mut log, StopSignal::new()) => panic!("it runs on"),
    }
}

#[tokio::test]
async fn helper_requests_run_here_or_in_a_helper_process() {
    let stage = StageScript {
        stage: Stage::PrepareScript,
        work: StageWork::Helper(vec![HelperRequest::Prepare(Prepare {
            temporary_dir: "/t".to_owned(),
            via: String::new(),
            tools: None,
            git_server: None,
        })]),
    };
    let mut log = Log::default();
    let exit = environment(Duration::from_secs(5))
        .run(&stage, &mut log, StopSignal::new())
        .await
        .expect("it runs");
    assert_eq!(
        (exit, log.stdout().as_str()),
        (Exit::Success, "in process\n")
    );
}

#[test]
fn directories_are_absolute() {
    let working = Path::new("/work/dir");
    for (configured, expected) in [
        ("", "/work/dir/builds"),
        ("./b", "/work/dir/b"),
        ("/srv/builds", "/srv/builds"),
        ("$PWD/x", "/work/dir/x"),
    ] {
        assert_eq!(absolute(configured, "builds", working), expected);
    }
}

#[test]
fn another_user_is_reached_through_su() {
    let mut environment = environment(Duration::ZERO);
    environment.programs.host.user = Some("ci".to_owned());
    environment.programs.host.helper_command = "/opt/it's/courser".to_owned();
    assert_eq!(
        environment.programs.shell_invocation().words(),
        ["su", "-s", "/bin/bash", "ci", "-c", "bash -l"]
    );
    assert_eq!(
        environment.programs.helper_invocation().words()[5],
        r"exec '/opt/it'\''s/courser' helper run"
    );
}

#[test]
fn powershell_has_its_script_on_standard_input_or_in_a_file() {
    let world = tempfile::tempdir().expect("a directory");
    let mut environment = environment(Duration::ZERO);
    environment.programs.shell = Shell::Pwsh;
    environment.temporary_directory = world.path().join("project.tmp");
    let words = environment.programs.shell_invocation();
    assert_eq!(words.words()[..2], ["pwsh", "-NoProfile"]);
    let (directory, file) = environment.script_in_file("& { }").expect("writable");
    let path = PathBuf::from(file.words()[6]);
    assert_eq!(file.words()[5], "-File");
    assert_eq!(std::fs::read(&path).expect("it is there"), b"& { }");
    drop(directory);
    assert!(!path.exists());

    environment.programs.host.user = Some("ci".to_owned());
    let words = environment.programs.shell_invocation();
    assert_eq!(
        words.words()[..5],
        ["su", "-s", "/usr/bin/pwsh", "ci", "-c"]
    );
    assert_eq!(
        environment.programs.helper_invocation().words()[2],
        "/bin/sh"
    );
}

#[tokio::test]
async fn a_script_in_a_file_runs_and_is_gone_afterwards() {
    let world = tempfile::tempdir().expect("a directory");
    let mut environment = environment(Duration::from_secs(5));
    // bash takes the place of PowerShell, which is not on every machine.
    environment.script_file = true;
    environment.temporary_directory = world.path().join("project.tmp");
    let mut log = Log::default();
    let exit = environment
        .run(&script("basename $0; exit 4"), &mut log, StopSignal::new())
        .await
        .expect("bash starts");
    assert!(matches!(exit, Exit::Failure { code: 4, .. }));
    assert_eq!(log.stdout(), "script.sh\n");
    let left = std::fs::read_dir(&environment.temporary_directory).expect("it was made");
    assert_eq!(left.count(), 0);
}

#[test]
fn executors_that_cannot_be_used_are_named() {
    let mut config = RunnerConfig::default();
    let host = environment(Duration::ZERO).programs.host.clone();
    let cases = [
        (
            "docker",
            "",
            "executor \"docker\" is not built into courser yet; this version runs \"shell\"",
        ),
        ("dcoker", "", "executor \"dcoker\" not found"),
        (
            "shell",
            "cmd",
            "shell \"cmd\" is no longer supported, by gitlab-runner neither: use \"pwsh\" or \"powershell\"",
        ),
        (
            "shell",
            "fish",
            "unknown shell \"fish\": use \"bash\", \"sh\", \"pwsh\" or \"powershell\"",
        ),
    ];
    for (executor, shell, message) in cases {
        config.executor = executor.to_owned();
        config.shell = shell.to_owned();
        let error = crate::Executors::shell()
            .executor(&config, &host)
            .err()
            .map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some(message));
    }
}
