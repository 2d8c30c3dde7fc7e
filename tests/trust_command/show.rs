//! `courser trust show`: the trust of each connection, as the resolver hands it out.

use courser_testkit::pki::Authority;
use serde_json::{Value, json};

use crate::world::{Finished, World, run};

const CONFIG: &str = r#"
[[runners]]
name = "one"
url = "https://gitlab.test:8443/"
token = "t"
executor = "shell"

[[runners]]
name = "two"
url = "https://[2001:db8::1]/"
token = "t"
executor = "kubernetes"
[runners.kubernetes]
host = "https://kube.test"
ca_file = "/nowhere/ca.crt"
"#;

fn show(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    // The machine's own store must not matter.
    let system = world.path("no-store");
    let all = ["trust", "show", "--config", "config.toml"];
    run(world
        .courser(all.iter().chain(arguments))
        .env("SSL_CERT_FILE", &system)
        .env("SSL_CERT_DIR", &system)
        .envs(variables.iter().copied()))
}

fn legs(finished: &Finished) -> Vec<Value> {
    assert_eq!(finished.code(), 0, "{}", finished.all());
    let value: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    value["legs"].as_array().expect("a list").clone()
}

fn leg(all: &[Value], runner: &str, name: &str) -> Value {
    all.iter()
        .find(|leg| leg["runner"] == json!(runner) && leg["leg"] == json!(name))
        .unwrap_or_else(|| panic!("{runner} has no {name}"))
        .clone()
}

/// Where this user's predefined files lie, as the program itself says.
fn certificate_directory(world: &World) -> std::path::PathBuf {
    let finished = show(world, &["--json"], &[]);
    let value: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    value["certificate_directory"]
        .as_str()
        .expect("a path")
        .into()
}

#[test]
fn files_are_shown_with_what_they_hold_and_what_is_skipped() {
    let world = World::new();
    let root = Authority::root("Site root").issue();
    let pem = root.certificate_pem();
    world.write("work/ca.crt", format!("{pem}  {pem}"));
    let client = root.client("runner").issue();
    world.write("work/own.crt", client.chain_pem());
    let key = world.write("work/own.key", root.key_pem());
    let options =
        "tls-ca-file = \"ca.crt\"\ntls-cert-file = \"own.crt\"\ntls-key-file = \"own.key\"\n";
    let config = CONFIG.replacen(
        "executor = \"shell\"\n",
        &format!("executor = \"shell\"\n{options}"),
        1,
    );
    world.write("work/config.toml", config);
    set_mode(&key, 0o644);

    let all = legs(&show(&world, &["--json"], &[]));
    let api = leg(&all, "one", "gitlab");
    let source = &api["sources"][0];
    assert_eq!(source["kind"], json!("configured"));
    assert_eq!(source["certificates"][0]["subject"], json!("CN=Site root"));
    assert!(source["certificates"][0]["days_left"].as_i64() > Some(365));
    assert_eq!(
        source["skipped"][0]["reason"],
        json!("the block is indented")
    );
    let pair = &api["client_certificate"];
    assert_eq!(pair["usable"], json!(false));
    assert_eq!(
        pair["problem"],
        json!(
            "the private key is not the certificate's; name the key with which the certificate was requested"
        )
    );
    assert_eq!(pair["key_mode_too_open"], json!(true));
    let git = leg(&all, "one", "git");
    assert!(
        git["notes"][0]
            .as_str()
            .is_some_and(|note| note.contains("byte for byte"))
    );

    world.write("work/own.key", client.key_pem());
    set_mode(&key, 0o600);
    let text = show(&world, &["--runner", "one"], &[]).stdout;
    assert!(
        !text.contains("not used") && !text.contains("chmod"),
        "{text}"
    );
    assert!(!text.contains("kube.test"), "{text}");
    assert!(
        text.contains("the block is indented; remove the indentation: "),
        "{text}"
    );
}

#[cfg(unix)]
fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
}

#[test]
fn predefined_files_are_named_whether_they_are_there_or_not() {
    let world = World::new();
    world.write("work/config.toml", CONFIG);
    let directory = certificate_directory(&world);
    let all = legs(&show(&world, &["--json"], &[]));
    let names = |runner: &str| leg(&all, runner, "gitlab")["looked_for"].clone();
    let path = |name: &str| directory.join(name).display().to_string();
    assert_eq!(
        names("one"),
        json!([
            path("gitlab.test.crt"),
            path("gitlab.test.auth.crt"),
            path("gitlab.test.auth.key")
        ])
    );
    assert_eq!(names("two")[0], json!(path("2001:db8::1.crt")));
    let text = show(&world, &[], &[]).stdout;
    let line = format!("looked for {}: not there", path("gitlab.test.crt"));
    assert!(text.contains(&line), "{text}");
}

#[test]
fn legs_of_other_executors_are_shown_as_configured() {
    let world = World::new();
    world.write("work/config.toml", CONFIG);
    let all = legs(&show(&world, &["--json"], &[]));
    let kubernetes = leg(&all, "two", "kubernetes");
    assert_eq!(kubernetes["peer"], json!("https://kube.test"));
    assert_eq!(kubernetes["system"], json!(false));
    assert_eq!(kubernetes["sources"][0]["present"], json!(false));
    assert!(!all.iter().any(|leg| leg["leg"] == json!("docker")));
    let variables = [
        ("DOCKER_HOST", "tcp://d.test:2376"),
        ("DOCKER_CERT_PATH", "/nowhere"),
        ("DOCKER_TLS_VERIFY", "1"),
        ("VAULT_CACERT", "/vault.crt"),
        ("BAO_CACERT", ""),
        ("VAULT_CAPATH", "/authorities"),
    ];
    let all = legs(&show(&world, &["--json", "--all"], &variables));
    let docker = leg(&all, "one", "docker");
    assert_eq!(docker["peer"], json!("tcp://d.test:2376"));
    assert_eq!(docker["sources"][0]["name"], json!("/nowhere/ca.pem"));
    assert_eq!(docker["system"], json!(false));
    let secrets = all.last().expect("a leg");
    assert_eq!(secrets["leg"], json!("secrets"));
    assert_eq!(
        secrets["sources"],
        json!([]),
        "an empty BAO_CACERT beats VAULT_CACERT"
    );
    assert_eq!(
        secrets["notes"][0],
        json!("decided by BAO_CACERT, VAULT_CAPATH")
    );
}

#[test]
fn without_a_configuration_the_process_is_shown() {
    let world = World::new();
    let finished = show(&world, &[], &[("VAULT_CACERT", "/vault.crt")]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(
        finished
            .stdout
            .lines()
            .next()
            .is_some_and(|line| line.starts_with("configuration: ")
                && line.ends_with("config.toml is not there")),
        "{}",
        finished.all()
    );
    assert!(
        finished.stdout.contains("system store: 0 certificates"),
        "{}",
        finished.all()
    );
    assert!(
        finished.stdout.contains("file /vault.crt: not there"),
        "{}",
        finished.all()
    );
    let unknown = show(&world, &["--runner", "nobody"], &[]);
    assert_eq!(unknown.code(), 2, "{}", unknown.all());
}
