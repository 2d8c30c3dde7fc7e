//! Both sides of an agent, over pipes in memory, with real processes.

use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::{Exit, Output, StopSignal, Stream};

const PATIENCE: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Log {
    stdout: String,
    stderr: String,
    together: bool,
    seen: Option<tokio::sync::mpsc::UnboundedSender<String>>,
}

impl Output for Log {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if let Some(seen) = &self.seen {
            seen.send(text.clone().into_owned()).ok();
        }
        match stream {
            Stream::Stdout => self.stdout.push_str(&text),
            Stream::Stderr => self.stderr.push_str(&text),
        }
    }

    fn tells_streams_apart(&self) -> bool {
        !self.together
    }
}

/// An agent in this process. Dropping the set ends its side.
fn agent() -> (Agent, JoinSet<std::io::Result<()>>) {
    let (ours, theirs) = tokio::io::duplex(4096);
    let (reader, writer) = tokio::io::split(theirs);
    let mut serving = JoinSet::new();
    serving
        .spawn(async move { serve(reader, writer, Path::new("/nonexistent/courser"), None).await });
    let (output, input) = tokio::io::split(ours);
    (Agent::new(input, output, None), serving)
}

async fn run(agent: &Agent, script: &str, log: &mut Log) -> Result<Exit, AgentError> {
    let running = agent.run(AgentWork::Script(script), log, StopSignal::new(), GRACE);
    timeout(PATIENCE, running).await.expect("it ends")
}

#[tokio::test]
async fn scripts_have_their_outputs_and_their_exit_code() {
    let (agent, _serving) = agent();
    let mut log = Log::default();
    let exit = run(&agent, "echo out; echo err >&2; exit 7", &mut log).await;
    let failure = Exit::Failure {
        code: 7,
        text: "exit code 7".to_owned(),
    };
    assert_eq!(exit, Ok(failure));
    assert_eq!(
        (log.stdout.as_str(), log.stderr.as_str()),
        ("out\n", "err\n")
    );
    let mut log = Log {
        together: true,
        ..Log::default()
    };
    let text = "for i in 1 2 3; do echo o$i; echo e$i >&2; done";
    assert_eq!(run(&agent, text, &mut log).await, Ok(Exit::Success));
    assert_eq!(log.stdout, "o1\ne1\no2\ne2\no3\ne3\n");
    assert_eq!(
        run(&agent, "kill -9 $$", &mut log).await,
        Ok(Exit::Failure {
            code: 137,
            text: "exit code 137".to_owned()
        })
    );
}

#[tokio::test]
async fn long_scripts_and_long_outputs_pass_and_several_run_at_once() {
    let (agent, _serving) = agent();
    let comment = "# a line that makes the script longer than any buffer on its way\n";
    let script = format!("{}seq 200000", comment.repeat(5000));
    let (mut one, mut other) = (Log::default(), Log::default());
    let (first, second) = tokio::join!(
        run(&agent, &script, &mut one),
        run(&agent, "echo beside", &mut other)
    );
    assert_eq!((first, second), (Ok(Exit::Success), Ok(Exit::Success)));
    assert_eq!(one.stdout.lines().count(), 200_000);
    assert_eq!(other.stdout, "beside\n");
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let (agent, _serving) = agent();
    let request = courser_job::HelperRequest::ClearWorktree {
        project_dir: "/nonexistent".to_owned(),
    };
    let mut log = Log::default();
    let running = agent.run(
        AgentWork::Request(&request),
        &mut log,
        StopSignal::new(),
        GRACE,
    );
    let error = timeout(PATIENCE, running).await.expect("it ends");
    assert!(matches!(error, Err(AgentError::NotStarted(_))), "{error:?}");
}

#[tokio::test]
async fn a_stop_is_polite_and_then_not() {
    let (agent, _serving) = agent();
    let stop = StopSignal::new();
    let (seen, mut seeing) = tokio::sync::mpsc::unbounded_channel();
    let mut log = Log {
        seen: Some(seen),
        ..Log::default()
    };
    let script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done";
    let running = agent.run(
        AgentWork::Script(script),
        &mut log,
        stop.clone(),
        Duration::from_millis(700),
    );
    let stopping = async {
        seeing.recv().await;
        stop.cancel();
    };
    let both = async { tokio::join!(running, stopping).0 };
    let exit = timeout(PATIENCE, both).await.expect("it ends");
    assert!(
        matches!(exit, Ok(Exit::Failure { code: 137, .. })),
        "{exit:?}"
    );
    assert_eq!(log.stdout, "ready\nasked\n");
}

#[tokio::test]
async fn a_run_that_is_given_up_is_killed_and_the_others_go_on() {
    let (agent, _serving) = agent();
    let (seen, mut seeing) = tokio::sync::mpsc::unbounded_channel();
    let mut log = Log {
        seen: Some(seen),
        ..Log::default()
    };
    let stop = StopSignal::new();
    let running = agent.run(
        AgentWork::Script("echo $$; exec sleep 300"),
        &mut log,
        stop,
        GRACE,
    );
    let pid = tokio::select! {
        _ = running => panic!("it sleeps"),
        pid = seeing.recv() => pid.expect("its number"),
    };
    let script = format!(
        "while kill -0 {} 2>/dev/null; do sleep 0.02; done; echo gone",
        pid.trim()
    );
    let mut other = Log::default();
    assert_eq!(run(&agent, &script, &mut other).await, Ok(Exit::Success));
    assert_eq!(other.stdout, "gone\n");
}

#[tokio::test]
async fn an_agent_that_dies_is_told_of_and_takes_its_processes_along() {
    let (agent, mut serving) = agent();
    let (seen, mut seeing) = tokio::sync::mpsc::unbounded_channel();
    let mut log = Log {
        seen: Some(seen),
        ..Log::default()
    };
    let running = run(&agent, "echo $$; exec sleep 300", &mut log);
    let mut pid = String::new();
    let killing = async {
        pid = seeing.recv().await.expect("its number");
        serving.abort_all();
        while serving.join_next().await.is_some() {}
    };
    let (ended, ()) = tokio::join!(running, killing);
    assert_eq!(ended, Err(AgentError::Lost("it ended".to_owned())));
    assert!(agent.is_lost());
    let again = run(&agent, "true", &mut Log::default()).await;
    assert!(matches!(again, Err(AgentError::Lost(_))));
    let process = format!("/proc/{}", pid.trim());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while std::fs::read_to_string(format!("{process}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
    {
        assert!(tokio::time::Instant::now() < deadline, "it lives");
        tokio::task::yield_now().await;
    }
}
