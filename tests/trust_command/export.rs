//! `courser trust export`: the trust of a connection as a file.

use courser_testkit::pki::{Authority, Issued};

use crate::world::{Finished, World, run};

const CONFIG: &str = r#"
[[runners]]
name = "one"
url = "https://gitlab.test"
token = "t"
executor = "shell"
tls-ca-file = "ca.crt"
"#;

/// A system store of one root; a CA file with another, and a pinned server.
fn site() -> (World, [Issued; 3]) {
    let world = World::new();
    let system = Authority::root("System root").issue();
    let private = Authority::root("Private root").issue();
    let pinned = Authority::self_signed_server(&["pinned.test"]).issue();
    world.write("work/system.crt", system.certificate_pem());
    world.write(
        "work/ca.crt",
        private.certificate_pem() + &pinned.certificate_pem(),
    );
    world.write("work/config.toml", CONFIG);
    (world, [system, private, pinned])
}

fn export(world: &World, arguments: &[&str]) -> Finished {
    let words = ["trust", "export", "--config", "config.toml"];
    run(world
        .courser(words.iter().chain(arguments))
        .env("SSL_CERT_FILE", world.path("work/system.crt"))
        .env("SSL_CERT_DIR", world.path("nowhere")))
}

fn exported(world: &World, arguments: &[&str]) -> String {
    let finished = export(world, arguments);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    finished.stdout
}

#[test]
fn a_bundle_has_the_private_certificates_and_the_systems() {
    let (world, [system, private, pinned]) = site();
    let all = exported(&world, &["-o", "-"]);
    for one in [&system, &private, &pinned] {
        assert!(all.contains(&one.certificate_pem()), "{all}");
    }
    let source = format!(
        "# configured file {}, line 1\n# CN=Private root\n",
        world.path("work/ca.crt").display()
    );
    assert!(all.contains(&source), "{all}");
    let own = exported(&world, &["--private-only", "--output", "-"]);
    assert!(own.contains(&pinned.certificate_pem()) && !own.contains(&system.certificate_pem()));
    let tools = exported(&world, &["--leg", "job-tools", "-o", "-"]);
    assert!(
        tools.contains(&private.certificate_pem()) && tools.contains(&system.certificate_pem())
    );
    assert!(
        !tools.contains(&pinned.certificate_pem()),
        "a pin stands for one server only"
    );
}

#[test]
fn other_forms_can_be_read_again() {
    let (world, [_, private, _]) = site();
    exported(
        &world,
        &[
            "--leg",
            "job-tools",
            "--private-only",
            "--format",
            "der",
            "-o",
            "ca.der",
        ],
    );
    assert_eq!(
        std::fs::read(world.path("work/ca.der")).expect("written"),
        private.der().to_vec()
    );
    exported(&world, &["--format", "pkcs12", "-o", "all.p12"]);
    let read = run(&mut world.courser(["trust", "import", "all.p12"]));
    assert_eq!(
        read.stdout.matches("BEGIN CERTIFICATE").count(),
        3,
        "{}",
        read.all()
    );
    let several = export(&world, &["--format", "der", "-o", "x.der"]);
    assert_eq!(several.code(), 2, "{}", several.all());
    assert!(
        several
            .stderr
            .contains("DER holds one certificate, and 3 are trusted"),
        "{}",
        several.all()
    );
}

#[test]
fn it_says_when_there_is_nothing_or_no_telling_what() {
    let (world, _) = site();
    let docker = export(&world, &["--leg", "docker", "-o", "x"]);
    assert_eq!(docker.code(), 1, "{}", docker.all());
    let secrets = export(&world, &["--leg", "secrets", "--private-only", "-o", "x"]);
    assert_eq!(secrets.code(), 1, "{}", secrets.all());
    let unknown = export(&world, &["--runner", "nobody", "-o", "x"]);
    assert_eq!(unknown.code(), 2, "{}", unknown.all());
    world.write(
        "work/config.toml",
        CONFIG.to_owned() + &CONFIG.replace("\"one\"", "\"two\""),
    );
    let several = export(&world, &["-o", "x"]);
    assert_eq!(several.code(), 2, "{}", several.all());
    assert!(several.stderr.contains("--runner"), "{}", several.all());
    assert!(!world.path("work/x").exists());
    std::fs::remove_file(world.path("work/config.toml")).expect("removed");
    assert!(exported(&world, &["-o", "-"]).contains("# CN=System root\n"));
}

#[test]
fn a_pipe_is_written_to_and_stays() {
    let (world, [_, private, _]) = site();
    let pipe = world.path("work/pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read_to_string(pipe).unwrap()
    });
    exported(&world, &["--private-only", "-o", "pipe"]);
    assert!(!std::fs::symlink_metadata(&pipe).unwrap().is_file());
    assert!(reader.join().unwrap().contains(&private.certificate_pem()));
}
