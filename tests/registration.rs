//! register, verify, list, unregister, reset-token and lint against a strict server with a private CA.

use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply, Request};

use crate::world::{Finished, World, run};

/// GitLab's side of `runner-protocol.md` 2.2 to 2.5: knows `glrt-good`, `old-good` and the
/// registration token `GR1348941good`.
fn gitlab(request: &Request) -> Reply {
    let token = |request: &Request| request.json()["token"].as_str().unwrap_or("").to_owned();
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/api/v4/runners/verify") => {
            assert_eq!(request.header("runner-token"), token(request));
            assert_eq!(request.json()["info"]["name"], "gitlab-runner");
            assert!(
                request.json()["system_id"]
                    .as_str()
                    .is_some_and(|id| id.len() == 14)
            );
            match token(request).as_str() {
                "glrt-good" | "old-good" => Reply::json(
                    200,
                    &serde_json::json!({
                        "id": 7, "token": "ignored", "token_expires_at": "2031-02-03T04:05:06.789Z"
                    }),
                ),
                "glrt-broken" => Reply::text(501, "no"),
                _ => Reply::json(403, &serde_json::json!({ "message": "403 Forbidden" })),
            }
        }
        ("POST", "/api/v4/runners") => match token(request).as_str() {
            "GR1348941good" => Reply::json(
                201,
                &serde_json::json!({
                    "id": 8, "token": "new-token", "token_expires_at": null
                }),
            ),
            _ => Reply::json(
                403,
                &serde_json::json!({ "message": "403 Forbidden - invalid token supplied" }),
            ),
        },
        ("DELETE", "/api/v4/runners" | "/api/v4/runners/managers") => {
            if token(request).contains("broken") {
                Reply::status(403)
            } else {
                Reply::status(204)
            }
        }
        ("POST", "/api/v4/runners/reset_authentication_token") => {
            assert_eq!(request.header("runner-token"), "");
            Reply::json(
                201,
                &serde_json::json!({ "token": "glrt-renewed", "token_expires_at": null }),
            )
        }
        ("POST", "/api/v4/runners/7/reset_authentication_token") => {
            assert_eq!(request.header("private-token"), "pat");
            assert_eq!(request.text(), "null");
            Reply::json(
                201,
                &serde_json::json!({ "token": "glrt-by-pat", "token_expires_at": null }),
            )
        }
        (method, path) => panic!("unexpected {method} {path}"),
    }
}

fn secure() -> (Issued, FakeServer) {
    let root = Authority::root("Private Root").issue();
    let leaf = root.server(&["127.0.0.1", "localhost"]).issue();
    (root, FakeServer::https(&leaf, gitlab))
}

fn courser(world: &World, arguments: &[&str]) -> Finished {
    let config = world.path("home/config.toml");
    let mut command = world.courser(arguments);
    command.env("CONFIG_FILE", config);
    run(&mut command)
}

/// A line of the log without colours and padding.
fn has_line(finished: &Finished, text: &str) -> bool {
    finished.stderr.lines().any(|line| {
        let plain = line
            .replace("\u{1b}[31;1m", "")
            .replace("\u{1b}[0;33m", "")
            .replace("\u{1b}[0;m", "");
        plain.trim_end() == text || plain.starts_with(&format!("{text} "))
    })
}

#[track_caller]
fn assert_line(finished: &Finished, text: &str) {
    assert!(
        has_line(finished, text),
        "no line {text:?} in\n{}",
        finished.all()
    );
}

const REGISTER: [&str; 8] = [
    "register",
    "--non-interactive",
    "-name",
    "first",
    "--executor",
    "shell",
    "--token",
    "glrt-good",
];

#[test]
fn t1_a_private_ca_is_refused_until_it_is_given() {
    let (root, server) = secure();
    let world = World::new();
    let url = server.url("");
    let arguments = [&REGISTER[..], &["--url", &url]].concat();
    let refused = courser(&world, &arguments);
    assert_eq!(refused.code(), 1, "{}", refused.all());
    assert_line(&refused, "ERROR: Verifying runner... failed");
    assert_line(&refused, "PANIC: Failed to verify the runner.");
    assert!(
        refused
            .stderr
            .contains("x509: certificate signed by unknown authority"),
        "{}",
        refused.all()
    );
    assert!(!world.path("home/config.toml").exists());

    let ca = world.write("home/ca.pem", root.certificate_pem());
    let ca = ca.to_str().expect("UTF-8");
    let accepted = courser(&world, &[&arguments[..], &["--tls-ca-file", ca]].concat());
    assert_eq!(accepted.code(), 0, "{}", accepted.all());
    assert_line(&accepted, "Verifying runner... is valid");
    assert!(!accepted.all().contains("glrt-good"), "{}", accepted.all());
}

#[test]
fn t5_the_ca_file_of_register_is_stored_and_one_written_by_hand_works() {
    let (root, server) = secure();
    let world = World::new();
    let ca = world.write("home/ca.pem", root.certificate_pem());
    let ca = ca.to_str().expect("UTF-8");
    let url = server.url("");
    let registered = courser(
        &world,
        &[&REGISTER[..], &["--url", &url, "--tls-ca-file", ca]].concat(),
    );
    assert_eq!(registered.code(), 0, "{}", registered.all());
    assert!(
        world
            .read("home/config.toml")
            .contains(&format!("  tls-ca-file = \"{ca}\"\n"))
    );
    let verified = courser(&world, &["verify"]);
    assert_eq!(verified.code(), 0, "{}", verified.all());
    assert_line(&verified, "Verifying runner... is valid");

    world.write(
        "home/config.toml",
        format!("# by hand\n[[runners]]\nurl = \"{url}\"\ntoken = \"old-good\"\ntls-ca-file = \"{ca}\"\n"),
    );
    let verified = courser(&world, &["verify", "--url="]);
    assert_eq!(verified.code(), 0, "{}", verified.all());
    assert_line(&verified, "Verifying runner... is alive");
}

#[test]
fn a_new_file_is_written_as_upstream_does_and_private() {
    use std::os::unix::fs::PermissionsExt as _;

    let world = World::new();
    let server = FakeServer::http(gitlab);
    let url = server.url("");
    let registered = courser(
        &world,
        &[
            &REGISTER[..],
            &["--url", &url, "--env", "A=1", "--env=B=2", "-limit", "3"],
        ]
        .concat(),
    );
    assert_eq!(registered.code(), 0, "{}", registered.all());
    assert_line(
        &registered,
        "WARNING: limit (3) is above the global concurrent (1)",
    );
    let text = world.read("home/config.toml");
    let start = text.find("token_obtained_at = ").expect("there") + "token_obtained_at = ".len();
    let obtained = &text[start..start + "2026-01-02T03:04:05Z".len()];
    assert_eq!(
        text.replace(obtained, "[NOW]").replace(&url, "[URL]"),
        "concurrent = 1\ncheck_interval = 0\nshutdown_timeout = 0\n\n[session_server]\n  \
         session_timeout = 1800\n\n[[runners]]\n  name = \"first\"\n  limit = 3\n  url = \"[URL]\"\n  \
         id = 7\n  token = \"glrt-good\"\n  token_obtained_at = [NOW]\n  \
         token_expires_at = 2031-02-03T04:05:06Z\n  executor = \"shell\"\n  \
         environment = [\"A=1\", \"B=2\"]\n  [runners.cache]\n    MaxUploadedArchiveSize = 0\n    \
         [runners.cache.s3]\n      AssumeRoleMaxConcurrency = 0\n    [runners.cache.gcs]\n    \
         [runners.cache.azure]\n"
    );
    for name in ["home/config.toml", "home/.runner_system_id"] {
        let mode = world
            .path(name)
            .metadata()
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let again = courser(&world, &["lint"]);
    assert_eq!(again.code(), 0, "{}", again.all());
    assert_line(&again, "Configuration file is valid.");
}

#[test]
fn a_registration_token_makes_a_runner_with_its_settings() {
    let world = World::new();
    let server = FakeServer::http(gitlab);
    let registered = courser(
        &world,
        &[
            "register",
            "-n",
            "--url",
            &server.url("/"),
            "-r",
            "GR1348941good",
            "--executor",
            "shell",
            "--description",
            "second",
            "--tag-list",
            "a,b",
            "--locked=false",
            "--paused",
        ],
    );
    assert_eq!(registered.code(), 0, "{}", registered.all());
    assert_line(&registered, "Registering runner... succeeded");
    let body = server.requests()[0].json();
    assert_eq!(body["tag_list"], "a,b");
    assert_eq!(body["description"], "second");
    assert_eq!(
        [&body["locked"], &body["paused"], &body["run_untagged"]],
        [
            &serde_json::json!(false),
            &serde_json::json!(true),
            &serde_json::json!(false)
        ]
    );
    assert_eq!(body["info"].get("executor"), None);
    let text = world.read("home/config.toml");
    assert!(text.contains("  token = \"new-token\"\n"), "{text}");

    let refused = courser(
        &world,
        &[
            "register",
            "-n",
            "--url",
            &server.url(""),
            "-r",
            "wrong",
            "--executor",
            "shell",
        ],
    );
    assert_eq!(refused.code(), 1, "{}", refused.all());
    assert_line(&refused, "PANIC: Failed to register the runner.");
    assert!(
        refused
            .stderr
            .contains("403 Forbidden - invalid token supplied"),
        "{}",
        refused.all()
    );
}

#[test]
fn what_fails_after_the_registration_takes_the_runner_back() {
    let world = World::new();
    let server = FakeServer::http(gitlab);
    let url = server.url("");
    let base = ["register", "-n", "--url", &url, "--executor", "toaster"];
    let failed = courser(&world, &[&base[..], &["--token", "glrt-good"]].concat());
    assert_eq!(failed.code(), 1, "{}", failed.all());
    assert_line(
        &failed,
        "Unregistering runner manager from GitLab succeeded",
    );
    assert_line(&failed, "PANIC: Invalid executor specified");
    let failed = courser(&world, &[&base[..], &["-r", "GR1348941good"]].concat());
    assert_line(&failed, "Unregistering runner from GitLab succeeded");
    let left = courser(
        &world,
        &[&base[..], &["--token", "glrt-good", "--leave-runner"]].concat(),
    );
    assert_eq!(left.code(), 1, "{}", left.all());
    let deleted: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|request| request.method == "DELETE")
        .map(|request| request.path)
        .collect();
    assert_eq!(deleted, ["/api/v4/runners/managers", "/api/v4/runners"]);
    assert!(!world.path("home/config.toml").exists());
}

#[test]
fn settings_of_the_server_are_refused_or_ignored_with_an_authentication_token() {
    let world = World::new();
    let server = FakeServer::http(gitlab);
    let url = server.url("");
    let base = [
        "register",
        "-n",
        "--url",
        &url,
        "--executor",
        "shell",
        "--tag-list",
        "x",
    ];
    let refused = courser(&world, &[&base[..], &["--token", "glrt-good"]].concat());
    assert_eq!(refused.code(), 1, "{}", refused.all());
    assert!(server.requests().is_empty());
    let ignored = courser(&world, &[&base[..], &["-r", "glrt-good"]].concat());
    assert_eq!(ignored.code(), 0, "{}", ignored.all());
    assert!(
        ignored
            .stderr
            .contains("This has triggered the 'legacy-compatible registration process'"),
        "{}",
        ignored.all()
    );
}

#[test]
fn values_that_are_missing_are_named() {
    let world = World::new();
    let failed = courser(&world, &["register", "--non-interactive"]);
    assert_eq!(failed.code(), 1, "{}", failed.all());
    assert_line(&failed, "PANIC: The url needs to be entered");
    let failed = courser(&world, &["register", "--access-level", "any"]);
    assert_eq!(failed.code(), 1, "{}", failed.all());
    assert_line(&failed, "PANIC: Given access level is not valid:");
    let ended = courser(&world, &["register"]);
    assert_eq!(ended.code(), 1, "{}", ended.all());
    assert!(
        ended.stderr.contains("--non-interactive"),
        "{}",
        ended.all()
    );
}

const THREE: &str = "# kept\nconcurrent = 2\n\n[[runners]]\nname = \"one\"\nid = 7\nurl = \"URL\"\n\
    token = \"glrt-good\" # good\n\n[[runners]]\nname = \"two\"\nurl = \"URL\"\n\
    token = \"old-gone\"\n\n# last\n[[runners]]\nname = \"three\"\nurl = \"URL\"\ntoken = \"glrt-broken\"\n";

#[test]
fn verify_tells_the_dead_from_the_unreachable() {
    let world = World::new();
    let server = FakeServer::http(gitlab);
    world.write("home/config.toml", THREE.replace("URL", &server.url("")));
    let failed = courser(&world, &["verify"]);
    assert_eq!(failed.code(), 1, "{}", failed.all());
    assert_line(&failed, "Verifying runner... is valid");
    assert_line(&failed, "ERROR: Verifying runner... is removed");
    assert_line(&failed, "ERROR: Verifying runner... failed");
    assert_line(&failed, "FATAL: Failed to verify runners");
    let deleted = courser(&world, &["verify", "--delete"]);
    assert_eq!(deleted.code(), 0, "{}", deleted.all());
    let text = world.read("home/config.toml");
    assert!(text.starts_with("# kept\nconcurrent = 2\n"), "{text}");
    assert!(text.contains("# good") && text.contains("# last"), "{text}");
    assert!(!text.contains("old-gone"), "{text}");
    let none = courser(&world, &["verify", "--name", "nobody"]);
    assert_eq!(none.code(), 1, "{}", none.all());
    assert_line(&none, "FATAL: no runner matches the filtering parameters");
}

#[test]
fn unregister_takes_runners_off_the_server_and_out_of_the_file() {
    let world = World::new();
    let server = FakeServer::http(gitlab);
    world.write("home/config.toml", THREE.replace("URL", &server.url("")));
    let unknown = courser(&world, &["unregister"]);
    assert_eq!(unknown.code(), 1, "{}", unknown.all());
    let one = courser(&world, &["unregister", "--name", "one"]);
    assert_eq!(one.code(), 0, "{}", one.all());
    assert_line(&one, "Unregistering runner manager from GitLab succeeded");
    let all = courser(&world, &["unregister", "--all-runners"]);
    assert_eq!(all.code(), 0, "{}", all.all());
    assert_line(&all, "Unregistering runner from GitLab succeeded");
    assert_line(
        &all,
        "ERROR: Unregistering runner manager from GitLab forbidden",
    );
    let text = world.read("home/config.toml");
    assert!(
        text.contains("three") && !text.contains("\"two\""),
        "{text}"
    );
}

#[test]
fn reset_token_stores_the_new_token_where_the_old_one_stood() {
    let world = World::new();
    let server = FakeServer::http(gitlab);
    world.write("home/config.toml", THREE.replace("URL", &server.url("")));
    let by_name = courser(&world, &["reset-token", "--name", "one"]);
    assert_eq!(by_name.code(), 0, "{}", by_name.all());
    assert_line(
        &by_name,
        "Resetting runner authentication token... succeeded",
    );
    assert!(
        world
            .read("home/config.toml")
            .contains("token = \"glrt-renewed\" # good\n")
    );
    let by_id = courser(
        &world,
        &[
            "reset-token",
            "--url",
            &server.url(""),
            "--id",
            "7",
            "--pat",
            "pat",
        ],
    );
    assert_eq!(by_id.code(), 0, "{}", by_id.all());
    assert!(
        world
            .read("home/config.toml")
            .contains("token = \"glrt-by-pat\" # good\n")
    );
    assert!(
        by_id.stderr.lines().any(|line| line.ends_with(" Updated")),
        "{}",
        by_id.all()
    );
}

#[test]
fn list_and_lint_speak_in_log_lines() {
    let world = World::new();
    let file = world.write("home/config.toml", THREE.replace("URL", "https://h"));
    let listed = courser(&world, &["--log-format", "json", "list"]);
    assert_eq!(listed.code(), 0, "{}", listed.all());
    assert!(listed.stdout.is_empty());
    let lines: Vec<serde_json::Value> = listed
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines[0]["msg"], "Runtime platform");
    assert_eq!(lines[1]["ConfigFile"], file.to_str().expect("UTF-8"));
    assert_eq!(
        (&lines[2]["msg"], &lines[2]["Token"], &lines[2]["URL"]),
        (&"one".into(), &"glrt-good".into(), &"https://h".into())
    );
    world.write("home/config.toml", "concurent = 1\n");
    let unknown = courser(&world, &["lint"]);
    assert_eq!(unknown.code(), 1, "{}", unknown.all());
    assert!(
        unknown.stderr.contains("unknown key: concurent (line 1)"),
        "{}",
        unknown.all()
    );
    let missing = courser(&world, &["lint", "-c", "/nowhere/config.toml"]);
    assert_line(
        &missing,
        "FATAL: config file not found: /nowhere/config.toml",
    );
}

#[test]
fn a_program_called_gitlab_runner_complains_as_it_does() {
    let world = World::new();
    let link = world.path("gitlab-runner");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_courser"), &link).expect("linked");
    let unknown = run(world.program(&link).arg("toast"));
    assert_eq!(unknown.code(), 1, "{}", unknown.all());
    assert_line(&unknown, "FATAL: Command toast not found.");
    let bad = run(world.program(&link).args(["list", "--toast"]));
    assert_eq!(bad.code(), 1, "{}", bad.all());
    assert!(bad.stdout.starts_with("Incorrect Usage: "), "{}", bad.all());
    let help = run(&mut world.program(&link));
    assert_eq!(help.code(), 0, "{}", help.all());
    assert!(
        help.stdout.contains("Usage: gitlab-runner"),
        "{}",
        help.all()
    );
}
