//! `FF_RESOLVE_FULL_TLS_CHAIN`: whether a job's chain is followed to its root, and who decides that.

use courser_testkit::pki::Authority;
use courser_testkit::server::{FakeServer, Reply};

use super::site::{Certificates, Site};
use crate::world::Running;

const COUNTS: &str = r#"
job:
  script:
    - test "$(cat file.txt)" = content
    - grep -c 'BEGIN CERTIFICATE' "$CI_SERVER_TLS_CA_FILE" | sed 's/^/certificates in the file - /'
"#;

/// The same, and the job wants what only the runner's configuration can give.
const WANTS: &str = r#"
job:
  variables:
    FF_RESOLVE_FULL_TLS_CHAIN: "true"
  script:
    - grep -c 'BEGIN CERTIFICATE' "$CI_SERVER_TLS_CA_FILE" | sed 's/^/certificates in the file - /'
"#;

const FLAG: &str = "  [runners.feature_flags]\n    FF_RESOLVE_FULL_TLS_CHAIN = true";

/// A site whose runner trusts the intermediate authority alone, which says that its issuer lies at a server.
struct Incomplete {
    site: Site,
    pki: FakeServer,
}

impl Incomplete {
    fn start(pipeline: &str, answer: impl Fn(Vec<u8>) -> Reply) -> Self {
        let root = Authority::root("Private Root").issue();
        let reply = answer(root.der().to_vec());
        let pki = FakeServer::http(move |_| reply.clone());
        let (intermediate, leaf) = {
            let url = pki.url("/root.crt");
            let intermediate = root
                .intermediate("Private Intermediate")
                .issuer_at(&[&url])
                .issue();
            let leaf = intermediate.server(&["localhost", "127.0.0.1"]).issue();
            (intermediate.certificate_pem(), leaf)
        };
        let site = Site::start_with(pipeline, Certificates { root, leaf });
        site.world.write("tls/intermediate.pem", intermediate);
        Self { site, pki }
    }

    /// The logs of one pipeline, which has to do well.
    fn run(&self, keys: &str) -> String {
        self.run_saying(keys, &[])
    }

    /// The same; the runner's own log has these lines.
    fn run_saying(&self, keys: &str, said: &[&str]) -> String {
        let site = &self.site;
        site.config(&site.url, keys);
        let bundle = site.world.path("tls/intermediate.pem");
        let mut command = site.run_command();
        command
            .env("SSL_CERT_FILE", bundle)
            .env("SSL_CERT_DIR", site.world.path("tls/none"));
        let mut runner = Running::start(&mut command);
        let pipeline = site.create_pipeline();
        let outcome = site.outcome(pipeline);
        for line in said {
            runner.wait_for(line);
        }
        let logs = site.logs();
        assert_eq!(outcome, "success", "{logs}");
        logs
    }
}

fn root(der: Vec<u8>) -> Reply {
    Reply::with("application/pkix-cert", 200, der)
}

#[test]
fn t42_the_flag_of_the_runner_completes_the_chain_and_without_it_nothing_is_fetched() {
    let incomplete = Incomplete::start(COUNTS, root);
    let logs = incomplete.run("");
    assert!(logs.contains("certificates in the file - 2"), "{logs}");
    assert!(incomplete.pki.requests().is_empty());
    let logs = incomplete.run(FLAG);
    assert!(logs.contains("certificates in the file - 3"), "{logs}");
    assert_eq!(incomplete.pki.requests().len(), 1);
}

#[test]
fn t42_the_flag_as_a_variable_of_a_job_has_no_effect() {
    let incomplete = Incomplete::start(WANTS, root);
    let logs = incomplete.run("  environment = [\"FF_RESOLVE_FULL_TLS_CHAIN=true\"]");
    assert!(logs.contains("certificates in the file - 2"), "{logs}");
    assert!(incomplete.pki.requests().is_empty());
}

#[test]
fn a_configured_file_is_handed_over_as_it_is_whatever_the_flag_says() {
    let incomplete = Incomplete::start(COUNTS, root);
    let file = incomplete.site.ca_file("tls/intermediate.pem");
    let logs = incomplete.run(&format!("{file}\n{FLAG}"));
    assert!(logs.contains("certificates in the file - 1"), "{logs}");
    assert!(incomplete.pki.requests().is_empty());
}

#[test]
fn an_issuer_that_cannot_be_fetched_costs_the_job_nothing() {
    let incomplete = Incomplete::start(COUNTS, |_| Reply::status(404));
    let said = [
        "Remote certificate fetching error",
        "Error on fetching TLS Data from API response... error",
    ];
    let logs = incomplete.run_saying(FLAG, &said);
    assert!(logs.contains("certificates in the file - 2"), "{logs}");
    assert_eq!(incomplete.pki.requests().len(), 1);
}
