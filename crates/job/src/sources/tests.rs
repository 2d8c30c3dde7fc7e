use serde_json::{Value, json};

use super::*;
use crate::job::tests::{context, job, payload};
use crate::{JobStatus, RunnerContext, Stage, StageWork};

fn pairs(remote: &Remote) -> Vec<String> {
    let pairs = remote.instead_of.iter();
    pairs
        .map(|(new, old)| format!("{} <- {old}", new.expose()))
        .collect()
}

fn remote(change: Value, clone_url: &str) -> Remote {
    let context = RunnerContext {
        clone_url: clone_url.to_owned(),
        ..context()
    };
    Remote::of(&Job::accept(payload(change), context).expect("the job is accepted"))
}

#[test]
fn urls_are_split_as_text() {
    let url = RemoteUrl::parse("https://a:b@c@host:8443/p/q.git").expect("it is a URL");
    assert_eq!(
        (url.userinfo, url.authority, url.path),
        (Some("a:b@c"), "host:8443", "/p/q.git")
    );
    assert_eq!(url.base(), "https://host:8443");
    for other in ["", "/srv/p", "git@host:p", "://x", "a b://x"] {
        assert_eq!(RemoteUrl::parse(other), None, "{other}");
    }
}

#[test]
fn a_repository_page_has_no_credentials() {
    for (url, page) in [
        ("https://u:p@h:8443/g/p.git", "https://h:8443/g/p"),
        ("https://h/g/p.git?token=x#y", "https://h/g/p"),
        ("https://h/g/p", "https://h/g/p"),
        ("/srv/p.git", "/srv/p"),
    ] {
        assert_eq!(repository_page(url), page, "{url}");
    }
}

#[test]
fn credentials_live_in_the_rewrites_only() {
    let remote = remote(json!({}), "");
    assert_eq!(remote.url, "https://gitlab.example/group/p.git");
    assert_eq!(
        pairs(&remote),
        [
            "https://gitlab-ci-token:tok-en@gitlab.example/group/p.git <- https://gitlab.example/group/p.git",
            "https://gitlab-ci-token:tok-en@gitlab.example <- https://gitlab.example",
        ]
    );
    assert_eq!(
        remote.credential_reject_url.as_deref(),
        Some("https://gitlab.example")
    );
}

#[test]
fn a_clone_url_replaces_the_base() {
    let variables = json!({"variables": [{"key": "CI_PROJECT_PATH", "value": "group/p"}]});
    let http = remote(variables.clone(), "http://inside:8080/");
    assert_eq!(http.url, "http://inside:8080/group/p.git");
    assert_eq!(
        pairs(&http),
        [
            "http://gitlab-ci-token:tok-en@inside:8080/group/p.git <- http://inside:8080/group/p.git",
            "http://gitlab-ci-token:tok-en@inside:8080 <- http://inside:8080",
            "https://gitlab-ci-token:tok-en@gitlab.example <- https://gitlab.example",
        ]
    );
    let ssh = remote(variables, "ssh://inside");
    assert_eq!(ssh.url, "ssh://git@inside/group/p.git");
    assert_eq!(pairs(&ssh), Vec::<String>::new());
    assert_eq!(ssh.credential_reject_url.as_deref(), Some("ssh://inside"));
}

#[test]
fn ssh_addresses_are_rewritten_when_asked() {
    let with = |port: &str| {
        let variables = json!({"variables": [
            {"key": "GIT_SUBMODULE_FORCE_HTTPS", "value": "true"},
            {"key": "CI_SERVER_HOST", "value": "gitlab.example"},
            {"key": "CI_SERVER_SHELL_SSH_PORT", "value": port},
        ]});
        pairs(&remote(variables, "")).split_off(2)
    };
    let base = "https://gitlab-ci-token:tok-en@gitlab.example";
    assert_eq!(
        with("22"),
        [
            format!("{base}/ <- git@gitlab.example:"),
            format!("{base} <- ssh://git@gitlab.example")
        ]
    );
    assert_eq!(
        with("2222"),
        [format!("{base} <- ssh://git@gitlab.example:2222")]
    );
}

#[test]
fn urls_without_tokens_leave_it_to_a_helper_bound_to_the_host() {
    let change = json!({"variables": [
        {"key": "FF_GIT_URLS_WITHOUT_TOKENS", "value": "true"},
        {"key": "GIT_SUBMODULE_FORCE_HTTPS", "value": "true"},
        {"key": "CI_SERVER_HOST", "value": "gitlab.example"},
    ]});
    let job = job(change);
    let request = request(&job);
    assert_eq!(request.remote_url, "https://gitlab.example/group/p.git");
    let base = Some("https://gitlab.example");
    assert_eq!(request.credential_helper_for.as_deref(), base);
    assert_eq!(
        pairs(&Remote::of(&job)),
        [
            "https://gitlab.example/ <- git@gitlab.example:",
            "https://gitlab.example <- ssh://git@gitlab.example",
        ]
    );
    for stage in [Stage::GetSources, Stage::Step("script".to_owned())] {
        let work = job.stage(&stage, JobStatus::Running).expect("work").work;
        let StageWork::Shell(script) = work else {
            panic!("no shell")
        };
        let seed = "export GIT_CONFIG_GLOBAL=/b/abcdefghi/0/group/p.tmp/.glr.gconf";
        assert!(script.contains(seed), "{script}");
    }
}

#[test]
fn submodules_take_the_depth_of_the_project_unless_they_have_one() {
    let with = |key: &str, value: &str| {
        let variables = json!({"variables": [
            {"key": "GIT_SUBMODULE_STRATEGY", "value": "recursive"},
            {"key": key, "value": value},
        ]});
        request(&job(variables)).submodules.expect("asked for")
    };
    let submodules = with("GIT_SUBMODULE_PATHS", " a  :(exclude)b ");
    assert_eq!((submodules.recursive, submodules.depth), (true, 20));
    assert_eq!(submodules.paths, ["a", ":(exclude)b"]);
    assert_eq!(with("GIT_SUBMODULE_DEPTH", "3").depth, 3);
    assert_eq!(with("GIT_SUBMODULE_DEPTH", "-1").depth, 0);
    let flags = with("GIT_SUBMODULE_UPDATE_FLAGS", "--remote --jobs 4").update_flags;
    assert_eq!(flags, ["--remote", "--jobs", "4"]);
    for (key, value) in [("GIT_STRATEGY", "none"), ("GIT_STRATEGY", "empty")] {
        let variables = json!({"variables": [
            {"key": "GIT_SUBMODULE_STRATEGY", "value": "normal"},
            {"key": key, "value": value},
        ]});
        assert_eq!(request(&job(variables)).submodules, None);
    }
}

#[test]
fn a_local_repository_needs_no_credentials() {
    let remote = remote(
        json!({"git_info": {"repo_url": "/srv/p.git", "sha": "0123456789"}}),
        "",
    );
    assert_eq!(remote.url, "/srv/p.git");
    assert_eq!(remote.base, None);
    assert_eq!(remote.credential_reject_url, None);
}

#[test]
fn the_request_says_what_the_settings_say() {
    let job = job(json!({"variables": [
        {"key": "GIT_STRATEGY", "value": "clone"},
        {"key": "GIT_CLEAN_FLAGS", "value": "none"},
        {"key": "CI_SERVER_TLS_CA_FILE", "value": "PEM", "file": true},
    ]}));
    let request = request(&job);
    assert_eq!(request.strategy, GitStrategy::Clone);
    assert_eq!(request.clean_flags, Vec::<String>::new());
    assert_eq!(request.depth, 20);
    assert_eq!(request.user_agent, "gitlab-runner 19.4.0 linux/amd64");
    assert_eq!(request.correlation_id, "corr");
    assert!(request.checkout && request.bundle_uris && request.submodules.is_none());
    assert_eq!(request.tls_base.as_deref(), Some("https://gitlab.example"));
    assert_eq!(
        request.tls_ca_file.as_deref(),
        Some("/b/abcdefghi/0/group/p.tmp/CI_SERVER_TLS_CA_FILE")
    );
}

#[test]
fn trust_is_for_the_host_and_port_that_git_really_talks_to() {
    let base = |clone_url: &str, repo_url: &str| {
        let context = RunnerContext {
            clone_url: clone_url.to_owned(),
            ..context()
        };
        let change = json!({
            "git_info": {"repo_url": repo_url, "sha": "0123456789"},
            "variables": [
                {"key": "CI_PROJECT_PATH", "value": "group/p"},
                {"key": "CI_SERVER_TLS_CERT_FILE", "value": "PEM", "file": true},
                {"key": "CI_SERVER_TLS_KEY_FILE", "value": "PEM", "file": true},
            ],
        });
        let request = request(&Job::accept(payload(change), context).expect("accepted"));
        assert!(request.tls_ca_file.is_none() && request.tls_client_pair.is_some());
        request.tls_base
    };
    let repo = "https://gitlab-ci-token:tok@gitlab.example:8443/group/p.git";
    for (clone_url, repo_url, expected) in [
        ("", repo, Some("https://gitlab.example:8443")),
        (
            "https://me:pw@inside:9443/gitlab/",
            repo,
            Some("https://inside:9443"),
        ),
        ("https://inside", repo, Some("https://inside")),
        ("", "/srv/p.git", None),
    ] {
        assert_eq!(
            base(clone_url, repo_url).as_deref(),
            expected,
            "{clone_url}"
        );
    }
}
