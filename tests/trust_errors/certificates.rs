//! Faults of certificates and of the files that trust them.

use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::FakeServer;
use rcgen::ExtendedKeyUsagePurpose;

use super::scene::{NAMES, OpensslServer, Scene, content, openssl, server, url};
use crate::world::World;

const UNKNOWN: &str = "x509: certificate signed by unknown authority";

fn root() -> Issued {
    Authority::root("Root").issue()
}

/// A good certificate in place of the bad one, by the CA that is trusted.
fn reissue(server: &FakeServer, root: &Issued) {
    server.present(&root.server(NAMES).issue());
}

pub(super) fn an_unknown_ca(anchor: &str) {
    let root = root();
    let leaf = root.intermediate("Middle").issue().server(NAMES).issue();
    let server = server(&leaf);
    let scene = Scene::new(&url(&server));
    let told = scene.refused(anchor, UNKNOWN);
    assert_eq!(
        told.missing.as_deref(),
        Some("the certificate of CN=Root, which issued CN=Middle")
    );
    scene.follow(&told);
    scene.cured();
}

pub(super) fn a_missing_intermediate(anchor: &str) {
    let root = root();
    let leaf = root.intermediate("Middle").issue().server(NAMES).issue();
    let server = FakeServer::https_leaf_only(&leaf, content());
    let scene = Scene::trusting(&url(&server), &root.certificate_pem());
    let told = scene.refused(anchor, UNKNOWN);
    assert_eq!(
        told.missing.as_deref(),
        Some("the certificate of CN=Middle, which issued CN=localhost")
    );
    // Both halves of the advice: the command here, the server's chain there.
    scene.follow(&told);
    scene.cured();
    scene.trust(root.certificate_pem());
    scene.refused(anchor, UNKNOWN);
    server.present(&leaf);
    scene.cured();
}

pub(super) fn a_self_signed_certificate(anchor: &str) {
    let server = server(&Authority::self_signed_server(NAMES).issue());
    let scene = Scene::new(&url(&server));
    let told = scene.refused(anchor, UNKNOWN);
    assert_eq!(
        told.missing.as_deref(),
        Some("trust in CN=localhost itself")
    );
    scene.follow(&told);
    scene.cured();
}

pub(super) fn an_expired_certificate(anchor: &str) {
    let root = root();
    let server = server(&root.server(NAMES).expired().issue());
    let scene = Scene::trusting(&url(&server), &root.certificate_pem());
    let sentence = "x509: certificate has expired or is not yet valid: current time ";
    let told = scene.refused(anchor, sentence);
    assert!(
        told.error.contains(" is after 2021-01-01T00:00:00Z"),
        "{}",
        told.error
    );
    let shown = scene.follow(&told);
    assert!(shown.stdout.contains("2021"), "{}", shown.all());
    reissue(&server, &root);
    scene.cured();
}

pub(super) fn an_expired_ca(anchor: &str) {
    let old = Authority::root("Root").expired().issue();
    let server = server(&old.server(NAMES).issue());
    let scene = Scene::trusting(&url(&server), &old.certificate_pem());
    let told = scene.refused(anchor, "x509: certificate has expired or is not yet valid");
    assert!(told.error.contains("CN=Root"), "{}", told.error);
    assert!(
        told.advice
            .contains("get its successor, and trust that one"),
        "{}",
        told.advice
    );
    scene.trust(old.renewed().issue().certificate_pem());
    scene.cured();
    // An intermediate that the server sends is the server's to replace.
    let root = Authority::root("Other").issue();
    let middle = root.intermediate("Middle").expired().issue();
    server.present(&middle.server(NAMES).issue());
    scene.trust(root.certificate_pem());
    let told = scene.refused(anchor, "x509: certificate has expired or is not yet valid");
    assert!(
        told.advice.contains("let the server send its successor"),
        "{}",
        told.advice
    );
    reissue(&server, &root);
    scene.cured();
}

pub(super) fn a_certificate_of_the_future(anchor: &str) {
    let root = root();
    let server = server(&root.server(NAMES).not_yet_valid().issue());
    let scene = Scene::trusting(&url(&server), &root.certificate_pem());
    let told = scene.refused(anchor, "x509: certificate has expired or is not yet valid");
    assert!(
        told.error.contains(" is before 2090-01-01T00:00:00Z"),
        "{}",
        told.error
    );
    assert!(
        told.advice.contains("this machine's clock"),
        "{}",
        told.advice
    );
    scene.follow(&told);
    reissue(&server, &root);
    scene.cured();
}

pub(super) fn a_wrong_name(anchor: &str) {
    let root = root();
    let server = server(&root.server(&["gitlab.test", "127.0.0.1"]).issue());
    let mut scene = Scene::trusting(&url(&server), &root.certificate_pem());
    let told = scene.refused(
        anchor,
        "x509: certificate is valid for gitlab.test, not localhost",
    );
    assert!(
        told.advice.contains("subjectAltName DNS:localhost"),
        "{}",
        told.advice
    );
    let shown = scene.follow(&told);
    assert!(shown.stdout.contains("DNS:gitlab.test"), "{}", shown.all());
    // Another name of the server's, then a certificate for this one.
    scene.call(&server.url(""));
    scene.cured();
    scene.call(&url(&server));
    reissue(&server, &root);
    scene.cured();
}

pub(super) fn an_address_without_ip_san(anchor: &str) {
    let root = root();
    let server = server(&root.server(&["localhost"]).issue());
    let scene = Scene::trusting(&server.url(""), &root.certificate_pem());
    let sentence =
        "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs";
    let told = scene.refused(anchor, sentence);
    assert!(
        told.advice.contains("subjectAltName IP:127.0.0.1"),
        "{}",
        told.advice
    );
    scene.follow(&told);
    reissue(&server, &root);
    scene.cured();
}

pub(super) fn only_a_common_name(anchor: &str) {
    let root = root();
    let server = server(&root.server(&[]).common_name("localhost").issue());
    let scene = Scene::trusting(&url(&server), &root.certificate_pem());
    let sentence = "x509: certificate relies on legacy Common Name field, use SANs instead";
    let told = scene.refused(anchor, sentence);
    assert!(
        told.advice.contains("subjectAltName DNS:localhost"),
        "{}",
        told.advice
    );
    reissue(&server, &root);
    scene.cured();
}

pub(super) fn a_client_certificate_at_a_server(anchor: &str) {
    let root = root();
    let leaf = root
        .server(NAMES)
        .usages(&[ExtendedKeyUsagePurpose::ClientAuth])
        .issue();
    let server = server(&leaf);
    let scene = Scene::trusting(&url(&server), &root.certificate_pem());
    let told = scene.refused(
        anchor,
        "x509: certificate specifies an incompatible key usage",
    );
    assert!(
        told.advice.contains("extendedKeyUsage serverAuth"),
        "{}",
        told.advice
    );
    let shown = scene.follow(&told);
    assert!(
        shown.stdout.contains("Client Authentication"),
        "{}",
        shown.all()
    );
    reissue(&server, &root);
    scene.cured();
}

pub(super) fn a_name_that_the_ca_may_not_certify(anchor: &str) {
    let narrow = Authority::root("Narrow").only_below("example.com").issue();
    let server = server(&narrow.server(&["localhost"]).issue());
    let scene = Scene::trusting(&url(&server), &narrow.certificate_pem());
    let sentence =
        "x509: a root or intermediate certificate is not authorized to sign for this name";
    let told = scene.refused(anchor, sentence);
    assert!(told.advice.contains("or by another CA"), "{}", told.advice);
    let other = root();
    reissue(&server, &other);
    scene.trust(other.certificate_pem());
    scene.cured();
}

pub(super) fn a_namesake_of_the_ca(anchor: &str) {
    let (root, namesake) = (root(), root());
    let server = server(&root.server(NAMES).issue());
    let scene = Scene::trusting(&url(&server), &namesake.certificate_pem());
    let told = scene.refused(anchor, UNKNOWN);
    assert!(
        told.error.contains("candidate authority certificate"),
        "{}",
        told.error
    );
    assert!(
        told.advice.contains("\"Root\" has its issuer's name"),
        "{}",
        told.advice
    );
    scene.trust(root.certificate_pem());
    scene.cured();
}

pub(super) fn a_ca_below_one_that_allows_none(anchor: &str) {
    let root = Authority::root("Root").path_length(0).issue();
    let leaf = root.intermediate("Middle").issue().server(NAMES).issue();
    let server = server(&leaf);
    let scene = Scene::trusting(&url(&server), &root.certificate_pem());
    let told = scene.refused(
        anchor,
        "x509: too many intermediates for path length constraint",
    );
    assert!(
        told.advice.contains("CN=Root cannot vouch"),
        "{}",
        told.advice
    );
    scene.trust(root.renewed().path_length(1).issue().certificate_pem());
    scene.cured();
}

pub(super) fn a_trusted_certificate_that_is_no_ca(anchor: &str) {
    let some_server = Authority::self_signed_server(&["some.server"])
        .marked_as_no_ca()
        .issue();
    let server = server(&some_server.server(NAMES).issue());
    let scene = Scene::trusting(&url(&server), &some_server.certificate_pem());
    let told = scene.refused(
        anchor,
        "parent certificate cannot sign this kind of certificate",
    );
    assert!(
        told.advice.contains("or have it issued again"),
        "{}",
        told.advice
    );
    let root = root();
    reissue(&server, &root);
    scene.trust(root.certificate_pem());
    scene.cured();
}

/// A CA of openssl's in `tls/` of a world, and a certificate for localhost with these arguments.
fn odd_leaf(world: &World, request: &[&str], signature: &[&str]) {
    openssl(
        world,
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-subj",
            "/CN=Root",
            "-days",
            "90",
        ],
    );
    let new = [
        "-nodes",
        "-keyout",
        "leaf.key",
        "-out",
        "leaf.csr",
        "-subj",
        "/CN=localhost",
    ];
    openssl(world, &[&["req"], request, &new].concat());
    world.write("tls/names", "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
    let sign = [
        "x509",
        "-req",
        "-in",
        "leaf.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "90",
        "-extfile",
        "names",
        "-out",
        "leaf.pem",
    ];
    openssl(world, &[&sign, signature].concat());
}

const GOOD_KEY: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// A leaf that openssl serves and we refuse, then a good one at the same port.
fn replaced(anchor: &str, request: &[&str], signature: &[&str], sentence: &str, advice: &str) {
    let world = World::new();
    odd_leaf(&world, request, signature);
    let lenient = ["-cipher", "DEFAULT@SECLEVEL=0"];
    let bad = OpensslServer::start(&world, "tls/leaf.pem", "tls/leaf.key", &lenient);
    let scene = Scene::trusting(&bad.url(), &world.read("tls/ca.pem"));
    let told = scene.refused(anchor, sentence);
    assert!(told.advice.contains(advice), "{}", told.advice);
    let port = bad.port();
    drop(bad);
    odd_leaf(&world, GOOD_KEY, &[]);
    scene.trust(world.read("tls/ca.pem"));
    let _good = OpensslServer::start_at(&world, port, "tls/leaf.pem", "tls/leaf.key", &[]);
    scene.cured();
}

pub(super) fn a_weak_key(anchor: &str) {
    replaced(
        anchor,
        &["-newkey", "rsa:1024"],
        &[],
        "RSA key of 1024 bits",
        "an RSA key of 2048 to 8192 bits",
    );
}

pub(super) fn a_weak_signature(anchor: &str) {
    replaced(
        anchor,
        GOOD_KEY,
        &["-sha1"],
        "x509: cannot verify signature: insecure algorithm",
        "or have it issued again",
    );
}

pub(super) fn a_malformed_certificate(anchor: &str) {
    let root = root();
    let leaf = root.server(NAMES).issue();
    let mut chain = leaf.chain();
    chain.push(vec![0x30, 3, 2, 1, 1].into());
    let server = FakeServer::https_chain(chain, &leaf, content());
    let scene = Scene::trusting(&url(&server), &root.certificate_pem());
    let told = scene.refused(
        anchor,
        "tls: failed to parse certificate from server: x509: ",
    );
    assert!(
        told.advice.contains("certificate 1 of those"),
        "{}",
        told.advice
    );
    server.present(&leaf);
    scene.cured();
}

pub(super) fn an_unknown_critical_extension(anchor: &str) {
    let root = root();
    let server = server(&root.server(NAMES).odd_critical_extension().issue());
    let scene = Scene::trusting(&url(&server), &root.certificate_pem());
    let told = scene.refused(anchor, "x509: unhandled critical extension");
    assert!(
        told.advice.contains("1.3.6.1.4.1.55555.1"),
        "{}",
        told.advice
    );
    reissue(&server, &root);
    scene.cured();
}

pub(super) fn a_policy_that_is_not_met(anchor: &str) {
    let world = World::new();
    odd_leaf(&world, GOOD_KEY, &[]);
    // An intermediate that demands its policy of every certificate below.
    world.write(
        "tls/demand",
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\ncertificatePolicies=1.2.3.4\n\
         policyConstraints=critical,requireExplicitPolicy:0\n",
    );
    let request = [
        "-nodes",
        "-keyout",
        "strict.key",
        "-out",
        "strict.csr",
        "-subj",
        "/CN=Strict",
    ];
    openssl(&world, &[&["req"], GOOD_KEY, &request].concat());
    let sign = |request: &str, ca: &str, key: &str, extensions: &str, out: &str| {
        openssl(
            &world,
            &[
                "x509",
                "-req",
                "-in",
                request,
                "-CA",
                ca,
                "-CAkey",
                key,
                "-CAcreateserial",
                "-days",
                "90",
                "-extfile",
                extensions,
                "-out",
                out,
            ],
        );
    };
    sign("strict.csr", "ca.pem", "ca.key", "demand", "strict.pem");
    sign("leaf.csr", "strict.pem", "strict.key", "names", "leaf.pem");
    let chain = world.path("tls/strict.pem");
    let chain = ["-cert_chain", chain.to_str().expect("UTF-8")];
    let server = OpensslServer::start(&world, "tls/leaf.pem", "tls/leaf.key", &chain);
    let scene = Scene::trusting(&server.url(), &world.read("tls/ca.pem"));
    let told = scene.refused(anchor, "x509: no valid chains built");
    assert!(
        told.advice.contains("policies that its CA requires"),
        "{}",
        told.advice
    );
    let port = server.port();
    drop(server);
    world.write(
        "tls/names",
        "subjectAltName=DNS:localhost,IP:127.0.0.1\ncertificatePolicies=1.2.3.4\n",
    );
    sign("leaf.csr", "strict.pem", "strict.key", "names", "leaf.pem");
    let _good = OpensslServer::start_at(&world, port, "tls/leaf.pem", "tls/leaf.key", &chain);
    scene.cured();
}

pub(super) fn too_many_certificates(anchor: &str) {
    let root = root();
    let leaf = root.intermediate("Middle").issue().server(NAMES).issue();
    let namesakes = (0..110).map(|_| Authority::root("Middle").issue().der().clone());
    let chain = std::iter::once(leaf.der().clone())
        .chain(namesakes)
        .collect();
    let server = FakeServer::https_chain(chain, &leaf, content());
    let scene = Scene::trusting(&url(&server), &root.certificate_pem());
    let told = scene.refused(anchor, "x509: signature check attempts limit reached");
    assert!(
        told.advice.contains("its own chain only"),
        "{}",
        told.advice
    );
    server.present(&leaf);
    scene.cured();
}

pub(super) fn a_damaged_trust_file(anchor: &str) {
    let root = root();
    let server = server(&root.server(NAMES).issue());
    let pem = root.certificate_pem();
    let other = Authority::root("Other").issue().certificate_pem();
    let utf_16: Vec<u8> = std::iter::once(0xfeff)
        .chain(pem.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let indented: String = pem.lines().map(|line| format!("    {line}\n")).collect();
    let forms: [(&str, Vec<u8>, &str); 6] = [
        ("DER", root.der().to_vec(), "is a DER certificate"),
        ("UTF-16", utf_16, "is UTF-16"),
        (
            "byte-order mark",
            [b"\xef\xbb\xbf", pem.as_bytes()].concat(),
            "byte-order mark",
        ),
        ("indented", indented.into_bytes(), "is indented"),
        (
            "joined",
            format!("{}{pem}", other.trim_end()).into_bytes(),
            "a newline is missing",
        ),
        (
            "other label",
            pem.replace(" CERTIFICATE", " X509 CERTIFICATE")
                .into_bytes(),
            "X509 CERTIFICATE",
        ),
    ];
    let scene = Scene::new(&url(&server));
    for (form, bytes, word) in forms {
        scene.trust(bytes);
        let told = scene.refused(anchor, UNKNOWN);
        assert!(told.advice.contains(word), "{form}: {}", told.advice);
        assert!(told.advice.contains("ca.pem:"), "{form}: {}", told.advice);
        scene.follow(&told);
        scene.cured();
    }
}
