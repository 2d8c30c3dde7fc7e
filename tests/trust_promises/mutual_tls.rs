//! A GitLab that serves nobody without a client certificate: the runner, Git and artifacts show theirs.

use courser_testkit::pki::{Authority, Issued};

use super::site::Site;
use crate::world::{Running, run};

const WHOLE: &str = r#"
stages: [first, second]

make:
  stage: first
  script:
    - test "$(cat file.txt)" = content
    - echo made > made.txt
  artifacts:
    paths: [made.txt]

take:
  stage: second
  script:
    - test "$(cat made.txt)" = made
    - git ls-remote --quiet origin main > /dev/null
    - >-
      for version in 1.2 1.3; do
      curl --silent --show-error --output /dev/null --write-out "curl by TLS $version says %{http_code}\n"
      --tlsv$version --tls-max $version --cacert "$CI_SERVER_TLS_CA_FILE"
      --cert "$CI_SERVER_TLS_CERT_FILE" --key "$CI_SERVER_TLS_KEY_FILE" "$CI_API_V4_URL/version"; done
    - curl --silent --show-error --cacert "$CI_SERVER_TLS_CA_FILE" "$CI_API_V4_URL/version" || echo "nobody without one"
"#;

/// A site for clients of an authority, and that authority.
struct Guarded {
    site: Site,
    clients: Issued,
}

impl Guarded {
    fn start(pipeline: &str) -> Self {
        let clients = Authority::root("Clients").issue();
        let own = clients.client("test").issue();
        let site = Site::start_for_clients(pipeline, &clients, &own);
        Self { site, clients }
    }

    /// The keys of a runner that shows this certificate.
    fn keys(&self, own: &Issued) -> String {
        let world = &self.site.world;
        let certificate = world.write("tls/runner.pem", own.chain_pem());
        let key = world.write("tls/runner.key", own.key_pem());
        format!(
            "{}\n  tls-cert-file = \"{}\"\n  tls-key-file = \"{}\"",
            self.site.ca_file("tls/root.pem"),
            certificate.display(),
            key.display()
        )
    }
}

#[test]
fn the_api_git_and_artifacts_show_the_runners_certificate() {
    let guarded = Guarded::start(WHOLE);
    let own = guarded.clients.intermediate("Team").issue();
    let own = own.client("runner").issue();
    let logs = guarded.site.assert_pipeline_succeeds(&guarded.keys(&own));
    assert!(logs.contains("curl by TLS 1.2 says"), "{logs}");
    assert!(logs.contains("curl by TLS 1.3 says"), "{logs}");
    assert!(logs.contains("nobody without one"), "{logs}");
    assert!(logs.contains("Downloading artifacts"), "{logs}");
    assert!(!logs.contains("PRIVATE KEY"), "{logs}");
}

#[test]
fn a_runner_without_a_good_certificate_is_told_why_on_both_sides() {
    let mut guarded = Guarded::start("job:\n  script: ['true']\n");
    let clients = &guarded.clients;
    let stranger = Authority::root("Strangers").issue();
    let table = [
        (
            None,
            "remote error: tls: certificate required",
            "which shows no certificate",
        ),
        (
            Some(clients.client("late").expired().issue()),
            "remote error: tls: expired certificate",
            "CN=late, issued by CN=Clients",
        ),
        (
            Some(stranger.client("other").issue()),
            "remote error: tls: unknown certificate authority",
            "CN=other, issued by CN=Strangers",
        ),
    ];
    for (own, to_runner, to_server) in table {
        let keys = match &own {
            Some(own) => guarded.keys(own),
            None => guarded.site.ca_file("tls/root.pem"),
        };
        guarded.site.config(&guarded.site.url, &keys);
        let verified = guarded.site.verify();
        assert!(verified.stderr.contains(to_runner), "{}", verified.all());
        let said = guarded.site.server.wait_for(to_server);
        assert!(said.contains("refused the client 127.0.0.1:"), "{said}");
    }
}

/// Waits in the middle until it is told to go on, and then needs all files of trust.
const WAITS: &str = r#"
job:
  script:
    - sha256sum < "$CI_SERVER_TLS_CERT_FILE"
    - touch "$WAITING"
    - for i in $(seq 2400); do if [ ! -e "$WAITING" ]; then break; fi; sleep 0.05; done
    - sha256sum < "$CI_SERVER_TLS_CERT_FILE"
    - git fetch --quiet origin main
    - echo made > made.txt
  after_script:
    - sha256sum < "$CI_SERVER_TLS_CERT_FILE"
  artifacts:
    paths: [made.txt]
"#;

#[test]
fn the_files_of_a_running_job_follow_those_of_its_runner() {
    let guarded = Guarded::start(WAITS);
    let site = &guarded.site;
    let of_first = guarded.clients.client("first").issue();
    let waiting = site.world.path("waiting");
    let keys = format!(
        "{}\n  environment = [\"WAITING={}\"]",
        guarded.keys(&of_first),
        waiting.display()
    );
    site.config(&site.url, &keys);
    let mut runner = Running::start(&mut site.run_command());
    let pipeline = site.create_pipeline();
    crate::world::eventually("the job waits", || waiting.exists());
    guarded.keys(&guarded.clients.client("second").issue());
    runner.wait_for("the job's certificates were exchanged");
    std::fs::remove_file(&waiting).expect("the job goes on");
    let outcome = site.outcome(pipeline);
    let logs = site.logs();
    assert_eq!(outcome, "success", "{logs}");
    let mut sums = logs.lines().filter_map(|line| {
        let (before, _) = line.split_once("  -")?;
        before.get(before.len().checked_sub(64)?..)
    });
    let first = sums.next().expect(&logs).to_owned();
    let second = sums.next().expect(&logs).to_owned();
    assert_ne!(first, second, "{logs}");
    assert_eq!(sums.collect::<Vec<_>>(), [second.as_str()], "{logs}");

    // The next job begins with the new ones.
    let pipeline = site.create_pipeline();
    crate::world::eventually("the job waits", || waiting.exists());
    std::fs::remove_file(&waiting).expect("the job goes on");
    assert_eq!(site.outcome(pipeline), "success", "{}", site.logs());
    let other = site
        .logs()
        .lines()
        .filter(|line| line.contains(&second))
        .count();
    assert_eq!(other, 5, "{}", site.logs());
}

#[test]
fn a_client_authority_that_cannot_be_read_is_named() {
    let world = crate::world::World::new();
    let mut command = world.courser(["coordinator", "serve", "--listen", "127.0.0.1:0"]);
    command
        .arg("--client-ca-file")
        .arg(world.path("clients.pem"));
    let finished = run(&mut command);
    assert_ne!(finished.code(), 0);
    assert!(
        finished.stderr.contains("clients.pem"),
        "{}",
        finished.all()
    );
}
