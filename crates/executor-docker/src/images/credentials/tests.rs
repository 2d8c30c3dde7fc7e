use std::path::Path;
use std::sync::Mutex;

use courser_testkit::programs::write_program;
use serde_json::json;

use super::*;

/// What was found, and the warnings on the way.
async fn collected(sources: &CredentialSources) -> (Logins, Vec<String>) {
    let warnings = Mutex::new(Vec::new());
    let warn = |text: &str| warnings.lock().unwrap().push(text.to_owned());
    let logins = Logins::collect(sources, &warn).await.unwrap();
    (logins, warnings.into_inner().unwrap())
}

/// Source and user for an image.
fn found(logins: &Logins, image: &str) -> Option<(String, String)> {
    let login = logins.for_image(image)?;
    let user = login.credentials.username.clone().unwrap_or_default();
    Some((login.source.clone(), user))
}

fn of_variable(text: &serde_json::Value) -> CredentialSources {
    CredentialSources {
        auth_config: Some(Secret::new(text.to_string())),
        ..CredentialSources::default()
    }
}

/// `user:password` in base64.
fn auth(user: &str) -> serde_json::Value {
    use base64::Engine as _;
    let text = format!("{user}:secret");
    json!({ "auth": base64::engine::general_purpose::STANDARD.encode(text) })
}

/// A directory with a credential helper of this name.
fn helper(name: &str, script: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join(format!("docker-credential-{name}"));
    write_program(program, format!("#!/bin/sh\n{script}\n"));
    directory
}

fn with_helper(mut sources: CredentialSources, directory: &Path) -> CredentialSources {
    sources.path = Some(format!("{}:/usr/bin:/bin", directory.display()).into());
    sources
}

#[test]
fn paths_of_images_and_servers_are_normalised() {
    let images = [
        ("ruby", "docker.io/ruby"),
        ("ruby:3.3", "docker.io/ruby"),
        ("my.image", "docker.io/my.image"),
        ("group/ruby", "docker.io/group/ruby"),
        ("index.docker.io/library/ruby:3", "docker.io/library/ruby"),
        ("Reg.TLD:5000/A/b:1", "reg.tld:5000/A/b"),
        ("localhost/x", "localhost/x"),
        // The digest leaves its algorithm behind, so that only parents match.
        ("reg.tld/a/b@sha256:12", "reg.tld/a/b@sha256"),
    ];
    for (image, expected) in images {
        assert_eq!(path_of_image(image), expected);
    }
    let servers = [
        ("https://index.docker.io/v1/", "docker.io"),
        ("http://Reg.TLD:5000/v2/x", "reg.tld:5000"),
        ("reg.tld:5000", "reg.tld:5000"),
        ("reg.tld/", "reg.tld"),
        ("Reg.TLD:5000/group/x:tag", "reg.tld:5000/group/x"),
        ("index.docker.io/group", "docker.io/group"),
    ];
    for (server, expected) in servers {
        assert_eq!(path_of_server(server), expected);
    }
}

#[tokio::test]
async fn the_first_source_keeps_a_path_and_the_longest_path_wins_over_all_sources() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".docker")).unwrap();
    let config = home.path().join(".docker/config.json");
    let text =
        json!({"auths": {"reg.tld": auth("home"), "reg.tld/group": auth("home"), "x.tld": {}}});
    std::fs::write(&config, text.to_string()).unwrap();
    let of_job = |kind: &str, url: &str| Credential {
        kind: kind.to_owned(),
        url: url.to_owned(),
        username: "job".to_owned(),
        password: Secret::new("secret"),
    };
    let sources = CredentialSources {
        home: Some(home.path().to_owned()),
        of_job: vec![
            of_job("registry", "reg.tld/group/project"),
            of_job("registry", "reg.tld"),
            of_job("other", "z.tld"),
        ],
        ..of_variable(&json!({"auths": {"https://reg.tld/v2/": auth("variable")}}))
    };
    let (logins, warnings) = collected(&sources).await;
    assert_eq!(warnings, [""; 0]);
    let file = config.display().to_string();
    let table = [
        ("reg.tld/other/x:1", Some((OF_VARIABLE, "variable"))),
        ("reg.tld/group/x", Some((file.as_str(), "home"))),
        ("reg.tld/group/project/x:1", Some((OF_JOB, "job"))),
        ("reg.tld/group/project:1", Some((OF_JOB, "job"))),
        (
            "reg.tld/group/project@sha256:12",
            Some((file.as_str(), "home")),
        ),
        ("x.tld/a", None),
        ("z.tld/a", None),
        ("reg.tldx/a", None),
        ("ruby", None),
    ];
    for (image, expected) in table {
        let expected = expected.map(|(source, user)| (source.to_owned(), user.to_owned()));
        assert_eq!(found(&logins, image), expected, "{image}");
    }
}

#[tokio::test]
async fn the_ancestor_of_the_configuration_counts_where_there_is_none() {
    let home = tempfile::tempdir().unwrap();
    let text = json!({"https://reg.tld/v1/": auth("old")});
    std::fs::write(home.path().join(".dockercfg"), text.to_string()).unwrap();
    let sources = CredentialSources {
        home: Some(home.path().to_owned()),
        ..CredentialSources::default()
    };
    let (logins, _) = collected(&sources).await;
    let file = home.path().join(".dockercfg").display().to_string();
    assert_eq!(found(&logins, "reg.tld/x"), Some((file, "old".to_owned())));
}

#[tokio::test]
async fn a_source_that_is_damaged_is_named_without_its_secrets_and_the_others_count() {
    let of_job = vec![Credential {
        kind: "registry".to_owned(),
        url: "reg.tld".to_owned(),
        username: "job".to_owned(),
        password: Secret::new("x"),
    }];
    for text in [
        "{\"auths\": {\"reg.tld\": {\"auth\": \"hunter2\"}}}",
        "{\"auths\": {\"reg.tld\": \"hunter2\"}}",
        "hunter2",
        "[]",
    ] {
        let sources = CredentialSources {
            auth_config: Some(Secret::new(text)),
            of_job: of_job.clone(),
            ..CredentialSources::default()
        };
        let (logins, warnings) = collected(&sources).await;
        let [warning] = warnings.as_slice() else {
            panic!("{text}: {warnings:?}");
        };
        assert!(
            warning.starts_with("Failed to resolve credentials from $DOCKER_AUTH_CONFIG: "),
            "{warning}"
        );
        assert!(
            warning.ends_with(". Credentials from this source will not be used."),
            "{warning}"
        );
        assert!(!warning.contains("hunter2"), "{warning}");
        let job = Some((OF_JOB.to_owned(), "job".to_owned()));
        assert_eq!(found(&logins, "reg.tld/x"), job);
    }
}

#[tokio::test]
async fn helpers_go_over_what_is_written_down() {
    let script = r#"
case $1 in
list) echo '{"https://a.tld/v2/": "store", "b.tld": "store", "gone.tld": "x"}' ;;
get)
    read -r server
    case $server in
    gone.tld) echo 'credentials not found in native keychain'; exit 1 ;;
    c.tld) echo '{"ServerURL": "c.tld", "Username": "<token>", "Secret": "token"}' ;;
    *) echo "{\"ServerURL\": \"$server\", \"Username\": \"of $server\", \"Secret\": \"s\"}" ;;
    esac ;;
esac"#;
    let directory = helper("safe", script);
    let text = json!({
        "auths": {"b.tld": auth("written"), "d.tld": auth("written"), "c.tld": auth("written")},
        "credsStore": "safe",
        "credHelpers": {"c.tld": "safe"},
    });
    let sources = with_helper(of_variable(&text), directory.path());
    let (logins, warnings) = collected(&sources).await;
    assert_eq!(warnings, [""; 0]);
    let user = |image: &str| found(&logins, image).map(|(_, user)| user);
    assert_eq!(user("a.tld/x").as_deref(), Some("of https://a.tld/v2/"));
    assert_eq!(user("b.tld/x").as_deref(), Some("of b.tld"));
    assert_eq!(user("d.tld/x").as_deref(), Some("written"));
    assert_eq!(user("gone.tld/x"), None);
    let token = &logins.for_image("c.tld/x").unwrap().credentials;
    assert_eq!(
        (token.identitytoken.as_deref(), token.username.as_deref()),
        (Some("token"), None)
    );
}

#[tokio::test]
async fn helpers_that_fail_are_told_and_one_with_a_path_ends_the_job() {
    let table = [
        (
            "echo 'no such vault'; exit 2",
            "docker-credential-bad list: no such vault",
        ),
        (
            "echo hello",
            "docker-credential-bad list: what it prints is no list",
        ),
        (
            "yes '{' ",
            "docker-credential-bad list: it prints more than 1 MiB",
        ),
    ];
    for (script, expected) in table {
        let directory = helper("bad", script);
        let sources = of_variable(&json!({"credsStore": "bad"}));
        let (_, warnings) = collected(&with_helper(sources, directory.path())).await;
        assert!(warnings[0].contains(expected), "{warnings:?}");
    }
    let (_, warnings) = collected(&of_variable(&json!({"credsStore": "not-installed"}))).await;
    assert!(
        warnings[0].contains("docker-credential-not-installed list: "),
        "{warnings:?}"
    );

    for name in ["x/../../evil", "..\\evil"] {
        let sources = of_variable(&json!({"credHelpers": {"a.tld": name}}));
        let error = Logins::collect(&sources, &|_| {}).await.err().unwrap();
        assert_eq!(error.to_string(), "path traversal is not allowed");
    }
}
