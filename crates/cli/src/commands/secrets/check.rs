//! `courser secrets check`: each secret fetched as the runner would, told step by step.

mod role;
mod steps;

use std::fmt::Write as _;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use courser_secrets::{Leases, Step as Reached, resolve_each};

use self::steps::{Checked, State};
use super::Stop;
use super::asked::{Asked, VaultOptions};
use super::given_back::give_back;
use crate::commands::exec::handed_out::PipelineOptions;
use crate::failure::{Code, Failure};
use crate::session::Session;
use crate::stdout::{print_json, print_text};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Check {
    /// A job of this directory's pipeline: its secrets, with ID tokens signed as `courser exec` signs them
    #[arg(value_name = "JOB")]
    job: Option<String>,
    #[command(flatten)]
    vault: VaultOptions,
    /// CA file to trust beside the system's and VAULT_CACERT, as a runner's tls-ca-file
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pipeline: PipelineOptions,
}

const HELP: &str = "\
Connects, logs in and reads like the runner, and says of each step whether it went, or what has to be
changed where: settings, connection and TLS, login, claims of the ID token, policy, path, field. No value
is shown, and what the servers made for the look is given back.

  courser secrets check deploy --variable VAULT_SERVER_URL=https://vault.example.com:8200
  courser secrets check --vault production/db/password@ops --server https://vault.example.com:8200 \\
    --role deploy --token-file id-token.txt --ca-file ca.crt

Where Vault refuses claims, it names one of them. With VAULT_ADDR and VAULT_TOKEN of somebody who may read
the role, all that it binds is compared with what the token says.

Exit codes: 0 all secrets are there, 1 one is not.";

/// The object of `--json`.
#[derive(Debug, serde::Serialize)]
struct Report {
    secrets: Vec<Checked>,
    /// Tokens and leases that were given back.
    revoked: Option<usize>,
    /// What could not be given back.
    left: Vec<String>,
}

/// Runs it.
pub(super) async fn run(check: Check, stop: &Stop, session: &Session) -> Result<ExitCode, Failure> {
    let asked = Asked::of(
        check.job.as_deref(),
        &check.pipeline,
        &check.vault,
        check.ca_file.as_deref(),
        &stop.asked,
        session,
    )
    .await?;
    let leases = Leases::default();
    let got = resolve_each(&asked.request, &asked.surroundings, &leases, &stop.asked).await;
    let given_back = give_back(&leases, &asked.surroundings, stop).await;
    let mut secrets = Vec::with_capacity(got.len());
    for ((name, secret), got) in asked.request.secrets().zip(&got) {
        let mut checked = Checked::of(name, secret, got);
        if let (Some(vault), Err(refused)) = (&secret.vault, got)
            && refused.step == Reached::Claims
            && !stop.asked.is_cancelled()
        {
            checked.advise(role::compared(vault, session).await);
        }
        secrets.push(checked);
    }
    asked.finish().await?;
    if stop.asked.is_cancelled() {
        given_back.warn();
        return Err(Failure::new(Code::Interrupted, "interrupted"));
    }
    let report = Report {
        secrets,
        revoked: (given_back.revoked > 0).then_some(given_back.revoked),
        left: given_back.left,
    };
    if check.json {
        print_json(&report)?;
    } else {
        print_text(&report.text())?;
    }
    Ok(match report.secrets.iter().all(Checked::is_good) {
        true => ExitCode::SUCCESS,
        false => Code::Failed.into(),
    })
}

impl Report {
    fn text(&self) -> String {
        let good = Style::new().fg_color(Some(AnsiColor::Green.into()));
        let odd = Style::new().fg_color(Some(AnsiColor::Yellow.into()));
        let bad = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
        let dim = Style::new().dimmed();
        let mut text = String::new();
        for checked in &self.secrets {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}  ({})", checked.name, checked.provider);
            for step in &checked.steps {
                let (mark, style) = match step.state {
                    State::Passed => ("✓", good),
                    State::Tolerated => ("!", odd),
                    State::Failed => ("✗", bad),
                    State::NotReached => ("-", dim),
                };
                let label = step.step.label();
                let _ = write!(text, "  {style}{mark}{style:#} {label:8}  {}", step.detail);
                if let Some(reason) = &step.reason {
                    let words: Vec<_> = reason.split_whitespace().collect();
                    let _ = write!(text, ": {}", words.join(" "));
                }
                text.push('\n');
                for advice in &step.advice {
                    let _ = writeln!(text, "              → {advice}");
                }
            }
        }
        if let Some(revoked) = self.revoked {
            let _ = writeln!(text, "{dim}given back: {revoked}{dim:#}");
        }
        for left in &self.left {
            let _ = writeln!(text, "{bad}not given back{bad:#}: {left}");
        }
        text
    }
}
