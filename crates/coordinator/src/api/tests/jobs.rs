//! The life of a job: acknowledged, logged, cancelled, ended; and who may speak about it.

use super::*;

#[tokio::test]
async fn a_job_is_reserved_acknowledged_logged_and_finished() {
    let world = World::new();
    let runner = world.runner("").await;
    let id = world
        .create(vec![job("build", "build"), job("test", "test")])
        .await;
    let asked = world.ask(&runner).await;
    assert_eq!(asked.status, 201);
    assert_eq!(asked.header("x-gitlab-last-update"), "");
    let payload = courser_protocol::JobResponse::from_json(&asked.body).unwrap();
    assert_eq!(
        (payload.job_info.name.as_str(), payload.job_info.pipeline_id),
        ("build", id)
    );
    let token = payload.token.expose().to_owned();

    // Final states do not fit a job that was not acknowledged; a reservation can be renewed.
    assert_eq!(
        world
            .put(payload.id, &token, json!({"state": "success"}))
            .await
            .status,
        400
    );
    assert_eq!(
        world
            .put(payload.id, &token, json!({"state": "pending"}))
            .await
            .status,
        200
    );
    let started = world
        .put(payload.id, &token, json!({"state": "running"}))
        .await;
    assert_eq!(
        (started.status, started.header("job-status")),
        (200, "running")
    );
    assert_eq!(started.json(), json!("200"));
    assert_eq!(
        world
            .put(payload.id, &token, json!({"state": "pending"}))
            .await
            .status,
        409
    );
    assert_eq!(
        world
            .put(payload.id, &token, json!({"state": "sleeping"}))
            .await
            .status,
        400
    );

    let patched = world.patch(payload.id, &token, 0, "hello ").await;
    assert_eq!(
        (
            patched.status,
            patched.header("range"),
            patched.header("job-status")
        ),
        (202, "0-6", "running")
    );
    assert_eq!(patched.header("x-gitlab-trace-update-interval"), "60");
    for start in [0, 7, 100] {
        let mismatch = world.patch(payload.id, &token, start, "hello ").await;
        assert_eq!((mismatch.status, mismatch.header("range")), (416, "0-6"));
    }
    assert_eq!(
        world.patch(payload.id, &token, 6, "world\n").await.status,
        202
    );

    let output = json!({"checksum": "crc32:af083b2d", "bytesize": 12});
    let ended = world
        .put(
            payload.id,
            &token,
            json!({"state": "success", "output": output}),
        )
        .await;
    assert_eq!((ended.status, ended.header("job-status")), (200, "success"));
    let path = world
        .dir
        .path()
        .join(format!("state/traces/{}.log", payload.id));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "hello world\n");

    // What comes after the end is told to stop.
    let late = world.patch(payload.id, &token, 12, "x").await;
    assert_eq!((late.status, late.header("job-status")), (403, "success"));
    let late = world
        .put(payload.id, &token, json!({"state": "success"}))
        .await;
    assert_eq!((late.status, late.header("job-status")), (403, "success"));
    assert_eq!(world.ask(&runner).await.json()["job_info"]["name"], "test");
}

#[tokio::test]
async fn wrong_tokens_and_unknown_jobs_get_the_same_403() {
    let world = World::new();
    let runner = world.runner("").await;
    world.create(vec![job("a", "s"), job("b", "s")]).await;
    let (first, _) = world.take(&runner).await;
    let (_, other_token) = world.take(&runner).await;
    for (id, token) in [
        (first, "wrong"),
        (first, other_token.as_str()),
        (999, other_token.as_str()),
    ] {
        for answer in [
            world.put(id, token, json!({"state": "running"})).await,
            world.patch(id, token, 0, "x").await,
            world.upload(id, token, "", "a.zip", b"x").await,
            world
                .call(
                    "GET",
                    &format!("jobs/{id}/artifacts"),
                    ("job-token", token),
                    Value::Null,
                )
                .await,
        ] {
            assert_eq!((answer.status, answer.header("job-status")), (403, ""));
        }
    }
    assert_eq!(world.ask("glrt-unknown").await.status, 403);
}

#[tokio::test]
async fn without_a_token_nothing_is_read_of_what_is_sent() {
    let world = World::new();
    let runner = world.runner("").await;
    world.create(vec![job("a", "s")]).await;
    let (job, _) = world.take(&runner).await;
    for (method, path) in [("PATCH", "trace"), ("POST", "artifacts")] {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/api/v4/jobs/{job}/{path}"))
            .header("host", "localhost")
            .header("job-token", "wrong")
            .header("content-range", "0-9")
            .header("content-type", "multipart/form-data; boundary=b");
        let never = futures_util::stream::pending::<std::io::Result<axum::body::Bytes>>();
        let answer = world.send(request, Body::from_stream(never)).await;
        assert_eq!(answer.status, 403, "{path}");
    }
}

#[tokio::test]
async fn a_cancel_reaches_the_runner_and_the_log_may_still_be_sent() {
    let world = World::new();
    let runner = world.runner("").await;
    let pipeline = world
        .create(vec![job("build", "build"), job("test", "test")])
        .await;
    let (id, token) = world.take(&runner).await;
    let cancel = crate::pipeline_run::Event::Cancel;
    world
        .api
        .queue
        .call(move |queue| queue.apply(pipeline, cancel))
        .await
        .unwrap()
        .unwrap();
    let patched = world.patch(id, &token, 0, "after_script").await;
    assert_eq!(
        (patched.status, patched.header("job-status")),
        (202, "canceling")
    );
    let alive = world.put(id, &token, json!({"state": "running"})).await;
    assert_eq!(
        (alive.status, alive.header("job-status")),
        (200, "canceling")
    );
    let last = json!({"state": "failed", "failure_reason": "job_canceled"});
    let ended = world.put(id, &token, last).await;
    assert_eq!(
        (ended.status, ended.header("job-status")),
        (200, "canceled")
    );
    assert_eq!(world.ask(&runner).await.status, 204);
}

#[tokio::test]
async fn only_known_hosts_are_answered_and_unknown_calls_are_named() {
    let world = World::new();
    for (host, status) in [
        ("localhost", 501),
        ("127.0.0.1:8443", 501),
        ("[::1]:8443", 501),
        ("LOCALHOST:1", 501),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ] {
        let request = http::Request::builder()
            .uri("/api/v4/user")
            .header("host", host);
        let answer = world.send(request, "").await;
        assert_eq!(answer.status, status, "{host}");
    }
    let request = http::Request::builder()
        .uri("/api/v4/user")
        .header("host", "localhost");
    let message = world.send(request, "").await.json()["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        message,
        "GET /api/v4/user is not part of Courser's coordinator"
    );
    let discovery = world
        .call("GET", "runners/router/discovery", ("x", "x"), Value::Null)
        .await;
    assert_eq!(discovery.status, 501);
    assert_eq!(
        world
            .call("GET", "jobs/request", ("x", "x"), Value::Null)
            .await
            .status,
        501
    );
}

#[tokio::test]
async fn a_restart_takes_up_where_the_former_process_was_killed() {
    let world = World::new();
    let runner = world.runner("").await;
    let later = PipelineJob {
        when: JobWhen::Always,
        ..job("later", "test")
    };
    world
        .create(vec![job("build", "build"), job("lint", "build"), later])
        .await;
    let (id, token) = world.take(&runner).await;
    world.patch(id, &token, 0, "hello ").await;
    let World { api, clock, dir } = world;
    // The store of the first process stays open: nothing was closed in an orderly way.
    let second = World {
        api: World::open(&dir, &clock, job_request::HOLD),
        clock,
        dir,
    };
    let resumed = second.patch(id, &token, 0, "hello ").await;
    assert_eq!((resumed.status, resumed.header("range")), (416, "0-6"));
    assert_eq!(second.patch(id, &token, 6, "world\n").await.status, 202);
    let output = json!({"checksum": "crc32:af083b2d", "bytesize": 12});
    let last = json!({"state": "success", "output": output});
    assert_eq!(second.put(id, &token, last).await.status, 200);
    let next = second.take(&runner).await;
    second
        .put(next.0, &next.1, json!({"state": "success"}))
        .await;
    assert_eq!(
        second.ask(&runner).await.json()["job_info"]["name"],
        "later"
    );
    let new = second.create(vec![job("fresh", "s")]).await;
    assert_eq!(new, 2);
    drop(api);
}
