//! `secrets:` of jobs as GitLab sends them, from a real OpenBao with a TLS listener of a private CA (S1 to S26 of
//! `runner-tls.md` 18, `secrets.md` 4 and 5).

use std::net::Ipv4Addr;

use courser_testkit::id_token::Issuer;
use courser_testkit::pki::Authority;
use courser_testkit::servers::{OpenBao, Redis};
use serde_json::{Value, json};

use super::scene::{Scene, failed, success};
use crate::wire::gitlab::{Record, add};

const AUDIENCE: &str = "https://vault.example.com";

/// A scene with a server of secrets.
struct Vault {
    scene: Scene,
    bao: OpenBao,
    issuer: Issuer,
}

impl Vault {
    /// One that the runner trusts by `VAULT_CACERT`.
    fn new() -> Self {
        let mut vault = Self::untrusted();
        let ca = vault.bao.ca_file().to_str().expect("a path in UTF-8");
        vault.scene.environment("VAULT_CACERT", ca);
        vault
    }

    fn untrusted() -> Self {
        let scene = Scene::new();
        let root = Authority::root("Vault Root").issue();
        let leaf = root.server(&["127.0.0.1"]).issue();
        let bao = OpenBao::start(Ipv4Addr::LOCALHOST, &root, &leaf);
        let issuer = Issuer::new("https://gitlab.example.com");
        bao.enable_jwt("jwt", issuer.url(), &issuer.public_key_pem());
        bao.bao(&["secrets", "enable", "-path=ops", "-version=2", "kv"], "");
        let data = json!({"password": "this-is-a-password", "port": 8080, "key": "first-line-of-it\nsecond-line-of-it\n"});
        bao.bao(
            &["kv", "put", "-mount=ops", "production/db", "-"],
            &data.to_string(),
        );
        bao.policy(
            "deploy",
            "path \"ops/data/production/*\" { capabilities = [\"read\"] }\n\
             path \"database/creds/*\" { capabilities = [\"read\"] }",
        );
        bao.jwt_role(
            "jwt",
            "deploy",
            &json!({"bound_claims": {"project_id": "42"}}),
        );
        Self { scene, bao, issuer }
    }

    /// A job with these secrets, each the path in `ops`, its field and whether it is a file.
    fn job(&mut self, script: &[&str], secrets: &[(&str, &str, &str, Option<bool>)]) -> Value {
        let job = self.scene.job(1, script);
        let token = self.issuer.token(AUDIENCE);
        self.scene.secret("the ID token", &token);
        let token = json!({"key": "VAULT_ID_TOKEN", "value": token, "masked": true, "public": false, "file": false});
        let mut job = add(job, "variables", token);
        let mut all = serde_json::Map::new();
        for (name, path, field, file) in secrets {
            all.insert((*name).to_owned(), self.secret(path, field, *file));
        }
        job["secrets"] = Value::Object(all);
        job
    }

    fn secret(&self, path: &str, field: &str, file: Option<bool>) -> Value {
        json!({
            "vault": {
                "server": {"url": self.bao.url(), "namespace": null, "auth": {"name": "jwt", "path": "jwt",
                    "data": {"jwt": "$VAULT_ID_TOKEN", "role": "deploy"}}},
                "engine": {"name": "kv-v2", "path": "ops"}, "path": path, "field": field,
            },
            "file": file, "token": "$VAULT_ID_TOKEN",
        })
    }

    /// The log, without what differs from server to server.
    fn log(&self, job: &Record) -> String {
        self.scene.log(job).replace(&self.bao.url(), "<vault>")
    }
}

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
    // S24: a variable of the job has no effect.
    let ca = json!({"key": "VAULT_CACERT", "value": vault.bao.ca_file(), "public": true});
    let job = vault.job(
        &["echo never"],
        &[("MY_SECRET", "production/db", "password", None)],
    );
    let job = add(job, "variables", ca);
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
fn s18_a_claim_that_is_not_bound_is_the_configurations_fault() {
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

/// What is on the server while a job's script runs, and what is there when it has ended that way.
fn revoked_when(end: impl FnOnce(&mut Vault), timeout: u64, script: &str) -> (Record, Vec<String>) {
    let mut vault = Vault::new();
    let redis = Redis::start(Ipv4Addr::LOCALHOST);
    redis.serve_users(&vault.bao);
    let script = format!("echo started; {script}");
    let mut job = vault.job(
        &[&script],
        &[("MY_SECRET", "production/db", "password", Some(false))],
    );
    for field in ["username", "password"] {
        let mut secret = vault.secret("creds/job", field, Some(false));
        secret["vault"]["engine"] = json!({"name": "generic", "path": "database"});
        job["secrets"][format!("DB_{field}")] = secret;
    }
    job["runner_info"]["timeout"] = json!(timeout);
    vault.scene.gitlab.queue(&job);
    vault.scene.runner();
    vault
        .scene
        .gitlab
        .wait(1, |job| shows(job, "O started") || job.end.is_some());
    let before = vault.bao.accessors();
    assert!(before.len() <= 1, "{before:?}");
    end(&mut vault);
    let job = vault.scene.gitlab.finished(1);
    let leases = |vault: &Vault| vault.bao.leases("database/creds/job");
    // A runner that was killed revokes beside the jobs that it tells of.
    let deadline = std::time::Instant::now() + crate::world::PATIENCE;
    while !(vault.bao.accessors().is_empty() && leases(&vault).is_empty())
        && std::time::Instant::now() < deadline
    {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let left = [vault.bao.accessors(), leases(&vault)].concat();
    (job, left)
}

#[test]
fn tokens_end_with_a_job_whose_script_fails() {
    let (job, left) = revoked_when(|_| (), 3600, "exit 3");
    assert_eq!(job.outcome(), failed("script_failure", 3));
    assert_eq!(left, [""; 0]);
    assert!(
        job.text()
            .contains("Revoked 1 token and 1 lease of this job's secrets")
    );
}

#[test]
fn tokens_end_with_a_job_that_is_canceled() {
    let cancel = |vault: &mut Vault| {
        vault
            .scene
            .gitlab
            .change(1, |job| "canceling".clone_into(&mut job.status));
    };
    let (job, left) = revoked_when(cancel, 3600, "sleep 60");
    assert_eq!(job.outcome(), failed("unknown_failure", 0));
    assert_eq!(left, [""; 0]);
    assert!(
        job.text()
            .contains("Revoked 1 token and 1 lease of this job's secrets")
    );
}

#[test]
fn tokens_end_with_a_job_that_takes_too_long() {
    let (job, left) = revoked_when(|_| (), 2, "sleep 60");
    assert_eq!(job.outcome(), failed("job_execution_timeout", 0));
    assert_eq!(left, [""; 0]);
    assert!(
        job.text()
            .contains("Revoked 1 token and 1 lease of this job's secrets")
    );
}

#[test]
fn tokens_of_a_runner_that_is_killed_end_at_its_next_start() {
    let kill = |vault: &mut Vault| {
        assert_eq!(
            vault.bao.accessors().len(),
            1,
            "the job runs, and its token lives"
        );
        assert_eq!(vault.bao.leases("database/creds/job").len(), 1);
        vault.scene.runner().signal("KILL");
        assert_eq!(vault.scene.runner_ends(), -1);
        assert_eq!(vault.bao.accessors().len(), 1);
        vault.scene.runner();
    };
    let (job, left) = revoked_when(kill, 3600, "sleep 60");
    assert_eq!(job.outcome(), failed("runner_system_failure", 0));
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_cancel_while_secrets_are_resolved_starts_no_script() {
    let mut vault = Vault::new();
    // A server that never answers: it takes connections and says nothing.
    let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let mut job = vault.job(
        &["touch ran"],
        &[("MY_SECRET", "production/db", "password", None)],
    );
    job["secrets"]["MY_SECRET"]["vault"]["server"]["url"] = json!(url);
    vault.scene.gitlab.queue(&job);
    vault.scene.runner();
    vault
        .scene
        .gitlab
        .wait(1, |job| shows(job, "secret resolver"));
    vault
        .scene
        .gitlab
        .change(1, |job| "canceling".clone_into(&mut job.status));
    let job = vault.scene.gitlab.finished(1);
    assert_eq!(job.outcome(), failed("unknown_failure", 0));
    let text = job.text();
    assert!(text.contains("ERROR: Job failed: canceled"), "{text}");
    assert!(
        !text.contains("Preparing") && !text.contains("touch"),
        "{text}"
    );
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

fn shows(job: &Record, text: &str) -> bool {
    String::from_utf8_lossy(&job.log).contains(text)
}
