//! The listener: certificates that change, clients that misbehave, an orderly end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get as route;
use courser_net::{Client, Listener, ServerIdentity};
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
        let loopback = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(loopback, identity).await.unwrap();
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
    let error = Listener::bind(loopback, mixed)
        .await
        .err()
        .unwrap()
        .to_string();
    assert_eq!(error, "the private key is not the certificate's");
    let missing = ServerIdentity::Files {
        certificate: "/nonexistent/a.crt".into(),
        key: "/nonexistent/a.key".into(),
    };
    let error = Listener::bind(loopback, missing)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("/nonexistent/a.crt"), "{error}");
    let taken = Listener::bind(loopback, in_memory(&leaf)).await.unwrap();
    let error = Listener::bind(taken.address(), in_memory(&leaf))
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
