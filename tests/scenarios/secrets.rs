//! `secrets:` of jobs as GitLab sends them, from a real OpenBao with a TLS listener of a private CA (S1 to S26 of
//! `runner-tls.md` 18, `secrets.md` 4 and 5).

use serde_json::json;

use super::scene::{failed, success};
use super::vault::Vault;
use crate::wire::gitlab::add;

#[test]
fn s15_s16_a_secret_is_a_file_of_its_owner_or_a_value_masked_and_revoked() {
    let mut vault = Vault::new();
    for secret in [
        "this-is-a-password",
        "second-line-of-it",
        "dGhpcy1pcy1hLXBhc3N3b3Jk",
    ] {
        vault.scene.secret("a secret", secret);
    }
    let script = [
        "test \"$PASSWORD\" = this-is-a-password\"\" && echo it is \"$PASSWORD\"",
        "printf %s \"$PASSWORD\" | base64",
        "stat -c %a \"$FILE\"; tail -n 1 \"$KEY\"; wc -c < \"$FILE\"",
        "echo port $PORT",
    ];
    // The script itself is echoed before the secrets are known to it: it must not spell one.
    let script =
        script.map(|line| line.replace("this-is-a-password\"\"", "this-\"\"is-a-password"));
    let script: Vec<&str> = script.iter().map(String::as_str).collect();
    let job = vault.job(
        &script,
        &[
            ("FILE", "production/db", "password", None),
            ("KEY", "production/db", "key", Some(true)),
            ("PASSWORD", "production/db", "password", Some(false)),
            ("PORT", "production/db", "port", Some(false)),
        ],
    );
    let job = vault.scene.run(&job);
    insta::assert_snapshot!(vault.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    == resolve_secrets
    . <K>Resolving secret "FILE"...</>
    . <K>Using "vault" secret resolver...</>
    . <K>Resolving secret "KEY"...</>
    . <K>Using "vault" secret resolver...</>
    . <K>Resolving secret "PASSWORD"...</>
    . <K>Using "vault" secret resolver...</>
    . <K>Resolving secret "PORT"...</>
    . <K>Using "vault" secret resolver...</>
    == prepare_executor
    . <K>Using Shell (bash) executor...</>
    == prepare_script
    O Running on <host>...
    == get_sources
    O <green>Skipping Git repository setup</>
    O <green>Skipping Git checkout</>
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ test "$PASSWORD" = this-""is-a-password && echo it is "$PASSWORD"</>
    O it is [MASKED]
    O <green>$ printf %s "$PASSWORD" | base64</>
    O [MASKED]
    O <green>$ stat -c %a "$FILE"; tail -n 1 "$KEY"; wc -c < "$FILE"</>
    O 600
    O [MASKED]
    O 18
    O <green>$ echo port $PORT</>
    O port [MASKED]
    == cleanup_file_variables
    . <K>Revoked 1 token of this job's secrets</>
    . <green>Job succeeded</>
    "#);
    assert_eq!(job.outcome(), success());
    assert!(vault.bao.accessors().is_empty());
}

#[test]
fn s20_an_unknown_authority_is_told_of_in_the_words_that_people_search_for() {
    let mut vault = Vault::untrusted();
    let job = vault.job(
        &["echo never"],
        &[("MY_SECRET", "production/db", "password", None)],
    );
    let job = vault.scene.run(&job);
    let text = job.text();
    let url = vault.bao.url();
    let expected = format!(
        "ERROR: Job failed (system failure): resolving secrets: initializing Vault service: preparing authenticated client: \
         authenticating Vault client: writing to Vault: Put \"{url}/v1/auth/jwt/login\": tls: failed to verify certificate: \
         x509: certificate signed by unknown authority"
    );
    assert!(text.contains(&expected), "{text}");
    assert!(!text.contains("never"), "{text}");
    assert_eq!(job.outcome(), failed("runner_system_failure", 0));
}

#[test]
fn s24_what_the_runner_trusts_is_no_variable_of_a_job() {
    let mut vault = Vault::untrusted();
    let ca_file = vault.bao.ca_file().to_owned();
    let ca = std::fs::read_to_string(&ca_file).expect("the CA");
    let directory = ca_file.parent().expect("a directory");
    let variables = [
        json!({"key": "VAULT_CACERT", "value": ca_file, "public": true}),
        // As people have it in their settings: a variable of type file.
        json!({"key": "BAO_CACERT", "value": ca, "file": true, "public": true}),
        json!({"key": "VAULT_CACERT_BYTES", "value": ca, "public": true}),
        json!({"key": "VAULT_CAPATH", "value": directory, "public": true}),
        json!({"key": "VAULT_SKIP_VERIFY", "value": "true", "public": true}),
        json!({"key": "SSL_CERT_FILE", "value": ca_file, "public": true}),
    ];
    let job = vault.job(
        &["echo never"],
        &[("MY_SECRET", "production/db", "password", None)],
    );
    let add = |job, variable| add(job, "variables", variable);
    let job = variables.into_iter().fold(job, add);
    let job = vault.scene.run(&job);
    let text = job.text();
    let authority = "x509: certificate signed by unknown authority";
    assert!(text.contains(authority), "{text}");
    assert_eq!(job.outcome(), failed("runner_system_failure", 0));
    assert!(vault.bao.accessors().is_empty());
}

#[test]
fn s17_an_access_token_of_artifactory_comes_from_a_generic_engine() {
    let mut vault = Vault::new();
    let mount = ["secrets", "enable", "-path=artifactory", "-version=1", "kv"];
    vault.bao.bao(&mount, "");
    let token = ["write", "artifactory/production/jfrog", "access_token=-"];
    vault.bao.bao(&token, "token-of-artifactory");
    let read = "path \"artifactory/production/jfrog\" { capabilities = [\"read\"] }";
    vault.bao.policy("deploy", read);
    vault.scene.secret("a secret", "token-of-artifactory");
    let script = "test \"$(cat $JFROG_TOKEN)\" = token-\"\"of-artifactory && echo it is";
    let mut job = vault.job(&[script], &[]);
    let mut secret = vault.secret("production/jfrog", "access_token", Some(true));
    secret["vault"]["engine"] = json!({"name": "generic", "path": "artifactory"});
    job["secrets"] = json!({"JFROG_TOKEN": secret});
    let job = vault.scene.run(&job);
    assert!(job.text().contains("O it is"), "{}", job.text());
    assert_eq!(job.outcome(), success());
}

#[test]
fn s25_a_missing_secret_fails_the_job_and_says_what_is_there() {
    let mut vault = Vault::new();
    let job = vault.job(
        &["echo never"],
        &[("MY_SECRET", "production/db", "user", None)],
    );
    let job = vault.scene.run(&job);
    insta::assert_snapshot!(vault.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    == resolve_secrets
    . <K>Resolving secret "MY_SECRET"...</>
    . <K>Using "vault" secret resolver...</>
    . <K>ops/data/production/db has no field "user"; it has "key", "password", "port"</>
    . <K>Revoked 1 token of this job's secrets</>
    . <red>ERROR: Job failed (system failure): resolving secrets: secret not found: MY_SECRET</>
    "#);
    assert_eq!(job.outcome(), failed("runner_system_failure", 0));
    assert!(vault.bao.accessors().is_empty());
}

#[test]
fn s18_all_bound_claims_have_to_match() {
    let mut vault = Vault::new();
    // As the documentation has it for releases: one project, of one group, protected tags of a pattern.
    let release = json!({"bound_claims_type": "glob", "bound_claims": {
        "project_id": "42", "namespace_path": "group", "ref_protected": "true", "ref_type": "tag", "ref": "auto-deploy-*",
    }});
    vault.bao.jwt_role("jwt", "deploy", &release);
    let tag = json!({"ref_type": "tag", "ref": "auto-deploy-2026-11-22"});
    let with = |name: &str, value: &str| {
        let mut claims = tag.clone();
        claims[name] = json!(value);
        claims
    };
    let jobs = [
        ("", tag.clone()),
        ("ref", with("ref", "v1.0")),
        ("ref_protected", with("ref_protected", "false")),
        ("project_id", with("project_id", "43")),
        ("namespace_path", with("namespace_path", "group/sub")),
    ];
    for (id, (claim, claims)) in (1..).zip(&jobs) {
        vault.claims = claims.clone();
        let secret = [("MY_SECRET", "production/db", "password", None)];
        let mut job = vault.job(&["test -s $MY_SECRET && echo it is there"], &secret);
        job["id"] = json!(id);
        job["features"]["failure_reasons"] = json!(["runner_configuration_error"]);
        let job = vault.scene.run(&job);
        let text = job.text();
        if claim.is_empty() {
            assert_eq!(job.outcome(), success(), "{text}");
            continue;
        }
        assert_eq!(
            job.outcome(),
            failed("runner_configuration_error", 0),
            "{text}"
        );
        let refused = format!(
            "status code 400: error validating claims: claim \"{claim}\" does not match any associated bound claim values"
        );
        assert!(text.contains(&refused), "{text}");
        let shown = format!("claim \"{claim}\" is {}", claims[claim]);
        assert!(text.contains(&shown), "{shown}: {text}");
    }
    assert!(vault.bao.accessors().is_empty());
}

#[test]
fn a_policy_that_does_not_allow_the_path_is_the_configurations_fault() {
    let mut vault = Vault::new();
    let mut job = vault.job(
        &["echo never"],
        &[("MY_SECRET", "staging/db", "password", None)],
    );
    job["features"]["failure_reasons"] = json!(["runner_configuration_error"]);
    let job = vault.scene.run(&job);
    insta::assert_snapshot!(vault.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    == resolve_secrets
    . <K>Resolving secret "MY_SECRET"...</>
    . <K>Using "vault" secret resolver...</>
    . <K>the policies of the role must allow it: path "ops/data/staging/db" { capabilities = ["read"] }</>
    . <K>Revoked 1 token of this job's secrets</>
    . <red>ERROR: Job failed: resolving secrets: reading secret: reading from Vault: api error: status code 403: 1 error occurred: * permission denied</>
    "#);
    assert_eq!(job.outcome(), failed("runner_configuration_error", 0));
    assert!(vault.bao.accessors().is_empty());
}

#[test]
fn s01_without_secrets_nothing_is_resolved_and_without_a_provider_the_job_goes_on() {
    let mut vault = Vault::new();
    let mut job = vault.job(&["echo \"<$NOBODYS>\""], &[]);
    job["secrets"] = json!({"NOBODYS": {"akeyless": {"name": "x"}}});
    let job = vault.scene.run(&job);
    let text = job.text();
    assert!(text.contains("Resolving secret \"NOBODYS\"..."), "{text}");
    assert!(
        text.contains("WARNING: Not resolved: no resolver that can handle the secret"),
        "{text}"
    );
    assert!(text.contains("<>"), "{text}");
    assert_eq!(job.outcome(), success());
    let plain = vault.scene.job(2, &["echo plain"]);
    let plain = vault.scene.run(&plain);
    assert!(!plain.text().contains("Resolving"), "{}", plain.text());
}

#[test]
fn a_value_too_long_for_a_variable_is_a_file_or_a_named_error() {
    let mut vault = Vault::new();
    let long = "x".repeat(900_000);
    let data = json!({"long": long}).to_string();
    vault
        .bao
        .bao(&["kv", "put", "-mount=ops", "production/long", "-"], &data);
    let job = vault.job(
        &["wc -c < \"$LONG\""],
        &[("LONG", "production/long", "long", None)],
    );
    let job = vault.scene.run(&job);
    assert!(job.text().contains("900000"), "{}", job.text());
    assert_eq!(job.outcome(), success());
    let mut job = vault.job(
        &["echo never"],
        &[("LONG", "production/long", "long", Some(false))],
    );
    job["id"] = json!(2);
    let job = vault.scene.run(&job);
    let text = job.text();
    assert!(
        text.contains("resolving secrets: secret \"LONG\": its value of 900000 bytes is too long for a variable"),
        "{text}"
    );
    assert!(text.contains("let the job have it as a file"), "{text}");
}
