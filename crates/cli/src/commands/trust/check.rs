//! `courser trust check`: every way that a runner and its jobs take to a server, with the verdict on each.
//!
//! `legs` says which ways there are and with which trust, `look` goes them, `report` tells what was seen.

mod engine;
mod legs;
mod look;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use courser_net::TrustSettings;
use url::Url;

use self::legs::{Leg, Origin, Planner};
use self::look::{Finding, Looker};
use self::report::Report;
use super::now;
use crate::config_file::{ConfigFile, ConfigOption};
use crate::connection;
use crate::failure::{Code, Failure};
use crate::session::Session;
use crate::stdout::{print_json, print_text};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Check {
    /// https://, http:// or tls:// URLs, or names of runners in the config file [default: all runners]
    #[arg(value_name = "URL|RUNNER")]
    targets: Vec<String>,
    #[command(flatten)]
    config: ConfigOption,
    /// PEM file with further trusted certificates, in place of tls-ca-file and the predefined file
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file with a client certificate
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Trust nothing but the --ca file
    #[arg(long, requires = "ca")]
    no_system: bool,
    /// Project on the runner's GitLab, to check Git and LFS with
    #[arg(long, value_name = "GROUP/PROJECT")]
    project: Option<String>,
    /// An object that LFS holds, to find the storage behind it
    #[arg(long, value_name = "OID")]
    lfs_oid: Option<String>,
    /// User as whom jobs run (run --user), whose predefined files count for the legs of a job
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Make the Docker Engine of this machine trust registries that Courser trusts
    #[arg(long)]
    fix: bool,
    /// The Engine's configuration, where it is not /etc/docker (rootless: ~/.config/docker)
    #[arg(long, value_name = "DIR", requires = "fix")]
    docker_directory: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
A URL is looked at with the trust of the runner that is configured for its host, else with the
system store and the predefined file <host>.crt:

  courser trust check https://gitlab.example.com
  courser trust check https://gitlab.example.com/group/project.git https://registry.example.com/v2/
  courser trust check tls://gitaly.example.com:9999 https://vault.example.com:8200/v1/sys/health
  courser trust check my-runner --project group/project

The legs of a runner: its API, Git (with exactly the CA file that Git in a job is given, which
replaces Git's own bundle), LFS and its storage, artifacts and where they redirect to, the cache
server, Vault. Each is looked at through the proxies of this environment, and once past the proxy,
to see whether it replaces certificates. Nothing but the handshake goes to a server that is refused.
With Docker there are the Engine, without proxies, and the registries of the images that are
configured, which the Engine is asked about: its own trust counts there. --fix puts the CA with
which Courser trusts such a registry (--ca, tls-ca-file, <registry>.crt, the system's store) into
the Engine's certs.d, if the Engine is on this machine.

--json prints an object: ok, user, certificate_directory, legs (each with leg, url, ok, proxy,
address, protocol, cipher_suite, application_protocol, received, chain, missing, names,
client_certificate, issuer_without_proxy, http_status, note, warnings, error, remedy, help).

Exit codes: 0 every leg is fine, 1 a leg fails, 2 nothing to check or unusable files.";

/// Runs it.
pub(super) async fn run(check: Check, session: &Session) -> Result<ExitCode, Failure> {
    let file = ConfigFile::open(&check.config.path(session), session)?;
    let certificates = certificate_directories(&check, session)?;
    let planner = Planner {
        project: check.project.as_deref(),
        lfs_oid: check.lfs_oid.as_deref(),
        environment: &session.environment.variables,
        legs: session.environment.legs(),
        is_ca_given: check.ca.is_some(),
        job_certificates: certificates.job.clone(),
    };
    let mut origins = Vec::new();
    for target in &check.targets {
        if target.contains("://") {
            let url = Url::parse(target)
                .map_err(|error| Failure::invalid(format!("{target:?} is no URL: {error}")))?;
            let trust = check.trust_for(&url, &file, session);
            origins.push(Origin::Url(url, trust));
        } else {
            let runner = file.config.runners.iter().find(|one| one.name == *target);
            let runner = runner.ok_or_else(|| no_runner(target, &file))?;
            let trust = check.overridden(
                connection::client_settings(runner, Duration::ZERO, session).trust,
                session,
            );
            origins.push(Origin::Runner(runner, trust));
        }
    }
    if check.targets.is_empty() {
        for runner in &file.config.runners {
            let trust = connection::client_settings(runner, Duration::ZERO, session).trust;
            origins.push(Origin::Runner(runner, check.overridden(trust, session)));
        }
    }
    if origins.is_empty() {
        return Err(Failure::invalid(format!(
            "{} has no runner and no URL was given",
            file.path().display()
        ))
        .hint("courser trust check https://gitlab.example.com"));
    }
    let fix = check.fix.then(|| {
        let directory = check.docker_directory.as_deref();
        let directory = directory.unwrap_or_else(|| Path::new("/etc/docker"));
        session.environment.working_directory.join(directory)
    });
    let looker = Looker::new(session, fix);
    let mut findings: Vec<Finding> = Vec::new();
    for origin in &origins {
        let legs: Vec<Leg> = planner.legs(origin)?;
        findings.extend(looker.look(legs).await?);
    }
    let report = Report {
        user: certificates.user,
        directory: certificates.runner,
        job_directory: certificates.job,
        findings: &findings,
        now: now(),
    };
    if check.json {
        print_json(&report.json())?;
    } else {
        print_text(&report.text())?;
    }
    Ok(if findings.iter().all(Finding::is_fine) {
        ExitCode::SUCCESS
    } else {
        Code::Failed.into()
    })
}

impl Check {
    /// The trust for a URL: that of the runner configured for its host.
    fn trust_for(&self, url: &Url, file: &ConfigFile, session: &Session) -> TrustSettings {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let settings = connection::settings_for_host(host, &file.config, session);
        self.overridden(settings.trust, session)
    }

    /// With the files of the command line.
    fn overridden(&self, mut trust: TrustSettings, session: &Session) -> TrustSettings {
        let directory = &session.environment.working_directory;
        if let Some(ca) = &self.ca {
            trust.ca_file = Some(directory.join(ca));
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            trust.cert_file = Some(directory.join(cert));
            trust.key_file = Some(directory.join(key));
        }
        if self.no_system {
            trust.system = courser_net::SystemRoots::None;
        }
        trust
    }
}

/// Whose predefined files count.
struct CertificateDirectories {
    user: String,
    /// For the runner itself.
    runner: PathBuf,
    /// For what runs in its jobs.
    job: PathBuf,
}

fn certificate_directories(
    check: &Check,
    session: &Session,
) -> Result<CertificateDirectories, Failure> {
    let environment = &session.environment;
    let runner = environment.certificate_directory();
    let job = match &check.user {
        None => runner.clone(),
        Some(user) => crate::environment::home_of_user(user)
            .ok_or_else(|| Failure::invalid(format!("/etc/passwd has no user {user:?}")))?
            .join(".gitlab-runner/certs"),
    };
    Ok(CertificateDirectories {
        user: environment.user_name(),
        runner,
        job,
    })
}

fn no_runner(name: &str, file: &ConfigFile) -> Failure {
    let names: Vec<_> = file
        .config
        .runners
        .iter()
        .map(|runner| format!("{:?}", runner.name))
        .collect();
    let failure = Failure::invalid(format!("{} has no runner {name:?}", file.path().display()));
    if names.is_empty() {
        failure.hint(format!("for a server write its URL: https://{name}"))
    } else {
        failure.hint(format!("it has {}", names.join(", ")))
    }
}
