//! `courser exec` of a pipeline with `id_tokens:` and `secrets:` against a real OpenBao: what the two commands of
//! `courser coordinator oidc vault --write` and `courser exec` make of it (S3 to S6, S8 to S14, S17, S26).

use courser_testkit::servers::OpenBao;
use serde_json::{Value, json};

use crate::world::{Finished, World, run};

const PIPELINE: &str = "\
default:
  id_tokens: {VAULT_ID_TOKEN: {aud: https://vault.example.com}}
short:
  secrets:
    DB_PASSWORD: {vault: production/db/password@ops, file: false, token: $VAULT_ID_TOKEN}
    DB_FILE: {vault: production/db/password@ops, token: $VAULT_ID_TOKEN}
    OF_DEFAULT_ENGINE: {vault: some/where/field, file: false}
    ARTIFACTORY: {vault: {engine: {name: generic, path: artifactory}, path: production/jfrog, field: access_token}, file: false}
    OLD: {vault: {engine: {name: kv-v1, path: legacy}, path: app, field: token}, file: false}
  script:
    - test \"$DB_PASSWORD\" = \"$(cat \"$DB_FILE\")\" && echo same
    - test \"${#DB_PASSWORD} ${#OF_DEFAULT_ENGINE} ${#ARTIFACTORY} ${#OLD}\" = \"18 5 4 3\" && echo lengths
    - echo \"the password is $DB_PASSWORD\"
without:
  script: test -z \"$DB_PASSWORD$DB_FILE\" && echo none
";

#[test]
fn s03_s04_s05_s06_s08_to_s14_s17_s26_secrets_of_a_local_pipeline_come_from_a_real_server() {
    let world = World::new();
    world.project(PIPELINE);
    let bao = OpenBao::local();
    for (mount, version) in [
        ("ops", "2"),
        ("kv-v2", "2"),
        ("legacy", "1"),
        ("artifactory", "1"),
    ] {
        let path = format!("-path={mount}");
        bao.bao(
            &[
                "secrets",
                "enable",
                &path,
                &format!("-version={version}"),
                "kv",
            ],
            "",
        );
    }
    bao.bao(
        &[
            "kv",
            "put",
            "-mount=ops",
            "production/db",
            "password=this-is-a-password",
        ],
        "",
    );
    bao.bao(
        &["kv", "put", "-mount=kv-v2", "some/where", "field=valve"],
        "",
    );
    bao.bao(&["kv", "put", "-mount=legacy", "app", "token=abc"], "");
    bao.bao(
        &["write", "artifactory/production/jfrog", "access_token=abcd"],
        "",
    );
    // S26: the documented cross-check of the short form.
    let checked = bao.bao(
        &[
            "kv",
            "get",
            "-field=password",
            "-mount=ops",
            "production/db",
        ],
        "",
    );
    assert_eq!(checked.trim(), "this-is-a-password");
    bao.policy(
        "app",
        "path \"ops/data/production/*\" { capabilities = [\"read\"] }\n\
         path \"kv-v2/data/*\" { capabilities = [\"read\"] }\n\
         path \"legacy/*\" { capabilities = [\"read\"] }\n\
         path \"artifactory/production/*\" { capabilities = [\"read\"] }",
    );
    let oidc = [
        "coordinator",
        "oidc",
        "vault",
        "--write",
        "--policy",
        "app",
        "--aud",
        "https://vault.example.com",
    ];
    let written = run(world
        .courser(oidc)
        .current_dir(world.path("work/project"))
        .env("VAULT_ADDR", bao.url())
        .env("VAULT_TOKEN", bao.root_token())
        .env("VAULT_CACERT", bao.ca_file()));
    assert_eq!(written.code(), 0, "{}", written.all());
    let exec = |more: &[&str]| -> Finished {
        let mut command = world.courser(["exec", "-C", "project"]);
        let server = format!("VAULT_SERVER_URL={}", bao.url());
        command
            .args(["--variable", &server])
            .args(more)
            .env("VAULT_CACERT", bao.ca_file());
        run(&mut command)
    };
    let role = ["--variable", "VAULT_AUTH_ROLE=group-app"];
    let done = exec(&role);
    assert_eq!(done.code(), 0, "{}", done.all());
    for line in ["same", "lengths", "the password is [MASKED]", "none"] {
        assert!(done.stdout.contains(line), "{line}: {}", done.all());
    }
    assert!(!done.all().contains("this-is-a-password"), "{}", done.all());
    assert_eq!(bao.accessors(), [""; 0]);
    // S10: without a role the server's default counts, and there is none.
    let failed = exec(&[]);
    assert_eq!(failed.code(), 1, "{}", failed.all());
    assert!(
        failed
            .stdout
            .contains("api error: status code 400: missing role"),
        "{}",
        failed.all()
    );
    // With one on the server it is that role's policies that count.
    let config = bao.bao(&["read", "-format=json", "auth/jwt/config"], "");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    let config = json!({
        "jwt_validation_pubkeys": config["data"]["jwt_validation_pubkeys"],
        "bound_issuer": config["data"]["bound_issuer"], "default_role": "group-app",
    });
    bao.bao(&["write", "auth/jwt/config", "-"], &config.to_string());
    let done = exec(&[]);
    assert_eq!(done.code(), 0, "S10: {}", done.all());
    let refused = exec(&[
        "--variable",
        "VAULT_AUTH_ROLE=group-app",
        "--variable",
        "VAULT_AUTH_PATH=none",
    ]);
    assert!(
        refused
            .stdout
            .contains("is an auth method enabled at auth/none?"),
        "S11: {}",
        refused.all()
    );
}
