//! What is taken away, against a fake Engine; the image itself against the real one: `tests/docker_engine/own_helper.rs`.

use courser_testkit::server::{FakeServer, Reply};
use serde_json::json;

use super::*;
use crate::testing::connected;

#[tokio::test]
async fn images_of_other_versions_go_when_they_are_old_and_unused() {
    let server = FakeServer::http(|request| {
        let tagged = |time: &str| Reply::json(200, &json!({"Metadata": {"LastTagTime": time}}));
        let path = request.path.as_str();
        match (request.method.as_str(), path) {
            (_, "/_ping") => Reply::text(200, "OK").header("Api-Version", "1.41"),
            ("DELETE", path) if path.starts_with("/v1.41/images/sha256:used") => {
                Reply::json(409, &json!({"message": "image is being used"}))
            }
            ("DELETE", _) => Reply::json(200, &json!([])),
            (_, "/v1.41/images/sha256:fresh/json") => tagged("2026-11-21T01:00:00Z"),
            (_, "/v1.41/images/sha256:odd/json") => Reply::json(200, &json!({})),
            (_, "/v1.41/images/json") => {
                let query = request.query.as_deref().unwrap_or_default();
                assert!(query.contains("courser.helper-image"), "{query}");
                let image = |id: &str| {
                    json!({"Id": id, "ParentId": "", "RepoTags": [], "RepoDigests": [], "Created": 0, "Size": 0,
                        "SharedSize": 0, "Labels": {}, "Containers": 0})
                };
                let ids = [
                    "sha256:ours",
                    "sha256:fresh",
                    "sha256:odd",
                    "sha256:used",
                    "sha256:old",
                ];
                Reply::json(200, &json!(ids.map(image)))
            }
            (_, path) if path.ends_with("/json") => tagged("2026-11-20T23:00:00.123456789Z"),
            other => panic!("{other:?}"),
        }
    });
    let engine = connected(&server).await;
    let now = "2026-11-22T00:00:00Z".parse().expect("a time");
    remove_old(&engine, "sha256:ours", now).await;
    let removed: Vec<String> = server
        .requests()
        .into_iter()
        .filter(|request| request.method == "DELETE")
        .map(|request| request.path)
        .map(|path| path.split('?').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        removed,
        ["/v1.41/images/sha256:used", "/v1.41/images/sha256:old"]
    );
}

#[test]
fn a_missing_file_is_named_with_the_places_it_may_be_in() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("courser");
    std::fs::write(&program, "x").expect("written");
    let missing = OwnHelper::new(&program).expect("opened").missing();
    let beside = directory.path().display();
    let places =
        format!("neither in {beside}/helper-images nor in {beside}/../lib/courser/helper-images;");
    assert!(missing.starts_with("courser-helper-"), "{missing}");
    assert!(missing.contains(".tar.zst"), "{missing}");
    assert!(missing.contains(&places), "{missing}");
}
