//! `courser trust verify`: the verdict of a connection on certificates out of files.

mod batch;
mod question;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use courser_trust::{
    Generation, Moment, SkippedBlock, Source, SourceContent, Store, VerifiedChains, VerifyError,
    shell_word,
};

use self::question::{Purpose, Question, Unusable, trusted};
use super::named_file;
use super::now;
use super::shown_certificate::ShownCertificate;
use super::shown_remedy::ShownRemedy;
use crate::failure::{Code, Failure};
use crate::session::Session;
use crate::stdout::{print_json, print_text};

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Verify {
    /// PEM file with trusted certificates, as tls-ca-file; may be given several times
    #[arg(long, value_name = "FILE", conflicts_with = "batch")]
    ca: Vec<PathBuf>,
    /// PEM file with what the peer sends, its own certificate first
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "batch",
        conflicts_with = "batch"
    )]
    chain: Option<PathBuf>,
    /// Name or address by which the server is called; a client has none
    #[arg(
        long,
        value_name = "NAME",
        allow_hyphen_values = true,
        conflicts_with = "batch"
    )]
    host: Option<String>,
    /// Time of the judgement in RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true, conflicts_with = "batch")]
    at: Option<Moment>,
    /// What the peer is
    #[arg(long, value_enum, default_value_t, conflicts_with = "batch")]
    purpose: Purpose,
    /// Trust nothing but the --ca files
    #[arg(long, requires = "ca", conflicts_with = "batch")]
    no_system: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Answer every line of a file of JSON objects; - is standard input
    #[arg(long, value_name = "FILE")]
    batch: Option<PathBuf>,
    /// With --batch: trust the system store too
    #[arg(long, requires = "batch")]
    system: bool,
}

const HELP: &str = "\
Trusted are the system store and every --ca file. The verdict is that of a connection made with
them: a certificate that is itself in a --ca file stands for itself, names come from
subjectAltName only.

  courser trust verify --ca ca.crt --chain server.crt --host gitlab.example.com
  courser trust verify --ca ca.crt --chain server.crt --host 2001:db8::1 --at 2027-01-01T00:00:00Z
  courser trust verify --ca ca.crt --no-system --chain client.crt --purpose client --json

--json prints an object: accepted, error (the sentence, or null), host, purpose, at, received,
chains (each leaf first, trust anchor last, with the file and line it is trusted from),
consulted, skipped, remedy, explanation; accepted and error alone for unusable input.

--batch reads objects {\"id\", \"ca\", \"chain\", \"host\", \"at\", \"purpose\"}, one a line: ca and chain
hold PEM text, at and purpose may be left out, other keys have no meaning. Each line that is not
blank is answered in order by {\"id\", \"accepted\", \"error\"}. The ca text is all that is trusted,
unless --system adds the system store.

Exit codes: 0 accepted, 1 refused, 2 unusable input; with --batch 0, or 2 when a line could not
be used.";

fn parse_time(text: &str) -> Result<Moment, String> {
    Moment::parse_rfc3339(text)
        .ok_or_else(|| "write it as 2027-01-31T12:00:00Z or 2027-01-31T14:00:00+02:00".to_owned())
}

/// Runs it.
pub(super) fn run(verify: Verify, session: &Session) -> Result<ExitCode, Failure> {
    if let Some(file) = &verify.batch {
        let system = verify
            .system
            .then(|| session.environment.system_roots.load());
        return batch::run(file, system);
    }
    let question = match question(&verify, session) {
        Ok(question) => question,
        Err(failure) => {
            if verify.json {
                let error = format!("unusable input: {}", failure.message());
                print_json(&serde_json::json!({ "accepted": false, "error": error }))?;
            }
            return Err(failure);
        }
    };
    let verdict = question.answer();
    if verify.json {
        print_json(&Answer::new(&question, &verdict))?;
    } else {
        print_text(&tell(&question, &verdict))?;
    }
    Ok(match verdict {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => Code::Failed.into(),
    })
}

/// What the arguments ask.
fn question(verify: &Verify, session: &Session) -> Result<Question, Failure> {
    let mut builder = Store::builder();
    if !verify.no_system {
        builder = builder.include(&session.environment.system_roots.load());
    }
    for path in &verify.ca {
        let bytes = named_file::read(path, session)?;
        let content = SourceContent::read(Source::Configured(path.clone()), &bytes);
        let content = trusted(content).map_err(|unusable| failure(path, &unusable))?;
        warn(content.skipped());
        builder = builder.add_content(&content);
    }
    let store = Arc::new(builder.build(Generation(1)));
    let path = verify.chain.as_deref().unwrap_or_else(|| {
        unreachable!("clap asks for --chain where there is no --batch");
    });
    let chain = named_file::read(path, session)?;
    Question::new(
        store,
        Source::Configured(path.to_owned()),
        &chain,
        verify.host.as_deref(),
        verify.at.unwrap_or_else(now),
        verify.purpose,
    )
    .map_err(|unusable| failure(path, &unusable))
}

fn failure(path: &Path, unusable: &Unusable) -> Failure {
    let failure = Failure::invalid(match unusable {
        Unusable::Host(_) => unusable.to_string(),
        _ => format!("{}: {unusable}", path.display()),
    });
    match unusable {
        // The repair of a harmless block is for files that hold certificates beside it.
        Unusable::Pem(block) if block.reason.is_harmless() => failure.hint(format!(
            "courser trust explain {} says what it is",
            shell_word(&path.display().to_string())
        )),
        Unusable::Pem(block) => failure.hint(block.repair().to_string()),
        Unusable::Nothing | Unusable::Host(_) => failure,
    }
}

/// What somebody may have meant as a certificate, on standard error.
fn warn(skipped: &[SkippedBlock]) {
    for block in skipped.iter().filter(|block| !block.reason.is_harmless()) {
        tracing::warn!("{block}");
    }
}

/// The object of `--json`.
#[derive(serde::Serialize)]
struct Answer {
    accepted: bool,
    error: Option<String>,
    host: Option<String>,
    purpose: Purpose,
    at: String,
    received: Vec<ShownCertificate>,
    chains: Vec<Vec<ShownCertificate>>,
    consulted: Vec<ShownConsulted>,
    skipped: Vec<ShownSkipped>,
    remedy: Option<ShownRemedy>,
    explanation: Option<String>,
}

#[derive(serde::Serialize)]
struct ShownConsulted {
    source: String,
    certificates: usize,
    skipped: usize,
}

#[derive(serde::Serialize)]
struct ShownSkipped {
    source: String,
    line: usize,
    reason: String,
    repair: String,
}

impl Answer {
    fn new(question: &Question, verdict: &Result<VerifiedChains, VerifyError>) -> Self {
        let store = question.store();
        let refused = verdict.as_ref().err();
        let chains = verdict.as_ref().map_or(&[][..], VerifiedChains::chains);
        Self {
            accepted: refused.is_none(),
            error: refused.map(ToString::to_string),
            host: question.name().map(ToString::to_string),
            purpose: question.purpose(),
            at: question.at().to_string(),
            received: question
                .received()
                .map(|one| ShownCertificate::new(&one))
                .collect(),
            chains: chains.iter().map(shown_chain).collect(),
            consulted: store
                .consulted()
                .iter()
                .map(|one| ShownConsulted {
                    source: one.source.to_string(),
                    certificates: one.certificates,
                    skipped: one.skipped,
                })
                .collect(),
            skipped: store
                .skipped()
                .iter()
                .filter(|block| !block.reason.is_harmless())
                .map(|block| ShownSkipped {
                    source: block.source.to_string(),
                    line: block.line,
                    reason: block.reason.to_string(),
                    repair: block.repair().to_string(),
                })
                .collect(),
            remedy: refused.map(|error| error.remedy().into()),
            explanation: refused.map(VerifyError::explain),
        }
    }
}

/// Leaf first; the last one is the trust anchor.
fn shown_chain(chain: &courser_trust::VerifiedChain) -> Vec<ShownCertificate> {
    let (_, below) = chain.certificates().split_last().unwrap_or_else(|| {
        unreachable!("an accepted chain has at least the leaf");
    });
    let mut shown: Vec<_> = below.iter().map(|one| ShownCertificate::new(one)).collect();
    shown.push(ShownCertificate::trusted(chain.anchor()));
    shown
}

fn tell(question: &Question, verdict: &Result<VerifiedChains, VerifyError>) -> String {
    let chains = match verdict {
        Ok(chains) => chains,
        Err(error) => return error.explain() + "\n",
    };
    let peer = question
        .name()
        .map_or_else(|| "the client".to_owned(), ToString::to_string);
    let mut text = format!("accepted: {peer} at {}\n", question.at());
    for chain in chains.chains() {
        text.push_str("chain:\n");
        for (number, certificate) in shown_chain(chain).iter().enumerate() {
            certificate.write(&mut text, number);
        }
    }
    if chains.chains().len() > 1 {
        let _ = writeln!(
            text,
            "{} chains, each of them suffices",
            chains.chains().len()
        );
    }
    text
}
