//! Asking for jobs: what is sent, and what answers do (`runner-protocol.md` 1.7, 2.6, 6.9).

use courser_testkit::server::Reply;
use serde_json::{Value, json};

use super::gitlab::{GitLab, payload};
use crate::world::World;

#[test]
fn the_cursor_is_sent_back_verbatim_and_kept_when_there_is_none() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.on_poll(|poll| match poll {
        1 => Some(Reply::status(204).header("X-GitLab-Last-Update", "a+b/c==")),
        2 => Some(Reply::status(204)),
        3 => Some(Reply::status(409).header("X-GitLab-Last-Update", "")),
        _ => None,
    });
    let _runner = gitlab.runner(&world, "");
    let polls = gitlab.polled(4);
    let cursors: Vec<Value> = polls
        .iter()
        .map(|poll| poll.json()["last_update"].clone())
        .collect();
    assert_eq!(
        cursors,
        [
            Value::Null,
            json!("a+b/c=="),
            json!("a+b/c=="),
            json!("a+b/c==")
        ]
    );
}

#[test]
fn a_busy_server_gets_the_same_request_again_after_the_time_it_asks_for() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.on_poll(|poll| match poll {
        1 => Some(Reply::status(503).header("Retry-After", "1")),
        2 => Some(Reply::status(429)),
        _ => None,
    });
    let job = gitlab.run(&world, "", &payload(1, &["true"]));
    assert_eq!(job.outcome().0, "success");
    let polls = gitlab.polls();
    let sent = |poll: usize| (polls[poll].header("x-request-id"), &polls[poll].body);
    assert_eq!(sent(0), sent(1));
    assert_eq!(sent(0), sent(2));
}

#[test]
fn answers_that_hold_no_job_do_not_stop_the_runner() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let whole = payload(9, &["true"]);
    gitlab.on_poll(move |poll| match poll {
        1 => Some(Reply::with("application/json", 201, "{\"id\":")),
        2 => Some(Reply::with("text/html", 201, whole.to_string())),
        3 => Some(Reply::json(422, &json!({"message": {"base": ["no"]}}))),
        4 => Some(Reply::Close),
        _ => None,
    });
    let job = gitlab.run(&world, "", &payload(1, &["true"]));
    assert_eq!(job.outcome().0, "success");
    assert!(gitlab.polls().len() >= 5);
}

#[test]
fn a_refused_token_pauses_the_runner() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.on_poll(|_| Some(Reply::status(403)));
    let mut runner = gitlab.runner(&world, "  unhealthy_requests_limit = 2\n");
    runner.wait_for("Runner wire is unhealthy and will be disabled for 3600 seconds");
    assert_eq!(gitlab.polls().len(), 2);
}

#[test]
fn a_strangers_file_works_and_an_unknown_executor_is_named() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.queue(&payload(1, &["true"]));
    let more = r#"  limit = 0
  token_expires_at = 0001-01-01T00:00:00Z
  [runners.cache]
    MaxUploadedArchiveSize = 0
    [runners.cache.s3]
  [runners.docker]
    image = "ruby:3" # unused
    frobnicate = true
[[runners]]
  name = "other"
  url = "https://gitlab.example"
  token = "other-token"
  executor = "frobnicator""#;
    let mut runner = gitlab.runner(&world, more);
    runner.wait_for("executor \"frobnicator\" not found");
    assert_eq!(gitlab.finished(1).outcome().0, "success");
    assert!(world.read("home/config.toml").contains("# unused"));
}
