//! Artifacts over HTTPS with a private CA, and caches (lifecycle 4, 5).

use courser_testkit::pki::Authority;
use courser_testkit::server::Reply;
use serde_json::json;

use super::gitlab::{GitLab, add, payload, variable};
use crate::world::World;

/// A server with a certificate of a private CA, and the line of the configuration that trusts it.
pub(super) fn private(world: &World) -> (GitLab, String) {
    let root = Authority::root("Private Root").issue();
    let leaf = root.server(&["localhost"]).issue();
    let file = world.write("home/ca.pem", root.certificate_pem());
    let line = format!("  tls-ca-file = \"{}\"\n", file.display());
    (GitLab::https(&leaf), line)
}

#[test]
fn artifacts_go_up_and_come_down_with_the_token_of_their_job() {
    let world = World::new();
    let (gitlab, trust) = private(&world);
    let script = [
        "mkdir -p out/deep; echo a > out/a.txt; chmod +x out/a.txt; ln -s a.txt out/link",
        "echo b > out/deep/b.log; echo c > out/c.tmp; echo '<xml/>' > junit.xml",
    ];
    let mut job = variable(payload(1, &script), "NAME", "gr\u{fc}n");
    for entry in [
        json!({
            "name": "$NAME/x-$NAME", "paths": ["out/"], "exclude": ["out/**/*.tmp"], "when": null,
            "artifact_type": "archive", "artifact_format": "zip", "expire_in": "1 week 2 days",
        }),
        json!({
            "name": "junit.xml", "paths": ["junit.xml"], "when": "always",
            "artifact_type": "junit", "artifact_format": "gzip",
        }),
        json!({"paths": ["junit.xml"], "when": "on_failure", "artifact_type": "never"}),
        json!({"name": "plain", "paths": ["junit.xml"], "artifact_type": "x", "artifact_format": "raw"}),
        json!({"name": "none", "paths": ["/etc/passwd", "nothing*"]}),
        json!({"paths": [], "untracked": false}),
    ] {
        job = add(job, "artifacts", entry);
    }
    let job = gitlab.run(&world, &trust, &job);
    assert_eq!(job.outcome().0, "success", "{}", job.text());
    let uploads: Vec<(&str, &str)> = job
        .uploads
        .iter()
        .map(|upload| (upload.query.as_str(), upload.part.as_str()))
        .collect();
    let part = |name: &str| {
        format!(
            "Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream"
        )
    };
    assert_eq!(
        uploads,
        [
            (
                "artifact_format=zip&artifact_type=archive&expire_in=1+week+2+days",
                part("x-gr\u{fc}n.zip").as_str()
            ),
            (
                "artifact_format=gzip&artifact_type=junit",
                &part("junit.xml.gz")
            ),
            ("artifact_format=raw&artifact_type=x", &part("plain")),
        ]
    );
    assert_eq!(job.uploads[2].content, b"<xml/>\n");
    let text = job.text();
    let order = [
        "Uploading artifacts...",
        "out/: found 5 matching artifact files and directories",
        "out/**/*.tmp: excluded 1 files",
        "Uploading artifacts as \"archive\" to coordinator... 201 Created",
        "No files to upload",
    ];
    let places: Vec<_> = order.iter().map(|line| text.find(line)).collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{places:?}\n{text}"
    );

    let archive = job.uploads[0].content.clone();
    gitlab.change(1, |job| job.archive = Some(archive));
    let script =
        ["cat out/a.txt out/deep/b.log; test -x out/a.txt; readlink out/link; test ! -e out/c.tmp"];
    let mut job = payload(2, &script);
    job["dependencies"] = json!([
        {"id": 99, "token": "x", "name": "none", "artifacts_file": null},
        {"id": 1, "token": "job-token-1", "name": "build", "artifacts_file": {"filename": "a.zip", "size": 1}},
    ]);
    let job = gitlab.run(&World::new(), &trust, &job);
    assert_eq!(job.outcome().0, "success", "{}", job.text());
    assert!(
        job.text().contains("01O a\n01O b\n01O a.txt\n"),
        "{}",
        job.text()
    );
}

#[test]
fn a_refused_upload_fails_a_job_that_was_well() {
    for (status, why) in [(403, "permission denied"), (413, "too large")] {
        let (world, gitlab) = (World::new(), GitLab::http());
        gitlab.on_job(move |request, _| (request.method == "POST").then(|| Reply::status(status)));
        let job = payload(1, &["echo a > f"]);
        let job = gitlab.run(&world, "", &add(job, "artifacts", json!({"paths": ["f"]})));
        assert_eq!(
            job.outcome(),
            ("failed".to_owned(), "script_failure".to_owned(), 1)
        );
        assert_eq!(job.uploads.len(), 1);
        assert!(
            job.text().contains(&format!("FATAL: {why}")),
            "{}",
            job.text()
        );
    }
}

#[test]
fn a_missing_dependency_fails_the_job_before_its_script() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.run(&world, "", &payload(1, &["true"]));
    let mut job = payload(2, &["echo never"]);
    job["dependencies"] = json!([
        {"id": 1, "token": "job-token-1", "name": "build", "artifacts_file": {"filename": "a.zip"}},
    ]);
    let job = gitlab.run(&world, "", &job);
    assert_eq!(
        job.outcome(),
        ("failed".to_owned(), "script_failure".to_owned(), 1)
    );
    assert!(job.text().contains("file does not exist") && !job.text().contains("never"));
}

#[test]
fn caches_follow_key_policy_and_fallback() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let cache = |id: i64, script: &str, cache: serde_json::Value| {
        let job = variable(payload(id, &[script]), "X", "a");
        gitlab.run(&world, "", &add(job, "cache", cache))
    };
    let store = json!({"key": "k-$X", "paths": ["d/"], "policy": "push", "when": null});
    let first = cache(1, "mkdir d; echo one > d/f", store);
    assert!(
        first
            .text()
            .contains("Not downloading cache k-a due to policy"),
        "{}",
        first.text()
    );
    assert!(first.text().contains("Created cache"), "{}", first.text());
    for (id, entry) in [
        (2, json!({"key": "k-a", "paths": ["d/"], "policy": "pull"})),
        (
            3,
            json!({"key": "none", "paths": ["d/"], "fallback_keys": ["neither", "k-a"], "policy": "pull"}),
        ),
        (
            4,
            json!({"key": "../../k-a", "paths": ["d/"], "policy": "pull"}),
        ),
    ] {
        let job = cache(id, "cat d/f; rm -r d", entry);
        assert_eq!(job.outcome().0, "success", "{}", job.text());
        assert!(job.text().contains("01O one\n"), "{}", job.text());
        assert!(job.text().contains("due to policy"), "{}", job.text());
    }
    let job = cache(
        5,
        "true",
        json!({"key": "absent", "paths": ["d/"], "policy": "pull"}),
    );
    assert_eq!(
        job.outcome().0,
        "success",
        "a cache that is not there fails nothing"
    );
}
