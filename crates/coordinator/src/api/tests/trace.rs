//! Logs: checksums, limits, and runners that fall silent.

use super::*;

#[tokio::test]
async fn a_log_that_does_not_match_its_checksum_is_asked_for_once_more() {
    let world = World::new();
    let runner = world.runner("").await;
    world.create(vec![job("build", "build")]).await;
    let (id, token) = world.take(&runner).await;
    world.patch(id, &token, 0, "damaged").await;
    let last = json!({"state": "success", "output": {"checksum": "crc32:00000001", "bytesize": 7}});
    assert_eq!(world.put(id, &token, last.clone()).await.status, 412);
    let again = world.patch(id, &token, 0, "whole").await;
    assert_eq!((again.status, again.header("range")), (202, "0-5"));
    // A runner that insists is believed.
    assert_eq!(world.put(id, &token, last).await.status, 200);
}

#[tokio::test]
async fn a_final_update_waits_while_the_log_is_being_written() {
    let world = World::new();
    let runner = world.runner("").await;
    world.create(vec![job("build", "build")]).await;
    let (id, token) = world.take(&runner).await;
    let trace = world.api.trace_file(id).await.unwrap();
    let writing = trace.lock().await;
    let last = json!({"state": "success", "output": {"checksum": "crc32:00000000"}});
    let waits = world.put(id, &token, last.clone()).await;
    assert_eq!(
        (waits.status, waits.header("x-gitlab-trace-update-interval")),
        (202, "1")
    );
    drop(writing);
    assert_eq!(world.put(id, &token, last).await.status, 200);
}

#[tokio::test]
async fn a_log_larger_than_allowed_drops_the_job() {
    let world = World::new();
    let runner = world.runner("").await;
    let pipeline = world.create(vec![job("build", "build")]).await;
    let (id, token) = world.take(&runner).await;
    let dropped = world.patch(id, &token, 0, &"x".repeat(65)).await;
    assert_eq!(
        (dropped.status, dropped.header("job-status")),
        (403, "failed")
    );
    let snapshot = world
        .api
        .queue
        .call(move |queue| queue.snapshot(pipeline).unwrap().unwrap())
        .await
        .unwrap();
    assert_eq!(snapshot.status, crate::PipelineStatus::Failed);
    assert_eq!(
        snapshot.jobs[0].end.failure_reason.as_deref(),
        Some("trace_size_exceeded")
    );
}

#[tokio::test]
async fn logs_of_silent_runners_do_not_stay_open() {
    let world = World::new();
    let in_use = world.api.trace_file(0).await.unwrap();
    for job in 1..2 * OPEN_TRACES as i64 {
        drop(world.api.trace_file(job).await.unwrap());
    }
    let open = world.api.open_traces();
    assert!(open.len() <= OPEN_TRACES, "{}", open.len());
    assert!(Arc::ptr_eq(&open[&0], &in_use));
}
