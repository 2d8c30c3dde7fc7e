//! The listener: certificates that change, clients that misbehave, an orderly end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get as route;
use courser_net::{Client, Clients, Listener, ServerIdentity, TrustSettings};
use courser_testkit::World;
use courser_testkit::pki::{Authority, Issued};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{client, failure, get, no_trust, status, text, trusting};

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(identity: ServerIdentity, router: Router, grace: Duration) -> Self {
        Self::start_for(identity, router, grace, Clients::Anybody).await
    }

    async fn start_for(
        identity: ServerIdentity,
        router: Router,
        grace: Duration,
        clients: Clients,
    ) -> Self {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(loopback, identity, clients).await.unwrap();
        let address = listener.address();
        let stop = CancellationToken::new();
        let serving = listener.serve(router, stop.clone(), grace);
        #[expect(clippy::disallowed_methods, reason = "the test owns the task")]
        let task = tokio::spawn(serving);
        Self {
            address,
            stop,
            task,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}

fn hello() -> Router {
    let address = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
    Router::new().route("/", route(address))
}

fn in_memory(leaf: &Issued) -> ServerIdentity {
    ServerIdentity::Memory {
        certificate_pem: leaf.chain_pem(),
        key_pem: leaf.key_pem().into(),
    }
}

fn root_and_leaf() -> (Issued, Issued) {
    let root = Authority::root("Root").issue();
    let leaf = root.server(&["127.0.0.1"]).issue();
    (root, leaf)
}

fn write_pair(world: &World, leaf: &Issued) -> ServerIdentity {
    ServerIdentity::Files {
        key: world.write("server.key", leaf.key_pem()),
        certificate: world.write("server.crt", leaf.chain_pem()),
    }
}

/// The leaf a new connection is shown.
async fn presented(trust: &Issued, url: &str) -> String {
    let fresh = client(trusting(trust.certificate_pem()));
    let answer = fresh.send(get(url)).await.unwrap();
    answer.verified_chain_pem().unwrap()
}

#[tokio::test]
async fn requests_know_their_peer() {
    let (root, leaf) = root_and_leaf();
    let server = Running::start(in_memory(&leaf), hello(), Duration::ZERO).await;
    let client = client(trusting(root.certificate_pem()));
    let answer = client.send(get(&server.url("/"))).await.unwrap();
    assert_eq!(text(answer).await, "127.0.0.1");
}

#[tokio::test]
async fn bad_clients_do_not_disturb_others() {
    let (root, leaf) = root_and_leaf();
    let server = Running::start(in_memory(&leaf), hello(), Duration::ZERO).await;
    let silent = TcpStream::connect(server.address).unwrap();
    let mut plain = TcpStream::connect(server.address).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    drop(TcpStream::connect(server.address).unwrap());
    failure(&client(no_trust()), &server.url("/")).await;
    let good = client(trusting(root.certificate_pem()));
    assert_eq!(status(&good, &server.url("/")).await, 200);
    let mut answer = Vec::new();
    // Whatever it is told, it is no HTTP: plain text is not served.
    let _ended = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
    drop(silent);
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_a_bad_one_is_not() {
    let world = World::new();
    let (root, first) = root_and_leaf();
    let server = Running::start(write_pair(&world, &first), hello(), Duration::ZERO).await;
    let url = server.url("/");
    let before = presented(&root, &url).await;

    let second = root.server(&["127.0.0.1"]).issue();
    world.write("server.crt", second.chain_pem());
    assert_eq!(
        presented(&root, &url).await,
        before,
        "the key is not its own yet"
    );
    world.write("server.key", second.key_pem());
    let after = presented(&root, &url).await;
    assert_ne!(after, before);

    let expired = root.server(&["127.0.0.1"]).expired().issue();
    write_pair(&world, &expired);
    assert_eq!(presented(&root, &url).await, after);
    world.write("server.crt", "garbage");
    assert_eq!(presented(&root, &url).await, after);
}

#[tokio::test]
async fn a_listener_does_not_start_with_a_pair_that_cannot_work() {
    let (_, leaf) = root_and_leaf();
    let (_, other) = root_and_leaf();
    let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mixed = ServerIdentity::Memory {
        certificate_pem: leaf.chain_pem(),
        key_pem: other.key_pem().into(),
    };
    let error = Listener::bind(loopback, mixed, Clients::Anybody)
        .await
        .err()
        .unwrap()
        .to_string();
    assert_eq!(
        error,
        "the private key is not the certificate's; name the key with which the certificate was requested"
    );
    let missing = ServerIdentity::Files {
        certificate: "/nonexistent/a.crt".into(),
        key: "/nonexistent/a.key".into(),
    };
    let error = Listener::bind(loopback, missing, Clients::Anybody)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("/nonexistent/a.crt"), "{error}");
    let taken = Listener::bind(loopback, in_memory(&leaf), Clients::Anybody)
        .await
        .unwrap();
    let error = Listener::bind(taken.address(), in_memory(&leaf), Clients::Anybody)
        .await
        .err()
        .unwrap();
    assert!(error.to_string().starts_with("cannot listen on 127.0.0.1:"));
}

#[tokio::test]
async fn running_requests_are_finished_and_new_ones_refused() {
    let (root, leaf) = root_and_leaf();
    let (entered, mut entering) = mpsc::channel::<()>(1);
    let release = CancellationToken::new();
    let gate = release.clone();
    let slow = move || async move {
        entered.send(()).await.unwrap();
        gate.cancelled().await;
        "done"
    };
    let router = Router::new().route("/slow", route(slow));
    let server = Running::start(in_memory(&leaf), router, Duration::from_secs(60)).await;
    let client: Client = client(trusting(root.certificate_pem()));
    let running = client.send(get(&server.url("/slow")));
    let stopping = async {
        entering.recv().await.unwrap();
        server.stop.cancel();
        // The listener's socket is closed before the running request ends.
        while TcpStream::connect(server.address).is_ok() {
            tokio::task::yield_now().await;
        }
        release.cancel();
    };
    let (answer, ()) = tokio::join!(running, stopping);
    assert_eq!(text(answer.unwrap()).await, "done");
    server.task.await.unwrap();
}

#[tokio::test]
async fn what_outlives_the_grace_is_cut_off() {
    let (root, leaf) = root_and_leaf();
    let (entered, mut entering) = mpsc::channel::<()>(1);
    let stuck = move || async move {
        entered.send(()).await.unwrap();
        std::future::pending::<&'static str>().await
    };
    let router = Router::new().route("/stuck", route(stuck));
    let server = Running::start(in_memory(&leaf), router, Duration::from_millis(50)).await;
    let client = client(trusting(root.certificate_pem()));
    let url = server.url("/stuck");
    let stopping = async {
        entering.recv().await.unwrap();
        server.stop.cancel();
        server.task.await.unwrap();
    };
    let (text, ()) = tokio::join!(failure(&client, &url), stopping);
    assert!(text.contains("couldn't execute GET against"), "{text}");
}

/// A listener for clients of an authority, with its log.
struct Guarded {
    world: World,
    root: Issued,
    clients: Issued,
    server: Running,
}

impl Guarded {
    async fn start() -> Self {
        let world = World::new();
        let (root, leaf) = root_and_leaf();
        let clients = Authority::root("Clients").issue();
        let file = world.write("clients.pem", clients.certificate_pem());
        let server = Running::start_for(
            in_memory(&leaf),
            hello(),
            Duration::ZERO,
            Clients::OfAuthorities(file),
        )
        .await;
        Self {
            world,
            root,
            clients,
            server,
        }
    }

    fn client(&self, own: Option<&Issued>) -> Client {
        let pair = own.map(|own| {
            // A pair that is written over would be the one of earlier clients, too.
            let name = own
                .der()
                .last_chunk::<8>()
                .map(|end| u64::from_be_bytes(*end));
            let name = name.unwrap_or_default();
            (
                self.world.write(&format!("{name}.crt"), own.chain_pem()),
                self.world.write(&format!("{name}.key"), own.key_pem()),
            )
        });
        let (cert_file, key_file) = pair.unzip();
        client(TrustSettings {
            cert_file,
            key_file,
            ..trusting(self.root.certificate_pem())
        })
    }

    async fn call(&self, own: Option<&Issued>) -> Result<u16, String> {
        let answer = self.client(own).send(get(&self.server.url("/"))).await;
        match answer {
            Ok(answer) => Ok(answer.status.as_u16()),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[tokio::test]
async fn clients_are_judged_by_their_certificates_and_told_in_gos_words() {
    let guarded = Guarded::start().await;
    let stranger = Authority::root("Clients").issue();
    let clients = &guarded.clients;
    let middle = clients.intermediate("Team").issue();
    for good in [clients.client("runner"), middle.client("runner")] {
        assert_eq!(guarded.call(Some(&good.issue())).await, Ok(200));
    }
    let table = [
        (None, "remote error: tls: certificate required"),
        (
            Some(clients.client("old").expired().issue()),
            "remote error: tls: expired certificate",
        ),
        (
            Some(stranger.client("other").issue()),
            "remote error: tls: unknown certificate authority",
        ),
        (
            Some(clients.server(&["server.test"]).issue()),
            "remote error: tls: bad certificate",
        ),
    ];
    for (own, expected) in table {
        let error = guarded.call(own.as_ref()).await.unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[tokio::test]
async fn authorities_of_clients_are_read_anew_and_connections_end_with_them() {
    let guarded = Guarded::start().await;
    let own = guarded.clients.client("runner").issue();
    let client = guarded.client(Some(&own));
    let url = guarded.server.url("/");
    assert_eq!(status(&client, &url).await, 200);

    // A half-written file changes nothing.
    let half = &guarded.clients.certificate_pem()[..200];
    guarded.world.write("clients.pem", half);
    assert_eq!(status(&client, &url).await, 200);

    let others = Authority::root("Others").issue();
    guarded.world.write("clients.pem", others.certificate_pem());
    let other = others.client("other").issue();
    assert_eq!(guarded.call(Some(&other)).await, Ok(200));
    // The kept connection of the first client is not served any more, and no new one is.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let error = loop {
        match client.send(get(&url)).await {
            Err(error) => break error.to_string(),
            Ok(_) if tokio::time::Instant::now() < deadline => tokio::task::yield_now().await,
            Ok(_) => panic!("the old authority is still accepted"),
        }
    };
    assert!(error.contains("unknown certificate authority"), "{error}");
}

#[tokio::test]
async fn a_listener_for_nobody_does_not_start() {
    let world = World::new();
    let (_, leaf) = root_and_leaf();
    let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
    for (file, expected) in [
        (world.path("missing.pem"), "missing.pem: no such file"),
        (world.write("empty.pem", ""), "this file is empty"),
    ] {
        let clients = Clients::OfAuthorities(file);
        let error = Listener::bind(loopback, in_memory(&leaf), clients).await;
        let error = error.err().expect("nobody could connect").to_string();
        assert!(
            error.starts_with("no client could be accepted: "),
            "{error}"
        );
        assert!(error.contains(expected), "{error}");
    }
}
