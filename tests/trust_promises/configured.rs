//! `tls-ca-file` in `config.toml`: polling, reload, formats, URL changes.

use std::process::Command;

use crate::world::{Running, run};

use super::site::{Certificates, Site, UNKNOWN_AUTHORITY};

const TRIVIAL: &str = "job:\n  script: ['true']\n";

#[test]
fn t2_a_runner_that_lacks_the_ca_says_so_in_the_words_people_search_for_and_keeps_polling() {
    let site = Site::start(TRIVIAL);
    site.config(&site.url, "");
    let mut runner = Running::start(&mut site.run_command());
    let wanted = format!(
        "couldn't execute post against {}/api/v4/jobs/request",
        site.url
    );
    let line = runner.wait_for("jobs/request");
    assert!(line.to_lowercase().contains(&wanted), "{line}");
    assert!(line.contains(UNKNOWN_AUTHORITY), "{line}");
    // The second line is the second poll: it goes on.
    let again = runner.wait_for("jobs/request");
    assert!(again.contains(UNKNOWN_AUTHORITY), "{again}");
}

#[test]
fn t5_a_ca_file_written_by_hand_runs_jobs_and_the_hand_written_file_stays_as_it_is() {
    let site = Site::start(TRIVIAL);
    site.assert_pipeline_succeeds(&site.ca_file("tls/root.pem"));
    let text = site.world.read("config/config.toml");
    assert!(text.starts_with("# written by hand\n"), "{text}");
    assert!(text.contains("# kept"), "{text}");
}

#[test]
fn t6_a_replaced_ca_file_counts_at_the_next_poll_without_a_restart() {
    let site = Site::start(TRIVIAL);
    site.world
        .write("tls/ca.pem", Certificates::new().root.certificate_pem());
    site.config(&site.url, &site.ca_file("tls/ca.pem"));
    let mut runner = Running::start(&mut site.run_command());
    assert!(runner.wait_for("jobs/request").contains(UNKNOWN_AUTHORITY));
    site.world
        .write("tls/ca.pem", site.certificates.root.certificate_pem());
    let pipeline = site.create_pipeline();
    assert_eq!(site.outcome(pipeline), "success", "{}", site.logs());
}

#[test]
fn t7_pem_is_read_and_der_is_refused_with_an_error_and_not_used() {
    let site = Site::start(TRIVIAL);
    site.world
        .write("tls/root.der", site.certificates.root.der());
    site.config(&site.url, &site.ca_file("tls/root.der"));
    let mut runner = Running::start(&mut site.run_command());
    let line = runner.wait_for("Failed to parse PEM in");
    assert!(line.contains("root.der"), "{line}");
    assert!(runner.wait_for("jobs/request").contains(UNKNOWN_AUTHORITY));
}

#[test]
fn t15_the_certificate_of_the_authority_is_enough_and_the_servers_is_not_needed() {
    let site = Site::start(TRIVIAL);
    site.config(&site.url, &site.ca_file("tls/root.pem"));
    let verified = site.verify();
    assert_eq!(verified.code(), 0, "{}", verified.all());
    assert!(
        verified.stderr.contains("Verifying runner... is valid"),
        "{}",
        verified.all()
    );
}

#[test]
fn t17_changed_certificates_of_a_runner_count_after_a_restart_at_the_latest() {
    let site = Site::start(TRIVIAL);
    let old = site.certificates.root.certificate_pem();
    site.world.write("tls/ca.pem", &old);
    site.assert_pipeline_succeeds(&site.ca_file("tls/ca.pem"));
    // The runner is down while the server and its authority change.
    let new = Certificates::new();
    let root = new.root.certificate_pem();
    site.world.write("tls/root.pem", old + &root);
    site.world.write("tls/ca.pem", &root);
    site.world.write("tls/server.pem", new.leaf.chain_pem());
    site.world.write("tls/server.key", new.leaf.key_pem());
    let _runner = Running::start(&mut site.run_command());
    let pipeline = site.create_pipeline();
    assert_eq!(site.outcome(pipeline), "success", "{}", site.logs());
}

#[test]
fn t18_a_changed_url_is_honoured_after_a_reload() {
    let site = Site::start(TRIVIAL);
    let config = site.config("http://localhost:1", &site.ca_file("tls/root.pem"));
    let mut runner = Running::start(&mut site.run_command());
    assert!(
        runner
            .wait_for("jobs/request")
            .contains("http://localhost:1/")
    );
    let text = std::fs::read_to_string(&config).expect("the configuration");
    std::fs::write(&config, text.replace("http://localhost:1", &site.url)).expect("change the URL");
    runner.signal("HUP");
    let pipeline = site.create_pipeline();
    assert_eq!(site.outcome(pipeline), "success", "{}", site.logs());
}

#[test]
fn t10_the_leaf_that_openssl_s_client_shows_is_enough() {
    let site = Site::start(TRIVIAL);
    let address = site.url.trim_start_matches("https://");
    let mut shown: Command = site.world.program("sh");
    shown.args([
        "-c",
        "openssl s_client -showcerts -connect \"$1\" -servername localhost </dev/null 2>/dev/null | openssl x509 -outform PEM",
        "sh",
        address,
    ]);
    let shown = run(&mut shown);
    assert_eq!(
        shown.stdout.matches("BEGIN CERTIFICATE").count(),
        1,
        "{}",
        shown.all()
    );
    site.world.write("tls/leaf.pem", &shown.stdout);
    site.config(&site.url, &site.ca_file("tls/leaf.pem"));
    let verified = site.verify();
    assert!(
        verified.stderr.contains("Verifying runner... is valid"),
        "{}",
        verified.all()
    );
}

#[test]
fn t49_the_help_of_an_error_leads_to_gitlabs_own_page_about_the_servers_side() {
    let site = Site::start(TRIVIAL);
    site.config(&site.url, "");
    let refused = site.verify();
    let help = refused.stderr.lines().find_map(|line| {
        let (page, section) = line.strip_prefix("help: ")?.trim().split_once('#')?;
        Some((page.to_owned(), section.to_owned()))
    });
    let (page, section) = help.unwrap_or_else(|| panic!("{}", refused.all()));
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join(&page)).expect("the page that is named");
    let anchors = page.lines().filter_map(|line| line.strip_prefix("## "));
    let mut anchors = anchors.map(|heading| heading.to_lowercase().replace(' ', "-"));
    assert!(anchors.any(|anchor| anchor == section), "{section}");
    assert!(page.contains("https://docs.gitlab.com/omnibus/settings/ssl/ssl_troubleshooting/"));
}

#[test]
fn public_roots_stay_trusted_where_a_private_ca_is_added() {
    let (private, public) = (Site::start(TRIVIAL), Site::start(TRIVIAL));
    // Both tables name the private root; the other server's is in the system's store alone.
    let key = private.ca_file("tls/root.pem");
    let tables = [&private, &public].map(|site| {
        let (url, token) = (&site.url, site.runner_token());
        format!(
            "[[runners]]\n  url = \"{url}\"\n  token = \"{token}\"\n  executor = \"shell\"\n{key}\n"
        )
    });
    let config = private.world.write("config/config.toml", tables.concat());
    let mut verify = private.world.courser(["verify", "--config"]);
    verify
        .arg(&config)
        .env("SSL_CERT_FILE", public.world.path("tls/root.pem"));
    let verified = run(&mut verify);
    let valid = verified.stderr.matches("Verifying runner... is valid");
    assert_eq!(valid.count(), 2, "{}", verified.all());

    // Without the system's store it is the private one alone that is reached.
    verify
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent");
    let verified = run(&mut verify);
    let valid = verified.stderr.matches("Verifying runner... is valid");
    assert_eq!(valid.count(), 1, "{}", verified.all());
    assert!(
        verified.stderr.contains(UNKNOWN_AUTHORITY),
        "{}",
        verified.all()
    );
}
