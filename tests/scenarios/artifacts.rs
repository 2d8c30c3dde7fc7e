//! Artifacts up and down (lifecycle 4, `runner-protocol.md` 2.9, 2.10).

use courser_testkit::server::{FakeServer, Reply};
use serde_json::{Value, json};

use super::scene::{Scene, failed, success};
use crate::wire::gitlab::add;

fn queries(job: &crate::wire::gitlab::Record) -> Vec<&str> {
    job.uploads
        .iter()
        .map(|upload| upload.query.as_str())
        .collect()
}

fn archive(paths: &[&str]) -> Value {
    json!({"name": "files", "paths": paths, "artifact_type": "archive", "artifact_format": "zip"})
}

#[test]
fn several_entries_go_up_in_their_order() {
    let mut scene = Scene::new();
    let mut job = scene.job(1, &["mkdir out; echo a > out/a; echo b > out/b.tmp; echo '<x/>' > junit.xml; echo K=V > build.env"]);
    for entry in [
        json!({"name": "bundle", "paths": ["out"], "exclude": ["out/*.tmp"], "artifact_type": "archive",
               "artifact_format": "zip", "expire_in": "1 week"}),
        json!({"name": "junit.xml", "paths": ["junit.xml"], "artifact_type": "junit", "artifact_format": "gzip", "when": "always"}),
        json!({"name": ".env", "paths": ["build.env"], "artifact_type": "dotenv", "artifact_format": "gzip", "when": "always"}),
        json!({"name": "never", "paths": ["out"], "when": "on_failure"}),
    ] {
        job = add(job, "artifacts", entry);
    }
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    assert_eq!(
        queries(&job),
        [
            "artifact_format=zip&artifact_type=archive&expire_in=1+week",
            "artifact_format=gzip&artifact_type=junit",
            "artifact_format=gzip&artifact_type=dotenv",
        ]
    );
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ mkdir out; echo a > out/a; echo b > out/b.tmp; echo '<x/>' > junit.xml; echo K=V > build.env</>
    == upload_artifacts_on_success
    O <green>Uploading artifacts...</>
    O <green>Uploading artifacts...</>
    O <green>Uploading artifacts...</>
    E out: found 2 matching artifact files and directories</>
    E out/*.tmp: excluded 1 files                       </>
    E Uploading artifacts as "archive" to coordinator... 201 Created</>  correlation_id</>=<id> id</>=1 status</>=201 token</>=64_tok1ca
    E junit.xml: found 1 matching artifact files and directories</>
    E Uploading artifacts as "junit" to coordinator... 201 Created</>  correlation_id</>=<id> id</>=1 status</>=201 token</>=64_tok1ca
    E build.env: found 1 matching artifact files and directories</>
    E Uploading artifacts as "dotenv" to coordinator... 201 Created</>  correlation_id</>=<id> id</>=1 status</>=201 token</>=64_tok1ca
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}

#[test]
fn a_failed_job_sends_what_is_for_failures() {
    let mut scene = Scene::new();
    let mut job = scene.job(1, &["echo a > a", "exit 3"]);
    for (name, when) in [
        ("good", "on_success"),
        ("bad", "on_failure"),
        ("both", "always"),
        ("default", ""),
    ] {
        job = add(
            job,
            "artifacts",
            json!({"name": name, "paths": ["a"], "when": when, "artifact_type": name}),
        );
    }
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 3));
    assert_eq!(queries(&job), ["artifact_type=bad", "artifact_type=both"]);
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ echo a > a</>
    O <green>$ exit 3</>
    == upload_artifacts_on_failure
    O <green>Uploading artifacts...</>
    O <green>Uploading artifacts...</>
    E a: found 1 matching artifact files and directories</>
    E Uploading artifacts as "bad" to coordinator... 201 Created</>  correlation_id</>=<id> id</>=1 status</>=201 token</>=64_tok1ca
    E a: found 1 matching artifact files and directories</>
    E Uploading artifacts as "both" to coordinator... 201 Created</>  correlation_id</>=<id> id</>=1 status</>=201 token</>=64_tok1ca
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 3</>
    "#);
}

#[test]
fn nothing_that_matches_is_no_failure() {
    let mut scene = Scene::new();
    let job = add(
        scene.job(1, &["true"]),
        "artifacts",
        archive(&["none*", "/etc/passwd", ""]),
    );
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    assert!(job.uploads.is_empty());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ true</>
    == upload_artifacts_on_success
    O <green>Uploading artifacts...</>
    E <yellow>WARNING: none*: no matching files. Ensure that the artifact path is relative to the working directory (<world>/work/builds/wireabcde/0/g/p)</>
    E <yellow>WARNING: processPath: artifact path is not a subpath of project directory: /etc/passwd</>
    E <yellow>WARNING: No matching files. Path is empty.        </>
    E <red>ERROR: No files to upload                         </>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn a_forbidden_upload_fails_the_job_at_once() {
    let mut scene = Scene::new();
    scene
        .gitlab
        .on_job(|request, _| (request.method == "POST").then(|| Reply::status(403)));
    let job = add(scene.job(1, &["echo a > a"]), "artifacts", archive(&["a"]));
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 1));
    assert_eq!(job.uploads.len(), 1);
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ echo a > a</>
    == upload_artifacts_on_success
    O <green>Uploading artifacts...</>
    E a: found 1 matching artifact files and directories</>
    E <red>ERROR: Uploading artifacts as "archive" to coordinator... 403 Forbidden</>  <red>correlation_id</>=<id> <red>id</>=1 <red>status</>=403 <red>token</>=64_tok1ca
    E <red>FATAL: permission denied                          </>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 1</>
    "#);
}

#[test]
fn an_upload_that_is_too_large_fails_the_job_at_once() {
    let mut scene = Scene::new();
    scene.gitlab.on_job(|request, _| {
        let message = json!({"message": "413 Request Entity Too Large"});
        (request.method == "POST").then(|| Reply::json(413, &message))
    });
    let job = add(scene.job(1, &["echo a > a"]), "artifacts", archive(&["a"]));
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 1));
    assert_eq!(job.uploads.len(), 1);
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ echo a > a</>
    == upload_artifacts_on_success
    O <green>Uploading artifacts...</>
    E a: found 1 matching artifact files and directories</>
    E <red>ERROR: Uploading artifacts as "archive" to coordinator... POST <gitlab>/api/v4/jobs/1/artifacts: 413 Request Entity Too Large</>  <red>correlation_id</>=<id> <red>id</>=1 <red>status</>=413 <red>token</>=64_tok1ca
    E <red>FATAL: too large                                  </>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 1</>
    "#);
}

#[test]
fn an_upload_that_meets_a_busy_server_is_repeated() {
    let mut scene = Scene::new();
    scene.gitlab.on_job(|request, job| {
        (request.method == "POST" && job.uploads.len() == 1)
            .then(|| Reply::status(503).header("Retry-After", "1"))
    });
    let job = add(scene.job(1, &["echo a > a"]), "artifacts", archive(&["a"]));
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    assert_eq!(job.uploads.len(), 2);
    assert_eq!(job.uploads[0].content, job.uploads[1].content);
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ echo a > a</>
    == upload_artifacts_on_success
    O <green>Uploading artifacts...</>
    E a: found 1 matching artifact files and directories</>
    E Uploading artifacts as "archive" to coordinator... 201 Created</>  correlation_id</>=<id> id</>=1 status</>=201 token</>=64_tok1ca
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}

#[test]
fn an_upload_follows_a_redirect_with_its_body() {
    let mut scene = Scene::new();
    let elsewhere = format!("{}/storage", scene.gitlab.url());
    let (sender, received) = std::sync::mpsc::channel();
    scene.gitlab.elsewhere(move |request| {
        sender
            .send((request.method.clone(), request.body.len()))
            .expect("somebody listens");
        Reply::json(201, &json!({}))
    });
    scene.gitlab.on_job(move |request, _| {
        (request.method == "POST").then(|| Reply::redirect(307, &elsewhere))
    });
    let job = add(scene.job(1, &["echo a > a"]), "artifacts", archive(&["a"]));
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    let (method, length) = received.recv().expect("the redirected upload");
    assert_eq!(method, "POST");
    assert!(length > job.uploads[0].content.len(), "{length}");
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ echo a > a</>
    == upload_artifacts_on_success
    O <green>Uploading artifacts...</>
    E a: found 1 matching artifact files and directories</>
    E Uploading artifacts as "archive" to coordinator... 201 Created</>  correlation_id</>=<id> id</>=1 status</>=201 token</>=64_tok1ca
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}

#[test]
fn dependencies_come_down_in_order_each_with_its_own_token() {
    let mut scene = Scene::new();
    scene.archive_of(1, &[("f", "one\n"), ("deep/g", "g\n")]);
    scene.archive_of(2, &[("f", "two\n")]);
    let mut job = scene.job(3, &["cat f deep/g"]);
    job["dependencies"] = Scene::dependencies(&[1, 2]);
    // Expired: no file is named.
    let expired = json!({"id": 7, "token": "expired", "name": "old", "artifacts_file": {"filename": "", "size": 0}});
    job["dependencies"]
        .as_array_mut()
        .expect("a list")
        .push(expired);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == download_artifacts
    O <green>Downloading artifacts for build 1 (1)...</>
    O <green>Downloading artifacts for build 2 (2)...</>
    E Downloading artifacts from coordinator... ok      </>  correlation_id</>=<id> host</>=localhost id</>=1 responseStatus</>=200 OK token</>=64_tok1ca
    E Downloading artifacts from coordinator... ok      </>  correlation_id</>=<id> host</>=localhost id</>=2 responseStatus</>=200 OK token</>=64_tok2ca
    == step_script
    O <green>$ cat f deep/g</>
    O two
    O g
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn a_redirected_download_asks_twice_and_keeps_the_token_to_itself() {
    let mut scene = Scene::new();
    let content = scene.archive_of(1, &[("f", "stored elsewhere\n")]);
    let storage = FakeServer::http(move |_| Reply::with("application/zip", 200, content.clone()));
    let there = storage.url("/bucket/a.zip?X-Amz-Signature=abc");
    scene
        .gitlab
        .on_job(move |request, _| (request.method == "GET").then(|| Reply::redirect(302, &there)));
    let mut job = scene.job(2, &["cat f"]);
    job["dependencies"] = Scene::dependencies(&[1]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    scene.gitlab.change(1, |job| {
        let queries: Vec<_> = job
            .downloads
            .iter()
            .map(|request| request.query.clone())
            .collect();
        let direct = Some("direct_download=true".to_owned());
        assert_eq!(queries, [direct.clone(), direct]);
    });
    let asked = storage.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("job-token"), "");
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == download_artifacts
    O <green>Downloading artifacts for build 1 (1)...</>
    E Direct download from 127.0.0.1                    </>
    E Downloading artifacts from coordinator... ok      </>  correlation_id</>=<id> host</>=127.0.0.1 id</>=1 responseStatus</>=200 OK token</>=64_tok1ca
    == step_script
    O <green>$ cat f</>
    O stored elsewhere
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn a_dependency_that_is_gone_or_forbidden_fails_the_job() {
    for (status, tries) in [(404, 1), (401, 1), (400, 3)] {
        let mut scene = Scene::new();
        scene.archive_of(1, &[("f", "f\n")]);
        scene
            .gitlab
            .on_job(move |request, _| (request.method == "GET").then(|| Reply::status(status)));
        let mut job = scene.job(2, &["echo never"]);
        job["dependencies"] = Scene::dependencies(&[1]);
        let job = scene.run(&job);
        assert_eq!(job.outcome(), failed("script_failure", 1), "{status}");
        scene
            .gitlab
            .change(1, |job| assert_eq!(job.downloads.len(), tries, "{status}"));
        if status == 404 {
            insta::assert_snapshot!(scene.log(&job), @r"
            (started, no sources)
            == download_artifacts
            O <green>Downloading artifacts for build 1 (1)...</>
            E <red>ERROR: Downloading artifacts from coordinator... not found</>  <red>correlation_id</>=<id> <red>host</>=localhost <red>id</>=1 <red>responseStatus</>=404 Not Found <red>token</>=64_tok1ca
            E <red>FATAL: file does not exist                        </>
            == cleanup_file_variables
            . <red>ERROR: Job failed: exit status 1</>
            ");
        }
    }
}

#[test]
fn an_archive_that_is_none_fails_the_job() {
    let mut scene = Scene::new();
    let mut content = scene.archive_of(1, &[("f", "f\n")]);
    content.truncate(30);
    scene.gitlab.change(1, |job| job.archive = Some(content));
    let mut job = scene.job(2, &["echo never"]);
    job["dependencies"] = Scene::dependencies(&[1]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 1));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == download_artifacts
    O <green>Downloading artifacts for build 1 (1)...</>
    E Downloading artifacts from coordinator... ok      </>  correlation_id</>=<id> host</>=localhost id</>=1 responseStatus</>=200 OK token</>=64_tok1ca
    E <red>FATAL: damaged archive: Missing end of central directory</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 1</>
    ");
}
