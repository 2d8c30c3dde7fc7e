//! What `courser secrets` has a server make is given back, also where it is interrupted or the server is slow; what may be
//! left is told. And what it asks a person's server for.

use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};

use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply, Request};
use serde_json::json;

use crate::world::{PATIENCE, Running, World, run};

const PIPELINE: &str = "\
deploy:
  id_tokens: {VAULT_ID_TOKEN: {aud: https://vault.example.com}}
  secrets:
    DB_PASSWORD: {vault: production/db/password@ops, token: $VAULT_ID_TOKEN}
  script: [exit 1]
";

const COMMANDS: [&[&str]; 2] = [&["check", "deploy"], &["get", "deploy", "DB_PASSWORD"]];

/// A project, and a server that its secret is to come from.
struct Scene {
    world: World,
    server: FakeServer,
    /// Paths of requests, when they come.
    requests: Receiver<String>,
}

impl Scene {
    fn new(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let root: Issued = Authority::root("Vault").issue();
        let leaf = root.server(&["127.0.0.1"]).issue();
        let (told, requests) = channel();
        let told = Mutex::new(told);
        let server = FakeServer::https(&leaf, move |request| {
            let told = told.lock().expect("nobody panicked");
            told.send(request.path.clone()).ok();
            drop(told);
            answer(request)
        });
        let world = World::new();
        world.repository("work/project", &[(".gitlab-ci.yml", PIPELINE)]);
        world.write("home/ca.pem", root.certificate_pem());
        Self {
            world,
            server,
            requests,
        }
    }

    fn secrets(&self, words: &[&str]) -> Command {
        let mut command = self.world.courser(["secrets"]);
        command
            .args(words)
            .arg("--variable")
            .arg(format!("VAULT_SERVER_URL={}", self.server.url("")))
            .current_dir(self.world.path("work/project"))
            .env("VAULT_CACERT", self.world.path("home/ca.pem"));
        command
    }

    fn next(&self) -> String {
        self.requests.recv_timeout(PATIENCE).expect("a request")
    }
}

/// Holds answers back until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let (open, opened) = &*self.0;
        let open = open.lock().expect("nobody panicked");
        drop(opened.wait_while(open, |open| !*open));
    }

    fn set(&self, open: bool) {
        *self.0.0.lock().expect("nobody panicked") = open;
        self.0.1.notify_all();
    }
}

fn login() -> Reply {
    let auth = json!({"client_token": "s.t", "lease_duration": 600, "token_type": "service"});
    Reply::json(200, &json!({ "auth": auth }))
}

#[test]
fn ctrl_c_gives_the_token_back_and_leaves_nothing_here() {
    let gate = Gate::default();
    let held = gate.clone();
    let scene = Scene::new(move |request| match request.path.as_str() {
        path if path.ends_with("/login") => login(),
        path if path.ends_with("/revoke-self") => Reply::status(204),
        _ => {
            held.pass();
            Reply::status(404)
        }
    });
    for words in COMMANDS {
        let mut running = Running::start(&mut scene.secrets(words));
        assert_eq!(scene.next(), "/v1/auth/jwt/login");
        assert!(scene.next().starts_with("/v1/ops/data/"));
        running.signal("INT");
        while scene.next() != "/v1/auth/token/revoke-self" {}
        assert_eq!(running.end().code(), Some(130), "{words:?}");
        let state = scene
            .world
            .program("find")
            .args([".", "-path", "*/runs/*"])
            .output();
        let state = state.expect("find").stdout;
        assert!(state.is_empty(), "{}", String::from_utf8_lossy(&state));
    }
    gate.set(true);
}

#[test]
fn a_login_that_is_answered_late_is_waited_for_and_its_token_given_back() {
    let gate = Gate::default();
    let held = gate.clone();
    let scene = Scene::new(move |request| {
        if request.path.ends_with("/login") {
            held.pass();
            return login();
        }
        Reply::status(204)
    });
    for words in COMMANDS {
        gate.set(false);
        let mut running = Running::start(&mut scene.secrets(words));
        assert_eq!(scene.next(), "/v1/auth/jwt/login");
        running.signal("INT");
        running.wait_for("waiting for an answer, to give back what it brings");
        gate.set(true);
        assert_eq!(scene.next(), "/v1/auth/token/revoke-self");
        assert_eq!(running.end().code(), Some(130), "{words:?}");
        let said = running.rest();
        assert!(!said.contains("not given back"), "{said}");
    }
    // Who asks a second time to end is told what is left.
    gate.set(false);
    let mut running = Running::start(&mut scene.secrets(COMMANDS[0]));
    assert_eq!(scene.next(), "/v1/auth/jwt/login");
    running.signal("INT");
    running.wait_for("waiting for an answer");
    running.signal("INT");
    running.wait_for("not given back: 1 request was not answered");
    assert_eq!(running.end().code(), Some(130));
    gate.set(true);
}

#[test]
fn a_login_without_an_answer_is_told_of() {
    let scene = Scene::new(|_| Reply::Close);
    for words in COMMANDS {
        let ended = run(&mut scene.secrets(words));
        assert_eq!(ended.code(), 1, "{}", ended.all());
        let host = scene.server.url("").trim_end_matches('/').to_owned();
        let text = format!("not given back: a login at {host} got no usable answer");
        assert!(ended.all().contains(&text), "{}", ended.all());
    }
}

/// The role is a pipeline's, the token a person's.
#[test]
fn a_role_leads_the_persons_token_to_no_other_path() {
    let scene = Scene::new(|request| {
        if request.path.ends_with("/login") {
            let refusal = "error validating claims: claim \"ref\" does not match any associated bound claim values";
            return Reply::json(400, &json!({"errors": [refusal]}));
        }
        Reply::json(200, &json!({"data": {}}))
    });
    for role in [
        "%2e%2e/%2e%2e/%2e%2e/database/creds/admin",
        ".%2e/.%2E/..%2f../database/creds/admin",
        "..\\..\\..\\database/creds/admin",
        ".\t./.\t./.\t./database/creds/admin",
        "../../../database/creds/admin",
        "app?list=true",
    ] {
        let checked = run(scene
            .secrets(&["check", "deploy"])
            .args(["--variable", &format!("VAULT_AUTH_ROLE={role}")])
            .env("VAULT_ADDR", scene.server.url(""))
            .env("VAULT_TOKEN", "s.person"));
        assert_eq!(checked.code(), 1, "{}", checked.all());
        let asked: Vec<String> = scene.requests.try_iter().collect();
        assert!(
            asked.contains(&"/v1/auth/jwt/config".to_owned()),
            "{asked:?}"
        );
        for path in asked {
            let stays = path.starts_with("/v1/auth/jwt/") && !path.contains("?");
            assert!(stays, "{role:?}: {path}");
        }
    }
}
