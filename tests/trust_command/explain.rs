//! `courser trust explain`: every kind of file that people put where a certificate belongs.

use courser_testkit::pki::Authority;
use serde_json::{Value, json};

use crate::world::{Finished, World, run};

fn explain(world: &World, name: &str, arguments: &[&str]) -> Finished {
    let words = ["trust", "explain", name];
    run(&mut world.courser(words.iter().chain(arguments)))
}

fn explained(world: &World, name: &str) -> Value {
    let finished = explain(world, name, &["--json"]);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{}", finished.all()))
}

#[test]
fn a_good_file_needs_nothing() {
    let world = World::new();
    let root = Authority::root("Site root").issue();
    world.write("work/ca.crt", root.certificate_pem());
    let finished = explain(&world, "ca.crt", &[]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    let text = &finished.stdout;
    assert!(
        text.starts_with("ca.crt: PEM text\n  0. CN=Site root\n"),
        "{text}"
    );
    assert!(text.contains("a root CA, key ECDSA P-256"), "{text}");
    assert!(
        text.contains("its certificate is trusted beside the system store"),
        "{text}"
    );
    assert!(!text.contains("remedy"), "{text}");
}

#[test]
fn the_order_of_a_chain_is_judged() {
    let world = World::new();
    let root = Authority::root("Site root").issue();
    let intermediate = root.intermediate("Site intermediate").issue();
    let server = intermediate.server(&["gitlab.test", "192.0.2.7"]).issue();
    let (leaf, middle, top) = (
        server.certificate_pem(),
        intermediate.certificate_pem(),
        root.certificate_pem(),
    );
    let cases = [
        (format!("{leaf}{middle}{top}"), None),
        (format!("{middle}{top}"), None),
        (
            format!("{leaf}{top}"),
            Some("is followed by CN=Site root, which did not issue it"),
        ),
        (format!("{middle}{leaf}"), Some("here a CA comes first")),
    ];
    for (text, expected) in cases {
        world.write("work/chain.crt", text);
        let value = explained(&world, "chain.crt");
        match expected {
            None => assert_eq!(value["order"], Value::Null, "{value}"),
            Some(words) => assert!(
                value["order"]
                    .as_str()
                    .is_some_and(|text| text.contains(words)),
                "{value}"
            ),
        }
    }
    let value = explained(&world, "chain.crt");
    let certificate = &value["contents"][1]["certificate"];
    assert_eq!(certificate["dns_names"], json!(["gitlab.test"]));
    assert_eq!(certificate["ip_addresses"], json!(["192.0.2.7"]));
    assert_eq!(certificate["extended_key_usages"], json!(["serverAuth"]));
    let note = value["contents"][1]["note"].as_str().expect("a note");
    assert!(note.contains("stands for its own server only"), "{note}");
}

#[test]
fn other_files_are_called_by_their_names_with_what_to_do() {
    let world = World::new();
    let root = Authority::root("Site root").issue();
    let request = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -subj /CN=x -out request.csr";
    let made = run(world.program("openssl").args(request.split(' ')));
    assert_eq!(made.code(), 0, "{}", made.all());
    let files: [(&str, Vec<u8>, &str, &str); 6] = [
        (
            "page.crt",
            b"<html><body>Sign in</body></html>".to_vec(),
            "a web page",
            "download again",
        ),
        (
            "own.key",
            root.key_pem().into(),
            "private key",
            "tls-key-file",
        ),
        (
            "id.pub",
            b"ssh-ed25519 AAAA me@here".to_vec(),
            "a key of SSH",
            "nothing to do with TLS",
        ),
        (
            "store.jks",
            vec![0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2],
            "a Java keystore",
            "keytool -importkeystore",
        ),
        (
            "notes.txt",
            b"hello".to_vec(),
            "text without any certificate",
            "ask whoever runs the CA",
        ),
        (
            "empty",
            Vec::new(),
            "an empty file",
            "ask whoever runs the CA",
        ),
    ];
    for (name, bytes, what, remedy) in files {
        world.write(&format!("work/{name}"), bytes);
        let finished = explain(&world, name, &[]);
        assert_eq!(finished.code(), 1, "{name}: {}", finished.all());
        assert!(finished.stdout.contains(what), "{name}: {}", finished.all());
        assert!(
            finished.stdout.contains(remedy),
            "{name}: {}",
            finished.all()
        );
        assert!(
            finished.stdout.contains("nothing is trusted"),
            "{name}: {}",
            finished.all()
        );
    }
    let finished = explain(&world, "request.csr", &[]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    assert!(
        finished.stdout.contains("certificate signing request"),
        "{}",
        finished.all()
    );
    assert!(
        finished.stdout.contains("send it to the CA"),
        "{}",
        finished.all()
    );
    let absent = explain(&world, "absent", &[]);
    assert_eq!(absent.code(), 2, "{}", absent.all());
}

#[test]
fn a_file_with_a_password_says_so() {
    let world = World::new();
    let root = Authority::root("Site root").issue();
    world.write("work/ca.crt", root.certificate_pem());
    world.write("work/PASSWORD", "s3cret\n");
    let export = "pkcs12 -export -nokeys -in ca.crt -passout file:PASSWORD -out ca.p12";
    let made = run(world.program("openssl").args(export.split(' ')));
    assert_eq!(made.code(), 0, "{}", made.all());
    let finished = explain(&world, "ca.p12", &[]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    assert!(
        finished
            .stdout
            .contains("not opened: it is protected by a password\n"),
        "{}",
        finished.all()
    );
    let opened = explain(&world, "ca.p12", &["--password-file", "PASSWORD"]);
    assert_eq!(opened.code(), 0, "{}", opened.all());
    assert!(
        opened.stdout.contains("  0. CN=Site root\n"),
        "{}",
        opened.all()
    );
    let command = finished
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("  $ courser "));
    let words: Vec<&str> = command
        .expect("a command")
        .split(' ')
        .chain(["--yes"])
        .collect();
    let cured = run(&mut world.courser(words));
    assert_eq!(cured.code(), 0, "{}", cured.all());
    assert!(
        world
            .read("work/ca.p12.pem")
            .ends_with(&root.certificate_pem())
    );
}

#[test]
fn the_remedy_for_a_file_in_another_form_cures_it() {
    let world = World::new();
    let root = Authority::root("Site root").issue();
    let pem = root.certificate_pem();
    let wide: Vec<u8> = pem.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let files: [(&str, Vec<u8>); 4] = [
        ("ca.der", root.der().to_vec()),
        ("wide.crt", wide),
        ("marked.crt", format!("\u{feff}{pem}").into()),
        (
            "trusted.crt",
            pem.replace(" CERTIFICATE", " TRUSTED CERTIFICATE").into(),
        ),
    ];
    for (name, bytes) in files {
        world.write(&format!("work/{name}"), bytes);
        let value = explained(&world, name);
        assert_eq!(value["as_tls_ca_file"]["certificates"], json!(0), "{name}");
        let command = value["remedy"]["command"].as_str().expect("a command");
        let mut words = command.split(' ');
        assert_eq!(words.next(), Some("courser"), "{command}");
        let cured = run(&mut world.courser(words.chain(["--yes"])));
        assert_eq!(cured.code(), 0, "{}", cured.all());
        let value = explained(&world, &format!("{name}.pem"));
        assert_eq!(value["as_tls_ca_file"]["certificates"], json!(1), "{name}");
        assert_eq!(value["remedy"], Value::Null, "{name}");
    }
}

#[test]
fn a_label_does_not_steer_the_terminal() {
    let world = World::new();
    let label = "X\u{1b}[31mY";
    let block = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    world.write("work/label.pem", block);
    let finished = explain(&world, "label.pem", &[]);
    assert!(
        finished.stdout.contains("X\\u{1b}[31mY"),
        "{}",
        finished.all()
    );
}

#[test]
fn what_comes_through_a_pipe_gets_a_file_of_its_own() {
    let world = World::new();
    let der = Authority::root("Site root").issue().der().to_vec();
    let input = std::fs::File::open(world.write("root.der", der)).unwrap();
    let mut command = world.courser(["trust", "explain", "-"]);
    let finished = run(command.stdin(std::process::Stdio::from(input)));
    assert!(
        finished
            .stdout
            .contains("$ courser trust import - --to certificates.pem"),
        "{}",
        finished.all()
    );
}
