//! `courser trust check` of a runner with Docker: the Engine, and what the Engine says of registries.

use courser_testkit::pki::Authority;
use courser_testkit::server::{FakeServer, Reply};
use courser_testkit::servers::{DockerEngine, Registry};

use crate::world::{World, run};

/// A GitLab that is trusted, and a runner with these keys of Docker.
fn checked(world: &World, docker: &str) -> (serde_json::Value, String) {
    checked_with(world, docker, &[])
}

fn checked_with(world: &World, docker: &str, options: &[&str]) -> (serde_json::Value, String) {
    let root = Authority::root("GitLab's").issue();
    let gitlab = FakeServer::https(&root.server(&["localhost"]).issue(), |_| Reply::status(401));
    let ca = world.write("ca.pem", root.certificate_pem());
    let config = format!(
        "[[runners]]\nname = \"here\"\nurl = {:?}\ntoken = \"t\"\nexecutor = \"docker\"\ntls-ca-file = {ca:?}\n\
         [runners.docker]\n{docker}",
        gitlab.url_by_name("localhost", ""),
    );
    let config = world.write("config.toml", config);
    let config = config.to_str().expect("UTF-8");
    let check = |more: &[&str]| {
        let mut command = world.courser(["trust", "check", "here", "--config", config]);
        run(command.args(more).args(options))
    };
    let json = check(&["--json"]);
    let answer = serde_json::from_str(&json.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", json.all()));
    (answer, check(&[]).stdout)
}

fn legs<'a>(answer: &'a serde_json::Value, name: &str) -> Vec<&'a serde_json::Value> {
    let legs = answer["legs"].as_array().expect("a list").iter();
    legs.filter(|leg| leg["leg"] == name).collect()
}

fn text<'a>(leg: &'a serde_json::Value, field: &str) -> &'a str {
    leg[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field}: {leg:#}"))
}

#[test]
fn the_engine_and_the_registries_of_configured_images_are_legs() {
    let engine = DockerEngine::running();
    let world = World::new();
    let root = Authority::root("Registry CA").issue();
    let leaf = root.server(&[&engine.gateway]).issue();
    let registry = Registry::start(engine.gateway.parse().expect("an address"), &leaf);
    let name = registry.name();
    let docker = format!(
        "host = {:?}\nimage = \"{name}/team/box:1\"\n[[runners.docker.services]]\nname = \"$DATABASE\"\n",
        engine.host
    );

    let (answer, shown) = checked(&world, &docker);
    let said = text(legs(&answer, "engine")[0], "note").to_owned();
    assert!(
        said.starts_with("Docker Engine ") && said.contains(", API 1."),
        "{said}"
    );
    let [leg] = legs(&answer, "registry")[..] else {
        panic!("{answer:#}");
    };
    assert!(
        text(leg, "error").contains("x509: certificate signed by unknown authority"),
        "{leg:#}"
    );
    let file = format!("/etc/docker/certs.d/{name}/ca.crt");
    assert!(
        text(&leg["remedy"], "command")
            .ends_with(&format!("courser trust fetch {name} --to {file}")),
        "{leg:#}"
    );
    assert!(
        shown.contains("✓ engine") && shown.contains("✗ registry"),
        "{shown}"
    );

    let trust = engine.etc.join("certs.d").join(&name);
    std::fs::create_dir_all(&trust).expect("a directory");
    std::fs::write(trust.join("ca.crt"), root.certificate_pem()).expect("a file");
    let (answer, _) = checked(&world, &docker);
    std::fs::remove_dir_all(&trust).expect("removed");
    let leg = legs(&answer, "registry")[0];
    assert!(
        text(leg, "note").starts_with("trusted by the Docker Engine; "),
        "{leg:#}"
    );
    assert_eq!(answer["ok"], true, "{answer:#}");
}

#[test]
fn an_engine_behind_tls_is_described_like_any_server_and_one_that_is_not_there_has_a_remedy() {
    let engine = DockerEngine::running();
    let world = World::new();
    let docker = format!(
        "host = {:?}\ntls_verify = true\ntls_cert_path = {:?}\n",
        engine.tls_host, engine.cert_path
    );
    let (answer, _) = checked(&world, &docker);
    let leg = legs(&answer, "engine")[0];
    assert_eq!(leg["ok"], true, "{leg:#}");
    assert_eq!(leg["protocol"], "TLS 1.3");
    assert_eq!(leg["client_certificate"]["asked"], true);
    assert!(text(leg, "note").starts_with("Docker Engine "));

    let (answer, shown) = checked(
        &world,
        "host = \"unix:///nowhere/docker.sock\"\nimage = \"ruby\"\n",
    );
    let leg = legs(&answer, "engine")[0];
    assert!(
        text(leg, "error")
            .starts_with("Cannot connect to the Docker daemon at unix:///nowhere/docker.sock.")
    );
    assert!(
        text(&leg["remedy"], "advice").contains("install and start Docker"),
        "{leg:#}"
    );
    assert!(
        legs(&answer, "registry").is_empty(),
        "nobody could be asked: {shown}"
    );
}

#[test]
fn an_engine_of_this_machine_is_made_to_trust_what_courser_trusts_and_nothing_else() {
    let engine = DockerEngine::running();
    let world = World::new();
    let root = Authority::root("Registry CA").issue();
    let leaf = root.server(&[&engine.gateway]).issue();
    let registry = Registry::start(engine.gateway.parse().expect("an address"), &leaf);
    let name = registry.name();
    let docker = format!("host = {:?}\nimage = \"{name}/team/box:1\"\n", engine.host);
    let directory = engine.etc.to_str().expect("UTF-8");
    let fix = ["--fix", "--docker-directory", directory];
    let trust = engine.etc.join("certs.d").join(&name);

    let (answer, _) = checked_with(&world, &docker, &fix);
    let leg = legs(&answer, "registry")[0];
    assert!(
        text(leg, "note").starts_with("not fixed: Courser does not trust it either"),
        "{leg:#}"
    );
    assert!(
        !trust.exists(),
        "a stranger's certificate is not taken over"
    );

    let ca = world.write("registry.pem", root.certificate_pem());
    let ca = ca.to_str().expect("UTF-8");
    let (answer, _) = checked_with(&world, &docker, &[&fix[..], &["--ca", ca]].concat());
    let leg = legs(&answer, "registry")[0];
    let written = std::fs::read_to_string(trust.join("ca.crt"));
    drop(std::fs::remove_dir_all(&trust));
    assert_eq!(leg["ok"], true, "{leg:#}");
    assert!(
        text(leg, "note").starts_with("fixed: CN=Registry CA"),
        "{leg:#}"
    );
    assert!(written.expect("a file").contains(&root.certificate_pem()));
}
