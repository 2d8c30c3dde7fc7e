//! Trust for the job's own tools.

use super::site::Site;

/// Variables of trust as a step sees them, and a tool that knows nothing of `CI_SERVER_TLS_CA_FILE`.
const SHOW: &str = r#"
job:
  variables:
    REQUESTS_CA_BUNDLE: /chosen/by/the/job.pem
  script:
    - echo "file - $SSL_CERT_FILE"
    - echo "chosen - $REQUESTS_CA_BUNDLE"
    - echo "left alone - ${PIP_CERT-unset}"
    - echo "from the profile - $CURL_CA_BUNDLE"
    - grep -c 'BEGIN CERTIFICATE' "${SSL_CERT_FILE:-/dev/null}" | sed 's/^/certificates - /' || true
    - curl --silent --show-error --output /dev/null --write-out 'curl says %{http_code}\n' "$CI_API_V4_URL/version" || echo "curl fails"
"#;

#[test]
fn a_jobs_tools_trust_the_private_ca_and_what_somebody_chose_stays() {
    let site = Site::start(SHOW);
    let logs = site.assert_pipeline_succeeds(&site.ca_file("tls/root.pem"));
    assert!(logs.contains("1 private CA beside the system's "), "{logs}");
    assert!(logs.contains(".tmp/.trust/ca-bundle.pem\n"), "{logs}");
    assert!(logs.contains("chosen - /chosen/by/the/job.pem"), "{logs}");
    assert!(logs.contains("left alone - unset"), "{logs}");
    assert!(logs.contains("curl says "), "{logs}");
    let certificates = logs.lines().find_map(|line| {
        line.split_once("certificates - ")?
            .1
            .trim()
            .parse::<usize>()
            .ok()
    });
    // The system's are among them.
    assert!(certificates.is_some_and(|count| count > 1), "{logs}");
    let left = std::process::Command::new("find")
        .arg(site.world.path("builds"))
        .args(["-name", ".trust"])
        .output()
        .expect("find");
    assert!(left.stdout.is_empty(), "the files end with the job");
}

#[test]
fn a_login_profile_chooses_before_the_runner_does() {
    let site = Site::start(SHOW);
    site.world.write(
        "home/.bash_profile",
        "export CURL_CA_BUNDLE=/chosen/by/the/profile.pem\n",
    );
    let logs = site.assert_pipeline_succeeds(&site.ca_file("tls/root.pem"));
    assert!(
        logs.contains("from the profile - /chosen/by/the/profile.pem"),
        "{logs}"
    );
    assert!(logs.contains("curl fails"), "{logs}");
}

#[test]
fn one_key_turns_it_off_and_another_keeps_anchors_back() {
    let site = Site::start(SHOW);
    let ca = site.ca_file("tls/root.pem");
    let other = "ab".repeat(32);
    for keys in [
        "job_tools = false".to_owned(),
        format!("job_tools_anchors = [\"{other}\"]"),
    ] {
        let logs = site.assert_pipeline_succeeds(&format!("{ca}\n  [runners.trust]\n    {keys}"));
        assert!(logs.contains("curl fails"), "{keys}: {logs}");
        assert!(!logs.contains("private CA"), "{keys}: {logs}");
    }
}

#[test]
fn a_pinned_server_is_no_authority_for_the_jobs_tools() {
    // Git with GnuTLS takes no leaf for an anchor; this is about the other tools.
    let site =
        Site::start(&SHOW.replace("  variables:\n", "  variables:\n    GIT_STRATEGY: none\n"));
    site.world
        .write("tls/leaf.pem", site.certificates.leaf.certificate_pem());
    let logs = site.assert_pipeline_succeeds(&site.ca_file("tls/leaf.pem"));
    assert!(logs.contains("curl fails"), "{logs}");
    assert!(!logs.contains("private CA"), "{logs}");
}

#[test]
fn git_takes_the_hosts_file_first_then_the_users_choice_then_the_bundle() {
    const GIT: &str = r#"
job:
  script:
    - git config --get-urlmatch http.sslCAInfo "$CI_REPOSITORY_URL" | sed 's/^/the server - /'
    - git config --get-urlmatch http.sslCAInfo https://elsewhere.example/x.git | sed 's/^/elsewhere - /'
    - git config --global http.sslCAInfo /chosen/by/the/user.pem
    - git config --get-urlmatch http.sslCAInfo https://elsewhere.example/x.git | sed 's/^/then - /'
    - git config --show-origin --includes --file "$GIT_CONFIG_SYSTEM" --list | sed 's/^/all - /'
    - git ls-remote --quiet origin && echo "origin answers"
    - cd "$(mktemp -d)" && git config --get-urlmatch http.sslCAInfo "$CI_REPOSITORY_URL" | sed 's/^/outside of the checkout - /'
    - git clone --quiet "$CI_REPOSITORY_URL" again && cat again/file.txt
"#;
    let site = Site::start(GIT);
    let ca = site.ca_file("tls/root.pem");
    site.config(&site.url, &ca);
    let mut command = site.run_command();
    let _runner = crate::world::Running::start(command.env_remove("GIT_CONFIG_NOSYSTEM"));
    let pipeline = site.create_pipeline();
    let outcome = site.outcome(pipeline);
    let logs = site.logs();
    assert_eq!(outcome, "success", "{logs}");
    let said = |what: &str| {
        let answers = logs.lines().filter(|line| !line.contains("1m$ "));
        let mut lines = answers.filter_map(|line| line.split_once(what));
        lines
            .next()
            .map(|(_, rest)| rest.trim())
            .unwrap_or_default()
    };
    assert!(
        said("the server - ").ends_with(".tmp/CI_SERVER_TLS_CA_FILE"),
        "{logs}"
    );
    assert!(
        said("elsewhere - ").ends_with(".tmp/.trust/ca-bundle.pem"),
        "{logs}"
    );
    assert_eq!(said("then - "), "/chosen/by/the/user.pem", "{logs}");
    assert!(said("all - ").contains("http.sslcainfo="), "{logs}");
    assert!(logs.contains("include.path=/etc/gitconfig"), "{logs}");
    assert!(logs.contains("origin answers"), "{logs}");
    let outside = said("outside of the checkout - ");
    assert!(outside.ends_with(".tmp/CI_SERVER_TLS_CA_FILE"), "{logs}");
    assert!(
        logs.lines().any(|line| line.ends_with("O content")),
        "{logs}"
    );
}

#[test]
fn the_bundle_of_a_running_job_follows_the_ca_file() {
    const WAITING: &str = r#"
job:
  script:
    - openssl x509 -noout -subject -in "$SSL_CERT_FILE" | sed 's/^/before - /'
    - touch "$MEETING/job-runs"
    - for i in $(seq 600); do if [ -e "$MEETING/changed" ]; then break; fi; sleep 0.1; done
    - openssl x509 -noout -subject -in "$SSL_CERT_FILE" | sed 's/^/after - /'
"#;
    let site = Site::start(WAITING);
    // The first certificate of the bundle is the first of the file.
    let both = |first: &str| {
        let first = courser_testkit::pki::Authority::root(first).issue();
        first.certificate_pem() + &site.certificates.root.certificate_pem()
    };
    let meeting = site.world.path("meeting");
    std::fs::create_dir(&meeting).expect("a directory");
    site.world.write("tls/ca.pem", both("Old"));
    let keys = format!(
        "{}\n  environment = [\"MEETING={}\"]",
        site.ca_file("tls/ca.pem"),
        meeting.display()
    );
    site.config(&site.url, &keys);
    let mut runner = crate::world::Running::start(&mut site.run_command());
    let first = site.create_pipeline();
    let job_runs = meeting.join("job-runs");
    crate::world::eventually("the job runs", || job_runs.exists());
    site.world.write("tls/ca.pem", both("New"));
    runner.wait_for("the job's certificates were exchanged");
    site.world.write("meeting/changed", "");
    assert_eq!(site.outcome(first), "success", "{}", site.logs());
    let logs = site.logs();
    let said = |logs: &str, what: &str| {
        let lines = logs.lines().filter(|line| !line.contains("$ openssl"));
        lines
            .filter(|line| line.contains(what))
            .map(|line| {
                line.rsplit('=')
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(said(&logs, "before - "), ["Old"], "{logs}");
    assert_eq!(said(&logs, "after - "), ["New"], "{logs}");
    let second = site.create_pipeline();
    assert_eq!(site.outcome(second), "success", "{}", site.logs());
    let logs = site.logs();
    let mut seen = said(&logs, "before - ");
    seen.sort();
    assert_eq!(seen, ["New", "Old"], "{logs}");
}
