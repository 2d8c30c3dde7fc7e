//! ID tokens of `exec` and `coordinator serve` at a real OpenBao, made ready by `courser coordinator oidc vault --write`.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use courser_testkit::server::{FakeServer, Reply};
use courser_testkit::servers::OpenBao;
use serde_json::{Value, json};

use crate::coordinator_serve::{Certificate, serve};
use crate::world::{Finished, Running, World, eventually, run};

/// Prints its token into a file, says so, and waits to be let go.
const PIPELINE: &str = "\
sign:
  id_tokens: {TOKEN: {aud: https://vault.example.com}}
  script:
    - echo \"my token is $TOKEN\"
    - printf %s \"$TOKEN\" > \"$OUT/token\" && mv \"$OUT/token\" \"$OUT/$NAME.jwt\"
    - until [ -e \"$OUT/go\" ]; do sleep 0.02; done
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
        Self { world, bao }
    }

    /// `courser coordinator oidc …` in the project, with OpenBao as the server to write to.
    fn oidc(&self, arguments: &[&str]) -> Finished {
        let arguments = ["coordinator", "oidc"].iter().chain(arguments);
        run(self
            .world
            .courser(arguments)
            .current_dir(self.world.path("work/project"))
            .env("VAULT_ADDR", self.bao.url())
            .env("VAULT_TOKEN", self.bao.root_token())
            .env("VAULT_CACERT", self.bao.ca_file()))
    }

    fn write(&self, arguments: &[&str]) -> Finished {
        let fixed = ["vault", "--write", "--aud", "https://vault.example.com"];
        self.oidc(&[&fixed[..], arguments].concat())
    }

    fn exec(&self, name: &str, options: &[&str]) -> Command {
        let mut command = self.world.courser(["exec", "-C", "project"]);
        command.args(options).arg("--variable");
        command.arg(format!("OUT={}", self.world.path("work").display()));
        command.arg("--variable").arg(format!("NAME={name}"));
        command
    }

    /// Runs the pipeline to its end, and gives its token.
    fn token(&self, name: &str, options: &[&str]) -> String {
        self.world.write("work/go", "");
        let ended = run(&mut self.exec(name, options));
        assert_eq!(ended.code(), 0, "{}", ended.all());
        let token = self.world.read(&format!("work/{name}.jwt"));
        assert!(
            ended.stdout.contains("my token is [MASKED]"),
            "{}",
            ended.all()
        );
        assert!(!ended.all().contains(&token));
        token
    }

    fn log_in(&self, mount: &str, token: &str) -> Result<Value, String> {
        let path = format!("auth/{mount}/login");
        let given = json!({"role": "group-app", "jwt": token}).to_string();
        let answer = self
            .bao
            .try_bao(&["write", "-format=json", &path, "-"], &given)?;
        Ok(serde_json::from_str(&answer).expect("JSON"))
    }
}

#[test]
fn a_vault_that_was_given_the_key_admits_this_project_only() {
    let scene = Scene::new();
    let written = scene.write(&["--policy", "app"]);
    assert_eq!(written.code(), 0, "{}", written.all());
    assert!(
        written
            .stdout
            .contains("auth/jwt trusts https://courser.localhost"),
        "{}",
        written.all()
    );
    let token = scene.token("first", &[]);
    let answer = scene.log_in("jwt", &token).expect("admitted");
    assert_eq!(answer["auth"]["token_policies"], json!(["app", "default"]));
    // The same key in another process and run.
    scene
        .log_in("jwt", &scene.token("second", &[]))
        .expect("admitted");

    let claimed = scene.token("other", &["--oidc-claim", "project_path=group/other"]);
    let refused = scene.log_in("jwt", &claimed).expect_err("another project");
    assert!(refused.contains("project_path"), "{refused}");
    let elsewhere = scene.token("elsewhere", &["--oidc-issuer", "https://other.localhost"]);
    let refused = scene.log_in("jwt", &elsewhere).expect_err("another issuer");
    assert!(refused.contains("invalid issuer (iss) claim"), "{refused}");

    // What others have is left alone.
    let refused = scene.write(&["--oidc-issuer", "https://other.localhost"]);
    assert_eq!(refused.code(), 2, "{}", refused.all());
    assert!(
        refused
            .stderr
            .contains("trusts another issuer, https://courser.localhost"),
        "{}",
        refused.all()
    );
    assert!(
        refused.stderr.contains("--mount courser"),
        "{}",
        refused.all()
    );
}

#[test]
fn what_a_vault_has_of_this_issuer_is_added_to_and_of_others_left_alone() {
    let scene = Scene::new();
    let config = |mount: &str| {
        let read = scene.bao.bao(
            &["read", "-format=json", &format!("auth/{mount}/config")],
            "",
        );
        serde_json::from_str::<Value>(&read).expect("JSON")["data"].clone()
    };
    let keys = || {
        config("jwt")["jwt_validation_pubkeys"]
            .as_array()
            .map(Vec::len)
    };
    let pem = scene.oidc(&["keys", "--pem"]).stdout;

    // A colleague's key for the same default issuer, and settings that are nobody's here.
    let colleague = run(scene
        .world
        .courser(["coordinator", "oidc", "keys", "--pem"])
        .current_dir(scene.world.path("work/project"))
        .env("XDG_STATE_HOME", scene.world.path("colleague")))
    .stdout;
    assert_ne!(colleague, pem);
    scene.bao.bao(&["auth", "enable", "jwt"], "");
    let theirs = json!({
        "bound_issuer": "https://courser.localhost", "jwt_validation_pubkeys": [colleague],
        "default_role": "theirs",
    });
    scene
        .bao
        .bao(&["write", "auth/jwt/config", "-"], &theirs.to_string());
    let written = scene.write(&["--policy", "app", "--bind", "ref=main"]);
    assert_eq!(written.code(), 0, "{}", written.all());
    assert_eq!(keys(), Some(2));
    assert_eq!(config("jwt")["default_role"], "theirs");
    assert!(
        written
            .stdout
            .contains("group/app with aud https://vault.example.com and ref=main; policies app"),
        "{}",
        written.all()
    );
    // The same again, with fewer words, takes nothing away.
    let written = scene.write(&[]);
    assert_eq!(written.code(), 0, "{}", written.all());
    assert!(
        written
            .stdout
            .contains("and ref=main; policies app (it was there"),
        "{}",
        written.all()
    );
    assert!(
        !written.stdout.contains("no policy yet"),
        "{}",
        written.all()
    );
    assert_eq!(keys(), Some(2));
    let written = scene.write(&["--replace-keys", "--mount", "/jwt/"]);
    assert_eq!(written.code(), 0, "{}", written.all());
    assert_eq!(keys(), Some(1));

    // Methods of others.
    for (mount, found) in [
        ("static", json!({"jwt_validation_pubkeys": [pem]})),
        (
            "refused",
            json!({"bound_issuer": "https://other.localhost", "jwt_validation_pubkeys": [pem]}),
        ),
    ] {
        scene
            .bao
            .bao(&["auth", "enable", &format!("-path={mount}"), "jwt"], "");
        let place = format!("auth/{mount}/config");
        scene.bao.bao(&["write", &place, "-"], &found.to_string());
        let before = config(mount);
        let refused = scene.write(&["--mount", mount]);
        assert_eq!(refused.code(), 2, "{}", refused.all());
        assert!(
            refused.stderr.contains("--mount courser"),
            "{}",
            refused.all()
        );
        assert_eq!(config(mount), before);
    }
    // A role of others is found before anything is written.
    let role = json!({"role_type": "jwt", "user_claim": "sub", "bound_audiences": "a"});
    scene
        .bao
        .bao(&["write", "auth/jwt/role/theirs", "-"], &role.to_string());
    let before = config("jwt");
    let refused = scene.write(&["--role", "theirs", "--oidc-claim", "project_id=1"]);
    assert_eq!(refused.code(), 2, "{}", refused.all());
    assert_eq!(config("jwt"), before);
    // A method that could not be configured is not left behind: nobody publishes the keys there.
    let nowhere = [
        "--oidc-listen",
        "127.0.0.1:0",
        "--oidc-issuer",
        "https://localhost:1",
    ];
    let refused = scene.write(&[&["--mount", "gone"][..], &nowhere].concat());
    assert_ne!(refused.code(), 0, "{}", refused.all());
    assert!(
        refused
            .stderr
            .contains("fetches the keys from https://localhost:1, "),
        "{}",
        refused.all()
    );
    // Of an address that something else has, it is not said that the keys were published there.
    let other = FakeServer::http(|_| Reply::status(500));
    let url = other.url("");
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let refused = scene.write(&["--mount", "gone", "--oidc-listen", address]);
    assert_ne!(refused.code(), 0, "{}", refused.all());
    let taken = format!("{address} was taken, so that this command published nothing there");
    assert!(refused.stderr.contains(&taken), "{}", refused.all());
    assert!(!refused.stderr.contains("which was published"));
    let methods = scene.bao.bao(&["auth", "list"], "");
    assert!(!methods.contains("gone/"), "{methods}");

    let refused = scene.write(&["--bind", "project_path=group/other"]);
    assert!(refused.stderr.contains("always bound"), "{}", refused.all());
    // After a rotation what is printed has both keys.
    let rotated = scene.oidc(&["rotate"]);
    assert!(
        rotated.stdout.contains("given them again"),
        "{}",
        rotated.all()
    );
    let printed = scene.oidc(&["vault", "--role", "a;b"]).stdout;
    assert_eq!(printed.matches("BEGIN PUBLIC KEY").count(), 2, "{printed}");
    assert!(
        printed.contains("vault write 'auth/jwt/role/a;b' - <<"),
        "{printed}"
    );
}

#[test]
fn a_vault_that_fetches_the_keys_follows_a_rotation() {
    let scene = Scene::new();
    // A port that is free now; nobody else of this machine's tests is given it again at once.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let listen = ["--oidc-listen", &address];
    // OpenBao asks the issuer now, with the certificate it is told of: no job runs, the command answers itself.
    let write = || scene.write(&[&listen[..], &["--mount", "disc"]].concat());
    let written = write();
    assert_eq!(written.code(), 0, "{}", written.all());
    let told = format!("and asks it for the keys: run with --oidc-listen {address}");
    assert!(written.stdout.contains(&told), "{}", written.all());
    let mut running = Running::start(&mut scene.exec("first", &listen));
    let token = scene.world.path("work/first.jwt");
    eventually("the job has its token", || token.exists());
    // And again beside a job, which answers.
    let written = write();
    assert_eq!(written.code(), 0, "{}", written.all());
    scene
        .log_in("disc", &scene.world.read("work/first.jwt"))
        .expect("admitted");
    // The same by the URL of the key set.
    let port = address.rsplit(':').next().expect("a port");
    let authority = scene.world.read("state/courser/oidc/localhost.crt");
    let config = json!({
        "jwks_url": format!("https://localhost:{port}/oauth/discovery/keys"), "jwks_ca_pem": authority,
        "bound_issuer": format!("https://localhost:{port}"),
    });
    scene.bao.bao(&["auth", "enable", "-path=jwks", "jwt"], "");
    let place = ["write", "auth/jwks/config", "-"];
    scene.bao.bao(&place, &config.to_string());
    scene.bao.jwt_role(
        "jwks",
        "group-app",
        &json!({"user_claim": "project_path", "bound_claims": {"project_path": "group/app"}}),
    );
    scene
        .log_in("jwks", &scene.world.read("work/first.jwt"))
        .expect("admitted");
    scene.world.write("work/go", "");
    assert!(running.end().success());

    let rotated = scene.oidc(&["rotate"]);
    assert_eq!(rotated.code(), 0, "{}", rotated.all());
    let keys = scene.oidc(&["keys"]);
    let keys: Value = serde_json::from_str(&keys.stdout).expect("a key set");
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2));
    std::fs::remove_file(scene.world.path("work/go")).expect("taken back");
    let mut running = Running::start(&mut scene.exec("second", &listen));
    let token = scene.world.path("work/second.jwt");
    eventually("the job has its token", || token.exists());
    for name in ["work/second.jwt", "work/first.jwt"] {
        for mount in ["disc", "jwks"] {
            scene
                .log_in(mount, &scene.world.read(name))
                .expect("admitted");
        }
    }
    scene.world.write("work/go", "");
    assert!(running.end().success());
}

#[test]
fn a_coordinator_is_an_issuer_over_its_own_https() {
    let scene = Scene::new();
    let (_server, address, _) = serve(&scene.world, Certificate::Generated, "127.0.0.1:0");
    let state = scene.world.path("state/coordinator").display().to_string();
    // OpenBao fetches the discovery document and compares its issuer when it is told.
    let written = scene.write(&["--state", &state]);
    assert_eq!(written.code(), 0, "{}", written.all());
    assert!(
        written
            .stdout
            .contains(&format!("auth/jwt trusts https://{address}")),
        "{}",
        written.all()
    );
    let left = scene.world.path("state/coordinator/oidc/issuer.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &left.metadata().expect("what it left").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let shown = scene.oidc(&["show", "--json", "--state", &state]);
    let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!(shown["issuer"], format!("https://{address}"));
    assert_eq!(shown["claims"]["project_path"], "group/app");
    assert_eq!(shown["claims"]["runner_id"], 1);
}

#[test]
fn samples_of_a_coordinator_have_the_projects_number() {
    let world = World::new();
    for name in ["one", "two", "other"] {
        let path = format!("work/{name}");
        world.repository(&path, &[(".gitlab-ci.yml", PIPELINE)]);
        let url = format!("https://gitlab.example.com/group/{name}.git");
        world.git(&path, &["remote", "add", "origin", &url]);
    }
    let mut serving = world.courser(["coordinator", "serve", "--listen", "127.0.0.1:0"]);
    let mut serving = Running::start(
        serving
            .args([
                "--repository",
                "one",
                "--repository",
                "two",
                "--state",
                "state",
            ])
            .current_dir(world.path("work")),
    );
    let left = world.path("work/state/oidc/issuer.json");
    eventually("the issuer is known", || left.exists());
    // One that it does not serve has a number that nobody knows.
    for (name, number) in [("two", "2"), ("other", "THE-PROJECT'S-ID")] {
        let shown = run(world
            .courser(["coordinator", "oidc", "show", "--json"])
            .args(["--state", "../state", "--oidc-sub", "project_id,ref"])
            .current_dir(world.path(&format!("work/{name}"))));
        let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
        assert_eq!(shown["claims"]["project_id"], number);
        let subject = format!("project_id:{number}:ref:main");
        assert_eq!(shown["claims"]["sub"], subject);
    }
    serving.signal("INT");
    serving.end();
}

#[test]
fn two_repositories_of_the_same_project_are_not_served() {
    let world = World::new();
    for name in ["one", "two"] {
        let path = format!("work/{name}");
        world.repository(&path, &[(".gitlab-ci.yml", PIPELINE)]);
        let url = "https://gitlab.example.com/group/app.git";
        world.git(&path, &["remote", "add", "origin", url]);
    }
    let refused = run(world
        .courser(["coordinator", "serve", "--listen", "127.0.0.1:0"])
        .args(["--repository", "one", "--repository", "two"])
        .current_dir(world.path("work")));
    assert_eq!(refused.code(), 1, "{}", refused.all());
    let told = "--repository one and --repository two are both group/app";
    assert!(refused.stderr.contains(told), "{}", refused.all());
}

#[test]
fn the_example_reads_its_secrets_and_leaves_no_token_behind() {
    let scene = Scene::new();
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/vault/.gitlab-ci.yml"
    );
    let example = std::fs::read_to_string(example).expect("the example");
    scene.world.write("work/project/.gitlab-ci.yml", example);
    let secret = json!({"password": "this-is-a-password", "ca": "-----BEGIN CERTIFICATE-----"});
    scene
        .bao
        .bao(&["secrets", "enable", "-path=ops", "-version=2", "kv"], "");
    scene.bao.bao(
        &["kv", "put", "-mount=ops", "production/db", "-"],
        &secret.to_string(),
    );
    let rule = "path \"ops/data/production/*\" { capabilities = [\"read\"] }";
    scene.bao.policy("example", rule);
    let written = scene.write(&["--role", "example", "--policy", "example"]);
    assert_eq!(written.code(), 0, "{}", written.all());
    let exec = |server: &str| {
        run(scene
            .world
            .courser(["exec", "-C", "project", "--variable"])
            .arg(format!("VAULT_SERVER_URL={server}"))
            .env("VAULT_CACERT", scene.bao.ca_file()))
    };
    let ended = exec(&scene.bao.url());
    assert_eq!(ended.code(), 0, "{}", ended.all());
    assert!(
        ended.stdout.contains("the password is [MASKED]"),
        "{}",
        ended.all()
    );
    assert!(!ended.all().contains("this-is-a-password"));
    assert_eq!(scene.bao.accessors(), [""; 0]);

    // Nobody says where the Vault is: no runner sees the job.
    let ended = exec("");
    assert_eq!(ended.code(), 1, "{}", ended.all());
    let told =
        "secrets DATABASE_PASSWORD, DATABASE_CA: vault needs the CI/CD variable VAULT_SERVER_URL";
    assert!(ended.stdout.contains(told), "{}", ended.all());
    assert!(
        !ended.stdout.contains("Resolving secrets"),
        "{}",
        ended.all()
    );
}

#[test]
fn the_project_is_the_one_that_exec_runs() {
    let world = World::new();
    world.repository(
        "work/whole",
        &[(
            "part/.gitlab-ci.yml",
            "show: {script: [echo path=$CI_PROJECT_PATH]}\n",
        )],
    );
    let part = world.path("work/whole/part");
    let shown = run(world
        .courser(["coordinator", "oidc", "show", "--json"])
        .current_dir(&part));
    let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    let ran = run(world.courser(["exec"]).current_dir(&part));
    let path = shown["claims"]["project_path"].as_str().expect("a path");
    assert!(
        ran.stdout.contains(&format!("path={path}")),
        "{path}: {}",
        ran.all()
    );
}

/// The claims of the token in a file.
fn claims(world: &World, file: &str) -> Value {
    let explained = run(&mut world.courser(["secrets", "explain", "--json", file]));
    let explained: Value = serde_json::from_str(&explained.stdout).expect("JSON");
    explained["claims"].clone()
}

#[test]
fn claims_tell_the_file_of_a_pipeline_and_nothing_of_that_of_a_child() {
    let world = World::new();
    let out = world.path("work").display().to_string();
    let main = format!(
        "variables: {{OUT: '{out}'}}\nsign:\n  id_tokens: {{TOKEN: {{aud: a}}}}\n  script: ['printf %s \"$TOKEN\" > \
         \"$OUT/parent.jwt\"']\nchild:\n  trigger: {{include: [{{local: ci/child.yml}}], strategy: depend}}\n"
    );
    let child = "sign:\n  id_tokens: {TOKEN: {aud: [a]}}\n  environment: production\n  script: ['printf %s \"$TOKEN\" > \
                 \"$OUT/child.jwt\"']\n";
    world.repository(
        "work/project",
        &[("ci/main.yml", &main), ("ci/child.yml", child)],
    );
    let url = "https://gitlab.example.com/group/app.git";
    world.git("work/project", &["remote", "add", "origin", url]);
    let ended = run(&mut world.courser(["exec", "-C", "project", "--file", "project/ci/main.yml"]));
    assert_eq!(ended.code(), 0, "{}", ended.all());
    let [parent, child] =
        ["parent", "child"].map(|name| claims(&world, &format!("{out}/{name}.jwt")));
    let of_file = "gitlab.example.com/group/app//ci/main.yml@refs/heads/main";
    assert_eq!(parent["ci_config_ref_uri"], of_file);
    assert_eq!(parent["ci_config_sha"], parent["sha"]);
    assert_eq!(
        (&parent["aud"], &child["aud"]),
        (&json!("a"), &json!(["a"]))
    );
    assert_eq!(parent["pipeline_source"], "push");
    assert_eq!(child["pipeline_source"], "parent_pipeline");
    for name in ["ci_config_ref_uri", "ci_config_sha"] {
        assert!(child.get(name).is_none(), "{name}: {child}");
    }
    for name in [
        "iss",
        "sub",
        "project_id",
        "project_path",
        "ref",
        "ref_protected",
        "sha",
        "user_email",
    ] {
        assert_eq!(parent[name], child[name], "{name}");
    }
    assert_ne!(parent["pipeline_id"], child["pipeline_id"]);
    assert_eq!(
        (&child["environment"], &child["deployment_tier"]),
        (&json!("production"), &json!("production"))
    );
    assert!(parent.get("environment").is_none());

    // A branch that is the default one by guess only is not protected.
    world.git("work/project", &["branch", "-m", "main", "side"]);
    let ended = run(&mut world.courser([
        "exec",
        "-C",
        "project",
        "--file",
        "project/ci/main.yml",
        "sign",
    ]));
    assert_eq!(ended.code(), 0, "{}", ended.all());
    let side = claims(&world, &format!("{out}/parent.jwt"));
    assert_eq!(
        (&side["ref"], &side["ref_protected"]),
        (&json!("side"), &json!("false"))
    );
    assert_eq!(parent["ref_protected"], "true");
}
