//! The reporter against a GitLab that misbehaves.

use std::sync::Mutex;

use courser_job::trace::Masking;
use courser_net::{ClientSettings, ProxySettings, SystemRoots, TrustSettings};
use courser_protocol::FailureReason;
use courser_testkit::server::{FakeServer, Reply, Request};

use super::*;
use crate::platform;
use crate::spool::journal::{JobRecord, Record};
use crate::spool::{Spool, SpoolLimits};

/// What the server has and how it answers next.
#[derive(Default)]
struct GitLab {
    log: Mutex<Vec<u8>>,
    /// Answers to the next patches instead of the right ones.
    patches: Mutex<Vec<Reply>>,
    /// The same for updates.
    updates: Mutex<Vec<Reply>>,
    /// States told by updates.
    states: Mutex<Vec<String>>,
    /// Whether each of them came with a checksum.
    checksums: Mutex<Vec<bool>>,
}

impl GitLab {
    fn answer(&self, request: &Request) -> Reply {
        let scripted = |replies: &Mutex<Vec<Reply>>| {
            let mut replies = replies.lock().expect("no test panics here");
            (!replies.is_empty()).then(|| replies.remove(0))
        };
        if request.method == "PUT" {
            let state = request.json()["state"].as_str().unwrap_or("").to_owned();
            self.states.lock().expect("no panic").push(state);
            let json = request.json();
            let checksum = json["checksum"].as_str().is_some_and(|sum| !sum.is_empty());
            self.checksums.lock().expect("no panic").push(checksum);
            let reply = scripted(&self.updates).unwrap_or_else(|| Reply::status(200));
            if matches!(reply, Reply::Answer { status: 412, .. }) {
                self.log.lock().expect("no panic").clear();
            }
            return reply;
        }
        if let Some(reply) = scripted(&self.patches) {
            return reply;
        }
        let mut log = self.log.lock().expect("no panic");
        let start = request.header("content-range");
        let start: usize = start.split('-').next().unwrap_or("").parse().unwrap_or(0);
        let status = if start == log.len() { 202 } else { 416 };
        if status == 202 {
            log.extend_from_slice(&request.body);
        }
        Reply::status(status).header("Range", &format!("0-{}", log.len()))
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().expect("no panic")).into_owned()
    }

    fn states(&self) -> Vec<String> {
        self.states.lock().expect("no panic").clone()
    }
}

struct Fixture {
    gitlab: Arc<GitLab>,
    log: Arc<JobLog>,
    report: Report,
    _server: FakeServer,
}

/// A job whose log is `text`, a server with scripted answers, and no patience.
fn fixture(text: &str, patches: Vec<Reply>, updates: Vec<Reply>) -> Fixture {
    let masking = Masking::new(&[], &[]).expect("nothing to mask");
    let log = JobLog::new(None, 1 << 20, masking, false);
    log.say(text);
    fixture_of(log, patches, updates)
}

/// A log of ten bytes, of which the first four were given back.
fn half_given_back(directory: &tempfile::TempDir) -> JobLog {
    let limits = SpoolLimits {
        job: u64::MAX,
        total: u64::MAX,
    };
    let spool = Spool::open(directory.path().join("spool"), limits).expect("a spool");
    let mut files = spool.begin(JobRecord::for_test()).expect("files of a job");
    platform::write_at(&files.log, b"0123456789", 0).expect("written");
    let (offset, checksum) = (4, crc32fast::hash(b"0123"));
    files
        .record(&Record::Dropped { offset, checksum })
        .expect("written down");
    drop(files);
    let nothing = Masking::new(&[], &[]).expect("nothing to mask");
    let log = JobLog::reopen(spool.left_over().remove(0), nothing)
        .expect("a log")
        .log;
    assert!(log.is_whole());
    log
}

/// The same for any log.
fn fixture_of(log: JobLog, patches: Vec<Reply>, updates: Vec<Reply>) -> Fixture {
    let gitlab = Arc::new(GitLab {
        patches: Mutex::new(patches),
        updates: Mutex::new(updates),
        ..GitLab::default()
    });
    let server = {
        let gitlab = Arc::clone(&gitlab);
        FakeServer::http(move |request| gitlab.answer(request))
    };
    let client = courser_net::Client::new(ClientSettings {
        trust: TrustSettings {
            system: SystemRoots::None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            certificate_directory: None,
            inline_ca: None,
        },
        proxy: ProxySettings::default(),
        user_agent: "gitlab-runner test".to_owned(),
        connection_max_age: Duration::ZERO,
    });
    let api = Api::new(client, &server.url(""), "runner".into(), "s_0".to_owned());
    let log = Arc::new(log);
    let job = JobCredentials {
        id: 7,
        token: "job".into(),
    };
    let mut report = Report::new(
        Arc::new(api.expect("a URL")),
        Arc::new(Info::default()),
        job,
        Arc::clone(&log),
    );
    report.start_interval = Duration::from_millis(2);
    report.interval = report.start_interval;
    report.round_wait = Duration::from_millis(2);
    Fixture {
        gitlab,
        log,
        report,
        _server: server,
    }
}

fn status(code: u16) -> Reply {
    Reply::status(code)
}

#[tokio::test]
async fn a_server_that_has_less_gets_the_rest() {
    let patches = vec![status(202), status(416).header("Range", "0-0")];
    let mut fixture = fixture("first;", patches, vec![]);
    fixture.report.tick().await;
    assert_eq!(fixture.report.sent, 6, "a 202 is believed");
    fixture.log.say("second");
    fixture.log.finish();
    assert!(fixture.report.finish(&FinalState::Success, 1).await);
    assert_eq!(fixture.gitlab.log(), "first;second");
}

#[tokio::test]
async fn a_log_that_failed_validation_is_sent_again_as_a_whole() {
    let mut fixture = fixture("the log", vec![], vec![status(412), status(412)]);
    fixture.log.finish();
    assert!(fixture.report.finish(&FinalState::Success, 1).await);
    assert_eq!(fixture.gitlab.log(), "the log");
    assert_eq!(fixture.gitlab.states(), ["success"; 3]);
}

#[tokio::test]
async fn acceptance_without_completion_is_asked_again_and_costs_no_round() {
    let mut fixture = fixture("log", vec![], vec![status(202), status(202), status(202)]);
    fixture.log.finish();
    assert!(fixture.report.finish(&FinalState::Success, 1).await);
    assert_eq!(fixture.gitlab.states().len(), 4);
}

#[tokio::test]
async fn server_errors_are_retried_and_then_the_log_is_complete() {
    let patches = vec![status(500), status(503), Reply::Close, status(400)];
    let mut fixture = fixture("log", patches, vec![status(500), status(400)]);
    fixture.log.finish();
    assert!(fixture.report.finish(&FinalState::Success, 10).await);
    assert_eq!(fixture.gitlab.log(), "log");
}

#[tokio::test]
async fn the_final_update_is_given_up_after_its_rounds() {
    let refused = vec![status(400); 9];
    let mut fixture = fixture("log", vec![], refused);
    fixture.log.finish();
    let state = FinalState::Failed {
        reason: FailureReason::ScriptFailure,
        exit_code: 3,
    };
    assert!(!fixture.report.finish(&state, 4).await);
    assert_eq!(fixture.gitlab.states(), ["failed"; 4]);
}

#[tokio::test]
async fn a_server_that_never_agrees_on_an_offset_does_not_hold_the_job_for_ever() {
    let disagreements = vec![status(416).header("Range", "0-1"); 50];
    let mut fixture = fixture("log", disagreements, vec![]);
    fixture.log.finish();
    assert!(!fixture.report.finish(&FinalState::Success, 2).await);
}

#[tokio::test]
async fn of_a_log_that_is_not_whole_any_more_only_the_state_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut fixture = fixture_of(
        half_given_back(&directory),
        vec![status(202)],
        vec![status(412)],
    );
    fixture.report.sent = 4;
    assert!(fixture.report.finish(&FinalState::Success, 1).await);
    let checksums = fixture.gitlab.checksums.lock().expect("no panic").clone();
    assert_eq!(checksums, [true, false]);
}

#[tokio::test]
async fn a_server_that_refuses_every_log_does_not_hold_the_job_for_ever() {
    let directory = tempfile::tempdir().expect("a directory");
    let given_back = half_given_back(&directory);
    let mut fixture = fixture_of(given_back, vec![status(202)], vec![status(412); 9]);
    fixture.report.sent = 4;
    assert!(!fixture.report.finish(&FinalState::Success, 3).await);
    assert_eq!(fixture.gitlab.states().len(), 4, "one more than rounds");

    let mut whole = self::fixture("log", vec![], vec![status(412); 50]);
    whole.log.finish();
    assert!(!whole.report.finish(&FinalState::Success, 2).await);

    // It claims to have more than there ever was.
    let more = vec![status(416).header("Range", "0-99"); 50];
    let mut more = self::fixture("log", more, vec![]);
    more.log.finish();
    assert!(more.report.finish(&FinalState::Success, 1).await);
    assert_eq!(*more.gitlab.checksums.lock().expect("no panic"), [false]);
}

#[tokio::test]
async fn a_job_whose_server_lost_what_was_given_back_still_hears_of_a_cancel() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut fixture = fixture_of(
        half_given_back(&directory),
        vec![status(416).header("Range", "0-2")],
        vec![status(200).header("Job-Status", "canceling")],
    );
    fixture.report.sent = 4;
    assert_eq!(fixture.report.tick().await, None);
    assert_eq!(fixture.report.sent, 2);
    assert_eq!(fixture.report.tick().await, Some(ServerWish::Cancel));
}

#[tokio::test]
async fn a_job_that_is_gone_still_gets_one_final_update() {
    let mut fixture = fixture("log", vec![status(403)], vec![status(403)]);
    assert_eq!(fixture.report.tick().await, Some(ServerWish::Abort));
    fixture.log.finish();
    assert!(fixture.report.finish(&FinalState::Success, 10).await);
    assert_eq!(fixture.gitlab.states(), ["success"]);
}

#[tokio::test]
async fn the_server_s_wishes_reach_the_job() {
    for (patch, wish) in [
        (status(202).header("Job-Status", "running"), None),
        (
            status(202).header("Job-Status", "canceling"),
            Some(ServerWish::Cancel),
        ),
        (
            status(202).header("Job-Status", "canceled"),
            Some(ServerWish::Abort),
        ),
        (
            status(500).header("Job-Status", "failed"),
            Some(ServerWish::Abort),
        ),
        (status(404), None),
    ] {
        let told = format!("{patch:?}");
        let mut fixture = fixture("log", vec![patch; 5], vec![]);
        assert_eq!(fixture.report.tick().await, wish, "{told}");
    }
}

#[tokio::test]
async fn a_silent_job_is_touched_at_once_and_then_not_for_a_while() {
    let mut fixture = fixture("", vec![], vec![]);
    for _ in 0..3 {
        assert_eq!(fixture.report.tick().await, None);
    }
    assert_eq!(fixture.gitlab.states(), ["running"]);
}

#[tokio::test]
async fn the_acknowledgement_only_stops_a_job_that_is_gone_or_canceled() {
    for (update, expected) in [
        (status(200), Acknowledged::Run),
        (status(409), Acknowledged::Run),
        (Reply::Close, Acknowledged::Run),
        (status(403), Acknowledged::Gone),
        (status(404), Acknowledged::Gone),
        (
            status(200).header("Job-Status", "canceling"),
            Acknowledged::Canceled,
        ),
    ] {
        let told = format!("{update:?}");
        let mut fixture = fixture("", vec![], vec![update]);
        assert_eq!(fixture.report.acknowledge().await, expected, "{told}");
    }
}

#[tokio::test]
async fn an_acknowledgement_that_may_not_have_arrived_is_repeated() {
    let mut while_running = fixture("log", vec![], vec![Reply::Close]);
    while_running.report.acknowledge().await;
    while_running.report.tick().await;
    while_running.report.tick().await;
    assert_eq!(while_running.gitlab.states(), ["running"; 2]);

    // What GitLab says to the end of a job that it waits for.
    let mut at_the_end = fixture("log", vec![], vec![Reply::Close, status(400)]);
    at_the_end.report.acknowledge().await;
    assert!(at_the_end.report.finish(&FinalState::Success, 1).await);
    let states = ["running", "success", "running", "success"];
    assert_eq!(at_the_end.gitlab.states(), states);
}

#[tokio::test]
async fn the_server_sets_the_pace() {
    let patches = vec![status(202).header("X-GitLab-Trace-Update-Interval", "60")];
    let mut fixture = fixture("log", patches, vec![]);
    fixture.report.tick().await;
    assert_eq!(fixture.report.interval, Duration::from_secs(60));
}
