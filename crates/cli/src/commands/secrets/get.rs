//! `courser secrets get`: one value, for whoever needs it on this machine.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use courser_protocol::{JobSecrets, Secret};
use courser_secrets::{Leases, Request, resolve};

use super::Stop;
use super::asked::{Asked, VaultOptions};
use super::given_back::give_back;
use crate::commands::exec::handed_out::PipelineOptions;
use crate::failure::{Code, Failure};
use crate::platform;
use crate::session::Session;

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Get {
    /// A job of this directory's pipeline
    #[arg(value_name = "JOB", requires = "name")]
    job: Option<String>,
    /// The name of one of its secrets
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Write the value into this file, which must not be there yet and which only you can read
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    vault: VaultOptions,
    /// CA file to trust beside the system's and VAULT_CACERT, as a runner's tls-ca-file
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    #[command(flatten)]
    pipeline: PipelineOptions,
}

const HELP: &str = "\
The value as it is, without a newline behind it. The token that was made for it is revoked before the
value is shown: a dynamic secret ends with it, and is refused.

  courser secrets get deploy DB_PASSWORD --output password.txt
  courser secrets get --vault production/db/password@ops --server https://vault.example.com:8200 \\
    --role deploy --token-file id-token.txt

Exit codes: 0 here it is, 1 it cannot be had.";

/// Runs it.
pub(super) async fn run(get: Get, stop: &Stop, session: &Session) -> Result<ExitCode, Failure> {
    let asked = Asked::of(
        get.job.as_deref(),
        &get.pipeline,
        &get.vault,
        get.ca_file.as_deref(),
        &stop.asked,
        session,
    )
    .await?;
    let got = fetch(&asked, get.name.as_deref(), stop).await;
    asked.finish().await?;
    let value = got?;
    match &get.output {
        None => {
            let mut stdout = std::io::stdout().lock();
            let written = stdout.write_all(value.expose().as_bytes());
            let written = written.and_then(|()| stdout.flush());
            written.map_err(|error| {
                let message = format!("cannot write to standard output: {error}");
                Failure::new(Code::Surroundings, message)
            })?;
        }
        Some(path) => {
            let named = |error| Failure::invalid(format!("{}: {error}", path.display()));
            let mut file = platform::new_private_file().open(path).map_err(named)?;
            file.write_all(value.expose().as_bytes()).map_err(named)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn fetch(asked: &Asked, name: Option<&str>, stop: &Stop) -> Result<Secret, Failure> {
    let mut all = asked.request.secrets();
    let wanted = match name {
        None => all.next(),
        Some(name) => all.find(|(known, _)| *known == name),
    };
    let Some((name, secret)) = wanted else {
        let names: Vec<&str> = asked.request.secrets().map(|(name, _)| name).collect();
        let message = format!("the job has no secret {:?}", name.unwrap_or_default());
        return Err(
            Failure::new(Code::Usage, message).hint(format!("it has: {}", names.join(", ")))
        );
    };
    let mut secret = secret.clone();
    // What is too long for a variable is none here.
    secret.file = Some(true);
    let alone: JobSecrets = [(name.to_owned(), secret)].into_iter().collect();
    // Its references are replaced already.
    let request = Request::new(&alone, str::to_owned);
    let leases = Leases::default();
    let got = resolve(&request, &asked.surroundings, &leases, &stop.asked, &|_| {}).await;
    let is_leased = leases.held().iter().any(|held| !held.leases.is_empty());
    give_back(&leases, &asked.surroundings, stop).await.warn();
    if stop.asked.is_cancelled() {
        return Err(Failure::new(Code::Interrupted, "interrupted"));
    }
    let variables = got.map_err(|refused| {
        let failure = Failure::new(Code::Failed, refused.to_string());
        let advice = refused.advice.iter();
        advice.fold(failure, |failure, line| failure.hint(line.clone()))
    })?;
    if is_leased {
        let message =
            format!("{name} is a dynamic secret: it was made for this call and ended with it");
        return Err(Failure::new(Code::Failed, message)
            .hint("read it with the server's own client, which leaves the lease to you"));
    }
    let mut variables = variables.into_iter();
    let variable = variables.next();
    let value = variable.map(|variable| variable.value);
    value.ok_or_else(|| {
        Failure::new(
            Code::Failed,
            format!("{name} has no provider that a runner knows"),
        )
    })
}
