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
