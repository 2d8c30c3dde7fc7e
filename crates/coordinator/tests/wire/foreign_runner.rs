//! Runners that others wrote: whatever GitLab takes from them, the coordinator takes (`runner-protocol.md`
//! 2, 10 and 11).

use crate::world::{Answer, World, job};

/// Registers with a form, as GitLab's own documentation does with curl.
fn register(world: &World) -> String {
    let token = format!("token={}", world.coordinator.registration_token().expose());
    let form = [
        "--form",
        &token,
        "--form",
        "description=mine",
        "--form",
        "tag_list=a,b",
    ];
    let form = form.into_iter().chain(["--form", "run_untagged=true"]);
    let answer = world.curl("POST", "runners", form);
    assert_eq!(answer.status, 201, "{:?}", answer.json());
    answer.json()["token"].as_str().unwrap().to_owned()
}

/// Asks for a job without two-phase commit, so that it runs at once: id and token.
fn take(world: &World, runner: &str) -> (i64, String) {
    let answer = world.curl(
        "POST",
        "jobs/request",
        ["--data", &format!("token={runner}")],
    );
    assert_eq!(answer.status, 201, "{:?}", answer.json());
    let payload = answer.json();
    let token = payload["token"].as_str().unwrap().to_owned();
    (payload["id"].as_i64().unwrap(), token)
}

fn finish(world: &World, job: i64, token: &str) -> Answer {
    let body = format!(r#"{{"token":"{token}","state":"success","output":{{}}}}"#);
    let json = [
        "--header",
        "Content-Type: application/json",
        "--data",
        &body,
    ];
    world.curl("PUT", &format!("jobs/{job}"), json)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_job_can_be_done_with_forms_and_tokens_in_the_query() {
    let world = World::with_jobs(&["build"]).await;
    let runner = register(&world);
    let verified = world.curl(
        "POST",
        "runners/verify",
        ["--data", &format!("token={runner}")],
    );
    assert_eq!(
        (verified.status, verified.json()["id"].as_i64()),
        (200, Some(1))
    );

    let (id, token) = take(&world, &runner);
    let header = format!("JOB-TOKEN: {token}");
    let range = ["--header", "Content-Range: 0-4", "--data-binary", "hello"];
    let log = world.curl("PATCH", &format!("jobs/{id}/trace?token={token}"), range);
    assert_eq!((log.status, log.header("range")), (202, "0-5"));
    let empty = ["--header", &header, "--header", "Content-Range: 5-"];
    let nothing = world.curl("PATCH", &format!("jobs/{id}/trace"), empty);
    assert_eq!((nothing.status, nothing.header("range")), (202, "0-5"));

    let body = format!("token={token}&state=running");
    assert_eq!(
        world
            .curl("PUT", &format!("jobs/{id}"), ["--data", &body])
            .status,
        200
    );
    let last = finish(&world, id, &token);
    assert_eq!((last.status, last.header("job-status")), (200, "success"));
    // The answer was lost and the runner says it once more: it is told to stop, with the state.
    let again = finish(&world, id, &token);
    assert_eq!((again.status, again.header("job-status")), (403, "success"));

    let gone = world.curl("DELETE", "runners", ["--data", &format!("token={runner}")]);
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    let refused = world.curl(
        "POST",
        "jobs/request",
        ["--data", &format!("token={runner}")],
    );
    assert_eq!(refused.status, 403);
    world.coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_come_in_pieces_with_other_parts_and_are_fetched_twice() {
    let mut second = job("second");
    second.needs = Some(Vec::new());
    second.job_needs = vec![courser_pipeline::Need {
        job: "first".to_owned(),
        artifacts: true,
        optional: false,
    }];
    let mut first = job("first");
    first.artifacts = Some(courser_pipeline::JobArtifacts {
        paths: vec!["out".to_owned()],
        when: "on_success".to_owned(),
        ..Default::default()
    });
    let world = World::new().await;
    world.create_pipeline(vec![first, second]).await;
    let runner = register(&world);
    let (id, token) = take(&world, &runner);

    let file = world.path("artifacts.zip");
    let content: Vec<u8> = (0..300_000_u32)
        .flat_map(u32::to_le_bytes)
        .take(1 << 20)
        .collect();
    std::fs::write(&file, &content).unwrap();
    let file = format!("file=@{};type=application/octet-stream", file.display());
    let path = format!("jobs/{id}/artifacts");
    // The token is a part of the form, as old runners send it, and the length is not known.
    let form = [
        "--header",
        "Transfer-Encoding: chunked",
        "--form",
        "extra=1",
    ];
    let token_part = format!("token={token}");
    let form = form
        .into_iter()
        .chain(["--form", &token_part, "--form", &file]);
    let uploaded = world.curl("POST", &path, form);
    assert_eq!(uploaded.status, 201, "{:?}", uploaded.json());
    let report = world.path("report");
    std::fs::write(&report, "another file of that name").unwrap();
    let report = format!("file=@{};filename=artifacts.zip", report.display());
    let header = format!("JOB-TOKEN: {token}");
    let query = format!("{path}?artifact_type=junit&artifact_format=raw");
    let uploaded = world.curl("POST", &query, ["--header", &header, "--form", &report]);
    assert_eq!(uploaded.status, 201, "{:?}", uploaded.json());
    let without = world.curl("POST", &path, ["--form", &file]);
    assert_eq!(without.status, 403);
    finish(&world, id, &token);

    let payload = world.curl(
        "POST",
        "jobs/request",
        ["--data", &format!("token={runner}")],
    );
    let dependency = payload.json()["dependencies"][0].clone();
    assert_eq!(dependency["artifacts_file"]["size"], content.len());
    let header = format!("JOB-TOKEN: {}", dependency["token"].as_str().unwrap());
    for query in ["?direct_download=true", ""] {
        let answer = world.curl("GET", &format!("{path}{query}"), ["--header", &header]);
        assert_eq!((answer.status, answer.body == content), (200, true));
    }
    let head = world.curl("HEAD", &path, ["--header", &header, "--head"]);
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, "1048576")
    );
    world.coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upload_is_answered_although_the_sender_does_not_stop() {
    let world = World::with_jobs(&["build"]).await;
    let (id, token) = take(&world, &register(&world));
    let file = world.path("large.zip");
    std::fs::write(&file, vec![7; 24 << 20]).unwrap();
    let part = format!("file=@{}", file.display());
    let path = format!("jobs/{id}/artifacts");
    // `Expect:` without a value: the body is sent at once.
    for (token, status) in [("wrong", 403), (token.as_str(), 413)] {
        let header = format!("JOB-TOKEN: {token}");
        let form = ["--header", &header, "--header", "Expect:", "--form", &part];
        let refused = world.curl("POST", &path, form);
        assert_eq!(refused.status, status, "{:?}", refused.json());
    }
    let data = format!("@{}", file.display());
    let wrong = [
        "--header",
        "JOB-TOKEN: wrong",
        "--header",
        "Expect:",
        "--data-binary",
        &data,
    ];
    let refused = world.curl("PATCH", &format!("jobs/{id}/trace"), wrong);
    assert_eq!(refused.status, 403);
    world.coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_in_json_and_breaks_nothing() {
    let world = World::with_jobs(&["build"]).await;
    let runner = register(&world);
    let token = format!("token={runner}");
    let cases: &[(&str, &str, &[&str], u16)] = &[
        (
            "POST",
            "jobs/request",
            &["--data", "{", "--header", "Content-Type: application/json"],
            400,
        ),
        (
            "POST",
            "jobs/request",
            &[
                "--data",
                "[1]",
                "--header",
                "Content-Type: application/json",
            ],
            400,
        ),
        ("POST", "jobs/request", &[], 403),
        ("PUT", "jobs/1", &["--data", "token=x&state=running"], 403),
        ("PUT", "jobs/999", &["--data", "token=x&state=running"], 403),
        ("GET", "jobs/request", &[], 501),
        ("PROPFIND", "jobs/request", &[], 501),
        ("POST", "runners/router/discovery", &["--data", &token], 501),
        ("DELETE", "runners/managers", &["--data", &token], 400),
        (
            "DELETE",
            "runners/managers",
            &["--data", "token=x&system_id=s_1"],
            403,
        ),
    ];
    for (method, path, arguments, status) in cases {
        let answer = world.curl(method, path, arguments.iter().copied());
        assert_eq!(
            answer.status,
            *status,
            "{method} {path}: {:?}",
            answer.json()
        );
        assert!(answer.json()["message"].is_string(), "{method} {path}");
    }
    let (id, token) = take(&world, &runner);
    assert_eq!(finish(&world, id, &token).status, 200);
    world.coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_start_manual_jobs_and_read_logs_with_the_private_token() {
    let mut gate = job("gate");
    gate.when = courser_pipeline::JobWhen::Manual;
    let mut bridge = job("child");
    bridge.trigger = Some(serde_json::json!({"include": "child.yml"}));
    let world = World::new().await;
    let pipeline = world.create_pipeline(vec![gate, bridge]).await;
    let runner = register(&world);
    let private = format!(
        "PRIVATE-TOKEN: {}",
        world.coordinator.private_token().expose()
    );
    let private = ["--header", &private];
    let shown = || world.curl("GET", &format!("projects/1/pipelines/{pipeline}"), private);
    assert_eq!(shown().json()["status"], "manual");
    let nothing = world.curl(
        "POST",
        "jobs/request",
        ["--data", &format!("token={runner}")],
    );
    assert_eq!(nothing.status, 204);

    let id = shown().json()["jobs"][0]["id"].as_i64().unwrap();
    assert_eq!(
        world
            .curl("POST", &format!("projects/2/jobs/{id}/play"), private)
            .status,
        404
    );
    assert_eq!(
        world
            .curl("POST", &format!("projects/1/jobs/{id}/play"), [])
            .status,
        401
    );
    let played = world.curl("POST", &format!("projects/1/jobs/{id}/play"), private);
    assert_eq!(
        (played.status, played.json()["status"].as_str()),
        (200, Some("pending"))
    );
    let again = world.curl("POST", &format!("projects/1/jobs/{id}/play"), private);
    assert_eq!(again.status, 400);

    let (job, token) = take(&world, &runner);
    let header = format!("JOB-TOKEN: {token}");
    let range = [
        "--header",
        &header,
        "--header",
        "Content-Range: 0-4",
        "--data-binary",
        "hello",
    ];
    world.curl("PATCH", &format!("jobs/{job}/trace"), range);
    let log = world.curl("GET", &format!("projects/1/jobs/{job}/trace"), private);
    assert_eq!((log.status, log.body.as_slice()), (200, &b"hello"[..]));
    finish(&world, job, &token);
    // The bridge after it is nothing for a runner, and nobody here can evaluate what it triggers.
    let shown = shown().json();
    assert_eq!(shown["status"], "failed");
    let reason = "downstream_pipeline_creation_failed";
    assert_eq!(shown["jobs"][1]["failure_reason"], reason);
    let message = "this coordinator was started without a repository";
    assert_eq!(shown["jobs"][1]["failure_message"], message);
    world.coordinator.stop().await;
}
