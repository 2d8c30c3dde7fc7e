//! The servers and proxies of others, each used by a client of others: that a test fails through them
//! must say something about Courser and nothing about the test kit.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use courser_testkit::World;
use courser_testkit::lfs::LfsStore;
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply};
use courser_testkit::servers::{
    ForwardProxy, GitServer, GitServerOrder, InterceptingProxy, ObjectStore, program,
};

/// Runs a shell script in a world; `$CA` is a bundle of these authorities.
fn sh(world: &World, authorities: &[&Issued], script: &str) -> (bool, String) {
    let bundle: String = authorities
        .iter()
        .map(|one| one.certificate_pem())
        .collect();
    let output = Command::new("bash")
        .args(["-euc", &format!("exec 2>&1\n{script}")])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", world.home())
        .env("LC_ALL", "C.UTF-8")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "Ada")
        .env("GIT_AUTHOR_EMAIL", "ada@example.com")
        .env("GIT_COMMITTER_NAME", "Ada")
        .env("GIT_COMMITTER_EMAIL", "ada@example.com")
        .env("CA", world.write("ca.pem", bundle))
        .current_dir(world.home())
        .output()
        .expect("bash starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text)
}

fn done(world: &World, authorities: &[&Issued], script: &str) -> String {
    let (success, text) = sh(world, authorities, script);
    assert!(success, "{script}\n{text}");
    text
}

/// An authority with a server certificate for loopback.
fn private(name: &str) -> (Issued, Issued) {
    let root = Authority::root(name).issue();
    let leaf = root
        .server(&["localhost", "127.0.0.1", "127.0.0.2", "gitlab.test"])
        .issue();
    (root, leaf)
}

/// A bare repository `group/project.git` with one commit.
fn repository(world: &World) {
    done(
        world,
        &[],
        "git init -q -b main work; cd work; echo content >file.txt; git add .; git commit -qm first
         git clone -q --bare . ../repositories/group/project.git
         git -C ../repositories/group/project.git config http.receivepack true",
    );
}

fn served(
    world: &World,
    describe: impl FnOnce(GitServerOrder) -> GitServerOrder,
    leaf: &Issued,
) -> GitServer {
    repository(world);
    describe(GitServer::of(&world.path("repositories"))).start(leaf)
}

fn hello(leaf: &Issued) -> FakeServer {
    FakeServer::https(leaf, |_| Reply::text(200, "hello\n"))
}

#[test]
fn git_is_served_to_those_who_know_the_password() {
    let (world, (root, leaf)) = (World::new(), private("R"));
    let server = served(&world, |order| order.user("ada", "secret"), &leaf);
    let url = server.url_by_name("ada:secret@localhost", "/group/project.git");
    done(&world, &[&root], &format!(
        "export GIT_SSL_CAINFO=$CA; git clone -q {url} clone; cd clone; grep content file.txt
         echo more >>file.txt; git commit -qam second; git push -q; git ls-remote origin main | grep $(git rev-parse HEAD)"
    ));
    let url = server.url_by_name("ada:guess@localhost", "/group/project.git");
    let (success, text) = sh(
        &world,
        &[&root],
        &format!("GIT_SSL_CAINFO=$CA git ls-remote {url}"),
    );
    assert!(!success && text.contains("Authentication failed"), "{text}");
}

#[test]
fn git_may_demand_a_client_certificate() {
    let (world, (root, leaf)) = (World::new(), private("R"));
    let clients = Authority::root("Clients").issue();
    let pair = clients.client("runner").issue();
    world.write("client.crt", pair.chain_pem());
    world.write("client.key", pair.key_pem());
    let server = served(&world, |order| order.clients_of(&clients), &leaf);
    let url = server.url_by_name("localhost", "/group/project.git");
    let (success, text) = sh(
        &world,
        &[&root],
        &format!("GIT_SSL_CAINFO=$CA git ls-remote {url}"),
    );
    assert!(!success, "{text}");
    done(
        &world,
        &[&root],
        &format!(
            "GIT_SSL_CAINFO=$CA GIT_SSL_CERT=client.crt GIT_SSL_KEY=client.key git ls-remote {url} | grep main"
        ),
    );
}

#[test]
fn git_lfs_stores_on_another_host_with_another_authority() {
    let (world, (root, leaf)) = (World::new(), private("Git"));
    let (store_root, store_leaf) = private("Store");
    let store = LfsStore::start(&store_leaf);
    // base64 of ada:secret
    let batch = store.batch_api("127.0.0.1", Some("Basic YWRhOnNlY3JldA=="));
    let server = served(
        &world,
        |order| order.user("ada", "secret").lfs(batch.address()),
        &leaf,
    );
    let url = server.url_by_name("ada:secret@localhost", "/group/project.git");
    let push = format!(
        "export GIT_SSL_CAINFO=$CA; git lfs install --skip-repo; git clone -q {url} clone; cd clone
         git lfs track '*.bin'; head -c 100000 /dev/urandom >large.bin; git add .; git commit -qm large
         git push -q; sha256sum large.bin"
    );
    let pushed = done(&world, &[&root, &store_root], &push);
    let sum = pushed.lines().next_back().expect("a sum").to_owned();
    let pull = format!(
        "export GIT_SSL_CAINFO=$CA; git clone -q {url} fresh; cd fresh; sha256sum large.bin"
    );
    assert_eq!(
        done(&world, &[&root, &store_root], &pull)
            .lines()
            .next_back(),
        Some(sum.as_str())
    );
    let methods: Vec<String> = store
        .requests()
        .iter()
        .map(|one| one.method.clone())
        .collect();
    assert_eq!(methods, ["PUT", "GET"]);
    // The store's authority is needed: the Git server's does not reach so far.
    let once = pull
        .replace("fresh", "other")
        .replace("git clone", "git -c lfs.transfer.maxretries=1 clone");
    let (success, text) = sh(&world, &[&root], &once);
    assert!(
        !success && text.contains("x509: certificate signed by unknown authority"),
        "{text}"
    );
}

#[test]
fn a_presigned_url_of_the_object_store_opens_one_object_for_one_method_and_time() {
    let (world, (root, leaf)) = (World::new(), private("R"));
    let store = ObjectStore::start(Ipv4Addr::new(127, 0, 0, 2), &leaf);
    store.put("a/b.zip", b"content");
    let now = jiff::Timestamp::now();
    let hour = Duration::from_secs(3600);
    let status = |method: &str, url: &str| {
        let curl = format!(
            "curl --cacert $CA -sS -o body -w '%{{http_code}}' -X {method} --data-binary sent '{url}'"
        );
        let curl = if method == "PUT" {
            curl
        } else {
            curl.replace("--data-binary sent", "")
        };
        done(&world, &[&root], &curl)
    };
    let get = store.presigned("GET", "a/b.zip", now, hour);
    assert_eq!(status("GET", &get), "200");
    assert_eq!(read(&world.path("body")), "content");
    assert_eq!(status("GET", &get.replace("b.zip", "c.zip")), "403");
    assert_eq!(status("PUT", &get), "403");
    assert_eq!(
        status("PUT", &store.presigned("PUT", "new", now, hour)),
        "200"
    );
    assert_eq!(store.get("new").as_deref(), Some(b"sent".as_slice()));
    let old = store.presigned("GET", "a/b.zip", now - 2 * hour, hour);
    assert_eq!(status("GET", &old), "403");
}

#[test]
fn squid_tunnels_by_names_of_its_own() {
    let (world, (root, leaf)) = (World::new(), private("R"));
    let server = hello(&leaf);
    let url = server.url_by_name("gitlab.test", "/");
    let (proxy_root, proxy_leaf) = private("Proxy");
    let plain = ForwardProxy::http(&["gitlab.test"]);
    let secure = ForwardProxy::https(&["gitlab.test"], &proxy_leaf);
    for (proxy, address) in [
        (&plain, plain.url_by_name("127.0.0.1")),
        (&secure, secure.url_by_name("localhost")),
    ] {
        let curl = format!("curl -sS --proxy {address} --proxy-cacert $CA --cacert $CA {url}");
        assert_eq!(done(&world, &[&root, &proxy_root], &curl), "hello\n");
        proxy.accesses_with("CONNECT gitlab.test:");
    }
}

#[test]
fn mitmproxy_opens_tunnels_and_trusts_one_authority_upstream() {
    let (world, (root, leaf)) = (World::new(), private("R"));
    let company = Authority::root("Company").issue();
    let proxy = InterceptingProxy::start(&company.intermediate("Inspection").issue(), &root);
    let server = hello(&leaf);
    let curl = |server: &FakeServer| {
        let url = server.url_by_name("gitlab.test", "/inside");
        format!(
            "curl -sS -w '%{{http_code}}' --proxy {} --cacert $CA {url}",
            proxy.url()
        )
    };
    assert_eq!(done(&world, &[&company], &curl(&server)), "hello\n200");
    assert!(proxy.seen().contains("/inside"), "{}", proxy.seen());
    let (success, text) = sh(&world, &[&root], &curl(&server));
    let words = "self-signed certificate in certificate chain";
    assert!(!success && text.contains(words), "{text}");
    let (_, strange) = private("Stranger");
    let text = done(&world, &[&company], &curl(&hello(&strange)));
    assert!(text.ends_with("502"), "{text}");
}

#[test]
#[should_panic(expected = "cargo xtask test-servers")]
fn a_missing_program_is_a_failure_that_says_what_to_type() {
    program("no-such-program");
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a text file")
}
