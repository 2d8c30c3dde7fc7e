//! The commands that upstream's scripts call beside the checkout, and the helper itself.

use std::io::Write;
use std::process::Stdio;

use crate::world::{World, run};

#[test]
fn a_cache_is_saved_and_restored_by_upstreams_commands() {
    let world = World::new();
    world.write("work/vendor/lib", "cached");
    let archive = "../cache/k/cache.zip";
    let saved = run(world
        .courser([
            "cache-archiver",
            "--file",
            archive,
            "--path",
            "vendor/$NAME",
        ])
        .env("CACHE_METADATA", r#"{"CacheKey":"k"}"#)
        .env("NAME", "lib"));
    assert_eq!(saved.code(), 0, "{}", saved.all());
    assert!(saved.stderr.contains("Runtime platform"), "{}", saved.all());
    assert!(
        saved.stderr.contains("vendor/lib: found 1 matching"),
        "{}",
        saved.all()
    );
    assert_eq!(world.read("cache/k/metadata.json"), r#"{"cachekey":"k"}"#);

    std::fs::remove_dir_all(world.path("work/vendor")).expect("removes");
    let restored = run(&mut world.courser(["cache-extractor", "--file", archive]));
    assert_eq!(restored.code(), 0, "{}", restored.all());
    assert_eq!(world.read("work/vendor/lib"), "cached");

    let missing = run(&mut world.courser(["cache-extractor", "--file", "none.zip"]));
    assert_eq!(missing.code(), 1);
    assert!(
        missing
            .stderr
            .contains("WARNING: Cache file does not exist"),
        "{}",
        missing.all()
    );
}

#[test]
fn what_is_missing_or_not_built_is_fatal() {
    let world = World::new();
    let table: [(&[&str], &str); 5] = [
        (&["artifacts-downloader"], "FATAL: Incomplete arguments"),
        (
            &["artifacts-uploader", "--url", "https://h", "--id", "7"],
            "FATAL: Missing URL, token or job ID",
        ),
        (&["cache-archiver"], "FATAL: Missing --file"),
        (
            &["cache-archiver", "--file", "f", "--url", "https://s/k"],
            "FATAL: caches on a server (--url) are not built yet",
        ),
        (
            &[
                "cache-extractor",
                "--file",
                "f",
                "--gocloud-url",
                "s3://b/k",
            ],
            "FATAL: caches on a server (--gocloud-url) are not built yet",
        ),
    ];
    for (arguments, expected) in table {
        let finished = run(&mut world.courser(arguments));
        assert_eq!(finished.code(), 1, "{}", finished.all());
        assert!(finished.stderr.contains(expected), "{}", finished.all());
    }
}

#[test]
fn nothing_to_upload_ends_well() {
    let world = World::new();
    let finished = run(world
        .courser(["artifacts-uploader", "--path", "missing/*"])
        .env("CI_SERVER_URL", "https://127.0.0.1:1")
        .env("CI_JOB_TOKEN", "s3cr3t")
        .env("CI_JOB_ID", "7"));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(
        finished.stderr.contains("ERROR: No files to upload"),
        "{}",
        finished.all()
    );
    assert!(!finished.all().contains("s3cr3t"));
}

#[test]
fn the_helper_reads_its_request_from_standard_input() {
    let world = World::new();
    world.repository("origin", &[("file", "content")]);
    let sha = world
        .git("origin", &["rev-parse", "HEAD"])
        .trim()
        .to_owned();
    let path = |name: &str| world.path(name).to_str().expect("UTF-8").to_owned();
    let request = format!(
        r#"{{"request":"get_sources","strategy":"clone","project_dir":"{}","temporary_dir":"{}",
        "remote_url":"file://{}","instead_of":[],"sha":"{sha}","ref_name":"main",
        "refspecs":["+refs/heads/main:refs/remotes/origin/main"],"depth":1,"object_format":"",
        "checkout":true,"clean_flags":["-ffdx"],"fetch_flags":["--quiet"],"clone_flags":[],
        "user_agent":"gitlab-runner","correlation_id":"","bundle_uris":true,
        "old_config":"kept","submodules":null,"native_clone":false,"proactive_auth":false,
        "credential_helper_for":null,"remote_base":null,"lfs_skip_smudge":true,"tls_base":null,"tls_ca_file":null,
        "tls_client_pair":null,"tls_ca_file_only":false,"credential_reject_url":"https://gitlab.example"}}"#,
        path("builds/p"),
        path("builds/p.tmp"),
        path("origin"),
    );
    let input = world.write("request.json", request);
    let finished = run(world
        .courser(["helper", "run"])
        .stdin(std::fs::File::open(input).expect("file")));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert_eq!(world.read("builds/p/file"), "content");
    let lines = [
        "Fetching changes with git depth set to 1...",
        "Initialized empty Git repository in ",
        "Created fresh repository.",
        "Checking out ",
    ];
    let mut from = 0;
    for line in lines {
        let at = finished.stdout[from..].find(line);
        from += at.unwrap_or_else(|| panic!("{line} in order\n{}", finished.all()));
    }

    let mut refused = world
        .courser(["helper", "run"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = refused.stdin.take().expect("piped");
    stdin
        .write_all(br#"{"request":"upload_artifacts","token":"s3cr3t""#)
        .expect("writes");
    drop(stdin);
    let refused = refused.wait_with_output().expect("ends");
    assert!(!refused.status.success());
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("s3cr3t"));
}
