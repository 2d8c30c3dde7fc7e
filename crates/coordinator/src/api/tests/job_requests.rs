//! Who gets which job, and how long a request waits.

use super::*;

#[tokio::test]
async fn a_job_that_is_not_acknowledged_in_two_minutes_is_handed_out_again() {
    let world = World::new();
    let runner = world.runner("").await;
    world.create(vec![job("build", "build")]).await;
    let first = world.ask(&runner).await.json();
    assert_eq!(world.ask(&runner).await.status, 204);
    world.pass(119);
    world.tick().await;
    assert_eq!(world.ask(&runner).await.status, 204);
    world.pass(2);
    world.tick().await;
    assert_eq!(world.ask(&runner).await.json()["id"], first["id"]);
}

#[tokio::test]
async fn a_waiting_request_is_answered_as_soon_as_a_job_is_pending() {
    let world = Arc::new(World::new());
    let runner = world.runner("").await;
    let idle = world.ask(&runner).await;
    assert_eq!(idle.status, 204);
    let seen = idle.header("x-gitlab-last-update").to_owned();
    assert!(!seen.is_empty());
    let mut tasks = tokio::task::JoinSet::new();
    {
        let (world, runner) = (Arc::clone(&world), runner.clone());
        tasks.spawn(async move { world.ask_since(&runner, &seen).await });
    }
    // The request is in the queue's hands once it has subscribed.
    while world.api.version.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    world.create(vec![job("build", "build")]).await;
    let answer = tokio::time::timeout(Duration::from_secs(5), tasks.join_next()).await;
    assert_eq!(answer.unwrap().unwrap().unwrap().status, 201);
    // A value that is not the current one is answered at once.
    assert_eq!(world.ask_since(&runner, "older").await.status, 204);
}

#[tokio::test]
async fn a_waiting_request_ends_after_its_time_with_the_same_value() {
    let world = World::with_hold(Duration::from_millis(20));
    let runner = world.runner("").await;
    let seen = world
        .ask(&runner)
        .await
        .header("x-gitlab-last-update")
        .to_owned();
    let held = world.ask_since(&runner, &seen).await;
    assert_eq!(
        (held.status, held.header("x-gitlab-last-update")),
        (204, seen.as_str())
    );
}

#[tokio::test]
async fn tags_decide_who_gets_a_job() {
    let world = World::new();
    let (plain, docker) = (world.runner("").await, world.runner("docker,linux").await);
    let tagged = PipelineJob {
        tags: vec!["docker".to_owned()],
        ..job("tagged", "s")
    };
    world.create(vec![tagged, job("untagged", "s")]).await;
    assert_eq!(
        world.ask(&plain).await.json()["job_info"]["name"],
        "untagged"
    );
    assert_eq!(world.ask(&plain).await.status, 204);
    assert_eq!(
        world.ask(&docker).await.json()["job_info"]["name"],
        "tagged"
    );
    assert_eq!(world.ask(&docker).await.status, 204);
}

#[tokio::test]
async fn a_retry_is_a_new_job_with_a_new_token() {
    let world = World::new();
    let runner = world.runner("").await;
    let flaky = PipelineJob {
        retry: Some(json!({"max": 1, "when": ["script_failure"]})),
        ..job("flaky", "s")
    };
    world.create(vec![flaky]).await;
    let (first, first_token) = world.take(&runner).await;
    let failed = json!({"state": "failed", "failure_reason": "script_failure", "exit_code": 1});
    let ended = world.put(first, &first_token, failed).await;
    assert_eq!((ended.status, ended.header("job-status")), (200, "failed"));
    let (second, second_token) = world.take(&runner).await;
    assert!(second != first && second_token != first_token);
    let late = world.patch(first, &first_token, 0, "x").await;
    assert_eq!((late.status, late.header("job-status")), (403, "failed"));
    assert_eq!(
        world
            .put(second, &second_token, json!({"state": "success"}))
            .await
            .status,
        200
    );
}
