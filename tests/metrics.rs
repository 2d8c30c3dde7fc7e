//! `listen_address`: what Prometheus and curious people see of a running runner.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use courser_testkit::pki::{Authority, Issued};

use crate::trust_promises::site::{Certificates, Site};
use crate::world::{PATIENCE, Running, run};

struct Scraped {
    site: Site,
    runner: Running,
    address: String,
}

impl Scraped {
    /// A server whose chain ends at `root`, and a runner with metrics that trusts it.
    fn start(root: &Issued, leaf: &Issued) -> Self {
        let certificates = Certificates {
            root: root.clone(),
            leaf: leaf.clone(),
        };
        let site = Site::start_with("job:\n  script: ['true']\n", certificates);
        site.world.write("tls/ca.pem", root.certificate_pem());
        let config = site.config(&site.url, &site.ca_file("tls/ca.pem"));
        let text = std::fs::read_to_string(&config).expect("the configuration");
        std::fs::write(&config, format!("listen_address = \"127.0.0.1:0\"\n{text}"))
            .expect("write the configuration");
        let mut runner = Running::start(&mut site.run_command());
        let line = runner.wait_for("Metrics server listening");
        let address = line
            .split_whitespace()
            .find_map(|word| word.split_once("127.0.0.1:"))
            .expect("the address");
        Self {
            address: format!("http://127.0.0.1:{}", address.1),
            site,
            runner,
        }
    }

    /// The status and the body of a page.
    fn get(&self, path: &str, arguments: &[&str]) -> (String, String) {
        let mut command = self.site.world.program("curl");
        command
            .args(["--silent", "--show-error", "--write-out", "\n%{http_code}"])
            .args(arguments)
            .arg(format!("{}{path}", self.address));
        let finished = run(&mut command);
        let (body, status) = finished.stdout.rsplit_once('\n').expect("a status");
        (status.to_owned(), body.to_owned())
    }

    fn metrics(&self) -> String {
        let (status, page) = self.get("/metrics", &[]);
        assert_eq!(status, "200");
        page
    }

    /// Scrapes until the page has a line that begins like this, and returns the rest of it.
    fn wait_for(&self, start: &str, holds: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let page = self.metrics();
            let found = page.lines().find_map(|line| line.strip_prefix(start));
            if let Some(rest) = found.filter(|rest| holds(rest.trim())) {
                return rest.trim().to_owned();
            }
            assert!(Instant::now() < deadline, "no {start} in\n{page}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Asserts the text form of Prometheus: families begun once, samples beside them, labels quoted, numbers.
fn assert_well_formed(page: &str) {
    let mut begun = HashSet::new();
    let mut family = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(begun.insert(name.to_owned()), "{name} is begun twice");
            family = name.to_owned();
        } else if !line.starts_with("# HELP ") {
            let (sample, number) = line.rsplit_once(' ').expect("a number");
            assert!(number.parse::<f64>().is_ok(), "{line}");
            let name = sample.split('{').next().expect("a name");
            let of_family = name.strip_prefix(&family);
            assert!(
                of_family.is_some_and(|end| ["", "_bucket", "_sum", "_count"].contains(&end)),
                "{line} is no sample of {family}"
            );
            assert_eq!(sample.contains('{'), sample.ends_with("\"}"), "{line}");
        }
    }
    assert!(begun.len() > 20, "{begun:?}");
}

#[test]
fn jobs_trust_and_process_are_told_of_in_the_names_that_dashboards_know() {
    let root = Authority::root("Metrics Root").issue();
    let intermediate = root.intermediate("Metrics Intermediate").issue();
    let scraped = Scraped::start(
        &root,
        &intermediate.server(&["localhost", "127.0.0.1"]).issue(),
    );
    let pipeline = scraped.site.create_pipeline();
    assert_eq!(scraped.site.outcome(pipeline), "success");
    scraped.wait_for("gitlab_runner_jobs_total{", |rest| rest.ends_with(" 1"));

    let page = scraped.metrics();
    assert_well_formed(&page);
    for start in [
        "gitlab_runner_concurrent 2",
        "gitlab_runner_limit{runner=",
        "gitlab_runner_errors_total{level=\"warning\"}",
        "gitlab_runner_configuration_loaded_total 1",
        "gitlab_runner_version_info{name=\"gitlab-runner\"",
        "gitlab_runner_process_state_info{state=\"running\"} 1",
        "process_start_time_seconds ",
        "courser_trust_generation ",
        "courser_trust_system_certificates ",
    ] {
        assert!(
            page.lines().any(|line| line.starts_with(start)),
            "{start} in\n{page}"
        );
    }
    for part in [
        "endpoint=\"request_job\",status=\"201\",method=\"post\"} 1",
        "endpoint=\"update_job\",status=\"200\",method=\"put\"}",
        "le=\"+Inf\"} 1",
        "runner_name=\"by hand\"",
    ] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    for (role, subject) in [
        ("anchor", "CN=Metrics Root"),
        ("leaf", ""),
        ("intermediate", "CN=Metrics Intermediate"),
        ("chain_anchor", "CN=Metrics Root"),
    ] {
        let start = format!("courser_trust_certificate_expiry_timestamp_seconds{{role=\"{role}\"");
        let line = page.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no {role} in\n{page}"));
        assert!(line.contains(&format!("subject=\"{subject}")), "{line}");
    }
    assert!(
        !page.contains("glrt-") && !page.contains("PRIVATE KEY"),
        "{page}"
    );

    assert_eq!(scraped.get("/metrics", &["--head"]).0, "200");
    assert_eq!(scraped.get("/metrics", &["--request", "POST"]).0, "405");
    assert_eq!(scraped.get("/debug/pprof/", &[]).0, "404");
    assert_eq!(scraped.get("/debug/process/state", &[]).1.trim(), "running");
}

#[test]
fn a_broken_ca_file_is_counted_and_said_until_it_is_mended() {
    let root = Authority::root("Root").issue();
    let mut scraped = Scraped::start(&root, &root.server(&["localhost", "127.0.0.1"]).issue());
    let file = scraped.site.world.path("tls/ca.pem").display().to_string();
    let refused = format!("courser_trust_file_refused{{file=\"{file}\"}}");
    scraped.wait_for(
        "courser_trust_handshakes_total{verdict=\"accepted\"}",
        |rest| rest != "0",
    );

    scraped.site.world.write("tls/ca.pem", "no certificate");
    scraped.wait_for(&refused, |rest| rest == "1");
    let failures = format!("courser_trust_reload_failures_total{{file=\"{file}\"}}");
    scraped.wait_for(&failures, |rest| rest == "1");
    scraped
        .runner
        .wait_for("its last good content stays trusted");

    scraped
        .site
        .world
        .write("tls/ca.pem", root.certificate_pem());
    scraped.wait_for(&refused, |rest| rest == "0");
    scraped.runner.wait_for("is good again");
}

#[test]
fn certificates_that_end_soon_are_told_of_once() {
    let world = crate::world::World::new();
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -days 5 \
                  -subj '/CN=Ends soon' -out ends.pem 2>/dev/null";
    let made = run(world.program("sh").args(["-c", script]));
    assert!(made.status.success(), "{}", made.all());
    let site = Site::start("job:\n  script: ['true']\n");
    let both = site.certificates.root.certificate_pem() + &world.read("work/ends.pem");
    site.world.write("tls/ca.pem", both);
    site.config(&site.url, &site.ca_file("tls/ca.pem"));
    let mut runner = Running::start(&mut site.run_command());
    let line = runner.wait_for("the trusted certificate CN=Ends soon of");
    assert!(
        line.contains("WARNING: the trusted certificate CN=Ends soon of")
            // Five in the second in which it was made.
            && (line.contains("expires in 4 days, on ") || line.contains("expires in 5 days, on ")),
        "{line}"
    );
}
