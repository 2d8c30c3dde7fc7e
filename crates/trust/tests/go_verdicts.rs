//! Verdicts on the odd chains of `courser-testkit` against those of Go's own `crypto/x509`.
//!
//! Chains and Go's answers are committed in `crates/testkit/go-verdicts`; `cargo xtask go-verdicts` asks Go again. Where
//! Go is installed this test does so too, and asks about damaged copies of the chains as well; it has no harness, so
//! that it can say loudly where Go is absent. Differences are listed in [`DIFFERENCES`] with the row of `docs/differences.md` that gives the reason; any other one, and any
//! listed one that is gone, fails.
#![expect(clippy::print_stderr, reason = "the only output of this test")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use courser_testkit::forge::pem;
use courser_trust::{
    Generation, Moment, PeerName, ServedChain, Source, Store, Usage, VerifyError, verify_at,
};
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

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

#[derive(Clone, Deserialize, Serialize)]
struct Question {
    id: String,
    ca: String,
    chain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
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
    let agreed = compare(&questions, &answers, DIFFERENCES, &mut failures);
    are_documented(&mut failures);
    match ask_go(&questions) {
        Some(now) => {
            for (now, committed) in now.iter().zip(&answers) {
                if now.id != committed.id || now.accepted != committed.accepted {
                    failures.push(format!("Go says now {now:?}, committed is {committed:?}"));
                }
            }
            let damaged = damaged(&questions);
            let answers = ask_go(&damaged).expect("Go is here");
            compare(&damaged, &answers, &[], &mut failures);
            eprintln!(
                "go verdicts: asked Go again, and about {} damaged chains",
                damaged.len()
            );
        }
        None => {
            eprintln!("\nNOT ASKED AGAIN: there is no Go 1.26; its committed answers were used\n");
        }
    }
    eprintln!(
        "go verdicts: {} of {} are ours as well, {} differ on purpose",
        agreed,
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

/// How many verdicts are the same.
fn compare(
    questions: &[Question],
    answers: &[Answer],
    differences: &[(&str, bool, &str)],
    failures: &mut Vec<String>,
) -> usize {
    let mut agreed = 0;
    let mut listed: BTreeMap<&str, bool> = differences
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
            None if ours.is_ok() == go.accepted => agreed += 1,
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
    agreed
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

/// The chains that do not differ on purpose, each several times with one octet changed: how a form is read shows best in
/// certificates that are nearly right. Which octets does not change from run to run.
fn damaged(questions: &[Question]) -> Vec<Question> {
    const TIMES: usize = 6;
    let mut state = 1u64;
    let mut random = |below: usize| {
        // Knuth's linear congruential generator; its upper bits will do.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut damaged = Vec::new();
    for question in questions {
        if DIFFERENCES.iter().any(|(id, ..)| *id == question.id) {
            continue;
        }
        for time in 1..=TIMES {
            let mut question = question.clone();
            question.id = format!("{}, damaged {time}", question.id);
            let text = match random(2) {
                0 => &mut question.ca,
                _ => &mut question.chain,
            };
            let source = Source::Inline("damaged".into());
            let mut ders: Vec<Vec<u8>> = ServedChain::read(source, text.as_bytes())
                .certificates()
                .iter()
                .map(|der| der.to_vec())
                .collect();
            if !ders.is_empty() {
                let chosen = random(ders.len());
                let der = &mut ders[chosen];
                let at = random(der.len());
                der[at] = random(256) as u8;
                *text = ders.iter().map(|der| pem("CERTIFICATE", der)).collect();
                damaged.push(question);
            }
        }
    }
    damaged
}

/// What Go says today; none where there is no Go 1.26 or later.
fn ask_go(questions: &[Question]) -> Option<Vec<Answer>> {
    let is_new = |go: &&&str| {
        let output = Command::new(go).args(["env", "GOVERSION"]).output();
        let version = output.map_or_else(|_| Vec::new(), |output| output.stdout);
        let version = String::from_utf8_lossy(&version).into_owned();
        let minor = version
            .trim()
            .strip_prefix("go1.")
            .and_then(|rest| rest.split('.').next());
        minor.is_some_and(|minor| minor.parse().is_ok_and(|minor: u32| minor >= 26))
    };
    let go = ["go", "/usr/local/go/bin/go"].iter().find(is_new)?;
    let chains: Vec<String> = questions
        .iter()
        .map(|question| serde_json::to_string(question).expect("JSON"))
        .collect();
    let chains = chains.join("\n");
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
