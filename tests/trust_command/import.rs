//! `courser trust import`: plain PEM out of whatever there is.

use std::os::unix::fs::PermissionsExt as _;

use courser_testkit::pki::{Authority, Issued};

use crate::world::{Finished, World, run};

fn import(world: &World, arguments: &[&str]) -> Finished {
    let words = ["trust", "import"];
    run(&mut world.courser(words.iter().chain(arguments)))
}

fn openssl(world: &World, arguments: &str) {
    let finished = run(world.program("openssl").args(arguments.split(' ')));
    assert_eq!(
        finished.code(),
        0,
        "openssl {arguments}: {}",
        finished.all()
    );
}

fn fingerprint(world: &World, file: &str) -> String {
    let arguments = ["x509", "-in", file, "-noout", "-fingerprint", "-sha256"];
    run(world.program("openssl").args(arguments))
        .stdout
        .trim()
        .to_owned()
}

/// A root, a client below it, and their files.
fn site() -> (World, Issued, Issued) {
    let world = World::new();
    let root = Authority::root("Site root").issue();
    let client = root.client("runner").issue();
    world.write("work/ca.crt", root.certificate_pem());
    world.write("work/ca.der", root.der());
    world.write("work/client.crt", client.certificate_pem());
    world.write("work/client.key", client.key_pem());
    world.write("work/password", "s3cr\u{e9}t\nnot this line");
    (world, root, client)
}

#[test]
fn every_form_becomes_the_same_pem() {
    let (world, ..) = site();
    openssl(
        &world,
        "crl2pkcs7 -nocrl -certfile ca.crt -outform der -out ca.p7b",
    );
    openssl(&world, "crl2pkcs7 -nocrl -certfile ca.crt -out ca.p7c");
    openssl(
        &world,
        "pkcs12 -export -nokeys -in ca.crt -passout pass: -out ca.p12",
    );
    let pem = world.read("work/ca.crt");
    world.write(
        "work/indented.crt",
        pem.replace('\n', "\n  ")
            .replacen("-----BEGIN", "  -----BEGIN", 1),
    );
    let plain = import(&world, &["ca.crt"]).stdout;
    assert!(plain.starts_with("# CN=Site root\n# SHA-256 "), "{plain}");
    assert!(plain.ends_with(&pem), "{plain}");
    for name in ["ca.der", "ca.p7b", "ca.p7c", "ca.p12", "indented.crt"] {
        let finished = import(&world, &[name]);
        assert_eq!(finished.code(), 0, "{name}: {}", finished.all());
        assert_eq!(finished.stdout, plain, "{name}");
    }
}

/// Each form that `tls-ca-file` refuses: `trust verify` names a command, and the command cures it.
#[test]
fn the_repair_of_a_refused_trust_file_cures_it() {
    let (world, root, _) = site();
    openssl(
        &world,
        "crl2pkcs7 -nocrl -certfile ca.crt -outform der -out ca.p7b",
    );
    openssl(&world, "crl2pkcs7 -nocrl -certfile ca.crt -out ca.p7c");
    openssl(&world, "x509 -in ca.crt -trustout -out trusted.crt");
    let server = root.server(&["gitlab.test"]).issue();
    world.write("work/chain.crt", server.chain_pem());
    let verify = |name: &str| {
        let question = [
            "trust",
            "verify",
            "--no-system",
            "--ca",
            name,
            "--chain",
            "chain.crt",
            "--host",
            "gitlab.test",
        ];
        run(&mut world.courser(question))
    };
    for name in ["ca.der", "ca.p7b", "ca.p7c", "trusted.crt"] {
        let refused = verify(name);
        assert_eq!(refused.code(), 2, "{name}: {}", refused.all());
        let command = refused
            .stderr
            .split(": courser ")
            .nth(1)
            .expect("a command");
        let cure = run(&mut world.courser(command.split_whitespace()));
        assert_eq!(cure.code(), 0, "{name}: {}", cure.all());
        assert_eq!(verify(name).code(), 0, "{name}");
    }
    openssl(
        &world,
        "pkcs12 -export -nokeys -in ca.crt -passout pass: -out ca.p12",
    );
    let refused = verify("ca.p12");
    assert!(
        refused.stderr.contains("this file is PKCS#12, not PEM"),
        "{}",
        refused.all()
    );
}

#[test]
fn pkcs12_of_every_age_is_opened_with_its_password() {
    let (world, root, client) = site();
    let ways = [
        "",
        " -legacy",
        " -certpbe AES-128-CBC -keypbe AES-192-CBC -macalg sha512 -iter 9",
        " -certpbe PBE-SHA1-RC2-128 -keypbe PBE-SHA1-3DES -legacy",
        " -certpbe NONE -keypbe NONE -nomac",
        " -nomac",
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let export = format!(
            "pkcs12 -export -in client.crt -inkey client.key -certfile ca.crt -passout file:password -out {number}.p12{way}"
        );
        openssl(&world, &export);
        let (file, certificate, key) = (
            format!("{number}.p12"),
            format!("{number}.crt"),
            format!("{number}.key"),
        );
        let arguments = [
            file.as_str(),
            "--password-file",
            "password",
            "--to",
            &certificate,
            "--key",
            &key,
            "--yes",
        ];
        let finished = import(&world, &arguments);
        assert_eq!(finished.code(), 0, "{way}: {}", finished.all());
        let written = world.read(&format!("work/{certificate}"));
        assert!(written.contains(&client.certificate_pem()), "{way}");
        assert!(written.contains(&root.certificate_pem()), "{way}");
        assert!(
            !written.contains("PRIVATE KEY") && !finished.stdout.contains("PRIVATE KEY"),
            "{way}"
        );
        assert_eq!(
            world.read(&format!("work/{key}")).trim(),
            client.key_pem().trim(),
            "{way}"
        );
        let mode = std::fs::metadata(world.path(&format!("work/{key}")))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    for arguments in [&["0.p12"][..], &["0.p12", "--password-file", "ca.crt"]] {
        let finished = import(&world, arguments);
        assert_eq!(finished.code(), 2, "{}", finished.all());
        assert!(
            finished.stderr.contains("--password-file"),
            "{}",
            finished.all()
        );
    }
    // A key that is there already stays, a key and a certificate share no file, and neither leaves half of it done.
    let open = ["0.p12", "--password-file", "password"];
    for key in ["client.key", "new.crt"] {
        let more = ["--to", "new.crt", "--yes", "--key", key];
        let again = import(&world, &[&open[..], &more].concat());
        assert_eq!(again.code(), 2, "{}", again.all());
        assert!(!world.path("work/new.crt").exists(), "{}", again.all());
    }
}

#[test]
fn nothing_is_written_before_the_fingerprint_is_confirmed() {
    let (world, ..) = site();
    let other = Authority::root("Other").issue();
    world.write(
        "work/two.crt",
        world.read("work/ca.crt") + &other.certificate_pem(),
    );
    let right = fingerprint(&world, "ca.crt");
    let wrong = "00".repeat(32);
    for arguments in [
        &["ca.der", "--to", "new.crt"][..],
        &["ca.der", "--to", "new.crt", "--fingerprint", &wrong],
    ] {
        let finished = import(&world, arguments);
        assert_eq!(finished.code(), 1, "{}", finished.all());
        assert!(!world.path("work/new.crt").exists());
    }
    let finished = import(
        &world,
        &["two.crt", "--to", "new.crt", "--fingerprint", &right],
    );
    assert_eq!(finished.code(), 0, "{}", finished.all());
    let written = world.read("work/new.crt");
    assert!(
        written.contains("# CN=Site root\n") && !written.contains("CN=Other"),
        "{written}"
    );
    let mode = std::fs::metadata(world.path("work/new.crt"))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[test]
fn a_file_that_is_there_is_added_to_and_the_source_replaced() {
    let (world, root, _) = site();
    let other = Authority::root("Other").issue();
    world.write(
        "work/trust.crt",
        format!("# mine\n{}", other.certificate_pem()),
    );
    for expected in ["written to", "holds them already"] {
        let finished = import(&world, &["ca.der", "--to", "trust.crt", "--yes"]);
        assert_eq!(finished.code(), 0, "{}", finished.all());
        assert!(finished.stdout.contains(expected), "{}", finished.all());
    }
    let written = world.read("work/trust.crt");
    assert!(written.starts_with("# mine\n"), "{written}");
    assert_eq!(written.matches("BEGIN CERTIFICATE").count(), 2, "{written}");
    // A DER file that the configuration names is converted in its place.
    let finished = import(&world, &["ca.der", "--to", "ca.der", "--yes"]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(world.read("work/ca.der").ends_with(&root.certificate_pem()));
    let with_key = world.read("work/client.key") + &root.certificate_pem();
    world.write("work/both.pem", &with_key);
    let finished = import(&world, &["both.pem", "--to", "both.pem", "--yes"]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    assert_eq!(world.read("work/both.pem"), with_key, "its key is not lost");
}

#[test]
fn the_predefined_file_is_named_after_the_host() {
    let (world, ..) = site();
    // Root's directory is not the test's: only the name that would be written is looked at.
    let finished = import(&world, &["ca.der", "--host", "[2001:db8::1]"]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    assert!(
        finished.stdout.contains("certs/2001:db8::1.crt\n"),
        "{}",
        finished.all()
    );
    for host in ["../x", "", "a/b"] {
        let finished = import(&world, &["ca.der", "--host", host, "--yes"]);
        assert_eq!(finished.code(), 2, "{host}: {}", finished.all());
    }
    let both = import(&world, &["ca.der", "--host", "h", "--to", "x"]);
    assert_eq!(both.code(), 2, "{}", both.all());
}

#[test]
fn a_file_without_certificates_is_said_to_be_one() {
    let (world, ..) = site();
    let finished = import(&world, &["client.key", "--to", "x.crt", "--yes"]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    assert!(
        finished.stderr.contains("holds no certificate"),
        "{}",
        finished.all()
    );
    assert!(
        finished.stderr.contains("courser trust explain client.key"),
        "{}",
        finished.all()
    );
}
