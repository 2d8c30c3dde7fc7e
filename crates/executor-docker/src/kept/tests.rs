//! What is found and removed, against a fake Engine; the rest against the real one: `tests/docker_engine/shell.rs`.

use courser_testkit::server::{FakeServer, Reply};
use serde_json::json;

use super::*;
use crate::testing::connected;

#[tokio::test]
async fn images_made_from_kept_ones_are_not_ours() {
    let server = FakeServer::http(|request| {
        let path = request.path.as_str();
        match (request.method.as_str(), path) {
            (_, "/_ping") => Reply::text(200, "OK").header("Api-Version", "1.41"),
            (_, "/v1.41/images/json") => {
                let query = request.query.as_deref().unwrap_or_default();
                assert!(query.contains("of%3Dus"), "{query}");
                let image = |(id, names): (&str, &[&str])| {
                    json!({"Id": id, "ParentId": "", "RepoTags": names, "RepoDigests": [], "Created": 0, "Size": 0,
                        "SharedSize": 0, "Labels": {"of": "us"}, "Containers": 0})
                };
                let images: [(&str, &[&str]); 5] = [
                    ("sha256:ours", &["localhost/courser-kept:one"]),
                    ("sha256:made-from-it", &["mine:1"]),
                    ("sha256:of-a-build", &["<none>:<none>"]),
                    ("sha256:near", &["localhost/courser-kept-by-me:1"]),
                    (
                        "sha256:named-again",
                        &["mine:2", "localhost/courser-kept:two"],
                    ),
                ];
                Reply::json(200, &json!(images.map(image)))
            }
            (_, "/v1.41/volumes") => Reply::json(200, &json!({"Volumes": [], "Warnings": []})),
            ("DELETE", path) if path.ends_with("two") => {
                Reply::json(409, &json!({"message": "an image was made of it"}))
            }
            ("DELETE", _) => Reply::json(200, &json!([])),
            other => panic!("{other:?}"),
        }
    });
    let engine = connected(&server).await;
    let found = Kept::of(&engine, "of", "us").await.expect("listed");
    let names: Vec<String> = found.iter().map(Kept::to_string).collect();
    let expected = [
        "image localhost/courser-kept:one",
        "image localhost/courser-kept:two",
    ];
    assert_eq!(names, expected);
    found[0].remove(&engine).await.expect("removed");
    let refused = found[1].remove(&engine).await.expect_err("refused");
    assert!(refused.to_string().contains("was made of it"), "{refused}");
    for request in server.requests() {
        let query = request.query.as_deref().unwrap_or_default();
        assert!(!query.contains("force=true"), "{query}");
    }
}
