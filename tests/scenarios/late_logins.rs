//! A login for a job's secrets that is under way when the job is over: the job is not held up, and its token does not
//! stay, whatever becomes of the runner meanwhile.

use std::sync::{Arc, Condvar, Mutex};

use courser_testkit::pki::Authority;
use courser_testkit::server::{FakeServer, Reply};
use serde_json::{Value, json};

use super::scene::{Scene, failed};
use crate::wire::gitlab::Record;
use crate::world::eventually;

/// A scene with a server of secrets that answers logins when it is told to.
struct Late {
    scene: Scene,
    server: FakeServer,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Late {
    fn new() -> Self {
        let mut scene = Scene::new();
        let root = Authority::root("Vault Root").issue();
        let ca = scene.world.write("home/vault.pem", root.certificate_pem());
        scene.environment("VAULT_CACERT", ca.to_str().expect("a path in UTF-8"));
        scene.secret("token", "s.late-token");
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let held = Arc::clone(&gate);
        let server = FakeServer::https(&root.server(&["127.0.0.1"]).issue(), move |request| {
            if !request.path.ends_with("/login") {
                return Reply::status(204);
            }
            let open = held.0.lock().expect("nobody panics");
            drop(held.1.wait_while(open, |open| !*open));
            Reply::json(200, &json!({"auth": {"client_token": "s.late-token"}}))
        });
        Self {
            scene,
            server,
            gate,
        }
    }

    fn job(&mut self) -> Value {
        let mut job = self.scene.job(1, &["touch ran"]);
        job["secrets"] = json!({"MY_SECRET": {"file": true, "vault": {
            "server": {"url": self.server.url(""), "namespace": null,
                "auth": {"name": "jwt", "path": "jwt", "data": {"jwt": "a.b.c", "role": "deploy"}}},
            "engine": {"name": "kv-v2", "path": "ops"}, "path": "db", "field": "value",
        }}});
        job
    }

    /// A job that is canceled while its login is under way, and reported.
    fn canceled(&mut self) -> Record {
        let job = self.job();
        self.scene.gitlab.queue(&job);
        self.scene.runner();
        eventually("a login", || !self.server.requests().is_empty());
        self.scene
            .gitlab
            .change(1, |job| "canceling".clone_into(&mut job.status));
        let job = self.scene.gitlab.finished(1);
        assert_eq!(job.outcome(), failed("unknown_failure", 0));
        let text = job.text();
        let said = "1 request is still under way for this job's secrets: what comes of it is revoked when it comes";
        assert!(text.contains(said), "{text}");
        assert!(text.contains("ERROR: Job failed: canceled"), "{text}");
        job
    }

    fn answer(&self) {
        *self.gate.0.lock().expect("nobody panics") = true;
        self.gate.1.notify_all();
    }

    fn is_revoked(&self) -> bool {
        let requests = self.server.requests();
        requests.iter().any(|request| {
            request.path == "/v1/auth/token/revoke-self"
                && request.header("x-vault-token") == "s.late-token"
        })
    }
}

#[test]
fn its_token_is_revoked_after_the_job_was_reported() {
    let mut late = Late::new();
    late.canceled();
    assert!(!late.is_revoked());
    late.answer();
    eventually("the token is revoked", || late.is_revoked());
    late.scene
        .runner()
        .wait_for("revoked what came for a job's secrets after its end");
}

#[test]
fn a_runner_that_is_stopped_waits_for_it() {
    let mut late = Late::new();
    late.canceled();
    late.scene.runner().signal("QUIT");
    late.scene
        .runner()
        .wait_for("waiting for logins of jobs that are over");
    late.answer();
    assert_eq!(late.scene.runner_ends(), 0);
    assert!(late.is_revoked());
}

#[test]
fn a_runner_that_was_killed_says_at_its_next_start_what_it_cannot_know() {
    for is_over in [false, true] {
        let mut late = Late::new();
        if is_over {
            late.canceled();
        } else {
            let job = late.job();
            late.scene.gitlab.queue(&job);
            late.scene.runner();
            eventually("a login", || !late.server.requests().is_empty());
        }
        late.scene.runner().signal("KILL");
        assert_eq!(late.scene.runner_ends(), -1);
        late.answer();
        late.scene
            .runner()
            .wait_for("the runner ended while a login of a job at https://127.0.0.1");
        if !is_over {
            let job = late.scene.gitlab.finished(1);
            assert_eq!(job.outcome(), failed("runner_system_failure", 0));
        }
    }
}
