//! Files from outside of the repository: directories, a GitLab server, URLs.

use std::os::unix::fs::PermissionsExt;

use courser_testkit::pki::Authority;
use courser_testkit::server::{FakeServer, Reply};
use serde_json::json;

use crate::world::{Finished, World, run};

const ROOT: &str = "\
include:
  - {project: group/shared, ref: v1, file: [/jobs.yml, more.yml]}
  - {remote: 'https://files.example/r.yml'}
  - {template: Jobs/T.gitlab-ci.yml}
  - {component: gitlab.example/group/parts/lint@1, inputs: {stage: build}}
";

const COMPONENT: &str = "spec:\n  inputs: {stage: }\n  component: [version, sha]\n---\nlint-$[[ component.version ]]: {script: x, stage: \"$[[ inputs.stage ]]\"}\n";

fn list(world: &World, arguments: &[&str]) -> Finished {
    run(&mut world.courser(["pipeline", "list"].iter().chain(arguments)))
}

fn check(listed: &Finished, expected: &str) {
    assert_eq!(
        (listed.code(), listed.stdout.as_str()),
        (0, expected),
        "{}",
        listed.all()
    );
}

#[test]
fn a_project_includes_its_own_components_with_a_remote_and_without() {
    let world = World::new();
    let root = "include: {component: $CI_SERVER_FQDN/$CI_PROJECT_PATH/lint@$CI_COMMIT_SHA, inputs: {stage: build}}\n";
    let component =
        "spec:\n  inputs: {stage: }\n---\nlint: {script: x, stage: \"$[[ inputs.stage ]]\"}\n";
    let files = [(".gitlab-ci.yml", root), ("templates/lint.yml", component)];
    world.repository("work", &files);
    check(&list(&world, &[]), "build\n  lint\n");
    let remote = "https://gitlab.example:8443/group/sub/parts.git";
    world.git("work", &["remote", "add", "origin", remote]);
    check(&list(&world, &[]), "build\n  lint\n");
}

#[test]
fn directories_stand_for_other_places() {
    let world = World::new();
    world.repository("work", &[(".gitlab-ci.yml", ROOT)]);
    // A checkout: what the tag had counts, not what is there now.
    world.repository(
        "elsewhere/shared",
        &[
            ("jobs.yml", "include: /deep/inner.yml\njob: {script: x}"),
            ("more.yml", "more: {script: x}"),
            ("deep/inner.yml", "inner: {script: x}"),
        ],
    );
    world.git("elsewhere/shared", &["tag", "v1"]);
    world.write("elsewhere/shared/jobs.yml", "changed: {script: x}");
    world.repository("elsewhere/parts", &[("templates/lint.yml", COMPONENT)]);
    world.git("elsewhere/parts", &["tag", "1.4.2"]);
    world.write("root/remote/files.example/r.yml", "remote: {script: x}");
    world.write(
        "root/templates/Jobs/T.gitlab-ci.yml",
        "template: {script: x}",
    );
    let shared = format!("group/shared={}", world.path("elsewhere/shared").display());
    let parts = format!("group/parts={}", world.path("elsewhere/parts").display());
    let root = world.path("root").display().to_string();
    let arguments = [
        "--include-root",
        &root,
        "--include-map",
        &shared,
        "--include-map",
        &parts,
    ];
    check(
        &list(&world, &arguments),
        "build\n  lint-1.4.2\ntest\n  inner\n  job\n  more\n  remote\n  template\n",
    );
    let shown = run(&mut world.courser(["pipeline", "show"].iter().chain(&arguments)));
    assert!(
        shown.stdout.contains("inner:\n  script: x\n"),
        "{}",
        shown.all()
    );

    // The directory as it lies stands for the ref that it is pinned to; all of it below one root.
    world.write(
        "root/projects/group/parts@1/templates/lint/template.yml",
        COMPONENT,
    );
    world.write("root/projects/group/shared/jobs.yml", "plain: {script: x}");
    world.write("root/projects/group/shared/more.yml", "more: {script: x}");
    let pinned = format!(
        "group/shared@v1={}",
        world.path("elsewhere/shared").display()
    );
    check(
        &list(&world, &["--include-root", &root, "--include-map", &pinned]),
        "build\n  lint-\ntest\n  changed\n  more\n  remote\n  template\n",
    );
    let mut command = world.courser(["pipeline", "list"]);
    command.env("COURSER_INCLUDE_ROOT", &root);
    check(
        &run(&mut command),
        "build\n  lint-\ntest\n  plain\n  more\n  remote\n  template\n",
    );

    // The same in `exec`.
    let executed = run(&mut world.courser(["exec", "--list"].iter().chain(&arguments)));
    assert!(
        executed.stdout.contains("test\tinner\n"),
        "{}",
        executed.all()
    );
}

#[test]
fn what_is_nowhere_is_named_with_its_line_and_a_remedy() {
    let world = World::new();
    for (file, expected) in [
        (
            "include: {project: group/shared, file: a.yml}",
            "error: project `group/shared` lies outside of the repository: give its directory with --include-map group/shared=DIR",
        ),
        ("include: https://files.example/r.yml", "--include-remote"),
        (
            "include: {template: Jobs/T.gitlab-ci.yml}",
            "templates/Jobs/T.gitlab-ci.yml",
        ),
        (
            "include: {component: gitlab.example/group/parts/lint@1}",
            "--include-map group/parts=DIR",
        ),
    ] {
        world.write("work/.gitlab-ci.yml", file);
        let listed = list(&world, &[]);
        assert_eq!(listed.code(), 1, "{}", listed.all());
        assert!(listed.stderr.contains(expected), "{}", listed.all());
        assert!(
            listed.stderr.contains("--> .gitlab-ci.yml:1:"),
            "{}",
            listed.all()
        );
    }
    // Out of the root with dots.
    world.write("secret.yml", "job: {script: x}");
    world.write("root/templates/a", "");
    world.write(
        "work/.gitlab-ci.yml",
        "include: {project: ../../group, file: secret.yml}",
    );
    let root = world.path("root").display().to_string();
    assert_eq!(list(&world, &["--include-root", &root]).code(), 1);
    for (arguments, expected) in [
        (
            &["--include-root", "/nowhere"][..],
            "/nowhere is no directory",
        ),
        (&["--include-map", "shared=."], "GROUP/PROJECT=DIR"),
        (&["--include-server", "nothing"], "not the URL of a server"),
        (
            &["--include-server", "https://user:sekret99@git.example"],
            "do not belong into the URL",
        ),
        (
            &["--include-server", "ftp://user:sekret99@git.example"],
            "--include-server git.example: not the URL of a server",
        ),
    ] {
        let listed = list(&world, arguments);
        assert!(listed.code() > 1, "{}", listed.all());
        assert!(listed.stderr.contains(expected), "{}", listed.all());
        assert!(!listed.all().contains("sekret99"), "{}", listed.all());
    }
}

#[test]
fn a_configured_server_is_asked_over_its_own_authority() {
    let authority = Authority::root("Includes").issue();
    let leaf = authority.server(&["localhost"]).issue();
    let server = FakeServer::https(&leaf, |request| {
        let (path, query) = request
            .target
            .split_once('?')
            .unwrap_or((&request.target, ""));
        if path == "/r.yml" {
            assert!(
                request.header("private-token").is_empty(),
                "a URL gets no token"
            );
            return Reply::text(200, "remote: {script: x}");
        }
        if request.header("private-token") != "t0ken" {
            return Reply::status(401);
        }
        let below = path.strip_prefix("/api/v4/").unwrap_or(path);
        let raw = |text: &str| {
            assert_eq!(query, "ref=c0ffee");
            Reply::text(200, text)
        };
        match below {
            "projects/group%2Fshared/repository/commits/v1"
            | "projects/group%2Fparts/repository/commits/1%2E4%2E2"
            | "projects/gitlab%2Dorg%2Fgitlab/repository/commits/HEAD" => {
                Reply::json(200, &json!({"id": "c0ffee"}))
            }
            "projects/group%2Fshared/repository/files/jobs%2Eyml/raw" => {
                raw("include: deep/*.yml\njob: {script: x}")
            }
            "projects/group%2Fshared/repository/files/more%2Eyml/raw" => raw("more: {script: x}"),
            "projects/group%2Fshared/repository/files/deep%2Finner%2Eyml/raw" => {
                raw("inner: {script: x}")
            }
            "projects/group%2Fshared/repository/tree" => {
                let entry = |path: &str| json!([{"path": path, "type": "blob"}]);
                if query.ends_with("page=1") {
                    Reply::json(200, &entry("README.md")).header("X-Next-Page", "2")
                } else {
                    Reply::json(200, &entry("deep/inner.yml")).header("X-Next-Page", "")
                }
            }
            "projects/group%2Fparts/releases" => {
                Reply::json(200, &json!([{"tag_name": "1.4.2"}, {"tag_name": "2.0.0"}]))
            }
            "projects/group%2Fparts/repository/files/templates%2Flint%2Eyml/raw" => raw(COMPONENT),
            "projects/gitlab%2Dorg%2Fgitlab/repository/files/lib%2Fgitlab%2Fci%2Ftemplates%2FJobs%2FT%2Egitlab%2Dci%2Eyml/raw" => {
                raw("template: {script: x}")
            }
            "projects/group%2Fother" => Reply::json(200, &json!({"id": 7})),
            _ => Reply::status(404),
        }
    });
    let world = World::new();
    let url = server.url_by_name("localhost", "");
    let host = url
        .strip_prefix("https://")
        .expect("https")
        .trim_end_matches('/');
    let remote = server.url_by_name("localhost", "/r.yml");
    let root = ROOT
        .replace("gitlab.example", host)
        .replace("https://files.example/r.yml", &remote);
    world.repository("work", &[(".gitlab-ci.yml", &root)]);
    let ca = world.write("ca.pem", authority.certificate_pem());
    let token = world.write("token", "t0ken\n");
    let (ca, token) = (ca.display().to_string(), token.display().to_string());
    let arguments = [
        "--include-server",
        &url,
        "--include-ca-file",
        &ca,
        "--include-token-file",
        &token,
        "--include-remote",
    ];
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).expect("mode");
    let refused = list(&world, &arguments);
    assert!(
        refused.stderr.contains("others can read it"),
        "{}",
        refused.all()
    );
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("mode");
    check(
        &list(&world, &arguments),
        "build\n  lint-1.4.2\ntest\n  inner\n  job\n  more\n  remote\n  template\n",
    );

    for (file, expected) in [
        (
            "include: {project: group/gone, file: a.yml}",
            "Project `group/gone` not found or access denied! Make sure any includes in the pipeline configuration are correctly defined.",
        ),
        (
            "include: {project: group/other, ref: x, file: a.yml}",
            "Project `group/other` reference `x` does not exist!",
        ),
        (
            "include: {project: group/shared, ref: v1, file: a.yml}",
            "Project `group/shared` file `a.yml` does not exist!",
        ),
        (
            "include: {template: Gone.gitlab-ci.yml}",
            "Template file `Gone.gitlab-ci.yml`",
        ),
        (
            &format!(
                "include: '{}'",
                server.url_by_name("localhost", "/gone.yml")
            ),
            "could not be fetched because of HTTP code `401` error!",
        ),
        (
            "include: {component: other.example/a/b/c@1}",
            "is not of the server localhost:",
        ),
    ] {
        world.write("work/.gitlab-ci.yml", file);
        let listed = list(&world, &arguments);
        assert_eq!(listed.code(), 1, "{}", listed.all());
        assert!(listed.stderr.contains(expected), "{}", listed.all());
    }
    // A wrong token, and none.
    world.write(
        "work/.gitlab-ci.yml",
        "include: {project: group/shared, ref: v1, file: more.yml}",
    );
    let mut command = world.courser(["pipeline", "list"].iter().chain(&arguments[..4]));
    let listed = run(command.env("GITLAB_TOKEN", "wrong"));
    assert!(
        listed.stderr.contains("must have read_api"),
        "{}",
        listed.all()
    );
    assert!(!listed.all().contains("wrong"), "{}", listed.all());
    let mut command = world.courser(["pipeline", "list"].iter().chain(&arguments[..4]));
    check(&run(command.env("GITLAB_TOKEN", "t0ken")), "test\n  more\n");
    // Without its authority it is not trusted.
    let mut command = world.courser(["pipeline", "list", "--include-server", &url]);
    let listed = run(command.env("GITLAB_TOKEN", "t0ken"));
    assert!(listed.stderr.contains("x509:"), "{}", listed.all());
}

#[test]
fn inputs_are_given_on_the_command_line() {
    let world = World::new();
    world.write(
        "work/.gitlab-ci.yml",
        "spec:\n  inputs: {name: , n: {type: number, default: 1}}\n---\n$[[ inputs.name ]]: {script: x, parallel: \"$[[ inputs.n ]]\"}\n",
    );
    let without = list(&world, &[]);
    assert!(
        without
            .stderr
            .contains("`name` input: required value has not been provided"),
        "{}",
        without.all()
    );
    check(
        &list(&world, &["--input", "name=a", "--input", "n=2"]),
        "test\n  a 1/2\n  a 2/2\n",
    );
}
