//! What a job gets when only the runner knows the authority.

use super::site::Site;

/// Git, artifacts and the variable, all on one private authority.
pub(super) const WHOLE: &str = r#"
stages: [first, second]

make:
  stage: first
  script:
    - test "$(cat file.txt)" = content
    - echo made > made.txt
  artifacts:
    paths: [made.txt]

take:
  stage: second
  script:
    - test "$(cat made.txt)" = made
    - grep -c 'BEGIN CERTIFICATE' "$CI_SERVER_TLS_CA_FILE" | sed 's/^/certificates in the file - /'
    - git config --get-all include.path || true
    - curl --silent --show-error --output /dev/null --write-out 'curl says %{http_code}\n' --cacert "$CI_SERVER_TLS_CA_FILE" "$CI_API_V4_URL/version"
"#;

#[test]
fn t16_a_bundle_of_leaf_intermediate_and_root_works_for_api_git_and_artifacts() {
    let site = Site::start(WHOLE);
    site.world
        .write("tls/bundle.pem", site.certificates.leaf.full_chain_pem());
    let logs = site.assert_pipeline_succeeds(&site.ca_file("tls/bundle.pem"));
    assert!(logs.contains("certificates in the file - 3"), "{logs}");
}

#[test]
fn t20_the_file_of_the_variable_exists_while_the_script_runs_and_holds_the_configured_file() {
    let site = Site::start(WHOLE);
    let logs = site.assert_pipeline_succeeds(&site.ca_file("tls/root.pem"));
    assert!(logs.contains("certificates in the file - 1"), "{logs}");
    assert!(logs.contains("curl says"), "{logs}");
}

#[test]
fn t21_git_and_artifacts_work_when_only_the_runner_knows_the_authority() {
    let site = Site::start(WHOLE);
    let logs = site.assert_pipeline_succeeds(&site.ca_file("tls/root.pem"));
    assert!(logs.contains("Checking out"), "{logs}");
    assert!(logs.contains("Uploading artifacts"), "{logs}");
    assert!(logs.contains("Downloading artifacts"), "{logs}");
}

#[test]
fn t22_the_job_has_exactly_the_chain_that_the_runner_verified() {
    let site = Site::start(WHOLE);
    // The authority is in the system's store of this process and nowhere else, so the chain is what the
    // handshake proved: leaf, intermediate, root.
    site.config(&site.url, "");
    let bundle = site.world.path("tls/root.pem");
    let mut command = site.run_command();
    let _runner = crate::world::Running::start(command.env("SSL_CERT_FILE", bundle));
    let pipeline = site.create_pipeline();
    let outcome = site.outcome(pipeline);
    let logs = site.logs();
    assert_eq!(outcome, "success", "{logs}");
    assert!(logs.contains("certificates in the file - 3"), "{logs}");
}

#[test]
fn t19_git_ssl_no_verify_in_the_runners_configuration_leaves_the_runner_verified() {
    let site = Site::start(WHOLE);
    site.config(&site.url, "  environment = [\"GIT_SSL_NO_VERIFY=true\"]");
    let verified = site.verify();
    assert!(
        verified.stderr.contains(super::site::UNKNOWN_AUTHORITY),
        "{}",
        verified.all()
    );
}
