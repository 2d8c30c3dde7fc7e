//! Faults on the way to the server, and of what we show it.

use std::process::Command;

use courser_testkit::pki::Authority;
use courser_testkit::proxy::FakeProxy;
use courser_testkit::server::FakeServer;

use super::scene::{NAMES, OpensslServer, Scene, content, openssl, server, url};
use crate::world::{Finished, World, run};

/// A server that demands client certificates of `Clients`, and a runner that trusts the server.
fn mutual(clients: &courser_testkit::pki::Issued) -> (FakeServer, Scene) {
    let root = Authority::root("Root").issue();
    let server = FakeServer::mutual_tls(&root.server(NAMES).issue(), clients, content());
    let scene = Scene::trusting(&url(&server), &root.certificate_pem());
    (server, scene)
}

/// `tls-cert-file` and `tls-key-file` of the world.
fn pair(scene: &Scene) -> String {
    format!(
        "tls-cert-file = \"{}\"\ntls-key-file = \"{}\"\n",
        scene.world.path("work/own.crt").display(),
        scene.world.path("work/own.key").display()
    )
}

pub(super) fn a_client_certificate_is_demanded(anchor: &str) {
    let clients = Authority::root("Clients").issue();
    let (_server, scene) = mutual(&clients);
    let told = scene.refused(anchor, "remote error: tls: certificate required");
    assert!(told.advice.contains("tls-cert-file"), "{}", told.advice);
    let own = clients.client("runner").issue();
    scene.world.write("work/own.crt", own.certificate_pem());
    scene.world.write("work/own.key", own.key_pem());
    scene.configure(&pair(&scene));
    scene.cured();
    in_tls_1_2(anchor);
}

/// Servers of OpenSSL's then say no more than that the handshake has failed.
fn in_tls_1_2(anchor: &str) {
    let world = World::new();
    let root = Authority::root("Root").issue();
    let leaf = root.server(NAMES).issue();
    world.write("tls/leaf.pem", leaf.chain_pem());
    world.write("tls/leaf.key", leaf.key_pem());
    let demanding = ["-tls1_2", "-Verify", "1", "-verify_return_error"];
    let server = OpensslServer::start(&world, "tls/leaf.pem", "tls/leaf.key", &demanding);
    let scene = Scene::trusting(&server.url(), &root.certificate_pem());
    let told = scene.refused_with(anchor, "remote error: tls: ", &[]);
    assert!(told.advice.contains("tls-cert-file"), "{}", told.advice);
}

pub(super) fn a_client_certificate_is_refused(anchor: &str) {
    let clients = Authority::root("Clients").issue();
    let (_server, scene) = mutual(&clients);
    scene.configure(&pair(&scene));
    let write = |own: courser_testkit::pki::Issued| {
        scene.world.write("work/own.crt", own.certificate_pem());
        scene.world.write("work/own.key", own.key_pem());
    };
    write(clients.client("runner").expired().issue());
    let told = scene.refused(anchor, "remote error: tls: ");
    assert!(told.advice.contains("CN=runner"), "{}", told.advice);
    assert!(
        told.advice.contains("to 2021-01-01T00:00:00Z"),
        "{}",
        told.advice
    );
    write(clients.client("runner").issue());
    scene.cured();
}

pub(super) fn a_key_that_is_not_the_certificates(_anchor: &str) {
    let clients = Authority::root("Clients").issue();
    let (_server, scene) = mutual(&clients);
    let own = clients.client("runner").issue();
    scene.world.write("work/own.crt", own.certificate_pem());
    scene
        .world
        .write("work/own.key", clients.client("other").issue().key_pem());
    scene.configure(&pair(&scene));
    let finished = scene.check_with(&[]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    for wanted in ["own.key", "the private key is not the certificate's"] {
        assert!(finished.stderr.contains(wanted), "{}", finished.all());
    }
    scene.world.write("work/own.key", own.key_pem());
    scene.cured();
}

pub(super) fn an_encrypted_key(_anchor: &str) {
    let clients = Authority::root("Clients").issue();
    let (_server, scene) = mutual(&clients);
    let own = clients.client("runner").issue();
    scene.world.write("work/own.crt", own.certificate_pem());
    scene.world.write("tls/plain.key", own.key_pem());
    openssl(
        &scene.world,
        &[
            "pkey",
            "-in",
            "plain.key",
            "-aes256",
            "-passout",
            "pass:s3cret",
            "-out",
            "../work/own.key",
        ],
    );
    scene.configure(&pair(&scene));
    let finished = scene.check_with(&[]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    let text = &finished.stderr;
    let (_, rest) = text
        .split_once("the key is encrypted; write it without a passphrase: ")
        .unwrap_or_else(|| panic!("{}", finished.all()));
    let command: String = rest.chars().take_while(|c| !c.is_control()).collect();
    // The command asks for the passphrase on a terminal; here it comes from an option.
    let command = command.replace("openssl pkey", "openssl pkey -passin pass:s3cret");
    let typed = run(scene.world.program("sh").args(["-c", &command]));
    assert_eq!(typed.code(), 0, "{command}: {}", typed.all());
    scene.cured();
}

/// Runs a command where `gitlab.test` is this machine: a name that proxies are asked for.
fn with_hosts(scene: &Scene, command: &Command) -> Finished {
    let hosts = scene
        .world
        .write("hosts", "127.0.0.1 localhost gitlab.test\n");
    let mut wrapped = scene.world.program("unshare");
    let id = run(Command::new("id").arg("-u"));
    if id.stdout.trim() != "0" {
        wrapped.arg("--map-root-user");
    }
    wrapped
        .args([
            "--mount",
            "sh",
            "-c",
            "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"",
            "sh",
        ])
        .arg(hosts)
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    run(scene.with_environment(&mut wrapped))
}

fn check_with_hosts(scene: &Scene, variables: &[(&str, &str)]) -> Finished {
    let mut command = scene.world.courser(["trust", "check", "r"]);
    command.envs(variables.iter().copied());
    with_hosts(scene, &command)
}

pub(super) fn a_proxy_replaces_certificates(anchor: &str) {
    let (root, proxys) = (
        Authority::root("Root").issue(),
        Authority::root("Proxy CA").issue(),
    );
    let names = &["gitlab.test"];
    let server = server(&root.server(names).issue());
    let replaced = FakeServer::https(
        &proxys
            .intermediate("Proxy Signer")
            .issue()
            .server(names)
            .issue(),
        content(),
    );
    let place = format!("gitlab.test:{}", server.address().port());
    let proxy = FakeProxy::start(&[(place.as_str(), replaced.address())], None);
    let proxy = format!("http://{}", proxy.address()).leak();
    let scene = Scene::trusting(&format!("https://{place}"), &root.certificate_pem());
    let variables = [("HTTPS_PROXY", &*proxy)];
    let refused = check_with_hosts(&scene, &variables);
    assert_eq!(refused.code(), 1, "{}", refused.all());
    let joined = refused
        .stdout
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    for wanted in [
        "x509: certificate signed by unknown authority",
        "without the proxy it is issued by CN=Root",
        "replaces the server's certificate",
        "set NO_PROXY=gitlab.test to go past it",
        &format!("trust-errors.md#{anchor}"),
    ] {
        assert!(joined.contains(wanted), "{wanted}: {}", refused.all());
    }
    let past = check_with_hosts(&scene, &[variables[0], ("NO_PROXY", "gitlab.test")]);
    assert_eq!(past.code(), 0, "{}", past.all());
    // Or the CA of the proxy is trusted, as the command says.
    let (_, command) = refused.stdout.split_once("$ courser ").expect("a command");
    let command = command.lines().next().expect("a line");
    let input = scene.world.write("answer", "yes\n");
    let mut typed = scene.world.program("sh");
    typed.args([
        "-c",
        "script --quiet --return --command \"$1\" \"$2\" <\"$3\"",
        "sh",
        &format!("courser {command}"),
    ]);
    typed
        .arg(scene.world.path("typescript"))
        .arg(input)
        .envs(variables);
    let typed = with_hosts(&scene, &typed);
    assert_eq!(typed.code(), 0, "{}", typed.all());
    assert!(
        typed
            .stdout
            .contains("without it the server's is issued by CN=Root"),
        "who confirms it is told: {}",
        typed.all()
    );
    let through = check_with_hosts(&scene, &variables);
    assert_eq!(through.code(), 0, "{}", through.all());
    assert!(
        through.stdout.contains("the proxy replaces certificates"),
        "still said: {}",
        through.all()
    );
}

pub(super) fn a_proxy_wants_a_password(anchor: &str) {
    let root = Authority::root("Root").issue();
    let server = server(&root.server(&["gitlab.test"]).issue());
    // Basic of user:pass.
    let proxy = FakeProxy::start(
        &[("gitlab.test:443", server.address())],
        Some("Basic dXNlcjpwYXNz"),
    );
    let scene = Scene::trusting("https://gitlab.test", &root.certificate_pem());
    let address = format!("http://{}", proxy.address());
    let sentence = "Proxy Authentication Required";
    let told = scene.refused_with(anchor, sentence, &[("HTTPS_PROXY", &address)]);
    let (_, value) = told
        .advice
        .split_once("HTTPS_PROXY=")
        .expect("the variable");
    let value = value.replace("USER:PASSWORD", "user:pass");
    scene.cured_with(&[("HTTPS_PROXY", &value)]);
}

pub(super) fn plain_http_on_the_tls_port(anchor: &str) {
    let server = FakeServer::http(content());
    let mut scene = Scene::new(&format!("https://localhost:{}", server.address().port()));
    let told = scene.refused(
        anchor,
        "tls: first record does not look like a TLS handshake",
    );
    assert!(told.advice.contains("write http://"), "{}", told.advice);
    scene.follow(&told);
    scene.call(&server.url_by_name("localhost", ""));
    scene.cured();
}

/// A server of openssl's that speaks so, then so.
fn speaks(
    world: &World,
    anchor: &str,
    bad: &[&str],
    sentences: &[&str],
    advice: &str,
    good: &[&str],
) {
    let root = Authority::root("Root").issue();
    let leaf = root.server(NAMES).issue();
    world.write("tls/leaf.pem", leaf.chain_pem());
    world.write("tls/leaf.key", leaf.key_pem());
    let server = OpensslServer::start(world, "tls/leaf.pem", "tls/leaf.key", bad);
    let scene = Scene::trusting(&server.url(), &root.certificate_pem());
    let told = scene.refused(anchor, "tls: ");
    assert!(
        sentences.iter().any(|one| told.error.contains(one)),
        "{}",
        told.error
    );
    assert!(told.advice.contains(advice), "{}", told.advice);
    let port = server.port();
    drop(server);
    let _good = OpensslServer::start_at(world, port, "tls/leaf.pem", "tls/leaf.key", good);
    scene.cured();
}

pub(super) fn an_old_tls_version(anchor: &str) {
    let lenient = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
    let sentences = ["tls: protocol version", "unsupported protocol version"];
    speaks(
        &World::new(),
        anchor,
        &lenient,
        &sentences,
        "switch TLS 1.2 on",
        &["-tls1_2"],
    );
}

pub(super) fn no_common_cipher(anchor: &str) {
    let old = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"];
    let sentences = ["tls: handshake failure", "shares no way of talking"];
    let advice = "TLS 1.2 with ECDHE and an AEAD cipher";
    speaks(
        &World::new(),
        anchor,
        &old,
        &sentences,
        advice,
        &["-tls1_2"],
    );
}
