//! `courser trust export`: what a connection trusts, as a file for other programs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use courser_config::RunnerConfig;
use courser_net::legs::SourceState;
use courser_trust::{Generation, Store, TrustedCertificate, java_truststore};

use super::legs::{self, Handed};
use super::trust_file::{self, commented};
use crate::config_file::{ConfigFile, ConfigOption};
use crate::failure::{Code, Failure};
use crate::session::Session;
use crate::stdout::print_text;

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Export {
    #[command(flatten)]
    config: ConfigOption,
    /// The runner of this name; needed where several are configured
    #[arg(long, value_name = "NAME")]
    runner: Option<String>,
    /// Whose trust
    #[arg(long, value_enum, default_value_t)]
    leg: ExportedLeg,
    /// Form of the file
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Leave out what the system store has
    #[arg(long)]
    private_only: bool,
    /// File to write; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// A connection whose trust is made of files here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum ExportedLeg {
    /// The runner's calls to GitLab
    #[default]
    Gitlab,
    /// What the tools of jobs are given: certificates of CAs only
    JobTools,
    /// The Docker daemon
    Docker,
    /// The Kubernetes API
    Kubernetes,
    /// Vault and OpenBao
    Secrets,
}

impl ExportedLeg {
    /// As `show` calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Gitlab | Self::JobTools => "gitlab",
            Self::Docker => "docker",
            Self::Kubernetes => "kubernetes",
            Self::Secrets => "secrets",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// Text, with a comment above each certificate
    #[default]
    Pem,
    /// A truststore for Java, without a password
    Pkcs12,
    /// Binary; for one certificate
    Der,
}

const HELP: &str = "\
Writes the certificates that a connection trusts now: those of its files, and the system store's.
Without a config.toml that is the system store.

  courser trust export -o bundle.pem
  courser trust export --runner builder --private-only -o private.pem
  courser trust export --leg job-tools --format pkcs12 -o truststore.p12
  courser trust export --private-only --format der -o ca.der

Exit codes: 0 written, 1 there is nothing to write, 2 unusable arguments or files.";

/// Runs it.
pub(super) fn run(export: &Export, session: &Session) -> Result<ExitCode, Failure> {
    let path = export.config.path(session);
    let file = ConfigFile::open(&path, session)?;
    let runner = chosen(export, &file.config.runners)?;
    let certificates = certificates(export, runner, session)?;
    if certificates.is_empty() {
        return Err(Failure::new(
            Code::Failed,
            "no certificate is trusted there; nothing was written",
        )
        .hint("courser trust show tells where certificates are looked for"));
    }
    let bytes = match export.format {
        Format::Pem => pem(&certificates).into_bytes(),
        Format::Pkcs12 => java_truststore(certificates.iter().map(|one| &**one.certificate())),
        Format::Der => match &certificates[..] {
            [only] => only.certificate().der().to_vec(),
            several => {
                return Err(Failure::invalid(format!(
                    "DER holds one certificate, and {} are trusted",
                    several.len()
                ))
                .hint(
                    "--private-only leaves out the system store; --format pem takes any number",
                ));
            }
        },
    };
    if export.output.as_os_str() == "-" {
        return match std::io::stdout().write_all(&bytes) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(
                Code::Surroundings,
                format!("cannot write to standard output: {error}"),
            )),
            _ => Ok(ExitCode::SUCCESS),
        };
    }
    let target = session.environment.working_directory.join(&export.output);
    trust_file::write(&target, &bytes).map_err(|error| {
        Failure::invalid(format!("cannot write {}: {error}", export.output.display()))
    })?;
    let shown = export.output.display();
    print_text(&match certificates.len() {
        1 => format!("written to {shown}: 1 certificate\n"),
        number => format!("written to {shown}: {number} certificates\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The runner that is meant; none where none is configured.
fn chosen<'a>(
    export: &Export,
    runners: &'a [RunnerConfig],
) -> Result<Option<&'a RunnerConfig>, Failure> {
    match (&export.runner, runners) {
        (Some(name), _) => match runners.iter().find(|runner| runner.name == *name) {
            Some(runner) => Ok(Some(runner)),
            None => Err(Failure::invalid(format!("no runner is called {name:?}"))),
        },
        (None, []) => Ok(None),
        (None, [only]) => Ok(Some(only)),
        (None, _) if export.leg == ExportedLeg::Secrets => Ok(None),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|runner| runner.name.as_str()).collect();
            Err(Failure::invalid(format!(
                "{} runners are configured: {}",
                several.len(),
                names.join(", ")
            ))
            .hint("--runner names one"))
        }
    }
}

fn certificates(
    export: &Export,
    runner: Option<&RunnerConfig>,
    session: &Session,
) -> Result<Vec<TrustedCertificate>, Failure> {
    let resolver = session.environment.legs();
    let mut rows = legs::of_process(&resolver, true);
    if let Some(runner) = runner {
        rows.extend(legs::of_runner(runner, &resolver, true));
    }
    let row = rows.iter().find(|row| row.leg == export.leg.name());
    let settings = match row.map(|row| &row.handed) {
        Some(Handed::Settings(settings)) => settings,
        Some(Handed::Nothing) => {
            return Err(Failure::new(
                Code::Failed,
                format!("no trust is configured for {}", export.leg.name()),
            ));
        }
        // No runner: what every connection starts with.
        None if export.private_only => return Ok(Vec::new()),
        None => {
            let system = session.environment.system_roots.load();
            return Ok(system.certificates().to_vec());
        }
    };
    let host = row.and_then(|row| row.host.as_deref()).unwrap_or_default();
    let look = settings.look(host);
    if let (ExportedLeg::JobTools, Some(runner)) = (export.leg, runner) {
        let bundle = legs::job_bundle(runner, &look);
        let mut all = bundle.private().to_vec();
        if !export.private_only {
            all.extend(bundle.system().iter().cloned());
        }
        return Ok(all);
    }
    let mut store = Store::builder();
    for source in &look.sources {
        if let SourceState::Present(content) = &source.state {
            store = store.include(content);
        }
    }
    if !export.private_only {
        store = store.include(&look.system);
    }
    Ok(store.build(Generation(1)).certificates().to_vec())
}

fn pem(certificates: &[TrustedCertificate]) -> String {
    let mut text = String::new();
    for trusted in certificates {
        // Writing to a string cannot fail. A path may hold anything.
        let source = trusted.source().to_string();
        let _ = writeln!(text, "# {}, line {}", source.escape_debug(), trusted.line());
        text.push_str(&commented(trusted.certificate()));
    }
    text
}
