//! Uploads and downloads against a strict server with a private CA.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use courser_archive::{Format, Level};
use courser_helper::HelperRequest;
use courser_job::helper_request::{DownloadArtifacts, Provenance, UploadArtifacts};
use courser_protocol::Secret;
use courser_testkit::http_message::Request;
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply};

use crate::world::{World, plain};

/// A server on a certificate of a private root; the root lies in `ca.pem` as the job would have it.
fn server(
    world: &World,
    handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> FakeServer {
    let root: Issued = Authority::root("Private Root").issue();
    let leaf = root.server(&["127.0.0.1", "localhost"]).issue();
    world.write("ca.pem", root.certificate_pem());
    FakeServer::https(&leaf, handler)
}

/// Answers in order; the last one again and again.
fn in_turn(replies: Vec<fn() -> Reply>) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let turn = AtomicUsize::new(0);
    move |_| {
        let number = turn.fetch_add(1, Ordering::SeqCst).min(replies.len() - 1);
        replies[number]()
    }
}

fn upload(world: &World, server: &FakeServer) -> UploadArtifacts {
    world.write("project/out/report.txt", "hello");
    world.write("project/out/skipped.o", "object");
    UploadArtifacts {
        project_dir: world.text("project"),
        url: server.url(""),
        job_id: 7,
        token: Secret::new("glcbt-64_t0ken-of-the-job"),
        name: "sub/$CI_JOB_NAME".to_owned(),
        paths: vec!["out/".to_owned()],
        exclude: vec!["**/*.o".to_owned()],
        untracked: false,
        expire_in: "7d".to_owned(),
        format: "zip".to_owned(),
        artifact_type: "archive".to_owned(),
        timeout_seconds: 30,
        response_header_timeout_seconds: 30,
        provenance: None,
        tls_ca_file: Some(world.text("ca.pem")),
        tls_client_pair: None,
    }
}

/// Uploads; success or the error, and the log.
fn run(world: &World, request: UploadArtifacts) -> (Result<(), String>, String) {
    let environment = world.environment(&[("CI_JOB_NAME", "build")]);
    let (result, log) = world.run_in(&HelperRequest::UploadArtifacts(request), &environment);
    (
        result.map_err(|error| error.to_string()),
        plain(&(log.out + &log.err)),
    )
}

/// Names of archives in the staging directory.
fn staged(directory: &Path) -> Vec<OsString> {
    let names = fs::read_dir(directory).expect("readable").flatten();
    names
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with("artifacts"))
        .collect()
}

#[test]
fn an_upload_is_one_multipart_request() {
    let world = World::new();
    let staging = world.path("");
    let server = server(&world, move |_| {
        // A helper that is killed now leaves nothing behind.
        let staged = staged(&staging);
        assert!(staged.is_empty(), "{staged:?}");
        Reply::json(201, &serde_json::json!({}))
    });
    let (result, log) = run(&world, upload(&world, &server));
    assert_eq!(result, Ok(()), "{log}");
    for line in [
        "Uploading artifacts...\n",
        "out/: found 2 matching artifact files and directories",
        "**/*.o: excluded 1 files",
        "Uploading artifacts as \"archive\" to coordinator... 201 Created",
        " id=7 status=201 token=64_t0ken-",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    assert!(!log.contains("of-the-job"), "{log}");

    let requests = server.requests();
    let [request] = requests.as_slice() else {
        panic!("one request, not {}", requests.len());
    };
    assert_eq!(request.method, "POST");
    assert_eq!(
        request.target,
        "/api/v4/jobs/7/artifacts?artifact_format=zip&artifact_type=archive&expire_in=7d"
    );
    assert_eq!(request.header("job-token"), "glcbt-64_t0ken-of-the-job");
    let body = String::from_utf8_lossy(&request.body);
    assert!(
        body.contains("name=\"file\"; filename=\"build.zip\""),
        "{body}"
    );
    assert!(body.contains("out/report.txt"));
    assert!(!body.contains("skipped.o"));
}

#[test]
fn statuses_of_an_upload_decide_about_more_tries() {
    // replies, requests seen, error, line of the log
    type Row = (
        Vec<fn() -> Reply>,
        usize,
        Option<&'static str>,
        &'static str,
    );
    let table: Vec<Row> = vec![
        (
            vec![|| Reply::text(403, "no")],
            1,
            Some("permission denied"),
            "ERROR: Uploading artifacts as \"archive\" to coordinator... 403 Forbidden",
        ),
        (
            vec![|| Reply::text(413, "big")],
            1,
            Some("too large"),
            "to coordinator... 413 Request Entity Too Large",
        ),
        (
            vec![|| Reply::text(418, "")],
            3,
            Some("invalid argument"),
            "WARNING: Retrying...",
        ),
        (
            vec![|| Reply::text(200, ""), || Reply::status(201)],
            2,
            None,
            "WARNING: Uploading artifacts as \"archive\" to coordinator... 200 OK",
        ),
        (
            vec![
                || Reply::json(422, &serde_json::json!({"message": {"file": ["is odd"]}})),
                || Reply::status(201),
            ],
            2,
            None,
            "422 Unprocessable Entity (file: is odd)",
        ),
        (
            vec![|| Reply::Close, || Reply::status(201)],
            2,
            None,
            "ERROR: Uploading artifacts as \"archive\" to coordinator... error",
        ),
    ];
    for (replies, seen, error, line) in table {
        let world = World::new();
        let server = server(&world, in_turn(replies));
        let (result, log) = run(&world, upload(&world, &server));
        assert_eq!(result.err().as_deref(), error, "{log}");
        assert!(log.contains(line), "{line}\n{log}");
        assert_eq!(server.requests().len(), seen, "{log}");
        if let Some(error) = error {
            assert!(log.contains(&format!("FATAL: {error}")), "{log}");
        }
    }
}

#[test]
fn formats_have_their_suffix_and_their_rules() {
    let world = World::new();
    let server = server(&world, |_| Reply::status(201));
    for (format, query, name) in [
        ("", "?artifact_type=archive&expire_in=7d", "build.zip"),
        ("gzip", "?artifact_format=gzip&", "build.gz"),
        ("raw", "?artifact_format=raw&", "\"build\""),
    ] {
        let mut request = upload(&world, &server);
        request.format = format.to_owned();
        request.paths = vec!["out/report.txt".to_owned()];
        let (result, log) = run(&world, request);
        assert_eq!(result, Ok(()), "{log}");
        let request = server.requests().pop().expect("was sent");
        assert!(request.target.contains(query), "{}", request.target);
        assert!(
            String::from_utf8_lossy(&request.body).contains(name),
            "{format}"
        );
    }
    let mut request = upload(&world, &server);
    request.format = "raw".to_owned();
    request.paths = vec!["out/*".to_owned()];
    request.exclude = Vec::new();
    let (result, log) = run(&world, request);
    assert_eq!(
        result.err().as_deref(),
        Some("only one file can be sent as raw")
    );
    assert!(
        log.contains("FATAL: only one file can be sent as raw"),
        "{log}"
    );
    assert_eq!(server.requests().len(), 3);
}

/// Far more than is waited for before an archive is sent.
fn large(world: &World) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let numbers = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let content: Vec<u8> = numbers.flatten().take(9 << 20).collect();
    world.write("project/out/large", &content);
    content
}

#[test]
fn an_archive_that_is_sent_while_it_is_packed_arrives_whole_at_each_try() {
    let world = World::new();
    let content = large(&world);
    let server = server(
        &world,
        in_turn(vec![|| Reply::Close, || Reply::status(201)]),
    );
    for format in ["raw", "zip", "tarzstd"] {
        let mut request = upload(&world, &server);
        request.format = format.to_owned();
        request.paths = vec!["out/large".to_owned()];
        let (result, log) = run(&world, request);
        assert_eq!(result, Ok(()), "{log}");
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 4, "the first one twice");
    for (request, format) in requests.iter().zip(["raw", "raw", "zip", "tarzstd"]) {
        let start = request.body.windows(4).position(|four| four == b"\r\n\r\n");
        let end = request
            .body
            .iter()
            .rposition(|byte| *byte == b'\r')
            .expect("a form");
        let end = request.body[..end]
            .iter()
            .rposition(|byte| *byte == b'\r')
            .expect("a form");
        let sent = &request.body[start.expect("a head") + 4..end];
        if format == "raw" {
            assert!(sent == content);
            continue;
        }
        let archive = world.write("archive", sent);
        let archive = fs::File::open(archive).expect("opens");
        let limits = courser_archive::Limits::default();
        let target = world.path("target");
        fs::create_dir_all(&target).expect("a directory");
        courser_archive::extract(archive, &target, &limits).expect(format);
        assert!(fs::read(target.join("out/large")).expect("is there") == content);
    }
}

#[test]
fn what_cannot_be_packed_ends_an_upload_that_has_begun() {
    let world = World::new();
    large(&world);
    let server = server(&world, |_| Reply::status(201));
    let mut request = upload(&world, &server);
    std::os::unix::fs::symlink("large", world.path("project/out/zlink")).expect("a link");
    request.format = "gzip".to_owned();
    request.paths = vec!["out/large".to_owned(), "out/zlink".to_owned()];
    let (result, log) = run(&world, request);
    let reason = "the \"out/zlink\" is not a regular file";
    assert_eq!(result.err().as_deref(), Some(reason), "{log}");
    assert!(!log.contains("Retrying"), "{log}");
    assert!(!log.contains("to coordinator"), "{log}");
    assert!(server.requests().is_empty());
}

#[test]
fn nothing_to_upload_keeps_the_job_green() {
    let world = World::new();
    let server = server(&world, |_| Reply::status(201));
    let mut request = upload(&world, &server);
    request.paths = vec!["missing/*".to_owned()];
    let (result, log) = run(&world, request);
    assert_eq!(result, Ok(()));
    assert!(log.contains("ERROR: No files to upload"), "{log}");
    assert!(server.requests().is_empty());
}

#[test]
fn untracked_files_are_added() {
    let world = World::new();
    let server = server(&world, |_| Reply::status(201));
    let mut request = upload(&world, &server);
    world.git("project", &["init", "-q"]);
    world.write("project/.gitignore", "*.o\n");
    world.git("project", &["add", ".gitignore"]);
    request.paths = Vec::new();
    request.exclude = Vec::new();
    request.untracked = true;
    let (result, log) = run(&world, request);
    assert_eq!(result, Ok(()), "{log}");
    // Ignored ones included, tracked ones not.
    assert!(log.contains("untracked: found 2 files"), "{log}");
}

#[test]
fn an_unknown_authority_is_explained() {
    let world = World::new();
    let server = server(&world, |_| Reply::status(201));
    let mut request = upload(&world, &server);
    request.tls_ca_file = None;
    let (result, log) = run(&world, request);
    assert_eq!(result.err().as_deref(), Some("invalid argument"));
    assert!(
        log.contains("x509: certificate signed by unknown authority"),
        "{log}"
    );
    assert!(server.requests().is_empty());
}

fn download(world: &World, server: &FakeServer, direct: bool) -> DownloadArtifacts {
    fs::create_dir_all(world.path("project")).expect("directory");
    DownloadArtifacts {
        project_dir: world.text("project"),
        url: server.url(""),
        job_id: 6,
        job_name: "build".to_owned(),
        token: Secret::new("glcbt-64_t0ken-of-the-other"),
        direct_download: direct,
        retries: 2,
        tls_ca_file: Some(world.text("ca.pem")),
        tls_client_pair: None,
    }
}

fn fetch(world: &World, request: DownloadArtifacts) -> (Result<(), String>, String) {
    let (result, log) = world.run(&HelperRequest::DownloadArtifacts(request));
    (
        result.map_err(|error| error.to_string()),
        plain(&(log.out + &log.err)),
    )
}

fn archive(format: Format) -> Vec<u8> {
    let source = tempfile::tempdir().expect("temporary directory");
    fs::write(source.path().join("built"), "binary").expect("file");
    let mut bytes = Vec::new();
    let files = ["built".into()];
    courser_archive::write(format, Level::Default, source.path(), &files, &mut bytes)
        .expect("writes");
    bytes
}

#[test]
fn a_download_is_extracted_whatever_its_format() {
    for format in [Format::Zip, Format::TarZstd] {
        let world = World::new();
        let server = server(&world, move |_| {
            Reply::with("application/octet-stream", 200, archive(format))
        });
        let (result, log) = fetch(&world, download(&world, &server, true));
        assert_eq!(result, Ok(()), "{log}");
        assert!(
            log.starts_with("Downloading artifacts for build (6)...\n"),
            "{log}"
        );
        assert!(
            log.contains("Downloading artifacts from coordinator... ok"),
            "{log}"
        );
        assert!(
            log.contains(" host=127.0.0.1 id=6 responseStatus=200 OK token=64_t0ken-"),
            "{log}"
        );
        assert_eq!(
            fs::read(world.path("project/built")).expect("file"),
            b"binary"
        );
        let requests = server.requests();
        assert_eq!(
            requests[0].target,
            "/api/v4/jobs/6/artifacts?direct_download=true"
        );
        assert_eq!(
            requests[0].header("job-token"),
            "glcbt-64_t0ken-of-the-other"
        );
        assert_eq!(requests.len(), 1);
    }
}

#[test]
fn a_redirected_direct_download_asks_twice_and_keeps_the_token_from_the_storage() {
    let world = World::new();
    let storage =
        FakeServer::http(|_| Reply::with("application/octet-stream", 200, archive(Format::Zip)));
    let location = storage.url_by_name("localhost", "/bucket/archive?signature=x");
    let server = server(&world, move |_| Reply::redirect(302, &location));
    let (result, log) = fetch(&world, download(&world, &server, true));
    assert_eq!(result, Ok(()), "{log}");
    assert!(log.contains("Direct download from localhost"), "{log}");
    assert_eq!(server.requests().len(), 2);
    let stored = storage.requests();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].header("job-token"), "");
    assert_eq!(
        fs::read(world.path("project/built")).expect("file"),
        b"binary"
    );
}

#[test]
fn statuses_of_a_download_decide_about_more_tries() {
    type Row = (
        Vec<fn() -> Reply>,
        usize,
        Option<&'static str>,
        &'static str,
    );
    let table: Vec<Row> = vec![
        (
            vec![|| Reply::status(404)],
            1,
            Some("file does not exist"),
            "... not found",
        ),
        (
            vec![|| Reply::status(403)],
            1,
            Some("permission denied"),
            "... forbidden",
        ),
        (
            vec![|| Reply::status(401)],
            1,
            Some("permission denied"),
            "... unauthorized",
        ),
        (
            vec![|| Reply::status(418)],
            3,
            Some("invalid argument"),
            "... failed",
        ),
        (
            vec![|| Reply::Close],
            3,
            Some("invalid argument"),
            "... error",
        ),
        (
            vec![|| Reply::status(418), || {
                Reply::with("application/octet-stream", 200, archive(Format::Zip))
            }],
            2,
            None,
            "WARNING: Retrying...",
        ),
        (
            vec![|| Reply::with("application/octet-stream", 200, [0x1f, 0x8b, 8, 0])],
            1,
            Some("\"gzip\" format: unsupported archive format"),
            "FATAL: \"gzip\" format",
        ),
        (
            vec![|| Reply::text(200, "no archive at all")],
            1,
            Some("damaged archive: Missing end of central directory"),
            "FATAL: damaged archive",
        ),
    ];
    for (replies, seen, error, line) in table {
        let world = World::new();
        let server = server(&world, in_turn(replies));
        let (result, log) = fetch(&world, download(&world, &server, true));
        assert_eq!(result.err().as_deref(), error, "{log}");
        assert!(log.contains(line), "{line}\n{log}");
        let requests = server.requests();
        assert_eq!(requests.len(), seen, "{log}");
        // Only the first try asks for a redirect.
        for request in &requests[1..] {
            assert_eq!(request.target, "/api/v4/jobs/6/artifacts");
        }
    }
}

/// The statement of an upload, as the server got it within the archive.
fn statement(world: &World, request: &UploadArtifacts) -> (serde_json::Value, String) {
    let (result, log) = run(world, request.clone());
    assert_eq!(result, Ok(()), "{log}");
    let text = world.path("project/build-metadata.json");
    let value = fs::read(&text).expect("the statement stays in the project");
    (serde_json::from_slice(&value).expect("JSON"), log)
}

#[test]
fn a_provenance_statement_names_each_file_and_joins_the_archive() {
    let world = World::new();
    let server = server(&world, |_| Reply::json(201, &serde_json::json!({})));
    let mut request = upload(&world, &server);
    let facts = Provenance {
        runner_id: "12".to_owned(),
        repo_url: "https://gitlab.example/g/p".to_owned(),
        repo_digest: "0123abcd".to_owned(),
        job_name: "build".to_owned(),
        executor_name: "shell".to_owned(),
        runner_name: "one".to_owned(),
        started_at: "2026-11-21T11:59:58.5+01:00".to_owned(),
        schema_version: "v2".to_owned(),
        parameters: vec!["CI_JOB_TOKEN".to_owned()],
        ..Provenance::default()
    };
    request.provenance = Some(Box::new(facts));
    // A link with the statement's name is replaced, not followed.
    let precious = world.write("precious", "kept");
    std::os::unix::fs::symlink(precious, world.path("project/build-metadata.json")).expect("link");
    let (statement, log) = statement(&world, &request);
    assert_eq!(
        fs::read_to_string(world.path("precious")).expect("file"),
        "kept"
    );
    for line in [
        "Generating artifacts statement",
        "WARNING: Unknown SLSA provenance version v2, defaulting to v1",
    ] {
        assert!(log.contains(line), "{log}");
    }
    let subject = serde_json::json!([{
        "name": "out/report.txt",
        "digest": {
            "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        },
    }]);
    assert_eq!(statement["subject"], subject);
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v0.1");
    let definition = &statement["predicate"]["buildDefinition"];
    assert_eq!(
        definition["externalParameters"],
        serde_json::json!({"CI_JOB_TOKEN": "", "entryPoint": "build", "source": "https://gitlab.example/g/p"})
    );
    assert_eq!(definition["internalParameters"]["job"], "7");
    let details = &statement["predicate"]["runDetails"];
    assert_eq!(
        details["builder"]["id"],
        "https://gitlab.example/g/p/-/runners/12"
    );
    assert_eq!(
        details["metadata"],
        serde_json::json!({
            "invocationId": "7",
            "startedOn": "2026-11-21T10:59:58.5Z",
            "finishedOn": "2026-11-21T12:00:00Z",
        })
    );
    let body = server.requests()[0].body.clone();
    let body = String::from_utf8_lossy(&body);
    assert!(body.contains("build-metadata.json"));

    // Excludes hold for it too.
    request.exclude.push("*-metadata.json".to_owned());
    run(&world, request).0.expect("uploads");
    let body = server.requests()[1].body.clone();
    assert!(!String::from_utf8_lossy(&body).contains("build-metadata.json"));
}
