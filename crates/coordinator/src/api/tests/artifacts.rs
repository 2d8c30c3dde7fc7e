//! Artifacts, up and down.

use super::*;

#[tokio::test]
async fn artifacts_go_up_and_come_down_to_the_jobs_that_need_them() {
    let world = World::new();
    let runner = world.runner("").await;
    let build = PipelineJob {
        artifacts: Some(JobArtifacts {
            paths: vec!["out".into()],
            ..JobArtifacts::default()
        }),
        ..job("build", "build")
    };
    world.create(vec![build, job("test", "test")]).await;
    let (id, token) = world.take(&runner).await;
    let query = "artifact_format=zip&artifact_type=archive&expire_in=7d";
    assert_eq!(
        world
            .upload(id, &token, query, "../out.zip", b"PK content")
            .await
            .status,
        201
    );
    assert_eq!(
        world
            .upload(id, &token, query, "big.zip", &[0; 1025])
            .await
            .status,
        413
    );
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("/api/v4/jobs/{id}/artifacts"))
        .header("host", "localhost")
        .header("job-token", &token)
        .header("content-type", "multipart/form-data; boundary=XX");
    assert_eq!(world.send(request, "--XX--\r\n").await.status, 400);
    let dotenv = "artifact_type=dotenv&artifact_format=raw";
    assert_eq!(
        world
            .upload(id, &token, dotenv, ".env", b"FROM_BUILD=yes\n")
            .await
            .status,
        201
    );
    assert_eq!(
        world
            .upload(id, &token, dotenv, ".env", b"not a line\n")
            .await
            .status,
        400
    );
    world.put(id, &token, json!({"state": "success"})).await;

    let payload = world.ask(&runner).await.json();
    let dependency = &payload["dependencies"][0];
    assert_eq!(
        dependency["artifacts_file"],
        json!({"filename": "out.zip", "size": 10})
    );
    let variables = payload["variables"].as_array().unwrap();
    assert!(
        variables
            .iter()
            .any(|v| v["key"] == "FROM_BUILD" && v["value"] == "yes")
    );
    let path = format!("jobs/{}/artifacts?direct_download=true", dependency["id"]);
    let given = dependency["token"].as_str().unwrap();
    let down = world
        .call("GET", &path, ("job-token", given), Value::Null)
        .await;
    assert_eq!(
        (down.status, down.body.as_slice()),
        (200, b"PK content".as_slice())
    );
    let own = payload["token"].as_str().unwrap();
    let path = format!("jobs/{}/artifacts", payload["id"]);
    assert_eq!(
        world
            .call("GET", &path, ("job-token", own), Value::Null)
            .await
            .status,
        404
    );
    // Nothing was left half-written.
    let dir = world.dir.path().join(format!("state/artifacts/{id}"));
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, [".env", "out.zip"]);
}
