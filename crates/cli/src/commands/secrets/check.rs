//! `courser secrets check`: each secret fetched as the runner would, told step by step.

use std::fmt::Write as _;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use courser_protocol::{JobSecret, JobVariable};
use courser_secrets::{Failure as Refused, Leases, Request, resolve_each};
use tokio_util::sync::CancellationToken;

use super::asked::{Asked, VaultOptions};
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
changed where. No value is shown, and what the servers made for the look is given back.

  courser secrets check deploy --variable VAULT_SERVER_URL=https://vault.example.com:8200
  courser secrets check --vault production/db/password@ops --server https://vault.example.com:8200 \\
    --role deploy --token-file id-token.txt --ca-file ca.crt

Exit codes: 0 all secrets are there, 1 one is not.";

/// How far a look came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Passed,
    Failed,
    NotReached,
}

#[derive(Debug, serde::Serialize)]
struct Step {
    step: &'static str,
    state: State,
    detail: String,
    /// What to look at or to change.
    advice: Vec<String>,
}

/// One secret.
#[derive(Debug, serde::Serialize)]
struct Looked {
    name: String,
    provider: &'static str,
    steps: Vec<Step>,
}

/// The object of `--json`.
#[derive(Debug, serde::Serialize)]
struct Report {
    secrets: Vec<Looked>,
    /// Tokens and leases that were given back.
    revoked: Option<usize>,
    /// What could not be given back.
    left: Vec<String>,
}

/// Runs it.
pub(super) async fn run(
    check: Check,
    stop: &CancellationToken,
    session: &Session,
) -> Result<ExitCode, Failure> {
    let asked = Asked::of(
        check.job.as_deref(),
        &check.pipeline,
        &check.vault,
        check.ca_file.as_deref(),
        stop,
        session,
    )
    .await?;
    let request = Request::new(&asked.secrets, |text| asked.expand(text));
    let leases = Leases::default();
    let got = resolve_each(&request, &asked.surroundings, &leases, stop).await;
    let revocation = leases.revoke(&asked.surroundings).await;
    let secrets = asked.secrets.iter().zip(&got);
    let secrets = secrets.map(|((name, secret), (_, got))| looked(name, secret, &asked, got));
    let secrets = secrets.collect();
    asked.finish().await?;
    if stop.is_cancelled() {
        return Err(Failure::new(Code::Interrupted, "interrupted"));
    }
    let revoked = revocation.tokens + revocation.leases;
    let report = Report {
        secrets,
        revoked: (revoked > 0).then_some(revoked),
        left: revocation.failures,
    };
    if check.json {
        print_json(&report)?;
    } else {
        print_text(&report.text())?;
    }
    Ok(match report.is_good() {
        true => ExitCode::SUCCESS,
        false => Code::Failed.into(),
    })
}

/// What came of one secret.
type Got = Result<Option<JobVariable>, Refused>;

fn looked(name: &str, secret: &JobSecret, asked: &Asked, got: &Got) -> Looked {
    let size = got.as_ref().map(|variable| {
        let variable = variable.as_ref();
        variable.map_or(0, |variable| variable.value.expose().len())
    });
    let steps = match provider(secret) {
        Some("vault") => of_vault(secret, asked, size),
        Some(_) => vec![fetched(size)],
        None => vec![Step::failed(
            "provider",
            "no provider that a runner knows",
            Vec::new(),
        )],
    };
    Looked {
        name: name.to_owned(),
        provider: provider(secret).unwrap_or("unknown"),
        steps,
    }
}

/// The keyword of `.gitlab-ci.yml`.
fn provider(secret: &JobSecret) -> Option<&'static str> {
    let known = [
        (secret.vault.is_some(), "vault"),
        (secret.gcp_secret_manager.is_some(), "gcp_secret_manager"),
        (secret.azure_key_vault.is_some(), "azure_key_vault"),
        (secret.aws_secrets_manager.is_some(), "aws_secrets_manager"),
        (
            secret.gitlab_secrets_manager.is_some(),
            "gitlab_secrets_manager",
        ),
    ];
    let mut known = known.into_iter();
    known.find_map(|(is_there, name)| is_there.then_some(name))
}

/// Bytes of the value.
type Size<'a> = Result<usize, &'a Refused>;

/// A provider whose login and read are one thing to its users.
fn fetched(size: Size<'_>) -> Step {
    match size {
        Ok(size) => Step::passed("fetch", bytes(size)),
        Err(refused) => Step::failed("fetch", refused.to_string(), refused.advice.clone()),
    }
}

/// Connection, login, read, field: by how far it came.
fn of_vault(secret: &JobSecret, asked: &Asked, size: Size<'_>) -> Vec<Step> {
    let Some(vault) = &secret.vault else {
        return vec![fetched(size)];
    };
    let data = &vault.server.auth.data;
    let role = match data.get("role") {
        Some(role) => format!("role {}", asked.expand(role.expose())),
        None => "the default role".to_owned(),
    };
    let login = format!("{role} at auth/{}", asked.expand(&vault.server.auth.path));
    let server = asked.expand(&vault.server.url);
    let between = match vault.engine.name.as_str() {
        "kv-v2" => "/data",
        _ => "",
    };
    let path = format!(
        "{}{between}/{}",
        asked.expand(&vault.engine.path),
        asked.expand(&vault.path)
    );
    let field = format!("field {}", asked.expand(&vault.field));
    let engine = format!("engine {}", asked.expand(&vault.engine.name));
    let plan = [
        ("settings", engine),
        ("connect", server),
        ("log in", login),
        ("read", path),
        ("field", field),
    ];
    let (came, refused) = match size {
        Ok(_) => (plan.len(), None),
        Err(refused) => (came_to(refused), Some(refused)),
    };
    let steps = plan
        .into_iter()
        .enumerate()
        .map(|(place, (step, detail))| match refused {
            Some(refused) if place == came => {
                Step::failed(step, format!("{detail}: {refused}"), refused.advice.clone())
            }
            Some(_) if place > came => Step {
                step,
                state: State::NotReached,
                detail,
                advice: Vec::new(),
            },
            _ => match (step, size) {
                ("field", Ok(size)) => Step::passed(step, format!("{detail}, {}", bytes(size))),
                _ => Step::passed(step, detail),
            },
        });
    steps.collect()
}

/// The place of the step that failed.
fn came_to(refused: &Refused) -> usize {
    let text = refused.to_string();
    let has = |part: &str| text.contains(part);
    let nothing_there = || {
        let mut advice = refused.advice.iter();
        advice.any(|line| line.contains("there is nothing at"))
    };
    if has("authenticating Vault client: ") {
        // The server said something, or there is no connection, or nobody trusts it.
        let answered = has("api error: status code") || !has("writing to Vault");
        return if answered { 2 } else { 1 };
    }
    if has("secret not found") && !nothing_there() {
        return 4;
    }
    if has("reading secret") || has("secret not found") {
        return 3;
    }
    0
}

fn bytes(count: usize) -> String {
    match count {
        1 => "1 byte".to_owned(),
        count => format!("{count} bytes"),
    }
}

impl Step {
    fn passed(step: &'static str, detail: String) -> Self {
        Self {
            step,
            state: State::Passed,
            detail,
            advice: Vec::new(),
        }
    }

    fn failed(step: &'static str, detail: impl Into<String>, advice: Vec<String>) -> Self {
        Self {
            step,
            state: State::Failed,
            detail: detail.into(),
            advice,
        }
    }
}

impl Report {
    fn is_good(&self) -> bool {
        let steps = self.secrets.iter().flat_map(|looked| &looked.steps);
        steps.into_iter().all(|step| step.state == State::Passed)
    }

    fn text(&self) -> String {
        let good = Style::new().fg_color(Some(AnsiColor::Green.into()));
        let bad = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
        let dim = Style::new().dimmed();
        let mut text = String::new();
        for looked in &self.secrets {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}  ({})", looked.name, looked.provider);
            for step in &looked.steps {
                let (mark, style) = match step.state {
                    State::Passed => ("✓", good),
                    State::Failed => ("✗", bad),
                    State::NotReached => ("-", dim),
                };
                let detail = step.detail.split_whitespace().collect::<Vec<_>>().join(" ");
                let _ = writeln!(text, "  {style}{mark}{style:#} {:8}  {detail}", step.step);
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
