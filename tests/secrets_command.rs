//! `courser secrets` at a real OpenBao: each step told, no value shown, nothing left on the server.

use std::os::unix::fs::PermissionsExt as _;

use courser_testkit::server::{FakeServer, Reply};
use courser_testkit::servers::OpenBao;
use serde_json::{Value, json};

use crate::world::{Finished, World, documented, run};

const PIPELINE: &str = "\
deploy:
  id_tokens: {VAULT_ID_TOKEN: {aud: https://vault.example.com}}
  secrets:
    DB_PASSWORD: {vault: production/db/password@ops, token: $VAULT_ID_TOKEN}
    NO_FIELD: {vault: production/db/user@ops, token: $VAULT_ID_TOKEN}
    NO_RIGHT: {vault: staging/db/password@ops, token: $VAULT_ID_TOKEN}
    NOTHING: {vault: production/nothing/password@ops, token: $VAULT_ID_TOKEN}
    NO_ENGINE: {vault: {engine: {name: kv_v2, path: ops}, path: a, field: b}, token: $VAULT_ID_TOKEN}
  script: [exit 1]
plain:
  script: [exit 1]
flagged:
  variables: {ENGINE: kv-v2, FF_SECRET_RESOLVING_FAILS_IF_MISSING: 'false'}
  id_tokens: {VAULT_ID_TOKEN: {aud: https://vault.example.com}}
  secrets:
    VALUE: {vault: {engine: {name: $ENGINE, path: ops}, path: production/db, field: password}, token: $VAULT_ID_TOKEN, file: false}
    MISSING: {vault: production/nothing/password@ops, token: $VAULT_ID_TOKEN}
  script: [exit 1]
namespaced:
  variables: {VAULT_NAMESPACE: team/}
  id_tokens: {VAULT_ID_TOKEN: {aud: https://vault.example.com}}
  secrets:
    DB_PASSWORD: {vault: production/db/password@ops, token: $VAULT_ID_TOKEN}
  script: [exit 1]
everywhere:
  id_tokens: {ID_TOKEN: {aud: https://vault.example.com}}
  secrets:
    ONE: {vault: production/db/password@ops, token: $ID_TOKEN}
    TWO: {vault: production/db/user@ops, token: $ID_TOKEN}
    KEY: {gcp_secret_manager: {name: key}, token: $ID_TOKEN}
    CERT: {azure_key_vault: {name: cert}, token: $ID_TOKEN}
  script: [exit 1]
";

struct Scene {
    world: World,
    bao: OpenBao,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        world.project(PIPELINE);
        let bao = OpenBao::local();
        bao.bao(&["secrets", "enable", "-path=ops", "-version=2", "kv"], "");
        for path in ["production/db", "staging/db"] {
            let put = ["kv", "put", "-mount=ops", path, "-"];
            bao.bao(&put, r#"{"password": "open sesame 42"}"#);
        }
        bao.policy(
            "app",
            "path \"ops/data/production/*\" { capabilities = [\"read\"] }",
        );
        let scene = Self { world, bao };
        let written = run(scene
            .world
            .courser(["coordinator", "oidc", "vault", "--write"])
            .args(["--aud", "https://vault.example.com", "--policy", "app"])
            .current_dir(scene.world.path("work/project"))
            .env("VAULT_ADDR", scene.bao.url())
            .env("VAULT_TOKEN", scene.bao.root_token())
            .env("VAULT_CACERT", scene.bao.ca_file()));
        assert_eq!(written.code(), 0, "{}", written.all());
        scene
    }

    fn secrets(&self, arguments: &[&str], trusting: bool) -> Finished {
        let mut command = self.world.courser(["secrets"]);
        command
            .args(arguments)
            .current_dir(self.world.path("work/project"));
        if trusting {
            command.env("VAULT_CACERT", self.bao.ca_file());
        }
        run(&mut command)
    }

    fn of_job(&self, words: &[&str], trusting: bool) -> Finished {
        let url = format!("VAULT_SERVER_URL={}", self.bao.url());
        let variables = [
            "--variable",
            &url,
            "--variable",
            "VAULT_AUTH_ROLE=group-app",
        ];
        self.secrets(&[words, &variables].concat(), trusting)
    }
}

#[test]
fn each_secret_of_a_job_is_tried_and_the_step_that_fails_says_what_to_change() {
    let scene = Scene::new();
    let before = scene.bao.accessors();
    let checked = scene.of_job(&["check", "deploy"], true);
    assert_eq!(checked.code(), 1, "{}", checked.all());
    for text in [
        "DB_PASSWORD  (vault)",
        "✓ log in    role group-app at auth/jwt",
        "✓ claims    sub project_path:group/app:ref_type:branch:ref:main, aud https://vault.example.com",
        "✓ policy    read on ops/data/production/db",
        "✓ path      ops/data/production/db",
        "✓ field     field password, 14 bytes, as a file",
        "✗ field     field user: secret not found: NO_FIELD",
        "✗ policy    read on ops/data/staging/db: reading secret: reading from Vault: api error: status code 403",
        "✗ path      ops/data/production/nothing: secret not found: NOTHING",
        "✗ settings  engine kv_v2: ",
        "path \"ops/data/staging/db\" { capabilities = [\"read\"] }",
        "given back: 1",
    ] {
        assert!(checked.stdout.contains(text), "{text}: {}", checked.all());
    }
    assert!(!checked.all().contains("open sesame"), "{}", checked.all());
    assert_eq!(scene.bao.accessors(), before, "a token was left");

    let json = scene.of_job(&["check", "deploy", "--json"], true);
    assert_eq!(json.code(), 1, "{}", json.all());
    let report: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(report["secrets"][0]["steps"][6]["state"], "passed");
    let steps = &report["secrets"][2]["steps"];
    assert_eq!(
        (&steps[4]["step"], &steps[4]["state"]),
        (&json!("policy"), &json!("failed"))
    );
    assert_eq!(steps[5]["state"], "not_reached");
    assert_eq!(steps[2]["step"], "log_in");
    let reason = steps[4]["reason"].as_str().expect("a reason");
    assert!(reason.ends_with("permission denied"), "{reason}");
    assert_eq!(report["left"], json!([]));

    // Without the CA nothing is sent.
    let untrusted = scene.of_job(&["check", "deploy"], false);
    assert_eq!(untrusted.code(), 1, "{}", untrusted.all());
    assert!(
        untrusted.stdout.contains("✗ connect")
            && untrusted
                .stdout
                .contains("x509: certificate signed by unknown authority"),
        "{}",
        untrusted.all()
    );

    for (words, said) in [
        (&["check", "plain"][..], "\"plain\" asks for no secrets"),
        (&["check"][..], "neither a job is named nor a secret"),
    ] {
        let refused = scene.of_job(words, true);
        assert!(refused.stderr.contains(said), "{}", refused.all());
    }
}

#[test]
fn variables_that_providers_need_are_told_all_at_once() {
    let world = World::new();
    world.repository("work/project", &[(".gitlab-ci.yml", PIPELINE)]);
    let checked = run(&mut world.courser(["secrets", "check", "everywhere", "-C", "project"]));
    assert_eq!(checked.code(), 1, "{}", checked.all());
    for text in [
        "secrets_provider_not_found: secrets ONE, TWO: vault needs the CI/CD variable VAULT_SERVER_URL, ",
        "; secret KEY: gcp_secret_manager needs the CI/CD variables GCP_PROJECT_NUMBER, \
         GCP_WORKLOAD_IDENTITY_FEDERATION_POOL_ID, GCP_WORKLOAD_IDENTITY_FEDERATION_PROVIDER_ID, ",
        "; secret CERT: azure_key_vault needs the CI/CD variables AZURE_KEY_VAULT_SERVER_URL, AZURE_CLIENT_ID, AZURE_TENANT_ID, ",
        "--variable VAULT_SERVER_URL=VALUE",
    ] {
        assert!(checked.stderr.contains(text), "{text}: {}", checked.all());
    }
}

#[test]
fn flags_and_variables_of_the_job_count() {
    let scene = Scene::new();
    let checked = scene.of_job(&["check", "flagged"], true);
    assert_eq!(checked.code(), 0, "{}", checked.all());
    for text in [
        "✓ settings  engine kv-v2",
        "✓ field     field password, 14 bytes, as a variable",
        "! path      ops/data/production/nothing: secret not found: MISSING",
        "→ the job's variable is empty: FF_SECRET_RESOLVING_FAILS_IF_MISSING is false",
    ] {
        assert!(checked.stdout.contains(text), "{text}: {}", checked.all());
    }
    let elsewhere = scene.of_job(&["check", "namespaced"], true);
    assert_eq!(elsewhere.code(), 1, "{}", elsewhere.all());
    for text in [
        "✗ log in    role group-app at auth/jwt in namespace team: ",
        "VAULT_NAMESPACE",
        "- claims ",
    ] {
        assert!(
            elsewhere.stdout.contains(text),
            "{text}: {}",
            elsewhere.all()
        );
    }
}

#[test]
fn claims_that_a_role_refuses_are_compared_with_what_it_binds() {
    let scene = Scene::new();
    scene.bao.jwt_role(
        "jwt",
        "strict",
        &json!({"bound_audiences": "https://vault.example.com", "bound_claims_type": "glob", "token_policies": ["app"],
            "bound_claims": {"ref": ["release/*", "hotfix"], "project_path": "group/*", "environment": "prod"}}),
    );
    let url = format!("VAULT_SERVER_URL={}", scene.bao.url());
    let check = |json: bool| {
        let mut command = scene.world.courser(["secrets", "check", "namespaced"]);
        command
            .args([
                "--variable",
                &url,
                "--variable",
                "VAULT_AUTH_ROLE=strict",
                "--variable",
                "VAULT_NAMESPACE=",
            ])
            .args(json.then_some("--json"))
            .current_dir(scene.world.path("work/project"))
            .env("VAULT_CACERT", scene.bao.ca_file());
        command
    };
    let alone = run(&mut check(false));
    assert_eq!(alone.code(), 1, "{}", alone.all());
    for text in [
        "✓ log in    role strict at auth/jwt",
        "✗ claims    sub project_path:group/app:ref_type:branch:ref:main",
        "error validating claims: claim \"",
        "→ what the role binds is compared with the token where VAULT_ADDR is this server",
        "- policy ",
    ] {
        assert!(alone.stdout.contains(text), "{text}: {}", alone.all());
    }
    let address = scene.bao.url();
    let as_admin = |mut command: std::process::Command, address: &str, token: &str| {
        run(command.env("VAULT_ADDR", address).env("VAULT_TOKEN", token))
    };
    let compared = as_admin(check(false), &address, scene.bao.root_token());
    for text in [
        "→ bound_claims of strict wants environment to be \"prod\", the token has none",
        "→ bound_claims of strict wants ref to be \"release/*\" or \"hotfix\", the token has \"main\"",
        "→ what fits: iss, aud, project_path",
    ] {
        assert!(compared.stdout.contains(text), "{text}: {}", compared.all());
    }
    let json = as_admin(check(true), &address, scene.bao.root_token());
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let claims = &json["secrets"][0]["steps"][3];
    assert_eq!(
        (&claims["step"], &claims["state"]),
        (&json!("claims"), &json!("failed"))
    );
    assert_eq!(
        claims["advice"].as_array().map(Vec::len),
        Some(4),
        "{claims}"
    );
    let denied = as_admin(check(false), &address, "s.unknown");
    assert!(
        denied
            .stdout
            .contains("→ what the role binds is not known: ")
            && denied.stdout.contains(": 403"),
        "{}",
        denied.all()
    );
    assert!(!denied.all().contains("s.unknown"));
    // The token is for the server that VAULT_ADDR names, and for no other.
    let other = FakeServer::http(|_| Reply::status(500));
    let other_server = as_admin(check(false), &other.url(""), scene.bao.root_token());
    assert!(
        other_server
            .stdout
            .contains("→ what the role binds is compared with"),
        "{}",
        other_server.all()
    );
    assert!(other.requests().is_empty());
}

#[test]
fn one_value_is_given_out_and_its_token_is_gone() {
    let scene = Scene::new();
    let before = scene.bao.accessors();
    let got = scene.of_job(&["get", "deploy", "DB_PASSWORD"], true);
    assert_eq!(
        (got.code(), got.stdout.as_str()),
        (0, "open sesame 42"),
        "{}",
        got.all()
    );
    let file = scene.world.path("work/project/password.txt");
    let written = scene.of_job(
        &["get", "deploy", "DB_PASSWORD", "--output", "password.txt"],
        true,
    );
    assert_eq!(
        (written.code(), written.stdout.as_str()),
        (0, ""),
        "{}",
        written.all()
    );
    assert_eq!(
        std::fs::read_to_string(&file).expect("written"),
        "open sesame 42"
    );
    let mode = std::fs::metadata(&file)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = scene.of_job(
        &["get", "deploy", "DB_PASSWORD", "--output", "password.txt"],
        true,
    );
    assert_eq!(again.code(), 2, "it is not written over: {}", again.all());
    let other = scene.of_job(&["get", "deploy", "PASSWORD"], true);
    assert!(
        other
            .stderr
            .contains("it has: DB_PASSWORD, NO_FIELD, NO_RIGHT, NOTHING, NO_ENGINE"),
        "{}",
        other.all()
    );
    let missing = scene.of_job(&["get", "deploy", "NO_FIELD"], true);
    assert_eq!(missing.code(), 1);
    assert!(
        missing.stderr.contains("secret not found: NO_FIELD"),
        "{}",
        missing.all()
    );
    assert_eq!(scene.bao.accessors(), before, "a token was left");
}

#[test]
fn a_secret_and_a_token_that_no_job_has_are_looked_at() {
    let scene = Scene::new();
    scene.world.write(
        "work/project/.gitlab-ci.yml",
        "sign:\n  id_tokens: {TOKEN: {aud: https://vault.example.com}}\n  script: ['printf %s \"$TOKEN\" > \"$OUT\"']\n",
    );
    let token = scene.world.path("work/token.jwt");
    let out = format!("OUT={}", token.display());
    let signed = run(&mut scene
        .world
        .courser(["exec", "-C", "project", "--variable", &out]));
    assert_eq!(signed.code(), 0, "{}", signed.all());
    let url = scene.bao.url();
    let token_file = token.display().to_string();
    let flags = [
        "check",
        "--vault",
        "production/db/password@ops",
        "--server",
        &url,
        "--role",
        "group-app",
        "--token-file",
        &token_file,
    ];
    let checked = scene.secrets(&flags, true);
    assert_eq!(checked.code(), 0, "{}", checked.all());
    assert!(
        checked
            .stdout
            .contains("✓ field     field password, 14 bytes"),
        "{}",
        checked.all()
    );
    let ca = scene.bao.ca_file().display().to_string();
    let with_ca = scene.secrets(&[&flags[..], &["--ca-file", &ca]].concat(), false);
    assert_eq!(with_ca.code(), 0, "{}", with_ca.all());

    let explained = scene.secrets(&["explain", &token_file], false);
    assert_eq!(explained.code(), 0, "{}", explained.all());
    let signature = scene.world.read("work/token.jwt");
    let signature = signature
        .rsplit('.')
        .next()
        .expect("three parts")
        .to_owned();
    assert!(!explained.all().contains(&signature));
    for text in [
        "\"https://vault.example.com\"",
        "\"group/app\"",
        "\"RS256\"",
        "(no string: a glob never matches it)",
    ] {
        assert!(
            explained.stdout.contains(text),
            "{text}: {}",
            explained.all()
        );
    }
    let json = scene.secrets(&["explain", &token_file, "--json"], false);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["claims"]["project_path"], "group/app");
    assert_eq!(json["remarks"], json!([]));

    scene.world.write("work/none.jwt", "$TOKEN");
    let none = scene.world.path("work/none.jwt").display().to_string();
    let refused = scene.secrets(&["explain", &none], false);
    assert_eq!(refused.code(), 1, "{}", refused.all());
    assert!(
        refused.stderr.contains("a reference to a variable"),
        "{}",
        refused.all()
    );
    // A token as an argument is not shown again.
    let shown = scene.secrets(&["explain", "eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"], false);
    assert_eq!(shown.code(), 64, "{}", shown.all());
    assert!(
        shown.stderr.contains("arguments are seen by every user"),
        "{}",
        shown.all()
    );
    assert!(!shown.all().contains("c2lnbmF0dXJl"), "{}", shown.all());
}

/// The commands of `docs/secrets.md`, as they stand there, from an empty server to a green job.
#[test]
fn the_page_leads_from_an_empty_server_to_a_green_job() {
    let world = World::new();
    let bao = OpenBao::local();
    let [pipeline, _values_of_helm] = &documented("secrets.md", "yaml")[..] else {
        panic!("one pipeline");
    };
    let pipeline = pipeline.replace("https://vault.example.com:8200", &bao.url());
    world.repository("work/project", &[(".gitlab-ci.yml", &pipeline)]);
    let script = documented("secrets.md", "sh").join("\n");
    for words in [
        "bao policy write",
        "oidc vault --write",
        "secrets check",
        "courser exec",
    ] {
        assert!(script.contains(words), "{words}");
    }
    let programs = world.path("programs");
    std::fs::create_dir(&programs).expect("a directory");
    for (name, program) in [
        ("bao", OpenBao::program()),
        ("courser", env!("CARGO_BIN_EXE_courser").into()),
    ] {
        std::os::unix::fs::symlink(program, programs.join(name)).expect("a link");
    }
    let mut shell = world.program("bash");
    shell
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(world.path("work/project"))
        .env(
            "PATH",
            format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display()),
        )
        .env("VAULT_ADDR", bao.url())
        .env("VAULT_TOKEN", bao.root_token())
        .env("VAULT_CACERT", bao.ca_file());
    let ran = run(&mut shell);
    assert_eq!(ran.code(), 0, "{}", ran.all());
    for text in [
        "role app admits jobs",
        "✓ field     field password, 18 bytes, as a file",
        "Revoked 1 token of this job's secrets",
    ] {
        assert!(ran.all().contains(text), "{text}: {}", ran.all());
    }
}
