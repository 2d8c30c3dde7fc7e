//! Requests that are under way when a job is given up, and further attempts: nothing that a server made is lost or made
//! twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use courser_secrets::{Leases, Step, Surroundings, resolve};
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply, Request};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::scene::{Told, request, resolved, secret_at, surroundings};

/// Holds answers back until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let (open, opened) = &*self.0;
        let open = open.lock().expect("nobody panics");
        drop(opened.wait_while(open, |open| !*open));
    }

    fn open(&self) {
        *self.0.0.lock().expect("nobody panics") = true;
        self.0.1.notify_all();
    }
}

fn trusting(root: &Issued) -> Surroundings {
    let root = root.certificate_pem();
    surroundings(&[("VAULT_CACERT_BYTES", root.as_str())])
}

fn is_login(request: &Request) -> bool {
    request.path.ends_with("/login")
}

fn login() -> Reply {
    Reply::json(200, &json!({"auth": {"client_token": "s.late"}}))
}

fn dynamic() -> Reply {
    Reply::json(200, &json!({"lease_id": "creds/7", "data": {"value": "d"}}))
}

/// Resolves until the server has been asked so often, and gives up then.
async fn given_up(
    secret: Value,
    server: &FakeServer,
    root: &Issued,
    after: usize,
    leases: &Leases,
) {
    let (request, surroundings) = (request(json!({"A": secret})), trusting(root));
    let stop = CancellationToken::new();
    let stopping = async {
        while server.requests().len() < after {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
    };
    let resolving = resolve(&request, &surroundings, leases, &stop, &|_| {});
    // The server does not answer before this is over.
    let (result, ()) = tokio::join!(resolving, stopping);
    assert_eq!(result.unwrap_err().to_string(), "canceled");
    assert!(!leases.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_under_way_is_written_down_waited_for_and_revoked() {
    let root = Authority::root("Vault Root").issue();
    let gate = Gate::default();
    let held = gate.clone();
    let server = FakeServer::https(&root.server(&["127.0.0.1"]).issue(), move |request| {
        if is_login(request) {
            held.pass();
            return login();
        }
        Reply::status(204)
    });
    let journal = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&journal);
    let leases = Leases::journaled(move |account| {
        let line = (account.obtained.len(), account.logins.to_vec());
        written.lock().expect("nobody panics").push(line);
    });
    let url = server.url("").replace("https://", "https://me:hunter2@");
    let secret = secret_at(&url, "a.b.c", "deploy", ("kv-v2", "ops"), "db", "value");
    given_up(secret, &server, &root, 1, &leases).await;
    assert!(leases.held().is_empty() && !leases.is_empty());
    let done = leases.revoke(&trusting(&root)).await;
    assert_eq!((done.tokens, done.under_way), (0, 1));
    gate.open();
    leases.settled().await;
    assert_eq!(leases.held().len(), 1);
    let done = leases.revoke(&trusting(&root)).await;
    assert_eq!((done.tokens, done.under_way), (1, 0));
    assert!(leases.is_empty());
    let asked = server.requests();
    assert_eq!(asked.len(), 2, "nothing is read any more");
    assert_eq!(asked[1].path, "/v1/auth/token/revoke-self");
    let journal = journal.lock().expect("nobody panics");
    let sent = vec![server.url("").trim_end_matches('/').to_owned()];
    let lines = [(0, sent), (1, vec![]), (0, vec![])];
    assert_eq!(*journal, lines);
}

/// A Vault that holds back its answers to paths with this in them, and answers all others but logins with `other`.
fn gated(
    root: &Issued,
    held: &'static str,
    answer: impl Fn() -> Reply + Send + Sync + 'static,
    other: impl Fn() -> Reply + Send + Sync + 'static,
) -> (Gate, FakeServer) {
    let gate = Gate::default();
    let holding = gate.clone();
    let leaf = root.server(&["127.0.0.1"]).issue();
    let server = FakeServer::https(&leaf, move |request| match request.path.as_str() {
        _ if is_login(request) => login(),
        path if path.contains(held) => {
            holding.pass();
            answer()
        }
        _ => other(),
    });
    (gate, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_outlives_the_request_that_may_make_a_lease_of_it() {
    let root = Authority::root("Vault Root").issue();
    let (gate, server) = gated(&root, "creds", dynamic, || Reply::status(204));
    let leases = Leases::default();
    let engine = ("generic", "database");
    let secret = secret_at(&server.url(""), "a.b.c", "deploy", engine, "creds", "value");
    given_up(secret, &server, &root, 2, &leases).await;
    let done = leases.revoke(&trusting(&root)).await;
    assert_eq!((done.tokens, done.under_way), (0, 1));
    gate.open();
    leases.settled().await;
    let done = leases.revoke(&trusting(&root)).await;
    assert_eq!((done.tokens, done.leases, done.under_way), (1, 1, 0));
}

/// A login whose tries are answered so.
async fn logins(root: &Issued, mut tries: Vec<Reply>) -> (Told, FakeServer) {
    tries.reverse();
    let tries = Mutex::new(tries);
    let leaf = root.server(&["127.0.0.1"]).issue();
    let server = FakeServer::https(&leaf, move |request| match is_login(request) {
        true => tries.lock().expect("nobody panics").pop().expect("a try"),
        false if request.path.ends_with("revoke-self") => Reply::status(204),
        false => Reply::json(200, &json!({"data": {"data": {"value": "v"}}})),
    });
    let engine = ("kv-v2", "ops");
    let secret = secret_at(&server.url(""), "a.b.c", "deploy", engine, "db", "value");
    let done = resolved(&request(json!({"A": secret})), &trusting(root)).await;
    (done, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_holds_up_nobody_who_has_to_end() {
    let root = Authority::root("Vault Root").issue();
    let read = || Reply::json(200, &json!({"data": {"data": {"value": "v"}}}));
    let (gate, server) = gated(&root, "/revoke-self", || Reply::status(204), read);
    let engine = ("kv-v2", "ops");
    let secret = secret_at(&server.url(""), "a.b.c", "deploy", engine, "db", "value");
    let surroundings = trusting(&root);
    let done = resolved(&request(json!({"A": secret})), &surroundings).await;
    assert_eq!(done.pairs(), [("A", "v")]);
    let over = CancellationToken::new();
    let ending = async {
        while server.requests().len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        over.cancel();
    };
    let revoking = done.leases.revoke_until(&surroundings, &over);
    let (revocation, ()) = tokio::join!(revoking, ending);
    let host = server.url("");
    let host = host.trim_end_matches('/');
    let wanted = format!("{host}: no answer before the runner had to end");
    assert_eq!(revocation.failures, [wanted]);
    assert_eq!(done.leases.held().len(), 1, "it stays to be revoked");
    gate.open();
    assert_eq!(done.leases.revoke(&surroundings).await.tokens, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_login_that_may_have_made_a_token_nobody_knows_is_told_of_once() {
    let root = Authority::root("Vault Root").issue();
    let of = Reply::status;
    let truncated = || Reply::CutShort {
        status: 200,
        promised: 100,
        body: b"{".to_vec(),
    };
    for (tries, tokens, lost) in [
        (vec![Reply::Close, Reply::Close, Reply::Close], 0, 1),
        (vec![Reply::Close, login()], 1, 1),
        (vec![truncated(), Reply::Close, login()], 1, 1),
        (vec![of(502), of(504), login()], 1, 1),
        (vec![of(502), of(502), of(502)], 0, 1),
        (vec![of(500), of(400)], 0, 1),
        (vec![of(503), of(429), login()], 1, 0),
        (vec![of(503), of(503), of(503)], 0, 0),
        (vec![of(200)], 0, 1),
        (vec![of(403)], 0, 0),
    ] {
        let shown = format!("{tries:?}");
        let (done, server) = logins(&root, tries).await;
        let revocation = done.leases.revoke(&trusting(&root)).await;
        let host = server.url("").trim_end_matches('/').to_owned();
        assert_eq!(revocation.tokens, tokens, "{shown}");
        assert_eq!(revocation.lost, vec![host; lost], "{shown}");
        assert!(done.leases.is_empty(), "{shown}");
    }
}

/// The job ends between a try that was cut off and the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_given_up_after_a_cut_is_told_of() {
    let root = Authority::root("Vault Root").issue();
    let server = FakeServer::https(&root.server(&["127.0.0.1"]).issue(), |_| Reply::Close);
    let engine = ("kv-v2", "ops");
    let secret = secret_at(&server.url(""), "a.b.c", "deploy", engine, "db", "value");
    let mut patient = trusting(&root);
    // As long as the pause may be.
    patient.ambience.fraction = || 0.999;
    let (leases, stop) = (Leases::default(), CancellationToken::new());
    let request = request(json!({"A": secret}));
    let stopping = async {
        while server.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
    };
    let resolving = resolve(&request, &patient, &leases, &stop, &|_| {});
    let (result, ()) = tokio::join!(resolving, stopping);
    assert_eq!(result.unwrap_err().to_string(), "canceled");
    leases.settled().await;
    let revocation = leases.revoke(&trusting(&root)).await;
    assert_eq!((revocation.lost.len(), revocation.under_way), (1, 0));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_asks_only_for_what_is_missing() {
    let root = Authority::root("Vault Root").issue();
    let refusals = AtomicUsize::new(3);
    let server = FakeServer::https(&root.server(&["127.0.0.1"]).issue(), move |request| {
        let passes = || {
            let left =
                refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            left.is_err()
        };
        match request.path.as_str() {
            _ if is_login(request) => login(),
            path if path.contains("creds") => dynamic(),
            path if path.ends_with("busy") && !passes() => Reply::status(503),
            _ => Reply::json(200, &json!({"data": {"data": {"value": "v"}}})),
        }
    });
    let url = server.url("");
    let secret = |engine, path| secret_at(&url, "a.b.c", "deploy", engine, path, "value");
    let mut all = request(json!({
        "BUSY": secret(("kv-v2", "ops"), "busy"),
        "DYNAMIC": secret(("generic", "database"), "creds"),
        "THERE": secret(("kv-v2", "ops"), "there"),
    }));
    all.attempts = 2;
    all.long_backoff = false;
    let done = resolved(&all, &trusting(&root)).await;
    assert_eq!(
        done.pairs(),
        [("BUSY", "v"), ("DYNAMIC", "d"), ("THERE", "v")]
    );
    let asked = server.requests();
    let count = |part: &str| asked.iter().filter(|one| one.path.ends_with(part)).count();
    assert_eq!(
        ["login", "creds", "there", "busy"].map(count),
        [1, 1, 1, 3 + 1],
        "a login, each path once, and what was busy again"
    );
    assert_eq!(done.leases.held()[0].leases, ["creds/7"]);
}

/// A secret that is found to be missing when an attempt has failed with another one, which may pass.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_good_behind_an_attempt_is_the_failure_of_the_job() {
    let root = Authority::root("Vault Root").issue();
    for (line, attempts) in [("Retrying", 1), ("Resolving secrets", 2)] {
        let gate = Gate::default();
        let held = gate.clone();
        let leaf = root.server(&["127.0.0.1"]).issue();
        let server = FakeServer::https(&leaf, move |request| match request.path.as_str() {
            _ if is_login(request) => login(),
            path if path.ends_with("busy") => Reply::status(503),
            _ => {
                held.pass();
                Reply::json(404, &json!({"errors": []}))
            }
        });
        let url = server.url("");
        let secret = |path| secret_at(&url, "a.b.c", "deploy", ("kv-v2", "ops"), path, "value");
        let mut request = request(json!({"A": secret("busy"), "B": secret("missing")}));
        request.attempts = 3;
        request.long_backoff = false;
        let said = Mutex::new(String::new());
        let say = |text: &str| {
            said.lock().expect("nobody panics").push_str(text);
            if text.contains(line) {
                gate.open();
            }
        };
        let (leases, stop) = (Leases::default(), CancellationToken::new());
        let result = resolve(&request, &trusting(&root), &leases, &stop, &say).await;
        let failure = result.unwrap_err();
        assert_eq!(failure.to_string(), "secret not found: B");
        assert_eq!(failure.step, Step::Path);
        let said = said.into_inner().expect("nobody panics");
        assert!(!said.contains("not asked any more"), "{said}");
        let asked = server.requests();
        let busy = asked.iter().filter(|one| one.path.ends_with("busy"));
        assert!(busy.count() <= 3 * attempts, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_repeat_mends_or_may_have_made_something_is_not_tried_again() {
    let root = Authority::root("Vault Root").issue();
    for (engine, status, wanted) in [
        (("kv-v2", "ops"), 403, 1),
        (("kv-v2", "ops"), 500, 2 * 3),
        // A lease may have been made.
        (("generic", "database"), 500, 1),
        (("generic", "database"), 503, 2 * 3),
    ] {
        let leaf = root.server(&["127.0.0.1"]).issue();
        let server = FakeServer::https(&leaf, move |request| match is_login(request) {
            true => login(),
            false => Reply::json(status, &json!({"errors": ["no"]})),
        });
        let secret = secret_at(&server.url(""), "a.b.c", "deploy", engine, "x", "value");
        let mut request = request(json!({"A": secret}));
        request.attempts = 2;
        request.long_backoff = false;
        resolved(&request, &trusting(&root)).await.failure();
        let reads = server.requests().len() - 1;
        assert_eq!(reads, wanted, "{engine:?} {status}");
    }
}
