//! Verdicts on the odd chains of `courser-testkit` against those of Go's own `crypto/x509`.
//!
//! Chains and Go's answers are committed in `crates/testkit/go-verdicts`; `cargo xtask go-verdicts` asks Go again. Where
//! Go is installed this test does so too; it has no harness, so that it can say loudly where Go is absent. Differences
//! are listed in [`DIFFERENCES`] with the row of `docs/differences.md` that gives the reason; any other one, and any
//! listed one that is gone, fails.
#![expect(clippy::print_stderr, reason = "the only output of this test")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use courser_trust::{
    Generation, Moment, PeerName, ServedChain, Source, Store, Usage, VerifyError, verify_at,
};
use flate2::read::GzDecoder;
use serde::Deserialize;

/// How many chains there must be (issue 4, "Shows" 2).
const AT_LEAST: usize = 150;

/// Cases in which we differ from Go on purpose: id, our verdict, the row of `docs/differences.md`.
const DIFFERENCES: &[(&str, bool, &str)] = &[
    ("time/fraction-of-the-last-second", true, LAST_SECOND),
    ("signed-by/p224-sha256", false, P224),
    ("signed-by/p224-sha384", false, P224),
    ("signed-by/p224-sha512", false, P224),
    ("signed-by/p224-sha256-with-null", false, P224),
    ("leaf-key/p224-pinned", false, P224),
    ("leaf-key/p224", false, P224),
    ("signed-by/rsa-1024-sha256", false, SMALL_RSA),
    ("signed-by/rsa-1536-sha256", false, SMALL_RSA),
    ("signed-by/rsa-2047-sha256", false, SMALL_RSA),
    ("leaf-key/rsa-512-pinned", false, SMALL_RSA),
    ("leaf-key/rsa-512", false, SMALL_RSA),
    ("leaf-key/rsa-1024-pinned", false, SMALL_RSA),
    ("leaf-key/rsa-1024", false, SMALL_RSA),
    ("leaf-key/rsa-exponent-of-8-octets-pinned", false, EXPONENT),
    ("leaf-key/rsa-exponent-of-8-octets", false, EXPONENT),
];

const LAST_SECOND: &str = "the last second of a certificate's validity";
const SMALL_RSA: &str = "RSA keys below 2048 bits, in a server's certificate or a CA";
const P224: &str = "keys on the curve P-224";
const EXPONENT: &str = "a server's RSA key with a public exponent above 2³¹ − 1";

#[derive(Deserialize)]
struct Question {
    id: String,
    ca: String,
    chain: String,
    host: Option<String>,
    at: String,
    purpose: String,
}

#[derive(Deserialize, PartialEq, Eq, Debug)]
struct Answer {
    id: String,
    accepted: bool,
    #[serde(default)]
    error: String,
}

fn main() -> ExitCode {
    let chains = read(&directory().join("chains.jsonl.gz"));
    let answers = directory().join("answers.jsonl");
    let answers = std::fs::read_to_string(answers).expect("a committed file");
    let questions: Vec<Question> = lines(&chains);
    let answers: Vec<Answer> = lines(&answers);
    let mut failures = Vec::new();
    if questions.len() < AT_LEAST || questions.len() != answers.len() {
        failures.push(format!(
            "{} chains and {} answers",
            questions.len(),
            answers.len()
        ));
    }
    compare(&questions, &answers, &mut failures);
    are_documented(&mut failures);
    match ask_go(&chains) {
        Some(now) => failures.extend(
            now.iter()
                .zip(&answers)
                .filter(|(now, committed)| {
                    now.id != committed.id || now.accepted != committed.accepted
                })
                .map(|(now, committed)| format!("Go says now {now:?}, committed is {committed:?}")),
        ),
        None => {
            eprintln!("\nNOT ASKED AGAIN: Go is not installed; its committed answers were used\n");
        }
    }
    eprintln!(
        "go verdicts: {} of {} are ours as well, {} differ on purpose",
        questions.len() - DIFFERENCES.len(),
        questions.len(),
        DIFFERENCES.len()
    );
    for failure in &failures {
        eprintln!("  {failure}");
    }
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn compare(questions: &[Question], answers: &[Answer], failures: &mut Vec<String>) {
    let mut listed: BTreeMap<&str, bool> = DIFFERENCES
        .iter()
        .map(|(id, accepted, _)| (*id, *accepted))
        .collect();
    for (question, go) in questions.iter().zip(answers) {
        let id = question.id.as_str();
        let ours = judge(question).map_err(|error| error.to_string());
        match listed.remove(id) {
            _ if go.id != id => {
                failures.push(format!("{id}: the answer beside it is for {}", go.id));
            }
            Some(listed) if listed == ours.is_ok() && listed != go.accepted => {}
            Some(_) => failures.push(format!("{id}: is listed as a difference but is none")),
            None if ours.is_ok() == go.accepted => {}
            None => failures.push(format!(
                "{id}: we {ours:?}, Go {} {}",
                go.accepted, go.error
            )),
        }
    }
    failures.extend(
        listed
            .keys()
            .map(|id| format!("{id}: listed, but there is no such chain")),
    );
}

/// Each reason is a row of the page that users read.
fn are_documented(failures: &mut Vec<String>) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/differences.md");
    let page = std::fs::read_to_string(page).expect("the page of differences");
    for (id, _, row) in DIFFERENCES {
        if !page
            .lines()
            .any(|line| line.starts_with(&format!("| {row} |")))
        {
            failures.push(format!("{id}: docs/differences.md has no row {row:?}"));
        }
    }
}

fn judge(question: &Question) -> Result<(), VerifyError> {
    let store = Store::builder()
        .add(Source::Inline("ca".into()), question.ca.as_bytes())
        .build(Generation(1));
    let source = Source::Inline("chain".into());
    let chain = ServedChain::read(source, question.chain.as_bytes());
    let (leaf, above) = chain.certificates().split_first().expect("a leaf");
    let at = Moment::parse_rfc3339(&question.at).expect("a time");
    let name = question.host.as_deref().map(PeerName::from_host);
    let usage = match question.purpose.as_str() {
        "client" => Usage::ClientAuth,
        _ => Usage::ServerAuth,
    };
    verify_at(leaf, above, &store, name.as_ref(), at, usage).map(drop)
}

/// What Go says today; none where it is not installed.
fn ask_go(chains: &str) -> Option<Vec<Answer>> {
    let candidates = ["go", "/usr/local/go/bin/go"];
    let runs = |go: &&&str| Command::new(go).arg("version").output().is_ok();
    let go = candidates.iter().find(runs)?;
    let mut child = Command::new(go)
        .args(["run", "."])
        .current_dir(directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("go can be started");
    let mut input = child.stdin.take().expect("it is piped");
    let answers = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(chains.as_bytes()).expect("go reads all"));
        child.wait_with_output().expect("go ends")
    });
    assert!(
        answers.status.success(),
        "go run ended with {}",
        answers.status
    );
    Some(lines(&String::from_utf8(answers.stdout).expect("JSON")))
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/go-verdicts")
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    GzDecoder::new(File::open(path).expect("a committed file"))
        .read_to_string(&mut text)
        .expect("text in gzip");
    text
}

fn lines<T: for<'a> Deserialize<'a>>(text: &str) -> Vec<T> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}
