//! Proxies between runner, jobs and server: squid, which tunnels, and mitmproxy, which intercepts.
//!
//! The server has a name that only proxies resolve, or a machine whose hosts file the test wrote: what
//! should go through a proxy cannot go past it, and the other way round.

use std::process::Command;

use courser_testkit::pki::{Authority, Issued};
use courser_testkit::servers::{ForwardProxy, InterceptingProxy};

use super::job::WHOLE;
use super::machine::with_files;
use super::site::{NAME, Site, UNKNOWN_AUTHORITY};
use crate::world::{Running, World, run};

/// Runs one pipeline with `courser run` as it is given; its status.
fn run_pipeline(site: &Site, mut runner: Command) -> String {
    let _runner = Running::start(&mut runner);
    let pipeline = site.create_pipeline();
    site.outcome(pipeline)
}

/// `environment` of the runner's configuration.
fn environment(variables: &[(&str, &str)]) -> String {
    let list: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("\"{name}={value}\""))
        .collect();
    format!("  environment = [{}]", list.join(", "))
}

/// The same command where the server's name leads to loopback.
fn knowing_the_name(world: &World, command: &Command) -> Command {
    let hosts = world.write("hosts", format!("127.0.0.1 localhost {NAME}\n"));
    with_files(world, command, &[(hosts, "/etc/hosts")])
}

/// An authority that inspects traffic below one of the company.
fn inspection() -> (Issued, Issued) {
    let company = Authority::root("Company Root").issue();
    let inspection = company.intermediate("Inspection").issue();
    (company, inspection)
}

#[test]
fn t46_git_curl_verbose_shows_the_proxy_in_the_log_of_the_job() {
    let site = Site::start_named(WHOLE);
    let proxy = ForwardProxy::http(&[NAME]);
    let url = proxy.url_by_name("127.0.0.1");
    let environment = environment(&[("HTTPS_PROXY", &url), ("GIT_CURL_VERBOSE", "1")]);
    site.config(
        &site.url,
        &format!("{}\n{environment}", site.ca_file("tls/root.pem")),
    );
    let mut runner = site.run_command();
    runner.env("HTTPS_PROXY", &url);
    assert_eq!(run_pipeline(&site, runner), "success", "{}", site.logs());
    // API, Git and artifacts: the name exists nowhere else.
    let logs = site.logs();
    let tunnel = format!("CONNECT {NAME}:{}", site.port());
    assert!(logs.contains(&tunnel), "{logs}");
    assert!(
        logs.contains(&format!("port {}", proxy.address().port())),
        "{logs}"
    );
    proxy.accesses_with(&tunnel);
}

#[test]
fn a_proxy_may_speak_tls_itself_with_a_certificate_of_the_same_authority() {
    // curl takes the proxy's authority from an option of its own only.
    let lines = WHOLE.lines().filter(|line| !line.contains("curl"));
    let site = Site::start_named(&lines.collect::<Vec<_>>().join("\n"));
    let proxy = ForwardProxy::https(
        &[NAME],
        &site.certificates.root.server(&["localhost"]).issue(),
    );
    let url = proxy.url_by_name("localhost");
    let environment = environment(&[("HTTPS_PROXY", &url)]);
    site.config(
        &site.url,
        &format!("{}\n{environment}", site.ca_file("tls/root.pem")),
    );
    let mut runner = site.run_command();
    // Git is told of the proxy's authority in place of the machine's configuration.
    runner
        .env("HTTPS_PROXY", &url)
        .env_remove("GIT_CONFIG_NOSYSTEM");
    assert_eq!(run_pipeline(&site, runner), "success", "{}", site.logs());
}

/// One job that needs Git, one that needs artifacts and no Git.
const LEGS: &str = r#"
clone:
  script: ["true"]

upload:
  variables: {GIT_STRATEGY: none}
  script: ["echo made > made.txt"]
  artifacts:
    paths: [made.txt]
"#;

#[test]
fn t45_an_intercepting_proxy_is_told_by_git_by_artifacts_and_by_the_runner() {
    let site = Site::start_named(LEGS);
    let (_, inspection) = inspection();
    let proxy = InterceptingProxy::start(&inspection, &site.certificates.root);
    // The jobs go through the proxy, the runner does not.
    let environment = environment(&[("HTTPS_PROXY", &proxy.url())]);
    site.config(
        &site.url,
        &format!("{}\n{environment}", site.ca_file("tls/root.pem")),
    );
    let runner = knowing_the_name(&site.world, &site.run_command());
    assert_eq!(run_pipeline(&site, runner), "failed", "{}", site.logs());
    let logs = site.logs();
    let words = words_of_git(&site.world);
    assert!(logs.contains(words), "{words}\n{logs}");
    assert_tells_of_interception(&logs, &proxy);
    // Now the runner too.
    let mut verify = site.world.courser(["verify", "--config"]);
    verify
        .arg(site.world.path("config/config.toml"))
        .env("HTTPS_PROXY", proxy.url());
    assert_tells_of_interception(&run(&mut verify).stderr, &proxy);
}

fn assert_tells_of_interception(text: &str, proxy: &InterceptingProxy) {
    for part in [UNKNOWN_AUTHORITY, "CN=Company Root", &proxy.url()] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

/// What the installed Git says of a chain whose root it does not know. Upstream quotes OpenSSL's words;
/// Debian's Git is built with GnuTLS, which has no words for the difference.
fn words_of_git(world: &World) -> &'static str {
    let mut look = world.program("sh");
    look.args(["-c", "ldd \"$(git --exec-path)/git-remote-https\""]);
    if run(&mut look).stdout.contains("gnutls") {
        "server certificate verification failed"
    } else {
        "self-signed certificate in certificate chain"
    }
}

#[test]
fn t45_the_proxys_authority_beside_gitlabs_cures_api_git_and_artifacts() {
    let site = Site::start_named(WHOLE);
    let (company, inspection) = inspection();
    let proxy = InterceptingProxy::start(&inspection, &site.certificates.root);
    site.world
        .write("tls/company.pem", company.certificate_pem());
    let environment = environment(&[("HTTPS_PROXY", &proxy.url())]);
    site.config(
        &site.url,
        &format!("{}\n{environment}", site.ca_file("tls/company.pem")),
    );
    let mut runner = site.run_command();
    runner.env("HTTPS_PROXY", proxy.url());
    assert_eq!(run_pipeline(&site, runner), "success", "{}", site.logs());
    let seen = proxy.seen();
    for leg in ["/api/v4/jobs/request", "git-upload-pa", "/artifacts"] {
        assert!(seen.contains(leg), "{leg}\n{seen}");
    }
}

#[test]
fn t47_no_proxy_leads_git_and_the_runner_past_the_proxy() {
    let site = Site::start_named(WHOLE);
    let (_, inspection) = inspection();
    let proxy = InterceptingProxy::start(&inspection, &site.certificates.root);
    let environment = environment(&[("HTTPS_PROXY", &proxy.url()), ("NO_PROXY", NAME)]);
    site.config(
        &site.url,
        &format!("{}\n{environment}", site.ca_file("tls/root.pem")),
    );
    let mut runner = site.run_command();
    runner.env("HTTPS_PROXY", proxy.url()).env("NO_PROXY", NAME);
    let runner = knowing_the_name(&site.world, &runner);
    assert_eq!(run_pipeline(&site, runner), "success", "{}", site.logs());
    assert!(!proxy.seen().contains("server connect"), "{}", proxy.seen());
}
