//! Servers that are busy, slow, broken or hostile (`runner-protocol.md` 1.4, 1.7, 1.8).
//!
//! Whatever a server does, the runner's memory stays small and it goes on afterwards.

use std::time::Duration;

use courser_testkit::server::{FakeServer, Reply};

use super::scene::{Scene, success};
use crate::wire::gitlab::{TOKEN, payload};

/// What a runner may take at most, in KiB. A payload of a job may have 64 MiB, and the entries of the file may
/// read two at once; the answers here have 512 MiB and more.
const SMALL: u64 = 192 * 1024;

/// The most memory that a process has had, in KiB.
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse().ok())
        .expect("a number of KiB")
}

/// An answer that never ends.
fn endless(head: &str) -> Reply {
    Reply::Drip {
        head: format!("HTTP/1.1 {head}\r\n").into_bytes(),
        piece: vec![b'['; 1 << 20],
        pause: Duration::ZERO,
        times: 4096,
    }
}

/// A job after each of these answers to polls: none is the end of the runner.
fn goes_on_after(answers: Vec<Reply>) {
    let mut scene = Scene::new();
    // The time between two polls is shared by the entries of the file.
    for _ in 0..4 {
        scene.configure(&format!(
            "[[runners]]\n  name = \"wire\"\n  url = \"{}\"\n  token = \"{TOKEN}\"\n  executor = \"shell\"\n",
            scene.gitlab.url()
        ));
    }
    let mut answers = answers.into_iter();
    scene.gitlab.on_poll(move |_| answers.next());
    let job = scene.job(1, &["echo ran"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    assert!(scene.log(&job).ends_with(
        "O <green>$ echo ran</>\nO ran\n== cleanup_file_variables\n. <green>Job succeeded</>\n"
    ));
    assert!(peak(scene.runner().id()) < SMALL);
}

#[test]
fn polls_that_are_answered_with_errors() {
    goes_on_after(vec![
        Reply::status(500),
        Reply::status(502),
        Reply::status(503).header("Retry-After", "1"),
        Reply::status(429).header("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),
        Reply::status(504).header("RateLimit-ResetTime", "Wed, 21 Oct 2015 07:28:00 GMT"),
        Reply::status(409),
    ]);
}

#[test]
fn polls_that_are_answered_with_what_is_no_job() {
    let whole = payload(7, &["echo wrong"]).to_string();
    goes_on_after(vec![
        Reply::with("text/html", 201, whole.clone()),
        Reply::with(
            "application/json",
            201,
            &whole.as_bytes()[..whole.len() / 2],
        ),
        Reply::with("application/json", 201, "{\"id\": \"seven\"}"),
        Reply::with("application/json", 201, "[".repeat(100_000)),
        Reply::with("application/json", 201, ""),
        Reply::with("application/json", 201, b"\xff\xfe\x00".to_vec()),
    ]);
}

#[test]
fn polls_whose_connection_breaks() {
    goes_on_after(vec![
        Reply::Close,
        Reply::CutShort { status: 201, promised: 1_000_000, body: b"{\"id\":".to_vec() },
        Reply::Raw(b"HTTP/1.1 201 Created\r\nContent-Le".to_vec()),
        Reply::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        Reply::Raw(b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec()),
    ]);
}

#[test]
fn polls_that_are_sent_in_a_circle_or_astray() {
    goes_on_after(vec![
        Reply::redirect(307, "/api/v4/jobs/request"),
        Reply::redirect(301, "ftp://example.com/"),
        Reply::redirect(308, "http://[broken"),
        Reply::redirect(302, ""),
        Reply::status(307),
    ]);
}

#[test]
fn answers_without_end_are_cut_off() {
    goes_on_after(vec![
        endless("201 Created\r\nContent-Type: application/json\r\n"),
        endless("403 Forbidden\r\nContent-Type: application/json\r\n"),
        endless("201 Created\r\nContent-Type: application/json\r\nX-Endless: "),
        endless(
            "400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n",
        ),
    ]);
}

#[test]
fn an_answer_that_unpacks_to_much_is_cut_off() {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..512 {
        std::io::Write::write_all(&mut bomb, &[b' '; 1 << 20]).expect("to memory");
    }
    let bomb = bomb.finish().expect("to memory");
    goes_on_after(vec![
        Reply::with("application/json", 201, bomb.clone()).header("Content-Encoding", "gzip"),
        Reply::with("application/json", 403, bomb).header("Content-Encoding", "gzip"),
    ]);
}

#[test]
fn updates_and_patches_with_answers_without_end_do_not_hold_a_job() {
    let mut scene = Scene::new();
    scene.gitlab.on_job(|request, job| {
        let first = job.updates.len() == 1;
        match request.method.as_str() {
            "PUT" if first => Some(endless("200 OK\r\n")),
            "PATCH" if job.patches.is_empty() => {
                job.log.extend_from_slice(&request.body);
                job.patches.push((0, request.body.len(), String::new()));
                Some(endless("202 Accepted\r\nRange: 0-1\r\n"))
            }
            _ => None,
        }
    });
    let job = scene.job(1, &["echo ran; sleep 1.2"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo ran; sleep 1.2</>
    O ran
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
    assert!(peak(scene.runner().id()) < SMALL);
}

#[test]
fn a_busy_server_gets_log_and_end_all_the_same() {
    let mut scene = Scene::new();
    let mut answers = [500, 503, 429, 502].into_iter();
    scene.gitlab.on_job(move |request, _| {
        let end = request.method == "PUT" && request.json()["state"] != "running";
        if request.method == "PATCH" || end {
            answers.next().map(Reply::status)
        } else {
            None
        }
    });
    scene.runs_a_job_as_ever();
}

#[test]
fn a_final_update_whose_connection_breaks_is_repeated() {
    let mut scene = Scene::new();
    scene.gitlab.on_job(|request, job| {
        let end = request.method == "PUT" && request.json()["state"] != "running";
        (end && job.updates.len() == 2).then_some(Reply::Close)
    });
    let job = scene.runs_a_job_as_ever();
    let states: Vec<_> = job
        .updates
        .iter()
        .map(|update| update["state"].clone())
        .collect();
    assert_eq!(states, ["running", "success", "success"]);
}

#[test]
fn headers_that_make_no_sense_change_nothing() {
    let mut scene = Scene::new();
    scene.gitlab.on_job(|request, job| {
        if request.method != "PATCH" {
            return None;
        }
        job.log.extend_from_slice(&request.body);
        let reply = Reply::status(202).header("Range", "bytes=-18446744073709551617");
        let reply = reply.header("X-GitLab-Trace-Update-Interval", "99999999999999999999");
        Some(reply.header("Job-Status", "\u{fc}ber"))
    });
    scene.runs_a_job_as_ever();
}

#[test]
fn an_offset_beyond_the_log_is_not_followed_for_ever() {
    let mut scene = Scene::new();
    let mut patches = 0;
    scene.gitlab.on_job(move |request, _| {
        patches += i32::from(request.method == "PATCH");
        let wrong = request.method == "PATCH" && patches < 3;
        let interval = "X-GitLab-Trace-Update-Interval";
        wrong.then(|| {
            Reply::status(416)
                .header("Range", "0-99999999999999")
                .header(interval, "1")
        })
    });
    let job = scene.job(1, &["echo ran"]);
    scene.gitlab.queue(&job);
    scene.runner();
    let job = scene.gitlab.finished(1);
    assert_eq!(job.outcome(), success());
}

#[test]
fn a_slow_server_does_not_hold_other_runners() {
    let mut scene = Scene::new();
    // Its answer comes letter by letter and never ends within the test.
    let slow = FakeServer::http(|_| {
        Reply::Drip {
        head: b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n".to_vec(),
        piece: b"[".to_vec(),
        pause: Duration::from_millis(50),
        times: 10_000,
    }
    });
    let stalled = FakeServer::http(|_| Reply::Stall);
    for server in [&slow, &stalled] {
        scene.configure(&format!(
            "[[runners]]\n  name = \"other\"\n  url = \"{}\"\n  token = \"other-token\"\n  executor = \"shell\"\n",
            server.url("")
        ));
    }
    scene.runs_a_job_as_ever();
    scene.runner().signal("QUIT");
    assert_eq!(scene.runner_ends(), 0, "a poll that hangs is given up");
}

#[test]
fn registration_survives_answers_without_end() {
    let scene = Scene::new();
    for (status, path) in [
        ("201 Created", "--registration-token=GR1348941x"),
        ("200 OK", "--token=glrt-abcdefghijklm"),
    ] {
        let head = format!("{status}\r\nContent-Type: application/json\r\n");
        let server = FakeServer::http(move |_| endless(&head));
        let mut command =
            scene
                .world
                .courser(["register", "--non-interactive", "--executor=shell", path]);
        command
            .arg(format!("--url={}", server.url("")))
            .arg("--config")
            .arg(scene.world.path("work/other.toml"));
        let started = std::time::Instant::now();
        let finished = crate::world::run(&mut command);
        assert_ne!(finished.code(), 0, "{}", finished.all());
        assert!(started.elapsed() < Duration::from_secs(30));
    }
    assert!(!scene.world.path("work/other.toml").exists());
}
